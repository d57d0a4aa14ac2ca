//! Heads that can't be read: hyper answers them with a bare status, before any handler is asked. This says why instead.

use std::sync::Arc;

use bottle_types::reason::Reason;
use bytes::Bytes;
use http::StatusCode;

use super::headers::MAX_HEADERS;
use super::response::{self, RefusalBody};

/// So much of a request's first line is kept to tell what is wrong with it.
const MAX_LINE_BYTES: usize = 1 << 10;
/// Characters that clients put into a target as they are, and no URL may have.
const BARE: &[u8] = b"<>\"`";

/// Notes a head that can't be read in the access log.
pub(super) type NoteUnreadable = Arc<dyn Fn(&UnreadableHead) + Send + Sync>;

/// A head that can't be read.
#[derive(Debug)]
pub(super) struct UnreadableHead {
    pub(super) status: StatusCode,
    /// Its first line, as far as it was kept.
    line: Vec<u8>,
}

impl UnreadableHead {
    pub(super) fn new(status: StatusCode, line: &[u8]) -> Self {
        Self { status, line: line.to_vec() }
    }

    /// The method, where it is one.
    pub(super) fn method(&self) -> &str {
        let word = self.line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let is_method = word.len() < 24 && word.iter().all(u8::is_ascii_uppercase);
        if is_method { std::str::from_utf8(word).unwrap_or_default() } else { "" }
    }

    /// What is wrong with it.
    pub(super) fn message(&self) -> String {
        let target = self.line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        match self.status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                format!("the request has more than {MAX_HEADERS} headers, or a head of more than 256 KiB")
            }
            StatusCode::URI_TOO_LONG => "the request's target is longer than 65534 bytes".to_owned(),
            StatusCode::REQUEST_TIMEOUT => "the request's head did not come to its end within a minute".to_owned(),
            _ => match target.iter().find(|byte| BARE.contains(byte)) {
                Some(byte) => format!(
                    "the request's target has `{}` in it, which a URL may not have as it is; send %{byte:02X}",
                    char::from(*byte)
                ),
                None => "the request can't be read: its first line, or one of its headers, is not as HTTP/1.1 has it \
                         (RFC 9112)"
                    .to_owned(),
            },
        }
    }

    /// The answer to it, as it stands on a connection that then ends.
    pub(super) fn answer(&self) -> Vec<u8> {
        let refusal = RefusalBody { error: Reason::Request, message: self.message() };
        let mut body = serde_json::to_vec(&refusal).unwrap_or_default();
        body.push(b'\n');
        let proxy_status = response::proxy_status(&refusal.error, &refusal.message);
        let head = format!(
            "HTTP/1.1 {}\r\nconnection: close\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
             proxy-status: {proxy_status}\r\ncontent-length: {}\r\n\r\n",
            self.status,
            body.len()
        );
        let body = if self.method() == "HEAD" { Bytes::new() } else { body.into() };
        [head.as_bytes(), &body].concat()
    }
}

/// Keeps a first line, as far as it is kept; gives whether more of it is to come.
pub(super) fn keep_line(line: &mut Vec<u8>, byte: u8) -> bool {
    if byte == b'\n' || line.len() == MAX_LINE_BYTES {
        return false;
    }
    line.push(byte);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_target_is_said() {
        for (line, told) in [
            (&b"GET /a<b HTTP/1.1\r"[..], "`<` in it, which a URL may not have as it is; send %3C"),
            (b"GET /a?q=\"b\" HTTP/1.1\r", "send %22"),
            (b"G<T /a HTTP/1.1\r", "can't be read"),
            (b"", "can't be read"),
        ] {
            let answer = UnreadableHead::new(StatusCode::BAD_REQUEST, line).answer();
            let answer = String::from_utf8(answer).expect("text");
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n") && answer.contains(told), "{answer}");
        }
    }

    #[test]
    fn an_answer_to_head_has_its_reason_in_a_header() {
        let answer = UnreadableHead::new(StatusCode::BAD_REQUEST, b"HEAD /a>b HTTP/1.1").answer();
        let answer = String::from_utf8(answer).expect("text");
        assert!(
            answer.ends_with("\r\n\r\n") && answer.contains("proxy-status: bottle; details=\"request: "),
            "{answer}"
        );
    }
}
