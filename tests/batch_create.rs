//! Creating a job when the answer does not come, on every provider and in every form: searched for, and never sent a second
//! time.
#![cfg(feature = "sandbox")]

use llmbackend::batch::creation::LOOKUP_DELAYS;
use llmbackend::batch::submit::{create, deliver};
use llmbackend::client::Client;
use llmbackend::error::{ApiErrorKind, Error, UnknownCreate};
use llmbackend::exchange::Request;
use llmbackend::providers::settings::Settings;
use llmbackend::providers::{Delivery, Job, JobOptions, Rows};
use llmbackend::sandbox::{Fault, Options, Sandbox};
use llmbackend::transport::Transport;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Of the minute that a search takes, a test waits 62 ms.
const TIME_SCALE: &str = "0.001";
const TOKEN: &str = "5f0c2a9d13e84b7760aa41c9";

/// A way to hand rows over.
#[derive(Debug)]
struct Form {
    provider: &'static str,
    delivery: Delivery,
    row: &'static str,
    /// The ends of the paths, for faults and for counting.
    create: &'static str,
    list: &'static str,
    /// Where to ask the sandbox itself for all its jobs, and the field that holds them.
    all: (&'static str, &'static str),
    /// What the error says of a job that may exist.
    sign: &'static str,
}

const OPENAI: Form = Form {
    provider: "openai",
    delivery: Delivery::Upload,
    row: r#"{"custom_id":"llmb-000000","method":"POST","url":"/v1/responses","body":{"model":"m","input":"a"}}"#,
    create: "/v1/batches",
    list: "/v1/batches",
    all: ("batches?limit=100", "data"),
    sign: "with the input file file-",
};
const GEMINI_INLINE: Form = Form {
    provider: "gemini",
    delivery: Delivery::Inline,
    row: r#"{"request":{"contents":[{"role":"user","parts":[{"text":"a"}]}]},"metadata":{"key":"llmb-000000"}}"#,
    create: ":batchGenerateContent",
    list: "/v1beta/batches",
    all: ("v1beta/batches?pageSize=100", "operations"),
    sign: "with the name 'llmbackend 5f0c2a9d13e84b7760aa41c9'",
};
const GEMINI_UPLOAD: Form = Form {
    delivery: Delivery::Upload,
    row: r#"{"key":"llmb-000000","request":{"contents":[{"role":"user","parts":[{"text":"a"}]}]}}"#,
    sign: "with the input file files/",
    ..GEMINI_INLINE
};
const ANTHROPIC: Form = Form {
    provider: "anthropic",
    delivery: Delivery::Inline,
    row: r#"{"custom_id":"llmb-000000","params":{"model":"m","max_tokens":16,"messages":[{"role":"user","content":"a"}]}}"#,
    create: "/v1/messages/batches",
    list: "/v1/messages/batches",
    all: ("v1/messages/batches?limit=100", "data"),
    sign: "of 1 requests that was created then",
};
/// Where a job can be found again by what it was made of.
const FINDABLE: [Form; 3] = [OPENAI, GEMINI_INLINE, GEMINI_UPLOAD];
const ALL: [Form; 4] = [OPENAI, GEMINI_INLINE, GEMINI_UPLOAD, ANTHROPIC];

struct Bench<'f> {
    form: &'f Form,
    sandbox: Sandbox,
    client: Client,
    transport: Transport,
}

impl<'f> Bench<'f> {
    /// Must be made inside a runtime. In `faults`, POST and GET stand for the creation of a job and the list of jobs.
    fn new(form: &'f Form, faults: &[&str], retries: u32) -> Self {
        let name = form.provider;
        let at = |fault: &&str| match fault.split_once('@') {
            Some((fault, "POST")) => format!("{fault}@POST {}", form.create),
            Some((fault, "GET")) => format!("{fault}@GET {}", form.list),
            _ => fault.to_string(),
        };
        let faults = faults.iter().map(|fault| Fault::parse(&at(fault)).unwrap()).collect();
        let sandbox = Sandbox::start(Options { faults, ..Options::default() }).unwrap();
        let options =
            json!({"api_key": "k", "base_url": sandbox.url(name).unwrap(), "max_retries": retries, "timeout": 0.5});
        let environment = |name: &str| (name == "LLMBACKEND_TEST_TIMESCALE").then(|| TIME_SCALE.to_owned());
        let settings = Settings::new(options.as_object().unwrap().clone(), environment);
        let client = Client::open(name, "m", settings).unwrap();
        Self { form, sandbox, client, transport: Transport::new().unwrap() }
    }

