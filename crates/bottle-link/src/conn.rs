//! One forwarded connection: two directions, each ending by itself, with at most one buffer's rest held back.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys;

/// How long a connection waits for a socket that is not there yet.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client may go on sending what nobody reads, so that it can still read the answer.
const LINGER: Duration = Duration::from_secs(2);
/// Reads a turn, so that one busy connection doesn't starve the others.
const READS_A_TURN: usize = 16;

/// What std's two stream types have in common.
trait Stream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    fn end(&self);
}

impl Stream for TcpStream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, buffer)
    }
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, bytes)
    }
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Stream for UnixStream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, buffer)
    }
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, bytes)
    }
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// One direction.
#[derive(Default)]
struct Pipe {
    /// Read, and not yet written.
    pending: Vec<u8>,
    written: usize,
    /// The source has said its last.
    ended: bool,
    /// The target takes no more: what comes is dropped.
    deaf: bool,
    /// Nothing more will happen here.
    done: bool,
}

impl Pipe {
    fn wants_read(&self) -> bool {
        !self.ended && self.pending.is_empty()
    }

    fn wants_write(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Moves what can be moved without waiting.
    fn pump(&mut self, from: &impl Stream, to: &impl Stream, scratch: &mut [u8]) {
        for _ in 0..READS_A_TURN {
            if !self.flush(to) {
                return;
            }
            if self.ended {
                break;
            }
            match from.read(scratch) {
                Ok(0) => self.ended = true,
                Ok(_) if self.deaf => {}
                Ok(count) => match to.write(&scratch[..count]) {
                    Ok(written) if written == count => {}
                    Ok(written) => self.pending.extend_from_slice(&scratch[written..count]),
                    Err(error) if is_later(&error) => self.pending.extend_from_slice(&scratch[..count]),
                    Err(_) => self.deaf = true,
                },
                Err(error) if is_later(&error) => return,
                Err(_) => self.ended = true,
            }
        }
        if self.ended && self.pending.is_empty() && !self.done {
            to.end();
            self.done = true;
        }
    }

    /// Whether nothing is held back any more.
    fn flush(&mut self, to: &impl Stream) -> bool {
        while self.written < self.pending.len() {
            match to.write(&self.pending[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if is_later(&error) => return false,
                Err(_) => {
                    self.deaf = true;
                    break;
                }
            }
        }
        self.pending = Vec::new();
        self.written = 0;
        true
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What is to become of a connection after its turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It goes on.
    Stay,
    /// It has ended, well or badly.
    Close,
    /// Its socket does not take connections.
    NoDoor,
}

/// A client of one door.
pub(crate) struct Conn {
    pub(crate) door: usize,
    client: TcpStream,
    sidecar: Option<UnixStream>,
    since: Instant,
    out: Pipe,
    back: Pipe,
    linger: Option<Instant>,
}

impl Conn {
    /// Takes an accepted client; connecting to its door is the first turn's work.
    pub(crate) fn new(door: usize, client: TcpStream) -> io::Result<Self> {
        client.set_nonblocking(true)?;
        client.set_nodelay(true)?;
        let since = Instant::now();
        Ok(Self { door, client, sidecar: None, since, out: Pipe::default(), back: Pipe::default(), linger: None })
    }

    /// What to wait for: the client's descriptor and the sidecar's, with events; -1 where nothing is awaited.
    pub(crate) fn interest(&self) -> [(RawFd, i16); 2] {
        let Some(sidecar) = &self.sidecar else { return [(-1, 0); 2] };
        let events = |read, write| if read { libc::POLLIN } else { 0 } | if write { libc::POLLOUT } else { 0 };
        let client = events(self.out.wants_read(), self.back.wants_write());
        let other = events(self.back.wants_read(), self.out.wants_write());
        [
            (if client == 0 { -1 } else { self.client.as_raw_fd() }, client),
            (if other == 0 { -1 } else { sidecar.as_raw_fd() }, other),
        ]
    }

    /// Whether it needs a turn by the clock, not only by events.
    pub(crate) fn is_timed(&self) -> bool {
        self.sidecar.is_none() || self.linger.is_some()
    }

    /// One turn.
    pub(crate) fn step(&mut self, socket: &Path, scratch: &mut [u8]) -> Next {
        let sidecar = match &self.sidecar {
            Some(sidecar) => sidecar,
            None => match sys::connect_unix(socket) {
                Ok(sidecar) => self.sidecar.insert(sidecar),
                Err(_) if self.since.elapsed() < CONNECT_PATIENCE => return Next::Stay,
                Err(_) => return Next::NoDoor,
            },
        };
        self.out.pump(&self.client, sidecar, scratch);
        self.back.pump(sidecar, &self.client, scratch);
        if self.back.deaf || (self.out.done && self.back.done) {
            return Next::Close;
        }
        if self.out.deaf && self.back.done {
            // The sidecar has answered and gone while the client still talks. Closing now would reset the connection and
            // could take the answer with it.
            let until = *self.linger.get_or_insert_with(|| Instant::now() + LINGER);
            if Instant::now() >= until {
                return Next::Close;
            }
        }
        Next::Stay
    }
}
