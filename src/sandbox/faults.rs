//! Misbehaviour by name: the table of faults, how one is written, and how many times it still strikes. Pure.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    // A request is answered wrongly, or not at all.
    RateLimit,
    Quota,
    ServerError,
    Overloaded,
    Auth,
    Forbidden,
    ModelNotFound,
    RequestTimeout,
    GatewayTimeout,
    SpendLimit,
    Conflict,
    HtmlBody,
    EmptyBody,
    Stall,
    StallBody,
    KillConnection,
    LostReply,
    CutBody,
    // A new job cannot be seen yet.
    NotFoundAfterCreate,
    LateList,
    // A job ends otherwise than it should, or its files are odd.
    ExpireHalf,
    CancelHalf,
    DropLine,
    DuplicateLine,
    LineSeparator,
    LyingCounts,
    TokenLimitExceeded,
    FailJob,
    FailLines,
    FailedOnly,
    EmptyErrorFileId,
    RefuseLines,
    TruncateLines,
    NoFinalNewline,
    NoOutput,
    Archived,
    ForeignResultsUrl,
    WrongFile,
    // The model answers otherwise than it was asked to.
    Refusal,
    Truncated,
    ReasoningOnly,
    Failed200,
    NullOutput,
    Commentary,
    InvalidJson,
    UnfitJson,
    ContentFilter,
    EmptyCandidates,
    NoOutputConfig,
    PauseTurn,
    ContextWindow,
    SplitText,
}

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// On any request, before the provider sees it (or on its reply).
    Request,
    /// On a job, when it is created.
    Job,
    /// On a model's answer: of the interactive calls, or of every line of a job if its filter names the jobs' path.
    Answer,
}

const TABLE: [(&str, Kind, Stage); 52] = [
    ("rate_limit", Kind::RateLimit, Stage::Request),
    ("quota", Kind::Quota, Stage::Request),
    ("server_error", Kind::ServerError, Stage::Request),
    ("overloaded", Kind::Overloaded, Stage::Request),
    ("auth", Kind::Auth, Stage::Request),
    ("forbidden", Kind::Forbidden, Stage::Request),
    ("model_not_found", Kind::ModelNotFound, Stage::Request),
    ("request_timeout", Kind::RequestTimeout, Stage::Request),
    ("gateway_timeout", Kind::GatewayTimeout, Stage::Request),
    ("spend_limit", Kind::SpendLimit, Stage::Request),
    ("conflict", Kind::Conflict, Stage::Request),
    ("html_body", Kind::HtmlBody, Stage::Request),
    ("empty_body", Kind::EmptyBody, Stage::Request),
    ("stall", Kind::Stall, Stage::Request),
    ("stall_body", Kind::StallBody, Stage::Request),
    ("kill_connection", Kind::KillConnection, Stage::Request),
    ("lost_reply", Kind::LostReply, Stage::Request),
    ("cut_body", Kind::CutBody, Stage::Request),
    ("not_found_after_create", Kind::NotFoundAfterCreate, Stage::Job),
    ("late_list", Kind::LateList, Stage::Job),
    ("expire_half", Kind::ExpireHalf, Stage::Job),
    ("cancel_half", Kind::CancelHalf, Stage::Job),
    ("drop_line", Kind::DropLine, Stage::Job),
    ("duplicate_line", Kind::DuplicateLine, Stage::Job),
    ("line_separator", Kind::LineSeparator, Stage::Job),
    ("lying_counts", Kind::LyingCounts, Stage::Job),
    ("token_limit_exceeded", Kind::TokenLimitExceeded, Stage::Job),
    ("fail_job", Kind::FailJob, Stage::Job),
    ("fail_lines", Kind::FailLines, Stage::Job),
    ("failed_only", Kind::FailedOnly, Stage::Job),
    ("empty_error_file_id", Kind::EmptyErrorFileId, Stage::Job),
    ("refuse_lines", Kind::RefuseLines, Stage::Job),
    ("truncate_lines", Kind::TruncateLines, Stage::Job),
    ("no_final_newline", Kind::NoFinalNewline, Stage::Job),
    ("no_output", Kind::NoOutput, Stage::Job),
    ("archived", Kind::Archived, Stage::Job),
    ("foreign_results_url", Kind::ForeignResultsUrl, Stage::Job),
    ("wrong_file", Kind::WrongFile, Stage::Job),
    ("refusal", Kind::Refusal, Stage::Answer),
    ("truncated", Kind::Truncated, Stage::Answer),
    ("reasoning_only", Kind::ReasoningOnly, Stage::Answer),
    ("failed_200", Kind::Failed200, Stage::Answer),
    ("null_output", Kind::NullOutput, Stage::Answer),
    ("commentary", Kind::Commentary, Stage::Answer),
    ("invalid_json", Kind::InvalidJson, Stage::Answer),
    ("unfit_json", Kind::UnfitJson, Stage::Answer),
    ("content_filter", Kind::ContentFilter, Stage::Answer),
    ("empty_candidates", Kind::EmptyCandidates, Stage::Answer),
    ("no_output_config", Kind::NoOutputConfig, Stage::Answer),
    ("pause_turn", Kind::PauseTurn, Stage::Answer),
    ("context_window", Kind::ContextWindow, Stage::Answer),
    ("split_text", Kind::SplitText, Stage::Answer),
];

