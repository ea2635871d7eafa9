//! Result rows to one outcome for every input, in order. The rows stay in a file; in memory is one offset a row.

use super::ids::{RowIds, index_of_default, natural_order};
use crate::client::{Call, Client};
use crate::error::{BatchErrorKind, Error, OutputErrorKind, Result};
use crate::generation::{FinishReason, Generation};
use crate::providers::{BatchApi, Reading, RowOutcome};
use crate::{json, jsonl};
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

const NO_ROW: u64 = u64::MAX;

/// What became of an input. Every input has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// Whether the model worked on it: the row is paid for.
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Expired | Self::Cancelled | Self::Missing)
    }
}

/// An input's outcome. With a generation it has a value; else an error says why not.
#[derive(Debug)]
pub struct Outcome {
    pub status: Status,
    pub result: Result<Generation>,
}

/// The results of one batch, readable in the order of its inputs, any number of times.
pub struct Results {
    batch_id: String,
    rows: File,
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
    /// How to read the rows.
    reading: Reading,
}

/// The ids of a batch, and whether their order is only a guess.
pub struct Order {
    pub ids: Arc<RowIds>,
    pub is_guessed: bool,
}

/// The rows of result files, not yet in order: each id and where its row begins.
pub type Found = Vec<(Box<str>, u64)>;

/// Finds the rows of `file`.
pub fn find_rows(api: &dyn BatchApi, file: &File) -> Result<Found> {
    let mut found = Found::new();
    let reader = file.try_clone().map_err(|error| Error::disk("Reading results", &error))?;
    jsonl::for_each_line(BufReader::with_capacity(1 << 18, Rewound::new(reader)), |offset, line| {
        // A row without an id answers nobody; its input will count as missing.
        found.push((api.row_id(line).unwrap_or_default().into(), offset));
        Ok(())
    })?;
    Ok(found)
}

/// The ids of a batch that this process did not make, as far as its results tell: `None` if they do not.
/// `total` is the provider's count of rows.
pub fn ids_from_results(found: &Found, total: u64) -> Option<RowIds> {
    let mut seen: Vec<u64> = found.iter().map(|(id, _)| index_of_default(id)).collect::<Option<_>>()?;
    seen.sort_unstable();
    seen.dedup();
    // No hole, and two sources that agree on where it ends.
    let complete = seen.len() as u64 == total && seen.last().is_none_or(|last| last + 1 == total);
    complete.then_some(RowIds::Default(total))
}

/// The best order there is when the rows that were sent are gone. `most` bounds what a strange id can make of it.
pub fn ids_without_input(found: &Found, total: u64, most: u64) -> RowIds {
    let positions: Option<Vec<u64>> = found.iter().map(|(id, _)| index_of_default(id)).collect();
    if let Some(positions) = positions {
        let end = positions.into_iter().filter(|position| *position < most).map(|last| last + 1).max().unwrap_or(0);
        return RowIds::Default(end.max(total.min(most)));
    }
    let mut names: Vec<Box<str>> = found.iter().map(|(id, _)| id.clone()).filter(|id| !id.is_empty()).collect();
    names.sort_by(|a, b| natural_order(a, b));
    names.dedup();
    RowIds::from_rows(names)
}

