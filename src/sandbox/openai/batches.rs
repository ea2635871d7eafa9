//! The Batches API: create, look, cancel, list. What a job does in between is in `job`.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use hyper::StatusCode;
use hyper::http::request::Parts;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::error::ApiError;
use super::{Answer, files, job, limit, list_page, query, values};
use crate::sandbox::faults::{JobFaults, Kind, spoil};
use crate::sandbox::{Shared, http, lock};

/// The only endpoint whose lines the sandbox runs.
pub const ENDPOINT: &str = "/v1/responses";
const WINDOW: f64 = 86_400.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Validating,
    Failed,
    InProgress,
    Finalizing,
    Completed,
    Expired,
    Cancelling,
    Cancelled,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Validating => "validating",
            Status::Failed => "failed",
            Status::InProgress => "in_progress",
            Status::Finalizing => "finalizing",
            Status::Completed => "completed",
            Status::Expired => "expired",
            Status::Cancelling => "cancelling",
            Status::Cancelled => "cancelled",
        }
    }
}

/// One batch: what was asked, and how far it is.
#[derive(Debug)]
pub struct Batch {
    pub id: String,
    pub created_at: f64,
    pub input_file_id: String,
    pub metadata: Value,
    /// Life of the result files in seconds, if the client gave one.
    pub output_life: Option<i64>,
    pub faults: JobFaults,
    pub progress: Mutex<Progress>,
    pub cancel: Notify,
    not_found: AtomicU32,
    unlisted: AtomicU32,
}

#[derive(Debug)]
pub struct Progress {
    status: Status,
    /// When each status was reached, in virtual unix seconds.
    reached: Vec<(Status, f64)>,
    pub model: Option<String>,
    pub errors: Vec<Value>,
    /// For each row, in the order in which they run, whether it succeeds.
    pub rows: Arc<[bool]>,
    /// So many rows ran, once that is settled.
    pub ran: Option<usize>,
    pub files: [Option<String>; 2],
    pub usage: Usage,
}

/// Tokens of the rows that succeeded.
#[derive(Debug, Default, Clone, Copy)]
pub struct Usage {
    pub input: u64,
    pub output: u64,
    pub reasoning: u64,
}

impl Progress {
    /// Moves on at `now`, unless a cancel came first: then nothing changes, and the answer is false.
    pub fn advance(&mut self, status: Status, now: f64) -> bool {
        let cancelling = self.status == Status::Cancelling && status != Status::Cancelled;
        if !cancelling {
            self.status = status;
            self.reached.push((status, now));
        }
        !cancelling
    }

    /// When `status` was reached.
    pub fn since(&self, status: Status) -> Option<f64> {
        self.reached.iter().find(|(reached, _)| *reached == status).map(|(_, when)| *when)
    }

    /// Rows that have run at `now`.
    pub fn ran_at(&self, now: f64) -> usize {
        if let Some(ran) = self.ran {
            return ran;
        }
        let Some(start) = self.since(Status::InProgress) else {
            return 0;
        };
        let share = ((now - start) / job::RUNNING).clamp(0.0, 1.0);
        (self.rows.len() as f64 * share) as usize
    }
}

pub fn create(shared: &Arc<Shared>, parts: &Parts, body: &Map<String, Value>) -> Answer {
    const KEYS: [&str; 5] = ["completion_window", "endpoint", "input_file_id", "metadata", "output_expires_after"];
    if let Some(key) = body.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(values::unknown(key, KEYS.into_iter()));
    }
    let needed = |key: &str| body.get(key).filter(|value| !value.is_null()).ok_or_else(|| ApiError::missing(key));
    let file = needed("input_file_id")?;
    let Some(input_file_id) = file.as_str() else {
        return Err(values::wrong_type("input_file_id", "a string", file));
    };
    values::choice("endpoint", needed("endpoint")?, &[ENDPOINT])?;
    values::choice("completion_window", needed("completion_window")?, &["24h"])?;
    values::check_metadata(body.get("metadata"))?;
    let output_life = match body.get("output_expires_after").filter(|value| !value.is_null()) {
        Some(given) => Some(files::check_expiry("output_expires_after", given)?),
        None => None,
    };
    let faults = lock(&shared.faults).take_job(parts.method.as_str(), parts.uri.path());
    let created_at = shared.clock.now();
    let batch = Arc::new(Batch {
        id: shared.ids.next("batch_"),
        created_at,
        input_file_id: input_file_id.to_owned(),
        metadata: body.get("metadata").filter(|value| !value.is_null()).cloned().unwrap_or_else(|| json!({})),
        output_life,
        not_found: AtomicU32::new(faults.not_found),
        unlisted: AtomicU32::new(faults.unlisted),
        faults,
        progress: Mutex::new(Progress {
            status: Status::Validating,
            reached: vec![(Status::Validating, created_at)],
            model: None,
            errors: Vec::new(),
            rows: Arc::new([]),
            ran: None,
            files: [None, None],
            usage: Usage::default(),
        }),
        cancel: Notify::new(),
    });
    lock(&shared.openai.batches).put(&batch.id, batch.clone());
    tokio::spawn(job::run(shared.clone(), batch.clone()));
    Ok(reply(shared, &batch))
}

