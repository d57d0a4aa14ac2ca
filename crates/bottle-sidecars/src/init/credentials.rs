//! The files of the credentials: a new value beside the one before, or both as they were.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use bottle_types::secret::SecretName;
use bottle_wire::control::CredentialUpdate;

use crate::common::Dirs;
use crate::credentials::{CredentialEnd, CredentialStatus, MAX_VALUES, STATUS_FILE, before_name};

/// What was written, and can be taken back.
pub(super) struct CredentialChange {
    secrets: PathBuf,
    status: CredentialStatus,
    /// Each name, its value before, and the file that has that value now.
    replaced: Vec<(SecretName, Vec<u8>, PathBuf)>,
    /// The doors say that they have read this.
    pub(super) generation: u64,
}

impl CredentialChange {
    /// Writes all of it, or nothing; the error has no value in it.
    pub(super) fn write(dirs: &Dirs, updates: &[CredentialUpdate]) -> Result<Self, String> {
        let status = CredentialStatus::read(dirs).map_err(|error| error.to_string())?;
        let generation = status.generation + 1;
        let mut change = Self { secrets: dirs.secrets.clone(), status, replaced: vec![], generation };
        let written = change.write_all(updates);
        match written {
            Ok(()) => Ok(change),
            Err(why) => {
                let undone = change.undo().err().map(|why| format!("; {why}")).unwrap_or_default();
                Err(format!("{why}{undone}"))
            }
        }
    }

    fn write_all(&mut self, updates: &[CredentialUpdate]) -> Result<(), String> {
        let mut status = self.status.clone();
        for update in updates {
            self.value(update)?;
            let end = CredentialEnd { ends_at: update.ends_at, failure: update.failure.clone() };
            status.credentials.insert(update.name.clone(), end);
        }
        // The values are there before their ends: a new end never goes with an old value.
        self.write_status(status, self.generation)
    }

    fn value(&mut self, update: &CredentialUpdate) -> Result<(), String> {
        let name = &update.name;
        let path = self.secrets.join(name.as_str());
        let failed = |error: io::Error| format!("failed to write the value of {name}: {error}");
        let like = match fs::metadata(&path) {
            Ok(like) => like,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(format!("this bottle has no credential {name}"));
            }
            Err(error) => return Err(failed(error)),
        };
        let Some(value) = &update.value else { return Ok(()) };
        let before = fs::read(&path).map_err(failed)?;
        if before == value.expose().as_bytes() {
            return Ok(());
        }
        let beside = |number| self.secrets.join(before_name(name, number));
        let kept = (1..=MAX_VALUES).map(beside).find(|path| !path.exists());
        let kept = kept.ok_or_else(|| format!("there were {MAX_VALUES} values of {name} in this run already"))?;
        put(&kept, &before, &like).map_err(failed)?;
        self.replaced.push((name.clone(), before, kept));
        put(&path, value.expose().as_bytes(), &like).map_err(failed)
    }

    fn write_status(&self, mut status: CredentialStatus, generation: u64) -> Result<(), String> {
        let path = self.secrets.join(STATUS_FILE);
        let failed = |why: &dyn std::fmt::Display| format!("failed to write {}: {why}", path.display());
        status.generation = generation;
        let json = serde_json::to_vec(&status).map_err(|error| failed(&error))?;
        let written = write_beside(&path, &json, |file| file.set_permissions(Permissions::from_mode(0o444)));
        written.map_err(|error| failed(&error))
    }

    /// Puts everything back as it was, and gives the generation by which the doors say so.
    pub(super) fn undo(&self) -> Result<u64, String> {
        for (name, before, kept) in self.replaced.iter().rev() {
            let failed = |error: io::Error| format!("failed to put the value of {name} back: {error}");
            let path = self.secrets.join(name.as_str());
            let like = fs::metadata(kept).map_err(failed)?;
            put(&path, before, &like).map_err(failed)?;
            fs::remove_file(kept).map_err(failed)?;
        }
        let generation = self.generation + 1;
        self.write_status(self.status.clone(), generation).map(|()| generation)
    }
}

/// Puts a file in the place of another, whole, with the owner and the mode of a third.
fn put(path: &Path, bytes: &[u8], like: &Metadata) -> io::Result<()> {
    write_beside(path, bytes, |file| {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            fchown(file, Some(like.uid()), Some(like.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(like.mode() & 0o777))
    })
}

fn write_beside(path: &Path, bytes: &[u8], finish: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let beside = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    // What an earlier try has left can't be opened again where its mode forbids that.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        finish(&file)?;
        fs::rename(&beside, path)
    };
    written().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

#[cfg(test)]
mod tests {
    use bottle_types::secret::Secret;

    use super::*;

    fn update(name: &str, value: Option<&str>, ends_at: Option<u64>) -> CredentialUpdate {
        CredentialUpdate {
            name: SecretName::parse(name).expect("a name"),
            value: value.map(|value| Secret::new(value.to_owned())),
            ends_at,
            failure: None,
        }
    }

    fn bundle() -> (tempfile::TempDir, Dirs) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_owned();
        for name in ["TOKEN", "KEY"] {
            let file = path.join(name);
            fs::write(&file, format!("first value of {name}")).expect("a file");
            fs::set_permissions(&file, Permissions::from_mode(0o440)).expect("a mode");
        }
        let dirs = Dirs { doors: path.clone(), internal: path.clone(), state: path.clone(), secrets: path };
        (dir, dirs)
    }

    fn text(dirs: &Dirs, name: &str) -> String {
        fs::read_to_string(dirs.secrets.join(name)).unwrap_or_default()
    }

    #[test]
    fn the_values_before_are_kept_beside_the_new_one() {
        let (_dir, dirs) = bundle();
        for (number, value) in ["second value", "third value", "third value"].into_iter().enumerate() {
            let change = CredentialChange::write(&dirs, &[update("TOKEN", Some(value), Some(7))]).expect("written");
            assert_eq!(change.generation, number as u64 + 1);
        }
        let values = ["TOKEN", "TOKEN.1", "TOKEN.2", "TOKEN.3", "KEY"].map(|name| text(&dirs, name));
        assert_eq!(values, ["third value", "first value of TOKEN", "second value", "", "first value of KEY"]);
        let mode = fs::metadata(dirs.secrets.join("TOKEN")).expect("a file").mode() & 0o777;
        assert_eq!(mode, 0o440);
        let name = SecretName::parse("TOKEN").expect("a name");
        assert_eq!(CredentialStatus::read(&dirs).expect("a status").end(&name).ends_at, Some(7));
        let known = dirs.known_secrets(&[name]).expect("known");
        for value in ["first value of TOKEN", "second value", "third value"] {
            assert!(known.find(value.as_bytes()).is_some(), "{value}");
        }
    }

    #[test]
    fn what_can_not_be_written_whole_is_not_written() {
        let (_dir, dirs) = bundle();
        let both = [update("TOKEN", Some("second value"), None), update("OTHER", Some("a value of it"), None)];
        let why = CredentialChange::write(&dirs, &both).err().expect("an error");
        assert_eq!(why, "this bottle has no credential OTHER");
        assert_eq!((text(&dirs, "TOKEN").as_str(), text(&dirs, "TOKEN.1").as_str()), ("first value of TOKEN", ""));
        let status = CredentialStatus::read(&dirs).expect("a status");
        assert_eq!((status.generation, status.credentials.len()), (2, 0));
    }
}
