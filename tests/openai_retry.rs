//! The official SDK's recorded decisions to try again, against ours: attempts, waits and what the error says.

use llmbackend::client::Client;
use llmbackend::error::{ApiErrorKind, ConnectionError, Error};
use llmbackend::exchange::{Headers, Response};
use llmbackend::providers::settings::Settings;
use llmbackend::retry::{Advice, after_reply};
use serde_json::Value;
use std::time::SystemTime;

/// Where we decide otherwise on purpose: attempts of ours, and why.
const DIFFERENCES: &[(&str, usize, &str)] = &[
    ("RETRY 429 insufficient_quota", 1, "waiting does not fill an account: never retried"),
    ("RETRY 302 redirect same host", 1, "redirects are not followed: one may turn a POST into a GET"),
];

struct Case {
    call: String,
    attempts: usize,
    sleeps: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string("tests/fixtures/openai/openai_retry_cases.jsonl").unwrap();
    let read = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        Case {
            call: row["call"].as_str().unwrap().to_owned(),
            attempts: row["attempts"].as_u64().unwrap() as usize,
            sleeps: row["sleeps"].as_array().unwrap().iter().map(|sleep| sleep.as_f64().unwrap()).collect(),
        }
    };
    text.lines().map(read).collect()
}

fn client(max_retries: u64) -> Client {
    let options = serde_json::json!({"api_key": "sk-test", "max_retries": max_retries});
    let settings = Settings::new(options.as_object().unwrap().clone(), |_| None);
    Client::open("openai", "m", settings).unwrap()
}

/// The reply that the recorder gave in the case called `call`; None: it dropped the connection.
fn reply(call: &str) -> Option<Response> {
    let call = call.strip_prefix("RETRY ").unwrap();
    let mut headers = Vec::new();
    let mut body = r#"{"error":{"message":"m","type":"x","param":null,"code":null}}"#.to_owned();
    let status = call.split(' ').find_map(|word| word.parse::<u16>().ok());
    if let Some((_, dict)) = call.split_once(" {") {
        let dict: Value = serde_json::from_str(&format!("{{{}", dict.replace('\'', "\""))).unwrap();
        for (name, value) in dict.as_object().unwrap() {
            headers.push((name.clone(), value.as_str().unwrap().to_owned()));
        }
    }
    let mut header = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
    match call {
        "429 insufficient_quota" => body = body.replace("\"x\"", "\"insufficient_quota\""),
        "500 x-should-retry:false" => header("x-should-retry", "false"),
        "429 x-should-retry:true + retry-after 500" => {
            header("x-should-retry", "true");
            header("retry-after", "500");
        }
        "400 x-request-id" => header("x-request-id", "req_123"),
        "500 html" => body = "<html>bad gateway</html>".into(),
        "500 empty" | "200 empty body" => body.clear(),
        "400 body without error key" => body = r#"{"message":"top","code":"c"}"#.into(),
        "400 error is a string" => body = r#"{"error":"just text"}"#.into(),
        "400 error int code (vLLM)" => body = body.replace("\"code\":null", "\"code\":400"),
        "400 list body" => body = "[1, 2]".into(),
        "200 bad json" => body = "{\"id\":".into(),
        "302 redirect same host" => header("location", "http://127.0.0.1/v1/other"),
        _ => {}
    }
    status.map(|status| Response { status, headers: Headers(headers), body: body.into() })
}

/// The recorder's clock, in the cases with an HTTP date: the SDK slept 8.2284 s until 11:14:20.
fn now() -> SystemTime {
    let then = httpdate::parse_http_date("Sun, 22 Nov 2026 11:14:20 GMT").unwrap();
    then - std::time::Duration::from_secs_f64(8.2284)
}

/// The waits that we would make, drawn with `u`.
fn waits(call: &str, u: f64) -> Vec<f64> {
    let most = if call.contains("max_retries=8") { 8 } else { 2 };
    let kind_and_advice = reply(call).map(|reply| {
        let failure = client(2).error_reply(&reply);
        let Error::Api(error) = failure.error else { panic!("{call}") };
        (error.kind, Advice::read(&reply.headers, now()))
    });
    let wait = |attempt| match kind_and_advice {
        Some((kind, advice)) => after_reply(kind, advice, attempt, most, u),
        None => llmbackend::retry::after_silence(attempt, most, u),
    };
    (0..).map_while(wait).map(|wait| wait.as_secs_f64()).collect()
}

