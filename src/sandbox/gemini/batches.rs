//! The batch API: create, look, cancel, list, delete. What a job does in between is in `job`.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use hyper::StatusCode;
use hyper::http::request::Parts;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::error::ApiError;
use super::lines::{self, Plan};
use super::messages::BATCH_REQUEST;
use super::proto::{self, Names};
use super::{Answer, bad_page_token, files, job, page, pretty};
use crate::sandbox::clock::rfc3339;
use crate::sandbox::faults::{JobFaults, Kind, spoil};
use crate::sandbox::{Shared, lock};

/// So many jobs may be under way at once (rate limits page).
const JOB_LIMIT: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    Expired,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Pending => "BATCH_STATE_PENDING",
            State::Running => "BATCH_STATE_RUNNING",
            State::Succeeded => "BATCH_STATE_SUCCEEDED",
            State::Failed => "BATCH_STATE_FAILED",
            State::Cancelled => "BATCH_STATE_CANCELLED",
            State::Expired => "BATCH_STATE_EXPIRED",
        }
    }

    fn is_end(self) -> bool {
        !matches!(self, State::Pending | State::Running)
    }
}

/// One job: what was asked, and how far it is.
#[derive(Debug)]
pub struct Batch {
    /// What follows `batches/`.
    id: String,
    /// Without `models/`.
    pub model: String,
    display_name: Option<String>,
    /// The id of the input file, unless the rows came with the call.
    input_file: Option<String>,
    /// Where the results belong, one in a line.
    pub results: PathBuf,
    pub created_at: f64,
    pub faults: JobFaults,
    pub progress: Mutex<Progress>,
    pub cancel: Notify,
    not_found: AtomicU32,
    unlisted: AtomicU32,
    no_output: AtomicU32,
}

impl Batch {
    pub fn is_file(&self) -> bool {
        self.input_file.is_some()
    }

    /// The id of the file with the results: two characters too long for any other method than a download.
    pub fn results_id(&self) -> String {
        format!("batch-{}", self.id)
    }
}

#[derive(Debug)]
pub struct Progress {
    state: State,
    updated_at: f64,
    started_at: Option<f64>,
    ended_at: Option<f64>,
    pub is_cancelling: bool,
    /// For each row, in the order in which they run, whether it succeeds.
    pub rows: Arc<[bool]>,
    /// So many rows ran, once that is settled.
    pub ran: Option<usize>,
    pub has_output: bool,
    /// A `google.rpc.Status`.
    pub error: Option<Value>,
}

impl Progress {
    pub fn start(&mut self, now: f64) {
        (self.state, self.started_at, self.updated_at) = (State::Running, Some(now), now);
    }

    pub fn end(&mut self, state: State, now: f64) {
        (self.state, self.ended_at, self.updated_at) = (state, Some(now), now);
    }

    /// Rows that have run at `now`.
    pub fn ran_at(&self, now: f64) -> usize {
        let total = self.rows.len();
        if let Some(ran) = self.ran {
            return ran.min(total);
        }
        let Some(start) = self.started_at else {
            return 0;
        };
        (total as f64 * ((now - start) / job::RUNNING).clamp(0.0, 1.0)) as usize
    }
}

/// Where the rows of a new job are.
enum Input {
    File(Arc<files::File>),
    List(Vec<Value>),
}

