//! The host's network interfaces, and its hosts file.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bottle_types::host::HostName;

/// The names of this machine's hosts file, the first address of each. Loopback is left out: in a container that is the container.
pub(crate) fn hosts_file() -> BTreeMap<HostName, IpAddr> {
    hosts_of(&std::fs::read_to_string("/etc/hosts").unwrap_or_default())
}

fn hosts_of(text: &str) -> BTreeMap<HostName, IpAddr> {
    let mut hosts = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        let is_own = address.is_loopback() || address.is_unspecified() || address.is_multicast();
        for name in words.filter(|_| !is_own).filter_map(|word| HostName::parse(word).ok()) {
            hosts.entry(name).or_insert(address);
        }
    }
    hosts
}

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

    #[test]
    fn a_hosts_file_is_read() {
        let text = "127.0.0.1 localhost\n::1 ip6-localhost\nff02::1 ip6-allnodes\n# 10.0.0.1 old.home\n\
                    10.0.0.2\tgit.home GIT # the box\n10.0.0.3 git.home\n2001:db8::2 six.home\n127.0.1.1 me\nbad line\n";
        let hosts = hosts_of(text);
        let shown: Vec<String> = hosts.iter().map(|(name, address)| format!("{name} {address}")).collect();
        assert_eq!(shown, ["git 10.0.0.2", "git.home 10.0.0.2", "six.home 2001:db8::2"]);
    }
}
