//! The course of a push, in the pre-receive hook: rules, then the scan of every new object, then upstream, and only then
//! does git move the mirror's refs. Whatever goes wrong on the way refuses the push.

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use bottle_policy::dlp::Rules;
use bottle_policy::gate::report::{Finding, PushedRef, Timings, Verdict};
use bottle_policy::known::KnownSecrets;

use super::changes::{Changes, Repo, Update};
use super::dirs::GateDirs;
use super::gitleaks::Scanner;
use super::process::{printable, variable};
use super::rules::{self, MAX_REFS, Refusal};
use super::{forward, log, record, scan};

/// No more findings than this are shown; the record has them all.
const MAX_LINES_SHOWN: usize = 20;

/// A push on its way, and what is known of it so far.
struct Push<'a> {
    repo: Repo<'a>,
    updates: Vec<Update>,
    /// The ref names as they may be shown.
    names: Vec<String>,
    changes: Changes,
    findings: Vec<(BTreeSet<usize>, Finding)>,
    refusals: Vec<Refusal>,
    /// What upstream said to it.
    words: Vec<String>,
    ms: Timings,
}

pub(super) fn main(gate: GateDirs) -> ExitCode {
    let start = Instant::now();
    let known = match gate.dirs.known_secrets(&gate.policy.secrets) {
        Ok(known) => known,
        Err(error) => {
            tell(&[format!("refused: {error}")]);
            return ExitCode::FAILURE;
        }
    };
    let (repo, updates) = match opened(&gate) {
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
        words: vec![],
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
    // In one write: git passes on what it reads at once.
    let text: String = lines.iter().map(|line| format!("git-gate: {}\n", printable(line))).collect();
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// The mirror that this hook was called in, and what the client asks for.
fn opened(gate: &GateDirs) -> Result<(Repo<'_>, Vec<Update>), String> {
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
        Err("nothing is pushed".to_owned())
    } else {
        Ok((Repo { gate, upstream, quarantine }, updates))
    }
}

impl Push<'_> {
    /// Rules and scan; `Ok` with no refusals and no findings is a pass.
    fn judge(&mut self, known: &KnownSecrets, start: Instant) -> Result<(), String> {
        // Both read their rules while this looks at what is pushed.
        let gitleaks = Scanner::start(self.repo.gate);
        let own = self.repo.gate.policy.patterns.clone();
        let rules = thread::spawn(move || Rules::with(&own, &[]));
        self.refusals = rules::names(&self.repo, &self.updates)?;
        if self.refusals.is_empty() && !forward::can_be_one_push(&self.repo, &self.updates)? {
            self.refusals.push(Refusal::all(forward::ONE_AT_A_TIME.to_owned()));
        }
        if self.refusals.is_empty() {
            self.changes = Changes::list(&self.repo, &self.updates)?;
            self.refusals = rules::changes(&self.repo, &self.updates, &self.changes)?;
        }
        self.ms.judge = millis(start);
        if self.refusals.is_empty() {
            let start = Instant::now();
            let scanned = gitleaks.and_then(|gitleaks| {
                let rules = rules.join().map_err(|_| "the rules can't be read".to_owned())?;
                let rules = rules.map_err(|error| error.to_string())?;
                scan::scan(gitleaks, &rules, &self.repo, &self.updates, &self.changes, known)
            });
            self.ms.scan = millis(start);
            self.findings = scanned.map_err(|reason| format!("could not be scanned: {reason}; nothing was pushed"))?;
            if self.findings.iter().any(|(_, one)| scan::is_in_a_name(one)) {
                self.names.fill(scan::WITHHELD.to_owned());
            }
        } else {
            // These names and paths are shown, and were not scanned with the rest.
            let about = self.refusals.iter_mut().filter_map(|refusal| refusal.about.as_mut());
            let names = self.names.iter_mut().take(MAX_REFS);
            scan::withhold_secrets(gitleaks, self.repo.gate, names.chain(about));
        }
        Ok(())
    }

    fn forward(&mut self) -> Result<Verdict, String> {
        if !self.refusals.is_empty() || !self.findings.is_empty() {
            return Ok(Verdict::Refused);
        }
        let start = Instant::now();
        let done = if self.repo.gate.policy.dry_run {
            forward::keep_as_bundle(&self.repo, &self.updates).map(|()| Verdict::WouldPush)
        } else {
            match forward::to_upstream(&self.repo, &self.updates) {
                Ok(words) => {
                    self.words = words;
                    Ok(Verdict::Accepted)
                }
                Err(error) => {
                    self.words = error.words;
                    Err(error.why)
                }
            }
        };
        self.ms.forward = millis(start);
        done
    }

    /// Tells the agent, the record and the log.
    fn conclude(self, known: &KnownSecrets, verdict: Verdict) -> ExitCode {
        let mut lines = vec![];
        let mut records = vec![];
        let words: Vec<String> = self.words.iter().map(|line| format!("upstream: {}", known.mask_str(line))).collect();
        // More refs than are allowed are refused together; a line for each would only fill the record.
        for (index, update) in self.updates.iter().enumerate().take(MAX_REFS) {
            let (commits, objects, bytes) = rules::weigh(&self.changes, index);
            let own = self.refusals.iter().filter(|refusal| refusal.update.is_none_or(|of| of == index));
            let mut reasons: Vec<String> = own.map(|refusal| known.mask_str(&refusal.text())).collect();
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
                Verdict::Refused => reasons.extend(words.iter().cloned()),
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
        let more = lines.len().saturating_sub(MAX_LINES_SHOWN + records.len());
        lines.truncate(lines.len() - more);
        let more = more + self.updates.len() - records.len();
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines.extend(words);
        if let Err(error) = record::append(self.repo.gate, &records) {
            // Upstream may have it by now; what happened is in the log then.
            lines.push(error);
        }
        for line in &lines {
            log::send(&self.repo.gate.dirs, line);
        }
        tell(&lines);
        if verdict == Verdict::Refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
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