pub async fn create(shared: &Arc<Shared>, parts: &Parts, model: &str, body: Value) -> Answer {
    let mut body = proto::read(&BATCH_REQUEST, body, Names::Both).map_err(|wrong| proto::refused(&wrong))?;
    let mut batch = match body.remove("batch") {
        Some(Value::Object(batch)) => batch,
        _ => Map::new(),
    };
    let input = input(shared, &mut batch)?;
    let under_way = |batch: &Batch| !lock(&batch.progress).state.is_end();
    let jobs = lock(&shared.gemini.batches).page(None, JOB_LIMIT, true, under_way);
    if jobs.is_some_and(|jobs| jobs.items.len() == JOB_LIMIT) {
        let message =
            format!("The limit of {JOB_LIMIT} concurrent batch jobs is reached. Please try again when some are done.");
        return Err(ApiError::exhausted(message));
    }
    let faults = lock(&shared.faults).take_job(parts.method.as_str(), parts.uri.path());
    // The id of a real job has 36 characters.
    let id = shared.ids.next("sbox");
    let results = shared.store.path(&format!("gemini-{id}-results"));
    let input_file = match &input {
        Input::File(file) => Some(file.id.clone()),
        Input::List(_) => None,
    };
    let plan = planned(shared, model, &faults, input, shared.store.path(&format!("gemini-{id}-rows"))).await?;
    let created_at = shared.clock.now();
    let batch = Arc::new(Batch {
        model: model.to_owned(),
        display_name: batch.get("displayName").and_then(Value::as_str).map(str::to_owned),
        input_file,
        results,
        created_at,
        not_found: AtomicU32::new(faults.not_found),
        unlisted: AtomicU32::new(faults.unlisted),
        no_output: AtomicU32::new(faults.no_output),
        faults,
        progress: Mutex::new(Progress {
            state: State::Pending,
            updated_at: created_at,
            started_at: None,
            ended_at: None,
            is_cancelling: false,
            rows: plan.rows.iter().map(|row| row.succeeds).collect(),
            ran: None,
            has_output: false,
            error: None,
        }),
        cancel: Notify::new(),
        id,
    });
    lock(&shared.gemini.batches).put(&batch.id, batch.clone());
    tokio::spawn(job::run(shared.clone(), batch.clone(), plan));
    Ok(pretty(StatusCode::OK, &object(&batch, shared.clock.now(), None)))
}

fn input(shared: &Shared, batch: &mut Map<String, Value>) -> Result<Input, ApiError> {
    let mut config = match batch.remove("inputConfig") {
        Some(Value::Object(config)) => config,
        _ => Map::new(),
    };
    let list = config.get_mut("requests").and_then(|requests| requests.get_mut("requests")).map(Value::take);
    match (config.remove("fileName"), list) {
        (Some(Value::String(name)), None) => match name.strip_prefix("files/") {
            Some(id) => files::find(shared, id).map(Input::File),
            None => Err(ApiError::invalid(format!(
                "* BatchGenerateContentRequest.batch.input_config.file_name: '{name}' is not the name of a file (files/...). \
                 Cloud Storage is not supported.\n"
            ))),
        },
        (None, Some(Value::Array(list))) => Ok(Input::List(list)),
        (Some(_), Some(_)) => {
            Err(ApiError::invalid("Only one of input_config.requests and input_config.file_name may be set."))
        }
        _ => Err(ApiError::invalid("* BatchGenerateContentRequest.batch.input_config: source must be specified\n")),
    }
}

async fn planned(
    shared: &Arc<Shared>,
    model: &str,
    faults: &JobFaults,
    input: Input,
    rows: PathBuf,
) -> Result<Plan, ApiError> {
    let (shared, model, faults) = (shared.clone(), model.to_owned(), faults.clone());
    let work = move || match input {
        Input::File(file) => lines::of_file(&shared, &model, &faults, &file.path),
        Input::List(list) => lines::of_list(&shared, &model, &faults, list, &rows),
    };
    let planned = tokio::task::spawn_blocking(work).await;
    planned.unwrap_or_else(|error| Err(ApiError::internal(format!("The rows could not be read: {error}"))))
}

pub async fn retrieve(shared: &Shared, id: &str) -> Answer {
    let batch = find(shared, id)?;
    if spoil(&batch.not_found) {
        return Err(no_batch());
    }
    let (succeeded, has_output) = {
        let progress = lock(&batch.progress);
        (progress.state == State::Succeeded, progress.has_output)
    };
    let is_late = succeeded && spoil(&batch.no_output);
    let output = if has_output && !is_late { Some(output(&batch).await?) } else { None };
    Ok(pretty(StatusCode::OK, &object(&batch, shared.clock.now(), output)))
}

/// The name of the file with the results, or the results themselves.
async fn output(batch: &Batch) -> io::Result<Value> {
    if batch.is_file() {
        return Ok(json!({"responsesFile": format!("files/{}", batch.results_id())}));
    }
    let text = tokio::fs::read(&batch.results).await?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let rows: Vec<Value> = lines.map(serde_json::from_slice).collect::<Result<_, _>>()?;
    Ok(json!({"inlinedResponses": {"inlinedResponses": rows}}))
}

pub fn cancel(shared: &Shared, id: &str) -> Answer {
    stop(shared, &*find(shared, id)?);
    Ok(pretty(StatusCode::OK, &json!({})))
}

