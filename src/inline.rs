//! Result rows that come inside a job's state (Gemini's `inlinedResponses`), taken out of it while it arrives: a state with
//! hundreds of megabytes of them is never in memory.

use crate::error::Result;

/// As deep as a list of rows can be: `operations[].metadata.output.inlinedResponses.inlinedResponses`.
const MAX_LEVELS: usize = 6;
/// The longest key that matters, each of its characters written as `\uXXXX`.
const MAX_KEY: usize = 6 * "inlinedResponses".len();

/// Where the rows go.
pub trait RowSink: Send {
    /// A reply begins; what an earlier one brought is void.
    fn restart(&mut self);
    /// A list of rows begins.
    fn begin(&mut self) -> Result<()>;
    /// A part of a row, without line breaks.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    fn end_row(&mut self) -> Result<()>;
    /// The list is over. A state may hold the same rows twice; those of `response` are the better ones.
    fn end(&mut self, is_response: bool) -> Result<()>;
}

/// Rows that nobody needs: those in a list of jobs.
pub struct DiscardRows;

impl RowSink for DiscardRows {
    fn restart(&mut self) {}
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }
    fn write(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }
    fn end_row(&mut self) -> Result<()> {
        Ok(())
    }
    fn end(&mut self, _is_response: bool) -> Result<()> {
        Ok(())
    }
}

/// A key on the way to rows, or what else an open level is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Operations,
    Metadata,
    Response,
    Output,
    Inlined,
    Other,
    /// The level is a list.
    Item,
}

impl Key {
    /// `raw` is what stands between the quotes.
    fn of(raw: &[u8]) -> Self {
        let quoted = [b"\"", raw, b"\""].concat();
        match serde_json::from_slice::<String>(&quoted).as_deref() {
            Ok("operations") => Self::Operations,
            Ok("metadata") => Self::Metadata,
            Ok("response") => Self::Response,
            Ok("output") => Self::Output,
            Ok("inlinedResponses") => Self::Inlined,
            _ => Self::Other,
        }
    }
}

/// Where in a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

/// Splits the JSON of a state, which comes in pieces, into rows and the rest: the same JSON with empty lists for the rows.
pub struct Splitter {
    depth: usize,
    /// The outermost levels that are open.
    path: Vec<Key>,
    text: Text,
    /// The last string of the rest, as it is written; longer ones are no key that matters.
    string: Vec<u8>,
    row: Option<Row>,
}

/// Inside a list of rows.
struct Row {
    is_response: bool,
    depth: usize,
    text: Text,
    /// Something of the row has come.
    has_begun: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Self { depth: 0, path: Vec::new(), text: Text::Outside, string: Vec::new(), row: None }
    }
}

impl Splitter {
    /// Adds the next piece: the rest of it to `rest`, rows to `rows`.
    pub fn push(&mut self, mut piece: &[u8], rest: &mut Vec<u8>, rows: &mut dyn RowSink) -> Result<()> {
        while !piece.is_empty() {
            let taken = match &mut self.row {
                Some(row) => {
                    let (taken, is_over) = row.push(piece, rows)?;
                    if is_over {
                        self.row = None;
                    }
                    taken
                }
                None => self.push_rest(piece, rest, rows)?,
            };
            piece = &piece[taken..];
        }
        Ok(())
    }

    /// Copies what is no row, up to the next place that means something; returns its length.
    fn push_rest(&mut self, piece: &[u8], rest: &mut Vec<u8>, rows: &mut dyn RowSink) -> Result<usize> {
        let taken = match self.text {
            Text::Outside => piece.iter().position(|byte| b"\"{}[],:".contains(byte)).map_or(piece.len(), |at| at + 1),
            Text::Inside => memchr::memchr2(b'"', b'\\', piece).map_or(piece.len(), |at| at + 1),
            Text::Escaped => 1,
        };
        let taken_bytes = &piece[..taken];
        rest.extend_from_slice(taken_bytes);
        let last = taken_bytes[taken - 1];
        if self.text == Text::Outside {
            self.at_token(last, rows)?;
            return Ok(taken);
        }
        let ends = self.text == Text::Inside && last == b'"';
        let room = (MAX_KEY + 1).saturating_sub(self.string.len());
        let content = &taken_bytes[..taken - usize::from(ends)];
        self.string.extend_from_slice(&content[..content.len().min(room)]);
        self.text = match (self.text, last) {
            (Text::Inside, b'"') => Text::Outside,
            (Text::Inside, b'\\') => Text::Escaped,
            _ => Text::Inside,
        };
        Ok(taken)
    }

