//! The base branch's own `.gitleaks.toml` and `.gitleaksignore`, where the manifest says that they count: gitleaks itself judges by
//! them what the gate's scan has found, at the paths at which the push puts it.
//!
//! Always: nothing but allowlists is taken from the file: no rule, no disabled rule, no other file or address that it extends. They
//! are read from what upstream's default branch was before this run pushed. gitleaks runs twice, with them and without, each
//! time over the same files; what it finds without them, and not with them, is allowed. What it finds in neither (its own
//! allowlists of paths are in both) is not, and neither is anything where one of the two did not look at every file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use bottle_types::git::ObjectId;
use tempfile::TempDir;
use toml::{Table, Value};

use super::accepted::ScanWork;
use super::changes::{ObjectKind, Repo, kinds, read_all};
use super::gitleaks::{self, FINDINGS_EXIT_CODE, ReportedFinding};
use super::hit::{FoundBy, Matched, ScanHit};
use super::objects::{BETWEEN, new_canary};
use super::process::{self, ProcessLimits, last_words};
use super::rules::entry_at;
use super::texts::{Blanks, TextSource};
use super::{log, mirror};

const CONFIG: &str = ".gitleaks.toml";
const IGNORE: &str = ".gitleaksignore";
/// A larger file of either kind is not applied.
const MAX_FILE_BYTES: u64 = 256 << 10;
/// So many places of what was found are judged, with so many bytes; where two versions of one path are among them, each in a round
/// of its own.
const MAX_PLACES: usize = 256;
const MAX_BYTES: u64 = 64 << 20;
const MAX_ROUNDS: usize = 4;
const LIMITS: ProcessLimits = ProcessLimits::seconds(300, 300);
/// What an allowlist may say; one that says anything else is not applied.
const KEYS: [&str; 8] =
    ["description", "condition", "commits", "paths", "regexTarget", "regexes", "stopwords", "targetRules"];

/// A finding of gitleaks in a new object: which object, by which rule, which bytes.
pub(super) type FoundPlace = (usize, String, Matched);

/// One allowlist, and the rule that it is for; none: every rule that it does not leave out itself.
#[derive(Debug, Clone, PartialEq)]
struct Allowlist {
    rule: Option<String>,
    table: Table,
}

/// All that the base branch allows.
#[derive(Debug, Default)]
pub(super) struct BaseAllowlists {
    lists: Vec<Allowlist>,
    /// Fingerprints: `FILE:RULE:LINE`, and of one commit `COMMIT:FILE:RULE:LINE`.
    ignored: Vec<String>,
}

impl BaseAllowlists {
    /// Reads them from upstream's default branch; what can't be applied is said in the log.
    pub(super) fn read(repo: &Repo<'_>) -> Result<Self, String> {
        let Some(head) = mirror::upstreams_tips(repo)?.head else { return Ok(Self::default()) };
        let mut read = Self::default();
        if let Some(text) = base_file(repo, &head, CONFIG)? {
            let (lists, notes) = lists_of(&text);
            notes.iter().for_each(|note| log::send(&repo.gate.dirs, &format!("upstream's {CONFIG}: {note}")));
            read.lists = lists;
        }
        if let Some(text) = base_file(repo, &head, IGNORE)? {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            read.ignored = lines.map(str::to_owned).collect();
        }
        Ok(read)
    }

