//! A process of this machine by its number and its start, so that a later one with the same number is not taken for it.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process of this machine, told from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::backend) struct ProcessId {
    pid: i32,
    /// When it started, in ticks since boot.
    since: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub(in crate::backend) fn now(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before may hold anything, spaces and brackets too.
        let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
        let state = fields.next()?;
        let since = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid, since })
    }

    pub(in crate::backend) fn is_alive(self) -> bool {
        Self::now(self.pid) == Some(self)
    }

    /// Ends it, and with it all of its sandbox.
    pub(in crate::backend) fn kill(self) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may have ended by itself since.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_the_next_of_its_number() {
        let this_process = ProcessId::now(i32::try_from(std::process::id()).expect("a number")).expect("this process");
        assert!(this_process.is_alive());
        assert!(!ProcessId { since: this_process.since + 1, ..this_process }.is_alive());
    }
}
