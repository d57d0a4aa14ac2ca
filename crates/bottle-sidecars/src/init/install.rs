//! The one path by which a policy comes into force: a new file beside the old, a look at it, a rename, SIGHUP to the doors
//! that read it, and their word for its hash; else the old file again, and their word for that.
//!
//! Always: one policy at a time; whoever reads the file sees the old one or the new one; what is answered is what the
//! doors have confirmed.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bottle_types::door::Door;
use bottle_wire::control::{Applied, CredentialUpdate, CredentialsTaken};
use bottle_wire::proposal::{PolicyFile, sha256};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::control::InstallRequest;
use super::credentials::CredentialChange;
use super::lines::say;
use crate::common::Dirs;
use crate::confirm::{Install, Report};

/// How long a door may take to go by a new policy. One that was killed is started again within a second.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// The installer of policies.
pub(super) struct Installer {
    pub(super) dirs: Dirs,
    pub(super) config_dir: PathBuf,
    /// Each door of the bundle, and the name of its own policy file there.
    pub(super) doors: Vec<(Door, String)>,
    /// To the loop: SIGHUP this one.
    pub(super) hangups: mpsc::Sender<Door>,
    /// From the loop: this door says so.
    pub(super) reports: mpsc::Receiver<(Door, Report)>,
}

impl Installer {
    /// Takes one policy after the other for ever.
    pub(super) async fn run(mut self, mut wanted: mpsc::Receiver<InstallRequest>) {
        loop {
            // Reports at other times are those of a door's start.
            let wanted = tokio::select! {
                Some(wanted) = wanted.recv() => wanted,
                Some(_) = self.reports.recv() => continue,
                else => return,
            };
            let (install, to) = match wanted {
                InstallRequest::Policy(install, to) => (install, to),
                InstallRequest::Credentials(updates, to) => {
                    let taken = self.credentials(&updates).await;
                    let names: Vec<&str> = updates.iter().map(|update| update.name.as_str()).collect();
                    match &taken {
                        CredentialsTaken::InForce => {
                            say("supervisor", &format!("credentials are in force: {}", names.join(", ")));
                        }
                        CredentialsTaken::Kept { reason } => {
                            say(
                                "supervisor",
                                &format!("credentials stay as they were: {}: {reason}", names.join(", ")),
                            );
                        }
                    }
                    let _ = to.send(taken);
                    continue;
                }
            };
            let applied = self.install(&install).await;
            match &applied {
                Applied::InForce { file, before, after } => {
                    say("supervisor", &format!("{file} {} is in force in place of {}", &after[..12], &before[..12]));
                }
                Applied::Kept { reason } => say("supervisor", &format!("{} stays as it was: {reason}", install.file)),
            }
            let _ = to.send(applied);
        }
    }

    /// Has every door that has credentials go by these, or by those before.
    async fn credentials(&mut self, updates: &[CredentialUpdate]) -> CredentialsTaken {
        let change = match CredentialChange::write(&self.dirs, updates) {
            Ok(change) => change,
            Err(reason) => return CredentialsTaken::Kept { reason },
        };
        let with_credentials = [Door::GitGate, Door::Pipelock];
        let doors: Vec<Door> = with_credentials.into_iter().filter(|door| self.has(*door)).collect();
        let mut signalled = vec![];
        for door in doors {
            signalled.push(door);
            if let Err(why) = self.confirmed(door, |report| report.credentials == Some(change.generation)).await {
                let mut reason = format!("{} did not take it: {why}", door.name());
                let undone = change.undo();
                for door in signalled {
                    let back = match &undone {
                        Ok(generation) => self.confirmed(door, |report| report.credentials == Some(*generation)).await,
                        Err(why) => Err(why.clone()),
                    };
                    if let Err(why) = back {
                        reason.push_str(&format!("; {} did not confirm the old one: {why}", door.name()));
                    }
                }
                return CredentialsTaken::Kept { reason };
            }
        }
        CredentialsTaken::InForce
    }

    fn has(&self, door: Door) -> bool {
        self.doors.iter().any(|(of_bundle, _)| *of_bundle == door)
    }

    async fn install(&mut self, install: &Install) -> Applied {
        let file = install.file;
        let kept = |reason: String| Applied::Kept { reason };
        let path = self.config_dir.join(file.name());
        let old = match fs::read_to_string(&path) {
            Ok(old) => old,
            Err(error) => return kept(format!("failed to read {}: {error}", path.display())),
        };
        let (before, after) = (sha256(&old), sha256(&install.text));
        if before != install.before {
            return kept(format!("{file} is not the one that this was made for"));
        }
        let doors: Vec<Door> = file.doors().iter().copied().filter(|door| self.runs(*door, file)).collect();
        if doors.is_empty() {
            return kept(format!("no door of this bottle goes by {file}"));
        }
        if let Err(reason) = file.check(&install.text) {
            return kept(format!("the doors could not obey it: {reason}"));
        }
        if let Err(error) = replace(&path, &install.text) {
            return kept(format!("failed to write {}: {error}", path.display()));
        }
        let mut signalled = vec![];
        let mut failure = None;
        for door in doors {
            signalled.push(door);
            if let Err(reason) = self.take(door, file, &after).await {
                failure = Some(format!("{} did not take it: {reason}", door.name()));
                break;
            }
        }
        let Some(mut reason) = failure else { return Applied::InForce { file, before, after } };
        if let Err(error) = replace(&path, &old) {
            return kept(format!("{reason}; and failed to write the old one back to {}: {error}", path.display()));
        }
        // The one in front first: it must not go by what the one behind has given up.
        for door in signalled.into_iter().rev() {
            if let Err(why) = self.take(door, file, &before).await {
                reason.push_str(&format!("; {} did not confirm the old one: {why}", door.name()));
            }
        }
        kept(reason)
    }

    /// Tells whether a door of this bundle reads the file.
    fn runs(&self, door: Door, file: PolicyFile) -> bool {
        self.doors.iter().any(|(of_bundle, config)| {
            *of_bundle == door && (PolicyFile::of(door) != Some(file) || config == file.name())
        })
    }

    async fn take(&mut self, door: Door, file: PolicyFile, hash: &str) -> Result<(), String> {
        self.confirmed(door, |report| report.read.get(&file).is_some_and(|read| read == hash)).await
    }

    /// Has a door read everything again, and waits for its word that it has read this.
    async fn confirmed(&mut self, door: Door, is_this: impl Fn(&Report) -> bool) -> Result<(), String> {
        // Reports that are still there were sent before.
        while self.reports.try_recv().is_ok() {}
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        if self.hangups.send(door).await.is_err() {
            return Err("the bundle is ending".to_owned());
        }
        loop {
            match timeout_at(deadline, self.reports.recv()).await {
                Ok(Some((from, report))) if from == door && is_this(&report) => {
                    return report.refused.map_or(Ok(()), Err);
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err("the bundle is ending".to_owned()),
                Err(_) => return Err(format!("no word within {} s", CONFIRM_TIMEOUT.as_secs())),
            }
        }
    }
}

/// Puts a file in the place of another, whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let beside = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    let written = || {
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(0o444))?;
        fs::rename(&beside, path)
    };
    written().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("gate.yaml");
        for text in ["one", "two", "three"] {
            replace(&path, text).expect("a file");
            assert_eq!(fs::read_to_string(&path).expect("a file"), text);
        }
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }
}
