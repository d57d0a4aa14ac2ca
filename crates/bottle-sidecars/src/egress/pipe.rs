//! The way from egress to pipelock: HTTP/1.1 over its unix socket, connections kept for the next request.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::proxy::headers::MAX_HOP_HEADERS;
use crate::proxy::response::Body;
use crate::proxy::unix_stream::QuietStream;
use crate::proxy::unsent::AnsweredStream;

/// A client whose every request goes to pipelock.
pub(super) type Pipe = Client<Connector, Body>;

/// Makes the client.
pub(super) fn client(socket: PathBuf) -> Pipe {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(64)
        .http1_max_headers(MAX_HOP_HEADERS)
        .build(Connector { socket })
}

/// Connects to the socket, whatever the URI says.
#[derive(Clone)]
pub(super) struct Connector {
    socket: PathBuf,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<PipelockStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let socket = self.socket.clone();
        Box::pin(async move {
            let stream = QuietStream::new(UnixStream::connect(socket).await?)?;
            Ok(TokioIo::new(PipelockStream(AnsweredStream::new(stream))))
        })
    }
}

/// One connection.
pub(super) struct PipelockStream(AnsweredStream<QuietStream>);

impl Connection for PipelockStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for PipelockStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for PipelockStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
