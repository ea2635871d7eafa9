//! The ids of a batch's rows. A default id carries the position, so that order survives on any machine.

use crate::error::{Error, Result};
use crate::providers::BatchApi;
use std::cmp::Ordering;
use std::collections::HashMap;

const PREFIX: &str = "llmb-";
const LEAST_DIGITS: usize = 6;

/// The default id of the row at `index`.
pub fn default_id(index: u64) -> String {
    format!("{PREFIX}{index:0LEAST_DIGITS$}")
}

/// The position that a default id carries; None if `id` is not one.
pub fn index_of_default(id: &str) -> Option<u64> {
    let digits = id.strip_prefix(PREFIX).filter(|digits| digits.len() >= LEAST_DIGITS)?;
    let index = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
    // Longer numbers have no leading zeros: one id for each position.
    (default_id(index) == id).then_some(index)
}

/// Which row an id belongs to.
#[derive(Debug)]
pub enum RowIds {
    /// Default ids, this many.
    Default(u64),
    Custom {
        names: Vec<Box<str>>,
        index: HashMap<Box<str>, u32>,
    },
}

impl RowIds {
    /// The caller's own ids, checked: not empty, distinct, and none that looks like a default id.
    pub fn custom(names: Vec<Box<str>>, api: Option<&dyn BatchApi>) -> Result<Self> {
        let wrong =
            |i: usize, what: String| Err(Error::configuration(format!("batch_options[\"custom_ids\"][{i}] {what}")));
        let mut index: HashMap<Box<str>, u32> = HashMap::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            if name.trim().is_empty() {
                return wrong(i, "is empty; an id needs at least one character".into());
            }
            if let Some(Err(error)) = api.map(|api| api.check_custom_id(name)) {
                return Err(error.about(&format!("batch_options[\"custom_ids\"][{i}]")));
            }
            if index_of_default(name).is_some() {
                return wrong(
                    i,
                    format!("is '{name}', which looks like a default id and could take another row's place"),
                );
            }
            if let Some(first) = index.insert(name.clone(), i as u32) {
                return wrong(i, format!("is '{name}', like custom_ids[{first}]; ids must be distinct"));
            }
        }
        Ok(Self::Custom { names, index })
    }

    /// The ids of `count` inputs: the caller's own, which must be as many, or the default ones.
    pub fn for_inputs(custom: Option<Self>, count: u64) -> Result<Self> {
        match custom {
            Some(ids) if ids.len() != count => Err(Error::configuration(format!(
                "batch_options[\"custom_ids\"] holds {} ids for {count} inputs; give one for each",
                ids.len()
            ))),
            custom => Ok(custom.unwrap_or(Self::Default(count))),
        }
    }

    /// The ids of a batch that another process made, in the order of its input rows.
    pub fn from_rows(names: Vec<Box<str>>) -> Self {
        let mut indexes = names.iter().map(|name| index_of_default(name)).enumerate();
        if indexes.all(|(i, index)| index == Some(i as u64)) {
            return Self::Default(names.len() as u64);
        }
        let index = names.iter().enumerate().map(|(i, name)| (name.clone(), i as u32)).collect();
        Self::Custom { names, index }
    }

    pub fn len(&self) -> u64 {
        match self {
            Self::Default(count) => *count,
            Self::Custom { names, .. } => names.len() as u64,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn name(&self, index: u64) -> String {
        match self {
            Self::Default(_) => default_id(index),
            Self::Custom { names, .. } => names.get(index as usize).map_or_else(String::new, |name| name.to_string()),
        }
    }

    pub fn index(&self, name: &str) -> Option<u64> {
        match self {
            Self::Default(count) => index_of_default(name).filter(|index| index < count),
            Self::Custom { index, .. } => index.get(name).map(|index| u64::from(*index)),
        }
    }
}

/// The order of a person: runs of digits compare as numbers, so that `row-10` comes after `row-9`.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a_rest, mut b_rest) = (a, b);
    loop {
        let ((a_piece, a_next), (b_piece, b_next)) = (next_run(a_rest), next_run(b_rest));
        if a_piece.is_empty() || b_piece.is_empty() {
            return a_piece.len().cmp(&b_piece.len()).then_with(|| a.cmp(b));
        }
        let order = match (a_piece.as_bytes()[0].is_ascii_digit(), b_piece.as_bytes()[0].is_ascii_digit()) {
            (true, true) => compare_numbers(a_piece, b_piece),
            _ => a_piece.cmp(b_piece),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a_rest, b_rest) = (a_next, b_next);
    }
}

/// The first run of digits or of other characters, and the rest.
fn next_run(text: &str) -> (&str, &str) {
    let is_digit = |c: char| c.is_ascii_digit();
    let Some(first) = text.chars().next() else { return ("", "") };
    let end = text.find(|c| is_digit(c) != is_digit(first)).unwrap_or(text.len());
    text.split_at(end)
}

fn compare_numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::settings::Settings;

    #[test]
    fn a_default_id_carries_its_position_and_nothing_else_does() {
        for index in [0, 7, 999_999, 1_000_000, 12_345_678] {
            assert_eq!(index_of_default(&default_id(index)), Some(index));
        }
        for other in
            ["llmb-1", "llmb-00000x", "llmb-0000001", "llmb-+00001", "x-000001", "llmb-99999999999999999999999"]
        {
            assert_eq!(index_of_default(other), None, "{other}");
        }
    }

    #[test]
    fn custom_ids_are_checked() {
        let settings = Settings::new(Default::default(), |name| (name == "OPENAI_API_KEY").then(|| "k".into()));
        let (_, provider) = crate::providers::open("openai", settings).unwrap();
        let custom = |names: &[&str]| {
            RowIds::custom(names.iter().map(|name| Box::from(*name)).collect(), Some(provider.batches()))
        };
        assert_eq!(custom(&["b", "a"]).unwrap().index("a"), Some(1));
        for (names, said) in [(["a", "a"], "distinct"), (["a", " "], "empty"), (["a", "llmb-000003"], "looks like")] {
            let message = custom(&names).unwrap_err().to_string();
            assert!(message.contains("[1]") && message.contains(said), "{message}");
        }
    }

    #[test]
    fn numbers_in_ids_count_as_numbers() {
        let mut ids = ["row-10", "row-9", "row-09b", "a", "row-", "row-9a", "10", "9"];
        ids.sort_by(|a, b| natural_order(a, b));
        assert_eq!(ids, ["9", "10", "a", "row-", "row-9", "row-9a", "row-09b", "row-10"]);
    }
}
