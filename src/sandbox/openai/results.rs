//! The result files of a batch job: its rows answered one by one and written in the order in which they ran.

use std::io;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::batches::{Batch, Usage};
use super::error::ApiError;
use super::files::DEFAULT_LIFE;
use super::format::SchemaCache;
use super::job::{End, whole_file};
use super::lines::{Plan, Row};
use super::{responses, validate};
use crate::sandbox::Shared;
use crate::sandbox::faults::Kind;
use crate::sandbox::rows::{self, LineFile};
use crate::sandbox::store::StoredFile;

/// Ids of the output and the error file, and what the rows cost.
pub type Written = ([Option<String>; 2], Usage);

/// Runs the first `ran` rows and writes the output and the error file.
pub fn write(shared: &Shared, batch: &Batch, mut plan: Plan, ran: usize, end: End) -> Result<Written, Vec<Value>> {
    let broken = |error: io::Error| {
        let message = format!("The sandbox could not write the results: {error}");
        vec![whole_file("server_error", message, Value::Null)]
    };
    let mut out = Results::new(shared, batch, plan.rows.len());
    for (place, row) in plan.rows.iter().enumerate() {
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(vec![whole_file("server_error", "The sandbox stopped.".into(), Value::Null)]);
        }
        let line = rows::read(&mut plan.input, row.offset, row.length).map_err(broken)?;
        let unrun = (place >= ran).then_some(end);
        out.row(row, &line, unrun).map_err(broken)?;
    }
    out.finish().map_err(broken)
}

/// The two result files of a job, and what they cost.
struct Results<'a> {
    shared: &'a Shared,
    batch: &'a Batch,
    total: usize,
    output: ResultFile,
    errors: ResultFile,
    usage: Usage,
    cache: SchemaCache,
    /// For the fault that swaps a success and a failure: whether each was swapped.
    swapped: (bool, bool),
}

impl<'a> Results<'a> {
    fn new(shared: &'a Shared, batch: &'a Batch, total: usize) -> Results<'a> {
        Results {
            shared,
            batch,
            total,
            output: ResultFile::new(shared),
            errors: ResultFile::new(shared),
            usage: Usage::default(),
            cache: SchemaCache::default(),
            swapped: (false, false),
        }
    }

    /// Writes the result of one row; `unrun` says why it never ran.
    fn row(&mut self, row: &Row, line: &Map<String, Value>, unrun: Option<End>) -> io::Result<()> {
        if self.batch.faults.has(Kind::DropLine) && row.index == self.total / 2 {
            return Ok(());
        }
        let (response, error) = match unrun {
            Some(end) => (None, Some(never_ran(end))),
            None => (Some(self.response(row, line)), None),
        };
        let result = serde_json::to_vec(&ResultLine {
            id: self.shared.ids.next("batch_req_"),
            custom_id: line.get("custom_id"),
            response,
            error,
        })?;
        let succeeded = unrun.is_none() && row.succeeds;
        let is_doubled = self.batch.faults.has(Kind::DuplicateLine) && row.index == self.total / 2;
        let copies = if is_doubled { 2 } else { 1 };
        let into_output = succeeded != self.swaps(succeeded, unrun.is_none());
        let file = if into_output { &mut self.output } else { &mut self.errors };
        (0..copies).try_for_each(|_| file.lines.line(&result))
    }

    fn swaps(&mut self, succeeded: bool, ran: bool) -> bool {
        if !self.batch.faults.has(Kind::WrongFile) || !ran {
            return false;
        }
        let done = if succeeded { &mut self.swapped.0 } else { &mut self.swapped.1 };
        !std::mem::replace(done, true)
    }

    fn response(&mut self, row: &Row, line: &Map<String, Value>) -> RowResponse {
        let empty = Map::new();
        let body = line.get("body").and_then(Value::as_object).unwrap_or(&empty);
        let request_id = self.shared.ids.next("");
        let mut ask = match validate::check(body, &mut self.cache) {
            Ok(ask) => ask,
            Err(error) => return RowResponse::refused(request_id, &error),
        };
        if !row.succeeds {
            let message = "Invalid prompt: your prompt was flagged as potentially violating our usage policy.";
            let error = ApiError::invalid("invalid_prompt", "", message);
            return RowResponse::refused(request_id, &error);
        }
        let faults = &self.batch.faults;
        if faults.has(Kind::LineSeparator) {
            // Line ends to Unicode and to str.splitlines(), but not to JSON Lines.
            ask.prompt.push_str("\u{2028}|\u{85}");
        }
        let fault = match () {
            () if faults.strikes_row(Kind::RefuseLines, row.index) => Some(Kind::Refusal),
            () if faults.strikes_row(Kind::TruncateLines, row.index) => Some(Kind::Truncated),
            () => faults.answer,
        };
        let response = responses::compose(&self.shared.ids, self.shared.clock.now() as i64, &ask, body, fault);
        let count = |path: &str| response.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        self.usage.input += count("/usage/input_tokens");
        self.usage.output += count("/usage/output_tokens");
        self.usage.reasoning += count("/usage/output_tokens_details/reasoning_tokens");
        RowResponse { status_code: 200, request_id, body: response }
    }

    /// Closes the files and puts them into the store; a file without lines is none.
    fn finish(self) -> io::Result<Written> {
        let (shared, batch) = (self.shared, self.batch);
        let output = self.output.finish(shared, batch, "output")?;
        let errors = self.errors.finish(shared, batch, "error")?;
        Ok(([output, errors], self.usage))
    }
}

/// One line of a result file. A struct, and not `json!`, which would copy the whole answer twice.
#[derive(Serialize)]
struct ResultLine<'a> {
    id: String,
    custom_id: Option<&'a Value>,
    response: Option<RowResponse>,
    error: Option<Value>,
}

#[derive(Serialize)]
struct RowResponse {
    status_code: u16,
    request_id: String,
    body: Value,
}

impl RowResponse {
    fn refused(request_id: String, error: &ApiError) -> RowResponse {
        RowResponse { status_code: error.status.as_u16(), request_id, body: error.body() }
    }
}

fn never_ran(end: End) -> Value {
    match end {
        End::Cancelled => {
            json!({"code": "batch_cancelled", "message": "This request was not executed before the batch was cancelled."})
        }
        _ => json!({
            "code": "batch_expired",
            "message": "This request could not be executed before the completion window expired."
        }),
    }
}

/// A result file, in the store once it is whole.
struct ResultFile {
    id: String,
    lines: LineFile,
}

impl ResultFile {
    fn new(shared: &Shared) -> ResultFile {
        let id = shared.ids.next("file-");
        ResultFile { lines: LineFile::new(shared.store.path(&id)), id }
    }

    fn finish(self, shared: &Shared, batch: &Batch, suffix: &str) -> io::Result<Option<String>> {
        let path = self.lines.path().to_path_buf();
        let Some(bytes) = self.lines.finish(!batch.faults.has(Kind::NoFinalNewline))? else {
            return Ok(None);
        };
        let created_at = shared.clock.now() as i64;
        let file = shared.store.put(StoredFile {
            path,
            filename: format!("{}_{suffix}.jsonl", batch.id),
            purpose: "batch_output".into(),
            bytes,
            created_at,
            expires_at: Some(created_at + batch.output_life.unwrap_or(DEFAULT_LIFE)),
            expires: batch.output_life.is_some(),
            id: self.id,
        });
        Ok(Some(file.id.clone()))
    }
}