    fn at_token(&mut self, token: u8, rows: &mut dyn RowSink) -> Result<()> {
        match token {
            b'"' => {
                self.text = Text::Inside;
                self.string.clear();
            }
            b':' => self.set_key(Key::of(&self.string)),
            b',' => self.set_key(Key::Other),
            b'{' => self.open(Key::Other),
            b'[' => {
                if let Some(is_response) = self.rows_begin() {
                    rows.begin()?;
                    self.row = Some(Row { is_response, depth: 0, text: Text::Outside, has_begun: false });
                }
                self.open(Key::Item);
            }
            b'}' | b']' => {
                if self.path.len() == self.depth {
                    self.path.pop();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, key: Key) {
        if self.path.len() == self.depth && self.depth < MAX_LEVELS {
            self.path.push(key);
        }
        self.depth += 1;
    }

    /// The key whose value comes next, where the innermost level is an object.
    fn set_key(&mut self, key: Key) {
        if self.path.len() == self.depth {
            if let Some(known) = self.path.last_mut().filter(|known| **known != Key::Item) {
                *known = key;
            }
        }
    }

    /// Whether a list that opens here holds rows; and if so, whether those of the response.
    fn rows_begin(&self) -> Option<bool> {
        if self.path.len() != self.depth {
            return None;
        }
        let job = match &self.path[..] {
            [Key::Operations, Key::Item, job @ ..] | job => job,
        };
        let ([place @ .., Key::Inlined, Key::Inlined] | [place @ .., Key::Inlined]) = job else { return None };
        match place {
            [Key::Response] => Some(true),
            [Key::Output] | [Key::Metadata, Key::Output] => Some(false),
            _ => None,
        }
    }
}

impl Row {
    /// Takes rows from the start of `piece`: how many bytes, and whether the list is over. The bracket that ends it is left.
    fn push(&mut self, piece: &[u8], rows: &mut dyn RowSink) -> Result<(usize, bool)> {
        if self.text != Text::Outside {
            return Ok((self.push_text(piece, rows)?, false));
        }
        let at = piece.iter().position(|byte| b"\"{}[],\n\r".contains(byte)).unwrap_or(piece.len());
        let plain = if self.has_begun { &piece[..at] } else { piece[..at].trim_ascii_start() };
        self.write(plain, rows)?;
        let Some(&token) = piece.get(at) else { return Ok((at, false)) };
        match token {
            b'}' | b']' if self.depth == 0 => {
                self.end_row(rows)?;
                rows.end(self.is_response)?;
                return Ok((at, true));
            }
            b',' if self.depth == 0 => self.end_row(rows)?,
            // A row becomes a line.
            b'\n' | b'\r' => {}
            _ => {
                match token {
                    b'"' => self.text = Text::Inside,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth -= 1,
                    _ => {}
                }
                self.write(&[token], rows)?;
            }
        }
        Ok((at + 1, false))
    }

    /// Takes a part of a string. A line break in it is no JSON, but does no harm either: see `json.rs`.
    fn push_text(&mut self, piece: &[u8], rows: &mut dyn RowSink) -> Result<usize> {
        if self.text == Text::Escaped {
            self.text = Text::Inside;
            self.write(if piece[0] == b'\n' { b"n" } else { &piece[..1] }, rows)?;
            return Ok(1);
        }
        let Some(at) = memchr::memchr3(b'"', b'\\', b'\n', piece) else {
            self.write(piece, rows)?;
            return Ok(piece.len());
        };
        self.write(&piece[..at], rows)?;
        match piece[at] {
            b'\n' => self.write(b"\\n", rows)?,
            other => {
                self.text = if other == b'"' { Text::Outside } else { Text::Escaped };
                self.write(&[other], rows)?;
            }
        }
        Ok(at + 1)
    }

    fn write(&mut self, bytes: &[u8], rows: &mut dyn RowSink) -> Result<()> {
        self.has_begun |= !bytes.is_empty();
        if bytes.is_empty() { Ok(()) } else { rows.write(bytes) }
    }

    fn end_row(&mut self, rows: &mut dyn RowSink) -> Result<()> {
        if std::mem::take(&mut self.has_begun) { rows.end_row() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[derive(Default)]
    struct Lists(Vec<(Vec<String>, bool)>, Vec<u8>);

    impl RowSink for Lists {
        fn restart(&mut self) {
            self.0.clear();
        }
        fn begin(&mut self) -> Result<()> {
            self.0.push(Default::default());
            Ok(())
        }
        fn write(&mut self, bytes: &[u8]) -> Result<()> {
            self.1.extend_from_slice(bytes);
            Ok(())
        }
        fn end_row(&mut self) -> Result<()> {
            let row = String::from_utf8(std::mem::take(&mut self.1)).unwrap();
            self.0.last_mut().unwrap().0.push(row);
            Ok(())
        }
        fn end(&mut self, is_response: bool) -> Result<()> {
            self.0.last_mut().unwrap().1 = is_response;
            Ok(())
        }
    }

    /// The rest, and the lists of rows.
    fn split_in(text: &str, size: usize) -> (String, Vec<(Vec<String>, bool)>) {
        let (mut splitter, mut rest, mut lists) = (Splitter::default(), Vec::new(), Lists::default());
        text.as_bytes().chunks(size).for_each(|piece| splitter.push(piece, &mut rest, &mut lists).unwrap());
        (String::from_utf8(rest).unwrap(), lists.0)
    }

    fn split(text: &str) -> (String, Vec<(Vec<String>, bool)>) {
        let whole = split_in(text, text.len().max(1));
        for size in [1, 2, 3, 7] {
            assert_eq!(split_in(text, size), whole, "pieces of {size}");
        }
        whole
    }

    fn rows(texts: &[&str], is_response: bool) -> Vec<(Vec<String>, bool)> {
        vec![(texts.iter().map(|text| (*text).to_owned()).collect(), is_response)]
    }

    #[test]
    fn rows_leave_the_state_from_each_place_that_is_seen() {
        for (head, tail, is_response) in [
            (r#"{"name":"batches/a","response":{"inlinedResponses":{"inlinedResponses":["#, "]}}}", true),
            (r#"{"response":{"inlinedResponses":["#, "]}}", true),
            (r#"{"metadata":{"output":{"inlinedResponses":{"inlinedResponses":["#, "]}}}}", false),
            (r#"{"output":{"x":[1,{"y":"}]"}],"inlinedResponses":["#, r#"],"z":"]"}}"#, false),
            (r#"{"operations":[{"done":true},{"response":{"inlined\u0052esponses":["#, "]}}]}", true),
        ] {
            let (rest, lists) = split(&format!("{head} {{\"a\":[\"x,]}}\\\"\"]}} , {{}},7{tail}"));
            assert_eq!(rest, format!("{head}{tail}"));
            assert_eq!(lists, rows(&[r#"{"a":["x,]}\""]} "#, "{}", "7"], is_response));
        }
    }

    #[test]
    fn a_row_becomes_one_line_however_it_is_written() {
        let text = "{\"response\": {\"inlinedResponses\": [\n  {\n\"a\": \"b\nc\\\nd\u{2028}é\"\r\n},\n\n {\"b\" : 1e5}\n ] }}";
        let (rest, lists) = split(text);
        assert_eq!(rest, r#"{"response": {"inlinedResponses": [] }}"#);
        assert_eq!(lists, rows(&["{\"a\": \"b\\nc\\nd\u{2028}é\"}", r#"{"b" : 1e5} "#], true));
        for row in &lists[0].0 {
            assert!(serde_json::from_str::<Value>(row).is_ok(), "{row}");
        }
    }

    #[test]
    fn the_same_name_elsewhere_is_none_of_our_business() {
        for state in [
            json!({"metadata": {"inputConfig": {"inlinedResponses": [1, 2]}}}),
            json!({"inlinedResponses": [1]}),
            json!({"response": {"inlinedResponses": {"other": [1]}}}),
            json!({"response": {"text": "\"inlinedResponses\":[1]", "list": [["inlinedResponses", [1]]]}}),
            json!({"response": [{"inlinedResponses": [1]}]}),
            json!({"a": {"b": {"c": {"d": {"e": {"f": {"response": {"inlinedResponses": [1]}}}}}}}}),
            json!({"response": {"inlinedResponses": null}, "metadata": {"output": {"inlinedResponses": {}}}}),
        ] {
            let text = state.to_string();
            assert_eq!(split(&text), (text.clone(), Vec::new()));
        }
    }

    #[test]
    fn what_is_no_json_passes_as_it_is() {
        for text in ["", "<html>[{\"", "]]}}\"", "{\"a\":", "\"\\"] {
            assert_eq!(split(text), (text.to_owned(), Vec::new()));
        }
        assert_eq!(split(&"[".repeat(10_000)).0.len(), 10_000);
    }

    #[test]
    fn an_empty_list_has_no_rows() {
        assert_eq!(split(r#"{"response":{"inlinedResponses":[ ]}}"#).1, rows(&[], true));
    }
}
