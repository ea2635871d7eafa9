//! The driver of a batch: uploads, creates, looks, downloads. What to do when is decided by the pure files beside it.

use super::collect::{self, Found, Order, Results};
use super::creation::{Attempt, Creation, LOOKS, Next};
use super::ids::RowIds;
use super::lifecycle::{Action, Lifecycle};
use super::plan::Written;
use crate::client::{Call, Client, Failure};
use crate::error::{ApiErrorKind, BatchErrorKind, ConnectionError, Error, Result};
use crate::exchange::{Request, Response};

use crate::providers::{BatchApi, Job, JobOptions, State};
use crate::retry::Advice;
use crate::transport::{Download, Transport};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the clocks of a server and of this machine may differ, in seconds.
const CLOCK_SKEW: u64 = 900;

/// What a look gets at least when the wait is nearly over.
const SHORTEST_LOOK: Duration = Duration::from_secs(5);

/// A job at a provider, made here or found by its id.
pub struct Batch {
    pub client: Arc<Client>,
    pub call: Call,
    pub id: String,
    /// The ids of its rows, if it was made by this process.
    ids: Option<Arc<RowIds>>,
    last: Mutex<Option<Job>>,
    results: Mutex<Option<Arc<Results>>>,
}

/// Uploads rows and returns the id of the file. May be repeated: an orphan file costs nothing and expires.
pub async fn upload(client: &Client, transport: &Transport, rows: Arc<File>, bytes: u64) -> Result<String> {
    let api = client.provider.batches();
    let response = match client.request(transport, &api.upload(rows, bytes)).await {
        Err(Error::Api(mut error)) if error.kind == ApiErrorKind::NotFound || error.status == Some(405) => {
            error.message.push_str(". This server seems to have no batch API");
            return Err(Error::Api(error));
        }
        other => other?,
    };
    api.read_upload(&client.parse(&response)?)
        .ok_or_else(|| client.no_answer(&response, "the upload was answered without a file id".into()))
}

/// Makes a job of an uploaded file, never two.
pub async fn create(client: &Client, transport: &Transport, input: &str, options: &JobOptions) -> Result<Job> {
    create_with(client, transport, input, options, LOOKS).await
}

/// [`create`] with other waits before its looks: what a test has no minute for.
pub async fn create_with(
    client: &Client,
    transport: &Transport,
    input: &str,
    options: &JobOptions,
    looks: &'static [Duration],
) -> Result<Job> {
    let api = client.provider.batches();
    let request = api.create(input, options)?;
    let mut creation = Creation::new(looks, client.endpoint.max_retries);
    let mut refusals = 0;
    loop {
        let failure = match try_create(client, transport, &request).await {
            Ok(job) => return Ok(job),
            Err(failure) => failure,
        };
        if Attempt::of(&failure) == Attempt::Refused {
            let Some(wait) = client.wait_before_retry(&failure, refusals) else { return Err(failure.error) };
            refusals += 1;
            tokio::time::sleep(wait).await;
            continue;
        }
        let mut next = creation.unclear();
        while let Next::Look(wait) = next {
            tokio::time::sleep(wait).await;
            let look = find(client, transport, input).await;
            if let Ok(Some(job)) = look {
                return Ok(job);
            }
            next = creation.not_found(look.is_ok());
        }
        if next == Next::GiveUp {
            return Err(unclear(failure.error, input));
        }
    }
}

async fn try_create(client: &Client, transport: &Transport, request: &Request) -> Result<Job, Failure> {
    let response = client.request_once(transport, request).await?;
    let job = client.parse(&response).and_then(|body| {
        let job = client.provider.batches().read_job(&body);
        job.ok_or_else(|| client.no_answer(&response, "the new job was answered without an id".into()))
    });
    job.map_err(|error| Failure { error, advice: Default::default() })
}

/// The job that was made of `input`, if the list shows it.
async fn find(client: &Client, transport: &Transport, input: &str) -> Result<Option<Job>> {
    let api = client.provider.batches();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // The upload was a moment ago: an older job cannot be ours.
    let oldest = now.saturating_sub(client.endpoint.timeout.as_secs() + CLOCK_SKEW);
    let mut after = None;
    loop {
        let response = client.request(transport, &api.list(after.as_deref())).await?;
        let page = api
            .read_list(&client.parse(&response)?)
            .ok_or_else(|| client.no_answer(&response, "the list of jobs is no list".into()))?;
        let is_over = page.jobs.iter().any(|job| job.created_at.is_some_and(|created| created < oldest));
        if let Some(job) = page.jobs.into_iter().find(|job| job.input.as_deref() == Some(input)) {
            return Ok(Some(job));
        }
        match page.next {
            Some(next) if !is_over && after.as_ref() != Some(&next) => after = Some(next),
            _ => return Ok(None),
        }
    }
}

