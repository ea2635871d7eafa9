//! Resumable uploads: start, then pieces, the last of which finalizes. Streamed to disk.

use std::fs::File as Content;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use ring::digest::{Context, SHA256};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};

use super::error::ApiError;
use super::files::{self, File};
use super::messages::UPLOAD_REQUEST;
use super::proto::{self, Names};
use super::{Answer, pretty};
use crate::sandbox::http::{self, Reply, header, query};
use crate::sandbox::{Shared, lock, store};

/// A piece that is not the last one has a multiple of this length.
const GRANULARITY: u64 = 8 * 1024 * 1024;
const FILE_LIMIT: u64 = 2 * 1024 * 1024 * 1024;

/// An upload that was started.
#[derive(Debug)]
pub struct Upload {
    id: String,
    /// Of the file that it will be.
    file_id: String,
    display_name: Option<String>,
    mime_type: String,
    /// Bytes that the client announced.
    announced: Option<u64>,
    path: PathBuf,
    /// Held while a piece comes in.
    progress: tokio::sync::Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    received: u64,
    /// The reply to the last piece, once that has come.
    done: Option<Value>,
}

pub fn start(shared: &Arc<Shared>, parts: &Parts, body: Value) -> Answer {
    if header(parts, "x-goog-upload-protocol") != "resumable" || header(parts, "x-goog-upload-command") != "start" {
        let message = "The sandbox takes resumable uploads only: send X-Goog-Upload-Protocol: resumable and \
                       X-Goog-Upload-Command: start.";
        return Err(ApiError::invalid(message));
    }
    let mut body = proto::read(&UPLOAD_REQUEST, body, Names::Both).map_err(|wrong| proto::refused(&wrong))?;
    let file = match body.remove("file") {
        Some(Value::Object(file)) => file,
        _ => Map::new(),
    };
    let text = |key: &str| file.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let file_id = match text("name") {
        Some(name) => name.strip_prefix("files/").unwrap_or(&name).to_owned(),
        None => shared.ids.next(""),
    };
    files::check_id(&file_id)?;
    if lock(&shared.gemini.files).get(&file_id).is_some() {
        let message = format!("Resource files/{file_id} already exists.");
        return Err(ApiError::new(StatusCode::CONFLICT, "ALREADY_EXISTS", message));
    }
    let display_name = text("displayName");
    if display_name.as_ref().is_some_and(|name| name.chars().count() > 512) {
        return Err(ApiError::invalid("* File.display_name: cannot be more than 512 characters.\n"));
    }
    let announced_type = header(parts, "x-goog-upload-header-content-type");
    let mime_type = text("mimeType").or_else(|| Some(announced_type.to_owned()).filter(|text| !text.is_empty()));
    let mime_type =
        mime_type.ok_or_else(|| ApiError::invalid("Unable to determine the MIME type: set file.mime_type."))?;
    let length = header(parts, "x-goog-upload-header-content-length");
    let announced = match length {
        "" => None,
        text => Some(text.parse::<u64>().map_err(|_| ApiError::invalid(format!("Invalid upload length: '{text}'.")))?),
    };
    if announced.is_some_and(|announced| announced > FILE_LIMIT) {
        return Err(too_large());
    }
    let id = shared.ids.next("");
    let upload = Arc::new(Upload {
        path: shared.store.path(&format!("gemini-{file_id}-{id}")),
        file_id,
        display_name,
        mime_type,
        announced,
        progress: tokio::sync::Mutex::default(),
        id,
    });
    lock(&shared.gemini.uploads).put(&upload.id, upload.clone());
    let url = format!(
        "http://{}{}?upload_id={}&upload_protocol=resumable",
        header(parts, "host"),
        parts.uri.path(),
        upload.id
    );
    let mut reply = with_status(http::bytes(StatusCode::OK, "text/plain; charset=utf-8", ""), "active");
    http::set_header(&mut reply, "x-goog-upload-url", &url);
    http::set_header(&mut reply, "x-goog-upload-chunk-granularity", &GRANULARITY.to_string());
    Ok(reply)
}

fn with_status(mut reply: Reply, status: &str) -> Reply {
    http::set_header(&mut reply, "x-goog-upload-status", status);
    reply
}

fn too_large() -> ApiError {
    ApiError::invalid(format!("Request exceeds the maximum file size of {FILE_LIMIT} bytes."))
}

/// A piece, the question how many bytes have come, or the wish to give up. An error ends the upload: without a status the
/// client would send the same piece again.
pub async fn proceed(shared: &Arc<Shared>, parts: &Parts, mut body: Incoming) -> Reply {
    let answer = advance(shared, parts, &mut body).await;
    if answer.is_err() {
        http::drain(body).await;
    }
    answer.unwrap_or_else(|error| with_status(error.reply(), "final"))
}

