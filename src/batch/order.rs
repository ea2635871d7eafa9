//! Which input a row of results answers, and in what order the inputs stood: found again from the rows' ids alone where
//! another process made the batch.

use super::ids::{RowIds, default_id, index_of_default, natural_order};
use crate::bounds::MAX_LINE;
use crate::error::{Error, Result};
use crate::jsonl;
use crate::providers::{BatchApi, RowId};
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

/// The ids of a batch, and whether their order is only a guess.
pub struct Order {
    pub ids: Arc<RowIds>,
    pub is_guessed: bool,
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
    /// A row without an id answers nobody; its input will count as missing.
    None,
}

/// The rows of result files, not yet in order.
pub type Found = Vec<FoundRow>;

/// Finds the rows of `file`.
pub fn find_rows(api: &dyn BatchApi, file: &File) -> Result<Found> {
    let mut found = Found::new();
    let reader = file.try_clone().map_err(|error| Error::disk("Reading results", &error))?;
    let reader = BufReader::with_capacity(1 << 18, Rewound::new(reader));
    jsonl::for_each_line(reader, MAX_LINE, |offset, line| {
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
    // A strange position must not make a list of millions: the provider's count bounds it, and where that is nothing, the rows.
    let most = most.min(if total > 0 { total.max(found.len() as u64) } else { found.len() as u64 * 2 + 1000 });
    let position = |row: &FoundRow| match row.id {
        FoundId::At(position) | FoundId::Named(_, Some(position)) => Some(position).filter(|position| *position < most),
        _ => None,
    };
    let end = found.iter().filter_map(position).map(|last| last + 1).max().unwrap_or(0).max(total.min(most));
    let has = |kind: fn(&FoundId) -> bool| found.iter().any(|row| kind(&row.id));
    // No id of a caller's own looks like a default id, nor does one without a position stand beside ones with: what does not
    // fit is a stranger.
    if has(|id| matches!(id, FoundId::At(_))) || !has(|id| matches!(id, FoundId::Named(..))) {
        return GuessedIds { ids: RowIds::Default(end), is_guess: false };
    }
    let named = || found.iter().filter(|row| matches!(row.id, FoundId::Named(..)));
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
        assert_eq!(ids(&["llmb-000004", "llmb-000000"], 6).ids.len(), 6);
        assert_eq!(ids(&["llmb-000004", "llmb-000000"], 0).ids.len(), 5);
        assert_eq!(ids(&["llmb-000000"], 3).ids.len(), 3);
        assert_eq!(ids(&["llmb-99999999999", "llmb-000000"], 0).ids.len(), 1);
        let beside_a_stranger = ids(&["llmb-000001", "llmb-000000", "stranger"], 2);
        assert_eq!((beside_a_stranger.ids.len(), beside_a_stranger.ids.index("llmb-000001")), (2, Some(1)));
        assert_eq!(ids(&["llmb-000000", "llmb-000090"], 2).ids.len(), 2);
        let keyed = ids(&["2:c", "0:a"], 4);
        assert_eq!((keyed.ids.len(), keyed.ids.index("c"), keyed.is_guess), (4, Some(2), false));
        let custom = ids(&["row-10", "row-9", "row-10"], 9);
        assert_eq!((custom.ids.len(), custom.ids.name(0), custom.is_guess), (2, "row-9".into(), true));
    }
}
