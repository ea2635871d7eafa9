//! Gemini's batch jobs: small ones inside the request that makes them, larger ones as an uploaded file; results inside the
//! job or as a file.

use super::{Gemini, SchemaField, errors, names};
use crate::error::{Error, Result};
use crate::exchange::{Body, Request, Response, segment};
use crate::json;
use crate::providers::errors::{is_error, word};
use crate::providers::fields::Fields;
use crate::providers::{
    Ask, BatchApi, Counts, Delivery, Form, Input, Job, JobOptions, Limits, OutputFile, Page, Provider, Reading,
    ResultFile, RowId, RowOutcome, Rows, State, Upload, rows,
};
use serde_json::{Map, Value, json};

/// Below the 20 MB that a request may hold, with room for what stands around the rows.
const INLINE: Limits = Limits { rows: 5_000, bytes: 18 * 1024 * 1024 };
/// A file may hold 2 GB. No number of rows is documented; this one bounds what a count or an id can make us allocate.
const UPLOAD: Limits = Limits { rows: 10_000_000, bytes: 2_000_000_000 };

static ANSWER_FIELDS: Fields = Fields::Of(&[
    ("error", Fields::All),
    ("status", Fields::All),
    (
        "response",
        Fields::Of(&[
            ("candidates", Fields::All),
            ("promptFeedback", Fields::All),
            ("error", Fields::All),
            ("modelVersion", Fields::All),
            ("responseId", Fields::All),
            (
                "usageMetadata",
                Fields::Of(&[
                    ("promptTokenCount", Fields::All),
                    ("toolUsePromptTokenCount", Fields::All),
                    ("cachedContentTokenCount", Fields::All),
                    ("candidatesTokenCount", Fields::All),
                    ("thoughtsTokenCount", Fields::All),
                    ("totalTokenCount", Fields::All),
                ]),
            ),
        ]),
    ),
]);

impl BatchApi for Gemini {
    fn forms(&self, ask: &Ask) -> Result<Vec<Form>> {
        let upload = Form { delivery: Delivery::Upload, limits: UPLOAD, prepared: self.prepare(ask)? };
        // Inline jobs take JSON Schema and answer it with nonsense: what OpenAPI's schema cannot say goes by file.
        match self.prepare_with(ask, SchemaField::OpenApi) {
            Ok(prepared) => Ok(vec![Form { delivery: Delivery::Inline, limits: INLINE, prepared }, upload]),
            Err(Error::Schema { .. }) => Ok(vec![upload]),
            Err(error) => Err(error),
        }
    }

    fn check(&self, _options: &JobOptions) -> Result<()> {
        Ok(())
    }

    fn check_custom_id(&self, id: &str) -> Result<()> {
        match id.chars().any(char::is_control) {
            true => Err(Error::configuration(format!("is {id:?}, which has a control character in it"))),
            false => Ok(()),
        }
    }

    /// Only the key comes back with a row: the position goes with it.
    fn wire_id(&self, index: u64, custom_id: &str) -> String {
        format!("{index:06}:{custom_id}")
    }

    fn row(&self, delivery: Delivery, id: &str, body: Map<String, Value>) -> Map<String, Value> {
        let mut row = Map::new();
        match delivery {
            Delivery::Inline => {
                row.insert("request".into(), body.into());
                row.insert("metadata".into(), json!({"key": id}));
            }
            Delivery::Upload => {
                row.insert("key".into(), id.into());
                row.insert("request".into(), names::snake_request(body).into());
            }
        }
        row
    }

    fn upload(&self, rows: &Rows, replies: &[Response]) -> Result<Upload> {
        self.next_upload(rows, replies)
    }

    fn create(&self, model: &str, input: &Input, options: &JobOptions) -> Request {
        let model = super::model_path(model).unwrap_or_default();
        let path = format!("{}/{model}:batchGenerateContent", self.version);
        let name = display_name(input, options);
        let body = match input {
            Input::Uploaded(file) => {
                let body = json!({"batch": {"displayName": name, "inputConfig": {"fileName": file}}});
                Body::Json(body.to_string().into())
            }
            Input::Inline(rows) => Body::File {
                content_type: "application/json".into(),
                head: format!(
                    r#"{{"batch":{{"displayName":{},"inputConfig":{{"requests":{{"requests":["#,
                    Value::from(name)
                )
                .into(),
                file: rows.file.clone(),
                offset: 0,
                length: rows.bytes,
                tail: "]}}}}".into(),
            },
        };
        Request::post(path, body)
    }

    fn get(&self, id: &str) -> Request {
        Request::get(format!("{}/{id}", self.version))
    }

    fn cancel(&self, id: &str) -> Request {
        Request::post(format!("{}/{id}:cancel", self.version), Body::Empty)
    }

