//! Result rows to one outcome for every input, in order. The rows stay in a file; in memory is one offset a row.

use super::assign::{NO_ROW, assign};
use super::caveats::Caveats;
use super::ids::RowIds;
use super::order::{Found, Order};
use super::result_files::ResultFiles;
use crate::bounds::MAX_LINE;
use crate::client::{Call, Client};
use crate::error::{ApiError, BatchErrorKind, Error, OutputErrorKind, Result, quote, quote_up_to};
use crate::generation::{FinishReason, Generation, Usage};
use crate::json;
use crate::providers::{Job, Reading, RowOutcome, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::{Seek, Write};
use std::sync::Arc;

/// Bytes of a row that are read at first, at most: a file may be long because of what stands between its rows.
const MAX_FIRST_READ: usize = 1 << 20;

/// What became of an input. Every input has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Succeeded,
    /// The model refused, or a filter stopped it.
    Refused,
    /// Cut by `max_tokens`; a plain text is a value all the same.
    Truncated,
    /// Does not fit the schema.
    Invalid,
    /// The provider refused that request, or its answer is none.
    Failed,
    Expired,
    Cancelled,
    /// No row came back.
    Missing,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Truncated => "truncated",
            Self::Invalid => "invalid",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Missing => "missing",
        }
    }

    /// What a call's result counts as.
    pub fn of(result: &Result<Generation>) -> Self {
        match result {
            Ok(generation) if generation.finish_reason == FinishReason::Length => Self::Truncated,
            Ok(_) => Self::Succeeded,
            Err(Error::Output(error)) => match error.kind {
                OutputErrorKind::Refusal | OutputErrorKind::ContentFilter => Self::Refused,
                OutputErrorKind::Truncated => Self::Truncated,
                OutputErrorKind::Invalid => Self::Invalid,
                OutputErrorKind::NoText => Self::Failed,
            },
            Err(_) => Self::Failed,
        }
    }
}

/// An input's outcome. With a generation it has a value; else an error says why not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub status: Status,
    pub result: Result<Generation>,
}

/// What came back, also in an answer that is of no use.
impl Outcome {
    pub fn text(&self) -> Option<&str> {
        match &self.result {
            Ok(generation) => Some(&generation.text),
            Err(Error::Output(error)) => error.text.as_deref(),
            Err(_) => None,
        }
    }

    /// Bytes that came back, about.
    pub fn size(&self) -> usize {
        let reply = match &self.result {
            Err(Error::Output(error)) => error.response.as_ref().map_or(0, String::len),
            _ => 0,
        };
        self.text().map_or(0, str::len) + reply
    }

    pub fn finish_reason(&self) -> Option<&FinishReason> {
        match &self.result {
            Ok(generation) => Some(&generation.finish_reason),
            Err(Error::Output(error)) => error.finish_reason.as_ref(),
            Err(_) => None,
        }
    }

    pub fn usage(&self) -> Option<Usage> {
        match &self.result {
            Ok(generation) => generation.usage,
            Err(Error::Output(error)) => error.usage,
            Err(_) => None,
        }
    }
}

/// The results of one batch, readable in the order of its inputs, any number of times.
pub struct Results {
    batch_id: String,
    rows: ResultFiles,
    source: Source,
    ids: Arc<RowIds>,
    offsets: Vec<u64>,
    /// Bytes of an average row: what to read first.
    row_size: usize,
    caveats: Caveats,
    /// What an input without a row counts as.
    rowless: Status,
    /// Why no more is recorded.
    stopped: Option<Error>,
    /// Recorded outcomes without an answer.
    failed: u64,
}

/// Whose rows the file holds.
enum Source {
    /// The provider's, to be read as answers to this call.
    Provider { client: Arc<Client>, call: Arc<Call> },
    /// Outcomes that were recorded here, into this file.
    Recorded(Arc<File>),
}

