//! One pass of all scanners over texts, and what objects say, text by text.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::thread;

use aho_corasick::{AhoCorasick, MatchKind};
use bottle_scan::dlp::{Rules, Scope};
use bottle_scan::known::KnownSecrets;
use bottle_scan::texts::{Derived, Unpacker};
use bottle_types::git::ObjectId;
use bottle_types::rule::Rule;

use super::changes::{Object, ObjectKind, Repo};
use super::dirs::GateDirs;
use super::gitleaks::Scanner;
use super::hit::{FoundBy, Matched, ScanHit};
use super::lfs::LfsChanges;
use super::objects::newlines;
use super::self_test;

/// Unpacked, a push may be this many times as large as a push may be.
const MAX_UNPACK_FACTOR: u64 = 2;
/// A text from this length on is worth a thread.
const PARALLEL_SCAN_BYTES: usize = 1 << 20;
/// As many findings of our rules in one text refuse the push.
const MAX_RULE_HITS: usize = 10_000;

/// Where a text that was scanned comes from.
#[derive(Debug, Clone)]
pub(super) enum TextSource {
    /// A new object itself, and which.
    Object(usize),
    /// A text that was packed in an object, and how.
    Inside(usize, String),
    /// The names in a tree.
    Names(usize),
    /// The ref names of the push.
    Refs,
    /// An object that upstream has.
    Upstreams,
}

impl TextSource {
    /// The new object that the text comes from.
    pub(super) fn object(&self) -> Option<usize> {
        match self {
            Self::Object(index) | Self::Inside(index, _) | Self::Names(index) => Some(*index),
            Self::Refs | Self::Upstreams => None,
        }
    }
}

/// Texts before all three scanners: the bottle's own secrets, pipelock's rules, gitleaks.
pub(super) struct ScanPass<'a> {
    /// None in the self-test.
    gitleaks: Option<Scanner>,
    rules: &'a Rules,
    known: &'a KnownSecrets,
    unpacker: Unpacker,
    blanks: Blanks,
    hits: BTreeSet<ScanHit>,
    sources: Vec<TextSource>,
}

impl<'a> ScanPass<'a> {
    /// A pass that takes nothing away.
    pub(super) fn new(gitleaks: Option<Scanner>, rules: &'a Rules, known: &'a KnownSecrets, repo: &Repo<'_>) -> Self {
        let unpacker = Unpacker::new(repo.upstream.push.max_push_bytes.0.saturating_mul(MAX_UNPACK_FACTOR));
        let (blanks, hits) = (Blanks::default(), BTreeSet::new());
        Self { gitleaks, rules, known, unpacker, blanks, hits, sources: vec![] }
    }

    /// From here on, texts are scanned without these bytes.
    pub(super) fn blank(&mut self, blanks: &Blanks) {
        self.blanks = blanks.clone();
    }

    /// Scans the push's ref names.
    pub(super) fn add_refs(&mut self, names: &str) -> Result<(), String> {
        self.add_all(&|_| TextSource::Refs, names.as_bytes(), &BTreeSet::new())
    }

    /// Scans all that an object says; `endings` are those of its paths by which rules of gitleaks go. `index` says which new
    /// object it is; none: one that upstream has.
    pub(super) fn add_object(
        &mut self,
        index: Option<usize>,
        object: &Object,
        bytes: &[u8],
        endings: &BTreeSet<&'static str>,
    ) -> Result<(), String> {
        if object.kind == ObjectKind::Tree {
            let names = tree_names(&object.id, bytes)?;
            let source = |_| index.map_or(TextSource::Upstreams, TextSource::Names);
            return self.add_all(&source, &names, &BTreeSet::new());
        }
        let source = |how: Option<String>| match (index, how) {
            (None, _) => TextSource::Upstreams,
            (Some(index), None) => TextSource::Object(index),
            (Some(index), Some(how)) => TextSource::Inside(index, how),
        };
        let in_object = |error| format!("object {}: {error}", object.id.short());
        let own = matches!(object.kind, ObjectKind::Commit | ObjectKind::Tag);
        let bytes = if own { without_ids(bytes) } else { bytes };
        self.add_all(&source, bytes, endings).map_err(in_object)
    }

