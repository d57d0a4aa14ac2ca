//! Which addresses may be dialled: public ones, and what a policy names.
//!
//! The ranges are those of IANA's special-purpose registries for IPv4 and IPv6, and the clouds' metadata services.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What kind of address it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Anyone's internet.
    Public,
    /// Public, and named as internal by the policy.
    Internal,
    /// This machine.
    Loopback,
    /// RFC 1918, unique local.
    Private,
    /// RFC 3927, `fe80::/10`.
    LinkLocal,
    /// RFC 6598, carrier-grade NAT.
    Shared,
    /// To many.
    Multicast,
    /// `0.0.0.0/8`, `::`.
    Unspecified,
    /// A cloud's metadata service.
    Metadata,
    /// Documentation, benchmarking, future use, broadcast and the like.
    Reserved,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Shared => "shared (CGNAT)",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Metadata => "metadata",
            Self::Reserved => "reserved",
        })
    }
}

/// Metadata services outside or inside other ranges: AWS, GCP and Azure; Alibaba; Oracle; Azure's wire server.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
/// AWS.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// What kind of address this is; an IPv6 address that carries an IPv4 one is at best what that one is.
pub fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

/// Why an address may not be dialled, or nothing where it may: it is public and in no `internal` network, or a network of
/// the list has it. A metadata service has to be listed by its full address; a network that happens to have it is not
/// enough.
pub fn refusal(address: IpAddr, allowed: &[IpNet], internal: &[IpNet]) -> Option<Class> {
    let address = address.to_canonical();
    let mut class = classify(address);
    let carried = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => carried(v6.segments()).or(isatap(v6.segments())).map(IpAddr::V4),
    };
    let inside = |network: &IpNet| network.contains(&address) || carried.is_some_and(|inner| network.contains(&inner));
    if class == Class::Public && internal.iter().any(inside) {
        class = Class::Internal;
    }
    let listed = allowed.iter().any(|network| {
        network.contains(&address) && (class != Class::Metadata || network.prefix_len() == network.max_prefix_len())
    });
    (class != Class::Public && !listed).then_some(class)
}

