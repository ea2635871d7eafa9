//! JSON lines. Out: a template with two holes, the id and the prompt, so that a row costs one copy and one escape.
//! In: split at `\n` only, since U+2028 and U+0085 are ordinary characters inside a JSON string.

use crate::bounds::LARGE;
use crate::error::{Error, Result};
use crate::json;
use std::io::{self, BufRead, Read};

/// What is read of a line first, at most. In bytes.
const MAX_READ: usize = 1 << 20;

/// A serialized row with a hole for its id and one for its prompt.
#[derive(Debug, Clone)]
pub struct Template {
    head: Vec<u8>,
    middle: Vec<u8>,
    tail: Vec<u8>,
    id_first: bool,
}

impl Template {
    /// Cuts the row that `row_of(id, prompt)` serializes. The two marks are random, so that no text of the caller's can
    /// hold them; each must come out exactly once.
    pub fn new(row_of: impl FnOnce(&str, &str) -> Result<String>) -> Result<Self> {
        let random = || format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let (id, prompt) = (random(), random());
        let row = row_of(&id, &prompt)?;
        let place = |mark: &str| match row.match_indices(mark).map(|(at, _)| at).collect::<Vec<_>>()[..] {
            // The quotes around the mark belong to the hole.
            [at] if at > 0 && at + mark.len() < row.len() => Ok((at - 1, at + mark.len() + 1)),
            _ => Err(Error::configuration(
                "the request cannot be made into a batch row: its id or prompt is not in it exactly once",
            )),
        };
        let (id, prompt) = (place(&id)?, place(&prompt)?);
        let (first, second) = if id < prompt { (id, prompt) } else { (prompt, id) };
        let bytes = row.as_bytes();
        Ok(Self {
            head: bytes[..first.0].to_vec(),
            middle: bytes[first.1..second.0].to_vec(),
            tail: bytes[second.1..].to_vec(),
            id_first: id < prompt,
        })
    }

    /// Appends one row.
    pub fn write(&self, id: &str, prompt: &str, out: &mut Vec<u8>) {
        let (first, second) = if self.id_first { (id, prompt) } else { (prompt, id) };
        out.extend_from_slice(&self.head);
        json_escape_simd::escape_into(first, out);
        out.extend_from_slice(&self.middle);
        json_escape_simd::escape_into(second, out);
        out.extend_from_slice(&self.tail);
    }
}

/// Calls `each` with every non-blank line of `reader` and the offset at which it begins. One buffer for all lines; a
/// last line without `\n` counts. Of a line of more than `longest` bytes, only what its beginning says is given.
pub fn for_each_line(
    mut reader: impl BufRead,
    longest: u64,
    mut each: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let failed = |error: io::Error| Error::disk("Reading rows back", &error);
    let mut line = Vec::new();
    let mut offset = 0;
    loop {
        line.clear();
        // The line end is not counted.
        let limit = longest.saturating_add(1);
        let mut length = reader.by_ref().take(limit).read_until(b'\n', &mut line).map_err(failed)? as u64;
        if length == 0 {
            return Ok(());
        }
        if length == limit && line.last() != Some(&b'\n') {
            length += reader.skip_until(b'\n').map_err(failed)? as u64;
            line.truncate(LARGE);
            line = json::closed(&line).unwrap_or(line);
        }
        let content = trim(&line);
        if !content.is_empty() {
            each(offset, content)?;
        }
        offset += length;
    }
}

/// The line that begins at `offset` of `file`, read with positioned reads only: several threads, and a forked child, may
/// read at once. `buffer` is scratch space; `guess` is how many bytes to read first. None: it has more than `longest` bytes.
pub fn line_at<'b>(
    file: &std::fs::File,
    offset: u64,
    guess: usize,
    longest: u64,
    buffer: &'b mut Vec<u8>,
) -> io::Result<Option<&'b [u8]>> {
    buffer.clear();
    loop {
        let start = buffer.len();
        if start as u64 > longest {
            return Ok(None);
        }
        buffer.resize(start + guess.clamp(512, MAX_READ).max(start), 0);
        let read = read_at(file, &mut buffer[start..], offset + start as u64)?;
        buffer.truncate(start + read);
        if let Some(end) = memchr::memchr(b'\n', &buffer[start..]) {
            buffer.truncate(start + end);
            break;
        }
        if read == 0 {
            break;
        }
    }
    Ok((buffer.len() as u64 <= longest).then(|| trim(buffer)))
}

