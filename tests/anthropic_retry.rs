//! The official SDK's recorded decisions to try again, against ours: attempts, waits and what the error says.

use llmbackend::client::Client;
use llmbackend::error::{ApiError, ApiErrorKind, Error};
use llmbackend::exchange::{Headers, Response};
use llmbackend::providers::settings::Settings;
use llmbackend::retry::{Advice, after_reply, after_silence};
use serde_json::Value;
use std::time::SystemTime;

/// Where the error says something else than the SDK's, on purpose.
const DIFFERENCES: &[(&str, &str)] = &[
    ("200 html is NOT an error in the SDK", "a page where a message should be is an APIError"),
    ("200 broken json", "an APIError with status and request id, not a ValueError"),
];

/// The SDK's classes, and ours.
const CLASSES: &[(&str, ApiErrorKind)] = &[
    ("BadRequestError", ApiErrorKind::InvalidRequest),
    ("PermissionDeniedError", ApiErrorKind::PermissionDenied),
    ("NotFoundError", ApiErrorKind::NotFound),
    ("RequestTimeoutError", ApiErrorKind::Server),
    ("ContentTooLargeError", ApiErrorKind::InvalidRequest),
    ("UnprocessableEntityError", ApiErrorKind::InvalidRequest),
    ("RequestHeaderFieldsTooLargeError", ApiErrorKind::InvalidRequest),
    ("APIStatusError", ApiErrorKind::InvalidRequest),
    ("RateLimitError", ApiErrorKind::RateLimit),
    ("RampLimitExceededError", ApiErrorKind::RateLimit),
    ("InternalServerError", ApiErrorKind::Server),
    ("HTTPNotImplementedError", ApiErrorKind::Server),
    ("ServiceUnavailableError", ApiErrorKind::Server),
    ("GatewayTimeoutError", ApiErrorKind::Server),
    ("OverloadedError", ApiErrorKind::Server),
];

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string("tests/fixtures/anthropic/anthropic_retry_cases.jsonl").unwrap();
    text.split('\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn client(max_retries: u64) -> Client {
    let options = serde_json::json!({"api_key": "k", "max_retries": max_retries});
    let settings = Settings::new(options.as_object().unwrap().clone(), |_| None);
    Client::open("anthropic", "m", settings).unwrap()
}

/// The reply that the recorder gave; None: it reset the connection. Each had the header `request-id: req_011CTest`.
fn reply(row: &Value) -> Option<Response> {
    let mut headers = vec![("request-id".to_owned(), "req_011CTest".to_owned())];
    for (name, value) in row["headers"].as_object().unwrap() {
        headers.push((name.clone(), value.as_str().unwrap().to_owned()));
    }
    let body = match &row["body"] {
        Value::String(text) if text == "<reset_connection>" => return None,
        Value::String(text) => text.clone(),
        body => body.to_string(),
    };
    Some(Response { status: row["status"].as_u64().unwrap() as u16, headers: Headers(headers), body: body.into() })
}

/// The waits before each further try, and the error that is left in the end.
fn play(case: &Value) -> (Vec<f64>, Option<Error>) {
    let most = case["max_retries"].as_u64().unwrap();
    let client = client(most);
    let (u, most) = (case["jitter_random"].as_f64().unwrap(), most as u32);
    let mut waits = Vec::new();
    for (attempt, row) in (0..).zip(case["replies"].as_array().unwrap()) {
        let (error, wait) = match reply(row) {
            None => (None, after_silence(attempt, most, u)),
            Some(reply) if reply.is_success() => (client.parse(&reply).err(), None),
            Some(reply) => {
                let error = client.error_reply(&reply).error;
                let advice = Advice::read(&reply.headers, SystemTime::UNIX_EPOCH);
                let wait = after_reply(error.api_kind().unwrap(), advice, attempt, most, u);
                (Some(error), wait)
            }
        };
        match wait {
            Some(wait) => waits.push(wait.as_secs_f64()),
            None => return (waits, error),
        }
    }
    (waits, None) // and then the recorder answered
}

