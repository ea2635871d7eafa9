//! A client: single calls, and where batches begin.

use super::batch::{Batch, Results};
use super::errors::{named, to_py, with_note};
use super::inputs::{Inputs, custom_ids, prompt};
use super::json::{to_map, to_number, to_text};
use super::reply::Reply;
use super::runtime::{self, Ended};
use super::schema::Schema;
use crate::batch::ids::RowIds;
use crate::batch::{collect, immediate};
use crate::client::Call;
use crate::generation::{CONVERSATION, GenerationConfig, Prompt};
use crate::providers::settings::Settings;
use crate::providers::{self, BatchApi, JobOptions, Notice};
use crate::{client, disk, suggest};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long Ctrl-C waits for the last outcome of an immediate batch to be on the disk.
const RECORD_GRACE: Duration = Duration::from_secs(10);

/// The names of the remote providers.
#[pyfunction]
pub fn provider_names() -> Vec<&'static str> {
    providers::names()
}

/// One sentence for an unknown name: what it was, the nearest known one, and all that are known.
#[pyfunction]
pub fn unknown_name(what: &str, name: &Bound<'_, PyString>, known: Vec<String>) -> String {
    suggest::unknown(what, &name.to_string_lossy(), &known.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A remote provider and a model.
#[pyclass(frozen, module = "llmbackend._core")]
pub struct Client {
    core: Arc<client::Client>,
    /// What was warned about already.
    warned: Mutex<HashSet<&'static str>>,
}

#[pymethods]
impl Client {
    #[new]
    fn new(provider: &Bound<'_, PyString>, model: &Bound<'_, PyString>, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let (provider, model) = (to_text(provider, "provider")?, to_text(model, "model")?);
        // What is not Unicode is no key; it is named as one that has such characters.
        let environment = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let settings = Settings::new(to_map(options, "options")?, environment);
        let core = client::Client::open(&provider, &model, settings).map_err(to_py)?;
        Ok(Self { core: Arc::new(core), warned: Mutex::default() })
    }

    /// One answer, now.
    #[pyo3(signature = (input, config, schema))]
    fn generate(
        &self,
        py: Python<'_>,
        input: &Bound<'_, PyAny>,
        config: Config<'_>,
        schema: Option<&Schema>,
    ) -> PyResult<Reply> {
        let mut config = config.read()?;
        let given = prompt(input)?;
        let conversation = config.take_conversation().map_err(to_py)?;
        let call = self.prepare(py, &config, None, schema)?;
        let checked = match (&conversation, &given) {
            (Some(Prompt::Messages(turns)), _) => self.core.check_turns(turns, || CONVERSATION.to_owned()),
            (_, Prompt::Messages(turns)) => self.core.check_turns(turns, || "input".to_owned()),
            (_, Prompt::Text(text)) => self.core.check_text(text, || "input".to_owned()),
        };
        checked.map_err(to_py)?;
        let prompt = conversation.unwrap_or(given);
        let core = self.core.clone();
        let generation = runtime::wait(py, |transport| async move { core.generate(&transport, &call, &prompt).await })?;
        Ok(Reply { generation: generation.map_err(to_py)? })
    }

    /// Makes a job of the inputs: a `Batch`; or answers them here and now: `Results`, which become
    /// what `immediate` says.
    #[pyo3(signature = (inputs, config, schema, options, immediate))]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyAny>,
        config: Config<'py>,
        schema: Option<&Schema>,
        options: BatchOptions<'py>,
        immediate: Immediate<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut config = config.read()?;
        let inputs = Inputs::new(inputs, config.take_conversations().map_err(to_py)?)?;
        let text = |option: &Option<Bound<'_, PyString>>, name: &str| {
            option.as_ref().map(|text| to_text(text, &format!("batch_options[\"{name}\"]"))).transpose()
        };
        let system = text(&options.system, "system")?;
        let is_native = options.native.unwrap_or(self.core.provider.batches_are_native());
        let api = self.core.provider.batches();
        let custom_ids = options.custom_ids(is_native.then_some(api))?;
        if !is_native {
            let call = self.prepare(py, &config, system.as_deref(), schema)?;
            let results = self.answer(py, inputs, call, custom_ids, options.concurrency, &immediate)?;
            return Ok(Bound::new(py, results)?.into_any());
        }
        let schema = schema.map(|schema| schema.core.clone());
        let ask = self.core.ask(&config, system.as_deref(), schema.as_deref());
        let forms = api.forms(&ask).map_err(to_py)?;
        let job = JobOptions {
            display_name: text(&options.display_name, "display_name")?,
            completion_window: text(&options.completion_window, "completion_window")?,
            stop: forms.first().map(|form| form.prepared.reading.stop.clone()).unwrap_or_default(),
            // Random from Python: the generator of a forked child would repeat its parent's.
            token: immediate.id.rsplit('-').next().unwrap_or_default().to_owned(),
        };
        api.check(&job).map_err(to_py)?;
        self.warn(py, forms.first().map(|form| form.prepared.notices.as_slice()).unwrap_or_default())?;
        let written = inputs.write(py, &self.core, forms, custom_ids)?;
        if written.ids.is_empty() {
            let file = disk::temporary("results").map_err(to_py)?;
            let nothing = collect::Results::recorder(immediate.id, written.ids, file);
            return Ok(Bound::new(py, Results::new(nothing))?.into_any());
        }
        Ok(Bound::new(py, Batch::submit(py, self.core.clone(), schema, written, job)?)?.into_any())
    }

    /// `text` with every credential of this client blacked out.
    fn redact(&self, text: &Bound<'_, PyString>) -> String {
        self.core.endpoint.redact(&text.to_string_lossy())
    }

    /// The handle of a batch that exists.
    #[pyo3(signature = (batch_id, schema))]
    fn open_batch(&self, py: Python<'_>, batch_id: &Bound<'_, PyString>, schema: Option<&Schema>) -> PyResult<Batch> {
        let batch_id = to_text(batch_id, "batch_id")?;
        let call = self.prepare(py, &GenerationConfig::default(), None, schema)?;
        Batch::open(self.core.clone(), call, &batch_id)
    }
}