    /// Tells which of these findings the base allows, at every path at which the push has them. `blanks` are left out of the texts,
    /// as they were when these were found.
    pub(super) fn allowed(
        &self,
        work: ScanWork<'_>,
        hits: &[&ScanHit],
        sources: &[TextSource],
        blanks: &Blanks,
    ) -> Result<BTreeSet<FoundPlace>, String> {
        let places: BTreeSet<FoundPlace> = hits.iter().filter_map(|hit| place(work, hit, sources)).collect();
        if places.is_empty() || (self.lists.is_empty() && self.ignored.is_empty()) {
            return Ok(BTreeSet::new());
        }
        let rules: BTreeSet<&str> = places.iter().map(|(_, rule, _)| rule.as_str()).collect();
        let config = self.config(&rules);
        let (mut seen, mut refused) = (BTreeSet::new(), BTreeSet::new());
        for round in rounds(work, &places)? {
            let found = Round { work, files: &round, blanks, config: &config, ignored: &self.ignored }.scan()?;
            for (path, object) in &round {
                for place in places.iter().filter(|place| place.0 == *object) {
                    let key = (path.clone(), place.1.clone(), place.2.clone());
                    let is_allowed = found.without.contains(&key) && !found.with.contains(&key);
                    if is_allowed {
                        seen.insert(place.clone())
                    } else {
                        refused.insert(place.clone())
                    };
                }
            }
        }
        Ok(seen.difference(&refused).cloned().collect())
    }

    /// The allowlists for these rules, in gitleaks' format.
    fn config(&self, rules: &BTreeSet<&str>) -> String {
        let mut config = String::new();
        for Allowlist { rule, table } in &self.lists {
            let own = table.get("targetRules").and_then(Value::as_array);
            let names_it = |name: &&&str| own.is_none_or(|own| own.iter().any(|one| one.as_str() == Some(**name)));
            let targets = rules.iter().filter(|name| rule.as_ref().is_none_or(|rule| rule == *name)).filter(names_it);
            let targets: Vec<Value> = targets.map(|name| Value::from(*name)).collect();
            if targets.is_empty() {
                continue;
            }
            config.push_str("[[allowlists]]\n");
            let others = table.iter().filter(|(key, _)| *key != "targetRules");
            let others = others.map(|(key, value)| (key.as_str(), written(value)));
            for (key, value) in others.chain([("targetRules", written(&Value::Array(targets)))]) {
                config.push_str(&format!("{key} = {value}\n"));
            }
        }
        config
    }
}

/// A string or a list of strings, as TOML has it: its escapes are JSON's.
fn written(value: &Value) -> String {
    let text = |value: &Value| serde_json::Value::from(value.as_str().unwrap_or_default()).to_string();
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(", ")),
        one => text(one),
    }
}

/// A finding that an allowlist may be about: gitleaks', in a file itself.
fn place(work: ScanWork<'_>, hit: &ScanHit, sources: &[TextSource]) -> Option<FoundPlace> {
    let TextSource::Object(index) = sources[hit.text] else { return None };
    let is_file = work.changes.objects[index].kind == ObjectKind::Blob;
    (is_file && hit.by == FoundBy::Gitleaks).then_some(())?;
    Some((index, hit.rule.id()?.to_owned(), hit.matched.clone()?))
}

/// A regular file at the root of a commit, if it is there and can be applied.
fn base_file(repo: &Repo<'_>, commit: &ObjectId, name: &str) -> Result<Option<String>, String> {
    let entry = entry_at(repo, commit, name.as_bytes())?;
    if !matches!(entry.mode, 0o100_644 | 0o100_755) {
        return Ok(None);
    }
    let objects = kinds(repo, &[entry.id])?;
    let too_large = objects.iter().any(|object| object.size > MAX_FILE_BYTES);
    let mut text = None;
    if !too_large {
        read_all(repo, &objects, |_, bytes| {
            text = std::str::from_utf8(bytes).ok().map(str::to_owned);
            Ok(())
        })?;
    }
    if text.is_none() {
        let why = if too_large { "it is larger than 256 KiB" } else { "it is not UTF-8" };
        log::send(&repo.gate.dirs, &format!("upstream's {name} is not applied: {why}"));
    }
    Ok(text)
}

