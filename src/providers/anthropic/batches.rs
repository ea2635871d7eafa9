//! Anthropic's Message Batches: rows go up inside the request that makes the job; results come back as one file.

use super::{Anthropic, NAME, errors};
use crate::error::{Error, Result, quote};
use crate::exchange::{Body, Request, Response, segment};
use crate::json;
use crate::providers::fields::Fields;
use crate::providers::rows::custom_id;
use crate::providers::{
    Ask, BatchApi, Counts, Delivery, Form, Input, Job, JobOptions, Limits, OutputFile, Page, Provider, Reading,
    ResultFile, RowId, RowOutcome, Rows, State, Upload, errors as shared,
};
use serde_json::{Map, Value};

const LONGEST_ID: usize = 64;
const LIMITS: Limits = Limits { rows: 100_000, bytes: 256_000_000 };

static ANSWER_FIELDS: Fields = Fields::Of(&[(
    "result",
    Fields::Of(&[
        ("type", Fields::All),
        (
            "message",
            Fields::Of(&[
                ("id", Fields::All),
                ("type", Fields::All),
                ("model", Fields::All),
                ("content", Fields::All),
                ("stop_reason", Fields::All),
                ("stop_details", Fields::All),
                ("error", Fields::All),
                ("usage", Fields::All),
            ]),
        ),
    ]),
)]);

impl BatchApi for Anthropic {
    fn forms(&self, ask: &Ask) -> Result<Vec<Form>> {
        let mut prepared = self.prepare(ask)?;
        if prepared.reading.stop.iter().any(|stop| stop.trim().is_empty()) {
            return Err(Error::configuration(
                "a blank stop string is not taken by Anthropic, and a Message Batch has no place to keep it until its results \
                 are read; leave it out, or use an immediate batch",
            ));
        }
        if !prepared.headers.is_empty() {
            return Err(Error::configuration(
                "config.extra[\"betas\"] cannot be given for each row of a Message Batch; give the header anthropic-beta in \
                 the client's headers",
            ));
        }
        prepared.fallback = None;
        Ok(vec![Form { delivery: Delivery::Inline, limits: LIMITS, prepared }])
    }

    fn check(&self, _options: &JobOptions) -> Result<()> {
        Ok(())
    }

