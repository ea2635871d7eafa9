//! A job at a provider: looked at, waited for, cancelled, its results put in order. What to do when is decided by the pure
//! files beside this one.

use super::collect::Results;
use super::download;
use super::ids::RowIds;
use super::lifecycle::{Action, Lifecycle};
use super::order::{self, Found, Order};
use crate::client::{Call, Client};
use crate::disk;
use crate::error::{ApiErrorKind, BatchErrorKind, ConnectionError, Error, Result, quote, quote_list_up_to};
use crate::exchange::Response;
use crate::providers::{BatchApi, Job, State};
use crate::transport::Transport;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So often a job may be done without showing results before that is believed.
const MOST_UNREADY_LOOKS: u32 = 10;
/// More rows than any job holds: bounds what a strange id in a result can make us allocate.
const MOST_ROWS: u64 = 10_000_000;

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
    ids: Option<Arc<RowIds>>,
    /// When it was made by this process, and as what.
    made: Option<(Instant, Job)>,
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
            seen: Mutex::default(),
            results: Mutex::default(),
        }
    }

    fn api(&self) -> &dyn BatchApi {
        self.client.provider.batches()
    }

    /// The job as it is now. A terminal state is never asked for again.
    pub async fn look(&self, transport: &Transport) -> Result<Job> {
        if let Some(job) = self.ended() {
            return Ok(job);
        }
        match (self.client.request(transport, &self.api().get(&self.id)).await, &self.made) {
            // A new job may not be visible at once: it is as it was when it was made.
            (Err(error), Some((made, job)))
                if error.api_kind() == Some(ApiErrorKind::NotFound) && made.elapsed() < VISIBLE_AFTER =>
            {
                Ok(job.clone())
            }
            (response, _) => {
                let response = response?;
                match self.read(&response).await? {
                    Some((job, rows)) => Ok(self.remember(job, rows)),
                    None => Err(self.client.no_answer(&response, "the reply describes no batch".into())),
                }
            }
        }
    }

    fn ended(&self) -> Option<Job> {
        lock(&self.seen).job.clone().filter(|job| job.state.is_terminal())
    }

    /// Asks the provider to stop it. What has run by then can still be fetched.
    pub async fn cancel(&self, transport: &Transport) -> Result<Job> {
        if let Some(job) = self.ended() {
            return Ok(job);
        }
        let response = self.client.request(transport, &self.api().cancel(&self.id)).await?;
        match self.read(&response).await? {
            Some((job, rows)) => Ok(self.remember(job, rows)),
            // Some only say that they have heard.
            None => self.look(transport).await,
        }
    }

    /// The job that a reply describes, if it does, and a file of the results that came with it.
    async fn read(&self, response: &Response) -> Result<Option<(Job, Option<File>)>> {
        let (client, response) = (self.client.clone(), response.clone());
        aside(move || {
            let Some(mut job) = client.provider.batches().read_job(&client.parse(&response)?) else { return Ok(None) };
            let rows = std::mem::take(&mut job.rows);
            let rows = (!rows.is_empty()).then(|| spool(rows)).transpose()?;
            Ok(Some((job, rows)))
        })
        .await
    }

    fn remember(&self, mut job: Job, rows: Option<File>) -> Job {
        let mut seen = lock(&self.seen);
        // A slow answer to another thread must not undo a terminal state.
        if let Some(known) = seen.job.as_ref().filter(|known| known.state.is_terminal()) {
            return known.clone();
        }
        if rows.is_some() {
            seen.rows = rows;
        }
        if job.is_unready {
            seen.unready += 1;
            if seen.unready < MOST_UNREADY_LOOKS {
                job.state = State::InProgress;
            }
        }
        seen.job = Some(job.clone());
        job
    }

    /// The results, downloaded once. Fails unless the state is terminal; a failed job has none.
    pub async fn results(&self, transport: &Transport) -> Result<Arc<Results>> {
        if let Some(results) = lock(&self.results).clone() {
            return Ok(results);
        }
        let job = self.look(transport).await?;
        if !job.state.is_terminal() {
            let message = format!("it is {} ('{}'); wait() until it is done", job.state.name(), quote(&job.raw_state));
            return Err(self.error(BatchErrorKind::NotCompleted, &message));
        }
        let inside = lock(&self.seen).rows.as_ref().map(File::try_clone).transpose();
        let inside = inside.map_err(|error| Error::disk("Reading results", &error))?;
        if job.state == State::Failed && job.outputs.is_empty() && inside.is_none() {
            return Err(self.failure(&job));
        }
        let rows = match inside {
            Some(rows) => rows,
            None => download::files(&self.client, transport, &self.api().results(&job)).await?,
        };
        let client = self.client.clone();
        let (rows, found) = aside(move || {
            let found = order::find_rows(client.provider.batches(), &rows)?;
            Ok((rows, Arc::new(found)))
        })
        .await?;
        let order = match &self.ids {
            Some(ids) => Order { ids: ids.clone(), is_guessed: false },
            None => self.order_by_id(transport, &job, &found).await?,
        };
        let (id, client, call) = (self.id.clone(), self.client.clone(), Arc::new(self.call.reading_of(&job)));
        let mut results = aside(move || Results::new(id, rows, order, &found, client, call)).await?;
        if self.api().leaves_out_stopped_rows() {
            results = results.with_silent_rows(&job);
        }
        Ok(lock(&self.results).get_or_insert(Arc::new(results)).clone())
    }

    /// The order of a batch that another process made.
    async fn order_by_id(&self, transport: &Transport, job: &Job, found: &Arc<Found>) -> Result<Order> {
        let (rows, total) = (found.clone(), job.counts.total);
        if let Some(ids) = aside(move || Ok(order::ids_from_results(&rows, total, MOST_ROWS))).await? {
            return Ok(Order { ids: Arc::new(ids), is_guessed: false });
        }
        if let Some(request) = self.api().input(job) {
            match download::files(&self.client, transport, &[vec![request]]).await {
                Ok(input) => {
                    let client = self.client.clone();
                    let ids =
                        aside(move || Ok(order::ids_from_input(order::find_rows(client.provider.batches(), &input)?)));
                    let ids = ids.await?;
                    return Ok(Order { ids: Arc::new(ids), is_guessed: false });
                }
                // Expired, or not ours to read: the ids of the results are all there is.
                Err(error) if download::is_out_of_reach(&error) => {}
                // Trouble that passes: a guess now would hide an order that can be known later.
                Err(error) => return Err(error),
            }
        }
        let rows = found.clone();
        let guess = aside(move || Ok(order::ids_without_input(&rows, total, MOST_ROWS))).await?;
        Ok(Order { ids: Arc::new(guess.ids), is_guessed: guess.is_guess })
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

    /// States and reasons are a server's words, in which it may quote a key.
    fn error(&self, kind: BatchErrorKind, message: &str) -> Error {
        Error::batch(kind, &self.id, self.client.endpoint.redact(message))
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

/// Does what may take long on a thread of its own: the runtime's has everybody's calls to serve.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Disk(format!("reading results was broken off: {error}"))))
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
