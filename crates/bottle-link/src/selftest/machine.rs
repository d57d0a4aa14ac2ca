//! A guest that is a machine of its own: it has an interface, and the monitor on the host decides what comes of its packets.
//!
//! Packets leave the guest whatever happens, so what is asked here is whether anything answers. The monitor refuses at once
//! what it does not allow; it may take a connection first and reset it then, and it takes all of them to port 53, as a name
//! service would. A door is what takes a connection and keeps it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Finding;
use super::packet::{QUERY, is_sealed, udp_to};
use crate::cli::ForwardedPort;

/// Under emulation, or beside much else, the monitor is slow to say no, also to a connection that it has taken already; longer
/// than this it has not said it.
const PATIENCE: Duration = Duration::from_secs(3);
/// So long all tries together wait beyond that, to ask again then: a host that still writes down the system that it unpacked
/// holds its monitor up for seconds, once. Less than the runner gives the whole self-test, so that what is open is said.
const MORE: Duration = Duration::from_secs(15);
/// So long a door keeps a connection before it counts as taken.
const KEPT: Duration = Duration::from_millis(500);
/// How long an answer to a datagram is waited for.
const ANSWER: Duration = Duration::from_millis(300);

/// Ports at which machines usually offer something. That nothing else of the host answers at the doors' address is also
/// tried at a port where the runner does listen, on all of the host's addresses.
const USUAL: [u16; 30] = [
    21, 22, 25, 53, 80, 111, 139, 443, 445, 631, 873, 2049, 2375, 2376, 3000, 3128, 3306, 5000, 5432, 5900, 6379, 6443,
    8000, 8080, 8443, 8888, 9000, 9090, 10250, 27017,
];

/// One interface of its own, no more.
pub(super) fn interfaces(up: &[String]) -> Finding {
    match up {
        [] => Err("no interface is up, so the doors can't be reached".to_owned()),
        [one] => Ok(format!("{one} is the machine's own")),
        more => Err(format!("there are other interfaces than the machine's own: {}", more.join(", "))),
    }
}

/// What comes of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// Nobody has taken it, or whoever did has ended it at once.
    No(String),
    /// Somebody keeps it, or has said something.
    Yes(&'static str),
}

