//! Batches: a job at the provider, and its results.

use super::errors::{configuration, instance, to_py, with_note};
use super::reply::Usage;
use super::runtime::{self, Ended};
use crate::answer::AnswerSchema;
use crate::batch::plan::Written;
use crate::batch::run::Step;
use crate::batch::submit::NotCreated;
use crate::batch::{collect, run::Batch as CoreBatch, submit};
use crate::client::{Call, Client};
use crate::providers::{Job, JobOptions};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of answers that are brought to Python at once, about.
const MOST_TEXT: usize = 4 << 20;
/// How long Ctrl-C waits for the answer to a create that is on its way.
const CREATE_GRACE: Duration = Duration::from_secs(10);

#[pyclass(frozen, module = "llmbackend._core")]
pub struct Batch {
    core: Arc<CoreBatch>,
}

/// What a look at a job saw: normalized state, raw state, and the provider's counts: total, done, failed.
type Look = (&'static str, String, (u64, u64, u64));

fn look_of(core: &CoreBatch, job: &Job) -> Look {
    let counts = core.counts(job);
    (job.state.name(), job.raw_state.clone(), (counts.total, counts.done, counts.failed))
}

impl Batch {
    /// Hands the rows over and makes a job of them.
    pub fn submit(
        py: Python<'_>,
        client: Arc<Client>,
        schema: Option<Arc<AnswerSchema>>,
        written: Written,
        options: JobOptions,
    ) -> PyResult<Self> {
        let Written { delivery, prepared, rows, ids } = written;
        let uploader = client.clone();
        let input =
            runtime::wait(py, |transport| async move { submit::deliver(&uploader, &transport, delivery, rows).await })?;
        let input = input.map_err(to_py)?;
        let (creator, source) = (client.clone(), input.clone());
        let about = client.provider.batches().describe_input(&input, &options);
        let ended = runtime::wait_with_grace(py, CREATE_GRACE, |transport, _| async move {
            submit::create(&creator, &transport, &source, &options).await
        })?;
        match ended {
            Ended::InTime(job) => {
                let call = Call { prepared, schema };
                Ok(Self {
                    core: Arc::new(CoreBatch::created(client, call, job.map_err(|reason| to_py(reason.into()))?, ids)),
                })
            }
            Ended::Interrupted(interrupt, answer) => Err(with_note(py, interrupt, &interrupt_note(answer, &about))),
        }
    }

    pub fn open(client: Arc<Client>, call: Call, id: &str) -> PyResult<Self> {
        let id = id.trim();
        if id.is_empty() {
            return Err(configuration("batch_id is empty; it is what batch.id was"));
        }
        let id = client.provider.batches().job_id(id).map_err(to_py)?;
        Ok(Self { core: Arc::new(CoreBatch::open(client, call, id)) })
    }
}

/// What became of the job that was being created when an interrupt came. `about` describes it.
fn interrupt_note(answer: Option<Result<Job, NotCreated>>, about: &str) -> String {
    match answer {
        Some(Ok(job)) => {
            format!("llmbackend: the batch was created: {}. It runs on; get it by this id, or cancel it.", job.id)
        }
        Some(Err(NotCreated::Rejected(error))) => format!("llmbackend: the batch was not created: {error}"),
        Some(Err(NotCreated::Unknown(error))) => format!("llmbackend: {error}"),
        None => format!(
            "llmbackend: it is not known whether the batch was created; look for one {about} before you submit these prompts \
             again."
        ),
    }
}

#[pymethods]
impl Batch {
    #[getter]
    fn id(&self) -> &str {
        &self.core.id
    }

    /// The state now: (normalized, raw, (total, done, failed)).
    fn look(&self, py: Python<'_>) -> PyResult<Look> {
        let core = self.core.clone();
        let job = runtime::wait(py, |transport| async move { core.look(&transport).await })?;
        Ok(look_of(&self.core, &job.map_err(to_py)?))
    }

    /// Looks, at least every `poll_interval` seconds, until a terminal state, for at most `timeout` seconds; `on_look` gets
    /// what each look saw.
    #[pyo3(signature = (poll_interval, timeout, on_look))]
    fn wait(
        &self,
        py: Python<'_>,
        poll_interval: f64,
        timeout: Option<f64>,
        on_look: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let poll_interval = seconds("poll_interval", poll_interval)?;
        let timeout = timeout.map(|timeout| seconds("timeout", timeout)).transpose()?;
        let mut waiter = self.core.clone().waiter(poll_interval, timeout);
        loop {
            let (still, step) = runtime::wait(py, |transport| async move {
                let step = waiter.step(&transport).await;
                (waiter, step)
            })?;
            waiter = still;
            match step.map_err(to_py)? {
                Step::Finished => return Ok(()),
                Step::Looked(job) => {
                    if let Some(on_look) = &on_look {
                        on_look.call1(look_of(&self.core, &job))?;
                    }
                }
            }
        }
    }

    /// Asks the provider to stop it; the state after that.
    fn cancel(&self, py: Python<'_>) -> PyResult<Look> {
        let core = self.core.clone();
        let job = runtime::wait(py, |transport| async move { core.cancel(&transport).await })?;
        Ok(look_of(&self.core, &job.map_err(to_py)?))
    }

    /// Downloads the results and puts them in order.
    fn results(&self, py: Python<'_>) -> PyResult<Results> {
        let core = self.core.clone();
        let results = runtime::wait(py, |transport| async move { core.results(&transport).await })?;
        Ok(Results { core: results.map_err(to_py)? })
    }

    /// The error that says, in the provider's words, why there are no results.
    fn failure<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core.clone();
        let job = runtime::wait(py, |transport| async move { core.look(&transport).await })?;
        instance(py, self.core.failure(&job.map_err(to_py)?))
    }
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    // A time beyond what a Duration holds is forever.
    match Duration::try_from_secs_f64(value) {
        Ok(duration) => Ok(duration),
        Err(_) if value > 0.0 => Ok(Duration::MAX),
        Err(_) => Err(configuration(format!("{name} must be a number of seconds of 0 or more, not {value}"))),
    }
}

