//! What the local engines of `python/llmbackend/local` share with the remote providers: the meaning of `extra`, prompts on
//! the disk, outcomes on the disk.

use super::batch::Results;
use super::errors::{configuration, named, to_py};
use super::inputs::{Inputs, custom_ids, prompt};
use super::json::to_map;
use super::reply::Usage;
use crate::batch::collect::{self, Outcome};
use crate::batch::ids::RowIds;
use crate::disk;
use crate::error::Error;
use crate::generation::{FinishReason, Generation, GenerationConfig, Prompt, with_system};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The prompt of a single call as JSON (a str, or a list of messages), and the stop strings.
///
/// `extra` holds those entries of `config.extra` that mean the same on every provider.
#[pyfunction]
pub fn local_prompt<'py>(
    py: Python<'py>,
    input: &Bound<'py, PyAny>,
    extra: &Bound<'py, PyDict>,
) -> PyResult<(Bound<'py, PyBytes>, Vec<String>)> {
    let mut config = GenerationConfig { extra: to_map(extra, "config.extra")?, ..Default::default() };
    let given = prompt(input)?;
    let asked = config.take_conversation().map_err(to_py)?.unwrap_or(given);
    let common = config.common(None).map_err(to_py)?;
    common.refuse_conversation().map_err(to_py)?;
    let asked = with_system(asked, common.system.as_deref()).map_err(to_py)?;
    Ok((PyBytes::new(py, &json_of(&asked)?), common.stop))
}

fn json_of(prompt: &Prompt) -> PyResult<Vec<u8>> {
    serde_json::to_vec(prompt).map_err(|error| configuration(format!("the prompt is no JSON: {error}")))
}

/// The prompts of a batch for a local engine, read and checked, on the disk; and what became of them.
#[pyclass(frozen, module = "llmbackend._core")]
pub struct LocalBatch {
    /// The strings that cut an answer.
    #[pyo3(get)]
    stop: Vec<String>,
    state: Mutex<State>,
}

struct State {
    prompts: Box<dyn Iterator<Item = Prompt> + Send>,
    /// None once they were handed out.
    results: Option<collect::Results>,
}

#[pymethods]
impl LocalBatch {
    /// `extra` as in `local_prompt`; `system` is `batch_options["system"]`, `ids` the custom ids.
    #[new]
    #[pyo3(signature = (inputs, extra, system, ids, batch_id))]
    fn new<'py>(
        py: Python<'py>,
        inputs: &Bound<'py, PyAny>,
        extra: &Bound<'py, PyDict>,
        system: Option<&str>,
        ids: Option<Vec<Bound<'py, PyString>>>,
        batch_id: String,
    ) -> PyResult<Self> {
        let mut config = GenerationConfig { extra: to_map(extra, "config.extra")?, ..Default::default() };
        let inputs = Inputs::new(inputs, config.take_conversations().map_err(to_py)?)?;
        let common = config.common(system).map_err(to_py)?;
        common.refuse_conversation().map_err(to_py)?;
        let ids = ids.as_deref().map(|ids| custom_ids(ids, None)).transpose()?;
        let source = inputs.source();
        let place_system = |prompt, index| {
            with_system(prompt, common.system.as_deref()).map_err(|error| error.about(&format!("{source}[{index}]:")))
        };
        let prompts = inputs.spool(py, place_system)?;
        let ids = RowIds::for_inputs(ids, prompts.count).map_err(to_py)?;
        let results = collect::Results::recorder(batch_id, ids, disk::temporary("results").map_err(to_py)?);
        let prompts = Box::new(prompts.read().map_err(to_py)?);
        Ok(Self { stop: common.stop, state: Mutex::new(State { prompts, results: Some(results) }) })
    }

    /// Up to `count` more prompts, each as JSON; none after the last.
    fn next<'py>(&self, py: Python<'py>, count: usize) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let prompts: Vec<_> = self.state().prompts.by_ref().take(count).collect();
        prompts.iter().map(|prompt| Ok(PyBytes::new(py, &json_of(prompt)?))).collect()
    }

    /// The input at `index` has this answer.
    fn answer(&self, index: u64, text: String, finish_reason: &str, usage: &Usage, model: &str) -> PyResult<()> {
        let generation = Generation::new(text, FinishReason::named(finish_reason));
        let generation = Generation { usage: Some(usage.0), model: Some(model.to_owned()), ..generation };
        self.record(index, &Outcome::of(Ok(generation)))
    }

    /// The input at `index` has none, because of `error`.
    fn fail(&self, py: Python<'_>, index: u64, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let message = error.str()?.to_string_lossy().into_owned();
        let error = match error.is_instance(&named(py, "ConfigurationError")?)? {
            true => Error::Configuration(message),
            false => Error::Engine(message),
        };
        self.record(index, &Outcome::of(Err(error)))
    }

    /// What is recorded. If that is not all, the rest was cut short, and counts as cancelled.
    fn results(&self) -> PyResult<Results> {
        let mut results = self.state().results.take().ok_or_else(|| configuration("the results were taken already"))?;
        if results.rows() < results.len() {
            results.interrupt();
        }
        Ok(Results::new(results))
    }
}

impl LocalBatch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, index: u64, outcome: &Outcome) -> PyResult<()> {
        match &mut self.state().results {
            Some(results) if index < results.len() => results.record(index, outcome).map_err(to_py),
            _ => Err(configuration(format!("there is no input {index} to record an outcome of"))),
        }
    }
}
