//! A folder of pure files for each provider: functions that build requests and read replies. No socket, no clock, no `&mut`.

mod anthropic;
mod base_url;
mod errors;
mod fields;
mod gemini;
mod openai;
mod rows;
pub mod settings;

use crate::answer::{AnswerSchema, ReadingSchema};
use crate::error::{ApiError, Error, Result};
use crate::exchange::{Endpoint, Request, Response};
use crate::generation::{Generation, GenerationConfig, Prompt};
use crate::schema::Dialect;
use crate::suggest;
use fields::Fields;
use serde_json::{Map, Value};
use settings::Settings;
use std::fs::File;
use std::sync::Arc;

/// Opens a provider from a client's options.
type Open = fn(Settings) -> Result<(Endpoint, Box<dyn Provider>)>;

/// The remote providers: the name, how to open it, and the dialect of JSON Schema of its single calls. One line makes a new
/// one known everywhere.
const TABLE: &[(&str, Open, Dialect)] = &[
    ("openai", openai::open, Dialect::OpenAi),
    ("anthropic", anthropic::open, Dialect::Anthropic),
    ("gemini", gemini::open, Dialect::GeminiJsonSchema),
];

/// The names of the remote providers.
pub fn names() -> Vec<&'static str> {
    TABLE.iter().map(|(name, ..)| *name).collect()
}

/// The provider called `name`, opened with `settings`, and where it is reached.
pub fn open(name: &str, settings: Settings) -> Result<(Endpoint, Box<dyn Provider>)> {
    let (_, open, _) = find(name)?;
    open(settings)
}

/// The dialect of JSON Schema that the provider called `name` takes in single calls.
pub fn dialect(name: &str) -> Result<Dialect> {
    find(name).map(|(.., dialect)| *dialect)
}

fn find(name: &str) -> Result<&'static (&'static str, Open, Dialect)> {
    TABLE
        .iter()
        .find(|(known, ..)| *known == name)
        .ok_or_else(|| Error::configuration(suggest::unknown("provider", name, &names())))
}

/// A wire format.
pub trait Provider: Send + Sync {
    /// Everything about a single call but its prompt.
    fn prepare(&self, ask: &Ask) -> Result<Prepared>;

    /// Refuses a text that the provider would refuse.
    fn check_text(&self, _text: &str) -> Result<()> {
        Ok(())
    }

    /// The body of one request.
    fn body(&self, prepared: &Prepared, prompt: &Prompt) -> Result<Map<String, Value>>;

    /// The request for one immediate answer; `body` comes from [`Provider::body`].
    fn generate(&self, prepared: &Prepared, body: Map<String, Value>) -> Request;

    /// Reads the body of a successful reply. `Generation::raw` is left empty.
    fn read(&self, body: &Value, reading: &Reading) -> Result<Generation>;

    /// Reads an error reply, or anything else that is not a success.
    fn read_error(&self, response: &Response) -> ApiError;

    /// Whether this error says that the server does not know what [`Prepared::fallback`] does without.
    fn wants_fallback(&self, _error: &ApiError) -> bool {
        false
    }

    /// Whether a batch is a job at the provider unless the caller says otherwise.
    fn batches_are_native(&self) -> bool;

    /// The provider's batch jobs.
    fn batches(&self) -> &dyn BatchApi;
}

/// What a caller asks, without the prompt.
pub struct Ask<'a> {
    pub model: &'a str,
    pub config: &'a GenerationConfig,
    /// `batch_options["system"]`.
    pub batch_system: Option<&'a str>,
    pub schema: Option<&'a AnswerSchema>,
}

/// A call without its prompt, in the provider's words.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    pub body: Map<String, Value>,
    /// The system prompt, for providers that put it beside or into the conversation.
    pub system: Option<String>,
    pub model: String,
    pub headers: Vec<(&'static str, String)>,
    pub reading: Reading,
    pub notices: Vec<Notice>,
    /// The same call in a form that older servers know too.
    pub fallback: Option<Box<Prepared>>,
}