fn unclear(error: Error, input: &str) -> Error {
    let advice = format!(
        " It is not known whether the job was created, and it was not sent again, since it could run twice. Look for a batch \
         with the input file {input} before you submit these prompts again."
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

impl Batch {
    /// A batch that this process just made of `rows`.
    pub fn created<W>(client: Arc<Client>, call: Call, job: Job, rows: Written<W>) -> Self {
        Self { ids: Some(Arc::new(rows.ids)), ..Self::open(client, call, job.id) }
    }

    /// A batch that is known by its id only.
    pub fn open(client: Arc<Client>, call: Call, id: String) -> Self {
        Self { client, call, id, ids: None, last: Mutex::default(), results: Mutex::default() }
    }

    fn api(&self) -> &dyn BatchApi {
        self.client.provider.batches()
    }

    /// The job as it is now. A terminal state is never asked for again.
    pub async fn look(&self, transport: &Transport) -> Result<Job> {
        if let Some(job) = lock(&self.last).clone().filter(|job| job.state.is_terminal()) {
            return Ok(job);
        }
        let response = self.client.request(transport, &self.api().get(&self.id)).await?;
        self.keep(&response)
    }

    /// Asks the provider to stop it. What has run by then can still be fetched.
    pub async fn cancel(&self, transport: &Transport) -> Result<Job> {
        let response = self.client.request(transport, &self.api().cancel(&self.id)).await?;
        self.keep(&response)
    }

    fn keep(&self, response: &Response) -> Result<Job> {
        let job = self
            .api()
            .read_job(&self.client.parse(response)?)
            .ok_or_else(|| self.client.no_answer(response, "the reply describes no batch".into()))?;
        // A slow answer to another thread must not undo a terminal state.
        let mut last = lock(&self.last);
        if !last.as_ref().is_some_and(|known| known.state.is_terminal()) {
            *last = Some(job.clone());
        }
        Ok(job)
    }

    /// The results, downloaded once. Fails unless the state is terminal; a failed job has none.
    pub async fn results(&self, transport: &Transport) -> Result<Arc<Results>> {
        if let Some(results) = lock(&self.results).clone() {
            return Ok(results);
        }
        let job = self.look(transport).await?;
        if !job.state.is_terminal() {
            let message = format!("it is {} ('{}'); wait() until it is done", job.state.name(), job.raw_state);
            return Err(Error::batch(BatchErrorKind::NotCompleted, &self.id, message));
        }
        if job.state == State::Failed {
            return Err(self.failure(&job));
        }
        let rows = self.download(transport, self.api().results(&job)).await?;
        let found = collect::find_rows(self.api(), &rows)?;
        let order = match &self.ids {
            Some(ids) => Order { ids: ids.clone(), is_guessed: false },
            None => self.order_by_id(transport, &job, &found).await?,
        };
        let mut reading = self.call.reading().clone();
        if reading.stop.is_empty() && reading.schema.is_none() {
            // Another process may have submitted it: the job itself knows where to cut.
            reading.stop = job.stop.clone();
        }
        let results = Arc::new(Results::new(self.id.clone(), rows, order, found, self.api(), reading)?);
        Ok(lock(&self.results).get_or_insert(results).clone())
    }

    /// The order of a batch that another process made.
    async fn order_by_id(&self, transport: &Transport, job: &Job, found: &Found) -> Result<Order> {
        if let Some(ids) = collect::ids_from_results(found, job.counts.total) {
            return Ok(Order { ids: Arc::new(ids), is_guessed: false });
        }
        if let Some(request) = self.api().input(job) {
            match self.download(transport, vec![request]).await {
                Ok(input) => {
                    let sent = collect::find_rows(self.api(), &input)?;
                    let ids = RowIds::from_rows(sent.into_iter().map(|(id, _)| id).collect());
                    return Ok(Order { ids: Arc::new(ids), is_guessed: false });
                }
                // Expired, or not ours to read: the ids of the results are all there is.
                Err(error) if is_out_of_reach(&error) => {}
                // Trouble that passes: a guess now would hide an order that can be known later.
                Err(error) => return Err(error),
            }
        }
        let ids = collect::ids_without_input(found, job.counts.total, self.api().limits().rows);
        Ok(Order { is_guessed: matches!(ids, RowIds::Custom { .. }), ids: Arc::new(ids) })
    }

    /// Downloads files, one after the other, into one temporary file.
    async fn download(&self, transport: &Transport, requests: Vec<Request>) -> Result<File> {
        let mut file = tempfile::tempfile().map_err(|error| Error::disk("Making a file for results", &error))?;
        for request in &requests {
            fetch(&self.client, transport, request, &mut file).await?;
            // Where one file ends without a newline, the next one must not go on in its last row.
            file.write_all(b"\n").map_err(|error| Error::disk("Saving a download", &error))?;
        }
        Ok(file)
    }

    /// Why there are no results.
    pub fn failure(&self, job: &Job) -> Error {
        let why = if job.reasons.is_empty() { String::new() } else { format!(": {}", job.reasons.join("; ")) };
        let message = format!("it is {} ('{}'){why}", job.state.name(), job.raw_state);
        Error::batch(BatchErrorKind::Failed, &self.id, self.client.endpoint.redact(&message))
    }

    /// Waits, look by look: see [`Waiter`].
    pub fn waiter(self: Arc<Self>, poll_interval: Duration, timeout: Option<Duration>) -> Waiter {
        let lifecycle = Lifecycle::new(poll_interval, timeout, self.ids.is_some());
        Waiter { batch: self, lifecycle, started: Instant::now(), error: None }
    }
}

/// One wait for one batch, a step at a time, so that the caller can do something between two looks.
pub struct Waiter {
    batch: Arc<Batch>,
    lifecycle: Lifecycle,
    started: Instant,
    error: Option<Error>,
}

pub enum Step {
    Looked(Job),
    /// The last look saw a terminal state.
    Finished,
}

impl Waiter {
    /// Sleeps until the next look is due, and looks.
    pub async fn step(&mut self, transport: &Transport) -> Result<Step> {
        loop {
            match self.lifecycle.action(self.started.elapsed()) {
                Action::Sleep(wait) => tokio::time::sleep(wait).await,
                Action::Finished(_) => return Ok(Step::Finished),
                Action::TimedOut => return Err(self.timed_out()),
                Action::Fail => return Err(self.error.take().unwrap_or_else(|| self.timed_out())),
                Action::Look => match self.look(transport).await {
                    Ok(job) => {
                        self.lifecycle.saw(job.state, self.started.elapsed());
                        return Ok(Step::Looked(job));
                    }
                    Err(error) => {
                        self.lifecycle.failed(&error, self.started.elapsed());
                        self.error = Some(error);
                    }
                },
            }
        }
    }

    /// Looks, but not much longer than the wait itself may last: a server may be silent for minutes.
    async fn look(&self, transport: &Transport) -> Result<Job> {
        let look = self.batch.look(transport);
        let Some(left) = self.lifecycle.time_left(self.started.elapsed()) else { return look.await };
        let limit = left.max(SHORTEST_LOOK);
        tokio::time::timeout(limit, look).await.unwrap_or_else(|_| {
            Err(Error::Connection(ConnectionError {
                provider: self.batch.client.endpoint.provider,
                message: format!("no answer within {:.1} s, and the wait is over", limit.as_secs_f64()),
                timed_out: true,
                sent: true,
            }))
        })
    }

    fn timed_out(&self) -> Error {
        let state = match &*lock(&self.batch.last) {
            Some(job) => format!("it is still {} ('{}')", job.state.name(), job.raw_state),
            None => "its state could not be read".into(),
        };
        let trouble = self.error.as_ref().map(|error| format!(" Last error: {error}")).unwrap_or_default();
        let message = format!(
            "{state} after {:.1} s. It goes on at the provider: wait() again, or fetch it later by its id.{trouble}",
            self.started.elapsed().as_secs_f64()
        );
        Error::batch(BatchErrorKind::TimedOut, &self.batch.id, message)
    }
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
            Ok(response) => client.error_reply(&response),
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
fn is_out_of_reach(error: &Error) -> bool {
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