    /// Scans a new object, and the Git LFS object that it may stand for: to the rules, that is the same file.
    pub(super) fn add_file(
        &mut self,
        index: usize,
        (object, bytes): (&Object, &[u8]),
        lfs: &LfsChanges,
        endings: &BTreeSet<&'static str>,
    ) -> Result<(), String> {
        self.add_object(Some(index), object, bytes, endings)?;
        match lfs.content(index)? {
            Some(content) => self.add_object(Some(index), object, &content, endings),
            None => Ok(()),
        }
    }

    /// Scans bytes, and what else they say.
    fn add_all(
        &mut self,
        source: &dyn Fn(Option<String>) -> TextSource,
        bytes: &[u8],
        endings: &BTreeSet<&'static str>,
    ) -> Result<(), String> {
        self.add(source(None), bytes, Some(endings))?;
        let mut unpacker = std::mem::replace(&mut self.unpacker, Unpacker::new(0));
        let mut added = Ok(());
        let unpacked = unpacker.unpack(bytes, &mut |derived: Derived| {
            if added.is_ok() {
                let none = BTreeSet::new();
                added = self.add(source(Some(derived.how)), &derived.bytes, (!derived.is_guess).then_some(&none));
            }
        });
        self.unpacker = unpacker;
        unpacked.map_err(|error| error.to_string())?;
        added
    }

    /// Scans a text; without `endings` not by gitleaks, some of whose rules take much for a token.
    fn add(
        &mut self,
        source: TextSource,
        bytes: &[u8],
        endings: Option<&BTreeSet<&'static str>>,
    ) -> Result<(), String> {
        let text = self.sources.len();
        self.sources.push(source);
        let bytes = &*self.blanks.apply(bytes);
        let (rules, known, gitleaks) = (self.rules, self.known, &mut self.gitleaks);
        let ((found, added), secret) = side_by_side(
            bytes.len(),
            || {
                let found = rules.find_all(bytes, Scope::All, MAX_RULE_HITS);
                let added = gitleaks.as_mut().zip(endings);
                (found, added.map_or(Ok(()), |(gitleaks, endings)| gitleaks.add(text, bytes, endings)))
            },
            || known.find(bytes),
        )?;
        let line = |offset: usize| Some(newlines(&bytes[..offset.min(bytes.len())]) + 1);
        if let Some((name, range)) = secret {
            let rule = Rule::known_secret(name);
            let line = line(range.start);
            self.hits.insert(ScanHit { text, rule, line, by: FoundBy::KnownSecrets, matched: None });
        }
        // What stands behind the last one that was told may be new, and no exemption is for it.
        if found.len() >= MAX_RULE_HITS {
            return Err(format!("one file has {MAX_RULE_HITS} findings or more: they can't be told apart"));
        }
        for (rule, range) in found {
            let matched = Some(Matched::new(&bytes[range.clone()]));
            let (rule, line) = (Rule::format(rule), line(range.start));
            self.hits.insert(ScanHit { text, rule, line, by: FoundBy::Rules, matched });
        }
        added.map_err(|error| format!("failed to prepare the scan: {error}"))
    }

    /// All that was found, and where each text comes from; an error means that not everything was looked at.
    pub(super) fn finish(self, gate: &GateDirs) -> Result<(BTreeSet<ScanHit>, Vec<TextSource>), String> {
        let mut hits = self.hits;
        match self.gitleaks {
            Some(gitleaks) => hits.extend(gitleaks.scan(gate)?),
            None if hits.iter().any(|hit| hit.by == FoundBy::KnownSecrets) => {}
            None => return Err(self_test::UNSCANNED.to_owned()),
        }
        Ok((hits, self.sources))
    }
}

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

/// Bytes that are taken out of texts, so that what stands behind them is found by itself.
#[derive(Clone, Default)]
pub(super) struct Blanks(Option<AhoCorasick>);

