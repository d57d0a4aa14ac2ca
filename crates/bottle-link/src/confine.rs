//! The step between root in a guest and a command of the agent's: another user, no capability, no new privileges, and the
//! run's seccomp programs, all for good.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::cli::Confine;
use crate::sys;

/// The exit codes of a shell for a command that is not there, and for one that can't be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

#[expect(clippy::disallowed_methods, reason = "nothing is started here: this process becomes the command")]
/// Becomes the command. Returns only if that fails: why, and the exit code. Nothing is run half confined.
pub(crate) fn run(options: &Confine) -> (String, u8) {
    let failed = |what: &str, error: &dyn std::fmt::Display| (format!("failed to {what}: {error}"), NOT_RUN);
    let mut filters = vec![];
    for path in &options.filters {
        match fs::read(path) {
            Ok(program) => filters.push(program),
            Err(error) => return failed(&format!("read {}", path.display()), &error),
        }
    }
    if let Err(error) = sys::drop_capability_bounds() {
        return failed("drop the capabilities", &error);
    }
    if let Err(error) = sys::become_user(options.user, options.group) {
        return failed("become another user", &error);
    }
    if let Err(error) = sys::limit(&options.limits) {
        return failed("set the limits", &error);
    }
    if let Err(error) = sys::no_new_privileges() {
        return failed("give up new privileges", &error);
    }
    for filter in &filters {
        if let Err(error) = sys::add_seccomp(filter) {
            return failed("take on a seccomp program", &error);
        }
    }
    let Some((program, arguments)) = options.command.split_first() else { return failed("run", &"no command") };
    let error = Command::new(program).args(arguments).exec();
    let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
    (format!("failed to run `{}`: {error}", program.display()), code)
}
