//! Creating a job is not idempotent anywhere. What to do after an attempt whose outcome is not known: look for the job,
//! several times over a minute since lists lag, and send again only when every hope to find it is gone.

use crate::client::Failure;
use crate::error::{ApiErrorKind, Error};
use std::time::Duration;

/// The waits before each look at the list of jobs, after one unclear attempt.
pub const LOOKS: &[Duration] = &[
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(15),
    Duration::from_secs(30),
];

/// What is known after an attempt to create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Nothing was created: the server did not see the request, or refused it.
    Refused,
    /// It may have been created.
    Unclear,
}

impl Attempt {
    /// `can_look`: the job could be found in the list of jobs, so that nothing is lost by doubting.
    pub fn of(failure: &Failure, can_look: bool) -> Self {
        match &failure.error {
            Error::Connection(error) if error.sent => Self::Unclear,
            Error::Api(error) => match error.kind {
                // Too busy to have begun (Anthropic's page of errors).
                ApiErrorKind::Server if !can_look && matches!(error.status, Some(503 | 529)) => Self::Refused,
                // Whoever sends the request elsewhere has not done it. (303 would say that it is done.)
                ApiErrorKind::Other if matches!(error.status, Some(300..=302 | 304..=399)) => Self::Refused,
                // A 2xx that makes no sense, or an error of the server half-way.
                ApiErrorKind::Server | ApiErrorKind::Other => Self::Unclear,
                _ => Self::Refused,
            },
            _ => Self::Refused,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait, then look for the job in the list.
    Look(Duration),
    /// Send the request again: it is as certain as can be that there is no job.
    Send,
    /// Stop and say so.
    GiveUp,
}

/// The steps of one creation.
#[derive(Debug)]
pub struct Creation {
    looks: &'static [Duration],
    looked: usize,
    /// Whether the last look could see the list at all.
    saw_list: bool,
    resends_left: u32,
}

impl Creation {
    pub fn new(looks: &'static [Duration], max_retries: u32) -> Self {
        Self { looks, looked: 0, saw_list: false, resends_left: max_retries }
    }

    /// After an attempt whose outcome is not known.
    pub fn unclear(&mut self) -> Next {
        self.looked = 0;
        self.saw_list = false;
        self.next()
    }

    /// After a look that did not find the job; `saw_list` is false if the list could not be read.
    pub fn not_found(&mut self, saw_list: bool) -> Next {
        self.saw_list = saw_list;
        self.next()
    }

    fn next(&mut self) -> Next {
        if let Some(wait) = self.looks.get(self.looked) {
            self.looked += 1;
            return Next::Look(*wait);
        }
        if !self.saw_list || self.resends_left == 0 {
            return Next::GiveUp;
        }
        self.resends_left -= 1;
        Next::Send
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_for_a_minute_before_it_sends_again() {
        let mut creation = Creation::new(LOOKS, 1);
        let mut next = creation.unclear();
        let mut waited = Duration::ZERO;
        while let Next::Look(wait) = next {
            waited += wait;
            next = creation.not_found(true);
        }
        assert_eq!(next, Next::Send);
        assert!(waited >= Duration::from_secs(60));
        next = creation.unclear();
        while let Next::Look(_) = next {
            next = creation.not_found(true);
        }
        assert_eq!(next, Next::GiveUp);
    }

    #[test]
    fn never_sends_again_blindly() {
        let mut creation = Creation::new(LOOKS, 5);
        let mut next = creation.unclear();
        while let Next::Look(_) = next {
            next = creation.not_found(false);
        }
        assert_eq!(next, Next::GiveUp);
    }
}
