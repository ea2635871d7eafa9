//! One pure file for each provider: functions that build requests and read replies. No socket, no clock, no `&mut`.

mod openai;
pub mod settings;

use crate::error::{ApiError, Error, Result};
use crate::exchange::{Request, Response};
use crate::generation::{Generation, GenerationConfig, Prompt};
use crate::schema::{Compiled, Dialect};
use crate::suggest;
use crate::transport::Endpoint;
use serde_json::{Map, Value};
use settings::Settings;
use std::fs::File;
use std::sync::Arc;

/// Opens a provider from a client's options.
type Open = fn(Settings) -> Result<(Endpoint, Box<dyn Provider>)>;

/// The remote providers. One line makes a new one known everywhere.
const TABLE: &[(&str, Open)] = &[("openai", openai::open)];

/// The names of the remote providers.
pub fn names() -> Vec<&'static str> {
    TABLE.iter().map(|(name, _)| *name).collect()
}

/// The provider called `name`, opened with `settings`, and where it is reached.
pub fn open(name: &str, settings: Settings) -> Result<(Endpoint, Box<dyn Provider>)> {
    match TABLE.iter().find(|(known, _)| *known == name) {
        Some((_, open)) => open(settings),
        None => Err(Error::configuration(suggest::unknown("provider", name, &names()))),
    }
}

/// A wire format.
pub trait Provider: Send + Sync {
    /// The dialect of JSON Schema that a call's schema is compiled to.
    fn dialect(&self) -> Dialect;

    /// Everything about a call but its prompt.
    fn prepare(&self, ask: &Ask) -> Result<Prepared>;

    /// The body of one request.
    fn body(&self, prepared: &Prepared, prompt: &Prompt) -> Result<Map<String, Value>>;

    /// The request for one immediate answer; `body` comes from [`Provider::body`].
    fn generate(&self, body: Map<String, Value>) -> Result<Request>;

    /// Reads the body of a successful reply. `Generation::raw` is left empty.
    fn read(&self, body: &Value, reading: &Reading) -> Result<Generation>;

    /// Reads an error reply, or anything else that is not a success.
    fn read_error(&self, response: &Response) -> ApiError;

    /// The provider's batch jobs.
    fn batches(&self) -> &dyn BatchApi;
}

/// What a caller asks, without the prompt.
pub struct Ask<'a> {
    pub model: &'a str,
    pub config: &'a GenerationConfig,
    /// `batch_options["system"]`.
    pub batch_system: Option<&'a str>,
    pub schema: Option<AskedSchema<'a>>,
}

pub struct AskedSchema<'a> {
    pub compiled: &'a Compiled,
    pub name: &'a str,
}

/// A call without its prompt, in the provider's words.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub body: Map<String, Value>,
    /// The system prompt, for providers that put it beside or into the conversation.
    pub system: Option<String>,
    pub reading: Reading,
    pub notices: Vec<Notice>,
}

/// How to read the replies of a call.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Stop strings that the provider does not know: we cut.
    pub stop: Vec<String>,
    pub schema: Option<ReadingSchema>,
}

#[derive(Debug, Clone)]
pub struct ReadingSchema {
    /// The answer is `{"value": ...}`, and the caller wants what is in it.
    pub wrapped: bool,
    /// The server may wrap JSON in a Markdown fence.
    pub may_be_fenced: bool,
}

/// Something that the caller should know and that is no error: a warning, shown once a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about; the same key is shown once.
    pub key: &'static str,
    pub message: String,
}

/// A provider's batch jobs: rows go up as a file, a job is made from it, results come back as files of rows.
pub trait BatchApi: Send + Sync {
    fn limits(&self) -> Limits;

    /// One row as a JSON object.
    fn row(&self, id: &str, body: Map<String, Value>) -> Map<String, Value>;

    /// Refuses options that the provider cannot take, before anything is sent.
    fn check(&self, options: &JobOptions) -> Result<()>;

    /// The request that uploads the rows.
    fn upload(&self, file: Arc<File>, bytes: u64) -> Request;

    /// The id of the uploaded file; None if the reply does not tell.
    fn read_upload(&self, body: &Value) -> Option<String>;

    /// The request that makes the job. Not idempotent: `batch/run.rs` never sends it twice without a look.
    fn create(&self, input: &str, options: &JobOptions) -> Result<Request>;

    /// Where to read a job.
    fn get(&self, id: &str) -> Request;

    fn cancel(&self, id: &str) -> Request;

    /// None if `body` is no job.
    fn read_job(&self, body: &Value) -> Option<Job>;

    /// A page of the list of jobs, newest first; `after` is the last id of the page before.
    fn list(&self, after: Option<&str>) -> Request;

    /// None if `body` is no list.
    fn read_list(&self, body: &Value) -> Option<Page>;

    /// The requests that download the rows of a job's results.
    fn results(&self, job: &Job) -> Vec<Request>;

    /// The request that downloads the rows that were uploaded.
    fn input(&self, job: &Job) -> Option<Request>;

    /// The id of a row, of input or of result.
    fn row_id(&self, line: &[u8]) -> Option<String>;

    /// What a row of results says.
    fn read_row(&self, line: &Value, reading: &Reading) -> RowOutcome;
}

/// What one job can hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub rows: u64,
    pub bytes: u64,
}

/// What a job is given beside its rows.
#[derive(Debug, Clone, Default)]
pub struct JobOptions {
    pub display_name: Option<String>,
    pub completion_window: Option<String>,
    /// Stop strings, kept with the job so that another process can cut too.
    pub stop: Vec<String>,
}

/// A batch job as the provider last described it.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: String,
    pub raw_state: String,
    pub state: State,
    pub counts: Counts,
    /// Why it failed, in the provider's words.
    pub reasons: Vec<String>,
    pub input: Option<String>,
    pub outputs: Vec<String>,
    /// Unix seconds.
    pub created_at: Option<u64>,
    /// The stop strings that it was created with.
    pub stop: Vec<String>,
}

/// What the provider says of its progress. Not to be believed for anything that matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub total: u64,
    pub done: u64,
    pub failed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Pending,
    InProgress,
    Completed,
    Failed,
    Cancelled,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A page of a list of jobs.
pub struct Page {
    pub jobs: Vec<Job>,
    /// The id to continue after; None on the last page.
    pub next: Option<String>,
}

/// What became of a row, by the word of its result line.
#[derive(Debug, Clone)]
pub enum RowOutcome {
    Answered(Generation),
    /// A reply came with no usable answer in it, or the provider refused the request.
    Error(Error),
    /// The window ended before it ran.
    Expired(String),
    /// The job was cancelled before it ran.
    Cancelled(String),
}
