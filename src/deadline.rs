//! The time that a call may take with its retries: the client option `deadline`.

use crate::error::{ConnectionError, Error};
use crate::exchange::Endpoint;
use std::time::{Duration, Instant};

/// When a call must be over, if ever.
pub struct Deadline {
    limit: Duration,
    end: Option<Instant>,
}

impl Deadline {
    /// For what may take as long as it takes.
    pub fn never() -> Self {
        Self { limit: Duration::MAX, end: None }
    }

    /// For a call that begins now.
    pub fn of(endpoint: &Endpoint) -> Self {
        // A time that no clock can show is never.
        let end = endpoint.deadline.and_then(|limit| Instant::now().checked_add(limit));
        Self { limit: endpoint.deadline.unwrap_or(Duration::MAX), end }
    }

    /// What comes of `work`, if it comes in time.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.end {
            Some(end) => tokio::time::timeout_at(end.into(), work).await.ok(),
            None => Some(work.await),
        }
    }

    /// A pause that a rate limit makes does not count.
    pub fn allow(&mut self, pause: Duration) {
        self.end = self.end.and_then(|end| end.checked_add(pause));
    }

    /// Whether there is time to wait so long and ask again.
    pub fn leaves(&self, wait: Duration) -> bool {
        self.end.is_none_or(|end| wait < end.saturating_duration_since(Instant::now()))
    }

    /// The error of a call whose time is over; `retries` were made, the last of which ended in `last`.
    pub fn passed(&self, endpoint: &Endpoint, retries: u32, last: Option<&Error>) -> Error {
        let retries = match retries {
            0 => String::new(),
            1 => ", with 1 retry".into(),
            count => format!(", with {count} retries"),
        };
        let last = last.map(|error| format!(" The last error was: {error}")).unwrap_or_default();
        Error::Connection(ConnectionError {
            provider: endpoint.provider.into(),
            message: format!(
                "no whole answer within the deadline of {} s{retries}. A larger `deadline` waits longer.{last}",
                self.limit.as_secs_f64()
            ),
            timed_out: true,
            sent: true,
        })
    }
}
