//! Result files to the disk: whole, from the first place that has them, going on where a connection broke.

use crate::client::{Client, Failure};
use crate::disk;
use crate::error::{ApiErrorKind, Error, Result};
use crate::exchange::{Request, Response};
use crate::retry::Advice;
use crate::transport::{Download, Transport};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

/// Downloads files, one after the other, into one temporary file; for each, the requests to try until one finds it.
pub async fn files(client: &Client, transport: &Transport, downloads: &[Vec<Request>]) -> Result<File> {
    let mut file = disk::temporary("results")?;
    for places in downloads {
        fetch_any(client, transport, places, &mut file).await?;
        // Where one file ends without a newline, the next one must not go on in its last row.
        file.write_all(b"\n").map_err(|error| Error::disk("Saving a download", &error))?;
    }
    Ok(file)
}

/// Downloads from the first of several places that has it.
async fn fetch_any(client: &Client, transport: &Transport, places: &[Request], file: &mut File) -> Result<()> {
    let mut result = Ok(());
    for request in places {
        result = fetch(client, transport, request, file).await;
        if !matches!(&result, Err(error) if error.api_kind() == Some(ApiErrorKind::NotFound)) {
            break;
        }
    }
    result
}

/// Downloads to the end of `file`. A download that breaks goes on where it broke.
async fn fetch(client: &Client, transport: &Transport, request: &Request, file: &mut File) -> Result<()> {
    let start = file.seek(SeekFrom::End(0)).map_err(|error| Error::disk("Saving a download", &error))?;
    let mut download = Download::at(start);
    let mut attempt = 0;
    loop {
        let before = download.received;
        let failure = match transport.download(&client.endpoint, request, file, &mut download).await {
            Ok(response) if response.is_success() => match no_rows(client, &response, download.received) {
                None => return Ok(()),
                Some(failure) => {
                    // What came was no part of the file.
                    download = Download::at(start);
                    failure
                }
            },
            // Nothing is left: the connection broke just after the last byte.
            Ok(response) if response.status == 416 && before > 0 => return Ok(()),
            Ok(response) => client.read_error_reply(response).await,
            Err(error) => Failure { error, advice: Default::default() },
        };
        // Every byte that arrives is a reason to go on.
        attempt = if download.received > before { 0 } else { attempt };
        let Some(wait) = client.wait_before_retry(&failure, attempt) else { return Err(failure.error) };
        tokio::time::sleep(wait).await;
        attempt += 1;
    }
}

/// Whether the file is gone, or never was ours to read.
pub fn is_out_of_reach(error: &Error) -> bool {
    matches!(
        error.api_kind(),
        Some(ApiErrorKind::NotFound | ApiErrorKind::PermissionDenied | ApiErrorKind::InvalidRequest)
    )
}

/// The failure of a download that succeeded and brought a web page, or nothing: no file of rows is empty.
fn no_rows(client: &Client, response: &Response, received: u64) -> Option<Failure> {
    let is_page = response.headers.get("content-type").is_some_and(|kind| kind.starts_with("text/html"));
    if received > 0 && !is_page {
        return None;
    }
    let found = if is_page { "a web page" } else { "an empty body" };
    let message = format!("a download was answered {} with {found} instead of rows", response.status);
    // As good as no answer: worth another try.
    let advice = Advice { should_retry: Some(true), ..Default::default() };
    Some(Failure { error: client.no_answer(response, message), advice })
}
