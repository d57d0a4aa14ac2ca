//! Interfaces, routes, addresses, names: nothing but loopback may be there, answer, or be asked. A machine of its own has an
//! interface and a route, and its monitor on the host says no: there, nothing may answer.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use super::packet::{PATIENCE, QUERY, is_sealed, udp_to};
use super::{Case, Finding, all, case, machine, read};
use crate::cli::Selftest;
use crate::sys;

const PUBLIC4: [(&str, u16); 2] = [("1.1.1.1", 443), ("8.8.8.8", 53)];
const PUBLIC6: [(&str, u16); 2] = [("2606:4700:4700::1111", 443), ("2001:4860:4860::8888", 53)];
/// Docker's own gateways, common LANs, carrier-grade NAT, link-local.
const PRIVATE: [(&str, u16); 8] = [
    ("10.0.0.1", 80),
    ("10.0.2.2", 80),
    ("172.17.0.1", 80),
    ("172.18.0.1", 80),
    ("192.168.0.1", 80),
    ("192.168.65.2", 80),
    ("100.96.0.1", 80),
    ("fd00::1", 80),
];
const METADATA: [(&str, u16); 3] = [("169.254.169.254", 80), ("169.254.170.2", 80), ("fd00:ec2::254", 80)];

/// Cases that only read.
pub(super) fn quiet_cases(options: &Selftest) -> Vec<Case<'_>> {
    vec![
        case("net.interfaces", || match options.machine {
            Some(_) => machine::interfaces(&up_interfaces()?),
            None => no_network(),
        }),
        case("net.loopback", || listeners(options)),
        case("dns.hosts", || hosts_file(&read("/etc/hosts")?)),
    ]
}

/// No interface but loopback, and no route by another.
pub(super) fn no_network() -> Finding {
    all([interfaces(), routes4(), routes6()])
}

/// Cases that send.
pub(super) fn cases(options: &Selftest) -> Vec<Case<'_>> {
    let is_machine = options.machine.is_some();
    let no_tcp = if is_machine { machine::no_tcp } else { no_tcp };
    let no_udp = if is_machine { machine::no_udp } else { no_udp };
    let mut cases = vec![
        case("net.tcp4", move || all(PUBLIC4.map(|to| no_tcp(address(to))))),
        case("net.tcp6", move || all(PUBLIC6.map(|to| no_tcp(address(to))))),
        case("net.udp4", move || all(PUBLIC4.map(|to| no_udp(address(to))))),
        case("net.udp6", move || all(PUBLIC6.map(|to| no_udp(address(to))))),
        case("net.private", move || all(PRIVATE.map(|to| no_tcp(address(to))))),
        case("net.metadata", move || all(METADATA.map(|to| no_tcp(address(to))))),
    ];
    if !is_machine {
        // A machine's own link takes them and goes no further than its monitor.
        cases.push(case("net.broadcast", no_broadcast));
    }
    for host in options.host_addresses.iter().filter(|host| !options.allow.contains(&host.ip())) {
        cases.push(case(format!("net.host.{host}"), move || no_tcp(*host)));
    }
    if let Some(address) = options.machine {
        cases.push(case("net.other_ports", move || machine::no_other_ports(address, &options.doors)));
    }
    let no_name = if is_machine { machine::no_name } else { no_answer };
    cases.push(case("dns.udp", move || all(name_servers().into_iter().map(no_name))));
    cases.push(case("dns.tcp", move || {
        all(name_servers().into_iter().map(|server| no_tcp(SocketAddr::new(server, 53))))
    }));
    cases
}

fn address((ip, port): (&str, u16)) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap_or(IpAddr::V4(Ipv4Addr::BROADCAST)), port)
}

fn no_tcp(to: SocketAddr) -> Finding {
    if let IpAddr::V6(ip) = to.ip()
        && ip.is_unicast_link_local()
        && interface_names()?.iter().all(|name| name == "lo")
    {
        return Ok(format!("connect {to}: no interface that a link-local address could be on"));
    }
    match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(_) => Err(format!("connect {to}: connected")),
        Err(error) if is_sealed(&error) => Ok(format!("connect {to}: {error}")),
        // On its own loopback the guest answers itself.
        Err(error) if to.ip().is_loopback() && error.kind() == ErrorKind::ConnectionRefused => {
            Ok(format!("connect {to}: {error}"))
        }
        Err(error) => Err(format!("connect {to}: {error}, so packets leave")),
    }
}

