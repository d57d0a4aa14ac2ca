//! The scan: every new object read once, all that it says put before three scanners, and what they find traced back to
//! commit, path and line.

use std::collections::{BTreeSet, HashMap};
use std::thread;

use bottle_scan::dlp::{Rules, Scope};
use bottle_scan::known::KnownSecrets;
use bottle_scan::texts::{Derived, Unpacker};
use bottle_wire::push_report::Finding;

use super::changes::{Changes, Object, ObjectKind, Repo, Update, read_all};
use super::dirs::GateDirs;
use super::gitleaks::{ScanHit, Scanner};
use super::objects::{newlines, telling_ending};

/// Unpacked, a push may be this many times as large as a push may be.
const MAX_UNPACK_FACTOR: u64 = 2;
/// Places of findings that no file has.
const REF_NAME: &str = "ref name";
const FILE_NAME: &str = "file name";
/// In place of a name that is a secret.
pub(super) const WITHHELD: &str = "(withheld: it looks like a secret)";

/// Where a text that was scanned comes from.
#[derive(Debug, Clone)]
enum TextSource {
    /// A new object itself, and which.
    Object(usize),
    /// A text that was packed in an object, and how.
    Inside(usize, String),
    /// The names in a tree.
    Names(usize),
    /// The ref names of the push.
    Refs,
}

/// Puts one text before the scanners.
type AddText<'a> = dyn FnMut(TextSource, &[u8], &BTreeSet<&'static str>) -> Result<(), String> + 'a;

/// Reads every new object once, and gives all that it says to each scanner: the bottle's own secrets, pipelock's rules,
/// gitleaks.
pub(super) fn scan(
    mut gitleaks: Scanner,
    rules: &Rules,
    repo: &Repo<'_>,
    updates: &[Update],
    changes: &Changes,
    known: &KnownSecrets,
) -> Result<Vec<(BTreeSet<usize>, Finding)>, String> {
    let gate = repo.gate;
    let io = |error: std::io::Error| format!("failed to prepare the scan: {error}");
    let mut sources = vec![];
    let mut hits = BTreeSet::new();
    let mut unpacker = Unpacker::new(repo.upstream.push.max_push_bytes.0.saturating_mul(MAX_UNPACK_FACTOR));
    let mut rule_hits = vec![];
    let mut roots: HashMap<String, usize> = HashMap::new();
    let positions = changes.positions();
    let mut add = |source: TextSource, bytes: &[u8], endings: &BTreeSet<&'static str>| {
        let text = sources.len();
        sources.push(source);
        let line = |offset: usize| Some(newlines(&bytes[..offset]) + 1);
        let ((found, added), secret) = side_by_side(
            bytes.len(),
            || (rules.find(bytes, Scope::All), gitleaks.add(text, bytes, endings)),
            || known.find(bytes),
        )?;
        if let Some((name, range)) = secret {
            hits.insert(ScanHit { text, rule: format!("known-secret:{name}"), line: line(range.start) });
        }
        if let Some(found) = found {
            let offset = usize::try_from(found.offset).unwrap_or_default().min(bytes.len());
            rule_hits.push(ScanHit { text, rule: found.rule, line: line(offset) });
        }
        added.map_err(io)
    };
    let plain = BTreeSet::new();
    let refs: String = updates.iter().flat_map(|update| [update.name.as_str(), "\n"]).collect();
    add(TextSource::Refs, refs.as_bytes(), &plain)?;
    let mut inside = |source: &dyn Fn(String) -> TextSource, bytes: &[u8], add: &mut AddText<'_>| {
        let mut added = Ok(());
        let mut each = |derived: Derived| {
            if added.is_ok() {
                added = add(source(derived.how), &derived.bytes, &plain);
            }
        };
        unpacker.unpack(bytes, &mut each).map_err(|error| error.to_string())?;
        added
    };
    inside(&|_| TextSource::Refs, refs.as_bytes(), &mut add)?;
    let commits: HashMap<&str, usize> =
        changes.commits.iter().enumerate().map(|(index, commit)| (commit.id.as_str(), index)).collect();
    read_all(repo, &changes.objects, |index, bytes| {
        let Object { id, kind, .. } = &changes.objects[index];
        let in_object = |error| format!("object {}: {error}", &id[..12]);
        if *kind == ObjectKind::Tree {
            let names = tree_names(id, bytes)?;
            add(TextSource::Names(index), &names, &plain)?;
            return inside(&|_| TextSource::Names(index), &names, &mut add).map_err(in_object);
        }
        let root = bytes.strip_prefix(b"tree ").and_then(|rest| rest.split(|byte| *byte == b'\n').next());
        if let (Some(commit), Some(root)) = (commits.get(id.as_str()), root) {
            roots.insert(String::from_utf8_lossy(root).into_owned(), *commit);
        }
        let paths = positions.get(id.as_str()).map(|(_, paths)| paths.as_slice()).unwrap_or_default();
        let mut endings: BTreeSet<&str> = paths.iter().filter_map(|path| telling_ending(path)).collect();
        if endings.len() < paths.len() {
            endings.insert("");
        }
        add(TextSource::Object(index), bytes, &endings)?;
        inside(&|how| TextSource::Inside(index, how), bytes, &mut add).map_err(in_object)
    })?;
    hits.extend(gitleaks.scan(gate)?);
    // A finding that gitleaks has as well is told once, in gitleaks' words.
    rule_hits.retain(|hit| !hits.iter().any(|other| (other.text, other.line) == (hit.text, hit.line)));
    hits.extend(rule_hits);
    Ok(located(updates.len(), changes, &hits, &sources, &roots))
}