impl Results {
    /// Puts the rows that were found in `rows` into order; `caveats` is what is known of them until then.
    pub fn new(
        batch_id: String,
        rows: ResultFiles,
        order: Order,
        found: &Found,
        caveats: Caveats,
        (client, call): (Arc<Client>, Arc<Call>),
    ) -> Result<Self> {
        let row_size = (rows.len() as usize / found.rows.len().max(1) + 64).min(MAX_FIRST_READ);
        let source = Source::Provider { client, call };
        let caveats = Caveats { order_is_guessed: order.is_guessed, other_lines: found.other_lines, ..caveats };
        let mut results = Self { row_size, caveats, ..Self::empty(batch_id, rows, source, order.ids) };
        let assigned = assign(found, &results.ids, order.count_is_known, |offset| results.is_answer(offset))?;
        results.offsets = assigned.offsets;
        results.caveats.unknown_ids = assigned.unknown_ids;
        results.caveats.without_id = assigned.without_id;
        if results.is_complete() {
            results.caveats.unread.retain(|file| !file.is_blank);
        }
        Ok(results)
    }

    fn empty(batch_id: String, rows: ResultFiles, source: Source, ids: Arc<RowIds>) -> Self {
        Self {
            batch_id,
            rows,
            source,
            ids,
            offsets: Vec::new(),
            row_size: 1024,
            caveats: Caveats::default(),
            rowless: Status::Missing,
            stopped: None,
            failed: 0,
        }
    }

    /// Results that are not there yet, to be filled by [`Results::record`] into the empty file `rows`.
    pub fn recorder(batch_id: String, ids: RowIds, rows: File) -> Self {
        let offsets = vec![NO_ROW; ids.len() as usize];
        let rows = Arc::new(rows);
        let source = Source::Recorded(rows.clone());
        Self { offsets, ..Self::empty(batch_id, ResultFiles::of_one(rows), source, Arc::new(ids)) }
    }

    /// The results of `job`, at a provider that leaves out the rows of a stopped job that it did not run. Where its answer
    /// may be among what could not be read, an input is missing all the same.
    pub fn with_silent_rows(mut self, job: &Job) -> Self {
        if job.state == State::Cancelled && self.caveats.why_missing().is_none() {
            let is_expired = job.raw_state.to_ascii_lowercase().ends_with("expired");
            self.rowless = if is_expired { Status::Expired } else { Status::Cancelled };
        }
        self
    }

    /// Writes the outcome of the input at `index`.
    pub fn record(&mut self, index: u64, outcome: &Outcome) -> Result<()> {
        let mut line = serde_json::to_vec(outcome).map_err(|error| Error::disk("Saving a result", &error.into()))?;
        line.push(b'\n');
        let save = |mut file: &File| {
            let offset = file.stream_position()?;
            file.write_all(&line).map(|()| offset)
        };
        if let Source::Recorded(file) = &self.source {
            self.offsets[index as usize] = save(file).map_err(|error| Error::disk("Saving a result", &error))?;
            self.failed += u64::from(outcome.result.is_err());
        }
        Ok(())
    }

    /// Nothing more will be recorded: the inputs that are left are cancelled for this reason.
    pub fn stop(&mut self, reason: Error) {
        self.stopped = Some(reason);
    }

    /// As [`Results::stop`], because the caller has had enough.
    pub fn interrupt(&mut self) {
        let message = "it was interrupted before this input was answered";
        self.stop(Error::batch(BatchErrorKind::Other, &self.batch_id, message));
    }

    /// What the caller should know before relying on them.
    pub fn warnings(&self) -> Vec<String> {
        self.caveats.warnings(&self.batch_id)
    }

    /// Whether every input has a row.
    pub fn is_complete(&self) -> bool {
        !self.offsets.contains(&NO_ROW)
    }

    pub fn len(&self) -> u64 {
        self.ids.len()
    }

    /// The inputs that have a row.
    pub fn rows(&self) -> u64 {
        self.offsets.iter().filter(|offset| **offset != NO_ROW).count() as u64
    }

