//! The host's network interfaces.

use std::net::IpAddr;

/// The addresses of this machine's interfaces, without loopback and without those that mean nothing on their own.
pub(crate) fn own_addresses() -> std::io::Result<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs()?;
    let mut addresses: Vec<IpAddr> =
        interfaces.iter().map(if_addrs::Interface::ip).filter(|address| is_reachable(*address)).collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// Tells whether a peer may reach the address by its number alone: an IPv6 link-local one needs an interface to name.
fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_mean_something_alone() {
        for (text, expected) in [
            ("127.0.0.1", false),
            ("127.1.2.3", false),
            ("::1", false),
            ("fe80::1", false),
            ("10.0.0.1", true),
            ("169.254.1.1", true),
            ("fd00::1", true),
            ("2001:db8::1", true),
        ] {
            assert_eq!(is_reachable(text.parse().expect("an address")), expected, "{text}");
        }
        let own = own_addresses().expect("the interfaces of this machine");
        assert!(own.iter().all(|address| is_reachable(*address)), "{own:?}");
    }
}