fn take(to: SocketAddr, say: &[u8], kept: Duration) -> io::Result<Taken> {
    let mut stream = match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(stream) => stream,
        Err(error) if is_refusal(&error) => return Ok(Taken::No(error.to_string())),
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(kept))?;
    match stream.write_all(say).and_then(|()| stream.read(&mut [0; 512])) {
        Ok(0) => Ok(Taken::No("ended at once".to_owned())),
        Ok(_) => Ok(Taken::Yes("answered")),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(Taken::Yes("kept")),
        Err(error) if is_refusal(&error) => Ok(Taken::No(error.to_string())),
        Err(error) => Err(error),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    is_sealed(error)
        || matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Whether a door takes and keeps a connection.
pub(super) fn is_open(to: SocketAddr) -> io::Result<()> {
    match take(to, b"", KEPT)? {
        Taken::Yes(_) => Ok(()),
        Taken::No(how) => Err(io::Error::other(how)),
    }
}

pub(super) fn no_tcp(to: SocketAddr) -> Finding {
    if to.port() == 53 {
        return no_name_by_tcp(to);
    }
    static SPENT: AtomicU64 = AtomicU64::new(0);
    let begin = Instant::now();
    let first = not_taken(to, PATIENCE + MORE.saturating_sub(Duration::from_millis(SPENT.load(Ordering::Relaxed))));
    let beyond = begin.elapsed().saturating_sub(PATIENCE);
    SPENT.fetch_add(u64::try_from(beyond.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    if beyond.is_zero() || first.is_err() {
        return first;
    }
    // It was ended late: by a monitor that was held up, which says no at once now, or by a service that ends idle connections.
    not_taken(to, PATIENCE)
}

/// Whether nobody keeps a connection for so long.
fn not_taken(to: SocketAddr, patience: Duration) -> Finding {
    match take(to, b"", patience) {
        Ok(Taken::No(how)) => Ok(format!("connect {to}: {how}")),
        Ok(Taken::Yes(how)) => Err(format!("connect {to}: {how}")),
        Err(error) => Err(format!("connect {to}: {error}, which decides nothing")),
    }
}

/// The monitor may take this connection itself; what counts is whether it finds anything out.
fn no_name_by_tcp(to: SocketAddr) -> Finding {
    let length = u16::try_from(QUERY.len()).unwrap_or_default().to_be_bytes();
    let asked = TcpStream::connect_timeout(&to, PATIENCE).and_then(|mut stream| {
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(&[&length, QUERY].concat())?;
        let mut answer = [0; 514];
        let read = stream.read(&mut answer)?;
        Ok(answer[..read].get(2..).unwrap_or_default().to_vec())
    });
    judge(to, asked)
}

/// A name query that must not be answered.
pub(super) fn no_name(server: IpAddr) -> Finding {
    let to = SocketAddr::new(server, 53);
    judge(to, ask(to, QUERY))
}

/// A datagram that must not be answered; to a name server it is a query.
pub(super) fn no_udp(to: SocketAddr) -> Finding {
    if to.port() == 53 {
        return judge(to, ask(to, QUERY));
    }
    match ask(to, b"bottle") {
        Ok(_) => Err(format!("send to {to}: answered")),
        Err(error) => silent(to, &error),
    }
}

fn ask(to: SocketAddr, what: &[u8]) -> io::Result<Vec<u8>> {
    let socket = udp_to(to)?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.send(what)?;
    let mut answer = [0; 512];
    let read = socket.recv(&mut answer)?;
    Ok(answer[..read].to_vec())
}

/// An answer that has a name's address is one too many; one that says "no" is none.
fn judge(to: SocketAddr, answer: io::Result<Vec<u8>>) -> Finding {
    match answer {
        // RFC 1035, section 4.1.1: the code is the fourth byte's lower half, the number of answers the seventh and eighth.
        Ok(answer) => match answer.get(..8) {
            None if answer.is_empty() => Ok(format!("{to}: ended without an answer")),
            Some(head) if head[3] & 0x0f != 0 && head[6..8] == [0, 0] => {
                Ok(format!("{to}: refuses with code {}", head[3] & 0x0f))
            }
            _ => Err(format!("{to} answers name queries")),
        },
        Err(error) => silent(to, &error),
    }
}

fn silent(to: SocketAddr, error: &io::Error) -> Finding {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(format!("{to}: no answer")),
        _ if is_refusal(error) => Ok(format!("{to}: {error}")),
        _ => Err(format!("{to}: {error}, which decides nothing")),
    }
}

/// The allow list of a machine's monitor is one of addresses: behind the doors' own, only their ports may be open.
pub(super) fn no_other_ports(address: Ipv4Addr, doors: &[ForwardedPort]) -> Finding {
    let is_door = |port: u16| doors.iter().any(|door| door.port == port);
    let mut open = vec![];
    let others: Vec<u16> = USUAL.into_iter().filter(|port| !is_door(*port)).collect();
    for port in &others {
        let to = SocketAddr::from((address, *port));
        let finding = if *port == 53 { no_name_by_tcp(to) } else { no_tcp(to) };
        open.extend(finding.err());
    }
    if open.is_empty() {
        Ok(format!("{} usual ports of {address} tried, none is open", others.len()))
    } else {
        Err(open.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_keeps_a_connection_is_open_and_what_ends_it_is_not() {
        let keeps = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = keeps.local_addr().expect("an address");
        assert!(not_taken(to, KEPT).is_err());
        assert!(is_open(to).is_ok());
        let ends = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = ends.local_addr().expect("an address");
        let server = std::thread::spawn(move || drop(ends.accept()));
        assert!(no_tcp(to).is_ok());
        server.join().expect("ended");
        assert!(no_tcp(to).is_ok(), "nobody listens any more");
        assert!(is_open(to).is_err());
    }

    #[test]
    fn what_ends_a_connection_late_is_waited_for() {
        let late = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = late.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let taken = late.accept();
            std::thread::sleep(PATIENCE + KEPT);
            drop(taken);
        });
        assert!(no_tcp(to).is_ok());
        server.join().expect("ended");
    }

    #[test]
    fn a_service_that_ends_idle_connections_is_there() {
        let idle = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = idle.local_addr().expect("an address");
        std::thread::spawn(move || {
            for taken in idle.incoming() {
                std::thread::sleep(PATIENCE + KEPT);
                drop(taken);
            }
        });
        assert!(no_tcp(to).is_err());
    }

    #[test]
    fn an_answer_with_an_address_is_one_too_many() {
        let to = SocketAddr::from(([100, 96, 0, 1], 53));
        let head = |code: u8, answers: u8| Ok(vec![0x42, 0x42, 0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
        assert!(judge(to, head(0, 1)).is_err());
        assert!(judge(to, head(0, 0)).is_err(), "whoever says so may have asked");
        assert!(judge(to, head(3, 0)).is_ok() && judge(to, head(2, 0)).is_ok() && judge(to, head(5, 0)).is_ok());
        assert!(judge(to, Ok(vec![1, 2])).is_err());
        assert!(judge(to, Err(ErrorKind::WouldBlock.into())).is_ok());
    }

    #[test]
    fn a_second_interface_is_one_too_many() {
        assert!(interfaces(&["eth0".to_owned()]).is_ok());
        assert!(interfaces(&[]).is_err());
        assert!(interfaces(&["eth0".to_owned(), "eth1".to_owned()]).is_err());
    }
}
