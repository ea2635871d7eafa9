//! OpenAI's Files and Batches APIs: rows go up as a file of JSON lines, results come back as one file of answers and one
//! of errors.

use super::{OpenAi, errors};
use crate::error::{ApiError, Error, Result, kind_of_status, quote, quote_up_to};
use crate::exchange::{Body, Request, Response, segment};
use crate::json;
use crate::providers::fields::Fields;
use crate::providers::rows::custom_id;
use crate::providers::{
    Ask, BatchApi, Counts, Delivery, Form, Input, Job, JobOptions, Limits, OutputFile, Page, Provider, Reading,
    ResultFile, RowId, RowOutcome, Rows, State, Upload, errors as shared,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Whatever the base URL is: OpenAI compares a row's `url` with the job's `endpoint`, literally.
const ENDPOINT: &str = "/v1/responses";
/// The one that OpenAI documents.
const DEFAULT_WINDOW: &str = "24h";
/// The longest value of a metadata entry, in characters (OpenAPI description of Metadata).
const LONGEST_METADATA: usize = 512;
const STOP_KEY: &str = "llmbackend_stop";
const LIMITS: Limits = Limits { rows: 50_000, bytes: 200_000_000 };

static ANSWER_FIELDS: Fields = Fields::Of(&[
    ("error", Fields::All),
    (
        "response",
        Fields::Of(&[
            ("status_code", Fields::All),
            (
                "body",
                Fields::Of(&[
                    ("id", Fields::All),
                    ("object", Fields::All),
                    ("model", Fields::All),
                    ("status", Fields::All),
                    ("error", Fields::All),
                    ("incomplete_details", Fields::All),
                    ("output", Fields::All),
                    ("output_text", Fields::All),
                    ("usage", Fields::All),
                ]),
            ),
        ]),
    ),
]);

impl BatchApi for OpenAi {
    fn forms(&self, ask: &Ask) -> Result<Vec<Form>> {
        Ok(vec![Form { delivery: Delivery::Upload, limits: LIMITS, prepared: self.prepare(ask)? }])
    }

    fn row(&self, _delivery: Delivery, id: &str, body: Map<String, Value>) -> Map<String, Value> {
        let mut row = Map::new();
        row.insert("custom_id".into(), id.into());
        row.insert("method".into(), "POST".into());
        row.insert("url".into(), ENDPOINT.into());
        row.insert("body".into(), body.into());
        row
    }

    fn check(&self, options: &JobOptions) -> Result<()> {
        self.metadata(options).map(drop)
    }

    fn upload(&self, rows: &Rows, replies: &[Response]) -> Result<Upload> {
        let Some(reply) = replies.last() else { return Ok(Upload::Send(multipart(rows))) };
        let nonsense = |message: &str| Error::Api(Box::new(shared::in_reply(super::NAME, message)));
        let body = json::parse(&reply.body).map_err(|_| nonsense("the upload was answered with no JSON"))?;
        let id = text(&body["id"]).ok_or_else(|| nonsense("the upload was answered without a file id"))?;
        Ok(Upload::Done(id))
    }

    fn create(&self, _model: &str, input: &Input, options: &JobOptions) -> Request {
        let mut body = json!({
            "completion_window": options.completion_window.as_deref().unwrap_or(DEFAULT_WINDOW),
            "endpoint": ENDPOINT,
        });
        if let Input::Uploaded(file) = input {
            body["input_file_id"] = file.as_str().into();
        }
        // Checked before anything was sent.
        let metadata = self.metadata(options).unwrap_or_default();
        if !metadata.is_empty() {
            body["metadata"] = metadata.into();
        }
        Request::post("batches", Body::Json(body.to_string().into()))
    }

    fn get(&self, id: &str) -> Request {
        Request::get(format!("batches/{}", segment(id)))
    }

    fn cancel(&self, id: &str) -> Request {
        Request::post(format!("batches/{}/cancel", segment(id)), Body::Empty)
    }

    fn read_job(&self, body: &Value) -> Option<Job> {
        let raw_state = body["status"].as_str().unwrap_or("unknown").to_owned();
        let metadata = metadata_of(&body["metadata"]);
        let file = |kind, field: &str| text(&body[field]).map(|id| OutputFile { kind, id });
        let (output, errors) = (file("output file", "output_file_id"), file("error file", "error_file_id"));
        let counts = counts(&body["request_counts"]);
        // Answers stand in the output file; failed rows may stand in either.
        let is_unready = output.is_none() && (counts.done > counts.failed || (errors.is_none() && counts.done > 0));
        let state = state(&raw_state);
        Some(Job {
            counts,
            reasons: body["errors"]["data"]
                .as_array()
                .map(|list| list.iter().map(reason).collect())
                .unwrap_or_default(),
            input: text(&body["input_file_id"]),
            outputs: output.into_iter().chain(errors).collect(),
            is_unready: is_unready && matches!(state, State::Completed | State::Cancelled),
            created_at: body["created_at"].as_u64(),
            stop: metadata.get(STOP_KEY).and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default(),
            ..Job::new(text(&body["id"])?, raw_state, state)
        })
    }

    fn list(&self, after: Option<&str>) -> Request {
        let after = after.map(|id| format!("after={}&", segment(id))).unwrap_or_default();
        Request::get(format!("batches?{after}limit=100"))
    }

    fn is_made_of(&self, job: &Job, input: &Input, _options: &JobOptions) -> Option<bool> {
        Some(matches!(input, Input::Uploaded(file) if job.input.as_ref() == Some(file)))
    }

    fn describe_input(&self, input: &Input, _options: &JobOptions) -> String {
        match input {
            Input::Uploaded(file) => format!("with the input file {file}"),
            Input::Inline(rows) => format!("of {} requests", rows.count),
        }
    }

    fn read_list(&self, body: &Value) -> Option<Page> {
        let jobs: Vec<Job> = body["data"].as_array()?.iter().filter_map(|job| self.read_job(job)).collect();
        let next = jobs.last().map(|job| job.id.clone()).filter(|_| body["has_more"] == true);
        Some(Page { jobs, next })
    }

    fn results(&self, job: &Job) -> Vec<ResultFile> {
        job.outputs.iter().map(|file| file.at(vec![content(&file.id)])).collect()
    }

    fn input(&self, job: &Job) -> Option<Request> {
        job.input.as_deref().map(content)
    }

    fn row_id(&self, line: &[u8]) -> Option<RowId> {
        custom_id(line)
    }

    fn answer_fields(&self) -> &'static Fields {
        &ANSWER_FIELDS
    }

    fn is_result_row(&self, row: &Value) -> bool {
        // An error reply in the place of a file has an `error`, but no `response` beside it.
        row["response"].is_object() || (row.get("response").is_some() && !row["error"].is_null())
    }

    fn max_rows(&self) -> u64 {
        LIMITS.rows
    }

    fn read_row(&self, line: &Value, reading: &Reading) -> RowOutcome {
        let response = &line["response"];
        if !response.is_object() {
            return never_answered(&line["error"]);
        }
        let body = &response["body"];
        let status = response["status_code"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
        let result = if (200..300).contains(&status) {
            self.read(body, reading)
        } else {
            Err(Error::Api(Box::new(errors::from_body(status, body))))
        };
        match result {
            Ok(generation) => RowOutcome::Answered(generation),
            Err(mut error) => {
                if let Error::Api(error) = &mut error {
                    error.request_id = text(&response["request_id"]);
                }
                RowOutcome::Error(error)
            }
        }
    }
}

impl OpenAi {
    fn metadata(&self, options: &JobOptions) -> Result<Map<String, Value>> {
        let mut metadata = Map::new();
        let mut put = |key: &str, name: &str, value: String| {
            if value.chars().count() > LONGEST_METADATA {
                return Err(Error::configuration(format!(
                    "{name} does not fit into the job's metadata: OpenAI takes {LONGEST_METADATA} characters"
                )));
            }
            metadata.insert(key.into(), value.into());
            Ok(())
        };
        if let Some(name) = &options.display_name {
            put("display_name", "batch_options[\"display_name\"]", name.clone())?;
        }
        if !options.stop.is_empty() {
            put(STOP_KEY, "config.extra[\"stop\"]", Value::from(options.stop.clone()).to_string())?;
        }
        Ok(metadata)
    }
}

/// The upload of `rows` as a form.
fn multipart(rows: &Rows) -> Request {
    let boundary = format!("llmbackend-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    // The file name must end in .jsonl.
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"batch.jsonl\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let body = Body::File {
        content_type: format!("multipart/form-data; boundary={boundary}"),
        head: head.into(),
        file: rows.file.clone(),
        offset: 0,
        length: rows.bytes,
        tail: format!("\r\n--{boundary}--\r\n").into(),
    };
    Request::post("files", body)
}

/// The download of a file's content.
fn content(id: &str) -> Request {
    let mut request = Request::get(format!("files/{}/content", segment(id)));
    request.headers = vec![("accept", "application/binary".into())];
    request
}

/// A non-empty string; OpenAI writes null, "" or nothing for "none".
fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn metadata_of(metadata: &Value) -> BTreeMap<String, String> {
    let entries = metadata.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn state(raw: &str) -> State {
    match raw.to_ascii_lowercase().as_str() {
        "validating" => State::Pending,
        "completed" => State::Completed,
        "failed" => State::Failed,
        "expired" | "cancelled" | "canceled" => State::Cancelled,
        // in_progress, finalizing, cancelling, and whatever may be added: not an end that we know.
        _ => State::InProgress,
    }
}

fn counts(counts: &Value) -> Counts {
    let count = |field: &str| json::count(&counts[field]);
    Counts { total: count("total"), done: count("completed").saturating_add(count("failed")), failed: count("failed") }
}

fn reason(error: &Value) -> String {
    let mut reason = quote(error["message"].as_str().unwrap_or("no message")).into_owned();
    let mut facts = Vec::new();
    facts.extend(error["line"].as_u64().map(|line| format!("line {line}")));
    facts.extend(error["param"].as_str().map(|param| format!("param {}", quote_up_to(param, 50))));
    facts.extend(shared::code(&error["code"]).map(|code| format!("code {code}")));
    if !facts.is_empty() {
        reason.push_str(&format!(" ({})", facts.join(", ")));
    }
    if error["code"] == "token_limit_exceeded" {
        reason.push_str(" Nothing ran: submit it again when other batches of this model have finished.");
    }
    reason
}

/// A row without a response: it never ran, or the provider lost it.
fn never_answered(error: &Value) -> RowOutcome {
    let code = shared::code(&error["code"]);
    let message = text(&error["message"]).unwrap_or_else(|| "no response, and no reason is given".into());
    match code.as_deref() {
        Some("batch_expired") => RowOutcome::Expired(message),
        Some("batch_cancelled" | "batch_canceled") => RowOutcome::Cancelled(message),
        _ => RowOutcome::Error(Error::Api(Box::new(ApiError {
            kind: kind_of_status(500),
            provider: super::NAME.into(),
            status: None,
            code,
            message: shared::message(&message),
            request_id: None,
            retry_after: None,
            body: None,
        }))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: OpenAi = OpenAi { is_openai: true };

    #[test]
    fn a_row_and_a_job_are_what_the_guide_shows() {
        let row =
            API.row(Delivery::Upload, "llmb-000000", json!({"model": "m", "input": "Hi"}).as_object().unwrap().clone());
        assert_eq!(
            Value::from(row).to_string(),
            r#"{"custom_id":"llmb-000000","method":"POST","url":"/v1/responses","body":{"model":"m","input":"Hi"}}"#
        );
        let input = Input::Uploaded("file-abc".into());
        let Body::Json(body) = API.create("m", &input, &JobOptions::default()).body else { panic!() };
        assert_eq!(body, r#"{"completion_window":"24h","endpoint":"/v1/responses","input_file_id":"file-abc"}"#);
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        let with = |stop: String| API.check(&JobOptions { stop: vec![stop], ..Default::default() });
        assert!(with("x".into()).is_ok());
        assert!(with("x".repeat(600)).is_err());
    }

    #[test]
    fn an_empty_file_id_is_no_file_and_a_new_state_is_no_end() {
        let job =
            API.read_job(&json!({"id": "b", "status": "Expired", "output_file_id": "f", "error_file_id": ""})).unwrap();
        assert_eq!(
            (job.state, job.outputs),
            (State::Cancelled, vec![OutputFile { kind: "output file", id: "f".into() }])
        );
        assert_eq!(API.read_job(&json!({"id": "b", "status": "pondering"})).unwrap().state, State::InProgress);
        assert!(API.read_job(&json!({"object": "batch"})).is_none());
    }

    #[test]
    fn a_job_that_counts_rows_and_names_no_file_for_them_is_unready() {
        let unready = |status: &str, output: Value, errors: Value, (completed, failed): (i64, i64)| {
            let counts = json!({"total": 9, "completed": completed, "failed": failed});
            let job = json!({"id": "b", "status": status, "output_file_id": output, "error_file_id": errors, "request_counts": counts});
            API.read_job(&job).unwrap().is_unready
        };
        let none = || Value::Null;
        assert!(unready("completed", none(), none(), (9, 0)));
        assert!(unready("completed", "".into(), "e".into(), (6, 3)));
        assert!(unready("completed", none(), none(), (0, 9)));
        assert!(unready("expired", none(), none(), (4, 0)));
        assert!(!unready("completed", none(), "e".into(), (0, 9)));
        assert!(!unready("completed", "o".into(), none(), (6, 3)));
        assert!(!unready("completed", none(), none(), (0, 0)));
        assert!(!unready("completed", none(), none(), (-9, 0)));
        assert!(!unready("failed", none(), none(), (9, 0)));
        assert!(!unready("in_progress", none(), none(), (9, 0)));
    }

    #[test]
    fn an_error_reply_is_no_row_without_an_id() {
        assert!(API.is_result_row(&json!({"response": {"status_code": 200}})));
        assert!(API.is_result_row(&json!({"custom_id": null, "response": null, "error": {"code": "x"}})));
        for other in [
            json!({"error": {"message": "No such File object"}}),
            json!({"response": null}),
            json!({"id": "x"}),
            json!(3),
        ] {
            assert!(!API.is_result_row(&other), "{other}");
        }
    }

    #[test]
    fn a_row_tells_by_its_content_what_became_of_it() {
        let read = |line: Value| API.read_row(&line, &Reading::default());
        let refused = json!({"custom_id": "a", "error": null, "response": {"status_code": 400, "request_id": "r", "body": {"error": {"message": "Unknown parameter", "code": "unknown_parameter"}}}});
        match read(refused) {
            RowOutcome::Error(Error::Api(error)) => {
                assert_eq!((error.message.as_str(), error.request_id.as_deref()), ("Unknown parameter", Some("r")));
            }
            other => panic!("{other:?}"),
        }
        let expired = json!({"response": null, "error": {"code": "batch_expired", "message": "late"}});
        assert!(matches!(read(expired), RowOutcome::Expired(_)));
        assert!(matches!(read(json!({"response": null, "error": null})), RowOutcome::Error(_)));
        assert!(matches!(read(json!(3)), RowOutcome::Error(_)));
    }
}
