//! The loop: signals, listeners and connections in one `poll`, no threads (they would count against the guest's pids).

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use crate::cli::{Forward, ForwardedPort};
use crate::conn::{AfterTurn, Conn, EndStream, LinkTarget};
use crate::control::ControlChannel;
use crate::{selftest, sys};

/// More clients than this wait in the listeners' backlog.
const MOST_CONNECTIONS: usize = 512;
/// How often a connection that waits for its socket tries again, in milliseconds.
const RETRY_MS: u16 = 5;
/// How often a service that does not listen yet is tried, in milliseconds.
const SERVICE_MS: u16 = 25;
const SCRATCH_BYTES: usize = 64 << 10;

/// Why forwarding can't start, or can't go on.
#[derive(Debug)]
pub(crate) enum ForwardError {
    /// A port that is taken.
    Listen(Ipv4Addr, u16, io::Error),
    /// The loopback interface does not take the address.
    Address(Ipv4Addr, io::Error),
    /// The signals can't be had.
    Signals(io::Error),
    /// Standard input is no socket that listens.
    Control(io::Error),
    /// A limit that can't be set.
    Limits(io::Error),
    /// A service's network namespace with more than a loopback interface: nothing in there would be sealed.
    Network(String),
    /// A number that is no socket's.
    Inherited(RawFd, io::Error),
    /// The loop itself failed.
    Poll(io::Error),
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, port, error) => write!(f, "failed to listen on {address}:{port}: {error}"),
            Self::Address(address, error) => write!(f, "failed to give {address} to the loopback interface: {error}"),
            Self::Signals(error) => write!(f, "failed to take over the signals: {error}"),
            Self::Control(error) => write!(f, "failed to take commands on standard input: {error}"),
            Self::Limits(error) => write!(f, "failed to set the limits: {error}"),
            Self::Network(what) => write!(f, "a service would have a network: {what}"),
            Self::Inherited(fd, error) => write!(f, "failed to take the descriptor {fd}: {error}"),
            Self::Poll(error) => write!(f, "failed to wait for connections: {error}"),
        }
    }
}

struct Listener {
    target: LinkTarget,
    from: Entrance,
    complained: bool,
}

/// Where clients come in.
enum Entrance {
    Port(TcpListener),
    Socket(UnixListener),
    /// A service's, which does not listen yet.
    Closed(SocketPlace),
}

/// A unix socket that is to be listened on.
enum SocketPlace {
    /// Not made yet.
    Path(PathBuf),
    /// Made and named outside.
    Made(OwnedFd),
}

impl SocketPlace {
    /// Listens, for every user of whoever has the directory.
    fn open(&self) -> io::Result<UnixListener> {
        let listener = match self {
            Self::Path(path) => {
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, Permissions::from_mode(0o666))?;
                listener
            }
            Self::Made(fd) => sys::listen(fd)?,
        };
        listener.set_nonblocking(true).map(|()| listener)
    }
}

impl Listener {
    fn as_raw_fd(&self) -> RawFd {
        match &self.from {
            Entrance::Port(listener) => listener.as_raw_fd(),
            Entrance::Socket(listener) => listener.as_raw_fd(),
            Entrance::Closed(_) => -1,
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.from, Entrance::Closed(_))
    }

