//! The polling state machine: what was seen, and when, to what to do next. Takes time as an argument and does nothing
//! itself.

use crate::error::{ApiErrorKind, Error};
use crate::providers::State;
use crate::retry::backoff;
use std::time::Duration;

/// A server that cannot be asked is asked again for this long, beyond the retries of each single request.
const PATIENCE: Duration = Duration::from_secs(600);

/// The gap after the first look; each one after it is twice as long, up to the caller's interval.
const FIRST_GAP: Duration = Duration::from_millis(100);
/// However small the caller's interval is: a server is not to be hammered.
const SHORTEST_GAP: Duration = Duration::from_millis(10);

/// How long a job that has ended may not show its results before that is believed.
pub const MAX_RESULTS_LAG: Duration = Duration::from_secs(60);
/// However large the caller's interval is: so often such a job is polled.
pub const RESULTS_LAG_INTERVAL: Duration = Duration::from_secs(2);

/// Whether a job that has ended without showing its results is polled on. All times are since the handle was made.
#[derive(Debug, Default)]
pub struct ResultsLag {
    since: Option<Duration>,
}

impl ResultsLag {
    /// After a poll: how long it may go on not showing them; None: what it shows is all there is.
    pub fn observe(&mut self, is_unready: bool, now: Duration) -> Option<Duration> {
        if !is_unready {
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let left = MAX_RESULTS_LAG.saturating_sub(now.saturating_sub(since));
        (!left.is_zero()).then_some(left)
    }
}

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
    seen: Option<State>,
    looks: u32,
    next_look: Duration,
    last_look: Option<Duration>,
    /// The first of the looks that failed in a row, and how many they are.
    failing_since: Option<(Duration, u32)>,
    fatal: bool,
}

impl Lifecycle {
    /// Looks at once, then ever more rarely, with gaps that grow to `poll_interval` (10 ms at the least), until a terminal
    /// state or until `timeout` has passed. A timeout of zero looks once.
    pub fn new(poll_interval: Duration, timeout: Option<Duration>) -> Self {
        Self {
            poll_interval: poll_interval.max(SHORTEST_GAP),
            timeout,
            seen: None,
            looks: 0,
            next_look: Duration::ZERO,
            last_look: None,
            failing_since: None,
            fatal: false,
        }
    }

    pub fn saw(&mut self, state: State, now: Duration) {
        self.seen = Some(state);
        self.failing_since = None;
        self.looked(Duration::ZERO, now);
    }

    /// The next look is after the gap whose turn it is, `least` at the least, or when time is out, if that is sooner.
    fn looked(&mut self, least: Duration, now: Duration) {
        let gap = FIRST_GAP.saturating_mul(2_u32.saturating_pow(self.looks)).min(self.poll_interval);
        let end = self.timeout.filter(|timeout| now < *timeout).unwrap_or(Duration::MAX);
        self.next_look = now.saturating_add(gap.max(least)).min(end);
        self.last_look = Some(now);
        self.looks = self.looks.saturating_add(1);
    }

    /// The next look is at most this long after the last one.
    pub fn look_within(&mut self, most: Duration) {
        let latest = self.last_look.unwrap_or_default().saturating_add(most);
        self.next_look = self.next_look.min(latest);
    }

    pub fn failed(&mut self, error: &Error, now: Duration) {
        let (since, times) = self.failing_since.unwrap_or((now, 0));
        self.failing_since = Some((since, times + 1));
        let may_pass = match error {
            Error::Connection(_) => true,
            Error::Api(error) => match error.kind {
                ApiErrorKind::Server | ApiErrorKind::RateLimit => true,
                // A web page of a proxy may pass; an address that has moved does not come back.
                ApiErrorKind::Other => !error.is_redirect(),
                _ => false,
            },
            _ => false,
        };
        self.fatal = !may_pass || now.saturating_sub(since) >= PATIENCE;
        self.looked(backoff(times, 0.0), now);
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
        let mut wait = Lifecycle::new(5 * SECOND, None);
        assert_eq!(wait.action(Duration::ZERO), Action::Look);
        wait.saw(State::Pending, SECOND);
        assert_eq!(wait.action(SECOND + FIRST_GAP / 4), Action::Sleep(FIRST_GAP * 3 / 4));
        assert_eq!(wait.action(SECOND + FIRST_GAP), Action::Look);
        for state in [State::Completed, State::Failed, State::Cancelled] {
            wait.saw(state, 6 * SECOND);
            assert_eq!(wait.action(6 * SECOND), Action::Finished(state));
        }
    }

    /// The gaps between the first looks of a wait with this interval, in milliseconds.
    fn gaps(poll_interval: Duration) -> Vec<u128> {
        let mut wait = Lifecycle::new(poll_interval, None);
        let mut now = Duration::ZERO;
        let mut gap = || {
            wait.saw(State::InProgress, now);
            let Action::Sleep(gap) = wait.action(now) else { panic!("{:?}", wait.action(now)) };
            now += gap;
            assert_eq!(wait.action(now), Action::Look);
            gap.as_millis()
        };
        (0..9).map(|_| gap()).collect()
    }