/// The allowlists of a configuration, and what of it is not applied.
fn lists_of(text: &str) -> (Vec<Allowlist>, Vec<String>) {
    let (mut lists, mut notes) = (vec![], vec![]);
    let config: Table = match text.parse() {
        Ok(config) => config,
        Err(_) => return (lists, vec!["it is not TOML, so nothing of it is applied".to_owned()]),
    };
    if config.contains_key("extend") {
        notes.push("`extend` is not followed: only its own allowlists are applied".to_owned());
    }
    let mut take = |rule: Option<&str>, table: &Table| {
        for key in ["allowlist", "allowlists"] {
            let given = match table.get(key) {
                Some(Value::Array(given)) => given.clone(),
                Some(one) => vec![one.clone()],
                None => vec![],
            };
            for one in given {
                match checked(one) {
                    Ok(table) => lists.push(Allowlist { rule: rule.map(str::to_owned), table }),
                    Err(why) => notes.push(format!("an allowlist is not applied: {why}")),
                }
            }
        }
    };
    take(None, &config);
    for rule in config.get("rules").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table) {
        if let Some(id) = rule.get("id").and_then(Value::as_str) {
            take(Some(id), rule);
        }
    }
    (lists, notes)
}

/// An allowlist that says nothing but what gitleaks knows.
fn checked(value: Value) -> Result<Table, String> {
    let Value::Table(table) = value else { return Err("it is no table".to_owned()) };
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("the key `{}` is not known here", key.escape_debug()));
    }
    let is_text = |value: &Value| value.as_array().map_or(value.is_str(), |list| list.iter().all(Value::is_str));
    if !table.values().all(is_text) {
        return Err("it has something else than texts and lists of them".to_owned());
    }
    let one_of = |key: &str, known: &[&str]| match table.get(key) {
        None => true,
        Some(value) => value.as_str().is_some_and(|text| known.contains(&text.to_lowercase().as_str())),
    };
    if !one_of("condition", &["", "or", "||", "and", "&&"]) {
        return Err("its `condition` is neither OR nor AND".to_owned());
    }
    if !one_of("regexTarget", &["", "secret", "match", "line"]) {
        return Err("its `regexTarget` is not `secret`, `match` or `line`".to_owned());
    }
    let says = ["commits", "paths", "regexes", "stopwords"];
    if !says.iter().any(|key| table.get(*key).and_then(Value::as_array).is_some_and(|list| !list.is_empty())) {
        return Err("it allows nothing".to_owned());
    }
    Ok(table)
}

/// Files to scan together: the path, and which object stands there.
type RoundFiles = BTreeMap<String, usize>;

/// Puts every place of these findings into a round; an error where one can't be, or where there are too many.
fn rounds(work: ScanWork<'_>, places: &BTreeSet<FoundPlace>) -> Result<Vec<RoundFiles>, String> {
    let objects: BTreeSet<usize> = places.iter().map(|(object, ..)| *object).collect();
    let (mut rounds, mut count, mut bytes): (Vec<RoundFiles>, usize, u64) = (vec![], 0, 0);
    for object in objects {
        let of_object = &work.changes.objects[object];
        let here = work.changes.paths.iter().filter(|change| change.new.id == of_object.id);
        for path in here.map(|change| &change.path[..]).collect::<BTreeSet<_>>() {
            let path = usable(path).ok_or("a path of what was found can't be used as one here")?;
            let size = of_object.size.saturating_add(work.changes.lfs.size(object));
            (count, bytes) = (count + 1, bytes.saturating_add(size));
            if count > MAX_PLACES || bytes > MAX_BYTES {
                return Err("too much was found to be judged by upstream's allowlists".to_owned());
            }
            match rounds.iter_mut().find(|round| fits(round, &path)) {
                Some(round) => drop(round.insert(path, object)),
                None => rounds.push(RoundFiles::from([(path, object)])),
            }
        }
    }
    if rounds.len() > MAX_ROUNDS {
        return Err("too many versions of one path to be judged by upstream's allowlists".to_owned());
    }
    Ok(rounds)
}

