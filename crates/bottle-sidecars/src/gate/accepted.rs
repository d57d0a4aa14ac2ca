//! Leaves out of what was found what upstream has already: the same rule, the same bytes, by another hand than this run's; and
//! what the manifest exempts. Neither lets a secret of the bottle's own through.
//!
//! What is found in a text may hide what stands behind it: some rules tell the first value of a list alone. So when nothing
//! new shows, the texts are scanned once more without the bytes that are accepted, until nothing else comes to light.

use std::collections::BTreeSet;

use bottle_policy::gate::exemptions::Exemptions;
use bottle_scan::dlp::Rules;
use bottle_scan::known::KnownSecrets;
use bottle_types::rule::Rule;

use super::allowlists::{BaseAllowlists, FoundPlace};
use super::base::{Candidates, UpstreamBase};
use super::changes::{Changes, Object, ObjectKind, RefUpdate, Repo, read_all};
use super::gitleaks::Scanner;
use super::hit::{FoundBy, Matched, ScanHit};
use super::log;
use super::objects::telling_ending;
use super::texts::{Blanks, ScanPass, TextSource};

/// So often is looked behind what was found.
const MAX_LOOKS: usize = 8;

/// All that a scan goes by.
#[derive(Clone, Copy)]
pub(super) struct ScanWork<'a> {
    pub(super) repo: &'a Repo<'a>,
    pub(super) updates: &'a [RefUpdate],
    pub(super) changes: &'a Changes,
    pub(super) rules: &'a Rules,
    pub(super) known: &'a KnownSecrets,
}

impl ScanWork<'_> {
    /// The endings, of all the paths of a new object, by which rules of gitleaks go.
    pub(super) fn endings(paths: &[&[u8]]) -> BTreeSet<&'static str> {
        let mut endings: BTreeSet<&str> = paths.iter().filter_map(|path| telling_ending(path)).collect();
        if endings.len() < paths.len() {
            endings.insert("");
        }
        endings
    }
}

/// What was found, and where each text comes from.
pub(super) type ScanFound = (BTreeSet<ScanHit>, Vec<TextSource>);

/// The findings that are new. Where that can't be told, all of them are.
pub(super) fn only_new(work: ScanWork<'_>, found: ScanFound) -> ScanFound {
    if found.0.is_empty() {
        return found;
    }
    match compare(work, &found) {
        Ok(new) => {
            let old = found.0.len().saturating_sub(new.0.len());
            log::send(&work.repo.gate.dirs, &format!("found: {old} that upstream has already or that are exempt"));
            new
        }
        Err(reason) => {
            log::send(&work.repo.gate.dirs, &format!("what was found can't be compared with upstream's: {reason}"));
            found
        }
    }
}

fn compare(work: ScanWork<'_>, found: &ScanFound) -> Result<ScanFound, String> {
    let (hits, sources) = found;
    if !hits.iter().any(|hit| Accepted::may_accept(hit, &sources[hit.text])) {
        return Ok(found.clone());
    }
    let wanted: BTreeSet<&Matched> = hits.iter().filter_map(|hit| hit.matched.as_ref()).collect();
    let objects: BTreeSet<usize> = hits.iter().filter_map(|hit| sources[hit.text].object()).collect();
    let candidates =
        UpstreamBase::read(work.repo, work.updates)?.candidates(work.repo, work.changes, &objects, &wanted)?;
    let exemptions = Exemptions::new(&work.repo.gate.policy.exemptions).map_err(|error| error.to_string())?;
    let mut accepted = Accepted { work, upstreams: BTreeSet::new(), exemptions, allowed: BTreeSet::new() };
    let allowlists = allowlists_of(work.repo);
    accepted.allow(&allowlists, hits, sources, &Blanks::default());
    if candidates.is_empty() && accepted.leave_out(hits, sources).len() == hits.len() {
        return Ok(found.clone());
    }
    // The first look reads upstream's as it is, and what is pushed without what was found: often nothing stands behind that.
    let mut blanked: BTreeSet<Matched> = wanted.into_iter().cloned().collect();
    let mut blanks = Blanks::new(blanked.iter())?;
    let (behind, _) = accepted.look(&objects, &candidates, &Blanks::default(), &blanks)?;
    let new = accepted.leave_out(hits, sources);
    if !new.is_empty() || behind.is_empty() {
        return Ok((new, sources.clone()));
    }
    for _ in 0..MAX_LOOKS {
        let (hits, sources) = accepted.look(&objects, &candidates, &blanks, &blanks)?;
        accepted.allow(&allowlists, &hits, &sources, &blanks);
        let before = blanked.len();
        blanked.extend(hits.iter().filter_map(|hit| hit.matched.clone()));
        let new = accepted.leave_out(&hits, &sources);
        if !new.is_empty() || blanked.len() == before {
            return Ok((new, sources));
        }
        blanks = Blanks::new(blanked.iter())?;
    }
    Err(format!("there is still more behind it after {MAX_LOOKS} looks"))
}

