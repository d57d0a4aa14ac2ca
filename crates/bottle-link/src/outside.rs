//! The step before bwrap, on the host: joins the control groups, opens what bwrap is to have by number, becomes another user, and
//! then is bwrap. One static program in place of a shell and setpriv: a sandbox starts by so much sooner.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::cli::Outside;
use crate::sys;

/// The exit codes of a shell for a command that is not there, and for one that can't be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

#[expect(clippy::disallowed_methods, reason = "nothing is started here: this process becomes the command")]
/// Becomes the command. Returns only if that fails: why, and the exit code. Nothing is run half prepared.
pub(crate) fn run(options: &Outside) -> (String, u8) {
    let failed = |what: &str, error: &dyn std::fmt::Display| (format!("failed to {what}: {error}"), NOT_RUN);
    for entry in &options.join {
        // This process is one thread: `0` is itself in the files of both versions.
        if let Err(error) = fs::write(entry, "0") {
            return failed(&format!("join {}", entry.display()), &error);
        }
    }
    let mut opened = vec![];
    for path in &options.write {
        match File::create(path) {
            Ok(file) => opened.push(file.into()),
            Err(error) => return failed(&format!("open {}", path.display()), &error),
        }
    }
    for path in &options.read {
        match OpenOptions::new().read(true).open(path) {
            Ok(file) => opened.push(file.into()),
            Err(error) => return failed(&format!("open {}", path.display()), &error),
        }
    }
    for path in &options.bind {
        let made = sys::bind_unix(path);
        match made.and_then(|made| fs::set_permissions(path, Permissions::from_mode(0o666)).map(|()| made)) {
            Ok(made) => opened.push(made),
            Err(error) => return failed(&format!("make the socket {}", path.display()), &error),
        }
    }
    if let Err(error) = sys::pass_on(opened) {
        return failed("pass on what is open", &error);
    }
    if let Some(user) = options.user {
        if let Err(error) = sys::become_user(user, user) {
            return failed("become another user", &error);
        }
        if let Err(error) = sys::drop_capabilities() {
            return failed("drop the capabilities", &error);
        }
    }
    let Some((program, arguments)) = options.command.split_first() else { return failed("run", &"no command") };
    let error = Command::new(program).args(arguments).exec();
    let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
    (format!("failed to run `{}`: {error}", program.display()), code)
}
