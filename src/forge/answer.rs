//! What an answer that is no success says: whether to wait, for how long, and why it is none.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::host;

/// After a rate limit that does not say how long: what GitHub's documentation asks for.
const DEFAULT_RATE_LIMIT_WAIT: Duration = Duration::from_secs(60);

/// How long a rate limit lasts, if this is one: 429, or GitHub's 403 with its headers or its words.
pub(super) fn rate_limit(status: StatusCode, headers: &HeaderMap, message: &str) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let used_up = number("x-ratelimit-remaining") == Some(0);
    let named = message.to_ascii_lowercase().contains("rate limit");
    let after = retry_after(headers);
    let is_limit = match status {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::FORBIDDEN => used_up || named || after.is_some(),
        _ => false,
    };
    if !is_limit {
        return None;
    }
    let reset = number("x-ratelimit-reset")
        .filter(|_| used_up)
        .map(|at| Duration::from_secs(at.saturating_sub(host::unix_seconds()) + 1));
    Some(after.or(reset).unwrap_or(DEFAULT_RATE_LIMIT_WAIT))
}

/// The wait that `Retry-After` asks for, in seconds or as a date (RFC 9110, 10.2.3); a date in the past is no wait.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(until.saturating_sub(Duration::from_secs(host::unix_seconds())))
}

/// What the forge says about a failure, in one line.
pub(super) fn message(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(value) => {
            let mut parts: Vec<String> = value["message"].as_str().map(str::to_owned).into_iter().collect();
            for error in value["errors"].as_array().into_iter().flatten() {
                let part = error["message"].as_str().or(error.as_str()).map(str::to_owned);
                parts
                    .extend(part.or_else(|| Some(format!("{} {}", error["field"].as_str()?, error["code"].as_str()?))));
            }
            parts.join("; ")
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if line.trim().is_empty() { "no reason given".to_owned() } else { line.trim().to_owned() }
}

/// An error with what caused it; reqwest says only the outermost.
pub(crate) fn explain(error: &reqwest::Error) -> String {
    let mut parts = vec![];
    let mut at: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = at {
        parts.push(error.to_string());
        at = error.source();
    }
    let text = match parts.pop() {
        Some(innermost) if error.is_connect() => format!("failed to connect: {innermost}"),
        Some(innermost) => innermost,
        None if error.is_timeout() => "no answer in time".to_owned(),
        None => error.to_string(),
    };
    bottle_types::address::without_userinfo(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_rate_limit_is_told_from_a_refusal() {
        let forbidden = StatusCode::FORBIDDEN;
        assert_eq!(rate_limit(forbidden, &HeaderMap::new(), "Resource not accessible by integration"), None);
        assert_eq!(
            rate_limit(forbidden, &headers(&[("retry-after", "7")]), "You have exceeded a secondary rate limit"),
            Some(Duration::from_secs(7))
        );
        assert_eq!(
            rate_limit(forbidden, &HeaderMap::new(), "You have exceeded a secondary rate limit."),
            Some(DEFAULT_RATE_LIMIT_WAIT)
        );
        assert_eq!(rate_limit(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), ""), Some(DEFAULT_RATE_LIMIT_WAIT));
        let past = headers(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")]);
        assert_eq!(rate_limit(forbidden, &past, ""), Some(Duration::from_secs(1)));
        assert_eq!(rate_limit(StatusCode::NOT_FOUND, &headers(&[("retry-after", "7")]), ""), None);
    }

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        let wait = |value: &'static str| retry_after(&headers(&[("retry-after", value)]));
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let later = wait("Fri, 31 Dec 9999 23:59:59 GMT").expect("a date");
        assert!(later > Duration::from_secs(3600), "{later:?}");
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn what_the_forge_says_is_one_line() {
        let body = br#"{"message":"Validation Failed","errors":[{"field":"head","code":"invalid"},{"message":"No commits\nbetween"}]}"#;
        assert_eq!(message(body), "Validation Failed; head invalid; No commits between");
        assert_eq!(message(b""), "no reason given");
    }
}