    fn accept(&self) -> io::Result<EndStream> {
        match &self.from {
            Entrance::Port(listener) => listener.accept().map(|(client, _)| EndStream::Tcp(client)),
            Entrance::Socket(listener) => listener.accept().map(|(client, _)| EndStream::Unix(client)),
            Entrance::Closed(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Lets clients in once the service takes connections; a place that is not there yet is tried again.
    fn open(&mut self) {
        let Entrance::Closed(place) = &self.from else { return };
        if self.target.connect().is_err() {
            return;
        }
        match place.open() {
            // Nothing is said: in a sandbox what the link says stands among the service's last words.
            Ok(listener) => self.from = Entrance::Socket(listener),
            Err(error) if !self.complained => {
                self.complained = true;
                say(&format!("failed to open the socket of {}: {error}", self.target));
            }
            Err(_) => {}
        }
    }
}

/// Forwards until SIGTERM or SIGINT.
pub(crate) fn run(options: &Forward) -> Result<(), ForwardError> {
    // Each connection takes two descriptors; some are needed for the rest.
    let most_connections = MOST_CONNECTIONS.min(sys::raise_file_limit().saturating_sub(64) / 2).max(1);
    sys::limit(&options.limits).map_err(ForwardError::Limits)?;
    let mut control = options.control.then(ControlChannel::take).transpose().map_err(ForwardError::Control)?;
    let signals = if options.as_init { Some(sys::signals().map_err(ForwardError::Signals)?) } else { None };
    let mut forwarder = Forwarder { listeners: listen(options)?, conns: vec![], most_connections };
    let mut fds: Vec<libc::pollfd> = vec![];
    let mut scratch = vec![0; SCRATCH_BYTES];
    loop {
        forwarder.open();
        fds.clear();
        fds.push(watch(signals.as_ref().map_or(-1, |fd| fd.as_raw_fd()), libc::POLLIN));
        forwarder.watch(&mut fds);
        let commands = fds.len();
        fds.extend(control.iter().flat_map(ControlChannel::watched).map(|fd| watch(fd, libc::POLLIN)));
        let timeout = forwarder.timeout();
        sys::poll(&mut fds, timeout).map_err(ForwardError::Poll)?;

        if let Some(signals) = &signals {
            while let Some(signal) = sys::next_signal(signals) {
                if signal != libc::SIGCHLD {
                    return Ok(());
                }
                let ends = sys::reap();
                if let Some(control) = &mut control {
                    control.ended(&ends);
                }
            }
        }
        if let Some(control) = &mut control
            && fds[commands..].iter().any(|fd| fd.revents != 0)
        {
            control.step();
        }
        forwarder.step(&fds[1..commands], &mut scratch);
    }
}

fn watch(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Listens at every door's port, and takes what is to be a service's.
fn listen(options: &Forward) -> Result<Vec<Listener>, ForwardError> {
    let address = options.address.unwrap_or(Ipv4Addr::LOCALHOST);
    if options.address.is_some() {
        sys::add_loopback_address(address).map_err(|error| ForwardError::Address(address, error))?;
    }
    let open = |door: &ForwardedPort| {
        let listen = |error| ForwardError::Listen(address, door.port, error);
        let listener = TcpListener::bind((address, door.port)).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let target = LinkTarget::Socket(options.doors_dir.join(&door.socket));
        say(&format!("forwarding {address}:{} to {target}", door.port));
        Ok(Listener { target, from: Entrance::Port(listener), complained: false })
    };
    let mut listeners = options.doors.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    if !(options.serve.is_empty() && options.serve_fds.is_empty()) {
        selftest::no_network().map_err(ForwardError::Network)?;
    }
    let mut close = |port, place| {
        listeners.push(Listener { target: LinkTarget::Port(port), from: Entrance::Closed(place), complained: false });
    };
    options.serve.iter().for_each(|door| close(door.port, SocketPlace::Path(options.doors_dir.join(&door.socket))));
    for (port, fd) in &options.serve_fds {
        close(*port, SocketPlace::Made(sys::take(*fd).map_err(|error| ForwardError::Inherited(*fd, error))?));
    }
    Ok(listeners)
}

/// The listeners, and the connections that came in by them.
struct Forwarder {
    listeners: Vec<Listener>,
    conns: Vec<Conn>,
    most_connections: usize,
}

impl Forwarder {
    /// Opens the services that have begun to listen.
    fn open(&mut self) {
        self.listeners.iter_mut().for_each(Listener::open);
    }

    /// When it needs a turn without an event.
    fn timeout(&self) -> Option<u16> {
        let retry = self.conns.iter().any(Conn::is_timed).then_some(RETRY_MS);
        retry.or_else(|| self.listeners.iter().any(Listener::is_closed).then_some(SERVICE_MS))
    }

    /// Adds what it waits for: the listeners, where there is room for one more, then two descriptors a connection.
    fn watch(&self, fds: &mut Vec<libc::pollfd>) {
        let room = self.conns.len() < self.most_connections;
        fds.extend(self.listeners.iter().map(|l| watch(if room { l.as_raw_fd() } else { -1 }, libc::POLLIN)));
        fds.extend(self.conns.iter().flat_map(Conn::interest).map(|(fd, events)| watch(fd, events)));
    }

    /// One turn of everything that is ready, of what [`Forwarder::watch`] has added.
    fn step(&mut self, fds: &[libc::pollfd], scratch: &mut [u8]) {
        let Self { listeners, conns, most_connections } = self;
        let (heads, events) = fds.split_at(listeners.len());
        let mut events = events.chunks_exact(2);
        conns.retain_mut(|conn| {
            let ready = events.next().is_some_and(|pair| pair.iter().any(|fd| fd.revents != 0));
            !(ready || conn.is_timed()) || step(conn, listeners, scratch)
        });
        for (door, head) in heads.iter().enumerate() {
            if head.revents == 0 {
                continue;
            }
            while conns.len() < *most_connections {
                let Ok(client) = listeners[door].accept() else { break };
                let Ok(mut conn) = Conn::new(door, client) else { continue };
                if step(&mut conn, listeners, scratch) {
                    conns.push(conn);
                }
            }
        }
    }
}

/// Prints a line, in one piece. What it goes to may be full or gone, which must not end the guest's first process.
fn say(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// One turn of a connection; whether it goes on.
fn step(conn: &mut Conn, listeners: &mut [Listener], scratch: &mut [u8]) -> bool {
    let listener = &mut listeners[conn.door];
    match conn.step(&listener.target, scratch) {
        AfterTurn::Stay => true,
        AfterTurn::Close => false,
        AfterTurn::NoDoor => {
            if !listener.complained {
                say(&format!("nobody answers on {}", listener.target));
                listener.complained = true;
            }
            false
        }
    }
}