    /// Hands a row over and makes a job of it.
    async fn create(&self) -> Result<Job, Error> {
        self.create_named(TOKEN).await
    }

    async fn create_named(&self, token: &str) -> Result<Job, Error> {
        let mut file = tempfile::tempfile().unwrap();
        writeln!(file, "{}", self.form.row).unwrap();
        let rows = Rows { file: Arc::new(file), bytes: self.form.row.len() as u64 + 1, count: 1 };
        let input = deliver(&self.client, &self.transport, self.form.delivery, rows).await.unwrap();
        let options = JobOptions { token: token.into(), ..JobOptions::default() };
        create(&self.client, &self.transport, &input, &options).await.map_err(Error::from)
    }

    /// The error of a create whose outcome is unknown.
    async fn unknown_create(&self) -> UnknownCreate {
        match self.create().await {
            Err(Error::UnknownCreate(error)) => *error,
            other => panic!("{:?}: {other:?}", self.form),
        }
    }

    fn statuses(&self, method: &str, end: &str) -> Vec<u16> {
        let log = self.sandbox.requests();
        log.iter().filter(|one| one.method == method && one.path.ends_with(end)).map(|one| one.status).collect()
    }

    /// The statuses of the requests that make a job.
    fn posts(&self) -> Vec<u16> {
        self.statuses("POST", self.form.create)
    }

    /// The statuses of the looks at the list of jobs.
    fn looks(&self) -> Vec<u16> {
        self.statuses("GET", self.form.list)
    }

    /// The ids of all jobs that exist, as the sandbox itself tells.
    async fn jobs(&self) -> Vec<String> {
        self.sandbox.clear_faults();
        let (path, field) = self.form.all;
        let response = self.client.request(&self.transport, &Request::get(path)).await.unwrap();
        let list: Value = serde_json::from_slice(&response.body).unwrap();
        let jobs = list[field].as_array().cloned().unwrap_or_default();
        jobs.iter().map(|job| job["id"].as_str().or(job["name"].as_str()).unwrap().to_owned()).collect()
    }
}

/// No answer, or none that makes sense, and no job that the list shows in time.
const UNKNOWN: [&str; 7] =
    ["server_error", "kill_connection", "html_body", "empty_body", "stall", "request_timeout", "conflict"];

#[tokio::test]
async fn a_create_without_an_answer_is_searched_for_and_never_sent_again() {
    for form in &ALL {
        for fault in UNKNOWN {
            let bench = Bench::new(form, &[&format!("{fault}:1@POST")], 2);
            let error = bench.unknown_create().await;
            assert_eq!(bench.posts().len(), 1, "{form:?} {fault}");
            assert_eq!(bench.looks(), vec![200; LOOKUP_DELAYS.len()], "{form:?} {fault}");
            assert!(error.candidates.is_empty(), "{form:?} {fault}: {error:?}");
            assert!(bench.jobs().await.is_empty(), "{form:?} {fault}");
        }
    }
}

/// The list lags for longer than the search lasts: a second request would be a second job.
#[tokio::test]
async fn a_job_that_the_list_does_not_show_in_time_stays_the_only_one() {
    for form in &ALL {
        for fault in ["lost_reply", "cut_body", "stall_body"] {
            let bench = Bench::new(form, &[&format!("{fault}:1@POST"), "late_list:6"], 2);
            let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let error = bench.unknown_create().await;
            let message = &error.message;
            assert!(message.contains("not known whether the job was created"), "{message}");
            assert!(message.contains("does not show it") && message.contains("not sent again"), "{message}");
            assert!(message.contains(form.sign), "{message}");
            assert!(message.contains("get_batch") && message.contains("submit these prompts again"), "{message}");
            assert!((started..started + Duration::from_secs(5)).contains(&error.sent_at), "{:?}", error.sent_at);
            assert_eq!((bench.posts().len(), bench.looks().len()), (1, LOOKUP_DELAYS.len()), "{form:?} {fault}");
            assert_eq!(bench.jobs().await.len(), 1, "{form:?} {fault}");
        }
    }
}

#[tokio::test]
async fn a_job_behind_a_lost_reply_is_adopted() {
    for form in &FINDABLE {
        for fault in ["lost_reply", "cut_body", "stall_body"] {
            let bench = Bench::new(form, &[&format!("{fault}:1@POST"), "late_list:2"], 2);
            let job = bench.create().await.unwrap();
            assert_eq!(bench.posts().len(), 1, "{form:?} {fault}");
            assert_eq!(bench.looks(), [200; 3], "{form:?} {fault}");
            assert_eq!(bench.jobs().await, [job.id], "{form:?} {fault}");
        }
    }
}