impl Blanks {
    pub(super) fn new<'a>(matched: impl Iterator<Item = &'a Matched>) -> Result<Self, String> {
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(matched.map(Matched::bytes));
        search.map(|search| Self(Some(search))).map_err(|error| format!("the findings can't be told apart: {error}"))
    }

    /// A star in place of the bytes, wherever they are no part of a longer token; their lines stay.
    pub(super) fn apply<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(search) = &self.0 else { return Cow::Borrowed(bytes) };
        let goes_on = |byte: Option<&u8>, others: &[u8]| {
            byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || others.contains(byte) || !byte.is_ascii())
        };
        let (mut edited, mut done) = (vec![], 0);
        for found in search.find_iter(bytes) {
            let before = found.start().checked_sub(1).and_then(|before| bytes.get(before));
            if goes_on(before, b"_-+/.~") || goes_on(bytes.get(found.end()), b"_-+/=.~") {
                continue;
            }
            edited.extend_from_slice(&bytes[done..found.start()]);
            edited.push(b'*');
            edited.extend(bytes[found.range()].iter().filter(|byte| **byte == b'\n'));
            done = found.end();
        }
        if done == 0 {
            return Cow::Borrowed(bytes);
        }
        edited.extend_from_slice(&bytes[done..]);
        Cow::Owned(edited)
    }
}

/// A commit or tag behind the ids of the objects that it is about, which git has looked up: they say nothing, and a rule that
/// takes any 40 hex digits for a token, where a word stands beside them, would find them.
fn without_ids(mut bytes: &[u8]) -> &[u8] {
    let is_id = |line: &[u8]| {
        let id = ["tree ", "parent ", "object "].iter().find_map(|word| line.strip_prefix(word.as_bytes()));
        id.is_some_and(|id| matches!(id.len(), 40 | 64) && id.iter().all(u8::is_ascii_hexdigit))
    };
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n').filter(|end| is_id(&bytes[..*end])) {
        bytes = &bytes[end + 1..];
    }
    bytes
}

/// The names in a raw tree, a line each. The id of a submodule can be any 20 bytes, so it is looked at like a name.
fn tree_names(id: &ObjectId, mut tree: &[u8]) -> Result<Vec<u8>, String> {
    let broken = || format!("tree {id} is damaged");
    let id_bytes = id.as_str().len() / 2;
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
        let id = ObjectId::parse(&"0".repeat(40)).expect("an id");
        let mut tree = b"100644 a name\0".to_vec();
        tree.extend([1; 20]);
        tree.extend(b"160000 sub\0ABCDEFGHIJKLMNOPQRST");
        let names = tree_names(&id, &tree).expect("a tree");
        assert_eq!(names, b"a name\nsub\nABCDEFGHIJKLMNOPQRST\n");
        assert!(tree_names(&id, &tree[..tree.len() - 1]).is_err());
        assert!(tree_names(&id, b"100644").is_err());
    }

    #[test]
    fn a_commit_is_read_behind_its_first_ids() {
        let id = "0123456789".repeat(4);
        let rest = format!("author A <a@example.org> 1 +0000\nparent {id}\n\ntree {id}\n");
        let commit = format!("tree {id}\nparent {id}\nparent {id}\n{rest}");
        assert_eq!(without_ids(commit.as_bytes()), rest.as_bytes());
        assert_eq!(without_ids(b"tree not-an-id\n"), b"tree not-an-id\n");
        assert_eq!(without_ids(b""), b"");
    }

    #[test]
    fn bytes_are_blanked_where_they_are_no_part_of_a_longer_token() {
        let matched = [Matched::new(b"abc123"), Matched::new(b"one\ntwo")];
        let blanks = Blanks::new(matched.iter()).expect("a search");
        for (text, expected) in [
            ("a=abc123;", "a=*;"),
            ("abc123", "*"),
            ("\"abc123\" 'abc123'", "\"*\" '*'"),
            ("one\ntwo\nthree", "*\n\nthree"),
            ("abc1234", "abc1234"),
            ("xabc123", "xabc123"),
            ("abc123/more", "abc123/more"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(String::from_utf8_lossy(&blanks.apply(text.as_bytes())), expected, "{text:?}");
        }
    }
}