/// One fault: what, on which requests, how many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    kind: Kind,
    stage: Stage,
    /// Strikes left; `None`: always.
    times: Option<u32>,
    method: Option<String>,
    path: Option<String>,
}

impl Fault {
    /// Reads `NAME[:TIMES][@[METHOD ]/path-part]`, for example `server_error:2@POST /v1/batches`. Without TIMES it strikes
    /// always; without a filter wherever its kind can. The error names what is wrong and, for an unknown name, the nearest
    /// known one and all of them.
    pub fn parse(text: &str) -> Result<Fault, String> {
        let (head, filter) = match text.split_once('@') {
            Some((head, filter)) => (head, Some(filter.trim())),
            None => (text, None),
        };
        let (name, times) = match head.split_once(':') {
            Some((name, times)) => (name.trim(), Some(parse_times(text, times.trim())?)),
            None => (head.trim(), None),
        };
        let found = TABLE.iter().find(|(known, ..)| *known == name);
        let Some(&(_, kind, stage)) = found else {
            return Err(unknown_name(name));
        };
        let (method, path) = match filter {
            None => (None, None),
            Some(filter) => parse_filter(text, filter)?,
        };
        Ok(Fault { kind, stage, times, method, path })
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        let Some(part) = &self.path else {
            return true;
        };
        path.contains(part.as_str()) && self.method.as_ref().is_none_or(|wanted| wanted == method)
    }
}

fn parse_times(text: &str, times: &str) -> Result<u32, String> {
    let number = times.parse::<u32>().ok().filter(|times| *times > 0);
    number.ok_or_else(|| {
        format!(
            "fault {text:?}: TIMES must be a whole number above 0, not {times:?} (NAME[:TIMES][@METHOD /path-part])"
        )
    })
}

type Filter = (Option<String>, Option<String>);

fn parse_filter(text: &str, filter: &str) -> Result<Filter, String> {
    let (method, path) = match filter.split_once(' ') {
        Some((method, path)) => (Some(method.trim().to_ascii_uppercase()), path.trim()),
        None => (None, filter),
    };
    if !path.starts_with(['/', ':']) || path.contains(' ') {
        return Err(format!(
            "fault {text:?}: what follows the @ must be a path part that starts with / or :, with or without a method before it, \
             such as \"POST /v1/batches\" or \":batchGenerateContent\""
        ));
    }
    Ok((method, Some(path.to_owned())))
}

fn unknown_name(name: &str) -> String {
    let names: Vec<&str> = TABLE.iter().map(|(known, ..)| *known).collect();
    let nearest = names.iter().min_by_key(|known| distance(name, known)).map_or("", |known| known);
    format!("unknown fault {name:?}; did you mean {nearest:?}? Known faults: {}", names.join(", "))
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = TABLE.iter().find(|(_, kind, _)| *kind == self.kind);
        write!(out, "{}", name.map_or("", |(name, ..)| name))?;
        if let Some(times) = self.times {
            write!(out, ":{times}")?;
        }
        match (&self.method, &self.path) {
            (Some(method), Some(path)) => write!(out, "@{method} {path}"),
            (None, Some(path)) => write!(out, "@{path}"),
            _ => Ok(()),
        }
    }
}

/// The faults in force.
#[derive(Debug, Default)]
pub struct Faults {
    list: Vec<Fault>,
}

impl Faults {
    pub fn new(list: Vec<Fault>) -> Faults {
        Faults { list }
    }

    pub fn add(&mut self, fault: Fault) {
        self.list.push(fault);
    }

    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// The request fault that strikes this request, if any: the first in the list, which then has one strike less.
    pub fn take_request(&mut self, method: &str, path: &str) -> Option<Kind> {
        self.take(|fault| fault.stage == Stage::Request && fault.matches(method, path))
    }

    /// The answer fault that strikes an interactive call at `path`.
    pub fn take_answer(&mut self, method: &str, path: &str) -> Option<Kind> {
        // One that only strikes some requests waits for them.
        let strikes_any = |fault: &Fault| fault.stage == Stage::Answer && fault.kind != Kind::NoOutputConfig;
        self.take(|fault| strikes_any(fault) && fault.matches(method, path))
    }

