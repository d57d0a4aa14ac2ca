//! The command line of the bundle's program.

use std::path::Path;
use std::process::Command;

/// Gives `bottle-sidecars` some of a bundle's directories: for each name the option, such as `--doors`, and the directory of that name.
pub fn with_dirs(command: &mut Command, dir: &Path, names: &[&str]) {
    for name in names {
        command.arg(format!("--{name}")).arg(dir.join(name));
    }
}
