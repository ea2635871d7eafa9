//! multipart/form-data, read piece by piece (RFC 7578). Pure: bytes in, events out; the file part is never held whole.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

/// What the reader found next.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A part begins.
    Part { name: String, filename: Option<String> },
    /// Some of its content.
    Data(Bytes),
    /// The last part ended.
    End,
    /// More bytes are needed.
    More,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Preamble,
    Delimiter,
    Headers,
    Content,
    End,
}

/// More header bytes than any client sends for one part.
const HEADER_LIMIT: usize = 16 * 1024;

/// Reads one body.
#[derive(Debug)]
pub struct Reader {
    /// CR LF and two dashes and the boundary: what ends a part.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    state: State,
}

impl Reader {
    /// A reader for the boundary of this Content-Type; `None` if that is not multipart/form-data with a boundary.
    pub fn new(content_type: &str) -> Option<Reader> {
        let (kind, parameters) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameter(parameters, "boundary").filter(|boundary| !boundary.is_empty())?;
        // The first delimiter may stand at the very beginning: give it the line end that all others have.
        Some(Reader {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            buffer: BytesMut::from(&b"\r\n"[..]),
            state: State::Preamble,
        })
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next event, or what is wrong with the body.
    pub fn next(&mut self) -> Result<Event, String> {
        loop {
            match self.state {
                State::Preamble => match memmem::find(&self.buffer, &self.delimiter) {
                    Some(at) => {
                        self.buffer.advance(at + self.delimiter.len());
                        self.state = State::Delimiter;
                    }
                    None => {
                        self.keep_tail();
                        return Ok(Event::More);
                    }
                },
                State::Delimiter => match self.buffer.get(..2) {
                    None => return Ok(Event::More),
                    Some(b"--") => self.state = State::End,
                    Some(b"\r\n") => self.state = State::Headers,
                    Some(_) => {
                        return Err("a boundary is followed by neither a line end nor --".into());
                    }
                },
                // The CR LF of the delimiter line is still there, so that a part without headers ends its headers too.
                State::Headers => match memmem::find(&self.buffer, b"\r\n\r\n") {
                    Some(at) => {
                        let headers = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                        self.buffer.advance(at + 4);
                        self.state = State::Content;
                        return part(&headers);
                    }
                    None if self.buffer.len() > HEADER_LIMIT => {
                        return Err("the headers of a part are too long".into());
                    }
                    None => return Ok(Event::More),
                },
                State::Content => match memmem::find(&self.buffer, &self.delimiter) {
                    Some(0) => {
                        self.buffer.advance(self.delimiter.len());
                        self.state = State::Delimiter;
                    }
                    Some(at) => return Ok(Event::Data(self.buffer.split_to(at).freeze())),
                    None => return Ok(self.keep_tail().map_or(Event::More, Event::Data)),
                },
                State::End => return Ok(Event::End),
            }
        }
    }

    /// Takes all but the bytes that could be the beginning of a delimiter.
    fn keep_tail(&mut self) -> Option<Bytes> {
        let tail = self.delimiter.len() - 1;
        let ready = self.buffer.len().checked_sub(tail).filter(|ready| *ready > 0)?;
        Some(self.buffer.split_to(ready).freeze())
    }
}

fn part(headers: &str) -> Result<Event, String> {
    let disposition = headers.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    let parameters = disposition.and_then(|value| value.split_once(';')).map(|(_, parameters)| parameters);
    let name = parameters.and_then(|parameters| parameter(parameters, "name"));
    match name {
        Some(name) => {
            Ok(Event::Part { name, filename: parameters.and_then(|parameters| parameter(parameters, "filename")) })
        }
        None => Err("a part has no Content-Disposition with a name".into()),
    }
}

/// The value of one `key=value` or `key="value"` of a header.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = end_of_quoted(quoted)?;
                (quoted[..end].replace("\\\"", "\"").replace("%22", "\""), &quoted[end + 1..])
            }
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if key.trim_matches([' ', ';', '\t']).eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = next;
    }
}

fn end_of_quoted(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|&at| bytes[at] == b'"' && (at == 0 || bytes[at - 1] != b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"--B\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--B\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"a b.jsonl\"\r\nContent-Type: application/octet-stream\r\n\r\n\
        one\r\n--Btwo\r\n\r\n--B--\r\n";

    type Part = (String, Option<String>, Vec<u8>);

    fn read(body: &[u8], step: usize) -> Result<Vec<Part>, String> {
        let mut reader = Reader::new("multipart/form-data; boundary=B").unwrap();
        let mut parts = Vec::new();
        let mut pieces = body.chunks(step);
        loop {
            match reader.next()? {
                Event::Part { name, filename } => parts.push((name, filename, Vec::new())),
                Event::Data(data) => parts.last_mut().unwrap().2.extend_from_slice(&data),
                Event::End => return Ok(parts),
                Event::More => reader.push(pieces.next().ok_or("cut")?),
            }
        }
    }

    #[test]
    fn any_split_gives_the_same_parts() {
        let body = BODY.to_vec();
        // "--Btwo" inside a content is a broken delimiter; with a longer boundary it is content.
        assert!(read(&body, 7).unwrap_err().contains("boundary"));
        let body = String::from_utf8(body).unwrap().replace("--Btwo", "-Btwo").into_bytes();
        for step in 1..body.len() {
            let parts = read(&body, step).unwrap();
            assert_eq!(parts[0], ("purpose".into(), None, b"batch".to_vec()), "step {step}");
            assert_eq!(
                parts[1],
                ("file".into(), Some("a b.jsonl".into()), b"one\r\n-Btwo\r\n".to_vec()),
                "step {step}"
            );
        }
        assert_eq!(read(&body[..body.len() - 6], 5), Err("cut".into()));
    }

    #[test]
    fn content_type_must_name_a_boundary() {
        assert!(Reader::new("multipart/form-data").is_none());
        assert!(Reader::new("application/json; boundary=x").is_none());
        assert!(Reader::new("multipart/form-data; charset=utf-8; boundary=\"x y\"").is_some());
    }
}
