//! The life of a batch job: pending, running, writing its results. The clock is virtual, the work is real.

use std::sync::Arc;

use serde_json::{Value, json};

use super::batches::{Batch, State};
use super::files::File;
use super::lines::Plan;
use super::results::write;
use crate::sandbox::faults::Kind;
use crate::sandbox::{Shared, lock};

/// Virtual seconds of each stage.
const PENDING: f64 = 20.0;

pub const RUNNING: f64 = 60.0;

const WRITING: f64 = 5.0;

/// Runs a job from its creation to its end.
pub async fn run(shared: Arc<Shared>, batch: Arc<Batch>, plan: Plan) {
    shared.clock.wait(batch.created_at + PENDING, &batch.cancel).await;
    if let Some(error) = refused_later(&batch) {
        return end(&shared, &batch, State::Failed, Some(error), None);
    }
    let started = shared.clock.now();
    lock(&batch.progress).start(started);
    shared.clock.wait(started + RUNNING, &batch.cancel).await;
    let (state, ran) = settle(&shared, &batch);
    let begun = shared.clock.now();
    let (worker, job) = (shared.clone(), batch.clone());
    let written = tokio::task::spawn_blocking(move || write(&worker, &job, plan, ran)).await;
    let rest = shared.clock.real_time(shared.clock.now(), begun + WRITING);
    tokio::time::sleep(rest).await;
    let failed =
        |why: String| Some(json!({"code": 13, "message": format!("The sandbox could not write the results: {why}")}));
    match written {
        Ok(Ok(bytes)) => end(&shared, &batch, state, reason(state), bytes.filter(|_| state != State::Expired)),
        Ok(Err(error)) => end(&shared, &batch, State::Failed, failed(error.to_string()), None),
        Err(error) => end(&shared, &batch, State::Failed, failed(error.to_string()), None),
    }
}

/// How the job ends and how many rows it has run by then.
fn settle(shared: &Shared, batch: &Batch) -> (State, usize) {
    let mut progress = lock(&batch.progress);
    let total = progress.rows.len();
    let (state, ran) = if progress.is_cancelling {
        (State::Cancelled, progress.ran_at(shared.clock.now()))
    } else if batch.faults.has(Kind::CancelHalf) {
        (State::Cancelled, total / 2)
    } else if batch.faults.has(Kind::ExpireHalf) {
        (State::Expired, total / 2)
    } else {
        (State::Succeeded, total)
    };
    progress.ran = Some(ran);
    (state, ran)
}

/// The error of a job that did not succeed, as a `google.rpc.Status`.
fn reason(state: State) -> Option<Value> {
    match state {
        State::Cancelled => Some(json!({"code": 1, "message": "The operation was cancelled."})),
        State::Expired => Some(json!({"code": 4, "message": "The batch job did not complete within 48 hours."})),
        _ => None,
    }
}

/// The ways in which a good job fails minutes later.
fn refused_later(batch: &Batch) -> Option<Value> {
    if batch.faults.has(Kind::TokenLimitExceeded) {
        return Some(json!({"code": 8, "message": "The quota of enqueued tokens was exceeded."}));
    }
    batch.faults.has(Kind::FailJob).then(|| json!({"code": 13, "message": "Internal error encountered."}))
}

fn end(shared: &Shared, batch: &Batch, state: State, error: Option<Value>, bytes: Option<u64>) {
    let now = shared.clock.now();
    if let Some(bytes) = bytes.filter(|_| batch.is_file()) {
        let file = Arc::new(File {
            id: batch.results_id(),
            display_name: None,
            mime_type: "application/jsonl".into(),
            bytes,
            created_at: now,
            sha256: None,
            path: batch.results.clone(),
        });
        lock(&shared.gemini.files).put(&file.id, file.clone());
    }
    let mut progress = lock(&batch.progress);
    progress.has_output = bytes.is_some();
    progress.error = error;
    progress.end(state, now);
}
