//! An answer in several messages (or blocks, or parts): the texts that may be the JSON that was asked for, in the order in
//! which they are to be tried.

use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::io::{self, Read};

/// More texts than an answer comes in: bounds the work that a strange reply can cause.
const MAX_STARTS: usize = 1000;

/// For each of `parts`: itself, and the run of parts that together are JSON; after the first also `whole`, since most often
/// all parts are one answer (None if it was cut). An answer in one piece is `whole` alone, and has no parts.
pub fn candidates<'a>(whole: Option<&'a str>, parts: &'a [String]) -> Box<dyn Iterator<Item = Cow<'a, str>> + 'a> {
    if parts.is_empty() {
        return Box::new(whole.map(Cow::Borrowed).into_iter());
    }
    let starts = (0..parts.len()).filter(|at| !parts[*at].trim().is_empty()).take(MAX_STARTS).enumerate();
    Box::new(starts.flat_map(move |(nth, start)| {
        let whole = whole.filter(|_| nth == 0).map(Cow::Borrowed);
        let run = std::iter::once_with(move || run(&parts[start..])).flatten();
        std::iter::once(Cow::Borrowed(parts[start].as_str())).chain(whole).chain(run.map(Cow::Owned))
    }))
}

/// The parts from the first on that are one JSON value only together.
fn run(parts: &[String]) -> Option<String> {
    let reader = io::BufReader::new(Joined { parts, at: 0 });
    let mut values = serde_json::Deserializer::from_reader(reader).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    let (mut end, mut last) = (values.byte_offset(), 0);
    while end > parts[last].len() {
        end -= parts[last].len();
        last += 1;
    }
    let is_whole = parts[last].get(end..).is_some_and(|rest| rest.trim().is_empty());
    (last > 0 && is_whole).then(|| parts[..=last].concat())
}

/// Reads several texts as one, without a copy of all of them.
struct Joined<'a> {
    parts: &'a [String],
    /// Bytes of the first part that were read.
    at: usize,
}

impl Read for Joined<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some((first, rest)) = self.parts.split_first() {
            let mut left = &first.as_bytes()[self.at..];
            if !left.is_empty() {
                let length = left.read(buffer)?;
                self.at += length;
                return Ok(length);
            }
            (self.parts, self.at) = (rest, 0);
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&str]) -> Vec<String> {
        let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
        candidates(Some(&parts.concat()), &parts).map(Cow::into_owned).collect()
    }

    #[test]
    fn each_part_is_tried_and_each_run_of_parts_that_is_json() {
        assert_eq!(candidates(Some("all"), &[]).collect::<Vec<_>>(), ["all"]);
        assert_eq!(of(&["Well:", "[1]"]), ["Well:", "Well:[1]", "[1]"]);
        assert_eq!(of(&["[1", ",2]"]), ["[1", "[1,2]", "[1,2]", ",2]"]);
        assert_eq!(of(&["Well:", "[1", " ", ",2] ", "Bye"])[2..], ["[1", "[1 ,2] ", ",2] ", "Bye"]);
        // Numbers run together, which is not what the first one says.
        assert_eq!(of(&["4", "2"]), ["4", "42", "42", "2"]);
        assert_eq!(of(&["[1", "[1,2]"]), ["[1", "[1[1,2]", "[1,2]"]);
    }

    #[test]
    fn strange_answers_cost_little() {
        let many: Vec<String> = (0..100_000).map(|n| if n % 2 == 0 { "[".into() } else { "1,".into() }).collect();
        assert!(candidates(None, &many).count() <= 2 * MAX_STARTS);
    }
}
