//! First phase: the push as receive-pack has taken it in.

use std::io::BufRead as _;
use std::time::Instant;

use bottle_scan::known::KnownSecrets;
use bottle_types::git::ObjectId;

use super::super::changes::Repo;
use super::super::dirs::GateDirs;
use super::super::process::variable;

/// A change of one ref, as the client asks for it: its name may be no ref's name at all.
pub(in super::super) struct AskedUpdate {
    pub(in super::super) old: ObjectId,
    pub(in super::super) new: ObjectId,
    pub(in super::super) name: String,
}

/// A push whose objects wait in quarantine, and what the client asks for.
pub(super) struct Received<'a> {
    pub(super) repo: Repo<'a>,
    pub(super) asked: Vec<AskedUpdate>,
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
        let mut asked = vec![];
        for line in std::io::stdin().lock().split(b'\n') {
            let line = line.map_err(|error| format!("failed to read what is pushed: {error}"))?;
            let line = String::from_utf8(line).map_err(|_| "a ref name is not UTF-8; choose another")?;
            let unknown = || "git described the push in a way that the gate does not know".to_owned();
            let [old, new, name] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { return Err(unknown()) };
            let id = |text: &str| ObjectId::parse(text).map_err(|error| format!("{}: {error}", unknown()));
            asked.push(AskedUpdate { old: id(old)?, new: id(new)?, name: name.to_owned() });
        }
        if asked.is_empty() {
            return Err("nothing is pushed".to_owned());
        }
        let names = asked.iter().map(|update| known.mask_str(&update.name)).collect();
        Ok(Self { repo: Repo { gate, upstream, quarantine }, asked, names, started })
    }
}