    /// Whether a fault of this kind strikes this request.
    pub fn take_kind(&mut self, kind: Kind, method: &str, path: &str) -> bool {
        self.take(|fault| fault.kind == kind && fault.matches(method, path)).is_some()
    }

    /// All faults that a job caught when it was created at `path`. Of the answer faults only those whose filter names a
    /// path: without one they mean interactive calls.
    pub fn take_job(&mut self, method: &str, path: &str) -> JobFaults {
        let mut caught = JobFaults::default();
        for (_, kind, stage) in TABLE {
            match stage {
                Stage::Request => {}
                // For these TIMES counts looks at one job, not jobs.
                Stage::Job if matches!(kind, Kind::NotFoundAfterCreate | Kind::LateList | Kind::NoOutput) => {
                    let found = self.list.iter().find(|fault| fault.kind == kind && fault.matches(method, path));
                    if let Some(fault) = found {
                        let looks = fault.times.unwrap_or(u32::MAX);
                        match kind {
                            Kind::LateList => caught.unlisted = looks,
                            Kind::NoOutput => caught.no_output = looks,
                            _ => caught.not_found = looks,
                        }
                    }
                }
                Stage::Job => {
                    if self.take(|fault| fault.kind == kind && fault.matches(method, path)).is_some() {
                        caught.kinds.push(kind);
                    }
                }
                Stage::Answer => {
                    let named =
                        |fault: &Fault| fault.kind == kind && fault.path.is_some() && fault.matches(method, path);
                    if self.take(named).is_some() {
                        caught.answer = Some(kind);
                    }
                }
            }
        }
        caught
    }

    fn take(&mut self, wanted: impl Fn(&Fault) -> bool) -> Option<Kind> {
        let alive = |fault: &&mut Fault| fault.times != Some(0) && wanted(fault);
        let fault = self.list.iter_mut().find(alive)?;
        fault.times = fault.times.map(|times| times - 1);
        Some(fault.kind)
    }
}

/// The faults of one job.
#[derive(Debug, Clone, Default)]
pub struct JobFaults {
    kinds: Vec<Kind>,
    /// What every line's answer is struck by.
    pub answer: Option<Kind>,
    /// So many looks at the job are answered with 404.
    pub not_found: u32,
    /// So many lists of jobs leave it out.
    pub unlisted: u32,
    /// So many looks at the finished job show no output yet.
    pub no_output: u32,
}

impl JobFaults {
    pub fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether a fault of some rows strikes this one: the 3rd, the 6th, and so on.
    pub fn strikes_row(&self, kind: Kind, index: usize) -> bool {
        self.has(kind) && index % 3 == 2
    }
}

/// Uses up one of the looks at a job that a fault spoils; false if none is left.
pub fn spoil(looks: &AtomicU32) -> bool {
    let spend = |left: u32| match left {
        0 => None,
        u32::MAX => Some(u32::MAX),
        left => Some(left - 1),
    };
    looks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
}

/// Levenshtein distance in characters.
pub fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_counts() {
        let fault = Fault::parse("server_error:2@POST /v1/batches").unwrap();
        assert_eq!(fault.to_string(), "server_error:2@POST /v1/batches");
        let mut faults = Faults::new(vec![fault]);
        assert_eq!(faults.take_request("GET", "/api.openai.com/v1/batches"), None);
        for _ in 0..2 {
            assert_eq!(faults.take_request("POST", "/api.openai.com/v1/batches"), Some(Kind::ServerError));
        }
        assert_eq!(faults.take_request("POST", "/api.openai.com/v1/batches"), None);
    }

    #[test]
    fn every_name_parses_and_prints() {
        for (name, kind, _) in TABLE {
            let fault = Fault::parse(name).unwrap();
            assert_eq!((fault.kind, fault.to_string().as_str()), (kind, name));
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        assert!(Fault::parse("server_eror").unwrap_err().contains("did you mean \"server_error\""));
        assert!(Fault::parse("stall:0").unwrap_err().contains("TIMES"));
        assert!(Fault::parse("stall:x").unwrap_err().contains("TIMES"));
        assert!(Fault::parse("stall@POST").unwrap_err().contains("path part"));
    }

    #[test]
    fn answer_faults_reach_a_job_only_by_name() {
        let list = ["refusal", "truncated@POST /v1/batches", "late_list:3", "drop_line:1"];
        let mut faults = Faults::new(list.map(|text| Fault::parse(text).unwrap()).to_vec());
        let job = faults.take_job("POST", "/api.openai.com/v1/batches");
        assert_eq!((job.answer, job.unlisted, job.not_found), (Some(Kind::Truncated), 3, 0));
        assert!(job.has(Kind::DropLine));
        assert!(!faults.take_job("POST", "/api.openai.com/v1/batches").has(Kind::DropLine));
        assert_eq!(faults.take_answer("POST", "/api.openai.com/v1/responses"), Some(Kind::Refusal));
    }
}