/// How to read the replies of a call.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The text is cut before the first of these, whatever the server did.
    pub stop: Vec<String>,
    /// The server is told of the stop strings, and may have stopped at one before any text.
    pub server_stops: bool,
    pub schema: Option<ReadingSchema>,
    /// The most tokens that were asked for, where a server may not say that it was they that ended the answer.
    pub max_tokens: Option<u64>,
}

impl Reading {
    /// Whether an answer without text may be one that began with a stop string.
    pub fn may_be_stopped_at_once(&self) -> bool {
        self.server_stops && !self.stop.is_empty()
    }

    /// Of the texts of an answer to a schema that `max_tokens` ended, lets go of the last, which was cut; whether any is left.
    pub fn drop_cut(&self, texts: &mut Vec<String>) -> bool {
        self.schema.is_some() && texts.pop().is_some() && !texts.is_empty()
    }
}

/// Something that the caller should know and that is no error: a warning, shown once a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about; the same key is shown once.
    pub key: &'static str,
    pub message: String,
}

impl Notice {
    pub fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, message: message.into() }
    }
}

/// A provider's batch jobs: rows go up, a job is made of them, results come back as rows.
pub trait BatchApi: Send + Sync {
    /// The ways in which rows can be handed over, the preferred one first. Each has its own limits, and a batch goes by
    /// the first whose limits hold it.
    fn forms(&self, ask: &Ask) -> Result<Vec<Form>>;

    /// Refuses options that the provider cannot take, before anything is sent.
    fn check(&self, options: &JobOptions) -> Result<()>;

    /// Refuses an id that the provider would refuse.
    fn check_custom_id(&self, _id: &str) -> Result<()> {
        Ok(())
    }

    /// The id on the wire of the row at `index`, for which the caller has an id of his own. The default id carries its
    /// position already.
    fn wire_id(&self, _index: u64, custom_id: &str) -> String {
        custom_id.to_owned()
    }

    /// One row as a JSON object.
    fn row(&self, delivery: Delivery, id: &str, body: Map<String, Value>) -> Map<String, Value>;

    /// The next request of an upload, given the replies so far; or the id of the file, when it is all up.
    fn upload(&self, rows: &Rows, replies: &[Response]) -> Result<Upload>;

    /// The request that makes the job. Not idempotent: `batch/submit.rs` never sends it twice without a look.
    fn create(&self, model: &str, input: &Input, options: &JobOptions) -> Request;

    /// Where to read a job.
    fn get(&self, id: &str) -> Request;

    fn cancel(&self, id: &str) -> Request;

    /// An id as the caller may write it, as the provider writes it. Refuses what could only be another place on the server.
    fn job_id(&self, id: &str) -> Result<String> {
        // Everything else that means something in a path is escaped, as the SDKs do.
        match matches!(id, "." | "..") {
            true => Err(Error::configuration(format!("{id:?} cannot be the id of a batch; give what batch.id was"))),
            false => Ok(id.to_owned()),
        }
    }

    /// None if `body` is no job. Rows inside it were taken out while it arrived: see `inline.rs`.
    fn read_job(&self, body: &Value) -> Option<Job>;

    /// A page of the list of jobs, newest first; `after` is what [`Page::next`] was.
    fn list(&self, after: Option<&str>) -> Request;

    /// None if `body` is no list.
    fn read_list(&self, body: &Value) -> Option<Page>;

    /// Whether `job` was made of `input` with `options`; None: it may be, and the list does not say enough.
    fn is_made_of(&self, job: &Job, input: &Input, options: &JobOptions) -> Option<bool>;

    /// By what a person tells the job that was made of `input` from others: "with the input file ...".
    fn describe_input(&self, input: &Input, options: &JobOptions) -> String;

    /// The files of a job's results.
    fn results(&self, job: &Job) -> Vec<ResultFile>;

    /// Whether a stopped job returns nothing for the rows that it did not run, instead of saying so row by row.
    fn leaves_out_stopped_rows(&self) -> bool {
        false
    }