async fn advance(shared: &Arc<Shared>, parts: &Parts, body: &mut Incoming) -> Answer {
    let id = query(parts, "upload_id").unwrap_or_default();
    let upload = lock(&shared.gemini.uploads).get(&id);
    let upload = upload.ok_or_else(|| ApiError::not_found(format!("There is no upload with the id '{id}'.")))?;
    let mut progress = upload.progress.lock().await;
    let command = header(parts, "x-goog-upload-command");
    let commands: Vec<&str> = command.split(',').map(str::trim).collect();
    let finalizes = commands.contains(&"finalize");
    match commands.as_slice() {
        ["query"] => {
            let status = if progress.done.is_some() { "final" } else { "active" };
            let mut reply = with_status(http::bytes(StatusCode::OK, "text/plain; charset=utf-8", ""), status);
            http::set_header(&mut reply, "x-goog-upload-size-received", &progress.received.to_string());
            return Ok(reply);
        }
        ["cancel"] => {
            lock(&shared.gemini.uploads).remove(&id);
            let _ = tokio::fs::remove_file(&upload.path).await;
            return Ok(with_status(http::bytes(StatusCode::OK, "text/plain; charset=utf-8", ""), "cancelled"));
        }
        ["upload"] | ["upload", "finalize"] | ["finalize"] => {}
        _ => return Err(ApiError::invalid(format!("Invalid X-Goog-Upload-Command: '{command}'."))),
    }
    if let Some(done) = &progress.done {
        return Ok(with_status(pretty(StatusCode::OK, done), "final"));
    }
    if commands[0] == "upload" {
        let offset = header(parts, "x-goog-upload-offset");
        if offset.parse() != Ok(progress.received) {
            let message = format!("X-Goog-Upload-Offset is '{offset}', but {} bytes were received.", progress.received);
            return Err(ApiError::invalid(message));
        }
        let length = append(&upload.path, progress.received, body).await?;
        if !finalizes && length % GRANULARITY != 0 {
            let message =
                format!("A piece that is not the last must have a multiple of {GRANULARITY} bytes, not {length}.");
            return Err(ApiError::invalid(message));
        }
        progress.received += length;
    }
    if !finalizes {
        return Ok(with_status(http::bytes(StatusCode::OK, "text/plain; charset=utf-8", ""), "active"));
    }
    if upload.announced.is_some_and(|announced| announced != progress.received) {
        let (announced, received) = (upload.announced.unwrap_or(0), progress.received);
        return Err(ApiError::invalid(format!(
            "The upload was announced with {announced} bytes, but {received} came."
        )));
    }
    let file = finish(shared, &upload, progress.received).await?;
    let done = progress.done.insert(json!({"file": files::object(&file, &files::base(parts))}));
    Ok(with_status(pretty(StatusCode::OK, done), "final"))
}

/// Writes a piece behind the first `offset` bytes; what an earlier try left there is overwritten.
async fn append(path: &Path, offset: u64, body: &mut Incoming) -> Result<u64, ApiError> {
    let mut file = tokio::fs::File::from_std(store::open(path)?);
    file.set_len(offset).await?;
    file.seek(io::SeekFrom::Start(offset)).await?;
    let mut file = BufWriter::with_capacity(256 * 1024, file);
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::invalid("The request body ended before its announced length."))?;
        let data = frame.into_data().unwrap_or_default();
        length += data.len() as u64;
        if offset + length > FILE_LIMIT {
            return Err(too_large());
        }
        file.write_all(&data).await?;
    }
    file.flush().await?;
    Ok(length)
}

async fn finish(shared: &Arc<Shared>, upload: &Upload, bytes: u64) -> Result<Arc<File>, ApiError> {
    let path = upload.path.clone();
    let hash = tokio::task::spawn_blocking(move || sha256(&path)).await;
    let hash = hash.unwrap_or_else(|error| Err(io::Error::other(error)))?;
    let file = Arc::new(File {
        id: upload.file_id.clone(),
        display_name: upload.display_name.clone(),
        mime_type: upload.mime_type.clone(),
        bytes,
        created_at: shared.clock.now(),
        sha256: Some(hash),
        path: upload.path.clone(),
    });
    lock(&shared.gemini.files).put(&file.id, file.clone());
    Ok(file)
}

/// Google writes the digest in hexadecimal and that in base64.
fn sha256(path: &Path) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; 1 << 20];
    // An upload of no bytes made no file.
    let mut content = Content::options().create(true).truncate(false).write(true).read(true).open(path)?;
    loop {
        match content.read(&mut piece)? {
            0 => break,
            read => context.update(&piece[..read]),
        }
    }
    let digest = context.finish();
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(STANDARD.encode(hex))
}