/// A path that stays below the directory it is put in, and that gitleaks does not read as a file of its own.
fn usable(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok().filter(|path| !matches!(*path, CONFIG | IGNORE))?;
    let normal = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let plain = !path.contains(['\\', '\n', '!']) && !path.split('/').any(|part| part.is_empty() || part == ".");
    (normal && plain).then(|| path.to_owned())
}

/// Tells whether no file or directory of a round is in a path's way.
fn fits(round: &RoundFiles, path: &str) -> bool {
    let below = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    round.keys().all(|other| other != path && !below(other, path) && !below(path, other))
}

/// What gitleaks found in files: the path, the rule, the bytes.
type FoundHere = BTreeSet<(String, String, Matched)>;

/// Both looks at one round.
struct Looks {
    without: FoundHere,
    with: FoundHere,
}

/// Files that gitleaks looks at twice.
struct Round<'a> {
    work: ScanWork<'a>,
    files: &'a RoundFiles,
    blanks: &'a Blanks,
    config: &'a str,
    ignored: &'a [String],
}

impl Round<'_> {
    fn scan(&self) -> Result<Looks, String> {
        let prepare = |error: std::io::Error| format!("failed to prepare the look by upstream's allowlists: {error}");
        let dir = TempDir::new_in(&self.work.repo.gate.tmp).map_err(prepare)?;
        let canary = new_canary().map_err(prepare)?;
        let input = dir.path().join("in");
        self.write_files(&input, &canary)?;
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).map_err(prepare);
        let plain = gitleaks::config(&canary);
        write("without.toml", &plain)?;
        write("with.toml", &format!("{plain}\n{}", self.config))?;
        write("without.ignore", "")?;
        write("with.ignore", &self.fingerprints().join("\n"))?;
        let (without, with) = std::thread::scope(|scope| {
            let without = scope.spawn(|| self.look(dir.path(), "without", &canary));
            let with = self.look(dir.path(), "with", &canary);
            (without.join().unwrap_or_else(|_| Err("a look by gitleaks did not come to its end".to_owned())), with)
        });
        Ok(Looks { without: without?, with: with? })
    }

    fn write_files(&self, input: &Path, canary: &str) -> Result<(), String> {
        let ScanWork { repo, changes, .. } = self.work;
        std::fs::create_dir(input).map_err(|error| error.to_string())?;
        let files: Vec<(&String, &usize)> = self.files.iter().collect();
        let objects: Vec<_> = files.iter().map(|(_, object)| changes.objects[**object].clone()).collect();
        read_all(repo, &objects, |at, bytes| {
            let path = input.join(files[at].0);
            // A file is what its pointer stands for.
            let content = changes.lfs.content(*files[at].1)?;
            let bytes = content.as_deref().unwrap_or(bytes);
            let bytes = [&*self.blanks.apply(bytes), BETWEEN, canary.as_bytes(), b"\n"].concat();
            let write = || {
                std::fs::create_dir_all(path.parent().unwrap_or(input))?;
                std::fs::write(&path, bytes)
            };
            write().map_err(|error: std::io::Error| format!("failed to write a file for gitleaks: {error}"))
        })
    }

    /// The base's fingerprints that may be about these files. One of a single commit counts where that commit puts the file.
    fn fingerprints(&self) -> Vec<String> {
        let changes = self.work.changes;
        let is_put = |commit: &str, path: &str| {
            let Some(object) = self.files.get(path) else { return false };
            let id = &changes.objects[*object].id;
            let put = changes.paths.iter().filter(|change| change.new.id == *id && change.path == path.as_bytes());
            put.into_iter().any(|change| changes.commits[change.commit].id.as_str() == commit)
        };
        let about_these = |line: &String| match line.split(':').collect::<Vec<_>>()[..] {
            [file, rule, number] => Some(format!("{file}:{rule}:{number}")),
            [commit, file, rule, number] => is_put(commit, file).then(|| format!("{file}:{rule}:{number}")),
            _ => None,
        };
        self.ignored.iter().filter_map(about_these).collect()
    }

    fn look(&self, dir: &Path, name: &str, canary: &str) -> Result<FoundHere, String> {
        let report = dir.join(format!("{name}.json"));
        let mut command = process::program("gitleaks", &self.work.repo.gate.home());
        command
            .args(["dir", "--no-banner", "--no-color", "--log-level=error", "--ignore-gitleaks-allow"])
            .arg("--config")
            .arg(dir.join(format!("{name}.toml")))
            .arg("--gitleaks-ignore-path")
            .arg(dir.join(format!("{name}.ignore")))
            .arg(format!("--exit-code={FINDINGS_EXIT_CODE}"))
            .args(["--max-archive-depth=8", "--max-decode-depth=8", "--report-format=json", "--report-path"])
            .arg(&report)
            .arg(".")
            .current_dir(dir.join("in"));
        let output = process::run(command, None, LIMITS).map_err(|error| error.to_string())?;
        if output.status.code() != Some(FINDINGS_EXIT_CODE) {
            return Err(format!("gitleaks can't go by them: {}", last_words(&output.stderr)));
        }
        let report = std::fs::read(&report).map_err(|error| format!("gitleaks left no report: {error}"))?;
        let report: Vec<ReportedFinding> =
            serde_json::from_slice(&report).map_err(|error| format!("gitleaks' report can't be read: {error}"))?;
        let mut unseen: BTreeSet<&str> = self.files.keys().map(String::as_str).collect();
        let mut found = FoundHere::new();
        for finding in report {
            if finding.rule == canary {
                unseen.remove(finding.file.as_str());
            } else if let Some(matched) = finding.matched() {
                found.insert((finding.file, finding.rule, matched));
            }
        }
        if unseen.is_empty() { Ok(found) } else { Err(format!("gitleaks did not look at {} files", unseen.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_allowlists_is_taken() {
        let (lists, notes) = lists_of(
            "title = 'x'\n[extend]\nuseDefault = true\ndisabledRules = ['github-pat']\npath = '/etc/passwd'\n\
             [allowlist]\npaths = ['^tests/']\n\
             [[rules]]\nid = 'generic-api-key'\nregex = 'x'\n[[rules.allowlists]]\nstopwords = ['sample']\n\
             [[allowlists]]\nregexes = ['a']\nregexTarget = 'file'\n[[allowlists]]\npaths = []\n\
             [[allowlists]]\nregexes = ['a']\nurl = 'x'\n",
        );
        let of_rules: Vec<_> = lists.iter().map(|list| list.rule.as_deref()).collect();
        assert_eq!(of_rules, [None, Some("generic-api-key")]);
        assert_eq!(notes.len(), 4, "{notes:?}");
        let base = BaseAllowlists { lists, ignored: vec![] };
        let config = base.config(&BTreeSet::from(["generic-api-key", "jwt"]));
        assert!(!config.contains("extend") && !config.contains("passwd") && !config.contains("disabled"), "{config}");
        assert_eq!(config.matches("targetRules").count(), 2, "{config}");
        assert_eq!(lists_of("[allowlist").0, []);
    }

    #[test]
    fn a_path_stays_where_it_is_put() {
        for path in ["../a", "/a", "a/../../b", "a//b", "./a", ".gitleaksignore", ".gitleaks.toml", "a\\b", ""] {
            assert!(usable(path.as_bytes()).is_none() || path.is_empty(), "{path}");
        }
        assert!(usable(b"a/b.txt").is_some() && usable(b"\xff").is_none());
        let round = RoundFiles::from([("a/b".to_owned(), 0)]);
        for path in ["a", "a/b", "a/b/c"] {
            assert!(!fits(&round, path), "{path}");
        }
        assert!(fits(&round, "a/bc") && fits(&round, "b"));
    }
}
