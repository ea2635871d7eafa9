//! Gemini's resumable upload: a start, then chunks to the address that its answer names.

use super::{Gemini, NAME};
use crate::error::{Error, Result};
use crate::exchange::{Body, Method, Request, Response};
use crate::json;
use crate::providers::{Rows, Upload, errors};
use serde_json::json;

/// What the server wants chunks to be a multiple of.
const CHUNK: u64 = 8 * 1024 * 1024;
/// A chunk whose answer has no status is sent again, as google-genai does.
const MOST_TRIES: u32 = 3;
const MIME_TYPE: &str = "application/jsonl";

impl Gemini {
    /// The request after `replies`: the first starts, each further one sends a chunk.
    pub(super) fn next_upload(&self, rows: &Rows, replies: &[Response]) -> Result<Upload> {
        let Some(start) = replies.first() else { return Ok(Upload::Send(self.start(rows.bytes))) };
        let (mut offset, mut tries) = (0, 0);
        for reply in &replies[1..] {
            let length = CHUNK.min(rows.bytes - offset);
            let is_last = offset + length == rows.bytes;
            let file = if is_last { file_name(reply) } else { None };
            match (reply.headers.get("x-goog-upload-status"), file) {
                (Some("final") | None, Some(name)) => return Ok(Upload::Done(name)),
                (Some("active"), None) if !is_last => (offset, tries) = (offset + length, 0),
                // Nothing is said of the chunk: it may not have arrived.
                (None, _) if tries + 1 < MOST_TRIES => tries += 1,
                (status, _) => {
                    let status = status.unwrap_or("missing");
                    return Err(no_upload(format!("the upload ended without a file (x-goog-upload-status: {status})")));
                }
            }
        }
        let length = CHUNK.min(rows.bytes - offset);
        Ok(Upload::Send(chunk(&target(start)?, rows, offset, length)))
    }

    fn start(&self, bytes: u64) -> Request {
        let body = json!({"file": {"display_name": "batch.jsonl", "mime_type": MIME_TYPE, "size_bytes": bytes}});
        let mut request = Request::post(format!("upload/{}/files", self.version), Body::Json(body.to_string().into()));
        request.headers.extend([
            ("x-goog-upload-protocol", "resumable".to_owned()),
            ("x-goog-upload-command", "start".to_owned()),
            ("x-goog-upload-header-content-length", bytes.to_string()),
            ("x-goog-upload-header-content-type", MIME_TYPE.to_owned()),
        ]);
        request
    }
}

/// Where to send the chunks: the path that the server names, on the host that we know. Data goes nowhere else.
fn target(start: &Response) -> Result<String> {
    let named = start.headers.get("x-goog-upload-url");
    match named.and_then(|url| url::Url::parse(url).ok()) {
        Some(url) => Ok(url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()),
        None => Err(no_upload("the upload was started, but the answer has no x-goog-upload-url".into())),
    }
}

/// The name of the file that came of an upload.
fn file_name(reply: &Response) -> Option<String> {
    json::parse(&reply.body).ok()?["file"]["name"].as_str().map(str::to_owned)
}

fn chunk(target: &str, rows: &Rows, offset: u64, length: u64) -> Request {
    let is_last = offset + length == rows.bytes;
    let body = Body::File {
        content_type: MIME_TYPE.into(),
        head: Default::default(),
        file: rows.file.clone(),
        offset,
        length,
        tail: Default::default(),
    };
    let command = if is_last { "upload, finalize" } else { "upload" };
    Request {
        method: Method::Post,
        path: target.to_owned(),
        headers: vec![("x-goog-upload-offset", offset.to_string()), ("x-goog-upload-command", command.to_owned())],
        body,
    }
}

fn no_upload(message: String) -> Error {
    Error::Api(Box::new(errors::in_reply(NAME, message)))
}
