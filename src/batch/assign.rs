//! Which result row answers which input: by its id, and where it has lost that, by what else there is to tell.

use super::ids::RowIds;
use super::order::{Found, FoundId};
use crate::error::Result;

/// The offset of an input without a row.
pub const NO_ROW: u64 = u64::MAX;

/// One offset for every input, and what is left.
#[derive(Debug)]
pub struct Assigned {
    pub offsets: Vec<u64>,
    /// Rows with ids that this batch never sent.
    pub unknown_ids: u64,
    pub without_id: WithoutId,
}

/// What became of the rows that have lost their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutId {
    NoSuchRow,
    /// All rows have lost them, and are as many as the inputs: taken in their order.
    InOrder(u64),
    /// One row, taken for this input, the only one that was left.
    Only(u64),
    /// So many rows that may answer any input.
    Unassigned(u64),
}

/// Finds the row of each input. Where several answer for one input, the last that `is_answer` wins. `count_is_known`: there
/// are as many inputs as `ids`, and that is not only what the rows themselves tell.
pub fn assign(
    found: &Found,
    ids: &RowIds,
    count_is_known: bool,
    mut is_answer: impl FnMut(u64) -> Result<bool>,
) -> Result<Assigned> {
    let mut offsets = vec![NO_ROW; ids.len() as usize];
    let mut unknown_ids = 0;
    for row in found.rows.iter().filter(|row| !matches!(row.id, FoundId::None)) {
        let Some(place) = row.id.index(ids).and_then(|index| offsets.get_mut(index as usize)) else {
            unknown_ids += 1;
            continue;
        };
        if *place == NO_ROW || is_answer(row.offset)? || !is_answer(*place)? {
            *place = row.offset;
        }
    }
    let without_id = place_rows_without_id(found, count_is_known, &mut offsets);
    Ok(Assigned { offsets, unknown_ids, without_id })
}

fn place_rows_without_id(found: &Found, count_is_known: bool, offsets: &mut [u64]) -> WithoutId {
    let rows = || found.rows.iter().filter(|row| matches!(row.id, FoundId::None));
    let count = found.without_id();
    let Some(first) = rows().next() else { return WithoutId::NoSuchRow };
    let mut open = offsets.iter().enumerate().filter(|(_, offset)| **offset == NO_ROW).map(|(index, _)| index);
    if let (true, 1, Some(index), None) = (count_is_known, count, open.next(), open.next()) {
        offsets[index] = first.offset;
        return WithoutId::Only(index as u64);
    }
    // The rows of two files have no order among each other.
    if count_is_known && count == offsets.len() as u64 && count == found.rows.len() as u64 && found.files <= 1 {
        offsets.iter_mut().zip(rows()).for_each(|(offset, row)| *offset = row.offset);
        return WithoutId::InOrder(count);
    }
    WithoutId::Unassigned(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::order::FoundRow;

    /// Rows at 0, 10, 20 ...; a number is a default id, "" none.
    fn found(ids: &[&str]) -> Found {
        let id = |id: &str| match id.parse() {
            Ok(position) => FoundId::At(position),
            Err(_) if id.is_empty() => FoundId::None,
            Err(_) => FoundId::Named(id.into(), None),
        };
        let rows = ids.iter().enumerate().map(|(i, name)| FoundRow { id: id(name), offset: 10 * i as u64 });
        Found { rows: rows.collect(), files: 1, ..Found::default() }
    }

    /// Where the rows of `count` inputs are; "-": nowhere.
    fn places(ids: &[&str], count: u64) -> (String, WithoutId) {
        places_among(&found(ids), count, true)
    }

    fn places_among(found: &Found, count: u64, count_is_known: bool) -> (String, WithoutId) {
        let assigned = assign(found, &RowIds::Default(count), count_is_known, |_| Ok(true)).unwrap();
        let place = |offset: &u64| if *offset == NO_ROW { "-".to_owned() } else { (offset / 10).to_string() };
        (assigned.offsets.iter().map(place).collect::<Vec<_>>().join(" "), assigned.without_id)
    }

    #[test]
    fn as_many_rows_as_inputs_and_no_id_are_taken_in_order() {
        assert_eq!(places(&["", "", ""], 3), ("0 1 2".into(), WithoutId::InOrder(3)));
        assert_eq!(places(&[""], 1), ("0".into(), WithoutId::Only(0)));
        for (ids, count) in [(&["", ""][..], 3), (&["", "", "", ""], 3), (&[""], 3), (&["", ""], 1)] {
            let (found, without_id) = places(ids, count);
            assert_eq!(without_id, WithoutId::Unassigned(ids.len() as u64), "{ids:?}");
            assert!(found.split(' ').all(|place| place == "-"), "{found}");
        }
    }

    #[test]
    fn one_row_without_an_id_is_that_of_the_only_input_left() {
        assert_eq!(places(&["2", "", "0"], 3), ("2 1 0".into(), WithoutId::Only(1)));
        // Duplicates and unknown ids change nothing in that.
        assert_eq!(places(&["2", "2", "", "0"], 3), ("3 2 1".into(), WithoutId::Only(1)));
        assert_eq!(places(&["2", "stranger", "", "0"], 3), ("3 2 0".into(), WithoutId::Only(1)));
    }

    #[test]
    fn rows_without_ids_that_do_not_fit_answer_nobody() {
        assert_eq!(places(&["0", "", ""], 3), ("0 - -".into(), WithoutId::Unassigned(2)));
        assert_eq!(places(&["0", "0", ""], 3), ("1 - -".into(), WithoutId::Unassigned(1)));
        assert_eq!(places(&["0", "1", "2", ""], 3), ("0 1 2".into(), WithoutId::Unassigned(1)));
        // As many rows as inputs, but not all without an id.
        assert_eq!(places(&["", "stranger", ""], 3), ("- - -".into(), WithoutId::Unassigned(2)));
        assert_eq!(places(&["0", "1"], 3), ("0 1 -".into(), WithoutId::NoSuchRow));
    }

    #[test]
    fn two_files_have_no_order_and_rows_do_not_tell_how_many_inputs_there_were() {
        let two_files = Found { files: 2, ..found(&["", "", ""]) };
        assert_eq!(places_among(&two_files, 3, true), ("- - -".into(), WithoutId::Unassigned(3)));
        assert_eq!(places_among(&found(&["", ""]), 2, false), ("- -".into(), WithoutId::Unassigned(2)));
        assert_eq!(places_among(&found(&["0", "", "2"]), 3, false), ("0 - 2".into(), WithoutId::Unassigned(1)));
    }
}
