//! The results of a batch job, written to disk line by line: shuffled for a job that came as a file, in order for one whose
//! rows came with the call.

use std::io;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::batches::Batch;
use super::generate;
use super::lines::{Plan, Row};
use super::validate::{self, SchemaCache};
use crate::sandbox::Shared;
use crate::sandbox::faults::Kind;
use crate::sandbox::rows::LineFile;

/// Runs the first `ran` rows of the plan; the others leave no trace. Returns the size of the file, if there is one.
pub fn write(shared: &Shared, batch: &Batch, mut plan: Plan, ran: usize) -> io::Result<Option<u64>> {
    let total = plan.rows.len();
    plan.rows.truncate(ran);
    if !batch.is_file() {
        plan.rows.sort_unstable_by_key(|row| row.index);
    }
    let mut file = LineFile::new(batch.results.clone());
    let mut cache = SchemaCache::default();
    for place in 0..plan.rows.len() {
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the sandbox stopped"));
        }
        let line = plan.read(place)?;
        let row = &plan.rows[place];
        let is_middle = row.index == total / 2;
        let copies = match () {
            () if is_middle && batch.faults.has(Kind::DropLine) => 0,
            () if is_middle && batch.faults.has(Kind::DuplicateLine) => 2,
            () => 1,
        };
        let result = serde_json::to_vec(&result(shared, batch, row, line, &mut cache))?;
        (0..copies).try_for_each(|_| file.line(&result))?;
    }
    file.finish(!batch.faults.has(Kind::NoFinalNewline))
}

fn result(
    shared: &Shared,
    batch: &Batch,
    row: &Row,
    mut line: Map<String, Value>,
    cache: &mut SchemaCache,
) -> Map<String, Value> {
    let request = match line.remove("request") {
        Some(Value::Object(request)) => request,
        _ => Map::new(),
    };
    let faults = &batch.faults;
    let mut out = Map::new();
    match validate::check(&batch.model, &request, cache) {
        Err(error) => drop(out.insert("error".into(), error.row())),
        Ok(_) if !row.succeeds => {
            let error = if faults.strikes_row(Kind::FailLines, row.index) {
                json!({"code": 13, "message": "Internal error encountered."})
            } else {
                json!({"code": 3, "message": "Request contains an invalid argument."})
            };
            out.insert("error".into(), error);
        }
        Ok(mut ask) => {
            if faults.has(Kind::LineSeparator) {
                // Line ends to Unicode and to str.splitlines(), but not to JSON Lines.
                ask.prompt.push_str("\u{2028}|\u{85}");
            }
            let fault = match () {
                () if faults.strikes_row(Kind::RefuseLines, row.index) => Some(Kind::Refusal),
                () if faults.strikes_row(Kind::TruncateLines, row.index) => Some(Kind::Truncated),
                () => faults.answer,
            };
            out.insert("response".into(), generate::compose(&shared.ids, &ask, fault));
        }
    }
    let echoed = if batch.is_file() { "key" } else { "metadata" };
    if let Some(value) = line.remove(echoed) {
        out.insert(echoed.into(), value);
    }
    out
}
