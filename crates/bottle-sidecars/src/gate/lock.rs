//! The one lock of a mirror, under which refs are fetched, pushes forwarded and refs moved.

use std::fs::File;
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use bottle_policy::gate::RepoName;
use rustix::fs::FlockOperation;

use super::dirs::GateDirs;
use super::sweep;

/// How long to wait for another fetch or push of the same mirror.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);

/// A held lock. The lock file keeps a mark until the holder has finished, which a killed process never does.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Waits for the lock, which ends with the process. The leftovers of a holder that was killed are gone afterwards.
    pub(super) fn wait_for(gate: &GateDirs, name: &RepoName) -> Result<Self, String> {
        let path = gate.private_path("locks").join(name.as_str());
        let say = |error: &dyn std::fmt::Display| format!("failed to lock the mirror of {name}: {error}");
        let file = File::options().create(true).append(true).open(&path).map_err(|error| say(&error))?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let begin = || {
                        if file.metadata()?.len() > 0 {
                            sweep::after_a_killed_holder(&gate.mirror(name));
                        }
                        file.set_len(0)?;
                        (&file).write_all(b"held")
                    };
                    begin().map_err(|error| say(&error))?;
                    return Ok(Self(file));
                }
                Err(error) if error != rustix::io::Errno::WOULDBLOCK => return Err(say(&error)),
                Err(_) if Instant::now() > deadline => return Err(say(&"another fetch or push holds it; try again")),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Marks the lock as finished: everything that the holder began is done, or was undone.
    pub(super) fn finished(self) {
        // If the mark can't be removed, the next holder sweeps once more.
        let _ = self.0.set_len(0);
    }

    /// Gives the lock's file to a process that holds it on.
    pub(super) fn into_file(self) -> File {
        self.0
    }
}
