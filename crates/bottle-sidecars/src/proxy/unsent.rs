//! A connection whose other side has stopped listening, and may have said why: what is written is lost, and what it said is read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream on which nothing fails to be written because the other side has closed it. A server that refuses a request before its
/// body is over answers, and closes; reading tells the answer, or the end.
pub(crate) struct AnsweredStream<S> {
    stream: S,
    deaf: bool,
}

impl<S> AnsweredStream<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, deaf: false }
    }

    /// What was written, or goes for it where nobody listens.
    fn written<T>(&mut self, polled: Poll<io::Result<T>>, all: T) -> Poll<io::Result<T>> {
        let closed =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
        match polled {
            Poll::Ready(Err(error)) if closed(&error) => {
                self.deaf = true;
                Poll::Ready(Ok(all))
            }
            polled => polled,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnsweredStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnsweredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(polled, buf.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(polled, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.written(polled, ())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(all));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(polled, all)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_was_said_before_the_end_is_read_and_what_is_written_after_it_is_lost() {
        let (ours, mut theirs) = tokio::net::UnixStream::pair().expect("a pair");
        let mut ours = AnsweredStream::new(ours);
        theirs.write_all(b"no").await.expect("written");
        drop(theirs);
        ours.write_all(&[b'x'; 1 << 20]).await.expect("a write that nobody reads");
        ours.flush().await.expect("nothing to do");
        let mut said = vec![];
        ours.read_to_end(&mut said).await.expect("the answer");
        assert_eq!(said, b"no");
    }
}