    /// The recorded outcomes that are no answer.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn custom_id(&self, index: u64) -> String {
        self.ids.name(index)
    }

    fn is_answer(&self, offset: u64) -> Result<bool> {
        let Source::Provider { client, .. } = &self.source else { return Ok(true) };
        let mut buffer = Vec::new();
        let Some(line) = self.line(offset, &mut buffer)? else { return Ok(false) };
        let row = json::parse(line).unwrap_or_default();
        let outcome = client.provider.batches().read_row(&row, &Reading::default());
        Ok(matches!(outcome, RowOutcome::Answered(_)))
    }

    /// The line at `offset`; None: it is too long to be read.
    fn line<'b>(&self, offset: u64, buffer: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>> {
        // What was recorded here has kept its limits.
        let longest = if matches!(self.source, Source::Recorded(_)) { u64::MAX } else { MAX_LINE };
        let line = self.rows.line_at(offset, self.row_size, longest, buffer);
        line.map_err(|error| Error::disk("Reading results", &error))
    }

    /// The outcome of the input at `index`, which must be below [`Results::len`]. `buffer` is scratch space.
    pub fn outcome(&self, index: u64, buffer: &mut Vec<u8>) -> Result<Outcome> {
        let offset = self.offsets[index as usize];
        if let Some(error) = self.stopped.as_ref().filter(|_| offset == NO_ROW) {
            return Ok(Outcome { status: Status::Cancelled, result: Err(error.clone()) });
        }
        if offset == NO_ROW {
            let reason = match self.caveats.why_missing() {
                Some(why) => format!("no row was found for it: {why}"),
                None => "the provider returned no row for it".into(),
            };
            return Ok(self.never_ran(index, self.rowless, &reason));
        }
        let Some(line) = self.line(offset, buffer)? else { return Ok(self.too_long(index)) };
        let Source::Provider { client, call } = &self.source else {
            return serde_json::from_slice(line).map_err(|error| Error::disk("Reading results", &error.into()));
        };
        let mut outcome = match client.provider.batches().answer_fields().read(line) {
            Some(row) => self.outcome_of(index, &row, client, call),
            None => self.understand(index, line, client, call),
        };
        if outcome.result.is_err() {
            // What an error quotes is taken from a row without keys: half of one would not be known again.
            let safe = client.endpoint.redact(&String::from_utf8_lossy(line));
            let again = self.understand(index, safe.as_bytes(), client, call);
            outcome = if again.result.is_err() { again } else { outcome };
        }
        if let Err(error) = &mut outcome.result {
            client.redact(error);
        }
        Ok(outcome)
    }

    /// What a row of the provider's says.
    fn understand(&self, index: u64, line: &[u8], client: &Client, call: &Call) -> Outcome {
        let row = match json::parse(line) {
            Ok(row) => row,
            Err(error) => {
                let text = String::from_utf8_lossy(line);
                let message =
                    format!("{}: its row of results is no JSON ({error}): {}", self.name(index), quote(&text));
                let error = Error::batch(BatchErrorKind::Other, &self.batch_id, message);
                return Outcome { status: Status::Failed, result: Err(error) };
            }
        };
        self.outcome_of(index, &row, client, call)
    }

    fn outcome_of(&self, index: u64, row: &Value, client: &Client, call: &Call) -> Outcome {
        let result = match client.provider.batches().read_row(row, call.reading()) {
            RowOutcome::Answered(mut generation) => call.check(&mut generation, call.reading()).map(|()| generation),
            RowOutcome::Error(error) => Err(error),
            RowOutcome::Expired(reason) => return self.never_ran(index, Status::Expired, &reason),
            RowOutcome::Cancelled(reason) => return self.never_ran(index, Status::Cancelled, &reason),
        };
        Outcome { status: Status::of(&result), result }
    }

    fn too_long(&self, index: u64) -> Outcome {
        let provider = match &self.source {
            Source::Provider { client, .. } => client.endpoint.provider,
            Source::Recorded(_) => "llmbackend",
        };
        let message = format!(
            "{}: its result row is longer than {MAX_LINE} bytes (256 MiB), the limit of a line of a result file",
            self.name(index)
        );
        Outcome { status: Status::Failed, result: Err(Error::Api(Box::new(ApiError::outside(provider, message)))) }
    }

    fn never_ran(&self, index: u64, status: Status, reason: &str) -> Outcome {
        let message = format!("{} is {}: {}", self.name(index), status.name(), quote(reason));
        Outcome { status, result: Err(Error::batch(BatchErrorKind::Other, &self.batch_id, message)) }
    }

    fn name(&self, index: u64) -> String {
        format!("input {index} ('{}')", quote_up_to(&self.ids.name(index), 100))
    }
}
