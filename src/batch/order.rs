//! Which input a row of results answers, and in what order the inputs stood: found again from the rows' ids alone where
//! another process made the batch.

use super::ids::{RowIds, index_of_default, natural_order};
use crate::bounds::MAX_LINE;
use crate::error::{Error, Result};
use crate::providers::{BatchApi, RowId};
use crate::{json, jsonl};
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

/// Rows that only the provider's count tells of, at most: what a server says sizes no list.
const MAX_UNSEEN_ROWS: u64 = 1_000_000;
/// Bytes that are kept of a line that is no result row: more than a message quotes, so that no half of a key is left at the
/// end of the quote.
const EXCERPT: usize = 4096;

/// The ids of a batch, and how far they are to be relied on.
pub struct Order {
    pub ids: Arc<RowIds>,
    pub is_guessed: bool,
    /// How many inputs there are is known from elsewhere than the result rows.
    pub count_is_known: bool,
}

/// A row of a result file.
pub struct FoundRow {
    pub id: FoundId,
    /// Where it begins.
    pub offset: u64,
}

pub enum FoundId {
    /// A default id.
    At(u64),
    /// The caller's own id, with its position where the wire tells it.
    Named(Box<str>, Option<u64>),
    /// A result row that has lost its id.
    None,
}

/// The rows of result files, not yet in order.
#[derive(Default)]
pub struct Found {
    pub rows: Vec<FoundRow>,
    /// Lines that are no result rows, and the first of them.
    pub other_lines: u64,
    pub first_other: Option<String>,
    /// The files that rows were found in.
    pub files: u64,
}

impl Found {
    /// Adds the rows of a file that begins at `start` of all files.
    pub fn add(&mut self, file: Found, start: u64) {
        self.files += u64::from(!file.rows.is_empty());
        self.other_lines += file.other_lines;
        self.rows.extend(file.rows.into_iter().map(|row| FoundRow { offset: row.offset + start, ..row }));
    }

    /// Whether a row has a default id, which tells the order.
    pub fn has_default_ids(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.id, FoundId::At(_)))
    }

    /// The rows without an id.
    pub fn without_id(&self) -> u64 {
        self.rows.iter().filter(|row| matches!(row.id, FoundId::None)).count() as u64
    }
}

/// Finds the rows of `file`.
pub fn find_rows(api: &dyn BatchApi, file: &File) -> Result<Found> {
    let mut found = Found { files: 1, ..Found::default() };
    for_each_line(file, |offset, line| {
        let id = match api.row_id(line) {
            Some(RowId { index, name }) => match index_of_default(&name).filter(|_| index.is_none()) {
                Some(position) => FoundId::At(position),
                None => FoundId::Named(name.into(), index),
            },
            None if json::parse(line).is_ok_and(|row| api.is_result_row(&row)) => FoundId::None,
            None => {
                found.other_lines += 1;
                let start = || String::from_utf8_lossy(&line[..line.len().min(EXCERPT)]).into_owned();
                found.first_other.get_or_insert_with(start);
                return Ok(());
            }
        };
        found.rows.push(FoundRow { id, offset });
        Ok(())
    })?;
    Ok(found)
}

/// The order of the rows that were sent, as they stand in the file that was uploaded; None if it has lines, and none of them
/// has an id.
pub fn ids_from_input(api: &dyn BatchApi, file: &File) -> Result<Option<RowIds>> {
    let mut names: Vec<Box<str>> = Vec::new();
    for_each_line(file, |_, line| {
        names.push(api.row_id(line).map(|id| id.name.into()).unwrap_or_default());
        Ok(())
    })?;
    let has_ids = names.iter().any(|name| !name.is_empty());
    Ok((has_ids || names.is_empty()).then(|| RowIds::from_rows(names)))
}

fn for_each_line(file: &File, each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let reader = file.try_clone().map_err(|error| Error::disk("Reading results", &error))?;
    jsonl::for_each_line(BufReader::with_capacity(1 << 18, Rewound::new(reader)), MAX_LINE, each)
}

