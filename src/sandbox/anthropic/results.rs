//! The results of a message batch: its requests answered one by one, and written in an order that says nothing.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::{Map, Value};

use super::batches::{Batch, Counts};
use super::error::ApiError;
use super::job::Unrun;
use super::requests::Row;
use super::tools::SchemaCache;
use super::values::present;
use super::{messages, validate};
use crate::sandbox::Shared;
use crate::sandbox::faults::Kind;
use crate::sandbox::rows::{self, LineFile};
use crate::sandbox::store;

/// Runs `ran` of the requests and writes a line for each; returns what became of them, and the size of the file.
pub fn write(
    shared: &Shared,
    batch: &Batch,
    mut order: Vec<Row>,
    input: &Path,
    ran: usize,
    unrun: Unrun,
) -> io::Result<(Counts, u64)> {
    let mut random = fastrand::Rng::with_seed(shared.seed);
    random.shuffle(&mut order);
    let mut fates: Vec<(Row, bool)> = order.into_iter().enumerate().map(|(place, row)| (row, place < ran)).collect();
    random.shuffle(&mut fates);
    let mut input = File::open(input)?;
    let mut out = LineFile::new(batch.results.clone());
    let mut cache = SchemaCache::default();
    let mut counts = Counts::default();
    for (row, runs) in fates {
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let request = rows::read(&mut input, row.offset, row.length)?;
        let result = match unrun {
            _ if runs => answer(shared, batch, &row, &request, &mut cache),
            Unrun::Expired => Outcome::Expired,
            Unrun::Canceled => Outcome::Canceled,
        };
        let count = match &result {
            Outcome::Succeeded { .. } => &mut counts.succeeded,
            Outcome::Errored { .. } => &mut counts.errored,
            Outcome::Canceled => &mut counts.canceled,
            Outcome::Expired => &mut counts.expired,
        };
        *count += 1;
        let is_middle = row.index == batch.total / 2;
        let copies = match () {
            () if is_middle && batch.faults.has(Kind::DropLine) => 0,
            () if is_middle && batch.faults.has(Kind::DuplicateLine) => 2,
            () => 1,
        };
        let line = serde_json::to_vec(&ResultLine { custom_id: request.get("custom_id"), result })?;
        (0..copies).try_for_each(|_| out.line(&line))?;
    }
    let bytes = match out.finish(!batch.faults.has(Kind::NoFinalNewline))? {
        Some(bytes) => bytes,
        None => store::create(&batch.results).map(|_| 0)?,
    };
    Ok((counts, bytes))
}

/// One line. A struct, and not `json!`, which would copy the whole answer twice.
#[derive(Serialize)]
struct ResultLine<'a> {
    custom_id: Option<&'a Value>,
    result: Outcome,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Outcome {
    Succeeded { message: Value },
    Errored { error: Value },
    Canceled,
    Expired,
}

fn answer(shared: &Shared, batch: &Batch, row: &Row, request: &Map<String, Value>, cache: &mut SchemaCache) -> Outcome {
    let errored = |error: ApiError| Outcome::Errored { error: error.body(&shared.ids.next("req_")) };
    let faults = &batch.faults;
    if faults.has(Kind::FailJob) {
        return errored(ApiError::server("Internal server error"));
    }
    if faults.has(Kind::FailedOnly) || faults.strikes_row(Kind::FailLines, row.index) {
        return errored(ApiError::invalid("messages: the sandbox was told to fail this request"));
    }
    let none = Map::new();
    let params = request.get("params").and_then(Value::as_object).unwrap_or(&none);
    let checked = validate::check_batched(params).and_then(|()| validate::check(params, batch.version, cache));
    let mut ask = match checked {
        Ok(ask) => ask,
        Err(error) => return errored(error),
    };
    if faults.answer == Some(Kind::NoOutputConfig) && present(params, "output_config").is_some() {
        return errored(messages::no_output_config());
    }
    if faults.answer == Some(Kind::Failed200) {
        return errored(ApiError::server("Internal server error"));
    }
    if faults.has(Kind::LineSeparator) {
        // Line ends to Unicode and to str.splitlines(), but not to JSON Lines.
        ask.prompt.push_str("\u{2028}|\u{85}");
    }
    let fault = match () {
        () if faults.strikes_row(Kind::RefuseLines, row.index) => Some(Kind::Refusal),
        () if faults.strikes_row(Kind::TruncateLines, row.index) => Some(Kind::Truncated),
        () => faults.answer,
    };
    Outcome::Succeeded { message: messages::compose(&shared.ids, &ask, fault, "batch") }
}