/// A positioned read, which moves no cursor.
#[cfg(unix)]
pub fn read_at(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

/// A positioned read.
#[cfg(windows)]
pub fn read_at(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

fn trim(line: &[u8]) -> &[u8] {
    line.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn template() -> Template {
        Template::new(|id, prompt| Ok(serde_json::json!({"id": id, "body": {"n": 1, "input": prompt}}).to_string()))
            .unwrap()
    }

    #[test]
    fn a_filled_template_is_what_serde_writes() {
        for prompt in
            ["", "plain", "a \"quote\" \\ back\nslash\t\r\u{8}\u{c}\u{0}\u{1f}\u{7f}", "\u{2028}\u{85} é 漢 😀", "}],"]
        {
            let mut out = Vec::new();
            template().write("id\"1", prompt, &mut out);
            let expected = serde_json::json!({"id": "id\"1", "body": {"n": 1, "input": prompt}}).to_string();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_mark_that_does_not_come_out_once_is_an_error() {
        assert!(Template::new(|id, prompt| Ok(format!("\"{id}{prompt}{prompt}\""))).is_err());
        assert!(Template::new(|id, _| Ok(format!("\"{id}\""))).is_err());
    }

    #[test]
    fn lines_end_at_newline_only_and_are_found_again_by_offset() {
        let text = "{\"a\":\"\u{2028}\u{85}\"}\n\n  \n{\"b\":1}\r\nlast".to_owned() + &"x".repeat(5000);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut lines = Vec::new();
        for_each_line(text.as_bytes(), u64::MAX, |offset, line| {
            lines.push((offset, line.to_vec()));
            Ok(())
        })
        .unwrap();
        assert_eq!(lines.len(), 3);
        let mut buffer = Vec::new();
        for (offset, line) in &lines {
            assert_eq!(line_at(&file, *offset, 0, u64::MAX, &mut buffer).unwrap().unwrap(), line);
        }
    }

    #[test]
    fn of_a_line_that_is_too_long_the_beginning_is_read() {
        let long = format!("{{\"custom_id\":\"a\",\"text\":\"{}\"}}", "x".repeat(200_000));
        let text = format!("{{\"n\":1}}\n{long}\n{{\"n\":2}}\n{long}");
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        // Just too long, and just not.
        for (longest, fits) in [(long.len() as u64 - 1, false), (long.len() as u64, true), (70_000, false)] {
            let mut lines = Vec::new();
            let reader = io::BufReader::with_capacity(1000, text.as_bytes());
            for_each_line(reader, longest, |offset, line| {
                let row: serde_json::Value = serde_json::from_slice(line).unwrap();
                let mut buffer = Vec::new();
                let found = line_at(&file, offset, 0, longest, &mut buffer).unwrap();
                assert_eq!(found.is_some(), fits || row["custom_id"].is_null());
                lines.push((offset, row["n"].as_u64(), row["custom_id"].as_str().map(str::to_owned), line.len()));
                Ok(())
            })
            .unwrap();
            let (first, second) = (8, 8 + long.len() as u64 + 1);
            assert_eq!(lines.iter().map(|line| line.0).collect::<Vec<_>>(), [0, first, second, second + 8]);
            assert_eq!(lines.iter().map(|line| line.1).collect::<Vec<_>>(), [Some(1), None, Some(2), None]);
            assert_eq!(lines[1].2.as_deref(), Some("a"));
            assert_eq!(lines[3].2.as_deref(), Some("a"));
            assert!(lines[1].3 <= if fits { long.len() } else { LARGE + 2 });
        }
    }
}
