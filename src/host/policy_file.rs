//! The policy that the machine's owner set: a file that nobody else can write.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Longer files are refused unread; the manifest's own limit.
const MAX_BYTES: u64 = 1 << 20;
/// The bits by which the group or others may write.
const WRITABLE: u32 = 0o022;
/// In a directory with this bit only a file's owner may put another in its place.
const STICKY: u32 = 0o1000;

/// Reads the file, if nobody but root and this user can change it; the error says why it is not read.
pub(crate) fn read_policy_file(path: &Path) -> Result<String, String> {
    if !path.is_absolute() {
        return Err("it is not an absolute path".to_owned());
    }
    // What is looked at is what is read: the path is opened once. A pipe must not be waited for.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| error.to_string())?;
    check_file(&file)?;
    check_directory(path)?;
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if read as u64 > MAX_BYTES {
        return Err("a policy of more than 1 MiB is not read".to_owned());
    }
    Ok(text)
}

fn check_file(file: &File) -> Result<(), String> {
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    check_owner(found.uid())?;
    match found.mode() & WRITABLE {
        0 => Ok(()),
        _ => Err(format!("others may write it (mode {:04o}): `chmod go-w` takes that away", found.mode() & 0o7777)),
    }
}

/// Who may write the directory may put another file in its place.
fn check_directory(path: &Path) -> Result<(), String> {
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    let Some(dir) = real.parent() else { return Ok(()) };
    let found = std::fs::metadata(dir).map_err(|error| error.to_string())?;
    if found.mode() & WRITABLE != 0 && found.mode() & STICKY == 0 {
        let mode = found.mode() & 0o7777;
        return Err(format!(
            "others may write its directory {} (mode {mode:04o}): `chmod go-w` takes that away",
            dir.display()
        ));
    }
    Ok(())
}

fn check_owner(owner: u32) -> Result<(), String> {
    let user = rustix::process::geteuid().as_raw();
    if owner == 0 || owner == user {
        return Ok(());
    }
    Err(format!("it belongs to the user {owner}, and not to root or the user of this run ({user})"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_others_can_change_is_not_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("policy.yml");
        fs::write(&path, "version: 1\n").expect("a file");
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
        let refused = |what: &str| {
            let error = read_policy_file(&path).expect_err(what);
            assert!(error.contains(what), "{error}");
        };
        mode(dir.path(), 0o755);
        mode(&path, 0o644);
        assert_eq!(read_policy_file(&path).as_deref(), Ok("version: 1\n"));
        for bits in [0o664, 0o646, 0o666] {
            mode(&path, bits);
            refused("others may write it");
        }
        mode(&path, 0o600);
        for bits in [0o775, 0o757] {
            mode(dir.path(), bits);
            refused("others may write its directory");
        }
        // As /tmp is.
        mode(dir.path(), 0o1777);
        assert!(read_policy_file(&path).is_ok());
        fs::write(&path, vec![b' '; (1 << 20) + 1]).expect("a file");
        refused("more than 1 MiB");
        fs::remove_file(&path).expect("gone");
        refused("No such file");
        fs::create_dir(&path).expect("a directory");
        refused("not a regular file");
        assert!(read_policy_file("policy.yml".as_ref()).is_err());
        assert!(read_policy_file("/dev/null".as_ref()).is_err());
    }

    #[test]
    fn another_users_file_is_not_read() {
        assert!(check_owner(0).is_ok());
        assert!(check_owner(rustix::process::geteuid().as_raw()).is_ok());
        assert!(check_owner(u32::MAX - 7).is_err());
    }
}