fn classify_v4(address: Ipv4Addr) -> Class {
    if METADATA_V4.contains(&address) {
        return Class::Metadata;
    }
    match address.octets() {
        [0, ..] => Class::Unspecified,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [169, 254, ..] => Class::LinkLocal,
        [100, 64..=127, ..] => Class::Shared,
        [192, 0, 0 | 2, _] | [198, 18..=19, ..] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => {
            Class::Reserved
        }
        [224..=239, ..] => Class::Multicast,
        [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    if address == METADATA_V6 {
        return Class::Metadata;
    }
    if address.is_loopback() {
        return Class::Loopback;
    }
    if address.is_unspecified() {
        return Class::Unspecified;
    }
    let segments = address.segments();
    if let Some(inner) = carried(segments) {
        return classify_v4(inner);
    }
    match segments {
        [0x64, 0xff9b, 1, ..] => Class::Private,
        [0x2001, 0x1..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] | [0x5f00, ..] => Class::Reserved,
        [0x100, 0, 0, 0 | 1, ..] => Class::Reserved,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Class::Private,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xff00..=0xffff, ..] => Class::Multicast,
        [0x2000..=0x3fff, ..] => isatap(segments).map_or(Class::Public, classify_v4),
        _ => Class::Reserved,
    }
}

/// The IPv4 address that an IPv6 one carries: mapped, compatible, translated (RFC 6052), 6to4, Teredo.
fn carried(segments: [u16; 8]) -> Option<Ipv4Addr> {
    Some(match segments {
        [0, 0, 0, 0, 0, 0xffff | 0, a, b] | [0, 0, 0, 0, 0xffff, 0, a, b] => v4(a, b),
        [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0x2002, a, b, ..] => v4(a, b),
        [0x2001, 0, .., a, b] => v4(!a, !b),
        _ => return None,
    })
}

/// ISATAP, below a prefix that may be anyone's.
fn isatap(segments: [u16; 8]) -> Option<Ipv4Addr> {
    match segments {
        [.., 0 | 0x200, 0x5efe, a, b] => Some(v4(a, b)),
        _ => None,
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_has_its_class() {
        for (text, class) in [
            ("1.1.1.1", Class::Public),
            ("172.32.0.1", Class::Public),
            ("100.128.0.1", Class::Public),
            ("0.0.0.0", Class::Unspecified),
            ("0.1.2.3", Class::Unspecified),
            ("10.0.0.1", Class::Private),
            ("127.0.0.1", Class::Loopback),
            ("127.255.255.254", Class::Loopback),
            ("172.16.0.1", Class::Private),
            ("172.31.255.255", Class::Private),
            ("192.168.1.1", Class::Private),
            ("169.254.1.1", Class::LinkLocal),
            ("169.254.169.254", Class::Metadata),
            ("100.100.100.200", Class::Metadata),
            ("168.63.129.16", Class::Metadata),
            ("100.64.0.1", Class::Shared),
            ("192.0.2.1", Class::Reserved),
            ("198.18.0.1", Class::Reserved),
            ("203.0.113.9", Class::Reserved),
            ("224.0.0.1", Class::Multicast),
            ("255.255.255.255", Class::Reserved),
            ("2606:4700::1111", Class::Public),
            ("::", Class::Unspecified),
            ("::1", Class::Loopback),
            ("::ffff:10.0.0.1", Class::Private),
            ("::ffff:1.1.1.1", Class::Public),
            ("::127.0.0.1", Class::Loopback),
            ("::ffff:0:10.0.0.1", Class::Private),
            ("64:ff9b::10.0.0.1", Class::Private),
            ("64:ff9b::a9fe:a9fe", Class::Metadata),
            ("64:ff9b:1::1", Class::Private),
            ("2002:7f00:1::", Class::Loopback),
            ("2001:0:0:0:0:0:f5ff:fffe", Class::Private),
            ("2606:4700::5efe:10.0.0.1", Class::Private),
            ("fc00::1", Class::Private),
            ("fd00:ec2::254", Class::Metadata),
            ("fe80::1", Class::LinkLocal),
            ("fec0::1", Class::Private),
            ("ff02::1", Class::Multicast),
            ("2001:db8::1", Class::Reserved),
            ("100::1", Class::Reserved),
            ("4000::1", Class::Reserved),
        ] {
            assert_eq!(classify(text.parse().expect(text)), class, "{text}");
        }
    }

    #[test]
    fn what_is_internal_is_refused_though_it_is_public() {
        let nets = |text: &[&str]| text.iter().map(|net| net.parse().expect("a network")).collect::<Vec<IpNet>>();
        let internal = nets(&["8.8.0.0/16", "2606:4700::/32"]);
        let refused = |text: &str, allowed: &[&str]| refusal(text.parse().expect(text), &nets(allowed), &internal);
        for text in ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::", "2606:4700::1111"] {
            assert_eq!(refused(text, &[]), Some(Class::Internal), "{text}");
        }
        assert_eq!(refused("8.9.8.8", &[]), None);
        assert_eq!(refused("8.8.8.8", &["8.8.8.0/24"]), None);
        assert_eq!(refused("8.8.9.8", &["8.8.8.0/24"]), Some(Class::Internal));
        assert_eq!(refused("10.0.0.1", &[]), Some(Class::Private));
    }

    #[test]
    fn a_list_opens_what_it_names() {
        let allowed = ["10.0.0.0/24", "169.254.0.0/16", "fd00::/8"].map(|net| net.parse().expect(net));
        let refused = |text: &str| refusal(text.parse().expect(text), &allowed, &[]);
        assert_eq!(refused("10.0.0.7"), None);
        assert_eq!(refused("::ffff:10.0.0.7"), None);
        assert_eq!(refused("10.0.1.7"), Some(Class::Private));
        assert_eq!(refused("169.254.3.4"), None);
        assert_eq!(refused("169.254.169.254"), Some(Class::Metadata));
        assert_eq!(refused("fd00:ec2::254"), Some(Class::Metadata));
        assert_eq!(refused("fd12::1"), None);
        assert_eq!(refused("8.8.8.8"), None);
        let exactly = ["169.254.169.254/32".parse().expect("a network")];
        assert_eq!(refusal("169.254.169.254".parse().expect("an address"), &exactly, &[]), None);
    }
}