/// The provider's count of the rows of a job, as far as a list can be made of it: None if it counts more than a job can
/// have (`max_rows`), or millions of which nothing came back.
pub fn believable(total: u64, found: &Found, max_rows: u64) -> Option<u64> {
    let rows = found.rows.len() as u64;
    Some(total).filter(|total| *total <= rows || (*total <= max_rows && total - rows <= MAX_UNSEEN_ROWS))
}

/// The ids of a batch that this process did not make, as far as its results tell: `None` if they do not.
/// `total` is the provider's count of rows, 0 if it is not known.
pub fn ids_from_results(found: &Found, total: u64) -> Option<RowIds> {
    let mut seen: Vec<u64> = found.rows.iter().map(|row| row.id.position()).collect::<Option<_>>()?;
    seen.sort_unstable();
    seen.dedup();
    // No hole, and two sources that agree on where it ends.
    let complete = seen.len() as u64 == total && seen.last().is_none_or(|last| *last == total - 1);
    complete.then(|| ids_without_input(found, total).ids)
}

/// The best order there is when the rows that were sent are gone.
pub fn ids_without_input(found: &Found, total: u64) -> GuessedIds {
    // A strange position must not make a list of millions: the provider's count bounds it, and where that is not known, the
    // rows.
    let rows = found.rows.len() as u64;
    let most = if total > 0 { total.max(rows) } else { rows * 2 + 1000 };
    let position = |row: &FoundRow| row.id.position().filter(|position| *position < most);
    // Without a count, rows without an id tell at least how many inputs there were.
    let total = if total > 0 { total } else { found.without_id() };
    let end = found.rows.iter().filter_map(position).map(|last| last + 1).max().unwrap_or(0).max(total);
    let has = |kind: fn(&FoundId) -> bool| found.rows.iter().any(|row| kind(&row.id));
    // No id of a caller's own looks like a default id, nor does one without a position stand beside ones with: what does not
    // fit is a stranger.
    if has(|id| matches!(id, FoundId::At(_))) || !has(|id| matches!(id, FoundId::Named(..))) {
        return GuessedIds { ids: RowIds::Default(end), is_guess: false };
    }
    let named = || found.rows.iter().filter(|row| matches!(row.id, FoundId::Named(..)));
    if has(|id| matches!(id, FoundId::Named(_, Some(_)))) {
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
    // Nobody knows what the inputs without a row are called, or where they stood; but they are not lost.
    names.resize(names.len().max(total as usize), Box::default());
    GuessedIds { ids: RowIds::from_rows(names), is_guess: true }
}

/// Ids in an order that may be only a guess.
pub struct GuessedIds {
    pub ids: RowIds,
    pub is_guess: bool,
}

impl FoundId {
    fn name(&self) -> Option<Box<str>> {
        match self {
            Self::Named(name, _) => Some(name.clone()),
            _ => None,
        }
    }

    /// Which input it answers.
    pub fn index(&self, ids: &RowIds) -> Option<u64> {
        match self {
            Self::At(position) => {
                Some(*position).filter(|position| matches!(ids, RowIds::Default(count) if position < count))
            }
            Self::Named(name, _) => ids.index(name),
            Self::None => None,
        }
    }

    /// The position that the wire tells.
    fn position(&self) -> Option<u64> {
        match self {
            Self::At(position) | Self::Named(_, Some(position)) => Some(*position),
            _ => None,
        }
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
        let id = |id: &str| match (index_of_default(id), id.split_once(':')) {
            _ if id.is_empty() => FoundId::None,
            (Some(position), _) => FoundId::At(position),
            (None, Some((index, name))) => FoundId::Named(name.into(), index.parse().ok()),
            (None, None) => FoundId::Named(id.into(), None),
        };
        let rows = ids.iter().map(|name| FoundRow { id: id(name), offset: 0 }).collect();
        Found { rows, ..Found::default() }
    }

    #[test]
    fn ids_without_holes_need_no_input_file() {
        let ids = |names: &[&str], total| ids_from_results(&found(names), total);
        assert!(matches!(ids(&["llmb-000001", "llmb-000000"], 2), Some(RowIds::Default(2))));
        assert_eq!(ids(&["1:b", "0:a"], 2).unwrap().name(1), "b");
        for (names, total) in [
            (&["llmb-000001", "llmb-000002"][..], 2),
            (&["llmb-000001", "llmb-000000"], 3),
            (&["a", "b"], 2),
            (&["llmb-000000", ""], 2),
            // The largest number there is, beside counts at both ends.
            (&["llmb-18446744073709551615"], 1),
            (&["18446744073709551615:x"], 1),
            (&["llmb-000000"], u64::MAX),
        ] {
            assert!(ids(names, total).is_none(), "{names:?}");
        }
    }

    #[test]
    fn without_input_the_best_order_is_guessed() {
        let ids = |names: &[&str], total| ids_without_input(&found(names), total);
        assert_eq!(ids(&["llmb-000004", "llmb-000000"], 6).ids.len(), 6);
        assert_eq!(ids(&["llmb-000004", "llmb-000000"], 0).ids.len(), 5);
        assert_eq!(ids(&["llmb-000000"], 3).ids.len(), 3);
        assert_eq!(ids(&["llmb-99999999999", "llmb-000000"], 0).ids.len(), 1);
        assert_eq!(ids(&["llmb-18446744073709551615"], 0).ids.len(), 0);
        assert_eq!(ids(&["", ""], 2).ids.len(), 2);
        assert_eq!(ids(&["", ""], 0).ids.len(), 2);
        let beside_a_stranger = ids(&["llmb-000001", "llmb-000000", "stranger"], 2);
        assert_eq!((beside_a_stranger.ids.len(), beside_a_stranger.ids.index("llmb-000001")), (2, Some(1)));
        assert_eq!(ids(&["llmb-000000", "llmb-000090"], 2).ids.len(), 2);
        let keyed = ids(&["2:c", "0:a"], 4);
        assert_eq!((keyed.ids.len(), keyed.ids.index("c"), keyed.is_guess), (4, Some(2), false));
        assert_eq!(ids(&["18446744073709551615:x", "0:a"], 2).ids.len(), 2);
        let custom = ids(&["row-10", "row-9", "row-10"], 0);
        assert_eq!((custom.ids.len(), custom.ids.name(0), custom.is_guess), (2, "row-9".into(), true));
        // The inputs without a row stand at the end, without a name.
        let with_holes = ids(&["row-10", "row-9"], 4).ids;
        assert_eq!((with_holes.len(), with_holes.name(1), with_holes.name(3)), (4, "row-10".into(), String::new()));
        assert_eq!(with_holes.index("row-9"), Some(0));
    }

    #[test]
    fn a_count_is_believed_as_far_as_a_job_and_its_rows_allow() {
        let believed = |total, rows: usize, max_rows| believable(total, &found(&vec!["a"; rows]), max_rows);
        for (total, rows, max_rows) in
            [(0, 0, 50_000), (3, 3, 50_000), (50_000, 0, 50_000), (60_000, 60_000, 50_000), (1_000_000, 0, 10_000_000)]
        {
            assert_eq!(believed(total, rows, max_rows), Some(total));
        }
        for (total, rows, max_rows) in [
            (50_001, 0, 50_000),
            (60_001, 60_000, 50_000),
            (1_000_001, 0, 10_000_000),
            (10_000_001, 3, 10_000_000),
            (1_000_000_000_000_000_000, 2, 10_000_000),
            (u64::MAX, 0, 100_000),
        ] {
            assert_eq!(believed(total, rows, max_rows), None, "{total}");
        }
    }
}
