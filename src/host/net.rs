//! The host's network interfaces.

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