fn no_udp(to: SocketAddr) -> Finding {
    match udp_to(to).and_then(|socket| socket.send(b"bottle")) {
        Ok(_) => Err(format!("send to {to}: sent")),
        Err(error) if is_sealed(&error) => Ok(format!("send to {to}: {error}")),
        Err(error) => Err(format!("send to {to}: {error}, which decides nothing")),
    }
}

fn no_broadcast() -> Finding {
    let send = |to: &str| {
        let result = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.set_broadcast(true)?;
            socket.send_to(b"bottle", to)
        });
        match result {
            Ok(_) => Err(format!("send to {to}: sent")),
            Err(error) if is_sealed(&error) => Ok(format!("send to {to}: {error}")),
            Err(error) => Err(format!("send to {to}: {error}, which decides nothing")),
        }
    };
    all(["255.255.255.255:9", "224.0.0.251:9", "239.255.255.250:9"].map(send))
}

/// The servers in /etc/resolv.conf, and those that are asked without being named there.
fn name_servers() -> Vec<IpAddr> {
    let mut servers = vec![[127, 0, 0, 1], [127, 0, 0, 11], [127, 0, 0, 53]].into_iter().map(IpAddr::from).collect();
    parse_name_servers(&read("/etc/resolv.conf").unwrap_or_default(), &mut servers);
    servers
}

fn parse_name_servers(text: &str, servers: &mut Vec<IpAddr>) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver")
            && let Some(ip) = words.next().and_then(|ip| ip.split('%').next()?.parse().ok())
            && !servers.contains(&ip)
        {
            servers.push(ip);
        }
    }
}

fn no_answer(server: IpAddr) -> Finding {
    let to = SocketAddr::new(server, 53);
    let answer = udp_to(to).and_then(|socket| {
        socket.send(QUERY)?;
        socket.recv(&mut [0; 512])
    });
    match answer {
        Ok(_) => Err(format!("{server} answers name queries")),
        Err(error) if is_sealed(&error) => Ok(format!("{server}: {error}")),
        Err(error) if server.is_loopback() && error.kind() == ErrorKind::ConnectionRefused => {
            Ok(format!("{server}: {error}"))
        }
        Err(error) => Err(format!("{server}: {error}, so a query left")),
    }
}