impl Results {
    /// Puts the rows that were found in `rows` into the order of `ids`. Where several answer for one input, the last
    /// success wins.
    pub fn new(
        batch_id: String,
        rows: File,
        order: Order,
        found: Found,
        api: &dyn BatchApi,
        reading: Reading,
    ) -> Result<Self> {
        let size = rows.metadata().map_err(|error| Error::disk("Reading results", &error))?.len();
        let row_size = size as usize / found.len().max(1) + 64;
        let offsets = vec![NO_ROW; order.ids.len() as usize];
        let mut results = Self {
            batch_id,
            rows,
            ids: order.ids,
            offsets,
            row_size,
            strangers: 0,
            nameless: 0,
            order_is_guessed: order.is_guessed,
            reading,
        };
        for (id, offset) in found {
            let Some(index) = results.ids.index(&id) else {
                *if id.is_empty() { &mut results.nameless } else { &mut results.strangers } += 1;
                continue;
            };
            let known = results.offsets[index as usize];
            if known == NO_ROW || results.is_answer(offset, api)? || !results.is_answer(known, api)? {
                results.offsets[index as usize] = offset;
            }
        }
        Ok(results)
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
                "batch {}: the rows that were sent cannot be read any more, so the results are in the natural order of their custom ids",
                self.batch_id
            ));
        }
        warnings
    }

    pub fn len(&self) -> u64 {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn custom_id(&self, index: u64) -> String {
        self.ids.name(index)
    }

    fn is_answer(&self, offset: u64, api: &dyn BatchApi) -> Result<bool> {
        let mut buffer = Vec::new();
        let line = self.line(offset, &mut buffer)?;
        let row = json::parse(line).unwrap_or_default();
        Ok(matches!(api.read_row(&row, &Reading::default()), RowOutcome::Answered(_)))
    }

    fn line<'b>(&self, offset: u64, buffer: &'b mut Vec<u8>) -> Result<&'b [u8]> {
        jsonl::line_at(&self.rows, offset, self.row_size, buffer)
            .map_err(|error| Error::disk("Reading results", &error))
    }

    /// The outcome of the input at `index`, which must be below [`Results::len`]. `buffer` is scratch space.
    pub fn outcome(&self, client: &Client, call: &Call, index: u64, buffer: &mut Vec<u8>) -> Result<Outcome> {
        let offset = self.offsets[index as usize];
        if offset == NO_ROW {
            return Ok(self.never_ran(index, Status::Missing, "the provider returned no row for it"));
        }
        let line = self.line(offset, buffer)?;
        let row = match json::parse(line) {
            Ok(row) => row,
            Err(error) => {
                let text: String = String::from_utf8_lossy(line).chars().take(200).collect();
                let message = format!("{}: its row of results is no JSON ({error}): {text}", self.name(index));
                let error = Error::batch(BatchErrorKind::Other, &self.batch_id, message);
                return Ok(Outcome { status: Status::Failed, result: Err(error) });
            }
        };
        let result = match client.provider.batches().read_row(&row, &self.reading) {
            RowOutcome::Answered(mut generation) => call.check(&mut generation).map(|()| generation),
            RowOutcome::Error(mut error) => {
                if let Error::Api(error) = &mut error {
                    client.redact(error);
                }
                Err(error)
            }
            RowOutcome::Expired(reason) => return Ok(self.never_ran(index, Status::Expired, &reason)),
            RowOutcome::Cancelled(reason) => return Ok(self.never_ran(index, Status::Cancelled, &reason)),
        };
        Ok(Outcome { status: status_of(&result), result })
    }

    fn never_ran(&self, index: u64, status: Status, reason: &str) -> Outcome {
        let message = format!("{} is {}: {reason}", self.name(index), status.name());
        Outcome { status, result: Err(Error::batch(BatchErrorKind::Other, &self.batch_id, message)) }
    }

    fn name(&self, index: u64) -> String {
        format!("input {index} ('{}')", self.ids.name(index))
    }
}

fn status_of(result: &Result<Generation>) -> Status {
    match result {
        Ok(generation) if generation.finish_reason == FinishReason::Length => Status::Truncated,
        Ok(_) => Status::Succeeded,
        Err(Error::Output(error)) => match error.kind {
            OutputErrorKind::Refusal | OutputErrorKind::ContentFilter => Status::Refused,
            OutputErrorKind::Truncated => Status::Truncated,
            OutputErrorKind::Invalid => Status::Invalid,
            OutputErrorKind::NoText => Status::Failed,
        },
        Err(_) => Status::Failed,
    }
}

/// Reads a file from its start with positioned reads, whatever its cursor says.
struct Rewound {
    file: File,
    at: u64,
}

impl Rewound {
    fn new(file: File) -> Self {
        Self { file, at: 0 }
    }
}

impl std::io::Read for Rewound {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = jsonl::read_at(&self.file, buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ids: &[&str]) -> Found {
        ids.iter().map(|id| (Box::from(*id), 0)).collect()
    }

    #[test]
    fn default_ids_without_holes_need_no_input_file() {
        assert!(matches!(ids_from_results(&found(&["llmb-000001", "llmb-000000"]), 2), Some(RowIds::Default(2))));
        for (ids, total) in [(["llmb-000001", "llmb-000002"], 2), (["llmb-000001", "llmb-000000"], 3), (["a", "b"], 2)]
        {
            assert!(ids_from_results(&found(&ids), total).is_none());
        }
    }

    #[test]
    fn without_input_the_best_order_is_guessed() {
        assert_eq!(ids_without_input(&found(&["llmb-000004", "llmb-000000"]), 2, 100).len(), 5);
        assert_eq!(ids_without_input(&found(&["llmb-000000"]), 3, 100).len(), 3);
        assert_eq!(ids_without_input(&found(&["llmb-99999999999", "llmb-000000"]), 0, 100).len(), 1);
        let custom = ids_without_input(&found(&["row-10", "row-9", "row-10"]), 9, 100);
        assert_eq!((custom.len(), custom.name(0)), (2, "row-9".into()));
    }
}
