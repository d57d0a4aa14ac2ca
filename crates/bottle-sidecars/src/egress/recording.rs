//! A reply on its way, read along: charged and written to the cassette when it has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bottle_policy::budget::Tokens;
use bottle_wire::cassette::Turn;
use bottle_wire::messages::ModelRequest;
use bottle_wire::sse::{Fold, Metered, turn_of};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Frame, SizeHint};
use sha2::{Digest as _, Sha256};

use super::account::Account;
use crate::proxy::access::LogFile;
use crate::proxy::response::{Body, BoxError, boxed};

/// A reply that is not a stream is kept up to this size to be recorded.
const MAX_RECORDED_REPLY_BYTES: usize = 32 << 20;

/// The part of a recorded turn that tells which request it answers.
#[derive(Clone)]
pub(super) struct TurnKey {
    pub(super) after: u32,
    pub(super) request_sha256: String,
}

impl TurnKey {
    pub(super) fn new(request: &ModelRequest, body: &[u8]) -> Self {
        Self { after: request.after, request_sha256: hex::encode(Sha256::digest(body)) }
    }
}

/// The same answer, recorded and charged when it has ended.
pub(super) fn recorded(
    record: &Arc<LogFile>,
    turn_key: TurnKey,
    account: Account,
    response: Response<Body>,
) -> Response<Body> {
    let status = response.status().as_u16();
    let kind = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes).to_owned();
    let partial = match Fold::of_kind(&kind).filter(|_| status == 200) {
        Some(fold) => PartialReply::Stream(Box::new(fold)),
        None => PartialReply::Whole(vec![]),
    };
    let counted_again = counted_in_head(response.headers());
    let record = Arc::clone(record);
    response.map(|body| {
        let (partial, account) = (Some(partial), Some(account));
        boxed(RecordedBody { body, status, kind, counted_again, partial, turn_key, account, record })
    })
}

/// What Amazon Bedrock counts in the head of a reply that is no stream.
fn counted_in_head(headers: &HeaderMap) -> Tokens {
    let count = |name: &str| {
        let text = headers.get(name).and_then(|value| value.to_str().ok());
        text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    };
    Tokens {
        input: count("x-amzn-bedrock-input-token-count"),
        cache_write: count("x-amzn-bedrock-cache-write-input-token-count"),
        cache_write_hour: 0,
        cache_read: count("x-amzn-bedrock-cache-read-input-token-count"),
        output: count("x-amzn-bedrock-output-token-count"),
    }
}

/// Appends a turn to the cassette.
pub(super) fn record(log_file: &LogFile, turn_key: &TurnKey, turn: Turn) {
    let turn = Turn { after: Some(turn_key.after), request_sha256: Some(turn_key.request_sha256.clone()), ..turn };
    log_file.append(&turn);
}

enum PartialReply {
    Stream(Box<Fold>),
    Whole(Vec<u8>),
}

/// A reply on its way that is read along.
struct RecordedBody {
    body: Body,
    status: u16,
    /// The content type.
    kind: Vec<u8>,
    /// A second count of its tokens.
    counted_again: Tokens,
    /// None once it is written, or can't be.
    partial: Option<PartialReply>,
    turn_key: TurnKey,
    /// None once it is charged.
    account: Option<Account>,
    record: Arc<LogFile>,
}

impl RecordedBody {
    fn take(&mut self, data: &[u8]) {
        if let Some(account) = &mut self.account {
            account.received += data.len() as u64;
        }
        match &mut self.partial {
            Some(PartialReply::Stream(fold)) => fold.push(data),
            Some(PartialReply::Whole(bytes)) if bytes.len() + data.len() <= MAX_RECORDED_REPLY_BYTES => {
                bytes.extend_from_slice(data)
            }
            _ => self.partial = None,
        }
    }

    fn end(&mut self) {
        // A reply that is not one costs nothing.
        if let Some(account) = self.account.take() {
            if self.status != 200 {
                account.waive();
                return self.write();
            }
            let metered = match &self.partial {
                Some(PartialReply::Stream(fold)) => fold.spent(),
                Some(PartialReply::Whole(bytes)) => {
                    let usage = turn_of(self.status, &self.kind, bytes).and_then(|turn| turn.usage);
                    Metered::of_usage(usage.as_ref())
                }
                None => Metered::Unreadable,
            };
            account.charge(metered.at_least(self.counted_again));
        }
        self.write();
    }

    fn write(&mut self) {
        let turn = match self.partial.take() {
            Some(PartialReply::Stream(fold)) => fold.finish(),
            Some(PartialReply::Whole(bytes)) => turn_of(self.status, &self.kind, &bytes),
            None => None,
        };
        if let Some(turn) = turn {
            record(&self.record, &self.turn_key, turn);
        }
    }
}

/// A client may close as soon as it has seen the message's end.
impl Drop for RecordedBody {
    fn drop(&mut self) {
        self.end();
    }
}

impl http_body::Body for RecordedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.take(data);
                }
            }
            Poll::Ready(None) => self.end(),
            // A stream whose last event has come is whole, however the connection then ends.
            Poll::Ready(Some(Err(_))) if matches!(self.partial, Some(PartialReply::Stream(_))) => self.end(),
            Poll::Ready(Some(Err(_))) => {
                self.partial = None;
                self.end();
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