/// The results of a batch, in the order of its inputs.
#[pyclass(frozen, module = "llmbackend._core")]
pub struct Results {
    core: Arc<collect::Results>,
}

impl Results {
    pub fn new(results: collect::Results) -> Self {
        Self { core: Arc::new(results) }
    }
}

#[pymethods]
impl Results {
    fn __len__(&self) -> usize {
        self.core.len() as usize
    }

    /// What the caller should know about them.
    fn warnings(&self) -> Vec<String> {
        self.core.warnings()
    }

    /// How many inputs have a row.
    #[getter]
    fn rows(&self) -> u64 {
        self.core.rows()
    }

    /// How many of those that were recorded here have no answer.
    #[getter]
    fn failed(&self) -> u64 {
        self.core.failed()
    }

    fn custom_id(&self, index: u64) -> String {
        self.core.custom_id(index)
    }

    /// The outcomes of up to `count` inputs from `start` on, fewer if their texts are long: tuples of status, text, error,
    /// usage, finish reason, and other texts to be tried where the text does not fit.
    fn read<'py>(&self, py: Python<'py>, start: u64, count: u64) -> PyResult<Bound<'py, PyList>> {
        let end = start.saturating_add(count).min(self.core.len());
        let outcomes = py.detach(|| {
            let (mut buffer, mut outcomes, mut size) = (Vec::new(), Vec::new(), 0);
            for index in start..end {
                let outcome = self.core.outcome(index, &mut buffer)?;
                size += outcome.text().map_or(0, str::len);
                outcomes.push(outcome);
                if size > MOST_TEXT {
                    break;
                }
            }
            crate::Result::Ok(outcomes)
        });
        let list = PyList::empty(py);
        for outcome in outcomes.map_err(to_py)? {
            list.append(to_tuple(py, outcome)?)?;
        }
        Ok(list)
    }
}

fn to_tuple(py: Python<'_>, outcome: collect::Outcome) -> PyResult<Bound<'_, PyTuple>> {
    let (text, usage) = (outcome.text().map(str::to_owned), outcome.usage().map(Usage));
    let finish_reason = outcome.finish_reason().map(|reason| reason.name().to_owned());
    let (alternatives, error) = match outcome.result {
        Ok(generation) => (generation.alternatives, None),
        Err(error) => (Vec::new(), Some(instance(py, error)?)),
    };
    (outcome.status.name(), text, error, usage, finish_reason, alternatives).into_pyobject(py)
}
