//! Second phase: the push's names are judged and its new objects listed.

use std::thread::{self, JoinHandle};

use bottle_scan::dlp::{Rules, RulesError};
use bottle_scan::known::KnownSecrets;
use bottle_wire::push_report::Timings;

use super::super::accepted::ScanWork;
use super::super::changes::{Changes, RefUpdate, Repo};
use super::super::gitleaks::Scanner;
use super::super::rules::{self, MAX_REFS, Refusal};
use super::super::scan::{self, FoundIn};
use super::super::{lfs, self_test};
use super::command::{ONE_AT_A_TIME, can_be_one_push};
use super::millis;
use super::received::Received;
use super::refused::Refused;

/// A push that no push rule refuses, with all that it brings.
pub(super) struct Listed<'a> {
    pub(super) received: Received<'a>,
    pub(super) updates: Vec<RefUpdate>,
    pub(super) changes: Changes,
    pub(super) scanners: Scanners,
    pub(super) ms: Timings,
}

impl<'a> Listed<'a> {
    /// Lists the push's changes and judges them by the push rules.
    pub(super) fn new(mut received: Received<'a>) -> Result<Self, Box<Refused<'a>>> {
        // Both read their rules while this looks at what is pushed.
        let scanners = Scanners::start(&received.repo);
        let (mut changes, mut ms) = (Changes::default(), Timings::default());
        let listed = match list(&received, &mut changes) {
            Ok(listed) => listed,
            Err(reason) => return Err(Refused::by_rules(received, changes, vec![Refusal::all(reason)], ms)),
        };
        ms.judge = millis(received.started);
        let mut refusals = match listed {
            Ok(updates) => return Ok(Self { received, updates, changes, scanners, ms }),
            Err(refusals) => refusals,
        };
        // These names and paths are shown, and were not scanned with the rest.
        let about = refusals.iter_mut().filter_map(|refusal| refusal.about.as_mut());
        let names = received.names.iter_mut().take(MAX_REFS);
        let gitleaks = scanners.gitleaks.and_then(|gitleaks| gitleaks.ok_or_else(|| self_test::UNSCANNED.to_owned()));
        scan::withhold_secrets(gitleaks, received.repo.gate, names.chain(about));
        Err(Refused::by_rules(received, changes, refusals, ms))
    }
}

/// Lists what the push brings, unless its names alone refuse it; gives the updates, or the refusals.
fn list(received: &Received<'_>, changes: &mut Changes) -> Result<Result<Vec<RefUpdate>, Vec<Refusal>>, String> {
    let Received { repo, asked, .. } = received;
    let updates = match rules::names(repo, asked)? {
        Ok(updates) => updates,
        Err(refusals) => return Ok(Err(refusals)),
    };
    if !can_be_one_push(repo, &updates)? {
        return Ok(Err(vec![Refusal::all(ONE_AT_A_TIME.to_owned())]));
    }
    *changes = Changes::list(repo, &updates)?;
    let mut refusals = lfs::list(repo, changes)?;
    refusals.extend(rules::changes(repo, &updates, changes)?);
    Ok(if refusals.is_empty() { Ok(updates) } else { Err(refusals) })
}

/// Both scanners, which read their rules in the background.
pub(super) struct Scanners {
    /// None in the self-test, which is about the bottle's own secrets: gitleaks takes longer to read its rules than all the rest of a
    /// launch.
    gitleaks: Result<Option<Scanner>, String>,
    rules: JoinHandle<Result<Rules, RulesError>>,
}

impl Scanners {
    fn start(repo: &Repo<'_>) -> Self {
        let gate = repo.gate;
        let gitleaks = if self_test::is(repo.upstream) { Ok(None) } else { Scanner::start(gate).map(Some) };
        let (patterns, kinds) = (gate.policy.patterns.clone(), gate.policy.detect.clone());
        Self { gitleaks, rules: thread::spawn(move || Rules::with(&patterns, &kinds, &[])) }
    }

    /// Scans all that the push brings.
    pub(super) fn scan(
        self,
        received: &Received<'_>,
        updates: &[RefUpdate],
        changes: &Changes,
        known: &KnownSecrets,
    ) -> Result<Vec<FoundIn>, String> {
        let gitleaks = self.gitleaks?;
        let rules = self.rules.join().map_err(|_| "the rules can't be read".to_owned())?;
        let rules = rules.map_err(|error| error.to_string())?;
        let repo = &received.repo;
        scan::scan(gitleaks, ScanWork { repo, updates, changes, rules: &rules, known })
    }
}