#[test]
fn every_recorded_decision_is_ours_or_listed() {
    let cases = cases();
    assert_eq!(cases.len(), 42);
    for case in &cases {
        let succeeds_late = case.call.contains("then ok") || case.call.contains("{'retry-after");
        let (longest, shortest) = (waits(&case.call, 0.0), waits(&case.call, 0.999_999));
        let mut attempts = longest.len() + 1;
        if case.call.starts_with("RETRY 200") {
            attempts = 1; // a success is never sent again, see `undecodable_successes_are_not_sent_again`
        } else if succeeds_late {
            attempts = attempts.min(2);
        }
        match DIFFERENCES.iter().find(|(call, ..)| *call == case.call) {
            Some((call, ours, _)) => assert_eq!((attempts, attempts == case.attempts), (*ours, false), "{call}"),
            None => {
                assert_eq!(attempts, case.attempts, "{}", case.call);
                for (i, sleep) in case.sleeps.iter().enumerate() {
                    let fits = shortest[i] - 1e-3 <= *sleep && *sleep <= longest[i] + 1e-3;
                    assert!(fits, "{}: {sleep} not in {}..={}", case.call, shortest[i], longest[i]);
                }
            }
        }
    }
}

#[test]
fn undecodable_successes_are_not_sent_again() {
    for call in ["RETRY 200 bad json", "RETRY 200 empty body"] {
        let client = client(2);
        let error = client.parse(&reply(call).unwrap()).unwrap_err();
        assert_eq!(error.api_kind(), Some(ApiErrorKind::Other), "{call}");
        let failure = llmbackend::tries::Failure { error, advice: Advice::default() };
        assert_eq!(client.wait_before_retry(&failure, 0), None, "{call}");
    }
}

#[test]
fn a_broken_connection_is_tried_again() {
    let broken = ConnectionError { provider: "openai".into(), message: "x".into(), timed_out: true, sent: true };
    let failure = |error| llmbackend::tries::Failure { error, advice: Advice::default() };
    let failure = failure(Error::Connection(broken));
    let waits: Vec<bool> = (0..3).map(|attempt| client(2).wait_before_retry(&failure, attempt).is_some()).collect();
    assert_eq!(waits, [true, true, false]);
    assert_eq!(client(0).wait_before_retry(&failure, 0), None);
}

#[test]
fn every_status_is_decided() {
    for status in 300..600u16 {
        let reply = Response { status, headers: Headers::default(), body: "{}".into() };
        let failure = client(2).error_reply(&reply);
        let again = client(2).wait_before_retry(&failure, 0).is_some();
        assert_eq!(again, matches!(status, 408 | 409 | 429 | 500..), "{status}");
    }
}

#[test]
fn every_header_is_decided() {
    let wait = |headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let reply = Response { status: 503, headers: Headers(headers), body: "".into() };
        let failure = client(2).error_reply(&reply);
        (client(2).wait_before_retry(&failure, 0).map(|wait| wait.as_secs_f64()), failure.advice.wait)
    };
    for ignored in ["0", "-1", "nan", "inf", "-inf", "1e400", "soon", "", "Sun, 22 Nov 1999 11:14:20 GMT"] {
        let (wait, asked) = wait(&[("retry-after", ignored)]);
        assert!(asked.is_none() && wait.is_some_and(|wait| (0.375..=0.5).contains(&wait)), "{ignored}: {wait:?}");
    }
    assert_eq!(wait(&[("retry-after", " 2 ")]).0, Some(2.0));
    assert_eq!(wait(&[("Retry-After-Ms", "1500"), ("retry-after", "9")]).0, Some(1.5));
    assert_eq!(wait(&[("retry-after-ms", "x"), ("retry-after", "9")]).0, Some(9.0));
    assert_eq!(wait(&[("retry-after", "120")]).0, Some(120.0));
    assert_eq!(wait(&[("retry-after", "120.5")]).0, None);
    assert_eq!(wait(&[("retry-after-ms", "120001")]).0, None);
    assert_eq!(wait(&[("x-should-retry", "false"), ("retry-after", "1")]).0, None);
    assert!(wait(&[("x-should-retry", "False")]).0.is_some());
}