/// Jobs of other people's, made at the same time of the same rows, are not taken for ours.
#[tokio::test]
async fn a_job_of_somebody_else_is_not_adopted() {
    for form in &FINDABLE {
        let bench = Bench::new(form, &[], 2);
        let other = bench.create_named("another").await.unwrap();
        bench.sandbox.add_fault(Fault::parse(&format!("server_error:1@POST {}", form.create)).unwrap());
        let error = bench.unknown_create().await;
        assert!(error.candidates.is_empty(), "{form:?}: {error:?}");
        assert_eq!((bench.posts(), bench.jobs().await), (vec![200, 500], vec![other.id]), "{form:?}");
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_named() {
    for form in &ALL {
        for fault in ["auth@GET", "server_error@GET", "html_body@GET"] {
            let bench = Bench::new(form, &["lost_reply:1@POST", fault], 0);
            let error = bench.unknown_create().await;
            assert!(matches!(error.cause, Error::Connection(_)), "{error:?}");
            assert!(error.message.contains("The list of jobs could not be read"), "{}", error.message);
            assert!(error.message.contains(form.sign), "{}", error.message);
            assert_eq!(bench.posts(), [0], "{form:?} {fault}");
            assert_eq!(bench.looks().len(), LOOKUP_DELAYS.len(), "{form:?} {fault}");
            assert_eq!(bench.jobs().await.len(), 1, "{form:?} {fault}");
        }
    }
}

#[tokio::test]
async fn the_cause_of_an_unknown_create_is_kept() {
    for form in &ALL {
        let bench = Bench::new(form, &["server_error@POST"], 2);
        let error = bench.unknown_create().await;
        assert_eq!(error.cause.api_kind(), Some(ApiErrorKind::Server));
        assert!(error.message.contains(error.cause.to_string().trim_end_matches('.')), "{}", error.message);
        assert_eq!(bench.posts(), [500], "{form:?}");
    }
}

/// Anthropic's list says nothing of what a job was made of but how many requests: the error names the jobs that may be it.
#[tokio::test]
async fn jobs_that_may_be_it_are_candidates() {
    let bench = Bench::new(&ANTHROPIC, &["lost_reply:1@POST", "late_list:2"], 2);
    let error = bench.unknown_create().await;
    assert_eq!((bench.posts(), bench.looks()), (vec![0], vec![200; LOOKUP_DELAYS.len()]));
    assert_eq!(bench.jobs().await, error.candidates);
    let [id] = error.candidates.as_slice() else { panic!("{error:?}") };
    assert!(error.message.contains(&format!("It may be one of these: {id}.")), "{}", error.message);
    // Too busy to have begun.
    let bench = Bench::new(&ANTHROPIC, &["overloaded:1@POST"], 2);
    let job = bench.create().await.unwrap();
    assert_eq!((bench.posts(), bench.looks().len()), (vec![529, 200], 0));
    assert_eq!(bench.jobs().await, [job.id]);
}

#[tokio::test]
async fn a_refusal_is_clear_and_needs_no_look() {
    for form in &ALL {
        for (fault, kind) in [
            ("auth", ApiErrorKind::Authentication),
            ("forbidden", ApiErrorKind::PermissionDenied),
            ("quota", ApiErrorKind::QuotaExceeded),
            ("model_not_found", ApiErrorKind::NotFound),
        ] {
            let bench = Bench::new(form, &[&format!("{fault}@POST")], 2);
            let error = bench.create().await.unwrap_err();
            assert_eq!(error.api_kind(), Some(kind), "{form:?} {fault}");
            assert!(!error.to_string().contains("not known"), "{form:?} {fault}");
            assert_eq!((bench.posts().len(), bench.looks().len()), (1, 0), "{form:?} {fault}");
            assert!(bench.jobs().await.is_empty(), "{form:?} {fault}");
        }
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_without_a_look() {
    for form in &ALL {
        let bench = Bench::new(form, &["rate_limit:1@POST"], 2);
        let job = bench.create().await.unwrap();
        assert_eq!((bench.posts(), bench.looks().len()), (vec![429, 200], 0), "{form:?}");
        assert_eq!(bench.jobs().await, [job.id], "{form:?}");
    }
}
