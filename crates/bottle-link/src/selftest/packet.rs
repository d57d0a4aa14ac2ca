//! Sends packets, for a guest of either kind: a datagram's socket, a name query, and the errors by which no packet left.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Only a broken seal waits this long, for each address.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// A query for `example.com`, type A, class IN (RFC 1035, section 4.1).
pub(super) const QUERY: &[u8] =
    b"\x42\x42\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";

/// Whether an error says that no packet left. A refusal or a time-out says the opposite.
pub(super) fn is_sealed(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::EADDRNOTAVAIL
                | libc::EAFNOSUPPORT
                | libc::EPERM
                | libc::EACCES
                | libc::ENODEV
        )
    )
}

/// A socket that sends datagrams to this address alone.
pub(super) fn udp_to(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_refusal_is_an_answer() {
        let error = io::Error::from_raw_os_error;
        assert!(is_sealed(&error(libc::ENETUNREACH)) && is_sealed(&error(libc::EPERM)));
        assert!(!is_sealed(&error(libc::ECONNREFUSED)) && !is_sealed(&error(libc::ETIMEDOUT)));
        assert!(!is_sealed(&io::Error::from(ErrorKind::TimedOut)));
    }
}
