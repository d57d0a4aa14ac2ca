//! The end of what was sent to each host last: a secret that is cut over two bodies is found with the second.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bottle_types::host::HostName;

/// So many hosts are kept; of more, those that nothing was sent to for the longest time are forgotten.
const HOSTS: usize = 256;

/// The ends, the last host first.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<VecDeque<(HostName, Vec<u8>)>>);

impl Windows {
    /// The end of what this host was sent last.
    pub(super) fn before(&self, host: &HostName) -> Vec<u8> {
        let hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().find(|(other, _)| other == host).map(|(_, tail)| tail.clone()).unwrap_or_default()
    }

    /// This host was sent something that ends so.
    pub(super) fn sent(&self, host: &HostName, tail: &[u8]) {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|(other, _)| other != host);
        hosts.push_front((host.clone(), tail.to_vec()));
        hosts.truncate(HOSTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hosts_are_kept() {
        let windows = Windows::default();
        let host = |number: usize| HostName::parse(&format!("h{number}.example")).expect("a name");
        for number in 0..HOSTS + 1 {
            windows.sent(&host(number), format!("end {number}").as_bytes());
        }
        assert_eq!(windows.before(&host(0)), b"");
        assert_eq!(windows.before(&host(1)), b"end 1");
        windows.sent(&host(1), b"other");
        assert_eq!(windows.before(&host(1)), b"other");
        assert_eq!(windows.0.lock().expect("a lock").len(), HOSTS);
    }
}
