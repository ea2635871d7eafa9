//! A job at a provider: looked at, waited for, cancelled. What to do when is decided by the pure files beside this one.

use super::fetch::Fetched;
use super::ids::RowIds;
use super::lifecycle::{Action, Lifecycle, RESULTS_LAG_INTERVAL, ResultsLag};
use crate::bounds::Expected;
use crate::client::{Call, Client};
use crate::disk::RowSpool;
use crate::error::{ApiErrorKind, BatchErrorKind, ConnectionError, Error, Result, quote, quote_list_up_to};
use crate::exchange::{Request, Response};
use crate::providers::{BatchApi, Counts, Job, State};
use crate::transport::Transport;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a new job may not be visible.
const VISIBLE_AFTER: Duration = Duration::from_secs(60);
/// What a look gets at least when the wait is nearly over.
const SHORTEST_LOOK: Duration = Duration::from_secs(5);

/// A job at a provider, made here or found by its id.
pub struct Batch {
    pub client: Arc<Client>,
    pub call: Arc<Call>,
    pub id: String,
    /// The ids of its rows, if it was made by this process.
    pub(super) ids: Option<Arc<RowIds>>,
    /// When it was made by this process, and as what.
    made: Option<(Instant, Job)>,
    opened: Instant,
    pub(super) seen: Mutex<Seen>,
    pub(super) fetched: Mutex<Fetched>,
}

/// What looks at a job have seen.
#[derive(Default)]
pub(super) struct Seen {
    job: Option<Job>,
    /// Results that came with the job itself.
    pub(super) rows: Option<Arc<File>>,
    lag: ResultsLag,
    /// How much longer the job may go on without showing its results.
    lag_left: Option<Duration>,
}

impl Batch {
    /// A batch that this process just made.
    pub fn created(client: Arc<Client>, call: Call, job: Job, ids: RowIds) -> Self {
        let made = Some((Instant::now(), job.clone()));
        Self { ids: Some(Arc::new(ids)), made, ..Self::open(client, call, job.id) }
    }

    /// A batch that is known by its id only.
    pub fn open(client: Arc<Client>, call: Call, id: String) -> Self {
        Self {
            client,
            call: Arc::new(call),
            id,
            ids: None,
            made: None,
            opened: Instant::now(),
            seen: Mutex::default(),
            fetched: Mutex::default(),
        }
    }

    pub(super) fn api(&self) -> &dyn BatchApi {
        self.client.provider.batches()
    }

    /// What the provider counts of `job`, as far as it can be true.
    pub fn counts(&self, job: &Job) -> Counts {
        job.counts.plausible(self.api().max_rows(), self.ids.as_ref().map(|ids| ids.len()))
    }

    /// The job as it is now. A terminal state is never asked for again, unless the job does not show its results yet.
    pub async fn look(&self, transport: &Transport) -> Result<Job> {
        match self.ended() {
            Some(job) => Ok(job),
            None => self.poll(transport).await,
        }
    }

    /// The job as the provider shows it now.
    pub(super) async fn poll(&self, transport: &Transport) -> Result<Job> {
        match (self.ask(transport, &self.api().get(&self.id)).await, &self.made) {
            // A new job may not be visible at once: it is as it was when it was made.
            (Err(error), Some((made, job)))
                if error.api_kind() == Some(ApiErrorKind::NotFound) && made.elapsed() < VISIBLE_AFTER =>
            {
                Ok(job.clone())
            }
            (response, _) => {
                let (response, rows) = response?;
                match self.read(&response).await? {
                    Some(job) => Ok(self.remember(job, rows)),
                    None => Err(self.client.no_answer(&response, "the reply describes no batch".into())),
                }
            }
        }
    }

    fn ended(&self) -> Option<Job> {
        let seen = lock(&self.seen);
        seen.job.clone().filter(|job| job.state.is_terminal() && seen.lag_left.is_none())
    }

    /// How much longer the job, which has ended, may go on without showing its results; None: it shows all there is.
    pub(super) fn lag_left(&self) -> Option<Duration> {
        lock(&self.seen).lag_left
    }

