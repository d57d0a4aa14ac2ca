//! The step between fork and a sidecar: `supervisor --exec-as 2001:2001:2000 -- COMMAND`. A process of its own, because
//! what has to happen after fork would need unsafe code in the supervisor, and here needs none.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::str::FromStr;

use bottle_policy::bundle::User;
use rustix::process::{Gid, Pid, Signal, Uid, geteuid, getppid, set_parent_process_death_signal};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::error::InitError;

/// Whose child this is, and who it becomes: `PARENT` or `PARENT:UID:GROUP,GROUP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) parent: i32,
    pub(super) user: Option<User>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.parent)?;
        if let Some(user) = &self.user {
            let groups: Vec<String> = user.groups.iter().map(u32::to_string).collect();
            write!(f, ":{}:{}", user.id, groups.join(","))?;
        }
        Ok(())
    }
}

impl FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is not a number"));
        let mut parts = text.split(':');
        let parent = parts.next().and_then(|pid| pid.parse().ok()).ok_or("a process id comes first")?;
        let user = match (parts.next(), parts.next(), parts.next()) {
            (None, None, None) => None,
            (Some(id), Some(groups), None) => {
                let groups =
                    groups.split(',').filter(|group| !group.is_empty()).map(number).collect::<Result<_, _>>()?;
                Some(User { id: number(id)?, groups })
            }
            _ => return Err("an identity is PARENT or PARENT:UID:GROUPS".to_owned()),
        };
        Ok(Self { parent, user })
    }
}

impl Identity {
    #[expect(clippy::disallowed_methods, reason = "nothing is started here: this process becomes the command")]
    /// Becomes the user and runs the command in place of this process; returns only if that fails.
    pub(super) fn exec(&self, command: &[OsString]) -> Result<(), InitError> {
        if let Some(user) = &self.user {
            become_user(user).map_err(|error| InitError::Identity { id: user.id, error })?;
        }
        let start = |error| InitError::Start { what: "a sidecar".to_owned(), error };
        // After the change of user, which resets it.
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| start(error.into()))?;
        // The supervisor may have died before that.
        if getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(self.parent) {
            return Err(start(io::Error::other("the supervisor has gone")));
        }
        let Some((program, args)) = command.split_first() else {
            return Err(start(io::ErrorKind::InvalidInput.into()));
        };
        Err(start(Command::new(program).args(args).exec()))
    }
}

/// This process has one thread, so the thread's identity is the process's.
fn become_user(user: &User) -> io::Result<()> {
    // A number of all ones means "leave it as it is" to the kernel.
    if user.id == 0 || user.id == u32::MAX || user.groups.iter().any(|group| matches!(*group, 0 | u32::MAX)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let gid = Gid::from_raw(user.id);
    let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups)?;
    set_thread_gid(gid)?;
    set_thread_uid(Uid::from_raw(user.id))?;
    if geteuid().as_raw() != user.id {
        return Err(io::Error::other("the kernel left the user as it was"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_as_it_prints() {
        for text in ["1", "1:2001:", "7:2002:2000", "7:2002:2000,2005"] {
            assert_eq!(text.parse::<Identity>().map(|identity| identity.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "x", "1:2001", "1:-1:", "1:2001:x", "1:2:3:4"] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }

    #[test]
    fn nobody_becomes_root() {
        for user in
            [User { id: 0, groups: vec![] }, User { id: 7, groups: vec![0] }, User { id: u32::MAX, groups: vec![] }]
        {
            assert!(become_user(&user).is_err(), "{user:?}");
        }
    }
}
