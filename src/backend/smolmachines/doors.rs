//! The machine's neighbour: a sandbox with a network of its own, in which there is nothing but the doors at their address.
//!
//! smolvm's allow list is one of addresses: every port of an allowed address is open. So the machine's monitor is started in
//! this network, where that address has the doors and nothing else, and no other address is to be reached at all. Nobody
//! else on the host is in it either, nor anybody beyond.

use std::path::Path;
use std::time::Duration;

use bottle_plan::plan::{BottlePlan, TOOLS_DIR};
use bottle_types::door::DOORS_DIR;

use crate::backend::sandbox::{BwrapOptions, RunDir, Tools, etc as host_etc};

/// The sandbox's name in the run's directory.
pub(super) const NAME: &str = "doors";
/// How long the doors may take to listen.
pub(super) const LISTEN: Duration = Duration::from_secs(20);

/// What it sees: programs, and the doors' sockets. It is root in there, to give the address to its own loopback interface,
/// and has that one capability.
pub(super) fn sandbox(run_dir: &RunDir, tools: &Tools) -> BwrapOptions {
    let mut options = BwrapOptions::default();
    // The link is static and reads no settings: it has no /etc.
    host_etc::add(&mut options, "0", &[] as &[&str]);
    options.add(&["--unshare-net", "--as-pid-1", "--cap-drop", "ALL", "--cap-add", "CAP_NET_ADMIN"]);
    options.bind("--ro-bind", &run_dir.path("doors"), DOORS_DIR);
    options.bind("--ro-bind", &tools.link, &format!("{TOOLS_DIR}/bin/bottle-link"));
    options.add(&["--remount-ro", "/"]);
    options
}

/// The command that runs in it.
pub(super) fn init(plan: &BottlePlan) -> Vec<String> {
    let mut init = plan.guest.init.clone();
    init.push("--control".to_owned());
    init
}

/// The words before a command that is to run in the network of a process: as root, its network alone; as anybody else also
/// its user namespace, which owns that, and in that one more, where the user is themselves again.
pub(super) fn enter(pid: i32, user: u32, group: u32) -> Vec<String> {
    let target = format!("--target={pid}");
    let mut words: Vec<String> = ["nsenter", &target, "--net"].map(str::to_owned).to_vec();
    if user == 0 {
        words.push("--".to_owned());
        return words;
    }
    words.extend(["--user", "--preserve-credentials", "--", "unshare", "--user"].map(str::to_owned));
    words.extend([format!("--map-user={user}"), format!("--map-group={group}"), "--".to_owned()]);
    words
}

/// True if two processes are in one network.
pub(super) fn same_network(one: i32, other: i32) -> Result<bool, String> {
    let network = |pid: i32| {
        let path = format!("/proc/{pid}/ns/net");
        std::fs::read_link(Path::new(&path)).map_err(|error| format!("failed to read {path}: {error}"))
    };
    Ok(network(one)? == network(other)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_enters_without_a_user_namespace() {
        assert_eq!(enter(7, 0, 0), ["nsenter", "--target=7", "--net", "--"]);
        let words = enter(7, 1000, 1001).join(" ");
        assert!(words.ends_with("-- unshare --user --map-user=1000 --map-group=1001 --"), "{words}");
    }

    #[test]
    fn a_process_shares_its_own_network() {
        let own_pid = i32::try_from(std::process::id()).expect("a number");
        assert_eq!(same_network(own_pid, own_pid), Ok(true));
        assert!(same_network(own_pid, -1).is_err());
    }
}