fn stop(shared: &Shared, batch: &Batch) {
    let mut progress = lock(&batch.progress);
    if !progress.state.is_end() && !progress.is_cancelling && progress.ran.is_none() {
        progress.is_cancelling = true;
        progress.ran = Some(progress.ran_at(shared.clock.now()));
        batch.cancel.notify_one();
    }
}

/// Forgets a job; one under way stops. The file with its results stays.
pub fn delete(shared: &Shared, id: &str) -> Answer {
    let batch = find(shared, id)?;
    stop(shared, &batch);
    lock(&shared.gemini.batches).remove(id);
    Ok(pretty(StatusCode::OK, &json!({})))
}

/// Without the results of jobs whose rows came with the call: a page of a hundred could have gigabytes of them.
pub fn list(shared: &Shared, parts: &Parts) -> Answer {
    let (size, token) = page(parts, 10, 100)?;
    let page = lock(&shared.gemini.batches).page(token.as_deref(), size, true, |batch| !spoil(&batch.unlisted));
    let page = page.ok_or_else(bad_page_token)?;
    let now = shared.clock.now();
    let file = |batch: &Batch| {
        let has_file = batch.is_file() && lock(&batch.progress).has_output;
        has_file.then(|| json!({"responsesFile": format!("files/{}", batch.results_id())}))
    };
    let mut reply = json!({});
    if !page.items.is_empty() {
        reply["operations"] = page.items.iter().map(|batch| object(batch, now, file(batch))).collect();
    }
    if let Some(last) = page.items.last().filter(|_| page.has_more) {
        reply["nextPageToken"] = json!(last.id);
    }
    Ok(pretty(StatusCode::OK, &reply))
}

fn find(shared: &Shared, id: &str) -> Result<Arc<Batch>, ApiError> {
    lock(&shared.gemini.batches).get(id).ok_or_else(no_batch)
}

fn no_batch() -> ApiError {
    ApiError::not_found("Requested entity was not found.")
}

const TYPE: &str = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch";

/// The job as a long-running operation.
fn object(batch: &Batch, now: f64, output: Option<Value>) -> Value {
    let progress = lock(&batch.progress);
    let name = format!("batches/{}", batch.id);
    let mut metadata = json!({"@type": TYPE, "model": format!("models/{}", batch.model)});
    if let Some(display_name) = &batch.display_name {
        metadata["displayName"] = json!(display_name);
    }
    if let Some(file) = &batch.input_file {
        metadata["inputConfig"] = json!({"fileName": format!("files/{file}")});
    }
    if let Some(output) = &output {
        metadata["output"] = output.clone();
    }
    metadata["createTime"] = json!(rfc3339(batch.created_at));
    if let Some(end) = progress.ended_at {
        metadata["endTime"] = json!(rfc3339(end));
    }
    metadata["updateTime"] = json!(rfc3339(progress.updated_at));
    metadata["batchStats"] = stats(batch, &progress, now);
    metadata["state"] = json!(progress.state.name());
    metadata["name"] = json!(name);
    let mut operation = json!({"name": name, "metadata": metadata});
    if progress.state.is_end() {
        operation["done"] = json!(true);
    }
    match (&progress.error, output) {
        (Some(error), _) => operation["error"] = error.clone(),
        (None, Some(Value::Object(output))) => {
            let mut response = Map::from_iter([("@type".to_owned(), json!(format!("{TYPE}Output")))]);
            response.extend(output);
            operation["response"] = Value::Object(response);
        }
        (None, _) => {}
    }
    operation
}

/// Counts as strings; those that are zero are left out.
fn stats(batch: &Batch, progress: &Progress, now: f64) -> Value {
    let total = progress.rows.len();
    let ran = progress.ran_at(now);
    let succeeded = progress.rows[..ran].iter().filter(|succeeds| **succeeds).count();
    let counts = if batch.faults.has(Kind::LyingCounts) {
        [
            ("requestCount", total + 1),
            ("failedRequestCount", total),
            ("successfulRequestCount", 0),
            ("pendingRequestCount", 0),
        ]
    } else {
        [
            ("requestCount", total),
            ("successfulRequestCount", succeeded),
            ("failedRequestCount", ran - succeeded),
            ("pendingRequestCount", total - ran),
        ]
    };
    let shown = counts.into_iter().filter(|(_, count)| *count > 0);
    shown.map(|(name, count)| (name.to_owned(), json!(count.to_string()))).collect::<Map<_, _>>().into()
}
