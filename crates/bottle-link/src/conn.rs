//! One forwarded connection: two directions, each ending by itself, with at most one buffer's rest held back.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::sys;

/// How long a connection waits for a socket that is not there yet.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// On a loopback interface an answer comes at once, or the service has no room for one more.
const SERVICE_PATIENCE: Duration = Duration::from_millis(200);
/// How long a client may go on sending what nobody reads, so that it can still read the answer.
const LINGER: Duration = Duration::from_secs(2);
/// Reads a turn, so that one busy connection doesn't starve the others.
const READS_A_TURN: usize = 16;

/// One end of a connection.
pub(crate) enum EndStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl EndStream {
    /// Leaves nothing to wait for: not for room, and not for more bytes to go with these.
    fn at_once(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)),
            Self::Unix(stream) => stream.set_nonblocking(true),
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => Read::read(&mut &*stream, buffer),
            Self::Unix(stream) => Read::read(&mut &*stream, buffer),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => Write::write(&mut &*stream, bytes),
            Self::Unix(stream) => Write::write(&mut &*stream, bytes),
        }
    }

    fn end(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// What is behind a listener.
#[derive(Debug)]
pub(crate) enum LinkTarget {
    /// A sidecar's socket, or a service's link's, which may come later than who asks for it.
    Socket(PathBuf),
    /// A service beside this link, at its port of the loopback interface.
    Port(u16),
}

impl LinkTarget {
    pub(crate) fn connect(&self) -> io::Result<EndStream> {
        let stream = match self {
            Self::Socket(path) => EndStream::Unix(sys::connect_unix(path)?),
            Self::Port(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                EndStream::Tcp(TcpStream::connect_timeout(&address, SERVICE_PATIENCE)?)
            }
        };
        stream.at_once().map(|()| stream)
    }

    /// How long a client waits for it.
    fn patience(&self) -> Duration {
        match self {
            Self::Socket(_) => CONNECT_PATIENCE,
            Self::Port(_) => Duration::ZERO,
        }
    }
}

impl fmt::Display for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Port(port) => write!(f, "port {port}"),
        }
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
    fn pump(&mut self, from: &EndStream, to: &EndStream, scratch: &mut [u8]) {
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
    fn flush(&mut self, to: &EndStream) -> bool {
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
pub(crate) enum AfterTurn {
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
    client: EndStream,
    /// What answers: a sidecar, or a service.
    other: Option<EndStream>,
    since: Instant,
    out: Pipe,
    back: Pipe,
    linger: Option<Instant>,
}

impl Conn {
    /// Takes an accepted client; connecting to its door is the first turn's work.
    pub(crate) fn new(door: usize, client: EndStream) -> io::Result<Self> {
        client.at_once()?;
        let since = Instant::now();
        Ok(Self { door, client, other: None, since, out: Pipe::default(), back: Pipe::default(), linger: None })
    }

    /// What to wait for: the client's descriptor and the other end's, with events; -1 where nothing is awaited.
    pub(crate) fn interest(&self) -> [(RawFd, i16); 2] {
        let Some(answering) = &self.other else { return [(-1, 0); 2] };
        let events = |read, write| if read { libc::POLLIN } else { 0 } | if write { libc::POLLOUT } else { 0 };
        let client = events(self.out.wants_read(), self.back.wants_write());
        let other = events(self.back.wants_read(), self.out.wants_write());
        [
            (if client == 0 { -1 } else { self.client.as_raw_fd() }, client),
            (if other == 0 { -1 } else { answering.as_raw_fd() }, other),
        ]
    }

    /// Whether it needs a turn by the clock, not only by events.
    pub(crate) fn is_timed(&self) -> bool {
        self.other.is_none() || self.linger.is_some()
    }

    /// One turn.
    pub(crate) fn step(&mut self, target: &LinkTarget, scratch: &mut [u8]) -> AfterTurn {
        let other = match &self.other {
            Some(other) => other,
            None => match target.connect() {
                Ok(other) => self.other.insert(other),
                Err(_) if self.since.elapsed() < target.patience() => return AfterTurn::Stay,
                Err(_) => return AfterTurn::NoDoor,
            },
        };
        self.out.pump(&self.client, other, scratch);
        self.back.pump(other, &self.client, scratch);
        if self.back.deaf || (self.out.done && self.back.done) {
            return AfterTurn::Close;
        }
        if self.out.deaf && self.back.done {
            // The other end has answered and gone while the client still talks. Closing now would reset the connection and
            // could take the answer with it.
            let until = *self.linger.get_or_insert_with(|| Instant::now() + LINGER);
            if Instant::now() >= until {
                return AfterTurn::Close;
            }
        }
        AfterTurn::Stay
    }
}