pub fn retrieve(shared: &Shared, id: &str) -> Answer {
    let batch = find(shared, id)?;
    if spoil(&batch.not_found) {
        return Err(no_batch(id));
    }
    Ok(reply(shared, &batch))
}

pub fn cancel(shared: &Shared, id: &str) -> Answer {
    let batch = find(shared, id)?;
    {
        let mut progress = lock(&batch.progress);
        let now = shared.clock.now();
        match progress.status {
            Status::Validating | Status::InProgress => {
                progress.ran = Some(progress.ran_at(now));
                progress.advance(Status::Cancelling, now);
                batch.cancel.notify_one();
            }
            Status::Cancelling | Status::Cancelled => {}
            other => {
                let message = format!("Cannot cancel a batch with status '{}'.", other.name());
                return Err(ApiError::invalid(None, "", message));
            }
        }
    }
    Ok(reply(shared, &batch))
}

pub fn list(shared: &Shared, parts: &Parts) -> Answer {
    let limit = limit(parts, 20, 100)?;
    let after = query(parts, "after");
    let page = lock(&shared.openai.batches).page(after.as_deref(), limit, true, |batch| !spoil(&batch.unlisted));
    let page = page.ok_or_else(|| no_batch(after.as_deref().unwrap_or("")))?;
    let now = shared.clock.now();
    let data = page.items.iter().map(|batch| object(batch, now)).collect();
    Ok(http::json(StatusCode::OK, &list_page(data, page.has_more)))
}

fn find(shared: &Shared, id: &str) -> Result<Arc<Batch>, ApiError> {
    lock(&shared.openai.batches).get(id).ok_or_else(|| no_batch(id))
}

fn no_batch(id: &str) -> ApiError {
    ApiError::not_found("", format!("No batch found with id '{id}'."))
}

fn reply(shared: &Shared, batch: &Batch) -> http::Reply {
    http::json(StatusCode::OK, &object(batch, shared.clock.now()))
}

fn object(batch: &Batch, now: f64) -> Value {
    let progress = lock(&batch.progress);
    let at = |status| progress.since(status).map(|when| when as i64);
    let errors = match progress.errors.as_slice() {
        [] => Value::Null,
        errors => json!({"object": "list", "data": errors}),
    };
    let [output, error] = &progress.files;
    let ended = matches!(progress.status, Status::Completed | Status::Expired | Status::Cancelled);
    let no_errors = if ended && batch.faults.has(Kind::EmptyErrorFileId) { json!("") } else { Value::Null };
    json!({
        "id": batch.id,
        "object": "batch",
        "endpoint": ENDPOINT,
        "model": progress.model,
        "errors": errors,
        "input_file_id": batch.input_file_id,
        "completion_window": "24h",
        "status": progress.status.name(),
        "output_file_id": output,
        "error_file_id": error.as_ref().map_or(no_errors, |id| json!(id)),
        "created_at": batch.created_at as i64,
        "in_progress_at": at(Status::InProgress),
        "expires_at": (batch.created_at + WINDOW) as i64,
        "finalizing_at": at(Status::Finalizing),
        "completed_at": at(Status::Completed),
        "failed_at": at(Status::Failed),
        "expired_at": at(Status::Expired),
        "cancelling_at": at(Status::Cancelling),
        "cancelled_at": at(Status::Cancelled),
        "request_counts": counts(batch, &progress, now),
        "usage": if ended { usage(progress.usage) } else { Value::Null },
        "metadata": batch.metadata,
    })
}

/// All zero until the job runs. Rows that never ran are not failed ones.
fn counts(batch: &Batch, progress: &Progress, now: f64) -> Value {
    let total = if progress.since(Status::InProgress).is_some() { progress.rows.len() } else { 0 };
    let ran = progress.ran_at(now).min(total);
    let completed = progress.rows[..ran].iter().filter(|succeeds| **succeeds).count();
    if batch.faults.has(Kind::LyingCounts) && total > 0 {
        return json!({"total": total + 1, "completed": 0, "failed": total});
    }
    json!({"total": total, "completed": completed, "failed": ran - completed})
}

fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    })
}
