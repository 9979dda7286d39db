//! Whether to try again, and when: the rules of the openai Python client (3.x), whose users
//! expect them.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, NaiveDateTime};
use http::HeaderMap;

/// What kind of failure a retry would follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Trying again can't help, or isn't safe.
    Never,
    /// No answer came.
    Connection,
    /// The server answered with this status.
    Status(u16),
}

/// A server that asks for more is taken at its word: the call isn't tried again.
const LONGEST_ASKED: Duration = Duration::from_secs(120);
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(8);

/// How long to wait before the next attempt, or `None` not to try again. `retries` is the number
/// of retries that were made already.
pub fn delay(kind: Kind, retries: usize, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let asked = retry_after(headers, now);
    if asked.is_some_and(|asked| asked > LONGEST_ASKED) {
        return None;
    }
    let worthwhile = match kind {
        Kind::Never => false,
        Kind::Connection => true,
        Kind::Status(status) => match headers.get("x-should-retry").map(|value| value.as_bytes()) {
            Some(b"true") => true,
            Some(b"false") => false,
            _ => matches!(status, 408 | 409 | 429 | 500..),
        },
    };
    worthwhile.then(|| {
        asked.unwrap_or_else(|| {
            backoff(
                retries,
                RandomState::new().hash_one((std::process::id(), Instant::now())) as u8,
            )
        })
    })
}

/// Doubles with each retry; up to a quarter less, at random, so that clients that failed together
/// don't come back together.
fn backoff(retries: usize, jitter: u8) -> Duration {
    let doubled = u32::try_from(retries)
        .ok()
        .and_then(|retries| 1u32.checked_shl(retries));
    let longest = doubled
        .and_then(|factor| FIRST_DELAY.checked_mul(factor))
        .map_or(LONGEST_DELAY, |delay| delay.min(LONGEST_DELAY));
    longest.mul_f64(1.0 - 0.25 * f64::from(jitter) / 256.0)
}

/// What the server asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date
/// (RFC 9110, section 10.2.3). Nothing when it asks for no time at all, or isn't understood.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    // The words "inf" and "nan" are no numbers to anybody but a parser of floats.
    let number = |text: &str| {
        text.parse::<f64>()
            .ok()
            .filter(|_| text.contains(|digit: char| digit.is_ascii_digit()))
    };
    let seconds = match text("retry-after-ms").and_then(number) {
        Some(milliseconds) => milliseconds / 1000.0,
        None => {
            let after = text("retry-after")?;
            match number(after) {
                Some(seconds) => seconds,
                None => date(after)?.duration_since(now).ok()?.as_secs_f64(),
            }
        }
    };
    // What no Duration can hold is longer than any wait.
    let most = Duration::from_secs(u32::MAX.into());
    (seconds > 0.0).then(|| {
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(most)
            .min(most)
    })
}

/// A date in one of the three forms that a recipient must accept (RFC 9110, section 5.6.7).
fn date(text: &str) -> Option<SystemTime> {
    if let Ok(date) = DateTime::parse_from_rfc2822(text) {
        return Some(date.into());
    }
    let obsolete = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let date = obsolete
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())?;
    Some(date.and_utc().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use std::time::UNIX_EPOCH;

    const NOW: SystemTime = UNIX_EPOCH;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_these_statuses_are_tried_again() {
        for status in 400..=599 {
            let again = delay(Kind::Status(status), 0, &HeaderMap::new(), NOW).is_some();
            assert_eq!(again, matches!(status, 408 | 409 | 429 | 500..), "{status}");
        }
        assert!(delay(Kind::Connection, 0, &HeaderMap::new(), NOW).is_some());
        assert!(delay(Kind::Never, 0, &HeaderMap::new(), NOW).is_none());
    }

    #[test]
    fn the_server_may_overrule_the_status() {
        let no = headers(&[("x-should-retry", "false")]);
        let yes = headers(&[("x-should-retry", "true")]);
        assert!(delay(Kind::Status(503), 0, &no, NOW).is_none());
        assert!(delay(Kind::Status(400), 0, &yes, NOW).is_some());
        assert!(delay(Kind::Never, 0, &yes, NOW).is_none());
    }

    #[test]
    fn waits_grow_to_eight_seconds_and_vary_by_a_quarter() {
        for (retries, most) in [
            (0, 0.5),
            (1, 1.0),
            (2, 2.0),
            (4, 8.0),
            (5, 8.0),
            (1000, 8.0),
        ] {
            for jitter in 0..=255 {
                let delay = backoff(retries, jitter).as_secs_f64();
                assert!(
                    delay > most * 0.75 && delay <= most,
                    "{retries} {jitter} {delay}"
                );
            }
        }
    }

    #[test]
    fn the_server_says_when() {
        for (pairs, milliseconds) in [
            (&[("retry-after-ms", "250")][..], Some(250)),
            (&[("retry-after", "2")], Some(2000)),
            (&[("retry-after", "1.5")], Some(1500)),
            (&[("retry-after-ms", "10"), ("retry-after", "2")], Some(10)),
            (&[("retry-after-ms", "x"), ("retry-after", "2")], Some(2000)),
            (
                &[("retry-after", "Thu, 01 Jan 1970 00:00:07 GMT")],
                Some(7000),
            ),
            (&[("retry-after", "Wed, 31 Dec 1969 23:59:00 GMT")], None),
            (
                &[("retry-after", "Thursday, 01-Jan-70 00:00:07 GMT")],
                Some(7000),
            ),
            (&[("retry-after", "Thu Jan  1 00:00:07 1970")], Some(7000)),
            (&[("retry-after", "0")], None),
            (&[("retry-after", "-3")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "soon")], None),
            (&[], None),
        ] {
            let asked = retry_after(&headers(pairs), NOW).map(|asked| asked.as_millis());
            assert_eq!(asked, milliseconds, "{pairs:?}");
        }
    }

    #[test]
    fn a_server_that_asks_for_more_than_two_minutes_is_not_asked_again() {
        for (after, again) in [
            ("120", true),
            ("121", false),
            ("1e9", false),
            ("1e999", false),
            ("inf", true),
        ] {
            let wait = delay(
                Kind::Status(503),
                0,
                &headers(&[("retry-after", after)]),
                NOW,
            );
            assert_eq!(wait.is_some(), again, "{after}");
        }
    }
}
