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

/// The addresses of this machine's interfaces, loopback left out.
pub(crate) fn own_addresses() -> Vec<std::net::IpAddr> {
    let mut addresses = vec![];
    // Each entry of the local table is an address of this machine: `/32 host LOCAL` below the address's own line.
    let trie = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut last = None;
    for line in trie.lines() {
        if let Some(address) = line.trim_start().strip_prefix("|-- ") {
            last = address.trim().parse::<std::net::Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(address) = last
            && !address.is_loopback()
        {
            addresses.push(std::net::IpAddr::V4(address));
        }
    }
    let six = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    for line in six.lines() {
        let digits = line.split_whitespace().next().unwrap_or_default();
        if let Ok(number) = u128::from_str_radix(digits, 16) {
            let address = std::net::Ipv6Addr::from(number);
            // A link-local address means nothing without an interface to name.
            if !address.is_loopback() && !address.is_unicast_link_local() {
                addresses.push(address.into());
            }
        }
    }
    addresses.sort();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_is_read() {
        let text = "127.0.0.1 localhost\n::1 ip6-localhost\nff02::1 ip6-allnodes\n# 10.0.0.1 old.home\n\
                    10.0.0.2\tgit.home GIT # the box\n10.0.0.3 git.home\n2001:db8::2 six.home\n127.0.1.1 me\nbad line\n";
        let hosts = hosts_of(text);
        let shown: Vec<String> = hosts.iter().map(|(name, address)| format!("{name} {address}")).collect();
        assert_eq!(shown, ["git 10.0.0.2", "git.home 10.0.0.2", "six.home 2001:db8::2"]);
    }
}
