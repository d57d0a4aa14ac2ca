//! The course of a push, in the pre-receive hook: rules, then the scan of every new object, then upstream, and only then
//! does git move the mirror's refs. Whatever goes wrong on the way refuses the push.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use bottle_policy::dlp::{Rules, Scope};
use bottle_policy::gate::report::{Finding, PushedRef, Timings, Verdict};
use bottle_policy::gate::texts::Unpacker;
use bottle_policy::known::KnownSecrets;

use super::changes::{self, Changes, Kind, Object, Repo, Update};
use super::corpus::{Corpus, newlines, telling_ending};
use super::gitleaks::Hit;
use super::place::Place;
use super::process::{printable, variable};
use super::rules::{self, Refusal};
use super::{forward, gitleaks, hook, record};

/// What is packed in a push may be this much larger than the push may be.
const UNPACKED: u64 = 4;
/// No more findings than this are shown; the record has them all.
const MOST_SHOWN: usize = 20;

/// Where a finding is that no file has.
const REF_NAME: &str = "ref name";
const FILE_NAME: &str = "file name";
/// In place of a name that is a secret.
const WITHHELD: &str = "(withheld: it looks like a secret)";

/// Where a text that was scanned comes from.
#[derive(Debug, Clone)]
enum Source {
    /// A new object itself, and which.
    Object(usize),
    /// What is packed in it, and how.
    Inside(usize, String),
    /// The names in a tree.
    Names(usize),
    /// The ref names of the push.
    Refs,
}

/// A push on its way, and what is known of it so far.
struct Push<'a> {
    repo: Repo<'a>,
    updates: Vec<Update>,
    /// The ref names as they may be shown.
    names: Vec<String>,
    changes: Changes,
    findings: Vec<(BTreeSet<usize>, Finding)>,
    refusals: Vec<Refusal>,
    ms: Timings,
}

pub(super) fn main(place: Place) -> ExitCode {
    let start = Instant::now();
    let known = match place.dirs.known_secrets(&place.policy.secrets) {
        Ok(known) => known,
        Err(error) => {
            tell(&[format!("refused: {error}")]);
            return ExitCode::FAILURE;
        }
    };
    let (repo, updates) = match opened(&place) {
        Ok(opened) => opened,
        Err(reason) => {
            tell(&[known.mask_str(&format!("refused: {reason}"))]);
            return ExitCode::FAILURE;
        }
    };
    let mut push = Push {
        repo,
        names: updates.iter().map(|update| known.mask_str(&update.name)).collect(),
        updates,
        changes: Changes::default(),
        findings: vec![],
        refusals: vec![],
        ms: Timings::default(),
    };
    let outcome = push.judge(&known, start).and_then(|()| push.forward());
    let verdict = match outcome {
        Ok(verdict) => verdict,
        Err(reason) => {
            push.refusals.push(Refusal::all(reason));
            Verdict::Refused
        }
    };
    push.ms.total = millis(start);
    push.conclude(&known, verdict)
}

fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Lines on the agent's terminal.
fn tell(lines: &[String]) {
    let mut out = std::io::stderr().lock();
    for line in lines {
        let _ = writeln!(out, "git-gate: {}", printable(line));
    }
}

/// The mirror that this hook was called in, and what the client asks for.
fn opened(place: &Place) -> Result<(Repo<'_>, Vec<Update>), String> {
    let here = std::env::current_dir().map_err(|error| format!("no directory to work in: {error}"))?;
    let upstream = place.upstream_at(&here).ok_or("this is not a mirror of the gate")?;
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
        Err("nothing is pushed".to_owned())
    } else {
        Ok((Repo { place, upstream, quarantine }, updates))
    }
}

