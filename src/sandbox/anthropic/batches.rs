//! The Message Batches API: create, look, cancel, delete, list, results. What a job does in between is in `job`.

use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::http::request::Parts;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::error::ApiError;
use super::{Answer, Version, job, limit, list_page, requests};
use crate::sandbox::clock::rfc3339;
use crate::sandbox::faults::{JobFaults, Kind, spoil};
use crate::sandbox::http::{self, header, query};
use crate::sandbox::{Shared, lock};

const WINDOW: f64 = 86_400.0;
/// Under which the sandbox serves Anthropic.
const MOUNT: &str = "api.anthropic.com";

/// One batch: what was asked, and how far it is.
#[derive(Debug)]
pub struct Batch {
    pub id: String,
    pub created_at: f64,
    /// Of the create call; it governs all requests of the batch.
    pub version: Version,
    pub total: usize,
    pub faults: JobFaults,
    pub progress: Mutex<Progress>,
    pub cancel: Notify,
    /// The results, once there are any.
    pub results: PathBuf,
    results_url: String,
    not_found: AtomicU32,
    unlisted: AtomicU32,
}

/// How far a batch is.
#[derive(Debug, Default)]
pub struct Progress {
    pub cancel_initiated_at: Option<f64>,
    pub ended_at: Option<f64>,
    /// So many requests ran, once that is settled.
    pub ran: Option<usize>,
    pub counts: Counts,
    /// Size of the results in bytes.
    pub bytes: u64,
}

/// What became of the requests; known when all have ended.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub succeeded: usize,
    pub errored: usize,
    pub canceled: usize,
    pub expired: usize,
}

impl Batch {
    /// Requests that have run at `now`.
    pub fn ran_at(&self, now: f64) -> usize {
        let share = ((now - self.created_at) / job::RUNNING).clamp(0.0, 1.0);
        (self.total as f64 * share) as usize
    }
}

pub async fn create(shared: &Arc<Shared>, parts: &Parts, body: Incoming, version: Version) -> Answer {
    let id = shared.ids.next("msgbatch_");
    let received = shared.store.path(&format!("{id}_body.json"));
    let input = shared.store.path(&format!("{id}_requests.jsonl"));
    let read = match requests::receive(body, &received).await {
        Ok(()) => {
            let (received, input) = (received.clone(), input.clone());
            let split = tokio::task::spawn_blocking(move || requests::split(&received, input)).await;
            split.unwrap_or_else(|error| Err(ApiError::server(format!("Reading the requests broke: {error}"))))
        }
        Err(error) => Err(error),
    };
    let _ = tokio::fs::remove_file(&received).await;
    let rows = match read {
        Ok(rows) => rows,
        Err(error) => {
            let _ = tokio::fs::remove_file(&input).await;
            return Err(error);
        }
    };
    let faults = lock(&shared.faults).take_job(parts.method.as_str(), parts.uri.path());
    let host = if faults.has(Kind::ForeignResultsUrl) { "results.invalid" } else { header(parts, HOST.as_str()) };
    let batch = Arc::new(Batch {
        created_at: shared.clock.now(),
        version,
        total: rows.len(),
        progress: Mutex::default(),
        cancel: Notify::new(),
        results: shared.store.path(&format!("{id}_results.jsonl")),
        results_url: format!("http://{host}/{MOUNT}/v1/messages/batches/{id}/results"),
        not_found: AtomicU32::new(faults.not_found),
        unlisted: AtomicU32::new(faults.unlisted),
        faults,
        id,
    });
    lock(&shared.anthropic.batches).put(&batch.id, batch.clone());
    tokio::spawn(job::run(shared.clone(), batch.clone(), rows, input));
    Ok(reply(&batch))
}

pub fn retrieve(shared: &Shared, id: &str) -> Answer {
    let batch = find(shared, id)?;
    if spoil(&batch.not_found) {
        return Err(no_batch(id));
    }
    Ok(reply(&batch))
}

pub fn cancel(shared: &Shared, id: &str) -> Answer {
    let batch = find(shared, id)?;
    {
        let mut progress = lock(&batch.progress);
        let now = shared.clock.now();
        if progress.ended_at.is_some() {
            let message = format!("Batch {id} cannot be canceled because it has already ended.");
            return Err(ApiError::invalid(message));
        }
        if progress.cancel_initiated_at.is_none() {
            progress.cancel_initiated_at = Some(now);
            progress.ran = progress.ran.or(Some(batch.ran_at(now)));
            batch.cancel.notify_one();
        }
    }
    Ok(reply(&batch))
}

