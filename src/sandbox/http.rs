//! Replies and bodies, whatever the provider.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// The body of a reply: bytes, or a file read piece by piece.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;
pub type Reply = Response<Body>;

const PIECE: usize = 256 * 1024;

/// A reply of given bytes.
pub fn bytes(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into()).map_err(|never| match never {});
    let mut reply = Response::new(body.boxed_unsync());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A JSON reply.
pub fn json(status: StatusCode, value: &Value) -> Reply {
    // A Value has only string keys and finite numbers: there is nothing that could fail.
    let body = serde_json::to_vec(value).unwrap_or_default();
    bytes(status, "application/json", body)
}

/// `length` bytes of a file from `start` on, read as the client takes them.
async fn file(status: StatusCode, path: &Path, start: u64, length: u64) -> io::Result<Reply> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(io::SeekFrom::Start(start)).await?;
    let pieces = stream::unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE.min(left as usize));
        match (&mut file).take(left.min(PIECE as u64)).read_to_end(&mut piece).await {
            Ok(0) => Some((Err(io::ErrorKind::UnexpectedEof.into()), (file, 0))),
            Ok(read) => Some((Ok(Frame::data(piece.into())), (file, left - read as u64))),
            Err(error) => Some((Err(error), (file, 0))),
        }
    });
    let mut reply = Response::new(StreamBody::new(pieces).boxed_unsync());
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(reply)
}

/// A file of `size` bytes, or the part of it that the request's `Range` asks for. `None`: there is no such part.
pub async fn download(parts: &Parts, path: &Path, size: u64) -> io::Result<Option<Reply>> {
    let (status, start, length) = match range(parts.headers.get(RANGE), size) {
        Range::All => (StatusCode::OK, 0, size),
        Range::Part(start, length) => (StatusCode::PARTIAL_CONTENT, start, length),
        Range::Unsatisfiable => return Ok(None),
    };
    let mut reply = file(status, path, start, length).await?;
    reply.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        set_header(&mut reply, CONTENT_RANGE.as_str(), &format!("bytes {start}-{}/{size}", start + length - 1));
    }
    Ok(Some(reply))
}

/// Sets a header whose value is text of our own making.
pub fn set_header(reply: &mut Reply, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

/// What happens in the middle of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The connection is closed.
    Close,
    /// Nothing comes any more.
    Stall,
}

/// The same reply, with a Content-Length that promises all, but half of the body.
pub fn cut(reply: Reply, at: Break) -> Reply {
    let (mut parts, body) = reply.into_parts();
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let length: u64 = announced.or(body.size_hint().exact()).unwrap_or(0);
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length.max(1)));
    let pieces = stream::unfold((body, length / 2), move |(mut body, left)| async move {
        if left == 0 {
            // hyper sends what it has while this waits; an error at once would throw it away.
            tokio::time::sleep(Duration::from_millis(20)).await;
            if at == Break::Stall {
                std::future::pending::<()>().await;
            }
            return Some((Err(io::ErrorKind::ConnectionAborted.into()), (body, 0)));
        }
        let mut data = match body.frame().await?.map(Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(_)) => return None,
            Err(error) => return Some((Err(error), (body, 0))),
        };
        data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - data.len() as u64;
        Some((Ok(Frame::data(data)), (body, left)))
    });
    Response::from_parts(parts, StreamBody::new(pieces).boxed_unsync())
}

/// A header's value; an absent or unreadable one is empty.
pub fn header<'a>(parts: &'a Parts, name: &str) -> &'a str {
    parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// The value of one query parameter; an empty one counts as absent.
pub fn query<'a>(parts: &'a Parts, name: &str) -> Option<Cow<'a, str>> {
    let pairs = parts.uri.query()?.split('&');
    let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
    let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
    (!value.is_empty()).then_some(value)
}

/// One segment of a path without its percent signs.
pub fn decode(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// Why a request body could not be read.
#[derive(Debug)]
pub enum Unreadable {
    TooLarge,
    Broken,
}

/// The whole body, at most `limit` bytes. A longer one is read to its end.
pub async fn read_all(mut body: Incoming, limit: usize) -> Result<Bytes, Unreadable> {
    match Limited::new(&mut body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            drain(body).await;
            Err(Unreadable::TooLarge)
        }
        Err(_) => Err(Unreadable::Broken),
    }
}

/// Reads a body to its end and forgets it: a client that is still sending would not see an early reply.
pub async fn drain(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// Which bytes a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    All,
    /// First byte and length.
    Part(u64, u64),
    Unsatisfiable,
}

/// Reads `bytes=a-b`, `bytes=a-` and `bytes=-n`. Anything else, several ranges among it, means all (RFC 9110 allows that).
fn range(header: Option<&HeaderValue>, size: u64) -> Range {
    let text = header.and_then(|value| value.to_str().ok());
    let Some((first, last)) = text.and_then(|text| text.strip_prefix("bytes=")?.split_once('-')) else {
        return Range::All;
    };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), last) => {
            if last.is_err() && !last_is_open(text) {
                return Range::All;
            }
            let last = last.unwrap_or(u64::MAX).min(size.saturating_sub(1));
            if first >= size || last < first {
                return Range::Unsatisfiable;
            }
            Range::Part(first, last - first + 1)
        }
        (Err(_), Ok(count)) if first.trim().is_empty() => match count.min(size) {
            0 => Range::Unsatisfiable,
            count => Range::Part(size - count, count),
        },
        _ => Range::All,
    }
}

fn last_is_open(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.trim_end().ends_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges() {
        let read = |text: &'static str| range(Some(&HeaderValue::from_static(text)), 100);
        assert_eq!(range(None, 100), Range::All);
        assert_eq!(read("bytes=0-9"), Range::Part(0, 10));
        assert_eq!(read("bytes=90-"), Range::Part(90, 10));
        assert_eq!(read("bytes=90-500"), Range::Part(90, 10));
        assert_eq!(read("bytes=-5"), Range::Part(95, 5));
        assert_eq!(read("bytes=100-"), Range::Unsatisfiable);
        assert_eq!(read("bytes=0-1,5-6"), Range::All);
        assert_eq!(read("lines=1-2"), Range::All);
    }
}
