//! Creating a job when the answer does not come: looked for, sent again at most when it is not there, and never made twice.
#![cfg(feature = "sandbox")]

use llmbackend::batch::submit::{create, deliver};
use llmbackend::client::Client;
use llmbackend::error::{ApiErrorKind, Error};
use llmbackend::providers::settings::Settings;
use llmbackend::providers::{Delivery, Job, JobOptions, Rows};
use llmbackend::sandbox::{Fault, Options, Sandbox};
use llmbackend::transport::Transport;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

const ROW: &str =
    r#"{"custom_id":"llmb-000000","method":"POST","url":"/v1/responses","body":{"model":"m","input":"a"}}"#;
const LOOKS: &[Duration] = &[Duration::ZERO, Duration::from_millis(5), Duration::from_millis(5)];

struct Bench {
    sandbox: Sandbox,
    client: Client,
    transport: Transport,
}

impl Bench {
    /// Must be made inside a runtime.
    fn new(faults: &[&str], retries: u32) -> Self {
        let faults = faults.iter().map(|fault| Fault::parse(fault).unwrap()).collect();
        let sandbox = Sandbox::start(Options { faults, ..Options::default() }).unwrap();
        let options =
            json!({"api_key": "k", "base_url": sandbox.url("openai").unwrap(), "max_retries": retries, "timeout": 0.5});
        let settings = Settings::new(options.as_object().unwrap().clone(), |_| None);
        let client = Client::open("openai", "m", settings).unwrap();
        Self { sandbox, client, transport: Transport::new().unwrap() }
    }

    /// Uploads a row and makes a job of it.
    async fn create(&self) -> Result<Job, Error> {
        let mut file = tempfile::tempfile().unwrap();
        writeln!(file, "{ROW}").unwrap();
        let rows = Rows { file: Arc::new(file), bytes: ROW.len() as u64 + 1 };
        let input = deliver(&self.client, &self.transport, Delivery::Upload, rows).await.unwrap();
        create(&self.client, &self.transport, &input, &JobOptions::default(), LOOKS).await.map_err(Error::from)
    }

    /// The statuses of the requests of one kind.
    fn statuses(&self, method: &str) -> Vec<u16> {
        let log = self.sandbox.requests();
        let is_ours = |path: &str| path.ends_with("/v1/batches");
        log.iter().filter(|one| one.method == method && is_ours(&one.path)).map(|one| one.status).collect()
    }

    /// How many jobs exist.
    async fn jobs(&self) -> usize {
        self.sandbox.clear_faults();
        let api = self.client.provider.batches();
        let response = self.client.request(&self.transport, &api.list(None).unwrap()).await.unwrap();
        api.read_list(&self.client.parse(&response).unwrap()).unwrap().jobs.len()
    }
}

#[tokio::test]
async fn a_create_that_fails_is_looked_for_and_sent_once_more() {
    for fault in
        ["server_error", "overloaded", "kill_connection", "html_body", "empty_body", "stall", "request_timeout"]
    {
        let bench = Bench::new(&[&format!("{fault}:1@POST /v1/batches")], 2);
        bench.create().await.unwrap();
        let posts = bench.statuses("POST");
        assert_eq!((posts.len(), posts[1]), (2, 200), "{fault}: {posts:?}");
        assert_eq!(bench.statuses("GET"), vec![200; LOOKS.len()], "{fault}");
        assert_eq!(bench.jobs().await, 1, "{fault}");
    }
}

#[tokio::test]
async fn a_job_behind_a_lost_reply_is_adopted() {
    for fault in ["lost_reply", "cut_body", "stall_body"] {
        let bench = Bench::new(&[&format!("{fault}:1@POST /v1/batches"), "late_list:2"], 2);
        let job = bench.create().await.unwrap();
        assert_eq!(bench.statuses("POST").len(), 1, "{fault}");
        assert_eq!(bench.statuses("GET"), [200; 3], "{fault}");
        assert!(job.id.starts_with("batch_"));
        assert_eq!(bench.jobs().await, 1, "{fault}");
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_no_proof() {
    for fault in ["auth@GET /v1/batches", "server_error@GET /v1/batches", "html_body@GET /v1/batches"] {
        let bench = Bench::new(&["lost_reply:1@POST /v1/batches", fault], 0);
        let error = bench.create().await.unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::Connection(_)), "{message}");
        assert!(message.contains("not known whether the job was created") && message.contains("input file file-"));
        assert_eq!(bench.statuses("POST"), [0], "{fault}");
        assert_eq!(bench.statuses("GET").len(), LOOKS.len(), "{fault}");
        assert_eq!(bench.jobs().await, 1, "{fault}");
    }
}

/// A list that could be read early and not at the end shows nothing: the job may have appeared in between.
#[tokio::test]
async fn the_last_look_decides() {
    let bench = Bench::new(&["lost_reply:1@POST /v1/batches", "late_list:2"], 0);
    let mut file = tempfile::tempfile().unwrap();
    writeln!(file, "{ROW}").unwrap();
    let rows = Rows { file: Arc::new(file), bytes: ROW.len() as u64 + 1 };
    let input = deliver(&bench.client, &bench.transport, Delivery::Upload, rows).await.unwrap();
    const TWO: &[Duration] = &[Duration::ZERO, Duration::from_millis(5)];
    let error = create(&bench.client, &bench.transport, &input, &JobOptions::default(), TWO).await.unwrap_err();
    let error = Error::from(error);
    // Without retries there is no second request, however often the list was read.
    assert!(error.to_string().contains("was not sent again"), "{error}");
    assert_eq!(bench.statuses("POST"), [0]);
    assert_eq!(bench.jobs().await, 1);
}

#[tokio::test]
async fn a_server_that_never_creates_is_given_up() {
    let bench = Bench::new(&["server_error@POST /v1/batches"], 2);
    let error = bench.create().await.unwrap_err();
    assert_eq!(error.api_kind(), Some(ApiErrorKind::Server));
    assert!(error.to_string().contains("not known whether the job was created"), "{error}");
    assert_eq!(bench.statuses("POST"), [500; 3]);
    assert_eq!(bench.statuses("GET").len(), 3 * LOOKS.len());
    assert_eq!(bench.jobs().await, 0);
}

#[tokio::test]
async fn a_refusal_is_clear_and_needs_no_look() {
    for (fault, kind) in [
        ("auth", ApiErrorKind::Authentication),
        ("forbidden", ApiErrorKind::PermissionDenied),
        ("quota", ApiErrorKind::QuotaExceeded),
        ("model_not_found", ApiErrorKind::NotFound),
    ] {
        let bench = Bench::new(&[&format!("{fault}@POST /v1/batches")], 2);
        let error = bench.create().await.unwrap_err();
        assert_eq!(error.api_kind(), Some(kind), "{fault}");
        assert!(!error.to_string().contains("not known"), "{fault}");
        assert_eq!((bench.statuses("POST").len(), bench.statuses("GET").len()), (1, 0), "{fault}");
        assert_eq!(bench.jobs().await, 0, "{fault}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_without_a_look() {
    let bench = Bench::new(&["rate_limit:1@POST /v1/batches"], 2);
    bench.create().await.unwrap();
    assert_eq!((bench.statuses("POST"), bench.statuses("GET").len()), (vec![429, 200], 0));
    assert_eq!(bench.jobs().await, 1);
}