impl Push<'_> {
    /// Rules and scan; `Ok` with no refusals and no findings is a pass.
    fn judge(&mut self, known: &KnownSecrets, start: Instant) -> Result<(), String> {
        self.refusals = rules::names(&self.repo, &self.updates)?;
        if self.refusals.is_empty() {
            self.changes = Changes::list(&self.repo, &self.updates)?;
            self.refusals = rules::changes(&self.repo, &self.updates, &self.changes)?;
        }
        self.ms.judge = millis(start);
        if self.refusals.is_empty() {
            let start = Instant::now();
            let scanned = self.scan(known);
            self.ms.scan = millis(start);
            self.findings = scanned.map_err(|reason| format!("could not be scanned: {reason}; nothing was pushed"))?;
            if self.findings.iter().any(|(_, one)| matches!(one.path.as_str(), REF_NAME | FILE_NAME)) {
                self.names.fill(WITHHELD.to_owned());
            }
        } else {
            // These names and paths are shown, and were not scanned with the rest.
            let about = self.refusals.iter_mut().filter_map(|refusal| refusal.about.as_mut());
            withhold_secrets(self.repo.place, self.names.iter_mut().chain(about));
        }
        Ok(())
    }

    /// Reads every new object once, and gives all that it says to each scanner: the bottle's own secrets, pipelock's rules,
    /// gitleaks.
    fn scan(&self, known: &KnownSecrets) -> Result<Vec<(BTreeSet<usize>, Finding)>, String> {
        let place = self.repo.place;
        let io = |error: std::io::Error| format!("failed to prepare the scan: {error}");
        let mut corpus = Corpus::new(&place.own("tmp")).map_err(io)?;
        let mut sources = vec![];
        let mut hits = BTreeSet::new();
        let mut unpacker = Unpacker::new(self.repo.upstream.push.max_push_bytes.0.saturating_mul(UNPACKED));
        let rules = Rules::builtin().map_err(|error| error.to_string())?;
        let mut ours = vec![];
        let mut roots: HashMap<String, usize> = HashMap::new();
        let places = self.changes.places();
        let mut add = |source: Source, bytes: &[u8], endings: &BTreeSet<&'static str>| {
            let text = sources.len();
            sources.push(source);
            let line = |offset: usize| Some(newlines(&bytes[..offset]) + 1);
            if let Some((name, range)) = known.find(bytes) {
                hits.insert(Hit { text, rule: format!("known-secret:{name}"), line: line(range.start) });
            }
            if let Some(found) = rules.find(bytes, Scope::All) {
                let offset = usize::try_from(found.offset).unwrap_or_default().min(bytes.len());
                ours.push(Hit { text, rule: found.rule, line: line(offset) });
            }
            corpus.add(text, bytes, endings).map_err(io)
        };
        let plain = BTreeSet::new();
        let refs: String = self.updates.iter().flat_map(|update| [update.name.as_str(), "\n"]).collect();
        add(Source::Refs, refs.as_bytes(), &plain)?;
        for derived in unpacker.unpack(refs.as_bytes()).map_err(|error| format!("ref names: {error}"))? {
            add(Source::Refs, &derived.bytes, &plain)?;
        }
        let commits: HashMap<&str, usize> =
            self.changes.commits.iter().enumerate().map(|(index, commit)| (commit.id.as_str(), index)).collect();
        changes::read_all(&self.repo, &self.changes.objects, |index, bytes| {
            let Object { id, kind, .. } = &self.changes.objects[index];
            let too_much = |error| format!("object {}: {error}", &id[..12]);
            if *kind == Kind::Tree {
                let names = tree_names(id, bytes)?;
                add(Source::Names(index), &names, &plain)?;
                for derived in unpacker.unpack(&names).map_err(too_much)? {
                    add(Source::Names(index), &derived.bytes, &plain)?;
                }
                return Ok(());
            }
            let root = bytes.strip_prefix(b"tree ").and_then(|rest| rest.split(|byte| *byte == b'\n').next());
            if let (Some(commit), Some(root)) = (commits.get(id.as_str()), root) {
                roots.insert(String::from_utf8_lossy(root).into_owned(), *commit);
            }
            let paths = places.get(id.as_str()).map(|(_, paths)| paths.as_slice()).unwrap_or_default();
            let mut endings: BTreeSet<&str> = paths.iter().filter_map(|path| telling_ending(path)).collect();
            if endings.len() < paths.len() {
                endings.insert("");
            }
            add(Source::Object(index), bytes, &endings)?;
            for derived in unpacker.unpack(bytes).map_err(too_much)? {
                add(Source::Inside(index, derived.how), &derived.bytes, &plain)?;
            }
            Ok(())
        })?;
        hits.extend(gitleaks::scan(place, &corpus)?);
        // What gitleaks finds as well is told once, in its words.
        ours.retain(|hit| !hits.iter().any(|other| (other.text, other.line) == (hit.text, hit.line)));
        hits.extend(ours);
        Ok(self.located(&hits, &sources, &roots))
    }

    /// Says of each hit in which commit and file it is, and which refs bring it.
    fn located(
        &self,
        hits: &BTreeSet<Hit>,
        sources: &[Source],
        roots: &HashMap<String, usize>,
    ) -> Vec<(BTreeSet<usize>, Finding)> {
        let places = self.changes.places();
        // A name may be the secret itself: then no name is shown.
        let names_are_secret =
            hits.iter().any(|hit| matches!(sources.get(hit.text), Some(Source::Names(_) | Source::Refs)));
        let mut found: Vec<(BTreeSet<usize>, Finding)> = vec![];
        for hit in hits {
            let (index, inside) = match &sources[hit.text] {
                Source::Refs => {
                    let all = (0..self.updates.len()).collect();
                    found.push((all, finding(hit, None, REF_NAME.to_owned(), false)));
                    continue;
                }
                Source::Object(index) | Source::Names(index) => (*index, None),
                Source::Inside(index, how) => (*index, Some(how)),
            };
            let object = &self.changes.objects[index];
            let placed = places.get(object.id.as_str());
            let commit = placed.map(|(commit, _)| *commit).or_else(|| roots.get(&object.id).copied());
            let commit = commit.map(|commit| self.changes.commits[commit].id.clone());
            let path =
                placed.and_then(|(_, paths)| paths.first()).map(|path| String::from_utf8_lossy(path).into_owned());
            let (commit, mut what) = match object.kind {
                Kind::Commit => (Some(object.id.clone()), "commit message or header".to_owned()),
                Kind::Tag => (None, "tag message or header".to_owned()),
                Kind::Tree => (commit, FILE_NAME.to_owned()),
                Kind::Blob => (commit, path.unwrap_or_else(|| format!("blob {}", &object.id[..12]))),
            };
            if names_are_secret && object.kind == Kind::Blob {
                what = format!("blob {}", &object.id[..12]);
            }
            if let Some(how) = inside {
                what = format!("{what} ({how})");
            }
            let refs =
                (0..self.updates.len()).filter(|update| self.changes.of_update[*update].contains(&index)).collect();
            let has_lines = inside.is_none() && matches!(object.kind, Kind::Blob);
            found.push((refs, finding(hit, commit, what, has_lines)));
        }
        // What a derived text says, the text itself often says too.
        let plain: BTreeSet<(String, Option<String>, String)> = found
            .iter()
            .map(|(_, finding)| (finding.rule.clone(), finding.commit.clone(), finding.path.clone()))
            .collect();
        found.retain(|(_, finding)| {
            finding.path.split_once(" (").is_none_or(|(outer, _)| {
                !plain.contains(&(finding.rule.clone(), finding.commit.clone(), outer.to_owned()))
            })
        });
        found.sort_by(|one, other| one.1.cmp(&other.1));
        found.dedup();
        found
    }

    fn forward(&mut self) -> Result<Verdict, String> {
        if !self.refusals.is_empty() || !self.findings.is_empty() {
            return Ok(Verdict::Refused);
        }
        let start = Instant::now();
        let done = if self.repo.place.policy.dry_run {
            forward::keep_as_bundle(&self.repo, &self.updates).map(|()| Verdict::WouldPush)
        } else {
            forward::to_upstream(&self.repo, &self.updates).map(|()| Verdict::Accepted)
        };
        self.ms.forward = millis(start);
        done
    }

    /// Tells the agent, the record and the log.
    fn conclude(self, known: &KnownSecrets, verdict: Verdict) -> ExitCode {
        let mut lines = vec![];
        let mut records = vec![];
        for (index, update) in self.updates.iter().enumerate() {
            let (commits, objects, bytes) = rules::weigh(&self.changes, index);
            let own = self.refusals.iter().filter(|refusal| refusal.update.is_none_or(|of| of == index));
            let reasons: Vec<String> = own.map(|refusal| known.mask_str(&refusal.text())).collect();
            let findings: Vec<Finding> = self
                .findings
                .iter()
                .filter(|(refs, _)| refs.contains(&index))
                .map(|(_, one)| masked(one, known))
                .collect();
            let name = self.names[index].clone();
            lines.extend(reasons.iter().map(|reason| format!("refused {name}: {reason}")));
            lines.extend(findings.iter().map(|finding| format!("refused {name}: {}", advice(finding))));
            if verdict == Verdict::Refused && reasons.is_empty() && findings.is_empty() {
                lines.push(format!("refused {name}: another ref of the same push was refused; push it alone"));
            }
            match verdict {
                Verdict::Refused => {}
                Verdict::Accepted => {
                    lines.push(format!("{name}: {commits} commits scanned, nothing found; upstream has it"))
                }
                Verdict::WouldPush => {
                    lines.push(format!("{name}: {commits} commits scanned, nothing found; dry run: kept, not pushed"))
                }
            }
            records.push(PushedRef {
                time: record::now(),
                repo: self.repo.upstream.name.clone(),
                r#ref: name,
                old: update.old.clone(),
                new: update.new.clone(),
                commits,
                objects,
                bytes,
                findings,
                verdict,
                reasons,
                ms: self.ms,
            });
        }
        let more = lines.len().saturating_sub(MOST_SHOWN + self.updates.len());
        lines.truncate(lines.len() - more);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        if let Err(error) = record::append(self.repo.place, &records) {
            // Upstream may have it by now; what happened is in the log then.
            lines.push(error);
        }
        for line in &lines {
            hook::log(&self.repo.place.dirs, line);
        }
        tell(&lines);
        if verdict == Verdict::Refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Replaces texts in which the scanner finds something, and all of them if it can't look.
fn withhold_secrets<'a>(place: &Place, texts: impl Iterator<Item = &'a mut String>) {
    let mut texts: Vec<&mut String> = texts.collect();
    let scan = || {
        let mut corpus = Corpus::new(&place.own("tmp")).ok()?;
        for (index, text) in texts.iter().enumerate() {
            corpus.add(index, text.replace(['/', ':'], " ").as_bytes(), &BTreeSet::new()).ok()?;
        }
        gitleaks::scan(place, &corpus).ok()
    };
    let found = scan().map(|hits| hits.into_iter().map(|hit| hit.text).collect::<BTreeSet<_>>());
    for (index, text) in texts.iter_mut().enumerate() {
        if found.as_ref().is_none_or(|found| found.contains(&index)) {
            WITHHELD.clone_into(text);
        }
    }
}

fn finding(hit: &Hit, commit: Option<String>, path: String, has_lines: bool) -> Finding {
    Finding { rule: hit.rule.clone(), commit, path, line: hit.line.filter(|_| has_lines) }
}

fn masked(finding: &Finding, known: &KnownSecrets) -> Finding {
    Finding { path: known.mask_str(&finding.path), ..finding.clone() }
}

/// One line: which rule, where, what to do.
fn advice(finding: &Finding) -> String {
    let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
    let commit =
        finding.commit.as_ref().map(|id| format!(" in commit {}", &id[..id.len().min(12)])).unwrap_or_default();
    let rule = &finding.rule;
    format!(
        "{rule} at {}{line}{commit}; take it out of the commit itself (amend or rebase) and push again",
        finding.path
    )
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
