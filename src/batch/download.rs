//! A result file to the disk: from the first place that has it, going on where a connection broke.

use crate::client::Client;
use crate::disk;
use crate::error::{ApiErrorKind, Error, Result};
use crate::exchange::{Request, Response};
use crate::retry::Advice;
use crate::transport::{Download, Transport};
use crate::tries::Failure;
use std::fs::File;

/// A file that could not be downloaded, or not to its end.
#[derive(Debug)]
pub struct Broken {
    pub error: Error,
    /// The part of it that arrived.
    pub part: Option<File>,
    /// Every try brought a success without a byte in it.
    pub is_empty: bool,
    /// It arrived, and holds only blank lines.
    pub is_blank: bool,
    /// It was tried more than once, so that this is not what passed at one moment.
    pub was_retried: bool,
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self { error, part: None, is_empty: false, is_blank: false, was_retried: false }
    }
}

/// Downloads a file from the first of several places that has it.
pub async fn file(client: &Client, transport: &Transport, places: &[Request]) -> Result<File, Broken> {
    let mut result = Err(Error::configuration("there is no place to download from").into());
    for request in places {
        result = fetch(client, transport, request).await;
        if !matches!(&result, Err(broken) if broken.error.api_kind() == Some(ApiErrorKind::NotFound)) {
            break;
        }
    }
    result
}

/// Downloads into a temporary file. A download that breaks goes on where it broke.
async fn fetch(client: &Client, transport: &Transport, request: &Request) -> Result<File, Broken> {
    let mut file = disk::temporary("results")?;
    let mut download = Download::default();
    let (mut attempt, mut tries, mut empty_tries, mut furthest) = (0, 0, 0, 0);
    loop {
        let before = download.received;
        tries += 1;
        let failure = match transport.download(&client.endpoint, request, &mut file, &mut download).await {
            Ok(response) if response.is_success() => match no_rows(client, &response, download.received) {
                None => return Ok(file),
                Some(failure) => {
                    empty_tries += u32::from(download.received == 0);
                    // What came was no part of the file.
                    download = Download::default();
                    failure
                }
            },
            // Nothing is left: the connection broke just after the last byte.
            Ok(response) if response.status == 416 && before > 0 => return Ok(file),
            Ok(response) => client.read_error_reply(response).await,
            Err(error) => Failure { error, advice: Default::default() },
        };
        // Every byte that had not arrived before is a reason to go on.
        attempt = if download.received > furthest { 0 } else { attempt };
        furthest = furthest.max(download.received);
        let Some(wait) = client.wait_before_retry(&failure, attempt) else {
            let part = (download.received > 0).then_some(file);
            let is_empty = empty_tries == tries;
            return Err(Broken { error: failure.error, part, is_empty, is_blank: false, was_retried: tries > 1 });
        };
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
