//! The life of a batch job: validating, running, writing its files. The clock is virtual, the work is real: the lines are
//! read from disk, and the results written there, on a thread that may block. In memory there are only a row's place and fate.

use std::sync::Arc;

use serde_json::{Value, json};

use super::batches::{Batch, Status};
use super::lines::{Plan, validated};
use super::results::write;
use crate::sandbox::faults::Kind;
use crate::sandbox::{Shared, lock};

/// Virtual seconds of each stage.
const VALIDATING: f64 = 20.0;

pub const RUNNING: f64 = 60.0;

const FINALIZING: f64 = 5.0;

const CANCELLING: f64 = 10.0;

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Completed,
    Expired,
    Cancelled,
}

/// Runs a job from its creation to its end.
pub async fn run(shared: Arc<Shared>, batch: Arc<Batch>) {
    let plan = blocking(&shared, &batch, validated).await;
    shared.clock.wait(batch.created_at + VALIDATING, &batch.cancel).await;
    let plan = match plan.and_then(|plan| refused_later(&batch, plan)) {
        Ok(plan) => plan,
        Err(errors) => return fail(&shared, &batch, errors),
    };
    let total = plan.rows.len();
    let started = shared.clock.now();
    {
        let mut progress = lock(&batch.progress);
        progress.model = Some(plan.model.clone());
        progress.rows = plan.rows.iter().map(|row| row.succeeds).collect();
        progress.advance(Status::InProgress, started);
    }
    shared.clock.wait(started + RUNNING, &batch.cancel).await;
    let (end, ran) = settle(&shared, &batch, total);
    let begun = shared.clock.now();
    let written = blocking(&shared, &batch, move |shared, batch| write(shared, batch, plan, ran, end)).await;
    match written {
        Err(errors) => fail(&shared, &batch, errors),
        Ok((files, usage)) => {
            let pause = if end == End::Cancelled { CANCELLING } else { FINALIZING };
            let rest = shared.clock.real_time(shared.clock.now(), begun + pause);
            tokio::time::sleep(rest).await;
            let mut progress = lock(&batch.progress);
            (progress.files, progress.usage) = (files, usage);
            let status = match end {
                End::Completed => Status::Completed,
                End::Expired => Status::Expired,
                End::Cancelled => Status::Cancelled,
            };
            progress.advance(status, shared.clock.now());
        }
    }
}

/// Runs blocking work on its own thread; its errors become the batch's.
async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    batch: &Arc<Batch>,
    work: impl FnOnce(&Shared, &Batch) -> Result<T, Vec<Value>> + Send + 'static,
) -> Result<T, Vec<Value>> {
    let (shared, batch) = (shared.clone(), batch.clone());
    let done = tokio::task::spawn_blocking(move || work(&shared, &batch)).await;
    done.unwrap_or_else(|error| Err(vec![whole_file("server_error", format!("The job broke: {error}"), Value::Null)]))
}

/// How the job ends and how many rows it has run by then.
fn settle(shared: &Shared, batch: &Batch, total: usize) -> (End, usize) {
    let now = shared.clock.now();
    let mut progress = lock(&batch.progress);
    let (end, ran) = if progress.since(Status::Cancelling).is_some() {
        (End::Cancelled, progress.ran_at(now).min(total))
    } else if batch.faults.has(Kind::CancelHalf) {
        progress.advance(Status::Cancelling, now);
        (End::Cancelled, total / 2)
    } else if batch.faults.has(Kind::ExpireHalf) {
        (End::Expired, total / 2)
    } else {
        progress.advance(Status::Finalizing, now);
        (End::Completed, total)
    };
    progress.ran = Some(ran);
    (end, ran)
}

fn fail(shared: &Shared, batch: &Batch, errors: Vec<Value>) {
    let mut progress = lock(&batch.progress);
    let now = shared.clock.now();
    if progress.advance(Status::Failed, now) {
        progress.errors = errors;
    } else {
        progress.advance(Status::Cancelled, now);
    }
}

pub fn whole_file(code: &str, message: String, param: Value) -> Value {
    json!({"code": code, "line": null, "message": message, "param": param})
}

/// The ways in which a good file fails minutes later.
fn refused_later(batch: &Batch, plan: Plan) -> Result<Plan, Vec<Value>> {
    if batch.faults.has(Kind::TokenLimitExceeded) {
        let message = format!(
            "Enqueued token limit reached for {} in organization org-sandbox. Limit: 2,000,000 enqueued tokens. Please try again \
             once some in_progress batches have been completed.",
            plan.model
        );
        return Err(vec![whole_file("token_limit_exceeded", message, Value::Null)]);
    }
    if batch.faults.has(Kind::FailJob) {
        let message = "The batch could not be processed.".to_owned();
        return Err(vec![whole_file("server_error", message, Value::Null)]);
    }
    Ok(plan)
}
