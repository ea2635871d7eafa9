//! Creating a job is not idempotent anywhere. What an attempt to create one has come to, and how long to search for a job
//! that may have been made: it is never created again.

use crate::error::{ApiErrorKind, Error};
use crate::tries::Failure;
use std::time::Duration;

/// The waits before each reading of the list of jobs, after an attempt whose outcome is unknown: a minute in all, since
/// lists lag.
pub const LOOKUP_DELAYS: &[Duration] = &[
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(15),
    Duration::from_secs(30),
];

/// What is known after an attempt to create a job that did not come back with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateOutcome {
    /// Nothing was created: the server did not see the request, or refused it.
    Rejected,
    /// It may have been created.
    Unknown,
}

impl CreateOutcome {
    pub fn of(failure: &Failure) -> Self {
        match &failure.error {
            Error::Connection(error) if error.sent => Self::Unknown,
            Error::Api(error) => match error.kind {
                // In Anthropic's own words: too busy to have begun (its page of errors). A gateway's 503 says nothing of what
                // happened behind it.
                ApiErrorKind::Server if error.code.as_deref() == Some("overloaded_error") => Self::Rejected,
                // Whoever sends the request elsewhere has not done it. (303 would say that it is done.)
                ApiErrorKind::Other if matches!(error.status, Some(300..=302 | 304..=399)) => Self::Rejected,
                // A 2xx that makes no sense, or an error of the server half-way.
                _ if matches!(error.status, Some(200..=299)) => Self::Unknown,
                ApiErrorKind::Server | ApiErrorKind::Other => Self::Unknown,
                _ => Self::Rejected,
            },
            _ => Self::Rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ApiError, ConnectionError, kind_of_status};

    fn outcome(error: Error) -> CreateOutcome {
        CreateOutcome::of(&Failure { error, advice: Default::default() })
    }

    fn reply(status: u16, kind: ApiErrorKind, code: Option<&str>) -> Error {
        Error::Api(Box::new(ApiError {
            kind,
            provider: "p".into(),
            status: Some(status),
            code: code.map(str::to_owned),
            message: "m".into(),
            request_id: None,
            retry_after: None,
            body: None,
        }))
    }

    #[test]
    fn the_search_lasts_a_minute() {
        let waits: Duration = LOOKUP_DELAYS.iter().sum();
        assert!((Duration::from_secs(60)..Duration::from_secs(70)).contains(&waits), "{waits:?}");
    }

    #[test]
    fn only_a_clear_refusal_means_that_there_is_no_job() {
        for status in [200, 202, 303, 408, 409, 500, 502, 503, 504, 520, 529] {
            assert_eq!(outcome(reply(status, kind_of_status(status), None)), CreateOutcome::Unknown, "{status}");
        }
        for status in [301, 302, 307, 308, 400, 401, 402, 403, 404, 405, 413, 422, 429] {
            assert_eq!(outcome(reply(status, kind_of_status(status), None)), CreateOutcome::Rejected, "{status}");
        }
        // A success with an error in it may stand beside a job all the same.
        assert_eq!(outcome(reply(200, ApiErrorKind::RateLimit, Some("x"))), CreateOutcome::Unknown);
        assert_eq!(outcome(reply(529, ApiErrorKind::Server, Some("overloaded_error"))), CreateOutcome::Rejected);
        for (sent, expected) in [(true, CreateOutcome::Unknown), (false, CreateOutcome::Rejected)] {
            let lost = ConnectionError { provider: "p".into(), message: "m".into(), timed_out: false, sent };
            assert_eq!(outcome(Error::Connection(lost)), expected);
        }
    }
}
