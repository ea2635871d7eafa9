//! The driver of a batch: uploads, creates, looks, downloads. What to do when is decided by the pure files beside it.

use super::collect::{self, Found, Order, Results};
use super::creation::{Attempt, Creation, Next};
use super::ids::RowIds;
use super::lifecycle::{Action, Lifecycle};
use crate::client::{Call, Client, Failure};
use crate::disk;
use crate::error::{ApiErrorKind, BatchErrorKind, ConnectionError, Error, Result};
use crate::exchange::{Request, Response};
use crate::providers::{BatchApi, Delivery, Input, Job, JobOptions, Rows, State, Upload};
use crate::retry::Advice;
use crate::transport::{Download, Transport};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the clocks of a server and of this machine may differ, in seconds.
const CLOCK_SKEW: u64 = 900;
/// Pages of the list of jobs to look through for one.
const MOST_PAGES: usize = 50;
/// So often a job may be done without showing results before that is believed.
const MOST_UNREADY_LOOKS: u32 = 10;
/// More rows than any job holds: bounds what a strange id in a result can make us allocate.
const MOST_ROWS: u64 = 10_000_000;

/// What a look gets at least when the wait is nearly over.
const SHORTEST_LOOK: Duration = Duration::from_secs(5);

/// A job at a provider, made here or found by its id.
pub struct Batch {
    pub client: Arc<Client>,
    pub call: Arc<Call>,
    pub id: String,
    /// The ids of its rows, if it was made by this process.
    ids: Option<Arc<RowIds>>,
    seen: Mutex<Seen>,
    results: Mutex<Option<Arc<Results>>>,
}

/// What looks at a job have seen.
#[derive(Default)]
struct Seen {
    job: Option<Job>,
    /// Results that came with the job itself.
    rows: Option<File>,
    /// Looks that saw it done, but without any results.
    unready: u32,
}