    fn job_id(&self, id: &str) -> Result<String> {
        if id.starts_with("gs://") || id.starts_with("bq://") {
            return Err(Error::configuration(format!(
                "'{id}' is a place in Google Cloud, which belongs to Vertex AI; the Gemini API's batches are called batches/..."
            )));
        }
        let bare = id.strip_prefix("batches/").unwrap_or(id);
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if bare.is_empty() || !bare.chars().all(legal) {
            return Err(Error::configuration(format!(
                "'{id}' cannot be the id of a Gemini batch; one is like batches/abc123"
            )));
        }
        Ok(format!("batches/{bare}"))
    }

    fn read_job(&self, operation: &Value) -> Option<Job> {
        let batch = described(operation);
        let id =
            word(&operation["name"]).or_else(|| word(&batch["name"])).filter(|name| name.starts_with("batches/"))?;
        let (raw_state, state) = state(operation);
        let has_rows = has_inlined(&operation["response"]) || has_inlined(&batch["output"]);
        let file = [&operation["response"], &batch["output"]].iter().find_map(|output| word(&output["responsesFile"]));
        let counts = counts(&batch["batchStats"]);
        let is_unready = state == State::Completed && !has_rows && file.is_none() && operation["error"].is_null();
        let error = &operation["error"];
        let reasons = if error.is_object() { vec![errors::in_row(error).message] } else { Vec::new() };
        Some(Job {
            counts,
            reasons,
            display_name: word(&batch["displayName"]),
            input: word(&batch["inputConfig"]["fileName"]),
            outputs: file.map(|id| OutputFile { kind: "result file", id }).into_iter().collect(),
            is_unready,
            ..Job::new(id, raw_state, state)
        })
    }

    fn list(&self, after: Option<&str>) -> Request {
        let after = after.map(|token| format!("&pageToken={}", segment(token))).unwrap_or_default();
        Request::get(format!("{}/batches?pageSize=100{after}", self.version))
    }

    fn read_list(&self, body: &Value) -> Option<Page> {
        // An empty list is an empty object.
        let operations = body["operations"].as_array().cloned().unwrap_or_default();
        let jobs = operations.iter().filter_map(|operation| self.read_job(operation)).collect();
        body.is_object().then(|| Page { jobs, next: word(&body["nextPageToken"]) })
    }

    fn is_made_of(&self, job: &Job, input: &Input, options: &JobOptions) -> Option<bool> {
        let has_our_name = job.display_name.as_ref() == Some(&display_name(input, options));
        match (input, &job.input) {
            (Input::Uploaded(file), Some(known)) => Some(file == known),
            // A job that is not done may be listed without its file.
            (Input::Uploaded(_), None) if has_our_name => None,
            _ => Some(has_our_name),
        }
    }

    fn describe_input(&self, input: &Input, options: &JobOptions) -> String {
        match input {
            Input::Uploaded(file) => format!("with the input file {file}"),
            Input::Inline(_) => format!("with the name '{}'", display_name(input, options)),
        }
    }

    fn results(&self, job: &Job) -> Vec<ResultFile> {
        let places = |id: &String| {
            let paths = [format!("download/{}/{id}", self.version), format!("{}/{id}", self.version)];
            paths.into_iter().map(|path| Request::get(format!("{path}:download?alt=media"))).collect()
        };
        job.outputs.iter().map(|file| file.at(places(&file.id))).collect()
    }

    fn leaves_out_stopped_rows(&self) -> bool {
        true
    }

    fn input(&self, _job: &Job) -> Option<Request> {
        // Uploaded files cannot be downloaded; the position is in the key.
        None
    }

    fn row_id(&self, line: &[u8]) -> Option<RowId> {
        let key = rows::key(line)?;
        match key.split_once(':') {
            Some((index, name)) if index.len() >= 6 && index.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(RowId { index: index.parse().ok(), name: name.to_owned() })
            }
            _ => Some(RowId { index: None, name: key }),
        }
    }

    fn answer_fields(&self) -> &'static Fields {
        &ANSWER_FIELDS
    }

    fn is_result_row(&self, row: &Value) -> bool {
        // An error reply in the place of a file has an HTTP status for its code, a row has one of google.rpc.
        let has_error = |error: &Value| is_error(error) && json::count(&error["code"]) < 100;
        row["response"].is_object() || has_error(&row["error"]) || has_error(&row["status"])
    }

    fn max_rows(&self) -> u64 {
        UPLOAD.rows
    }

    fn read_row(&self, line: &Value, reading: &Reading) -> RowOutcome {
        let response = &line["response"];
        let is_answer = ["candidates", "promptFeedback"].iter().any(|field| !response[field].is_null());
        // Each beside what holds it.
        let errors = [(&line["error"], line), (&line["status"], &line["status"]), (&response["error"], response)];
        if let Some((error, holder)) = errors.into_iter().find(|(error, _)| !is_answer && is_error(error)) {
            return match json::count(&error["code"]) {
                1 => RowOutcome::Cancelled(word(&error["message"]).unwrap_or_else(|| "the job was cancelled".into())),
                _ => RowOutcome::Error(Error::Api(Box::new(errors::in_row(holder)))),
            };
        }
        match self.read(response, reading) {
            Ok(generation) => RowOutcome::Answered(generation),
            Err(error) => RowOutcome::Error(error),
        }
    }
}

