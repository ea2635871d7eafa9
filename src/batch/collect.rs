//! Result rows to one outcome for every input, in order. The rows stay in a file; in memory is one offset a row.

use super::ids::RowIds;
use super::order::{Found, FoundId, Order};
use crate::bounds::MAX_LINE;
use crate::client::{Call, Client};
use crate::error::{ApiError, BatchErrorKind, Error, OutputErrorKind, Result};
use crate::generation::{FinishReason, Generation, Usage};
use crate::providers::{Job, Reading, RowOutcome, State};
use crate::{json, jsonl};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Seek, Write};
use std::sync::Arc;

const NO_ROW: u64 = u64::MAX;

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
    rows: File,
    source: Source,
    ids: Arc<RowIds>,
    offsets: Vec<u64>,
    /// Bytes of an average row: what to read first.
    row_size: usize,
    /// Rows with ids that this batch never sent.
    strangers: u64,
    /// Rows that are no JSON or have no id: nobody knows whose they are.
    nameless: u64,
    /// The rows that were sent could not be read, and their ids do not tell their order.
    order_is_guessed: bool,
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
    /// Outcomes that were recorded here.
    Recorded,
}

impl Results {
    /// Puts the rows that were found in `rows` into order. Where several answer for one input, the last success wins.
    pub fn new(
        batch_id: String,
        rows: File,
        order: Order,
        found: &Found,
        client: Arc<Client>,
        call: Arc<Call>,
    ) -> Result<Self> {
        let size = rows.metadata().map_err(|error| Error::disk("Reading results", &error))?.len();
        let row_size = size as usize / found.len().max(1) + 64;
        let offsets = vec![NO_ROW; order.ids.len() as usize];
        let source = Source::Provider { client, call };
        let mut results = Self {
            batch_id,
            rows,
            source,
            ids: order.ids,
            offsets,
            row_size,
            strangers: 0,
            nameless: 0,
            order_is_guessed: order.is_guessed,
            rowless: Status::Missing,
            stopped: None,
            failed: 0,
        };
        for row in found {
            let Some(index) = row.id.index(&results.ids) else {
                *if matches!(row.id, FoundId::None) { &mut results.nameless } else { &mut results.strangers } += 1;
                continue;
            };
            let known = results.offsets[index as usize];
            if known == NO_ROW || results.is_answer(row.offset)? || !results.is_answer(known)? {
                results.offsets[index as usize] = row.offset;
            }
        }
        Ok(results)
    }

    /// Results that are not there yet, to be filled by [`Results::record`] into the empty file `rows`.
    pub fn recorder(batch_id: String, ids: RowIds, rows: File) -> Self {
        let offsets = vec![NO_ROW; ids.len() as usize];
        let ids = Arc::new(ids);
        Self {
            batch_id,
            rows,
            source: Source::Recorded,
            ids,
            offsets,
            row_size: 1024,
            strangers: 0,
            nameless: 0,
            order_is_guessed: false,
            rowless: Status::Missing,
            stopped: None,
            failed: 0,
        }
    }

    /// The results of `job`, at a provider that leaves out the rows of a stopped job that it did not run.
    pub fn with_silent_rows(mut self, job: &Job) -> Self {
        if job.state == State::Cancelled {
            let is_expired = job.raw_state.to_ascii_lowercase().ends_with("expired");
            self.rowless = if is_expired { Status::Expired } else { Status::Cancelled };
        }
        self
    }

    /// Writes the outcome of the input at `index`.
    pub fn record(&mut self, index: u64, outcome: &Outcome) -> Result<()> {
        let mut line = serde_json::to_vec(outcome).map_err(|error| Error::disk("Saving a result", &error.into()))?;
        line.push(b'\n');
        let save = |file: &mut File| {
            let offset = file.stream_position()?;
            file.write_all(&line).map(|()| offset)
        };
        self.failed += u64::from(outcome.result.is_err());
        self.offsets[index as usize] = save(&mut self.rows).map_err(|error| Error::disk("Saving a result", &error))?;
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
        let mut warnings = Vec::new();
        if self.strangers > 0 {
            warnings.push(format!(
                "batch {}: {} rows of results have ids that it never sent; they are left out",
                self.batch_id, self.strangers
            ));
        }
        if self.nameless > 0 {
            warnings.push(format!(
                "batch {}: {} rows of results are no JSON or have no id; the inputs that they answer count as missing",
                self.batch_id, self.nameless
            ));
        }
        if self.order_is_guessed {
            warnings.push(format!(
                "batch {}: the provider does not give back the rows that were sent, so the results are in the natural order of their custom ids",
                self.batch_id
            ));
        }
        warnings
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
        let longest = if matches!(self.source, Source::Recorded) { u64::MAX } else { MAX_LINE };
        jsonl::line_at(&self.rows, offset, self.row_size, longest, buffer)
            .map_err(|error| Error::disk("Reading results", &error))
    }

    /// The outcome of the input at `index`, which must be below [`Results::len`]. `buffer` is scratch space.
    pub fn outcome(&self, index: u64, buffer: &mut Vec<u8>) -> Result<Outcome> {
        let offset = self.offsets[index as usize];
        if let Some(error) = self.stopped.as_ref().filter(|_| offset == NO_ROW) {
            return Ok(Outcome { status: Status::Cancelled, result: Err(error.clone()) });
        }
        if offset == NO_ROW {
            return Ok(self.never_ran(index, self.rowless, "the provider returned no row for it"));
        }
        let Some(line) = self.line(offset, buffer)? else { return Ok(self.too_long(index)) };
        let Source::Provider { client, call } = &self.source else {
            return serde_json::from_slice(line).map_err(|error| Error::disk("Reading results", &error.into()));
        };
        let mut outcome = self.understand(index, line, client, call);
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
                let text: String = String::from_utf8_lossy(line).chars().take(200).collect();
                let message = format!("{}: its row of results is no JSON ({error}): {text}", self.name(index));
                let error = Error::batch(BatchErrorKind::Other, &self.batch_id, message);
                return Outcome { status: Status::Failed, result: Err(error) };
            }
        };
        let result = match client.provider.batches().read_row(&row, call.reading()) {
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
            Source::Recorded => "llmbackend",
        };
        let message = format!(
            "{}: its result row is longer than {MAX_LINE} bytes (256 MiB), the limit of a line of a result file",
            self.name(index)
        );
        Outcome { status: Status::Failed, result: Err(Error::Api(Box::new(ApiError::outside(provider, message)))) }
    }

    fn never_ran(&self, index: u64, status: Status, reason: &str) -> Outcome {
        let message = format!("{} is {}: {reason}", self.name(index), status.name());
        Outcome { status, result: Err(Error::batch(BatchErrorKind::Other, &self.batch_id, message)) }
    }

    fn name(&self, index: u64) -> String {
        format!("input {index} ('{}')", self.ids.name(index))
    }
}