    /// Asks the provider to stop it. What has run by then can still be fetched.
    pub async fn cancel(&self, transport: &Transport) -> Result<Job> {
        if let Some(job) = self.ended() {
            return Ok(job);
        }
        let (response, rows) = self.ask(transport, &self.api().cancel(&self.id)).await?;
        match self.read(&response).await? {
            Some(job) => Ok(self.remember(job, rows)),
            // Some only say that they have heard.
            None => self.look(transport).await,
        }
    }

    /// A reply about the job, and a file of the results that came with it.
    async fn ask(&self, transport: &Transport, request: &Request) -> Result<(Response, Option<File>)> {
        let mut rows = RowSpool::default();
        let expected = Expected::StateWithRows(&mut rows);
        let response = self.client.request_as(transport, request, expected).await?;
        Ok((response, rows.finish()?))
    }

    /// The job that a reply describes, if it does.
    async fn read(&self, response: &Response) -> Result<Option<Job>> {
        let read = |client: &Client, response: Response| {
            let job = client.provider.batches().read_job(&client.parse(&response)?);
            // These are a server's words, in which it may quote a key.
            Ok(job.map(|job| Job {
                raw_state: client.endpoint.redact(&job.raw_state),
                reasons: job.reasons.iter().map(|reason| client.endpoint.redact(reason)).collect(),
                ..job
            }))
        };
        self.client.read_reply(response.clone(), read).await
    }

    fn remember(&self, mut job: Job, rows: Option<File>) -> Job {
        let mut seen = lock(&self.seen);
        // Rows that come with the state were taken out of it: an empty list may say that they are still to come.
        let has_any = rows.is_some() || seen.rows.is_some() || !job.outputs.is_empty();
        job.is_unready |= job.state == State::Completed && job.counts.done > 0 && !has_any;
        // A slow answer to another thread must not undo a terminal state.
        let shows_results = job.state.is_terminal() && !job.is_unready;
        if let Some(known) = seen.job.clone().filter(|known| known.state.is_terminal()) {
            // Unless it shows the results that were not there yet.
            if !(known.is_unready && shows_results) {
                seen.lag_left = seen.lag.observe(known.is_unready, self.opened.elapsed());
                return known;
            }
        }
        if rows.is_some() {
            seen.rows = rows.map(Arc::new);
        }
        seen.lag_left = seen.lag.observe(job.is_unready, self.opened.elapsed());
        if seen.lag_left.is_some() && job.state == State::Completed {
            job.state = State::InProgress;
        }
        seen.job = Some(job.clone());
        job
    }

    /// Why there are no results.
    pub fn failure(&self, job: &Job) -> Error {
        let why = if job.reasons.is_empty() {
            String::new()
        } else {
            format!(": {}", quote_list_up_to(&job.reasons, "; ", 500, 300))
        };
        let message = format!("it is {} ('{}'){why}", job.state.name(), quote(&job.raw_state));
        self.error(BatchErrorKind::Failed, &message)
    }

    pub(super) fn error(&self, kind: BatchErrorKind, message: &str) -> Error {
        Error::batch(kind, &self.id, message)
    }

    /// Waits, look by look: see [`Waiter`].
    pub fn waiter(self: Arc<Self>, poll_interval: Duration, timeout: Option<Duration>) -> Waiter {
        let lifecycle = Lifecycle::new(poll_interval, timeout);
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
                        if let Some(left) = self.batch.lag_left() {
                            self.lifecycle.look_within(left.min(RESULTS_LAG_INTERVAL));
                        }
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
            Some(job) => format!("it is still {} ('{}')", job.state.name(), quote(&job.raw_state)),
            None => "its state could not be read".into(),
        };
        let trouble = self.error.as_ref().map(|error| format!(" Last error: {error}")).unwrap_or_default();
        let message = format!(
            "{state} after {:.1} s. It goes on at the provider: wait() again, or fetch it later by its id.{trouble}",
            self.started.elapsed().as_secs_f64()
        );
        self.batch.error(BatchErrorKind::TimedOut, &message)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
