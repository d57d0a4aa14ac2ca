//! The bundle's one binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    bottle_sidecars::run()
}
