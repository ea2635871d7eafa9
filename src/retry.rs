//! Again? After how long? The rules are those of the official SDKs (see the retry fixtures), except that a limit which
//! waiting does not lift is never tried again.

use crate::error::ApiErrorKind;
use crate::exchange::Headers;
use std::time::{Duration, SystemTime};

/// The longest wait that a server can ask for and get.
pub const LONGEST_SERVER_WAIT: Duration = Duration::from_secs(120);

/// What the server's headers say about another try.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Advice {
    pub wait: Option<Duration>,
    /// `x-should-retry`, which overrules the status.
    pub should_retry: Option<bool>,
}

impl Advice {
    /// Reads `retry-after-ms`, `retry-after` (seconds or an HTTP date) and `x-should-retry`. A number in
    /// `retry-after-ms` hides `retry-after`; a wait that is not positive and finite is no wait.
    pub fn read(headers: &Headers, now: SystemTime) -> Self {
        let number = |name: &str| headers.get(name).and_then(|text| text.trim().parse::<f64>().ok());
        let seconds = number("retry-after-ms")
            .map(|milliseconds| milliseconds / 1000.0)
            .or_else(|| number("retry-after"))
            .or_else(|| headers.get("retry-after").and_then(|text| seconds_until(text, now)));
        Self {
            wait: seconds
                .filter(|seconds| *seconds > 0.0)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            should_retry: headers.get("x-should-retry").and_then(|text| text.parse().ok()),
        }
    }
}

fn seconds_until(date: &str, now: SystemTime) -> Option<f64> {
    let then = httpdate::parse_http_date(date).ok()?;
    then.duration_since(now).ok().map(|wait| wait.as_secs_f64())
}

/// Whether an error reply is worth another try, and after how long; None: give up.
/// `attempt` counts from 0; `u` is uniform in [0, 1).
pub fn after_reply(kind: ApiErrorKind, advice: Advice, attempt: u32, max_retries: u32, u: f64) -> Option<Duration> {
    let transient = matches!(kind, ApiErrorKind::RateLimit | ApiErrorKind::Server);
    let again = kind != ApiErrorKind::QuotaExceeded && advice.should_retry.unwrap_or(transient);
    if !again || attempt >= max_retries {
        return None;
    }
    match advice.wait {
        Some(wait) if wait > LONGEST_SERVER_WAIT => None,
        Some(wait) => Some(wait),
        None => Some(backoff(attempt, u)),
    }
}

/// The same after no reply came at all.
pub fn after_silence(attempt: u32, max_retries: u32, u: f64) -> Option<Duration> {
    (attempt < max_retries).then(|| backoff(attempt, u))
}

/// Half a second, doubled each time, at most 8 s, less up to a quarter.
pub fn backoff(attempt: u32, u: f64) -> Duration {
    let longest = (0.5 * 2f64.powi(attempt.min(16) as i32)).min(8.0);
    Duration::from_secs_f64(longest * (1.0 - 0.25 * u))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(headers: &[(&str, &str)], now: SystemTime) -> Advice {
        Advice::read(&Headers(headers.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()), now)
    }

    #[test]
    fn a_server_may_ask_in_three_ways() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 11:14:00 GMT").unwrap();
        let wait = |headers: &[(&str, &str)]| advice(headers, now).wait.map(|wait| wait.as_secs_f64());
        assert_eq!(wait(&[("Retry-After", "1.5")]), Some(1.5));
        assert_eq!(wait(&[("retry-after-ms", "250"), ("retry-after", "9")]), Some(0.25));
        assert_eq!(wait(&[("retry-after-ms", "0"), ("retry-after", "9")]), None);
        assert_eq!(wait(&[("retry-after", "Sun, 22 Nov 2026 11:14:20 GMT")]), Some(20.0));
        assert_eq!(wait(&[("retry-after", "Sun, 22 Nov 2026 11:13:00 GMT")]), None);
        for nonsense in ["nan", "inf", "-1", "0", "soon", ""] {
            assert_eq!(wait(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
    }

    #[test]
    fn gives_up_at_once_on_long_waits_and_on_quota() {
        let long = Advice { wait: Some(Duration::from_secs(121)), should_retry: Some(true) };
        assert_eq!(after_reply(ApiErrorKind::RateLimit, long, 0, 2, 0.0), None);
        let insisting = Advice { wait: None, should_retry: Some(true) };
        assert_eq!(after_reply(ApiErrorKind::QuotaExceeded, insisting, 0, 2, 0.0), None);
        assert!(after_reply(ApiErrorKind::InvalidRequest, insisting, 0, 2, 0.0).is_some());
        let forbidding = Advice { wait: None, should_retry: Some(false) };
        assert_eq!(after_reply(ApiErrorKind::Server, forbidding, 0, 2, 0.0), None);
        assert_eq!(after_reply(ApiErrorKind::Server, Advice::default(), 2, 2, 0.0), None);
    }

    #[test]
    fn backs_off_to_eight_seconds() {
        let waits: Vec<f64> = (0..6).map(|attempt| backoff(attempt, 0.0).as_secs_f64()).collect();
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]);
        assert_eq!(backoff(0, 1.0).as_secs_f64(), 0.375);
    }
}
