//! The report of a push: lines for the agent and the log, and a record for each ref.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::ExitCode;

use bottle_policy::gate::exemptions::glob_of;
use bottle_scan::known::KnownSecrets;
use bottle_wire::push_report::{PushFinding, PushVerdict, PushedRef, Timings};

use super::super::changes::Changes;
use super::super::process::printable;
use super::super::rules::{self, MAX_REFS, Refusal};
use super::super::scan::FoundIn;
use super::super::{lfs, log, record, self_test};
use super::forwarded::Forwarded;
use super::millis;
use super::received::Received;
use super::refused::Refused;

/// Most findings that are shown; the record has them all.
const MAX_LINES_SHOWN: usize = 20;

/// Most exemptions that are shown to be pasted.
const MAX_EXEMPTIONS_SHOWN: usize = 5;

/// All that is told of a push at its end.
pub(super) struct PushReport<'a> {
    received: Received<'a>,
    changes: Changes,
    verdict: PushVerdict,
    refusals: Vec<Refusal>,
    findings: Vec<FoundIn>,
    remote_lines: Vec<String>,
    ms: Timings,
}

impl<'a> From<Forwarded<'a>> for PushReport<'a> {
    fn from(forwarded: Forwarded<'a>) -> Self {
        let Forwarded { received, changes, allowed, verdict, remote_lines, ms } = forwarded;
        Self { received, changes, verdict, refusals: vec![], findings: allowed, remote_lines, ms }
    }
}

impl<'a> From<Refused<'a>> for PushReport<'a> {
    fn from(refused: Refused<'a>) -> Self {
        let Refused { received, changes, refusals, findings, remote_lines, is_held, ms } = refused;
        let verdict = if is_held { PushVerdict::Held } else { PushVerdict::Refused };
        Self { received, changes, verdict, refusals, findings, remote_lines, ms }
    }
}

