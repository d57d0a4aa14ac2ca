//! The scan: every new object read once, all that it says put before three scanners, and what they find traced back to
//! commit, path and line.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use bottle_types::git::ObjectId;
use bottle_wire::push_report::PushFinding;

use super::accepted::{ScanFound, ScanWork, only_new};
use super::changes::{Object, ObjectKind, read_all};
use super::dirs::GateDirs;
use super::gitleaks::Scanner;
use super::hit::{FoundBy, Matched, ScanHit};
use super::texts::{ScanPass, TextSource};

/// In place of a name that is a secret.
pub(super) const WITHHELD: &str = "(withheld: it looks like a secret)";

/// Where in a push something was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PushPlace {
    RefName,
    FileName,
    Commit,
    Tag,
    /// The file's path; none where it can't be told, or may be the secret itself.
    File(Option<String>, ObjectId),
}

impl fmt::Display for PushPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RefName => f.write_str("ref name"),
            Self::FileName => f.write_str("file name"),
            Self::Commit => f.write_str("commit message or header"),
            Self::Tag => f.write_str("tag message or header"),
            Self::File(Some(path), _) => f.write_str(path),
            Self::File(None, blob) => write!(f, "blob {}", blob.short()),
        }
    }
}

/// A finding, and the indices of the updates that bring it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FoundIn {
    pub(super) finding: PushFinding,
    pub(super) place: PushPlace,
    /// How the text was packed in the object there; none: it is the object itself.
    pub(super) how: Option<String>,
    pub(super) updates: BTreeSet<usize>,
    /// How the manifest could exempt it; none where it could not.
    pub(super) exemption: Option<PossibleExemption>,
}

/// The path of a file, and the SHA-256 of what was found in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PossibleExemption {
    pub(super) path: String,
    pub(super) sha256: Option<String>,
}

/// The commit that a root tree belongs to, by the tree's id.
type Roots = HashMap<ObjectId, usize>;

/// Reads every new object once, gives all that it says to each scanner, and tells what they find that upstream does not have.
pub(super) fn scan(gitleaks: Option<Scanner>, work: ScanWork<'_>) -> Result<Vec<FoundIn>, String> {
    let (found, roots) = look(gitleaks, work)?;
    let (hits, sources) = only_new(work, found);
    // Whoever decides about a held push is told all of it.
    let hits = if work.repo.upstream.push.hold.rules.is_empty() { told_once(hits, &sources) } else { hits };
    Ok(located(work, &hits, &sources, &roots))
}

fn look(gitleaks: Option<Scanner>, work: ScanWork<'_>) -> Result<(ScanFound, Roots), String> {
    let ScanWork { repo, updates, changes, rules, known } = work;
    let mut pass = ScanPass::new(gitleaks, rules, known, repo);
    let refs: String = updates.iter().flat_map(|update| [update.name.as_str(), "\n"]).collect();
    pass.add_refs(&refs)?;
    let mut roots = Roots::new();
    let positions = changes.positions();
    let commits: HashMap<&ObjectId, usize> =
        changes.commits.iter().enumerate().map(|(index, commit)| (&commit.id, index)).collect();
    read_all(repo, &changes.objects, |index, bytes| {
        let object @ Object { id, .. } = &changes.objects[index];
        let root = bytes.strip_prefix(b"tree ").and_then(|rest| rest.split(|byte| *byte == b'\n').next());
        let root = root.and_then(|root| ObjectId::from_bytes(root).ok());
        if let (Some(commit), Some(root)) = (commits.get(id), root) {
            roots.insert(root, *commit);
        }
        let paths = positions.get(id).map(|(_, paths)| paths.as_slice()).unwrap_or_default();
        pass.add_file(index, (object, bytes), &changes.lfs, &ScanWork::endings(paths))
    })?;
    Ok((pass.finish(repo.gate)?, roots))
}

/// A finding of our rules that another scanner has as well, in the same line or of the same bytes in the same object, is told once, in
/// that one's words.
fn told_once(mut hits: BTreeSet<ScanHit>, sources: &[TextSource]) -> BTreeSet<ScanHit> {
    let of_object = |hit: &ScanHit| Some((sources[hit.text].object()?, hit.matched.clone()?));
    let others: Vec<&ScanHit> = hits.iter().filter(|hit| hit.by != FoundBy::Rules).collect();
    let lines: BTreeSet<_> = others.iter().map(|hit| (hit.text, hit.line)).collect();
    let bytes: BTreeSet<_> = others.iter().filter_map(|hit| of_object(hit)).collect();
    let is_told = |hit: &ScanHit| {
        lines.contains(&(hit.text, hit.line)) || of_object(hit).is_some_and(|bytes_of| bytes.contains(&bytes_of))
    };
    hits.retain(|hit| hit.by != FoundBy::Rules || !is_told(hit));
    hits
}

