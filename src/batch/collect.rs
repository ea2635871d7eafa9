//! Result rows to one outcome for every input, in order. The rows stay in a file; in memory is one offset a row.

use super::ids::{GuessedIds, RowIds, default_id, index_of_default, natural_order};
use crate::client::{Call, Client};
use crate::error::{BatchErrorKind, Error, OutputErrorKind, Result};
use crate::generation::{FinishReason, Generation};
use crate::providers::{BatchApi, Reading, RowId, RowOutcome};
use crate::{json, jsonl};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, Seek, Write};
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
    pub rowless: Status,
}

/// Whose rows the file holds.
enum Source {
    /// The provider's, to be read as answers to this call.
    Provider { client: Arc<Client>, call: Arc<Call> },
    /// Outcomes that were recorded here.
    Recorded,
}

/// The ids of a batch, and whether their order is only a guess.
pub struct Order {
    pub ids: Arc<RowIds>,
    pub is_guessed: bool,
}

/// A row of a result file.
pub struct FoundRow {
    id: FoundId,
    /// Where it begins.
    offset: u64,
}

enum FoundId {
    /// A default id.
    At(u64),
    /// The caller's own id, with its position where the wire tells it.
    Named(Box<str>, Option<u64>),
    /// A row without an id answers nobody; its input will count as missing.
    None,
}

/// The rows of result files, not yet in order.
pub type Found = Vec<FoundRow>;

/// Finds the rows of `file`.
pub fn find_rows(api: &dyn BatchApi, file: &File) -> Result<Found> {
    let mut found = Found::new();
    let reader = file.try_clone().map_err(|error| Error::disk("Reading results", &error))?;
    jsonl::for_each_line(BufReader::with_capacity(1 << 18, Rewound::new(reader)), |offset, line| {
        let id = match api.row_id(line) {
            None => FoundId::None,
            Some(RowId { index, name }) => match index_of_default(&name).filter(|_| index.is_none()) {
                Some(position) => FoundId::At(position),
                None => FoundId::Named(name.into(), index),
            },
        };
        found.push(FoundRow { id, offset });
        Ok(())
    })?;
    Ok(found)
}

/// The order of the rows that were sent, as they stand in the file that was uploaded.
pub fn ids_from_input(sent: Found) -> RowIds {
    let name = |row: FoundRow| match row.id {
        FoundId::At(position) => default_id(position).into(),
        FoundId::Named(name, _) => name,
        FoundId::None => Box::default(),
    };
    RowIds::from_rows(sent.into_iter().map(name).collect())
}

/// The ids of a batch that this process did not make, as far as its results tell: `None` if they do not.
/// `total` is the provider's count of rows; `most` bounds what a strange id can make of it.
pub fn ids_from_results(found: &Found, total: u64, most: u64) -> Option<RowIds> {
    let position = |row: &FoundRow| match row.id {
        FoundId::At(position) | FoundId::Named(_, Some(position)) => Some(position),
        _ => None,
    };
    let mut seen: Vec<u64> = found.iter().map(position).collect::<Option<_>>()?;
    seen.sort_unstable();
    seen.dedup();
    // No hole, and two sources that agree on where it ends.
    let complete = seen.len() as u64 == total && seen.last().is_none_or(|last| last + 1 == total);
    complete.then(|| ids_without_input(found, total, most).ids)
}

/// The best order there is when the rows that were sent are gone.
pub fn ids_without_input(found: &Found, total: u64, most: u64) -> GuessedIds {
    let position = |row: &FoundRow| match row.id {
        FoundId::At(position) | FoundId::Named(_, Some(position)) => Some(position).filter(|position| *position < most),
        _ => None,
    };
    let end = found.iter().filter_map(position).map(|last| last + 1).max().unwrap_or(0).max(total.min(most));
    let named = || found.iter().filter(|row| matches!(row.id, FoundId::Named(..)));
    if named().next().is_none() {
        return GuessedIds { ids: RowIds::Default(end), is_guess: false };
    }
    if named().all(|row| matches!(row.id, FoundId::Named(_, Some(_)))) {
        let mut names = vec![Box::<str>::default(); end as usize];
        for row in named() {
            if let (FoundId::Named(name, _), Some(at)) = (&row.id, position(row)) {
                names[at as usize] = name.clone();
            }
        }
        return GuessedIds { ids: RowIds::from_rows(names), is_guess: false };
    }
    let mut names: Vec<Box<str>> = named().filter_map(|row| row.id.name()).collect();
    names.sort_by(|a, b| natural_order(a, b));
    names.dedup();
    GuessedIds { ids: RowIds::from_rows(names), is_guess: true }
}

impl FoundId {
    fn name(&self) -> Option<Box<str>> {
        match self {
            Self::Named(name, _) => Some(name.clone()),
            _ => None,
        }
    }

    fn index(&self, ids: &RowIds) -> Option<u64> {
        match self {
            Self::At(position) => {
                Some(*position).filter(|position| matches!(ids, RowIds::Default(count) if position < count))
            }
            Self::Named(name, _) => ids.index(name),
            Self::None => None,
        }
    }
}