    fn check_custom_id(&self, id: &str) -> Result<()> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if id.len() > LONGEST_ID || !id.bytes().all(allowed) {
            return Err(Error::configuration(format!(
                "is '{id}'; Anthropic takes up to {LONGEST_ID} of the characters a-z, A-Z, 0-9, _ and -"
            )));
        }
        Ok(())
    }

    fn row(&self, _delivery: Delivery, id: &str, body: Map<String, Value>) -> Map<String, Value> {
        let mut row = Map::new();
        row.insert("custom_id".into(), id.into());
        row.insert("params".into(), body.into());
        row
    }

    fn upload(&self, _rows: &Rows, _replies: &[Response]) -> Result<Upload> {
        Err(Error::Api(Box::new(shared::in_reply(NAME, "Message Batches take no files"))))
    }

    fn create(&self, _model: &str, input: &Input, _options: &JobOptions) -> Request {
        let body = match input {
            Input::Inline(rows) => Body::File {
                content_type: "application/json".into(),
                head: r#"{"requests":["#.into(),
                file: rows.file.clone(),
                offset: 0,
                length: rows.bytes,
                tail: "]}".into(),
            },
            Input::Uploaded(_) => Body::Empty,
        };
        Request::post("v1/messages/batches", body)
    }

    fn get(&self, id: &str) -> Request {
        Request::get(format!("v1/messages/batches/{}", segment(id)))
    }

    fn cancel(&self, id: &str) -> Request {
        Request::post(format!("v1/messages/batches/{}/cancel", segment(id)), Body::Empty)
    }

    fn read_job(&self, body: &Value) -> Option<Job> {
        let id = shared::word(&body["id"])?;
        let raw_state = body["processing_status"].as_str().unwrap_or("unknown").to_owned();
        let count = |field: &str| json::count(&body["request_counts"][field]);
        let (succeeded, errored, cancelled, expired) =
            (count("succeeded"), count("errored"), count("canceled"), count("expired"));
        let state = if raw_state == "ended" || !body["ended_at"].is_null() {
            let was_cancelled = !body["cancel_initiated_at"].is_null() && cancelled > 0;
            // A job that ran is completed, even if every row of it failed.
            let ran = succeeded > 0 || errored > 0;
            if was_cancelled || (!ran && (cancelled > 0 || expired > 0)) { State::Cancelled } else { State::Completed }
        } else {
            State::InProgress
        };
        let done = succeeded.saturating_add(errored);
        let total = done.saturating_add(cancelled).saturating_add(expired).saturating_add(count("processing"));
        // Results are kept for 29 days. Of older ones the server itself says that they are gone: no rows would look as if
        // they had been lost.
        let outputs = vec![OutputFile { kind: "results of", id: id.clone() }];
        let created_at = body["created_at"].as_str().and_then(unix_seconds);
        let counts = Counts { total, done, failed: errored };
        Some(Job { counts, outputs, created_at, ..Job::new(id, raw_state, state) })
    }

    fn list(&self, after: Option<&str>) -> Request {
        let after = after.map(|id| format!("after_id={}&", segment(id))).unwrap_or_default();
        Request::get(format!("v1/messages/batches?{after}limit=100"))
    }

    fn read_list(&self, body: &Value) -> Option<Page> {
        let jobs = body["data"].as_array()?.iter().filter_map(|job| self.read_job(job)).collect();
        Some(Page { jobs, next: shared::word(&body["last_id"]).filter(|_| body["has_more"] == true) })
    }

    /// A job has neither a name nor an input file: as many rows is all that can be compared.
    fn is_made_of(&self, job: &Job, input: &Input, _options: &JobOptions) -> Option<bool> {
        match input {
            Input::Inline(rows) if job.counts.total == rows.count => None,
            _ => Some(false),
        }
    }

    fn describe_input(&self, input: &Input, _options: &JobOptions) -> String {
        match input {
            Input::Inline(rows) => format!("of {} requests that was created then", rows.count),
            Input::Uploaded(file) => format!("with the input file {file}"),
        }
    }

    fn results(&self, job: &Job) -> Vec<ResultFile> {
        // Below our own base URL, whatever host `results_url` names: a credential goes nowhere else.
        let path = |file: &OutputFile| format!("v1/messages/batches/{}/results", segment(&file.id));
        job.outputs.iter().map(|file| file.at(vec![Request::get(path(file))])).collect()
    }

    fn input(&self, _job: &Job) -> Option<Request> {
        None
    }

    fn row_id(&self, line: &[u8]) -> Option<RowId> {
        custom_id(line)
    }

    fn answer_fields(&self) -> &'static Fields {
        &ANSWER_FIELDS
    }

    fn is_result_row(&self, row: &Value) -> bool {
        row["result"].is_object()
    }

    fn max_rows(&self) -> u64 {
        LIMITS.rows
    }

    fn read_row(&self, line: &Value, reading: &Reading) -> RowOutcome {
        let result = &line["result"];
        match result["type"].as_str() {
            Some("succeeded") => match self.read(&result["message"], reading) {
                Ok(generation) => RowOutcome::Answered(generation),
                Err(error) => RowOutcome::Error(error),
            },
            Some("errored") => {
                let mut error = errors::in_reply(&result["error"]);
                error.status = None;
                RowOutcome::Error(Error::Api(Box::new(error)))
            }
            Some("expired") => {
                RowOutcome::Expired("it was not processed within the 24 hours of a Message Batch".into())
            }
            Some("canceled" | "cancelled") => RowOutcome::Cancelled("the batch was cancelled before it ran".into()),
            other => {
                let message = format!("a row of results has the unknown type '{}'", quote(other.unwrap_or("none")));
                RowOutcome::Error(Error::Api(Box::new(shared::in_reply(NAME, message))))
            }
        }
    }
}

/// Anthropic's times are RFC 3339.
fn unix_seconds(time: &str) -> Option<u64> {
    time.parse::<jiff::Timestamp>().ok().and_then(|time| time.as_second().try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(body: Value) -> State {
        let mut job = json!({"id": "msgbatch_1", "processing_status": "ended"});
        job.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        Anthropic { version: String::new(), is_anthropic: true, sends_key: false }.read_job(&job).unwrap().state
    }

    #[test]
    fn three_raw_states_become_ours_by_their_counts() {
        assert_eq!(state(json!({"processing_status": "canceling", "ended_at": null})), State::InProgress);
        assert_eq!(state(json!({"request_counts": {"succeeded": 1, "expired": 1}})), State::Completed);
        assert_eq!(state(json!({"request_counts": {"errored": 2}})), State::Completed);
        assert_eq!(state(json!({"request_counts": {"expired": 2}})), State::Cancelled);
        let cancelled =
            json!({"request_counts": {"succeeded": 1, "canceled": 1}, "cancel_initiated_at": "2026-11-22T10:00:00Z"});
        assert_eq!(state(cancelled), State::Cancelled);
        // Counts that no sum can hold.
        assert_eq!(state(json!({"request_counts": {"succeeded": u64::MAX, "errored": u64::MAX}})), State::Completed);
        assert_eq!(state(json!({"request_counts": {"canceled": u64::MAX, "expired": u64::MAX}})), State::Cancelled);
    }
}