impl Client {
    fn answer(
        &self,
        py: Python<'_>,
        inputs: Inputs<'_>,
        call: Call,
        custom_ids: Option<RowIds>,
        concurrency: usize,
        immediate: &Immediate<'_>,
    ) -> PyResult<Results> {
        let source = inputs.source();
        let check = |prompt, index| self.core.check_input(&call, &prompt, source, index).map(|()| prompt);
        let prompts = inputs.spool(py, check)?;
        let ids = RowIds::for_inputs(custom_ids, prompts.count).map_err(to_py)?;
        let file = disk::temporary("results").map_err(to_py)?;
        let recorder = collect::Results::recorder(immediate.id.clone(), ids, file);
        let core = self.core.clone();
        let ended = runtime::wait_with_grace(py, RECORD_GRACE, |transport, interrupt| async move {
            immediate::answer(&core, &transport, &call, prompts, concurrency, recorder, interrupt).await
        })?;
        match ended {
            Ended::InTime(results) => Ok(Results::new(results.map_err(to_py)?)),
            Ended::Interrupted(interrupt, Some(Ok(results))) if results.rows() > 0 => {
                let note = immediate.keep.call1((Results::new(results),))?;
                Err(with_note(py, interrupt, &note.extract::<String>()?))
            }
            Ended::Interrupted(interrupt, _) => Err(interrupt),
        }
    }

    fn prepare(
        &self,
        py: Python<'_>,
        config: &GenerationConfig,
        system: Option<&str>,
        schema: Option<&Schema>,
    ) -> PyResult<Call> {
        let schema = schema.map(|schema| schema.core.clone());
        let call = self.core.prepare(config, system, schema).map_err(to_py)?;
        self.warn(py, call.notices())?;
        Ok(call)
    }

    /// Shows each kind of notice once.
    fn warn(&self, py: Python<'_>, notices: &[Notice]) -> PyResult<()> {
        for notice in notices {
            let is_new = !self.warned.lock().unwrap_or_else(PoisonError::into_inner).contains(notice.key);
            if is_new {
                named(py, "warn_unsupported")?.call1((&notice.message,))?;
                // A warning that was made an error is raised each time.
                self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(notice.key);
            }
        }
        Ok(())
    }
}

/// The fields of a `llmbackend.GenerationConfig`, whose values `_config.py` has checked.
#[derive(FromPyObject)]
pub struct Config<'py> {
    temperature: Option<Bound<'py, PyAny>>,
    top_p: Option<Bound<'py, PyAny>>,
    max_tokens: Option<u64>,
    seed: Option<i64>,
    extra: Bound<'py, PyDict>,
}

impl Config<'_> {
    fn read(&self) -> PyResult<GenerationConfig> {
        let number =
            |value: &Option<Bound<'_, PyAny>>, place| value.as_ref().map(|value| to_number(value, place)).transpose();
        Ok(GenerationConfig {
            temperature: number(&self.temperature, "config.temperature")?,
            top_p: number(&self.top_p, "config.top_p")?,
            max_tokens: self.max_tokens,
            seed: self.seed,
            extra: to_map(&self.extra, "config.extra")?,
        })
    }
}

/// An `ImmediateBatch` of `_batch.py`.
#[derive(FromPyObject)]
pub struct Immediate<'py> {
    id: String,
    /// Takes the results of a batch that was interrupted; returns a note for the exception.
    keep: Bound<'py, PyAny>,
}

/// The fields of a `BatchOptions` of `_config.py`.
#[derive(FromPyObject)]
pub struct BatchOptions<'py> {
    display_name: Option<Bound<'py, PyString>>,
    completion_window: Option<Bound<'py, PyString>>,
    custom_ids: Option<Vec<Bound<'py, PyString>>>,
    system: Option<Bound<'py, PyString>>,
    native: Option<bool>,
    concurrency: usize,
}

impl BatchOptions<'_> {
    /// `api`: the job's, which may be particular about ids.
    fn custom_ids(&self, api: Option<&dyn BatchApi>) -> PyResult<Option<RowIds>> {
        self.custom_ids.as_deref().map(|names| custom_ids(names, api)).transpose()
    }
}
