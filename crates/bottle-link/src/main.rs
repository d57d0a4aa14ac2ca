//! The guest's end of the doors. `forward` is PID 1 of the guest: loopback ports, each forwarded to a sidecar's unix
//! socket; beside a service it does the reverse. `confine` is the step before each of the agent's commands where no engine takes it, `outside` the one before bwrap on the host. `selftest` tries each way out of the guest and says which are closed. Where git signs, it takes this program for ssh-keygen.
//!
//! Map: `cli` (what was typed → what is meant), `forward` and `conn` (one poll loop, no threads), `control` (commands
//! from outside, where no engine brings them), `selftest/` (a file a kind of way out), `sign` (signatures, from the gate), `sys` (all of the unsafe code). Static, so that it runs in any image; std, libc and lexopt
//! alone; it resolves no names. What the doors decide does not belong here.

mod cli;
mod confine;
mod conn;
mod control;
mod forward;
mod outside;
mod selftest;
mod sign;
mod sys;

use std::process::ExitCode;

/// Bad usage, as in DESIGN.md.
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(cli::Invocation::Help) => {
            print!("{}", cli::HELP);
            ExitCode::SUCCESS
        }
        Ok(cli::Invocation::Version) => {
            println!("bottle-link {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(cli::Invocation::Forward(options)) => match forward::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(cli::Invocation::Confine(options)) => {
            let (error, code) = confine::run(&options);
            eprintln!("error: {error}");
            ExitCode::from(code)
        }
        Ok(cli::Invocation::Outside(options)) => {
            let (error, code) = outside::run(&options);
            eprintln!("error: {error}");
            ExitCode::from(code)
        }
        Ok(cli::Invocation::Sign(options)) => match sign::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        Ok(cli::Invocation::Keygen(args)) => {
            eprintln!("error: failed to start ssh-keygen: {}", sign::keygen(&args));
            ExitCode::FAILURE
        }
        Ok(cli::Invocation::Selftest(options)) => match selftest::run(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("error: failed to report: {error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("error: {error}\nhelp: see bottle-link --help");
            ExitCode::from(USAGE_ERROR)
        }
    }
}