/// Uploads rows, where they have to be. May be repeated: an orphan file costs nothing and expires.
pub async fn deliver(client: &Client, transport: &Transport, delivery: Delivery, rows: Rows) -> Result<Input> {
    if delivery == Delivery::Inline {
        return Ok(Input::Inline(rows));
    }
    let mut replies: Vec<Response> = Vec::new();
    loop {
        let request = match client.provider.batches().upload(&rows, &replies)? {
            Upload::Done(id) => return Ok(Input::Uploaded(id)),
            Upload::Send(request) => request,
        };
        let reply = client.request(transport, &request).await;
        replies.push(reply.map_err(|error| if replies.is_empty() { no_batch_api(error) } else { error })?);
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
) -> Result<Job> {
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
                return Err(if refusals == 0 { no_batch_api(failure.error) } else { failure.error });
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
            return Err(unclear(failure.error, input, options));
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
async fn find(client: &Client, transport: &Transport, input: &Input, options: &JobOptions) -> Result<Option<Job>> {
    let api = client.provider.batches();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // The upload was a moment ago: an older job cannot be ours.
    let oldest = now.saturating_sub(client.endpoint.timeout.as_secs() + CLOCK_SKEW);
    let mut after = None;
    for _ in 0..MOST_PAGES {
        let Some(request) = api.list(after.as_deref()) else { return Ok(None) };
        let response = client.request(transport, &request).await?;
        let page = api
            .read_list(&client.parse(&response)?)
            .ok_or_else(|| client.no_answer(&response, "the list of jobs is no list".into()))?;
        let is_over = page.jobs.iter().any(|job| job.created_at.is_some_and(|created| created < oldest));
        if let Some(job) = page.jobs.into_iter().find(|job| api.is_made_of(job, input, options)) {
            return Ok(Some(job));
        }
        match page.next {
            Some(next) if !is_over && after.as_ref() != Some(&next) => after = Some(next),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

fn unclear(error: Error, input: &Input, options: &JobOptions) -> Error {
    let sign = match input {
        Input::Uploaded(file) => format!("with the input file {file}"),
        Input::Inline(_) if !options.token.is_empty() => {
            format!("made just now (its name may end in {})", options.token)
        }
        Input::Inline(_) => "made just now".to_owned(),
    };
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

impl Batch {
    /// A batch that this process just made.
    pub fn created(client: Arc<Client>, call: Call, job: Job, ids: RowIds) -> Self {
        Self { ids: Some(Arc::new(ids)), ..Self::open(client, call, job.id) }
    }

    /// A batch that is known by its id only.
    pub fn open(client: Arc<Client>, call: Call, id: String) -> Self {
        Self { client, call: Arc::new(call), id, ids: None, seen: Mutex::default(), results: Mutex::default() }
    }

    fn api(&self) -> &dyn BatchApi {
        self.client.provider.batches()
    }

    /// The job as it is now. A terminal state is never asked for again.
    pub async fn look(&self, transport: &Transport) -> Result<Job> {
        if let Some(job) = lock(&self.seen).job.clone().filter(|job| job.state.is_terminal()) {
            return Ok(job);
        }
        let response = self.client.request(transport, &self.api().get(&self.id)).await?;
        self.keep(&response)
    }

    /// Asks the provider to stop it. What has run by then can still be fetched.
    pub async fn cancel(&self, transport: &Transport) -> Result<Job> {
        let response = self.client.request(transport, &self.api().cancel(&self.id)).await?;
        match self.api().read_job(&self.client.parse(&response)?) {
            Some(job) => self.remember(job),
            // Some only say that they have heard.
            None => self.look(transport).await,
        }
    }

    fn keep(&self, response: &Response) -> Result<Job> {
        let job = self.api().read_job(&self.client.parse(response)?);
        self.remember(job.ok_or_else(|| self.client.no_answer(response, "the reply describes no batch".into()))?)
    }

    fn remember(&self, mut job: Job) -> Result<Job> {
        let mut seen = lock(&self.seen);
        // A slow answer to another thread must not undo a terminal state.
        if let Some(known) = seen.job.as_ref().filter(|known| known.state.is_terminal()) {
            return Ok(known.clone());
        }
        if !job.rows.is_empty() {
            seen.rows = Some(spool(std::mem::take(&mut job.rows))?);
        }
        if job.is_unready {
            seen.unready += 1;
            if seen.unready < MOST_UNREADY_LOOKS {
                job.state = State::InProgress;
            }
        }
        seen.job = Some(job.clone());
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
        let inside = lock(&self.seen).rows.take();
        if job.state == State::Failed && job.outputs.is_empty() && inside.is_none() {
            return Err(self.failure(&job));
        }
        let rows = match inside {
            Some(rows) => rows,
            None => self.download(transport, self.api().results(&job)).await?,
        };
        let found = collect::find_rows(self.api(), &rows)?;
        let order = match &self.ids {
            Some(ids) => Order { ids: ids.clone(), is_guessed: false },
            None => self.order_by_id(transport, &job, &found).await?,
        };
        let call = Arc::new(self.call.reading_of(&job));
        let results = Results::new(self.id.clone(), rows, order, found, self.client.clone(), call)?;
        Ok(lock(&self.results).get_or_insert(Arc::new(results)).clone())
    }

    /// The order of a batch that another process made.
    async fn order_by_id(&self, transport: &Transport, job: &Job, found: &Found) -> Result<Order> {
        let most = MOST_ROWS;
        if let Some(ids) = collect::ids_from_results(found, job.counts.total, most) {
            return Ok(Order { ids: Arc::new(ids), is_guessed: false });
        }
        if let Some(request) = self.api().input(job) {
            match self.download(transport, vec![vec![request]]).await {
                Ok(input) => {
                    let ids = collect::ids_from_input(collect::find_rows(self.api(), &input)?);
                    return Ok(Order { ids: Arc::new(ids), is_guessed: false });
                }
                // Expired, or not ours to read: the ids of the results are all there is.
                Err(error) if is_out_of_reach(&error) => {}
                // Trouble that passes: a guess now would hide an order that can be known later.
                Err(error) => return Err(error),
            }
        }
        let guess = collect::ids_without_input(found, job.counts.total, most);
        Ok(Order { ids: Arc::new(guess.ids), is_guessed: guess.is_guess })
    }

    /// Downloads files, one after the other, into one temporary file.
    async fn download(&self, transport: &Transport, downloads: Vec<Vec<Request>>) -> Result<File> {
        let mut file = disk::temporary("results")?;
        for alternatives in &downloads {
            fetch_any(&self.client, transport, alternatives, &mut file).await?;
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
    Looked(Box<Job>),
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
                        return Ok(Step::Looked(Box::new(job)));
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
                provider: self.batch.client.endpoint.provider.into(),
                message: format!("no answer within {:.1} s, and the wait is over", limit.as_secs_f64()),
                timed_out: true,
                sent: true,
            }))
        })
    }

    fn timed_out(&self) -> Error {
        let state = match &lock(&self.batch.seen).job {
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

/// Writes results that came with the job as a file of rows.
fn spool(rows: Vec<serde_json::Value>) -> Result<File> {
    let file = disk::temporary("results")?;
    let write = || {
        let mut file = std::io::BufWriter::new(file);
        for row in rows {
            writeln!(file, "{row}")?;
        }
        file.into_inner().map_err(|error| error.into_error())
    };
    write().map_err(|error: std::io::Error| Error::disk("Saving results", &error))
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
