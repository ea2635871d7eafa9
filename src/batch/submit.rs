//! Rows to a job: handed over, and the job created, never twice. What an attempt has come to is decided by
//! [`creation`](super::creation).

use super::creation::{CreateOutcome, LOOKUP_DELAYS};
use crate::bounds::Expected;
use crate::client::Client;
use crate::error::{ApiErrorKind, Error, Result, UnknownCreate};
use crate::exchange::{Request, Response};
use crate::inline::DiscardRows;
use crate::providers::{Delivery, Input, Job, JobOptions, Page, Rows, Upload};
use crate::transport::Transport;
use crate::tries::Failure;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far the clocks of a server and of this machine may differ, in seconds.
const CLOCK_SKEW: u64 = 900;
/// Pages of the list of jobs to search for one.
const MAX_PAGES: usize = 50;
/// Ids of jobs that may be the one, to keep for the error.
const MAX_CANDIDATES: usize = 20;

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

/// Makes a job, never two. After an outcome that is unknown the list of jobs is searched for it, for a minute, and the
/// request is not sent again whatever the search finds.
pub async fn create(
    client: &Client,
    transport: &Transport,
    input: &Input,
    options: &JobOptions,
) -> Result<Job, NotCreated> {
    let request = client.provider.batches().create(&client.model, input, options);
    let mut rejections = 0;
    loop {
        let sent_at = unix_now();
        let failure = match try_create(client, transport, &request).await {
            Ok(job) => return Ok(job),
            Err(failure) => failure,
        };
        if CreateOutcome::of(&failure) == CreateOutcome::Unknown {
            let search = Search::run(client, transport, input, options, sent_at).await;
            return search.map_err(|search| {
                let about = client.provider.batches().describe_input(input, options);
                NotCreated::Unknown(search.unknown_create(client, failure.error, sent_at, &about))
            });
        }
        let Some(wait) = client.wait_before_retry(&failure, rejections) else {
            return Err(NotCreated::Rejected(no_batch_api(failure.error)));
        };
        rejections += 1;
        tokio::time::sleep(wait).await;
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

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The search for a job that may have been created, in the provider's list of jobs.
#[derive(Default)]
struct Search {
    /// Ids of jobs that may be it: the list does not say enough.
    candidates: Vec<String>,
    /// How often the list was read to its end.
    listings: u32,
    /// Why the list could not be read, the last time.
    trouble: Option<Error>,
}

impl Search {
    /// The job that was made of `input`; or what was seen instead.
    async fn run(
        client: &Client,
        transport: &Transport,
        input: &Input,
        options: &JobOptions,
        sent_at: Duration,
    ) -> Result<Job, Self> {
        let mut search = Self::default();
        // An older job that only may be ours is not, and behind it there is nothing to search.
        let oldest = sent_at.as_secs().saturating_sub(CLOCK_SKEW);
        for delay in LOOKUP_DELAYS {
            tokio::time::sleep(delay.mul_f64(client.endpoint.time_scale)).await;
            match search.read_list(client, transport, input, options, oldest).await {
                Ok(Some(job)) => return Ok(job),
                Ok(None) => (search.listings, search.trouble) = (search.listings + 1, None),
                Err(error) => search.trouble = Some(error),
            }
        }
        Err(search)
    }

    async fn read_list(
        &mut self,
        client: &Client,
        transport: &Transport,
        input: &Input,
        options: &JobOptions,
        oldest: u64,
    ) -> Result<Option<Job>> {
        let api = client.provider.batches();
        let mut after: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut rows = DiscardRows;
            let expected = Expected::StateWithRows(&mut rows);
            let response = client.request_as(transport, &api.list(after.as_deref()), expected).await?;
            let page = client.read_reply(response, read_page).await?;
            let is_older = |job: &Job| job.created_at.is_some_and(|created| created < oldest);
            let is_over = page.jobs.iter().any(is_older);
            for job in page.jobs {
                match api.is_made_of(&job, input, options) {
                    Some(true) => return Ok(Some(job)),
                    Some(false) => {}
                    None if is_older(&job) => {}
                    None if self.candidates.contains(&job.id) || self.candidates.len() >= MAX_CANDIDATES => {}
                    None => self.candidates.push(job.id),
                }
            }
            match page.next {
                Some(next) if !is_over && after.as_ref() != Some(&next) => after = Some(next),
                _ => break,
            }
        }
        Ok(None)
    }

    /// The error that tells what is known, and the two ways on. `about` describes the job.
    fn unknown_create(self, client: &Client, cause: Error, sent_at: Duration, about: &str) -> Error {
        let list = match (&self.trouble, self.listings) {
            (Some(trouble), _) => format!("The list of jobs could not be read ({trouble})"),
            (None, times) => format!("The list of jobs, read {times} times since, does not show it for certain"),
        };
        let candidates = self.candidates.iter().map(|id| client.endpoint.redact(id)).collect::<Vec<_>>();
        let perhaps = match candidates.as_slice() {
            [] => String::new(),
            ids => format!(" It may be one of these: {}.", ids.join(", ")),
        };
        let cause_text = cause.to_string();
        let message = format!(
            "{}: it is not known whether the job was created. The request was sent at {}, and then: {}. {list}.{perhaps} It was not \
             sent again, since the prompts could be paid for twice. Look for a batch {about}. If it is there, get it by its \
             id with get_batch; if it is still not there after ten minutes or more, submit these prompts again.",
            client.endpoint.provider,
            utc(sent_at),
            cause_text.trim_end_matches('.'),
        );
        Error::UnknownCreate(Box::new(UnknownCreate { message, sent_at, candidates, cause }))
    }
}

/// A time as a person reads it, to the second.
fn utc(unix: Duration) -> String {
    let seconds = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

fn read_page(client: &Client, response: Response) -> Result<Page> {
    let page = client.provider.batches().read_list(&client.parse(&response)?);
    page.ok_or_else(|| client.no_answer(&response, "the list of jobs is not a list".into()))
}

/// Why there is no job, or none that we know of.
#[derive(Debug)]
pub enum NotCreated {
    Rejected(Error),
    /// It may exist; the error says how to find out.
    Unknown(Error),
}

impl From<NotCreated> for Error {
    fn from(reason: NotCreated) -> Self {
        match reason {
            NotCreated::Rejected(error) | NotCreated::Unknown(error) => error,
        }
    }
}
