//! A route's credential that comes back in an answer: some services show what they were sent, and the guest must not learn it
//! that way. It is overwritten in the body as it is in the headers, so the length stays.
//!
//! Looked for as it is; that no packing hides it, answers of such routes are asked for unpacked.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use memchr::memmem;
use tokio::time::{Instant, Sleep};

use crate::proxy::response::{Body, BoxError};

/// An end that could be the beginning of the credential waits so long for more: nobody who waits for an answer's end, such as
/// an event's, is kept waiting.
const HOLD_TIMEOUT: Duration = Duration::from_millis(50);

/// Overwrites a credential in bytes that pass.
pub(super) struct Redactor {
    secret: Arc<[u8]>,
    held: BytesMut,
}

impl Redactor {
    pub(super) fn new(secret: &Arc<[u8]>) -> Self {
        Self { secret: Arc::clone(secret), held: BytesMut::new() }
    }

    /// Gives the part of these bytes and of those before that may go on; an end that could go on to be the credential is held.
    fn push(&mut self, data: Bytes) -> Bytes {
        let tail = |bytes: &[u8], secret: &[u8]| {
            let most = bytes.len().min(secret.len() - 1);
            (1..=most).rev().find(|length| secret.starts_with(&bytes[bytes.len() - length..])).unwrap_or(0)
        };
        if self.held.is_empty() && memmem::find(&data, &self.secret).is_none() {
            let held = tail(&data, &self.secret);
            self.held.extend_from_slice(&data[data.len() - held..]);
            return data.slice(..data.len() - held);
        }
        self.held.extend_from_slice(&data);
        self.overwrite();
        let held = tail(&self.held, &self.secret);
        let out = self.held.split_to(self.held.len() - held);
        out.freeze()
    }

    /// The same where nothing can be held.
    pub(super) fn at_once(&mut self, data: &mut [u8]) {
        self.held.clear();
        self.held.extend_from_slice(data);
        self.overwrite();
        data.copy_from_slice(&self.held);
        self.held.clear();
    }

    /// The bytes that were held, if any.
    fn rest(&mut self) -> Option<Bytes> {
        (!self.held.is_empty()).then(|| self.held.split().freeze())
    }

    fn overwrite(&mut self) {
        let mut from = 0;
        while let Some(at) = memmem::find(&self.held[from..], &self.secret) {
            let range = from + at..from + at + self.secret.len();
            from = range.end;
            self.held[range].fill(b'*');
        }
    }
}

/// A body in which the credential is overwritten.
pub(super) struct RedactedBody {
    body: Body,
    mask: Redactor,
    ended: bool,
    /// Trailers of the body.
    trailers: Option<HeaderMap>,
    hold: Pin<Box<Sleep>>,
}

impl RedactedBody {
    pub(super) fn new(body: Body, secret: &Arc<[u8]>) -> Self {
        Self {
            body,
            mask: Redactor::new(secret),
            ended: false,
            trailers: None,
            hold: Box::pin(tokio::time::sleep(HOLD_TIMEOUT)),
        }
    }
}

impl HttpBody for RedactedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if this.ended {
                let rest = this.mask.rest().map(Frame::data);
                return Poll::Ready(rest.or_else(|| this.trailers.take().map(Frame::trailers)).map(Ok));
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        let out = this.mask.push(data);
                        this.hold.as_mut().reset(Instant::now() + HOLD_TIMEOUT);
                        if !out.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(out))));
                        }
                    }
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok();
                        this.ended = true;
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => this.ended = true,
                Poll::Pending if this.mask.held.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    if this.hold.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    return Poll::Ready(this.mask.rest().map(|rest| Ok(Frame::data(rest))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.mask.held.is_empty() && self.trailers.is_none() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.mask.held.len() as u64;
        let inner = self.body.size_hint();
        match inner.exact() {
            Some(exact) => SizeHint::with_exact(exact + held),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_cut_shows_it(text in "[ab]{0,60}", cut in 1usize..9) {
            let secret: Arc<[u8]> = Arc::from(&b"abab"[..]);
            let mut mask = Redactor::new(&secret);
            let mut out: Vec<u8> = vec![];
            for piece in text.as_bytes().chunks(cut) {
                out.extend(mask.push(Bytes::copy_from_slice(piece)));
            }
            out.extend(mask.rest().unwrap_or_default());
            prop_assert_eq!(String::from_utf8(out).expect("text"), text.replace("abab", "****"));
        }
    }
}