#[test]
fn every_recorded_decision_is_ours() {
    let cases = cases();
    assert_eq!(cases.len(), 34);
    for case in &cases {
        let name = case["case"].as_str().unwrap();
        let (waits, error) = play(case);
        assert_eq!(waits.len() as u64 + 1, case["attempts"].as_u64().unwrap(), "{name}");
        for (ours, theirs) in waits.iter().zip(case["sleeps"].as_array().unwrap()) {
            assert!((ours - theirs.as_f64().unwrap()).abs() < 1e-3, "{name}: {ours} not {theirs}");
        }
        let outcome = &case["outcome"];
        let says_the_same = match (&error, outcome["ok"].as_bool().unwrap()) {
            (None, true) => true,
            // A connection that breaks in the end has no reply to read.
            (None, false) => outcome["class"] == "APIConnectionError",
            (Some(Error::Api(error)), false) => is_the_same(error, outcome),
            (Some(_), _) => false,
        };
        let is_listed = DIFFERENCES.iter().any(|(listed, _)| *listed == name);
        assert_eq!(says_the_same, !is_listed, "{name}: {error:?}");
    }
}

fn is_the_same(error: &ApiError, theirs: &Value) -> bool {
    let class = CLASSES.iter().find(|(name, _)| theirs["class"] == *name).map(|(_, kind)| *kind);
    let code = theirs["error_code"].as_str().or(theirs["type"].as_str());
    let message = theirs["api_message"].as_str();
    class == Some(error.kind)
        && theirs["status"].as_u64() == error.status.map(u64::from)
        && code == error.code.as_deref()
        && message.is_none_or(|message| message == error.message)
        && theirs["request_id"].as_str() == error.request_id.as_deref()
}

#[test]
fn undecodable_successes_are_not_sent_again() {
    for case in cases().iter().filter(|case| DIFFERENCES.iter().any(|(name, _)| case["case"] == *name)) {
        let client = client(2);
        let error = client.parse(&reply(&case["replies"][0]).unwrap()).unwrap_err();
        let Error::Api(api) = &error else { panic!("{error:?}") };
        assert_eq!(
            (api.kind, api.status, api.request_id.as_deref()),
            (ApiErrorKind::Other, Some(200), Some("req_011CTest"))
        );
        let failure = llmbackend::tries::Failure { error, advice: Advice::default() };
        assert_eq!(client.wait_before_retry(&failure, 0), None);
    }
}

#[test]
fn every_status_is_decided() {
    for status in 300..600u16 {
        let reply = Response { status, headers: Headers::default(), body: r#"{"type":"error"}"#.into() };
        let failure = client(2).error_reply(&reply);
        let again = client(2).wait_before_retry(&failure, 0).is_some();
        assert_eq!(again, matches!(status, 408 | 409 | 429 | 500..), "{status}");
    }
}

/// Where the SDK wastes its tries: what waiting does not lift, and waits of hours (it would sleep for up to 49 days).
#[test]
fn limits_that_stay_and_long_waits_end_it_at_once() {
    let wait = |status: u16, headers: &[(&str, &str)], error: Value| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let body = serde_json::json!({"type": "error", "error": error}).to_string();
        let reply = Response { status, headers: Headers(headers), body: body.into() };
        let failure = client(2).error_reply(&reply);
        client(2).wait_before_retry(&failure, 0).map(|wait| wait.as_secs_f64())
    };
    let code =
        |code: &str| serde_json::json!({"type": "rate_limit_error", "message": "m", "details": {"error_code": code}});
    for spent in ["enforced_spend_limit_reached", "contract_spend_limit_reached"] {
        assert_eq!(wait(429, &[("retry-after", "1"), ("x-should-retry", "true")], code(spent)), None);
    }
    assert_eq!(wait(429, &[("retry-after", "1")], code("ramp_limit_exceeded")), Some(1.0));
    assert_eq!(wait(429, &[("retry-after", "120")], code("new")), Some(120.0));
    assert_eq!(wait(429, &[("retry-after", "121")], code("new")), None);
    assert_eq!(wait(429, &[("retry-after", "86400"), ("x-should-retry", "true")], code("new")), None);
    assert_eq!(wait(529, &[("x-should-retry", "false")], code("new")), None);
}