pub fn delete(shared: &Shared, id: &str) -> Answer {
    let batch = find(shared, id)?;
    if lock(&batch.progress).ended_at.is_none() {
        let message = format!(
            "Batch {id} cannot be deleted while it is in progress. Cancel it first, or wait until it has ended."
        );
        return Err(ApiError::invalid(message));
    }
    lock(&shared.anthropic.batches).remove(id);
    // A download that has it open reads on.
    let _ = std::fs::remove_file(&batch.results);
    Ok(http::json(StatusCode::OK, &json!({"id": id, "type": "message_batch_deleted"})))
}

pub fn list(shared: &Shared, parts: &Parts) -> Answer {
    let limit = limit(parts)?;
    let (before, after) = (query(parts, "before_id"), query(parts, "after_id"));
    let keep = |batch: &Batch| !spoil(&batch.unlisted);
    let batches = lock(&shared.anthropic.batches);
    let page = match &before {
        Some(before) => batches.page_before(before, limit, keep),
        None => batches.page(after.as_deref(), limit, true, keep),
    };
    let page = page.ok_or_else(|| no_batch(before.as_deref().or(after.as_deref()).unwrap_or("")))?;
    let data = page.items.iter().map(|batch| object(batch)).collect();
    Ok(http::json(StatusCode::OK, &list_page(data, page.has_more)))
}

pub async fn results(shared: &Shared, parts: &Parts, id: &str) -> Answer {
    let batch = find(shared, id)?;
    let bytes = {
        let progress = lock(&batch.progress);
        if progress.ended_at.is_none() {
            return Err(ApiError::not_found(format!("Batch {id} has no results yet: it is still in progress.")));
        }
        progress.bytes
    };
    if batch.faults.has(Kind::Archived) {
        return Err(ApiError::not_found(format!("The results of batch {id} are no longer available.")));
    }
    let reply = http::download(parts, &batch.results, bytes).await?;
    let mut reply = reply.ok_or_else(|| ApiError::new(416, "invalid_request_error", "Range Not Satisfiable"))?;
    http::set_header(&mut reply, "content-type", "application/x-jsonl");
    Ok(reply)
}

fn find(shared: &Shared, id: &str) -> Result<Arc<Batch>, ApiError> {
    lock(&shared.anthropic.batches).get(id).ok_or_else(|| no_batch(id))
}

fn no_batch(id: &str) -> ApiError {
    ApiError::not_found(format!("Batch {id} not found."))
}

fn reply(batch: &Batch) -> http::Reply {
    http::json(StatusCode::OK, &object(batch))
}

fn object(batch: &Batch) -> Value {
    let progress = lock(&batch.progress);
    let ended = progress.ended_at.is_some();
    let status = match () {
        () if ended => "ended",
        () if progress.cancel_initiated_at.is_some() => "canceling",
        () => "in_progress",
    };
    let archived = progress.ended_at.filter(|_| batch.faults.has(Kind::Archived));
    let Counts { succeeded, errored, canceled, expired } = progress.counts;
    let counts = match () {
        () if ended && batch.faults.has(Kind::LyingCounts) => {
            json!({"processing": 0, "succeeded": 0, "errored": batch.total + 1, "canceled": 0, "expired": 0})
        }
        () => json!({
            "processing": if ended { 0 } else { batch.total },
            "succeeded": succeeded,
            "errored": errored,
            "canceled": canceled,
            "expired": expired,
        }),
    };
    json!({
        "id": batch.id,
        "type": "message_batch",
        "processing_status": status,
        "request_counts": counts,
        "created_at": rfc3339(batch.created_at),
        "expires_at": rfc3339(batch.created_at + WINDOW),
        "ended_at": progress.ended_at.map(rfc3339),
        "cancel_initiated_at": progress.cancel_initiated_at.map(rfc3339),
        "archived_at": archived.map(rfc3339),
        "results_url": (ended && archived.is_none()).then_some(&batch.results_url),
    })
}
