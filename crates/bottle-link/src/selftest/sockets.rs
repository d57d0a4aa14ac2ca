//! Socket families: unix, inet, inet6 and route netlink may be opened, everything else must be refused by name.

use super::{Case, Finding, all, case};
use crate::sys;

const ALLOWED: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// With cases of their own.
const NAMED: [libc::c_int; 2] = [libc::AF_PACKET, libc::AF_VSOCK];
/// One above the highest family that a current kernel knows (AF_MCTP, 45), and then some: a newer kernel has more.
const FAMILIES: libc::c_int = 64;
const TYPES: [libc::c_int; 5] =
    [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET, libc::SOCK_RDM];
/// `SOCK_PACKET`, the older way to AF_PACKET; libc marks its name as deprecated.
const SOCK_PACKET: libc::c_int = 10;
/// Netlink protocols run from 0 (route) to 31.
const NETLINKS: libc::c_int = 32;

pub(super) fn cases() -> Vec<Case<'static>> {
    vec![
        case("socket.raw", || {
            all([libc::IPPROTO_RAW, libc::IPPROTO_ICMP].map(|p| refused(libc::AF_INET, libc::SOCK_RAW, p)))
        }),
        case("socket.raw6", || {
            all([libc::IPPROTO_RAW, libc::IPPROTO_ICMPV6].map(|p| refused(libc::AF_INET6, libc::SOCK_RAW, p)))
        }),
        case("socket.packet", || {
            let every_protocol = libc::c_int::from((libc::ETH_P_ALL as u16).to_be());
            let mut findings = vec![refused(libc::AF_INET, SOCK_PACKET, every_protocol)];
            findings
                .extend([libc::SOCK_RAW, libc::SOCK_DGRAM].map(|kind| refused(libc::AF_PACKET, kind, every_protocol)));
            all(findings)
        }),
        case("socket.vsock", || all(TYPES.map(|kind| refused(libc::AF_VSOCK, kind, 0)))),
        case("socket.netlink", || {
            let mut count = 0;
            for protocol in (0..NETLINKS).filter(|protocol| *protocol != libc::NETLINK_ROUTE) {
                for kind in [libc::SOCK_RAW, libc::SOCK_DGRAM] {
                    match sys::socket(libc::AF_NETLINK, kind, protocol) {
                        Ok(_) => return Err(format!("netlink protocol {protocol} can be opened")),
                        Err(_) => count += 1,
                    }
                }
            }
            Ok(format!("{count} kinds of netlink refused"))
        }),
        case("socket.other", || {
            let mut count = 0;
            for family in (0..FAMILIES).filter(|family| !ALLOWED.contains(family) && !NAMED.contains(family)) {
                for kind in TYPES {
                    refused(family, kind, 0)?;
                }
                count += 1;
            }
            Ok(format!("{count} families refused"))
        }),
    ]
}

/// A family that is there but has no such type says so by another error, and is there.
fn refused(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> Finding {
    let what = format!("socket({family}, {kind}, {protocol})");
    match sys::socket(family, kind, protocol) {
        Ok(_) => Err(format!("{what} can be opened")),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EAFNOSUPPORT)) => {
            Ok(format!("{what}: {error}"))
        }
        Err(error) => Err(format!("{what}: {error}, so the family is there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_family_is_seen() {
        assert!(refused(libc::AF_INET, libc::SOCK_STREAM, 0).is_err());
        assert!(refused(libc::AF_INET, libc::SOCK_SEQPACKET, 0).is_err(), "the type is refused, the family is there");
        assert!(refused(63, libc::SOCK_STREAM, 0).is_ok());
    }
}
