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

/// A unix time as RFC 3339 writes it, in UTC and to the nanosecond: `2026-08-19T14:34:12.267870000Z`.
pub fn rfc3339(unix: f64) -> String {
    let whole = unix.floor();
    // Doubles of this size carry less than a microsecond.
    let micros = (((unix - whole) * 1e6) as u64).min(999_999);
    let seconds = whole as i64;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}000Z")
}

/// The date of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
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

    #[test]
    fn writes_times() {
        assert_eq!(rfc3339(0.0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_399.5), "2000-02-28T23:59:59.500000000Z");
        assert_eq!(rfc3339(1_709_164_800.25), "2024-02-29T00:00:00.250000000Z");
        assert_eq!(rfc3339(1_787_150_052.0), "2026-08-19T14:34:12.000000000Z");
    }
}