fn interface_names() -> Result<Vec<String>, String> {
    // Two sources: sysfs can be of another network namespace, where a runtime mounted it too early.
    let mut names = vec![];
    let listed = match fs::read_dir("/sys/class/net") {
        Ok(listed) => Some(listed),
        // No sysfs in here at all: then it can't be another namespace's.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(format!("failed to read /sys/class/net: {error}")),
    };
    for entry in listed.into_iter().flatten() {
        let entry = entry.map_err(|error| format!("failed to read /sys/class/net: {error}"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A file of the bonding module, not an interface.
        if name != "bonding_masters" {
            names.push(name);
        }
    }
    for line in read("/proc/net/dev")?.lines().skip(2) {
        let name = line.split(':').next().unwrap_or_default().trim().to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Devices that kernel modules put, down, into every network namespace.
const FALLBACK_DEVICES: [&str; 11] = [
    "tunl0",
    "gre0",
    "gretap0",
    "erspan0",
    "ip_vti0",
    "ip6_vti0",
    "sit0",
    "ip6tnl0",
    "ip6gre0",
    "ip6gretap0",
    "rmnet0",
];

/// Whether an interface is up; one whose flags can't be read counts as up.
fn is_up(name: &str) -> bool {
    sys::interface_flags(name).map_or(true, |flags| flags & libc::IFF_UP != 0)
}

/// The interfaces other than lo that are up.
fn up_interfaces() -> Result<Vec<String>, String> {
    Ok(interface_names()?.into_iter().filter(|name| name != "lo" && is_up(name)).collect())
}

fn interfaces() -> Finding {
    let names = interface_names()?;
    if !names.iter().any(|name| name == "lo") {
        return Err("no loopback interface".to_owned());
    }
    let others: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != "lo").collect();
    let open: Vec<&str> =
        others.iter().copied().filter(|name| !FALLBACK_DEVICES.contains(name) || is_up(name)).collect();
    if open.is_empty() {
        Ok("only lo is up".to_owned())
    } else {
        Err(format!("there are other interfaces than lo: {}", open.join(", ")))
    }
}

fn routes4() -> Finding {
    match read("/proc/net/route")?.lines().skip(1).find(|line| !line.trim().is_empty()) {
        None => Ok("no IPv4 route".to_owned()),
        Some(route) => {
            Err(format!("IPv4 route: {}", route.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")))
        }
    }
}

fn routes6() -> Finding {
    if fs::metadata("/proc/net/if_inet6").is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok("no IPv6".to_owned());
    }
    match foreign_route6(&read("/proc/net/ipv6_route")?) {
        None => Ok("no IPv6 route".to_owned()),
        Some(route) => Err(format!("IPv6 route: {route}")),
    }
}

/// The first route by another device than lo; columns are those of the kernel's `rt6_info_route`.
fn foreign_route6(text: &str) -> Option<&str> {
    text.lines().find(|line| line.split_ascii_whitespace().next_back().is_some_and(|device| device != "lo"))
}

fn listeners(options: &Selftest) -> Finding {
    let mut foreign = vec![];
    for (kind, path) in
        [("tcp", "/proc/net/tcp"), ("tcp", "/proc/net/tcp6"), ("udp", "/proc/net/udp"), ("udp", "/proc/net/udp6")]
    {
        if path.ends_with('6') && fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            continue;
        }
        for local in open_ports(&read(path)?, kind == "tcp") {
            let ours = |port: u16| options.machine.is_none() && options.doors.iter().any(|door| door.port == port);
            match local.rsplit_once(':').map(|(ip, port)| (ip, u16::from_str_radix(port, 16))) {
                // 127.0.0.1 as the kernel prints it, on either kind of machine.
                Some(("0100007F" | "7F000001", Ok(port))) if kind == "tcp" && ours(port) => {}
                Some((ip, Ok(port))) => foreign.push(format!("{kind} {ip}:{port}")),
                _ => foreign.push(format!("{kind} {local}")),
            }
        }
    }
    if foreign.is_empty() {
        Ok("nothing listens but the doors".to_owned())
    } else {
        Err(format!("other listeners than the doors: {}", foreign.join(", ")))
    }
}

/// Local addresses, in hex as the kernel gives them, of TCP listeners (state 0A) or of all UDP sockets.
fn open_ports(table: &str, tcp: bool) -> Vec<&str> {
    let row = |line: &'_ str| -> Option<(usize, usize)> {
        let columns: Vec<&str> = line.split_ascii_whitespace().take(4).collect();
        let [_, local, _, state] = columns[..] else { return None };
        let at = local.as_ptr() as usize - line.as_ptr() as usize;
        (!tcp || state == "0A").then_some((at, at + local.len()))
    };
    table.lines().skip(1).filter_map(|line| row(line).map(|(from, to)| &line[from..to])).collect()
}

/// What is neither loopback nor one of the multicast names that Docker writes into every hosts file.
fn hosts_file(text: &str) -> Finding {
    let foreign: Vec<&str> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| {
            let word = line.split_ascii_whitespace().next().unwrap_or_default();
            match word.parse() {
                Ok(IpAddr::V4(ip)) => !ip.is_loopback(),
                Ok(IpAddr::V6(ip)) => {
                    !ip.is_loopback() && !ip.is_multicast() && ip != Ipv6Addr::new(0xfe00, 0, 0, 0, 0, 0, 0, 0)
                }
                Err(_) => !line.is_empty(),
            }
        })
        .collect();
    if foreign.is_empty() {
        Ok("/etc/hosts names loopback alone".to_owned())
    } else {
        Err(format!("/etc/hosts names others: {}", foreign.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_beyond_loopback_are_seen() {
        assert!(hosts_file("127.0.0.1 localhost egress\n::1 ip6\nfe00::0 n\nff02::1 all\n# 1.2.3.4 x\n\n").is_ok());
        for line in ["172.17.0.1 host.docker.internal", "fd00::1 x", "fe80::1 x", "nonsense", "0.0.0.0 x"] {
            assert!(hosts_file(line).is_err(), "{line}");
        }
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        let tcp = "  sl  local_address rem_address   st\n   0: 0100007F:22B9 00000000:0000 0A 0\n   1: 0B00007F:0035 00000000:0000 0A\n   2: 0100007F:8000 0100007F:22B9 01\n";
        assert_eq!(open_ports(tcp, true), ["0100007F:22B9", "0B00007F:0035"]);
        assert_eq!(open_ports(tcp, false).len(), 3);
        let lo = "00000000000000000000000000000001 80 0 00 0 00 0 0 0 80200001       lo\n";
        assert_eq!(foreign_route6(lo), None);
        assert!(foreign_route6(&format!("{lo}fe80 40 0 00 0 00 0 0 0 1     eth0\n")).is_some());
        let mut servers = vec![];
        parse_name_servers("search x\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nnameserver x\n", &mut servers);
        assert_eq!(servers.len(), 2);
    }
}