/// A job without an input file can only be told by its name: a random token makes it one of a kind.
fn display_name(input: &Input, options: &JobOptions) -> String {
    let name = options.display_name.as_deref().unwrap_or("llmbackend");
    match input {
        Input::Uploaded(_) => name.to_owned(),
        Input::Inline(_) => format!("{name} {}", options.token),
    }
}

/// Where an operation describes its batch; some servers answer with the batch itself.
fn described(operation: &Value) -> &Value {
    if operation["metadata"].is_object() { &operation["metadata"] } else { operation }
}

/// The raw state, as `JOB_STATE_...`, and ours. The wire says `BATCH_STATE_...`, docs and SDKs say the other.
fn state(operation: &Value) -> (String, State) {
    let named = described(operation)["state"].as_str().unwrap_or("");
    let suffix = named.rsplit_once("STATE_").map_or(named, |(_, suffix)| suffix).to_ascii_uppercase();
    let done = operation["done"] == true;
    let failed = operation["error"].is_object();
    let state = match suffix.as_str() {
        "PENDING" | "QUEUED" => State::Pending,
        "RUNNING" | "CANCELLING" | "UPDATING" | "PAUSED" => State::InProgress,
        "SUCCEEDED" | "PARTIALLY_SUCCEEDED" => State::Completed,
        "FAILED" => State::Failed,
        "CANCELLED" | "EXPIRED" => State::Cancelled,
        _ if done && failed && operation["error"]["code"] == 1 => State::Cancelled,
        _ if done && failed => State::Failed,
        _ if done => State::Completed,
        "" | "UNSPECIFIED" => State::Pending,
        _ => State::InProgress,
    };
    let suffix = if suffix.is_empty() { "UNSPECIFIED" } else { &suffix };
    (format!("JOB_STATE_{suffix}"), state)
}

/// Whether results came with the job, in either of the two shapes that are seen: the rows are taken out of the list.
fn has_inlined(output: &Value) -> bool {
    let list = &output["inlinedResponses"];
    list.is_array() || list["inlinedResponses"].is_array()
}

fn counts(stats: &Value) -> Counts {
    let count = |field: &str| json::count(&stats[field]);
    let failed = count("failedRequestCount");
    Counts { total: count("requestCount"), done: failed.saturating_add(count("successfulRequestCount")), failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api() -> Gemini {
        Gemini { version: "v1beta".into() }
    }

    #[test]
    fn states_are_known_by_their_suffix() {
        let read = |operation: Value| state(&operation);
        assert_eq!(
            read(json!({"metadata": {"state": "BATCH_STATE_SUCCEEDED"}})),
            ("JOB_STATE_SUCCEEDED".into(), State::Completed)
        );
        assert_eq!(read(json!({"metadata": {"state": "JOB_STATE_EXPIRED"}})).1, State::Cancelled);
        assert_eq!(read(json!({"done": true, "error": {"code": 1}})).1, State::Cancelled);
        assert_eq!(read(json!({"metadata": {"state": "BATCH_STATE_NEW"}})).1, State::InProgress);
        assert_eq!(read(json!({})).1, State::Pending);
    }

    #[test]
    fn ids_are_taken_in_both_forms_and_cloud_places_are_not() {
        assert_eq!(api().job_id("abc").unwrap(), "batches/abc");
        assert_eq!(api().job_id("batches/abc").unwrap(), "batches/abc");
        for bad in ["gs://b/x", "bq://p.d.t", "batches/a/b", "batches/../x", "a?b", ""] {
            assert!(api().job_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_carries_position_and_custom_id() {
        let id = |key: &str| api().row_id(json!({"response": {}, "key": key}).to_string().as_bytes()).unwrap();
        assert_eq!(id("000012:es:x"), RowId { index: Some(12), name: "es:x".into() });
        assert_eq!(id("llmb-000001"), RowId { index: None, name: "llmb-000001".into() });
        let inline = api().row_id(br#"{"metadata":{"key":"000000:a"}}"#).unwrap();
        assert_eq!(inline.index, Some(0));
    }
}
