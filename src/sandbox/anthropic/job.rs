//! The life of a message batch: running, canceling, ended. The clock is virtual, the work is real: requests are read from disk
//! and results written there, on a thread that may block.

use std::path::PathBuf;
use std::sync::Arc;

use super::batches::{Batch, Counts};
use super::requests::Row;
use super::results;
use crate::sandbox::faults::Kind;
use crate::sandbox::{Shared, lock};

/// Virtual seconds from the creation to the end.
pub const RUNNING: f64 = 60.0;

const CANCELING: f64 = 10.0;

/// Why requests did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrun {
    Expired,
    Canceled,
}

/// Runs a batch from its creation to its end.
pub async fn run(shared: Arc<Shared>, batch: Arc<Batch>, rows: Vec<Row>, input: PathBuf) {
    shared.clock.wait(batch.created_at + RUNNING, &batch.cancel).await;
    let (ran, unrun) = settle(&shared, &batch);
    let begun = shared.clock.now();
    let (for_shared, for_batch, from) = (shared.clone(), batch.clone(), input.clone());
    let work = move || results::write(&for_shared, &for_batch, rows, &from, ran, unrun);
    let written = tokio::task::spawn_blocking(work).await;
    let _ = tokio::fs::remove_file(&input).await;
    // A disk that is full, or the sandbox's end: nothing can be downloaded then, which is an error of its own.
    let failed = (Counts { errored: batch.total, ..Counts::default() }, 0);
    let (counts, bytes) = written.ok().and_then(Result::ok).unwrap_or(failed);
    if unrun == Unrun::Canceled && ran < batch.total {
        tokio::time::sleep(shared.clock.real_time(shared.clock.now(), begun + CANCELING)).await;
    }
    let mut progress = lock(&batch.progress);
    (progress.counts, progress.bytes) = (counts, bytes);
    progress.ended_at = Some(shared.clock.now());
}

/// How many requests run, and what becomes of the others.
fn settle(shared: &Shared, batch: &Batch) -> (usize, Unrun) {
    let now = shared.clock.now();
    let mut progress = lock(&batch.progress);
    let (ran, unrun) = if let (Some(_), Some(ran)) = (progress.cancel_initiated_at, progress.ran) {
        (ran, Unrun::Canceled)
    } else if batch.faults.has(Kind::CancelHalf) {
        progress.cancel_initiated_at = Some(now);
        (batch.total / 2, Unrun::Canceled)
    } else if batch.faults.has(Kind::ExpireHalf) {
        (batch.total / 2, Unrun::Expired)
    } else {
        (batch.total, Unrun::Expired)
    };
    progress.ran = Some(ran);
    (ran, unrun)
}
