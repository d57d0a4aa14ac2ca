//! `aws-chunked` uploads: the client's own frames are taken off, so that the payload is scanned, and others that are signed put on.
//!
//! Source: S3's API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks", and the
//! same "(Including Trailing Headers)".

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::SignatureChain;
use crate::proxy::response::{Body, BoxError};

/// S3 wants 8 KiB at least of every chunk but the last.
const CHUNK_BYTES: usize = 64 << 10;
/// The longest line before a chunk or behind the last: a size and a signature, or a checksum.
const MAX_LINE_BYTES: usize = 512;
/// S3 knows one checksum a request.
pub(crate) const MAX_TRAILERS: usize = 4;
/// A chunk's signature in hex, and the text before it.
const SIGNATURE_BYTES: usize = 64;
const SIGNATURE: &str = ";chunk-signature=";
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// What a client says of an upload in chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkedUpload {
    /// The payload's length.
    pub(crate) decoded: u64,
    /// The trailers that are to follow.
    pub(crate) trailers: Vec<HeaderName>,
    /// Whether the client's chunks have signatures.
    pub(crate) has_signatures: bool,
}

/// Why frames are none, or not those that were announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a line of the aws-chunked body is malformed")]
    Line,
    #[error("a line of the aws-chunked body is too long")]
    LongLine,
    #[error("the aws-chunked body is longer than x-amz-decoded-content-length says")]
    Longer,
    #[error("the aws-chunked body is shorter than x-amz-decoded-content-length says")]
    Shorter,
    #[error("the aws-chunked body has another trailer than x-amz-trailer names")]
    Trailer,
    #[error("the aws-chunked body goes on behind its end")]
    Rest,
    #[error("the aws-chunked body broke off")]
    CutOff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// Takes off frames, whose signatures nobody here could check.
struct Deframer {
    upload: ChunkedUpload,
    state: State,
    buffer: BytesMut,
    /// So much of the payload is still to come.
    left: u64,
    trailers: HeaderMap,
}

impl Deframer {
    fn new(upload: ChunkedUpload) -> Self {
        let left = upload.decoded;
        Self { upload, state: State::Head, buffer: BytesMut::new(), left, trailers: HeaderMap::new() }
    }

    /// Gives what of the payload these bytes have.
    fn push(&mut self, data: &[u8]) -> Result<Bytes, FrameError> {
        self.buffer.extend_from_slice(data);
        let mut payload = BytesMut::new();
        loop {
            match self.state {
                State::Head => {
                    let Some(line) = self.line()? else { break };
                    let size = self.size(&line)?;
                    self.left = self.left.checked_sub(size).ok_or(FrameError::Longer)?;
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(0) => self.state = State::DataEnd,
                State::Data(size) => {
                    if self.buffer.is_empty() {
                        break;
                    }
                    let now = self.buffer.len().min(usize::try_from(size).unwrap_or(usize::MAX));
                    payload.extend_from_slice(&self.buffer.split_to(now));
                    self.state = State::Data(size - now as u64);
                }
                State::DataEnd => match self.line()? {
                    None => break,
                    Some(line) if line.is_empty() => self.state = State::Head,
                    Some(_) => return Err(FrameError::Line),
                },
                State::Trailers => match self.line()? {
                    None => break,
                    Some(line) if line.is_empty() => self.state = State::Done,
                    Some(line) => self.trailer(&line)?,
                },
                State::Done if self.buffer.is_empty() => break,
                State::Done => return Err(FrameError::Rest),
            }
        }
        Ok(payload.freeze())
    }

    /// Checks that all has come, and gives the trailers.
    fn finish(&mut self) -> Result<HeaderMap, FrameError> {
        if self.state != State::Done {
            return Err(FrameError::CutOff);
        }
        if self.left > 0 {
            return Err(FrameError::Shorter);
        }
        if self.trailers.len() != self.upload.trailers.len() {
            return Err(FrameError::Trailer);
        }
        Ok(std::mem::take(&mut self.trailers))
    }

    /// The next line, without its end; none: it has not come yet.
    fn line(&mut self) -> Result<Option<String>, FrameError> {
        let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n") else {
            return if self.buffer.len() > MAX_LINE_BYTES { Err(FrameError::LongLine) } else { Ok(None) };
        };
        if end > MAX_LINE_BYTES {
            return Err(FrameError::LongLine);
        }
        let line = self.buffer.split_to(end);
        self.buffer.advance(2);
        let line = String::from_utf8(line.to_vec()).map_err(|_| FrameError::Line)?;
        if line.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
            Ok(Some(line))
        } else {
            Err(FrameError::Line)
        }
    }

    fn size(&self, line: &str) -> Result<u64, FrameError> {
        let size = match line.split_once(';') {
            None if !self.upload.has_signatures => line,
            Some((size, _)) if self.upload.has_signatures => {
                let signature = line[size.len()..].strip_prefix(SIGNATURE).ok_or(FrameError::Line)?;
                if signature.len() != SIGNATURE_BYTES || !signature.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(FrameError::Line);
                }
                size
            }
            _ => return Err(FrameError::Line),
        };
        let is_hex = !size.is_empty() && size.len() <= 16 && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex {
            return Err(FrameError::Line);
        }
        u64::from_str_radix(size, 16).map_err(|_| FrameError::Line)
    }

    fn trailer(&mut self, line: &str) -> Result<(), FrameError> {
        let (name, value) = line.split_once(':').ok_or(FrameError::Line)?;
        if name.eq_ignore_ascii_case(TRAILER_SIGNATURE) && self.upload.has_signatures {
            return Ok(());
        }
        let name: HeaderName = name.parse().map_err(|_| FrameError::Line)?;
        if !self.upload.trailers.contains(&name) || self.trailers.contains_key(&name) {
            return Err(FrameError::Trailer);
        }
        self.trailers.insert(name, HeaderValue::from_str(value.trim()).map_err(|_| FrameError::Line)?);
        Ok(())
    }
}

