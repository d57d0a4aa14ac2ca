//! The self-test of the seal: run inside the guest as the agent's user, before the agent starts.
//!
//! Map: `net` (addresses and names), `machine` (the same for a guest that is a machine of its own), `packet` (sends for both),
//! `sockets` (families), `unix` (others' unix sockets), `process` (identity and limits), `files` (mounts and devices), `calls`
//! (system calls), `doors` (waits for the sidecars), `canary` (a secret through each door), `json`.
//! Always: each way out is one case; a case that can't be decided is not ok; no threads (`calls` forks); a sealed
//! guest answers at once, so only a broken seal takes time. What is read before anything is tried comes first: the
//! tries themselves open sockets.

mod calls;
mod canary;
mod doors;
mod files;
mod json;
mod machine;
mod net;
mod packet;
mod process;
mod sockets;
mod unix;

use std::io::{self, Write as _};
use std::time::Instant;

use crate::cli::Selftest;

/// `Ok`: this way out is closed, and how that showed. `Err`: it is open, or nobody can tell.
type Finding = Result<String, String>;

/// One way out.
struct Case<'a> {
    name: String,
    check: Box<dyn FnOnce() -> Finding + 'a>,
}

fn case<'a>(name: impl Into<String>, check: impl FnOnce() -> Finding + 'a) -> Case<'a> {
    Case { name: name.into(), check: Box::new(check) }
}

/// `Err` says which network there is besides loopback, or why nobody can tell.
pub(crate) fn no_network() -> Result<(), String> {
    net::no_network().map(drop)
}

/// Runs every case and prints it; whether all are closed.
pub(crate) fn run(options: &Selftest) -> io::Result<bool> {
    let mut quiet = vec![];
    if !options.doors_alone {
        quiet.extend(net::quiet_cases(options));
        quiet.extend(unix::cases(options));
        quiet.extend(process::cases());
        quiet.extend(files::cases(options));
    }
    let mut sealed = report(options, quiet)?;
    // A door judges while the rest is tried.
    let sent = canary::send(options);
    let mut cases = vec![];
    if !options.doors_alone {
        cases.extend(net::cases(options));
        cases.extend(sockets::cases());
        cases.extend(calls::cases());
    }
    cases.extend(doors::cases(options));
    cases.extend(canary::cases(sent));
    sealed &= report(options, cases)?;
    Ok(sealed)
}

/// Runs these cases and prints them; whether all are closed.
fn report(options: &Selftest, cases: Vec<Case<'_>>) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let mut sealed = true;
    for Case { name, check } in cases {
        let start = Instant::now();
        let finding = check();
        let ms = start.elapsed().as_millis();
        let ok = finding.is_ok();
        sealed &= ok;
        let detail = finding.unwrap_or_else(|detail| detail);
        if options.json {
            writeln!(out, "{}", json::line(&name, ok, &detail, ms))?;
        } else {
            writeln!(out, "{:4} {name:20} {detail}", if ok { "ok" } else { "OPEN" })?;
        }
    }
    out.flush()?;
    Ok(sealed)
}

/// All findings as one: closed only where each is, and what is open is what is said.
fn all(findings: impl IntoIterator<Item = Finding>) -> Finding {
    let (mut closed, mut open) = (vec![], vec![]);
    for finding in findings {
        match finding {
            Ok(detail) => closed.push(detail),
            Err(detail) => open.push(detail),
        }
    }
    match (closed.is_empty(), open.is_empty()) {
        (_, false) => Err(open.join("; ")),
        (true, true) => Err("nothing was tried".to_owned()),
        (false, true) => Ok(closed.join("; ")),
    }
}

/// Reads a file of /proc or /etc; one that can't be read leaves its case open.
fn read(path: &str) -> Result<String, String> {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| format!("failed to read {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_open_way_is_enough() {
        let ok = || Ok("closed".to_owned());
        assert_eq!(all([ok(), ok()]), Ok("closed; closed".to_owned()));
        assert_eq!(all([ok(), Err("open".to_owned())]), Err("open".to_owned()));
        assert!(all([]).is_err());
    }
}
