//! A unix socket that wakes its owner when there is something to read, and not whenever the other side has read.
//!
//! The kernel tells the writer of a unix socket of every read on the other side, also where there was room all the time (EPOLLOUT;
//! TCP tells only whoever was full). tokio's stream waits for both directions at once: each message would cost one wakeup more. This one
//! waits to read, and to write only once the socket was full.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// A connection on a unix socket.
pub(crate) struct QuietStream {
    /// tokio's pipes wait for one direction alone, and read and write as sockets do.
    reader: pipe::Receiver,
    /// There once the socket was full.
    writer: Option<pipe::Sender>,
}

impl QuietStream {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        let fd = OwnedFd::from(stream.into_std()?);
        Ok(Self { reader: pipe::Receiver::from_owned_fd_unchecked(fd)?, writer: None })
    }
}

impl AsyncRead for QuietStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for QuietStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(writer) = &mut self.writer {
            return Pin::new(writer).poll_write_vectored(cx, slices);
        }
        match rustix::io::retry_on_intr(|| rustix::io::writev(&self.reader, slices)) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                // Of its own, because epoll takes a descriptor once.
                let fd = self.reader.as_fd().try_clone_to_owned()?;
                let writer = self.writer.insert(pipe::Sender::from_owned_fd_unchecked(fd)?);
                Pin::new(writer).poll_write_vectored(cx, slices)
            }
            written => Poll::Ready(Ok(written?)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(&self.reader, Shutdown::Write) {
            Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            shut => Poll::Ready(Ok(shut?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream as StdStream;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A stream, and its other side in a thread of its own.
    fn quiet(other: impl FnOnce(StdStream) + Send + 'static) -> QuietStream {
        let (ours, theirs) = StdStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a socket that does not block");
        std::thread::spawn(move || other(theirs));
        QuietStream::new(UnixStream::from_std(ours).expect("a stream")).expect("a stream")
    }

    #[tokio::test]
    async fn what_the_other_side_reads_wakes_nobody() {
        const ROUNDS: u64 = 50;
        let mut stream = quiet(|mut theirs| {
            while theirs.read_exact(&mut [0; 3]).is_ok() {
                // A wakeup by the read alone would come to its end meanwhile.
                std::thread::sleep(Duration::from_millis(3));
                theirs.write_all(b"2").expect("an answer");
            }
        });
        let parks = || tokio::runtime::Handle::current().metrics().worker_park_count(0);
        let before = parks();
        for _ in 0..ROUNDS {
            stream.write_all(b"one").await.expect("written");
            assert_eq!(stream.read_u8().await.expect("an answer"), b'2');
        }
        let parked = parks() - before;
        assert!(parked < ROUNDS * 3 / 2, "slept {parked} times for {ROUNDS} answers");
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for() {
        let (told, heard) = std::sync::mpsc::channel();
        let mut stream = quiet(move |mut theirs| {
            std::thread::sleep(Duration::from_millis(20));
            let mut all = vec![];
            theirs.read_to_end(&mut all).expect("all of it");
            theirs.write_all(b"!").expect("an answer");
            told.send(all).expect("somebody waits");
        });
        let sent: Vec<u8> = (0..4 << 20).map(|index: u32| (index % 251) as u8).collect();
        stream.write_all(&sent).await.expect("written");
        assert!(stream.writer.is_some(), "so much fits into no socket");
        stream.shutdown().await.expect("an end");
        assert_eq!(stream.read_u8().await.expect("an answer"), b'!');
        assert!(heard.recv().expect("what was read") == sent);
    }

    #[tokio::test]
    async fn a_side_that_is_gone_is_an_error_and_an_end() {
        let (gone, waits) = std::sync::mpsc::channel();
        let mut stream = quiet(move |theirs| {
            drop(theirs);
            gone.send(()).expect("somebody waits");
        });
        waits.recv().expect("it is gone");
        let error = stream.write_all(b"one").await.expect_err("nobody reads it");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(stream.read(&mut [0]).await.expect("the end"), 0);
        stream.shutdown().await.expect("an end");
    }
}
