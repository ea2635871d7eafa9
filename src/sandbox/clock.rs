//! The virtual clock: real time, sped up.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// Unix time that starts at the real one and then runs `speed` times as fast.
#[derive(Debug)]
pub struct Clock {
    speed: f64,
    started: Instant,
    unix: f64,
}

impl Clock {
    /// A clock that shows the real time now.
    pub fn start(speed: f64) -> Clock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Clock { speed, started: Instant::now(), unix: unix.map_or(0.0, |unix| unix.as_secs_f64()) }
    }

    /// Virtual unix time in seconds.
    pub fn now(&self) -> f64 {
        self.at(self.started.elapsed())
    }

    fn at(&self, elapsed: Duration) -> f64 {
        self.unix + elapsed.as_secs_f64() * self.speed
    }

    /// Real time from virtual time `now` until virtual time `then`; zero if that has passed, at most a year.
    pub fn real_time(&self, now: f64, then: f64) -> Duration {
        let seconds = ((then - now) / self.speed).clamp(0.0, 366.0 * 86_400.0);
        Duration::from_secs_f64(seconds)
    }

    /// Waits until `then`, or until a job is cancelled.
    pub async fn wait(&self, then: f64, cancel: &Notify) {
        tokio::select! {
            () = tokio::time::sleep(self.real_time(self.now(), then)) => {}
            // The permit stays for the next wait, which must not last either.
            () = cancel.notified() => cancel.notify_one(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_at_its_speed() {
        let clock = Clock::start(600.0);
        let hour = clock.at(Duration::from_secs(6)) - clock.at(Duration::ZERO);
        assert!((hour - 3600.0).abs() < 1e-3);
        assert_eq!(clock.real_time(0.0, 60.0), Duration::from_millis(100));
        assert_eq!(clock.real_time(60.0, 0.0), Duration::ZERO);
    }
}