/// A body as it came, or the payload of one in chunks with its trailers.
pub(crate) struct Unframed<B> {
    body: B,
    frames: Option<Deframer>,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl<B> Unframed<B> {
    pub(crate) fn new(body: B, upload: Option<ChunkedUpload>) -> Self {
        Self { body, frames: upload.map(Deframer::new), trailers: None, ended: false }
    }
}

impl<B> HttpBody for Unframed<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(frames) = &mut this.frames else {
            return Pin::new(&mut this.body).poll_frame(cx).map_err(Into::into);
        };
        loop {
            if this.ended {
                return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let Poll::Ready(polled) = Pin::new(&mut this.body).poll_frame(cx) else { return Poll::Pending };
            match polled.transpose().map_err(Into::into) {
                Err(error) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                // Trailers of HTTP's own belong to no signature.
                Ok(Some(frame)) => match frame.into_data().map_or(Ok(Bytes::new()), |data| frames.push(&data)) {
                    Ok(payload) if payload.is_empty() => {}
                    Ok(payload) => return Poll::Ready(Some(Ok(Frame::data(payload)))),
                    Err(error) => {
                        this.ended = true;
                        return Poll::Ready(Some(Err(error.into())));
                    }
                },
                Ok(None) => {
                    this.ended = true;
                    match frames.finish() {
                        Ok(trailers) => this.trailers = (!trailers.is_empty()).then_some(trailers),
                        Err(error) => return Poll::Ready(Some(Err(error.into()))),
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.frames {
            None => self.body.is_end_stream(),
            // The end of no bytes at all is an error that must be told.
            Some(_) => self.ended && self.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.frames.is_none() { self.body.size_hint() } else { SizeHint::default() }
    }
}

/// The length of a payload in frames, without trailers.
pub(crate) fn framed_bytes(decoded: u64) -> u64 {
    let chunk = |size: u64| format!("{size:x}").len() as u64 + (SIGNATURE.len() + SIGNATURE_BYTES + 4) as u64 + size;
    let (full, rest) = (decoded / CHUNK_BYTES as u64, decoded % CHUNK_BYTES as u64);
    full * chunk(CHUNK_BYTES as u64) + if rest > 0 { chunk(rest) } else { 0 } + chunk(0)
}

/// A payload in frames, each with its signature.
pub(crate) struct Framed {
    /// None: it has ended.
    body: Option<Body>,
    chain: SignatureChain,
    buffer: BytesMut,
    trailers: HeaderMap,
    has_trailers: bool,
}

impl Framed {
    pub(crate) fn new(body: Body, chain: SignatureChain, has_trailers: bool) -> Self {
        Self { body: Some(body), chain, buffer: BytesMut::new(), trailers: HeaderMap::new(), has_trailers }
    }

    fn frame(&mut self, data: &Bytes) -> Bytes {
        let signature = self.chain.chunk(data);
        let mut out = BytesMut::from(format!("{:x}{SIGNATURE}{signature}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        // Behind the last head stand the trailers, and then the end.
        if !data.is_empty() {
            out.extend_from_slice(b"\r\n");
        }
        out.freeze()
    }

    /// The last frames.
    fn end(&mut self) -> Result<Bytes, BoxError> {
        let mut out = BytesMut::new();
        if !self.buffer.is_empty() {
            let rest = self.buffer.split().freeze();
            out.extend_from_slice(&self.frame(&rest));
        }
        out.extend_from_slice(&self.frame(&Bytes::new()));
        if self.has_trailers {
            let mut lines = vec![];
            for (name, value) in &self.trailers {
                lines.push(format!("{name}:{}\n", value.to_str()?));
            }
            lines.sort_unstable();
            let signature = self.chain.trailers(&lines.concat());
            let lines = lines.concat().replace('\n', "\r\n");
            out.extend_from_slice(format!("{lines}{TRAILER_SIGNATURE}:{signature}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        Ok(out.freeze())
    }
}

impl HttpBody for Framed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if this.buffer.len() >= CHUNK_BYTES {
                let data = this.buffer.split_to(CHUNK_BYTES).freeze();
                return Poll::Ready(Some(Ok(Frame::data(this.frame(&data)))));
            }
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            let Poll::Ready(polled) = Pin::new(body).poll_frame(cx) else { return Poll::Pending };
            match polled {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.buffer.extend_from_slice(&data),
                    Err(frame) => this.trailers = frame.into_trailers().unwrap_or_default(),
                },
                Some(Err(error)) => {
                    this.body = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.body = None;
                    return Poll::Ready(Some(this.end().map(Frame::data)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none() && self.buffer.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
#[path = "chunked_tests.rs"]
mod tests;
