//! The Files API: look, list, delete, and download what jobs wrote. Uploads are in `upload`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::CONTENT_RANGE;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::error::ApiError;
use super::{Answer, bad_page_token, page, pretty};
use crate::sandbox::clock::rfc3339;
use crate::sandbox::http::{self, header, query};
use crate::sandbox::{Shared, lock};

/// A file lasts 48 hours. That is shown but not carried out: on a fast clock it would pass while the client works.
const LIFE: f64 = 172_800.0;

const ID_LIMIT: usize = 40;

/// A file that a client uploaded or a job wrote; its content is on disk.
#[derive(Debug)]
pub struct File {
    /// What follows `files/`.
    pub id: String,
    pub display_name: Option<String>,
    pub mime_type: String,
    pub bytes: u64,
    /// Virtual unix seconds.
    pub created_at: f64,
    /// Base64 of the hexadecimal digest. `None` for a file that a job wrote.
    pub sha256: Option<String>,
    pub path: PathBuf,
}

impl File {
    fn is_upload(&self) -> bool {
        self.sha256.is_some()
    }
}

/// The scheme and host that the client sees, with the mount: what URLs in replies begin with.
pub fn base(parts: &Parts) -> String {
    format!("http://{}/generativelanguage.googleapis.com", header(parts, "host"))
}

pub fn object(file: &File, base: &str) -> Value {
    let File { id, display_name, mime_type, bytes, created_at, sha256, .. } = file;
    let mut object = json!({"name": format!("files/{id}")});
    if let Some(name) = display_name {
        object["displayName"] = json!(name);
    }
    object["mimeType"] = json!(mime_type);
    object["sizeBytes"] = json!(bytes.to_string());
    object["createTime"] = json!(rfc3339(*created_at));
    object["updateTime"] = json!(rfc3339(*created_at));
    object["expirationTime"] = json!(rfc3339(created_at + LIFE));
    if let Some(hash) = sha256 {
        object["sha256Hash"] = json!(hash);
    }
    object["uri"] = json!(format!("{base}/v1beta/files/{id}"));
    object["state"] = json!("ACTIVE");
    object["source"] = json!("UPLOADED");
    object
}

/// The rule for ids. Those of results break it, so that they can be downloaded and nothing else.
pub fn check_id(id: &str) -> Result<(), ApiError> {
    let rule = |why: &str| ApiError::invalid(format!("* File.name: File ID (name excluding 'files/') {why}\n"));
    if id.len() > ID_LIMIT {
        return Err(rule("cannot be more than 40 characters."));
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if id.is_empty() || !id.bytes().all(fits) || id.starts_with('-') || id.ends_with('-') {
        return Err(rule(
            "may only contain lowercase alphanumeric characters or dashes, and cannot begin or end with a dash.",
        ));
    }
    Ok(())
}

/// A missing file is not told from another's: 403, and not 404.
pub fn no_file(id: &str) -> ApiError {
    ApiError::denied(format!("You do not have permission to access the File {id} or it may not exist."))
}

/// A file of the client's own.
pub fn find(shared: &Shared, id: &str) -> Result<Arc<File>, ApiError> {
    check_id(id)?;
    lock(&shared.gemini.files).get(id).filter(|file| file.is_upload()).ok_or_else(|| no_file(id))
}

pub fn retrieve(shared: &Shared, parts: &Parts, id: &str) -> Answer {
    Ok(pretty(StatusCode::OK, &object(&*find(shared, id)?, &base(parts))))
}

pub fn delete(shared: &Shared, id: &str) -> Answer {
    let file = find(shared, id)?;
    lock(&shared.gemini.files).remove(id);
    // A job that has it open reads on; a content that is already gone is what was wanted.
    let _ = std::fs::remove_file(&file.path);
    Ok(pretty(StatusCode::OK, &json!({})))
}

pub fn list(shared: &Shared, parts: &Parts) -> Answer {
    let (size, token) = page(parts, 10, 100)?;
    let page = lock(&shared.gemini.files).page(token.as_deref(), size, true, File::is_upload);
    let page = page.ok_or_else(bad_page_token)?;
    let base = base(parts);
    let mut reply = json!({});
    if !page.items.is_empty() {
        reply["files"] = page.items.iter().map(|file| object(file, &base)).collect();
    }
    if let Some(last) = page.items.last().filter(|_| page.has_more) {
        reply["nextPageToken"] = json!(last.id);
    }
    Ok(pretty(StatusCode::OK, &reply))
}

pub async fn download(shared: &Shared, parts: &Parts, id: &str) -> Answer {
    if query(parts, "alt").as_deref() != Some("media") {
        return Err(ApiError::invalid("The sandbox serves downloads with alt=media only."));
    }
    let file = lock(&shared.gemini.files).get(id).ok_or_else(|| no_file(id))?;
    if file.is_upload() {
        return Err(ApiError::invalid(format!("File {id} was uploaded; only generated files can be downloaded.")));
    }
    let reply = http::download(parts, &file.path, file.bytes).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => no_file(id),
        _ => error.into(),
    })?;
    Ok(reply.unwrap_or_else(|| {
        let message = format!("The file has {} bytes.", file.bytes);
        let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "OUT_OF_RANGE", message);
        let mut reply = error.reply();
        http::set_header(&mut reply, CONTENT_RANGE.as_str(), &format!("bytes */{}", file.bytes));
        reply
    }))
}