    #[test]
    fn the_first_looks_are_close_together_and_the_interval_is_the_longest_gap() {
        assert_eq!(gaps(5 * SECOND), [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(gaps(SECOND / 20), [50; 9]);
        assert_eq!(gaps(Duration::ZERO), [10; 9]);
        let mut wait = Lifecycle::new(Duration::MAX, None);
        (0..100).for_each(|_| wait.saw(State::InProgress, SECOND));
        assert!(matches!(wait.action(SECOND), Action::Sleep(gap) if gap > 1_000_000 * SECOND));
    }

    #[test]
    fn results_that_lag_are_waited_for_by_time_and_not_by_polls() {
        let mut lag = ResultsLag::default();
        assert_eq!(lag.observe(false, SECOND), None);
        // However many polls, and however late the first of them.
        for _ in 0..1000 {
            assert_eq!(lag.observe(true, 500 * SECOND), Some(60 * SECOND));
        }
        assert_eq!(lag.observe(true, 559 * SECOND), Some(SECOND));
        assert_eq!(lag.observe(true, 560 * SECOND), None);
        assert_eq!(lag.observe(true, 9999 * SECOND), None);
        // A minute in all: a job that says now this, now that has no second one.
        let mut wavering = ResultsLag::default();
        assert_eq!(wavering.observe(true, Duration::ZERO), Some(60 * SECOND));
        assert_eq!(wavering.observe(false, 30 * SECOND), None);
        assert_eq!(wavering.observe(true, 61 * SECOND), None);
    }

    #[test]
    fn results_that_lag_are_polled_for_soon_whatever_the_interval_is() {
        let hour = 3600 * SECOND;
        let mut wait = Lifecycle::new(hour, None);
        (0..30).for_each(|_| wait.saw(State::InProgress, hour));
        assert_eq!(wait.action(hour), Action::Sleep(hour));
        wait.look_within(RESULTS_LAG_INTERVAL);
        assert_eq!(wait.action(hour), Action::Sleep(RESULTS_LAG_INTERVAL));
        // It never makes a look later.
        let mut quick = Lifecycle::new(SECOND, None);
        (0..30).for_each(|_| quick.saw(State::InProgress, hour));
        quick.look_within(RESULTS_LAG_INTERVAL);
        assert_eq!(quick.action(hour), Action::Sleep(SECOND));
    }

    #[test]
    fn a_timeout_of_zero_looks_once_and_a_finished_job_beats_the_timeout() {
        let mut wait = Lifecycle::new(5 * SECOND, Some(Duration::ZERO));
        assert_eq!(wait.action(SECOND), Action::Look);
        wait.saw(State::InProgress, SECOND);
        assert_eq!(wait.action(SECOND), Action::TimedOut);
        wait.saw(State::Completed, SECOND);
        assert_eq!(wait.action(SECOND), Action::Finished(State::Completed));
    }

    #[test]
    fn the_last_look_is_when_time_is_out() {
        let mut wait = Lifecycle::new(5 * SECOND, Some(7 * SECOND));
        (0..10).for_each(|_| wait.saw(State::Pending, 5 * SECOND));
        assert_eq!(wait.action(5 * SECOND), Action::Sleep(2 * SECOND));
        assert_eq!(wait.action(7 * SECOND), Action::Look);
        wait.saw(State::Pending, 7 * SECOND);
        assert_eq!(wait.action(7 * SECOND), Action::TimedOut);
    }

    #[test]
    fn trouble_that_may_pass_is_waited_out_and_other_trouble_is_not() {
        let mut wait = Lifecycle::new(SECOND, None);
        wait.failed(&api(ApiErrorKind::Server), SECOND);
        assert_eq!(wait.action(2 * SECOND), Action::Look);
        wait.failed(&lost(), 2 * SECOND);
        assert_ne!(wait.action(300 * SECOND), Action::Fail);
        wait.failed(&lost(), 700 * SECOND);
        assert_eq!(wait.action(700 * SECOND), Action::Fail);
        let mut old = Lifecycle::new(SECOND, None);
        old.failed(&api(ApiErrorKind::NotFound), SECOND);
        assert_eq!(old.action(SECOND), Action::Fail);
        let mut refused = Lifecycle::new(SECOND, None);
        refused.failed(&api(ApiErrorKind::Authentication), SECOND);
        assert_eq!(refused.action(SECOND), Action::Fail);
        for (status, action) in [(200, Action::Look), (301, Action::Fail), (302, Action::Fail), (399, Action::Fail)] {
            let Error::Api(mut error) = api(ApiErrorKind::Other) else { unreachable!() };
            error.status = Some(status);
            let mut elsewhere = Lifecycle::new(SECOND, None);
            elsewhere.failed(&Error::Api(error), SECOND);
            assert_eq!(elsewhere.action(2 * SECOND), action, "{status}");
        }
    }
}
