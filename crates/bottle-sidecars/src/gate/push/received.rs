//! First phase: the push as receive-pack has taken it in.

use std::io::BufRead as _;
use std::time::Instant;

use bottle_scan::known::KnownSecrets;

use super::super::changes::{Repo, Update};
use super::super::dirs::GateDirs;
use super::super::process::variable;

/// A push whose objects wait in quarantine, and what the client asks for.
pub(super) struct Received<'a> {
    pub(super) repo: Repo<'a>,
    pub(super) updates: Vec<Update>,
    /// Ref names as they may be shown.
    pub(super) names: Vec<String>,
    pub(super) started: Instant,
}

impl<'a> Received<'a> {
    /// Reads the mirror that the hook was called in, and the updates that git describes on standard input.
    pub(super) fn read(gate: &'a GateDirs, known: &KnownSecrets, started: Instant) -> Result<Self, String> {
        let here = std::env::current_dir().map_err(|error| format!("no directory to work in: {error}"))?;
        let upstream = gate.upstream_at(&here).ok_or("this is not a mirror of the gate")?;
        // A push of deletions alone brings no objects, and has no quarantine.
        let quarantine = ["GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"];
        let quarantine: Vec<_> = quarantine.into_iter().filter_map(|name| Some((name, variable(name)?))).collect();
        let mut updates = vec![];
        for line in std::io::stdin().lock().split(b'\n') {
            let line = line.map_err(|error| format!("failed to read what is pushed: {error}"))?;
            let line = String::from_utf8(line).map_err(|_| "a ref name is not UTF-8; choose another")?;
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
                return Err("git described the push in a way that the gate does not know".to_owned());
            };
            updates.push(Update { old, new, name });
        }
        if updates.is_empty() {
            return Err("nothing is pushed".to_owned());
        }
        let names = updates.iter().map(|update| known.mask_str(&update.name)).collect();
        Ok(Self { repo: Repo { gate, upstream, quarantine }, updates, names, started })
    }
}
