//! Who the sandboxes are on the host: the runner's own user, or, where that is root, users that are nobody else's.

use super::run_dir;

/// The user nobody, for a sandbox that nothing runs in.
pub(in crate::backend) const NOBODY: u32 = 65534;
/// Where no package and no administrator gives out numbers.
const HIGH: u32 = 0x7000_0000;
/// For a container that has 65536 users: systemd's dynamic ones.
const LOW: u32 = 61184;

/// The users of one run; none: the runner's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::backend) struct Users {
    pub(in crate::backend) guest: Option<u32>,
    pub(in crate::backend) bundle: Option<u32>,
    /// What sets up the guest's system, which the agent can't change.
    pub(in crate::backend) setup: Option<u32>,
    pub(in crate::backend) service: Option<u32>,
}

impl Users {
    /// Those of a run, four numbers that follow from its slug.
    pub(in crate::backend) fn for_run(slug: &str) -> Self {
        if !run_dir::is_root() {
            return Self::default();
        }
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Self::numbered(slug, has_all(&map))
    }

    fn numbered(slug: &str, all: bool) -> Self {
        // The slug ends with hex digits of its own.
        let seed = slug.rsplit('-').next().and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
        let first = if all { HIGH + 4 * (seed & 0x00ff_ffff) } else { LOW + 4 * (seed % 1050) };
        Self { guest: Some(first), bundle: Some(first + 1), setup: Some(first + 2), service: Some(first + 3) }
    }
}

/// True if this user namespace has every number.
fn has_all(uid_map: &str) -> bool {
    uid_map
        .split_whitespace()
        .nth(2)
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: u64| length > u64::from(HIGH) * 2)
}

/// The command before a command that makes it another user's.
pub(in crate::backend) fn become_user(id: u32) -> Vec<String> {
    let id = id.to_string();
    ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all", "--"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_numbers_of_its_own() {
        assert!(has_all("         0          0 4294967295\n"));
        assert!(!has_all("0 100000 65536\n"));
        let (one, other) = (Users::numbered("task-0000000a", true), Users::numbered("task-0000000b", true));
        assert_eq!(one.guest, Some(HIGH + 40));
        assert_eq!(other.guest, Some(HIGH + 44));
        assert!(Users::numbered("x-ffffffff", false).service.is_some_and(|id| id < 65519));
    }
}