/// Says of each hit in which commit and file it is, and which refs bring it.
fn located(work: ScanWork<'_>, hits: &BTreeSet<ScanHit>, sources: &[TextSource], roots: &Roots) -> Vec<FoundIn> {
    let ScanWork { updates, changes, .. } = work;
    let positions = changes.positions();
    let updates = updates.len();
    // A name may be the secret itself: then no name is shown.
    let names_are_secret =
        hits.iter().any(|hit| matches!(sources.get(hit.text), Some(TextSource::Names(_) | TextSource::Refs)));
    let mut found: Vec<FoundIn> = vec![];
    for hit in hits {
        let (index, inside) = match &sources[hit.text] {
            TextSource::Refs => {
                let place = PushPlace::RefName;
                let finding = finding(hit, None, place.to_string(), false);
                found.push(FoundIn { finding, place, how: None, updates: (0..updates).collect(), exemption: None });
                continue;
            }
            TextSource::Object(index) | TextSource::Names(index) => (*index, None),
            TextSource::Inside(index, how) => (*index, Some(how)),
            TextSource::Upstreams => continue,
        };
        let object = &changes.objects[index];
        let placed = positions.get(&object.id);
        let commit = placed.map(|(commit, _)| *commit).or_else(|| roots.get(&object.id).copied());
        let commit = commit.map(|commit| changes.commits[commit].id.clone());
        let path = placed.and_then(|(_, paths)| paths.first()).map(|path| String::from_utf8_lossy(path).into_owned());
        let may_be_exempt = object.kind == ObjectKind::Blob && hit.by != FoundBy::KnownSecrets && !names_are_secret;
        let exemption = path.clone().filter(|_| may_be_exempt).map(|path| {
            let sha256 = hit.matched.as_ref().map(Matched::sha256);
            PossibleExemption { path, sha256 }
        });
        let (commit, place) = match object.kind {
            ObjectKind::Commit => (Some(object.id.clone()), PushPlace::Commit),
            ObjectKind::Tag => (None, PushPlace::Tag),
            ObjectKind::Tree => (commit, PushPlace::FileName),
            ObjectKind::Blob => (commit, PushPlace::File(path.filter(|_| !names_are_secret), object.id.clone())),
        };
        let what = inside.map_or_else(|| place.to_string(), |how| format!("{place} ({how})"));
        let refs: BTreeSet<usize> = (0..updates).filter(|update| changes.of_update[*update].contains(&index)).collect();
        let has_lines = inside.is_none() && matches!(object.kind, ObjectKind::Blob);
        let (finding, how) = (finding(hit, commit, what, has_lines), inside.cloned());
        found.push(FoundIn { finding, place, how, updates: refs, exemption });
    }
    without_repetitions(found)
}

/// Leaves out findings in derived texts that are in the text itself too.
fn without_repetitions(mut found: Vec<FoundIn>) -> Vec<FoundIn> {
    let what = |one: &FoundIn| (one.finding.rule.clone(), one.finding.commit.clone(), one.place.clone());
    let plain: BTreeSet<_> = found.iter().filter(|one| one.how.is_none()).map(what).collect();
    found.retain(|one| one.how.is_none() || !plain.contains(&what(one)));
    found.sort();
    found.dedup();
    found
}

/// Tells whether a finding is in a ref or path name, which then must not be shown.
pub(super) fn is_in_a_name(found: &FoundIn) -> bool {
    match found.place {
        PushPlace::RefName | PushPlace::FileName => true,
        PushPlace::Commit | PushPlace::Tag | PushPlace::File(..) => false,
    }
}

/// Replaces texts in which the scanner finds something, and all of them if it can't look.
pub(super) fn withhold_secrets<'a>(
    gitleaks: Result<Scanner, String>,
    gate: &GateDirs,
    texts: impl Iterator<Item = &'a mut String>,
) {
    let mut texts: Vec<&mut String> = texts.collect();
    let scan = || {
        let mut gitleaks = gitleaks.ok()?;
        for (index, text) in texts.iter().enumerate() {
            gitleaks.add(index, text.replace(['/', ':'], " ").as_bytes(), &BTreeSet::new()).ok()?;
        }
        gitleaks.scan(gate).ok()
    };
    let found = scan().map(|hits| hits.into_iter().map(|hit| hit.text).collect::<BTreeSet<_>>());
    for (index, text) in texts.iter_mut().enumerate() {
        if found.as_ref().is_none_or(|found| found.contains(&index)) {
            WITHHELD.clone_into(text);
        }
    }
}

fn finding(hit: &ScanHit, commit: Option<ObjectId>, path: String, has_lines: bool) -> PushFinding {
    PushFinding { rule: hit.rule.clone(), commit, path, line: hit.line.filter(|_| has_lines), sha256: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, how: Option<&str>) -> FoundIn {
        let blob = ObjectId::parse(&"a".repeat(40)).expect("an id");
        let place = PushPlace::File(Some(path.to_owned()), blob);
        let path = how.map_or_else(|| place.to_string(), |how| format!("{place} ({how})"));
        let finding = PushFinding { rule: "jwt".into(), commit: None, path, line: None, sha256: None };
        let how = how.map(str::to_owned);
        FoundIn { finding, place, how, updates: BTreeSet::new(), exemption: None }
    }

    #[test]
    fn only_what_is_packed_in_the_same_file_repeats_a_finding() {
        let kept = without_repetitions(vec![found("a", None), found("a", Some("base64")), found("b", Some("gzip"))]);
        assert_eq!(kept.iter().map(|one| &*one.finding.path).collect::<Vec<_>>(), ["a", "b (gzip)"]);
        // A file whose own name reads like that is another file.
        assert_eq!(without_repetitions(vec![found("a", None), found("a (copy).txt", None)]).len(), 2);
    }

    #[test]
    fn a_file_that_is_called_like_a_place_is_a_file() {
        assert!(!is_in_a_name(&found("file name", None)));
        assert!(is_in_a_name(&FoundIn { place: PushPlace::FileName, ..found("x", None) }));
    }
}
