//! Everything that can go wrong, as data. `python/llmbackend/errors.py` has one class for each kind.

use crate::generation::{FinishReason, Usage};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Error {
    /// The caller's mistake, found before anything is sent.
    Configuration(String),
    /// A JSON Schema that cannot be used, and where in it.
    Schema { path: String, message: String },
    /// The provider answered, and the answer is an error.
    Api(Box<ApiError>),
    /// No usable answer came over the wire.
    Connection(ConnectionError),
    /// A reply came, but no usable answer is in it.
    Output(Box<OutputError>),
    /// A batch that is not ready, failed, or ran out of time.
    Batch { kind: BatchErrorKind, batch_id: String, message: String },
    /// It is not known whether a job was created.
    UnknownCreate(Box<UnknownCreate>),
    /// A local engine failed: which, and what it said.
    Engine(String),
    /// The local disk: what was being done, where, and what the system said.
    Disk(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiErrorKind {
    Authentication,
    PermissionDenied,
    NotFound,
    InvalidRequest,
    RateLimit,
    /// A limit that waiting does not lift: billing, credit, spend. Never retried.
    QuotaExceeded,
    Server,
    /// A 200 that is no answer, a redirect, or anything else outside the protocol.
    Other,
}

/// An error reply. `status` is None where the error came inside a row of a batch without one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiError {
    pub kind: ApiErrorKind,
    pub provider: Cow<'static, str>,
    pub status: Option<u16>,
    pub code: Option<String>,
    pub message: String,
    pub request_id: Option<String>,
    /// How long the server asked us to wait.
    pub retry_after: Option<Duration>,
    /// The reply's body as text, cut to a few thousand characters.
    pub body: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionError {
    pub provider: Cow<'static, str>,
    pub message: String,
    pub timed_out: bool,
    /// False only if it is certain that the server has not seen the request.
    pub sent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputErrorKind {
    /// No text, and no reason given for it.
    NoText,
    Refusal,
    ContentFilter,
    Truncated,
    /// Does not fit the caller's schema.
    Invalid,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutputError {
    pub kind: OutputErrorKind,
    pub message: String,
    /// What the model did say.
    pub text: Option<String>,
    /// Why the model stopped.
    pub finish_reason: Option<FinishReason>,
    /// What it cost all the same; None where the server does not count.
    pub usage: Option<Usage>,
    /// The reply's body, without keys.
    pub response: Option<String>,
}

/// A create request whose outcome is unknown, and that was not sent again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnknownCreate {
    pub message: String,
    /// When it was sent, since the Unix epoch.
    pub sent_at: Duration,
    /// Ids of jobs that may have come of it.
    pub candidates: Vec<String>,
    /// What came back instead of a job.
    pub cause: Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchErrorKind {
    NotCompleted,
    Failed,
    TimedOut,
    /// The handle, or what the provider said of the batch, makes no sense.
    Other,
}

/// The most characters of a server's or a model's text that a message quotes.
pub const MAX_QUOTE: usize = 300;

/// `text` as a message quotes it: of a long one, the beginning and the end.
pub fn quote(text: &str) -> Cow<'_, str> {
    quote_up_to(text, MAX_QUOTE)
}

/// As [`quote`], with a limit of its own.
pub fn quote_up_to(text: &str, max: usize) -> Cow<'_, str> {
    if text.char_indices().nth(max).is_none() {
        return text.into();
    }
    let tail = max / 4;
    let head = text.char_indices().nth(max - tail).map_or(text.len(), |(at, _)| at);
    let end = text.char_indices().rev().nth(tail.saturating_sub(1)).map_or(0, |(at, _)| at);
    format!("{} ... {}", &text[..head], &text[end..]).into()
}

/// Several texts as a message quotes them, joined by `separator`: as many as are worth reading.
pub fn quote_list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>, separator: &str) -> String {
    quote_list_up_to(texts, separator, MAX_QUOTE / 2, 2 * MAX_QUOTE)
}

/// As [`quote_list`], up to `max` characters of each, and none after `total`.
pub fn quote_list_up_to<T: AsRef<str>>(
    texts: impl IntoIterator<Item = T>,
    separator: &str,
    max: usize,
    total: usize,
) -> String {
    let mut quoted = String::new();
    let mut length = 0;
    for text in texts {
        if length >= total {
            return quoted + separator + "...";
        }
        if length > 0 {
            quoted.push_str(separator);
        }
        let text = quote_up_to(text.as_ref(), max);
        length += text.chars().count() + separator.len();
        quoted.push_str(&text);
    }
    quoted
}

impl Error {
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::Configuration(message.into())
    }

    pub fn output(kind: OutputErrorKind, message: impl Into<String>, text: Option<String>) -> Self {
        let message = message.into();
        Self::Output(Box::new(OutputError { kind, message, text, finish_reason: None, usage: None, response: None }))
    }

    /// The same error with what came along with the useless answer, which is paid for all the same.
    pub fn came_with(mut self, finish_reason: Option<FinishReason>, usage: Option<Usage>) -> Self {
        if let Self::Output(error) = &mut self {
            (error.finish_reason, error.usage) = (finish_reason, usage);
        }
        self
    }

    pub fn batch(kind: BatchErrorKind, batch_id: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Batch { kind, batch_id: batch_id.into(), message: message.into() }
    }

    /// An error of the local file system while `doing` something.
    pub fn disk(doing: &str, error: &io::Error) -> Self {
        let place = std::env::temp_dir();
        Self::Disk(format!("{doing} failed in the temporary folder {}: {error}. {}.", place.display(), remedy(error)))
    }

    /// The same mistake, with what it is about before it.
    pub fn about(self, subject: &str) -> Self {
        match self {
            Self::Configuration(message) => Self::Configuration(format!("{subject} {message}")),
            other => other,
        }
    }

    pub fn api_kind(&self) -> Option<ApiErrorKind> {
        match self {
            Self::Api(error) => Some(error.kind),
            _ => None,
        }
    }
}