/// Prints lines on the agent's terminal.
pub(super) fn tell(lines: &[String]) {
    // In one write: git passes on what it reads at once.
    let text: String = lines.iter().map(|line| format!("git-gate: {}\n", printable(line))).collect();
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

impl PushReport<'_> {
    /// Tells the agent, the record and the log.
    pub(super) fn conclude(mut self, known: &KnownSecrets) -> ExitCode {
        self.ms.total = millis(self.received.started);
        let gate = self.received.repo.gate;
        let remote_lines: Vec<String> =
            self.remote_lines.iter().map(|line| format!("upstream: {}", known.mask_str(line))).collect();
        let (mut lines, mut records) = (vec![], vec![]);
        // More refs than are allowed are refused together; a line for each would only fill the record.
        for index in 0..self.received.asked.len().min(MAX_REFS) {
            records.push(self.conclude_ref(index, known, &remote_lines, &mut lines));
        }
        let more = lines.len().saturating_sub(MAX_LINES_SHOWN + records.len());
        lines.truncate(lines.len() - more);
        let more = more + self.received.asked.len() - records.len();
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        if self.verdict == PushVerdict::Refused {
            lines.extend(ways(&self.findings, known));
        }
        lines.extend(remote_lines);
        // It is among the run's cases.
        let is_self_test = self_test::is_this(&self.received.repo, &self.findings);
        if !is_self_test && let Err(error) = record::append(gate, "gate.jsonl", &records) {
            // Upstream may have it by now; what happened is in the log then.
            lines.push(error);
        }
        lfs::forget(&self.received.repo, &self.changes);
        for line in &lines {
            log::send(&gate.dirs, line);
        }
        tell(&lines);
        if self.verdict.has_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// The record of one ref; adds what is said of it.
    fn conclude_ref(
        &self,
        index: usize,
        known: &KnownSecrets,
        remote_lines: &[String],
        lines: &mut Vec<String>,
    ) -> PushedRef {
        let Received { repo, asked, names, .. } = &self.received;
        let (commits, objects, bytes) = rules::weigh(&self.changes, index);
        let about_this_ref = self.refusals.iter().filter(|refusal| refusal.update.is_none_or(|of| of == index));
        let mut reasons: Vec<String> = about_this_ref.map(|refusal| known.mask_str(&refusal.text())).collect();
        let of_this_ref = self.findings.iter().filter(|one| one.updates.contains(&index));
        let mut findings: Vec<PushFinding> = of_this_ref.map(|one| masked(one, known)).collect();
        let name = names[index].clone();
        findings.dedup();
        let verb = if self.verdict == PushVerdict::Held { "held" } else { "refused" };
        lines.extend(reasons.iter().map(|reason| format!("{verb} {name}: {reason}")));
        if self.verdict == PushVerdict::Refused {
            // Two on one line are told once.
            let mut advice: Vec<String> = findings.iter().map(advice).collect();
            advice.dedup();
            lines.extend(advice.iter().map(|advice| format!("refused {name}: {advice}")));
        }
        if self.verdict == PushVerdict::Refused && reasons.is_empty() && findings.is_empty() {
            lines.push(format!("refused {name}: another ref of the same push was refused; push it alone"));
        }
        let passed = match self.verdict {
            PushVerdict::Refused | PushVerdict::Held => None,
            PushVerdict::Accepted => Some("upstream has it"),
            PushVerdict::WouldPush => Some("dry run: kept, not pushed"),
        };
        match passed {
            None => reasons.extend(remote_lines.iter().cloned()),
            Some(end) if findings.is_empty() => {
                lines.push(format!("{name}: {commits} commits scanned, nothing found; {end}"));
            }
            Some(end) => {
                let count = findings.len();
                lines.push(format!(
                    "{name}: {commits} commits scanned, {count} findings let through by a person; {end}"
                ));
            }
        }
        PushedRef {
            time: record::now(),
            repo: repo.upstream.name.clone(),
            r#ref: name,
            old: asked[index].old.clone(),
            new: asked[index].new.clone(),
            commits,
            objects,
            bytes,
            findings,
            verdict: self.verdict,
            reasons,
            ms: self.ms,
        }
    }
}

/// The ways that are open where a finding is no secret, and the lines for a person to paste.
fn ways(findings: &[FoundIn], known: &KnownSecrets) -> Vec<String> {
    let exemptions: BTreeSet<_> =
        findings.iter().filter_map(|one| Some((&one.finding.rule, one.exemption.as_ref()?))).collect();
    if exemptions.is_empty() {
        return vec![];
    }
    let mut lines = vec![
        "if it is no secret, write it otherwise, or ask a person to add this to the bottle in the base branch's \
         claude-bottle.yml (a pushed one does not count):"
            .to_owned(),
        "  gate:".to_owned(),
        "    exemptions:".to_owned(),
    ];
    let shown = || exemptions.iter().take(MAX_EXEMPTIONS_SHOWN);
    let asks = shown().filter_map(|(rule, exemption)| {
        let (path, sha256) =
            (serde_json::to_string(&known.mask_str(&exemption.path)).ok()?, exemption.sha256.as_ref()?);
        Some(format!("  request_exemption {{ rule: {rule}, path: {path}, sha256: {sha256}, why: \"…\" }}"))
    });
    let asks: Vec<String> = asks.collect();
    for (rule, exemption) in shown() {
        let path = known.mask_str(&exemption.path);
        let path = serde_json::to_string(&glob_of(&path)).unwrap_or_default();
        let sha256 = exemption.sha256.as_ref().map(|hash| format!("sha256: {hash}, ")).unwrap_or_default();
        lines.push(format!("      - {{ rule: {rule}, path: {path}, {sha256}reason: \"…\" }}"));
    }
    if !asks.is_empty() {
        lines.push(
            "or ask with supervise's tool, which takes a person's yes for exactly these bytes in this run:".to_owned(),
        );
        lines.extend(asks);
    }
    lines
}

/// A finding for the record, with the hash of its bytes where a person may exempt it by that.
fn masked(found: &FoundIn, known: &KnownSecrets) -> PushFinding {
    let sha256 = found.exemption.as_ref().and_then(|possible| possible.sha256.clone());
    PushFinding { path: known.mask_str(&found.finding.path), sha256, ..found.finding.clone() }
}

/// One line: which rule, where, what to do.
fn advice(finding: &PushFinding) -> String {
    let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
    let commit = finding.commit.as_ref().map(|id| format!(" in commit {}", id.short())).unwrap_or_default();
    let rule = &finding.rule;
    format!(
        "{rule} at {}{line}{commit}; take it out of the commit itself (amend or rebase) and push again",
        finding.path
    )
}
