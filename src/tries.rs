//! The tries of one request: when the next one is due, within the time that the call may take.

use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::{ApiError, ApiErrorKind, Error, Result};
use crate::exchange::Headers;
use crate::retry::Advice;
use std::time::SystemTime;

/// A request that did not succeed, and what the server says about another try.
pub struct Failure {
    pub error: Error,
    pub advice: Advice,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, advice: Advice::default() }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// The tries of a request so far.
#[derive(Default)]
pub struct Tries {
    retries: u32,
    last: Option<Error>,
}

impl Tries {
    /// Waits until the next try is due; an error if there is none. `failure`: how this one ended; None: the time was over.
    pub async fn wait(&mut self, client: &Client, failure: Option<Failure>, deadline: &mut Deadline) -> Result<()> {
        let Some(failure) = failure else {
            return Err(deadline.passed(&client.endpoint, self.retries, self.last.as_ref()));
        };
        let Some(wait) = client.wait_before_retry(&failure, self.retries) else { return Err(failure.error) };
        if failure.error.api_kind() == Some(ApiErrorKind::RateLimit) {
            deadline.allow(wait);
        } else if !deadline.leaves(wait) {
            return Err(deadline.passed(&client.endpoint, self.retries, Some(&failure.error)));
        }
        tokio::time::sleep(wait).await;
        self.last = Some(failure.error);
        self.retries += 1;
        Ok(())
    }
}

/// What a server says about another try, in its headers or, as `error` tells, in the body; `error` is told the wait.
pub fn advise(headers: &Headers, error: &mut ApiError) -> Advice {
    let mut advice = Advice::read(headers, SystemTime::now());
    advice.wait = advice.wait.or(error.retry_after);
    error.retry_after = advice.wait;
    advice
}