/// What to do about an error of the local file system.
fn remedy(error: &io::Error) -> &'static str {
    // EMFILE and ENFILE, the same on every Unix; they have no kind of their own.
    if cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24)) {
        return "Too many files are open: close some (batches that are not needed any more hold some), or raise the limit \
                (ulimit -n)";
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "Free some space there, or point TMPDIR to a folder with more"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "Point TMPDIR to a folder that can be written to"
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "Make that folder, or point TMPDIR to one that exists"
        }
        _ => "Look at that disk, or point TMPDIR to a folder on another one",
    }
}

/// What an HTTP status means where the body does not say more.
pub fn kind_of_status(status: u16) -> ApiErrorKind {
    match status {
        401 => ApiErrorKind::Authentication,
        402 => ApiErrorKind::QuotaExceeded,
        403 => ApiErrorKind::PermissionDenied,
        404 => ApiErrorKind::NotFound,
        408 | 409 | 500.. => ApiErrorKind::Server,
        429 => ApiErrorKind::RateLimit,
        400..=499 => ApiErrorKind::InvalidRequest,
        _ => ApiErrorKind::Other,
    }
}

impl ApiError {
    /// Something outside the protocol that no status goes with.
    pub fn outside(provider: &'static str, message: String) -> Self {
        Self {
            kind: ApiErrorKind::Other,
            provider: provider.into(),
            status: None,
            code: None,
            message,
            request_id: None,
            retry_after: None,
            body: None,
        }
    }

    /// A 3xx, which is not followed.
    pub fn is_redirect(&self) -> bool {
        matches!(self.status, Some(300..400))
    }

    /// The message that a person reads: who, what, and everything a support request needs.
    pub fn text(&self) -> String {
        let mut text = format!("{}: {}", self.provider, self.message);
        let mut facts = Vec::new();
        facts.extend(self.status.map(|status| format!("HTTP {status}")));
        facts.extend(self.code.as_ref().map(|code| format!("code {code}")));
        facts.extend(self.request_id.as_ref().map(|id| format!("request {}", quote_up_to(id, 100))));
        facts.extend(self.retry_after.map(|wait| format!("retry after {} s", wait.as_secs_f64())));
        if !facts.is_empty() {
            text.push_str(&format!(" ({})", facts.join(", ")));
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(message) | Self::Engine(message) | Self::Disk(message) => f.write_str(message),
            Self::Schema { path, message } => write!(f, "schema at '{path}': {message}"),
            Self::Api(error) => f.write_str(&error.text()),
            Self::Connection(error) => write!(f, "{}: {}", error.provider, error.message),
            Self::Output(error) => f.write_str(&error.message),
            Self::Batch { batch_id, message, .. } => write!(f, "batch {batch_id}: {message}"),
            Self::UnknownCreate(error) => f.write_str(&error.message),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_quoted_by_its_two_ends() {
        assert_eq!(quote("short"), "short");
        assert_eq!(quote(&"é".repeat(MAX_QUOTE)), "é".repeat(MAX_QUOTE));
        let long = format!("{}{}", "a".repeat(1000), "é".repeat(1000));
        assert_eq!(quote_up_to(&long, 8), "aaaaaa ... éé");
        assert_eq!(quote(&long).chars().count(), MAX_QUOTE + 5);
        assert_eq!(quote_list(["a", "b"], "; "), "a; b");
        let many = quote_list(std::iter::repeat_n("x".repeat(1000), 1000), "; ");
        assert!(many.ends_with("; ...") && many.len() < 3 * MAX_QUOTE, "{}", many.len());
    }

    #[test]
    fn trouble_with_the_disk_says_what_to_do() {
        for (error, advice) in [
            (io::ErrorKind::StorageFull.into(), "Free some space"),
            (io::ErrorKind::ReadOnlyFilesystem.into(), "can be written to"),
            (io::ErrorKind::PermissionDenied.into(), "can be written to"),
            (io::ErrorKind::NotFound.into(), "Make that folder"),
            (io::Error::from_raw_os_error(5), "on another one"),
            #[cfg(unix)]
            (io::Error::from_raw_os_error(24), "ulimit -n"),
        ] {
            let message = Error::disk("Saving a result", &error).to_string();
            assert!(message.starts_with("Saving a result failed in") && message.contains(advice), "{message}");
        }
    }
}
