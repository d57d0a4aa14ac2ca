//! Requests over HTTP/2 whose head is malformed: the library resets their streams and tells no handler. The frames that go out are
//! watched for that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::unreadable::{NoteUnreadable, UnreadableHead};

/// RFC 9113, 4.1, 6.4 and 7.
const FRAME_HEAD: usize = 9;
const RST_STREAM: u8 = 3;
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

/// A connection of a client's whose outgoing frames are watched.
pub(super) struct WatchedFrames<S> {
    stream: S,
    /// A frame's head, and the payload of one that resets a stream.
    head: Vec<u8>,
    /// Of a frame's payload, so much is to come.
    skip: usize,
    note: NoteUnreadable,
}

impl<S> WatchedFrames<S> {
    pub(super) fn new(stream: S, note: NoteUnreadable) -> Self {
        Self { stream, head: vec![], skip: 0, note }
    }

    fn watch(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let resets = self.head.get(3) == Some(&RST_STREAM);
            let wanted = if resets { FRAME_HEAD + PROTOCOL_ERROR.len() } else { FRAME_HEAD } - self.head.len();
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            self.head.extend_from_slice(now);
            bytes = later;
            match self.head.as_slice() {
                [.., a, b, c, d] if self.head.len() == FRAME_HEAD + PROTOCOL_ERROR.len() => {
                    if [*a, *b, *c, *d] == PROTOCOL_ERROR {
                        (self.note)(&UnreadableHead::new(StatusCode::BAD_REQUEST, &[]));
                    }
                    self.head.clear();
                }
                [a, b, c, kind, ..] if self.head.len() == FRAME_HEAD && *kind != RST_STREAM => {
                    self.skip = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                    self.head.clear();
                }
                _ => {}
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedFrames<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedFrames<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.watch(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let part = left.min(slice.len());
            self.watch(&slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn resets_are_seen_however_frames_are_cut() {
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
        let reset = |code: u8| [0, 0, 4, RST_STREAM, 0, 0, 0, 0, 5, 0, 0, 0, code];
        // Data that looks like a reset is none.
        let data = [&[0, 0, 13, 0, 0, 0, 0, 0, 5][..], &reset(1)].concat();
        let bytes = [&settings[..], &reset(1), &data, &reset(8), &settings, &reset(1)].concat();
        for piece in [1, 2, 9, 13, bytes.len()] {
            let seen = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&seen);
            let mut frames = WatchedFrames::new(
                (),
                Arc::new(move |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                }),
            );
            bytes.chunks(piece).for_each(|chunk| frames.watch(chunk));
            assert_eq!(seen.load(Ordering::Relaxed), 2, "{piece}");
        }
    }
}