/// A text from this length on is worth a thread.
const PARALLEL_SCAN_BYTES: usize = 1 << 20;

/// Does both, at once where the text is large.
fn side_by_side<A, B: Send>(
    length: usize,
    here: impl FnOnce() -> A,
    there: impl FnOnce() -> B + Send,
) -> Result<(A, B), String> {
    if length < PARALLEL_SCAN_BYTES {
        return Ok((here(), there()));
    }
    thread::scope(|scope| {
        let there = scope.spawn(there);
        let here = here();
        Ok((here, there.join().map_err(|_| "a search did not come to its end".to_owned())?))
    })
}

/// Says of each hit in which commit and file it is, and which refs bring it.
fn located(
    updates: usize,
    changes: &Changes,
    hits: &BTreeSet<ScanHit>,
    sources: &[TextSource],
    roots: &HashMap<String, usize>,
) -> Vec<(BTreeSet<usize>, Finding)> {
    let positions = changes.positions();
    // A name may be the secret itself: then no name is shown.
    let names_are_secret =
        hits.iter().any(|hit| matches!(sources.get(hit.text), Some(TextSource::Names(_) | TextSource::Refs)));
    let mut found: Vec<(BTreeSet<usize>, Finding)> = vec![];
    for hit in hits {
        let (index, inside) = match &sources[hit.text] {
            TextSource::Refs => {
                let all = (0..updates).collect();
                found.push((all, finding(hit, None, REF_NAME.to_owned(), false)));
                continue;
            }
            TextSource::Object(index) | TextSource::Names(index) => (*index, None),
            TextSource::Inside(index, how) => (*index, Some(how)),
        };
        let object = &changes.objects[index];
        let placed = positions.get(object.id.as_str());
        let commit = placed.map(|(commit, _)| *commit).or_else(|| roots.get(&object.id).copied());
        let commit = commit.map(|commit| changes.commits[commit].id.clone());
        let path = placed.and_then(|(_, paths)| paths.first()).map(|path| String::from_utf8_lossy(path).into_owned());
        let (commit, mut what) = match object.kind {
            ObjectKind::Commit => (Some(object.id.clone()), "commit message or header".to_owned()),
            ObjectKind::Tag => (None, "tag message or header".to_owned()),
            ObjectKind::Tree => (commit, FILE_NAME.to_owned()),
            ObjectKind::Blob => (commit, path.unwrap_or_else(|| format!("blob {}", &object.id[..12]))),
        };
        if names_are_secret && object.kind == ObjectKind::Blob {
            what = format!("blob {}", &object.id[..12]);
        }
        if let Some(how) = inside {
            what = format!("{what} ({how})");
        }
        let refs = (0..updates).filter(|update| changes.of_update[*update].contains(&index)).collect();
        let has_lines = inside.is_none() && matches!(object.kind, ObjectKind::Blob);
        found.push((refs, finding(hit, commit, what, has_lines)));
    }
    // A finding in a derived text is often in the text itself too.
    let plain: BTreeSet<(String, Option<String>, String)> =
        found.iter().map(|(_, finding)| (finding.rule.clone(), finding.commit.clone(), finding.path.clone())).collect();
    found.retain(|(_, finding)| {
        finding
            .path
            .split_once(" (")
            .is_none_or(|(outer, _)| !plain.contains(&(finding.rule.clone(), finding.commit.clone(), outer.to_owned())))
    });
    found.sort_by(|one, other| one.1.cmp(&other.1));
    found.dedup();
    found
}

/// Tells whether a finding is in a ref or path name, which then must not be shown.
pub(super) fn is_in_a_name(finding: &Finding) -> bool {
    matches!(finding.path.as_str(), REF_NAME | FILE_NAME)
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

fn finding(hit: &ScanHit, commit: Option<String>, path: String, has_lines: bool) -> Finding {
    Finding { rule: hit.rule.clone(), commit, path, line: hit.line.filter(|_| has_lines) }
}

/// The names in a raw tree, a line each. The id of a submodule can be any 20 bytes, so it is looked at like a name.
fn tree_names(id: &str, mut tree: &[u8]) -> Result<Vec<u8>, String> {
    let broken = || format!("tree {id} is damaged");
    let id_bytes = id.len() / 2;
    let mut names = vec![];
    while !tree.is_empty() {
        let blank = tree.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
        let end = tree.iter().position(|byte| *byte == 0).filter(|end| *end > blank).ok_or_else(broken)?;
        let next = end + 1 + id_bytes;
        let target = tree.get(end + 1..next).ok_or_else(broken)?;
        names.extend_from_slice(&tree[blank + 1..end]);
        names.push(b'\n');
        if &tree[..blank] == b"160000" {
            names.extend_from_slice(target);
            names.push(b'\n');
        }
        tree = &tree[next..];
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_tree_and_the_bytes_of_a_submodule() {
        let id = "0".repeat(40);
        let mut tree = b"100644 a name\0".to_vec();
        tree.extend([1; 20]);
        tree.extend(b"160000 sub\0ABCDEFGHIJKLMNOPQRST");
        let names = tree_names(&id, &tree).expect("a tree");
        assert_eq!(names, b"a name\nsub\nABCDEFGHIJKLMNOPQRST\n");
        assert!(tree_names(&id, &tree[..tree.len() - 1]).is_err());
        assert!(tree_names(&id, b"100644").is_err());
    }
}