/// Upstream's own allowlists, where the manifest says that they count; none where they can't be read.
fn allowlists_of(repo: &Repo<'_>) -> BaseAllowlists {
    let read =
        if repo.gate.policy.base_allowlists { BaseAllowlists::read(repo) } else { Ok(BaseAllowlists::default()) };
    read.unwrap_or_else(|reason| {
        log::send(&repo.gate.dirs, &format!("upstream's allowlists are not applied: {reason}"));
        BaseAllowlists::default()
    })
}

/// For what a finding is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acceptance {
    /// For these very bytes.
    OfBytes,
    /// For all that the rule finds there.
    OfRule,
}

/// Rules and bytes that are no findings.
struct Accepted<'a> {
    work: ScanWork<'a>,
    upstreams: BTreeSet<(Rule, Matched)>,
    exemptions: Exemptions,
    /// What the base branch's own allowlists let through.
    allowed: BTreeSet<FoundPlace>,
}

impl Accepted<'_> {
    fn learn(&mut self, old: BTreeSet<ScanHit>) {
        self.upstreams.extend(old.into_iter().filter_map(|hit| Some((hit.rule, hit.matched?))));
    }

    /// Asks upstream's own allowlists about what is open still.
    fn allow(
        &mut self,
        allowlists: &BaseAllowlists,
        hits: &BTreeSet<ScanHit>,
        sources: &[TextSource],
        blanks: &Blanks,
    ) {
        let open: Vec<&ScanHit> = hits.iter().filter(|hit| self.accepts(hit, &sources[hit.text]).is_none()).collect();
        match allowlists.allowed(self.work, &open, sources, blanks) {
            Ok(allowed) => self.allowed.extend(allowed),
            Err(reason) => {
                let dirs = &self.work.repo.gate.dirs;
                log::send(dirs, &format!("upstream's allowlists are not applied: {reason}"));
            }
        }
    }

    /// The hits that are not accepted. Both scanners may find the same bytes under names of their own, and ours in what an object says in
    /// another form, too: where these very bytes are accepted in an object, one name is enough. An exemption of all that a rule finds is for that rule alone: what `generic-api-key` takes
    /// for noise may be a token to another.
    fn leave_out(&self, hits: &BTreeSet<ScanHit>, sources: &[TextSource]) -> BTreeSet<ScanHit> {
        let acceptance = |hit: &ScanHit| self.accepts(hit, &sources[hit.text]);
        let same = |hit: &ScanHit| Some((sources[hit.text].object()?, hit.matched.clone()?));
        let by_bytes = hits.iter().filter(|hit| acceptance(hit) == Some(Acceptance::OfBytes));
        let bytes: BTreeSet<(usize, Matched)> = by_bytes.filter_map(same).collect();
        let is_open = |hit: &&ScanHit| {
            let under_another_name = hit.by == FoundBy::Rules && same(hit).is_some_and(|same| bytes.contains(&same));
            acceptance(hit).is_none() && !under_another_name
        };
        hits.iter().filter(is_open).cloned().collect()
    }

    /// Tells whether anything could accept a finding.
    fn may_accept(hit: &ScanHit, source: &TextSource) -> bool {
        !hit.rule.is_always_refused() && !matches!(source, TextSource::Refs)
    }

    fn accepts(&self, hit: &ScanHit, source: &TextSource) -> Option<Acceptance> {
        if !Self::may_accept(hit, source) {
            return None;
        }
        let has = |matched: &Matched| self.upstreams.contains(&(hit.rule.clone(), matched.clone()));
        if hit.matched.as_ref().is_some_and(has) {
            return Some(Acceptance::OfBytes);
        }
        self.exempts(hit, source).or_else(|| self.base_allows(hit, source))
    }

    /// Tells whether upstream's own allowlists let a finding of gitleaks through. They are for that rule alone, as gitleaks is.
    fn base_allows(&self, hit: &ScanHit, source: &TextSource) -> Option<Acceptance> {
        let TextSource::Object(index) = source else { return None };
        let place = (*index, hit.rule.id()?.to_owned(), hit.matched.clone()?);
        (hit.by == FoundBy::Gitleaks && self.allowed.contains(&place)).then_some(Acceptance::OfRule)
    }

    /// Tells whether the manifest exempts a finding in a file, at every path at which the push has it.
    fn exempts(&self, hit: &ScanHit, source: &TextSource) -> Option<Acceptance> {
        let (TextSource::Object(index) | TextSource::Inside(index, _)) = source else { return None };
        let object = &self.work.changes.objects[*index];
        let here = self.work.changes.paths.iter().filter(|change| change.new.id == object.id);
        let paths: Option<BTreeSet<&str>> = here.map(|change| std::str::from_utf8(&change.path).ok()).collect();
        let paths: Vec<&str> = paths.into_iter().flatten().collect();
        let sha256 = hit.matched.as_ref().map(Matched::sha256);
        if object.kind != ObjectKind::Blob {
            return None;
        }
        let exemption = self.exemptions.of(&hit.rule, &paths, sha256.as_deref())?;
        Some(if exemption.sha256.is_some() { Acceptance::OfBytes } else { Acceptance::OfRule })
    }

    /// Scans these new objects and upstream's, each without what is blanked there; learns what upstream has, and gives what was
    /// found in the new ones.
    fn look(
        &mut self,
        objects: &BTreeSet<usize>,
        candidates: &Candidates,
        old_blanks: &Blanks,
        new_blanks: &Blanks,
    ) -> Result<ScanFound, String> {
        let ScanWork { repo, changes, rules, known, .. } = self.work;
        let mut pass = ScanPass::new(Some(Scanner::start_apart(repo.gate)?), rules, known, repo);
        // gitleaks needs something to look at, though upstream may have nothing alike.
        pass.add_refs("")?;
        let positions = changes.positions();
        let new: Vec<usize> = objects.iter().copied().collect();
        let of_new: Vec<Object> = new.iter().map(|index| changes.objects[*index].clone()).collect();
        pass.blank(new_blanks);
        read_all(repo, &of_new, |at, bytes| {
            let object = &of_new[at];
            let paths = positions.get(&object.id).map(|(_, paths)| paths.as_slice()).unwrap_or_default();
            pass.add_file(new[at], (object, bytes), &changes.lfs, &ScanWork::endings(paths))
        })?;
        let of_old: Vec<Object> = candidates.values().map(|(object, _)| object.clone()).collect();
        let endings: Vec<_> = candidates.values().map(|(_, endings)| endings).collect();
        pass.blank(old_blanks);
        read_all(repo, &of_old, |at, bytes| pass.add_object(None, &of_old[at], bytes, endings[at]))?;
        let (hits, sources) = pass.finish(repo.gate)?;
        let (old, new) = hits.into_iter().partition(|hit| matches!(sources[hit.text], TextSource::Upstreams));
        self.learn(old);
        Ok((new, sources))
    }
}
