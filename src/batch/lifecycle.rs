//! The polling state machine: what was seen, and when, to what to do next. Takes time as an argument and does nothing
//! itself.

use crate::error::{ApiErrorKind, Error};
use crate::providers::State;
use crate::retry::backoff;
use std::time::Duration;

/// A server that cannot be asked is asked again for this long, beyond the retries of each single request.
const PATIENCE: Duration = Duration::from_secs(600);
/// A new job may not be visible at once.
const VISIBLE_AFTER: Duration = Duration::from_secs(60);

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Look,
    Sleep(Duration),
    /// A terminal state was seen.
    Finished(State),
    TimedOut,
    /// The last error is one that waiting does not mend.
    Fail,
}

/// One wait for one batch. All times are since the wait began.
#[derive(Debug)]
pub struct Lifecycle {
    poll_interval: Duration,
    timeout: Option<Duration>,
    /// When the job was created, if that was in this process.
    is_new: bool,
    seen: Option<State>,
    next_look: Duration,
    last_look: Option<Duration>,
    /// The first of the looks that failed in a row, and how many they are.
    failing_since: Option<(Duration, u32)>,
    fatal: bool,
}

impl Lifecycle {
    /// Looks at once, then every `poll_interval`, until a terminal state or until `timeout` has passed. A timeout of zero
    /// looks once. `is_new`: the job was created a moment ago, so "not found" may only mean "not yet".
    pub fn new(poll_interval: Duration, timeout: Option<Duration>, is_new: bool) -> Self {
        Self {
            poll_interval,
            timeout,
            is_new,
            seen: None,
            next_look: Duration::ZERO,
            last_look: None,
            failing_since: None,
            fatal: false,
        }
    }

    pub fn saw(&mut self, state: State, now: Duration) {
        self.seen = Some(state);
        self.failing_since = None;
        self.looked(self.poll_interval, now);
    }

    /// The next look is after `interval`, or when time is out, if that is sooner.
    fn looked(&mut self, interval: Duration, now: Duration) {
        let end = self.timeout.filter(|timeout| now < *timeout).unwrap_or(Duration::MAX);
        self.next_look = now.saturating_add(interval).min(end);
        self.last_look = Some(now);
    }

    pub fn failed(&mut self, error: &Error, now: Duration) {
        let (since, times) = self.failing_since.unwrap_or((now, 0));
        self.failing_since = Some((since, times + 1));
        let may_pass = match error {
            Error::Connection(_) => true,
            Error::Api(error) => match error.kind {
                ApiErrorKind::Server | ApiErrorKind::RateLimit | ApiErrorKind::Other => true,
                ApiErrorKind::NotFound => self.is_new && now < VISIBLE_AFTER,
                _ => false,
            },
            _ => false,
        };
        self.fatal = !may_pass || now.saturating_sub(since) >= PATIENCE;
        self.looked(self.poll_interval.max(backoff(times, 0.0)), now);
    }

    /// Until time is out; None: there is no limit.
    pub fn time_left(&self, now: Duration) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_sub(now))
    }

    pub fn action(&self, now: Duration) -> Action {
        if let Some(state) = self.seen.filter(|state| state.is_terminal()) {
            return Action::Finished(state);
        }
        if self.fatal {
            return Action::Fail;
        }
        if self.timeout.zip(self.last_look).is_some_and(|(timeout, last)| last >= timeout) {
            return Action::TimedOut;
        }
        match self.next_look.saturating_sub(now) {
            Duration::ZERO => Action::Look,
            wait => Action::Sleep(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ApiError, ConnectionError};

    const SECOND: Duration = Duration::from_secs(1);

    fn lost() -> Error {
        Error::Connection(ConnectionError { provider: "p".into(), message: "m".into(), timed_out: false, sent: true })
    }

    fn api(kind: ApiErrorKind) -> Error {
        Error::Api(Box::new(ApiError {
            kind,
            provider: "p".into(),
            status: None,
            code: None,
            message: "m".into(),
            request_id: None,
            retry_after: None,
            body: None,
        }))
    }

    #[test]
    fn looks_sleeps_and_finishes() {
        let mut wait = Lifecycle::new(5 * SECOND, None, false);
        assert_eq!(wait.action(Duration::ZERO), Action::Look);
        wait.saw(State::Pending, SECOND);
        assert_eq!(wait.action(2 * SECOND), Action::Sleep(4 * SECOND));
        assert_eq!(wait.action(6 * SECOND), Action::Look);
        for state in [State::Completed, State::Failed, State::Cancelled] {
            wait.saw(state, 6 * SECOND);
            assert_eq!(wait.action(6 * SECOND), Action::Finished(state));
        }
    }

    #[test]
    fn a_timeout_of_zero_looks_once_and_a_finished_job_beats_the_timeout() {
        let mut wait = Lifecycle::new(5 * SECOND, Some(Duration::ZERO), false);
        assert_eq!(wait.action(SECOND), Action::Look);
        wait.saw(State::InProgress, SECOND);
        assert_eq!(wait.action(SECOND), Action::TimedOut);
        wait.saw(State::Completed, SECOND);
        assert_eq!(wait.action(SECOND), Action::Finished(State::Completed));
    }

    #[test]
    fn the_last_look_is_when_time_is_out() {
        let mut wait = Lifecycle::new(5 * SECOND, Some(7 * SECOND), false);
        wait.saw(State::Pending, 5 * SECOND);
        assert_eq!(wait.action(5 * SECOND), Action::Sleep(2 * SECOND));
        assert_eq!(wait.action(7 * SECOND), Action::Look);
        wait.saw(State::Pending, 7 * SECOND);
        assert_eq!(wait.action(7 * SECOND), Action::TimedOut);
    }

    #[test]
    fn trouble_that_may_pass_is_waited_out_and_other_trouble_is_not() {
        let mut wait = Lifecycle::new(SECOND, None, true);
        wait.failed(&api(ApiErrorKind::NotFound), SECOND);
        assert_eq!(wait.action(2 * SECOND), Action::Look);
        wait.failed(&lost(), 2 * SECOND);
        assert_ne!(wait.action(300 * SECOND), Action::Fail);
        wait.failed(&lost(), 700 * SECOND);
        assert_eq!(wait.action(700 * SECOND), Action::Fail);
        let mut old = Lifecycle::new(SECOND, None, false);
        old.failed(&api(ApiErrorKind::NotFound), SECOND);
        assert_eq!(old.action(SECOND), Action::Fail);
        let mut refused = Lifecycle::new(SECOND, None, true);
        refused.failed(&api(ApiErrorKind::Authentication), SECOND);
        assert_eq!(refused.action(SECOND), Action::Fail);
    }
}