    /// The request that downloads the rows that were uploaded, where that is possible.
    fn input(&self, job: &Job) -> Option<Request>;

    /// The id of a row, of input or of result; None if it has none, or if the line is no row.
    fn row_id(&self, line: &[u8]) -> Option<RowId>;

    /// What of a result row an answer is made of. (An error may be made of all of it.)
    fn answer_fields(&self) -> &'static Fields;

    /// Whether a line without an id holds what a result row holds, and not just anything that is JSON.
    fn is_result_row(&self, row: &Value) -> bool;

    /// The most rows that a job can have: a count beyond it is not true.
    fn max_rows(&self) -> u64;

    /// What a row of results says.
    fn read_row(&self, line: &Value, reading: &Reading) -> RowOutcome;
}

/// How rows reach a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As a file of JSON lines, uploaded before the job is made.
    Upload,
    /// Inside the request that makes the job, joined by commas.
    Inline,
}

/// One way to hand over the rows of a call.
pub struct Form {
    pub delivery: Delivery,
    pub limits: Limits,
    pub prepared: Prepared,
}

/// What one job can hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub rows: u64,
    pub bytes: u64,
}

/// Rows on the disk.
#[derive(Debug, Clone)]
pub struct Rows {
    pub file: Arc<File>,
    pub bytes: u64,
    pub count: u64,
}

/// The next step of an upload.
pub enum Upload {
    Send(Request),
    /// The id of the file.
    Done(String),
}

/// What a job is made of.
#[derive(Debug, Clone)]
pub enum Input {
    /// The id of an uploaded file.
    Uploaded(String),
    Inline(Rows),
}

/// A file of result rows.
pub struct ResultFile {
    /// What it is, and its id: as messages call it.
    pub name: String,
    /// The requests to try, one after the other, until one finds it.
    pub places: Vec<Request>,
}

/// A file of result rows, as a job names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// What it holds, in the provider's words.
    pub kind: &'static str,
    pub id: String,
}

impl OutputFile {
    /// The file, to be fetched from the first of `places` that has it.
    pub fn at(&self, places: Vec<Request>) -> ResultFile {
        ResultFile { name: format!("{} '{}'", self.kind, self.id), places }
    }
}

/// What a job is given beside its rows.
#[derive(Debug, Clone, Default)]
pub struct JobOptions {
    pub display_name: Option<String>,
    pub completion_window: Option<String>,
    /// Stop strings, kept with the job so that another process can cut too.
    pub stop: Vec<String>,
    /// Random, by which a job without an input file can be told from others.
    pub token: String,
}

/// The id of a row as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowId {
    /// Where among the inputs, if the id tells.
    pub index: Option<u64>,
    /// The id as the caller knows it.
    pub name: String,
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
    pub display_name: Option<String>,
    /// The id of the uploaded file.
    pub input: Option<String>,
    /// The files of results.
    pub outputs: Vec<OutputFile>,
    /// It has ended, but does not show the results that there are by its own words.
    pub is_unready: bool,
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

impl Counts {
    /// As far as they can be true of a job that can have `max_rows`, and has `rows` if that is known: what is beyond the
    /// former says nothing, and counts as 0.
    pub fn plausible(self, max_rows: u64, rows: Option<u64>) -> Self {
        let known = |count: u64| if count > max_rows { 0 } else { count.min(rows.unwrap_or(count)) };
        let total = known(self.total);
        let done = known(self.done).min(if total > 0 { total } else { u64::MAX });
        Self { total, done, failed: known(self.failed).min(done) }
    }
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

impl Job {
    /// A job of which only this much is known.
    pub fn new(id: String, raw_state: String, state: State) -> Self {
        Self {
            id,
            raw_state,
            state,
            counts: Counts::default(),
            reasons: Vec::new(),
            display_name: None,
            input: None,
            outputs: Vec::new(),
            is_unready: false,
            created_at: None,
            stop: Vec::new(),
        }
    }
}

/// A page of a list of jobs.
pub struct Page {
    pub jobs: Vec<Job>,
    /// What to continue after; None on the last page.
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
