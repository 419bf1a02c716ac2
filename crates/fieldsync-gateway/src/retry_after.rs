//! How long a server asks to wait.

use std::time::Duration;

use hyper::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

use crate::clock::wall_ms;

/// The wait of `Retry-After`: seconds, or a date.
///
/// A date is compared with the response's own `Date`, so that it does not depend on two clocks.
pub(crate) fn parse_retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let now =
        date_of(headers, &DATE).unwrap_or_else(|| std::time::UNIX_EPOCH + Duration::from_millis(wall_ms()));
    Some(until.duration_since(now).unwrap_or_default())
}

fn date_of(headers: &HeaderMap, name: &HeaderName) -> Option<std::time::SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(pairs: &[(HeaderName, &str)]) -> Option<Duration> {
        parse_retry_after(&pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect())
    }

    #[test]
    fn a_wait_is_in_seconds_or_until_a_date_of_the_receivers_clock() {
        let date = |text| (DATE, text);
        assert_eq!(wait(&[(RETRY_AFTER, " 7 ")]), Some(Duration::from_secs(7)));
        let now = date("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(
            wait(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:50:07 GMT"), now.clone()]),
            Some(Duration::from_secs(30))
        );
        assert_eq!(wait(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:00 GMT"), now]), Some(Duration::ZERO));
        assert_eq!(wait(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(Duration::ZERO));
        for text in ["", "soon", "-1"] {
            assert_eq!(wait(&[(RETRY_AFTER, text)]), None, "{text}");
        }
        assert_eq!(wait(&[]), None);
    }
}
