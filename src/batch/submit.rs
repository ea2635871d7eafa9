//! Rows to a job: handed over, and the job created, never twice. What to do when it is unclear whether there is one is decided
//! by [`creation`](super::creation).

use super::creation::{Attempt, Creation, Next};
use crate::bounds::Expected;
use crate::client::{Client, Failure};
use crate::error::{ApiErrorKind, BatchErrorKind, Error, Result};
use crate::exchange::{Request, Response};
use crate::inline::DiscardRows;
use crate::providers::{Delivery, Input, Job, JobOptions, Page, Rows, Upload};
use crate::transport::Transport;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far the clocks of a server and of this machine may differ, in seconds.
const CLOCK_SKEW: u64 = 900;
/// Pages of the list of jobs to look through for one.
const MOST_PAGES: usize = 50;

/// Uploads rows, where they have to be. May be repeated: an orphan file costs nothing and expires.
pub async fn deliver(client: &Client, transport: &Transport, delivery: Delivery, rows: Rows) -> Result<Input> {
    if delivery == Delivery::Inline {
        return Ok(Input::Inline(rows));
    }
    let mut replies: Vec<Response> = Vec::new();
    let mut restarts_left = client.endpoint.max_retries.min(1);
    loop {
        let step = client.provider.batches().upload(&rows, &replies);
        let request = match step.map_err(|error| nonsense(client, error, replies.last()))? {
            Upload::Done(id) => return Ok(Input::Uploaded(id)),
            Upload::Send(request) => request,
        };
        let reply = client.request_as(transport, &request, Expected::UploadReply);
        match reply.await {
            Ok(reply) => replies.push(reply),
            Err(error) if replies.is_empty() => return Err(no_batch_api(error)),
            // A piece whose answer was lost cannot be sent again, but all of them can: half a file costs nothing.
            Err(_) if restarts_left > 0 => {
                restarts_left -= 1;
                replies.clear();
            }
            Err(error) => return Err(error),
        }
    }
}

/// The error of an upload that was answered with something else than this API says.
fn nonsense(client: &Client, error: Error, reply: Option<&Response>) -> Error {
    match (error, reply) {
        (Error::Api(error), Some(reply)) => client.no_answer(reply, error.message),
        (error, _) => error,
    }
}

/// A hint for servers that speak a provider's language, but only that of single calls.
fn no_batch_api(error: Error) -> Error {
    match error {
        Error::Api(mut error) if error.kind == ApiErrorKind::NotFound || error.status == Some(405) => {
            error
                .message
                .push_str(". This server seems to have no batch API; batch_options={\"native\": False} does without");
            Error::Api(error)
        }
        other => other,
    }
}

/// Makes a job, never two. `looks` are the waits before each look at the list of jobs, when it is not clear whether there is one.
pub async fn create(
    client: &Client,
    transport: &Transport,
    input: &Input,
    options: &JobOptions,
    looks: &'static [Duration],
) -> Result<Job, NotCreated> {
    let api = client.provider.batches();
    let request = api.create(&client.model, input, options);
    // Where a job cannot be found again, there is nothing to look for.
    let can_look = api.list(None).is_some();
    let mut creation = Creation::new(if can_look { looks } else { &[] }, client.endpoint.max_retries);
    let mut refusals = 0;
    loop {
        let failure = match try_create(client, transport, &request).await {
            Ok(job) => return Ok(job),
            Err(failure) => failure,
        };
        if Attempt::of(&failure, can_look) == Attempt::Refused {
            let Some(wait) = client.wait_before_retry(&failure, refusals) else {
                return Err(NotCreated::Refused(no_batch_api(failure.error)));
            };
            refusals += 1;
            tokio::time::sleep(wait).await;
            continue;
        }
        let mut next = creation.unclear();
        while let Next::Look(wait) = next {
            tokio::time::sleep(wait).await;
            let look = find(client, transport, input, options).await;
            if let Ok(Some(job)) = look {
                return Ok(job);
            }
            next = creation.not_found(look.is_ok());
        }
        if next == Next::GiveUp {
            return Err(NotCreated::Unclear(unclear(failure.error, input, options)));
        }
    }
}

async fn try_create(client: &Client, transport: &Transport, request: &Request) -> Result<Job, Failure> {
    let response = client.request_once(transport, request, Expected::State).await?;
    let read = |client: &Client, response: Response| {
        let job = client.provider.batches().read_job(&client.parse(&response)?);
        job.ok_or_else(|| client.no_answer(&response, "the new job was answered without an id".into()))
    };
    Ok(client.read_reply(response, read).await?)
}

/// The job that was made of `input`, if the list shows it.
async fn find(client: &Client, transport: &Transport, input: &Input, options: &JobOptions) -> Result<Option<Job>> {
    let api = client.provider.batches();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // The upload was a moment ago: an older job cannot be ours.
    let oldest = now.saturating_sub(client.endpoint.timeout.as_secs() + CLOCK_SKEW);
    let (mut after, mut perhaps) = (None, None);
    for _ in 0..MOST_PAGES {
        let Some(request) = api.list(after.as_deref()) else { break };
        let mut rows = DiscardRows;
        let expected = Expected::StateWithRows(&mut rows);
        let response = client.request_as(transport, &request, expected).await?;
        let page = client.read_reply(response, read_page).await?;
        let is_over = page.jobs.iter().any(|job| job.created_at.is_some_and(|created| created < oldest));
        for job in page.jobs {
            match api.is_made_of(&job, input, options) {
                Some(true) => return Ok(Some(job)),
                Some(false) => {}
                None => perhaps = Some(job.id),
            }
        }
        match page.next {
            Some(next) if !is_over && after.as_ref() != Some(&next) => after = Some(next),
            _ => break,
        }
    }
    match perhaps {
        None => Ok(None),
        // Neither to be taken for ours nor to be followed by a second one.
        Some(id) => Err(Error::batch(BatchErrorKind::Other, id, "it may be the one that was being created")),
    }
}

fn read_page(client: &Client, response: Response) -> Result<Page> {
    let page = client.provider.batches().read_list(&client.parse(&response)?);
    page.ok_or_else(|| client.no_answer(&response, "the list of jobs is no list".into()))
}

/// Why there is no job, or none that we know of.
#[derive(Debug)]
pub enum NotCreated {
    Refused(Error),
    /// It may exist; the error says how to find out.
    Unclear(Error),
}

impl From<NotCreated> for Error {
    fn from(reason: NotCreated) -> Self {
        match reason {
            NotCreated::Refused(error) | NotCreated::Unclear(error) => error,
        }
    }
}

/// How a person finds the job that may have been made of `input`.
pub fn sign_of(input: &Input, options: &JobOptions) -> String {
    match input {
        Input::Uploaded(file) => format!("with the input file {file}"),
        Input::Inline(_) => format!("made just now (its name may end in {})", options.token),
    }
}

fn unclear(error: Error, input: &Input, options: &JobOptions) -> Error {
    let sign = sign_of(input, options);
    let advice = format!(
        " It is not known whether the job was created, and it was not sent again, since it could run twice. Look for a batch \
         {sign} before you submit these prompts again."
    );
    match error {
        Error::Api(mut error) => {
            error.message.push_str(&advice);
            Error::Api(error)
        }
        Error::Connection(mut error) => {
            error.message.push_str(&advice);
            Error::Connection(error)
        }
        other => other,
    }
}