impl Results {
    /// Puts the rows that were found in `rows` into order. Where several answer for one input, the last success wins.
    pub fn new(
        batch_id: String,
        rows: File,
        order: Order,
        found: Found,
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
        }
    }

    /// Writes the outcome of the input at `index`.
    pub fn record(&mut self, index: u64, outcome: &Outcome) -> Result<()> {
        let mut line = serde_json::to_vec(outcome).map_err(|error| Error::disk("Saving a result", &error.into()))?;
        line.push(b'\n');
        let save = |file: &mut File| {
            let offset = file.stream_position()?;
            file.write_all(&line).map(|()| offset)
        };
        self.offsets[index as usize] = save(&mut self.rows).map_err(|error| Error::disk("Saving a result", &error))?;
        Ok(())
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

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn custom_id(&self, index: u64) -> String {
        self.ids.name(index)
    }

    fn is_answer(&self, offset: u64) -> Result<bool> {
        let Source::Provider { client, .. } = &self.source else { return Ok(true) };
        let mut buffer = Vec::new();
        let row = json::parse(self.line(offset, &mut buffer)?).unwrap_or_default();
        let outcome = client.provider.batches().read_row(&row, &Reading::default());
        Ok(matches!(outcome, RowOutcome::Answered(_)))
    }

    fn line<'b>(&self, offset: u64, buffer: &'b mut Vec<u8>) -> Result<&'b [u8]> {
        jsonl::line_at(&self.rows, offset, self.row_size, buffer)
            .map_err(|error| Error::disk("Reading results", &error))
    }

    /// The outcome of the input at `index`, which must be below [`Results::len`]. `buffer` is scratch space.
    pub fn outcome(&self, index: u64, buffer: &mut Vec<u8>) -> Result<Outcome> {
        let offset = self.offsets[index as usize];
        if offset == NO_ROW {
            return Ok(self.never_ran(index, self.rowless, "the provider returned no row for it"));
        }
        let line = self.line(offset, buffer)?;
        let Source::Provider { client, call } = &self.source else {
            return serde_json::from_slice(line).map_err(|error| Error::disk("Reading results", &error.into()));
        };
        let row = match json::parse(line) {
            Ok(row) => row,
            Err(error) => {
                let text: String = String::from_utf8_lossy(line).chars().take(200).collect();
                let message = format!("{}: its row of results is no JSON ({error}): {text}", self.name(index));
                let error = Error::batch(BatchErrorKind::Other, &self.batch_id, message);
                return Ok(Outcome { status: Status::Failed, result: Err(error) });
            }
        };
        let result = match client.provider.batches().read_row(&row, call.reading()) {
            RowOutcome::Answered(mut generation) => call.check(&mut generation, call.reading()).map(|()| generation),
            RowOutcome::Error(mut error) => {
                if let Error::Api(error) = &mut error {
                    client.redact(error);
                }
                Err(error)
            }
            RowOutcome::Expired(reason) => return Ok(self.never_ran(index, Status::Expired, &reason)),
            RowOutcome::Cancelled(reason) => return Ok(self.never_ran(index, Status::Cancelled, &reason)),
        };
        Ok(Outcome { status: Status::of(&result), result })
    }

    fn never_ran(&self, index: u64, status: Status, reason: &str) -> Outcome {
        let message = format!("{} is {}: {reason}", self.name(index), status.name());
        Outcome { status, result: Err(Error::batch(BatchErrorKind::Other, &self.batch_id, message)) }
    }

    fn name(&self, index: u64) -> String {
        format!("input {index} ('{}')", self.ids.name(index))
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
        let id = |id: &&str| match (index_of_default(id), id.split_once(':')) {
            (Some(position), _) => FoundId::At(position),
            (None, Some((index, name))) => FoundId::Named(name.into(), index.parse().ok()),
            (None, None) => FoundId::Named((*id).into(), None),
        };
        ids.iter().map(|name| FoundRow { id: id(name), offset: 0 }).collect()
    }

    #[test]
    fn ids_without_holes_need_no_input_file() {
        let ids = |names: &[&str], total| ids_from_results(&found(names), total, 100);
        assert!(matches!(ids(&["llmb-000001", "llmb-000000"], 2), Some(RowIds::Default(2))));
        assert_eq!(ids(&["1:b", "0:a"], 2).unwrap().name(1), "b");
        for (names, total) in
            [(["llmb-000001", "llmb-000002"], 2), (["llmb-000001", "llmb-000000"], 3), (["a", "b"], 2)]
        {
            assert!(ids(&names, total).is_none());
        }
    }

    #[test]
    fn without_input_the_best_order_is_guessed() {
        let ids = |names: &[&str], total| ids_without_input(&found(names), total, 100);
        assert_eq!(ids(&["llmb-000004", "llmb-000000"], 2).ids.len(), 5);
        assert_eq!(ids(&["llmb-000000"], 3).ids.len(), 3);
        assert_eq!(ids(&["llmb-99999999999", "llmb-000000"], 0).ids.len(), 1);
        let keyed = ids(&["2:c", "0:a"], 4);
        assert_eq!((keyed.ids.len(), keyed.ids.index("c"), keyed.is_guess), (4, Some(2), false));
        let custom = ids(&["row-10", "row-9", "row-10"], 9);
        assert_eq!((custom.ids.len(), custom.ids.name(0), custom.is_guess), (2, "row-9".into(), true));
    }
}
