//! What the agent's sandbox sees: the host's programs, and the run's own directories.

use std::fs;
use std::io;
use std::path::Path;

use bottle_plan::plan::{BottlePlan, TOOLS_DIR};
use bottle_policy::door::{DOORS_DIR, Door};

use crate::backend::host_bundle::{Options, Place, Tools, Users, system};

/// Where local authorities are put for `update-ca-certificates`.
const LOCAL_CAS: &str = "/usr/local/share/ca-certificates";
/// Makes its directories. On failure what there is stays for whoever removes the run.
pub(super) fn make(place: &Place, plan: &BottlePlan, users: Users) -> io::Result<()> {
    place.directory("guest", 0o755, None)?;
    for (name, mode) in [("home", 0o755), ("workspace", 0o755), ("tmp", 0o1777), ("vartmp", 0o1777)] {
        place.directory(&format!("guest/{name}"), mode, users.guest)?;
    }
    make_etc(place, plan, users.setup)
}

fn make_etc(place: &Place, plan: &BottlePlan, owner: Option<u32>) -> io::Result<()> {
    let guest = &plan.guest;
    system::make_etc(place, "guest-etc", "files", owner)?;
    let (uid, gid, home) = (guest.uid, guest.gid, &guest.home);
    let write = |name: &str, text: &str| place.write(&format!("guest-etc/{name}"), text.as_bytes(), owner).map(drop);
    write("passwd", &format!("root:x:0:0:root:/root:/bin/sh\nnode:x:{uid}:{gid}::{home}:/bin/sh\n"))?;
    write("group", &format!("root:x:0:\nnode:x:{gid}:\n"))?;
    let doors: Vec<String> = Door::ALL.iter().map(|door| format!("127.0.0.1 {}\n", door.name())).collect();
    write("hosts", &format!("127.0.0.1 localhost\n::1 localhost\n{}", doors.concat()))?;
    write("resolv.conf", "")?;
    // No public authority is trusted: a certificate of one could only mean that something went round the doors. What is not
    // listed is off, and a line for each would cost a process for each.
    write("ca-certificates.conf", "# no public authority\n")?;
    for directory in
        ["guest-etc/ssl", "guest-etc/ssl/certs", "guest-etc/ca-certificates", "guest-etc/ca-certificates/update.d"]
    {
        place.directory(directory, 0o755, owner)?;
    }
    if let Ok(settings) = fs::read("/etc/ssl/openssl.cnf") {
        place.write("guest-etc/ssl/openssl.cnf", &settings, owner)?;
    }
    place.directory("guest-cas", 0o755, owner).map(drop)
}

/// The agent's: no network, the doors' sockets, its own home and workspace for writing.
pub(super) fn guest(place: &Place, plan: &BottlePlan, tools: &Tools) -> Options {
    let guest = &plan.guest;
    let mut options = Options::default();
    system::add(&mut options, &guest.uid.to_string());
    options.add(&["--unshare-net", "--as-pid-1"]);
    options.bind("--ro-bind", &place.path("guest-etc"), "/etc");
    local_cas(&mut options, place, "--ro-bind");
    for (name, to) in [("home", &*guest.home), ("workspace", &guest.root), ("tmp", "/tmp"), ("vartmp", "/var/tmp")] {
        options.bind("--bind", &place.path(&format!("guest/{name}")), to);
    }
    options.bind("--ro-bind", &place.path("doors"), DOORS_DIR);
    options.bind("--ro-bind", &tools.claude, &format!("{TOOLS_DIR}/bin/claude"));
    options.bind("--ro-bind", &tools.link, &format!("{TOOLS_DIR}/bin/bottle-link"));
    options
}

/// The same system with its /etc for writing, and nothing else: what sets up what the agent can't change.
pub(super) fn setup(place: &Place) -> Options {
    let mut options = Options::default();
    system::add(&mut options, "0");
    options.add(&["--unshare-net", "--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin"]);
    options.bind("--bind", &place.path("guest-etc"), "/etc");
    local_cas(&mut options, place, "--bind");
    options.add(&["--tmpfs", "/tmp"]);
    options
}

fn local_cas(options: &mut Options, place: &Place, how: &str) {
    // Where the host has no such directory nothing can be bound there, and no program looks there.
    if Path::new(LOCAL_CAS).is_dir() {
        options.bind(how, &place.path("guest-cas"), LOCAL_CAS);
    }
}
