//! The report of a push: lines for the agent and the log, and a record for each ref.

use std::io::Write as _;
use std::process::ExitCode;

use bottle_scan::known::KnownSecrets;
use bottle_wire::push_report::{Finding, PushedRef, Timings, Verdict};

use super::super::changes::Changes;
use super::super::process::printable;
use super::super::rules::{self, MAX_REFS, Refusal};
use super::super::scan::FoundIn;
use super::super::{log, record};
use super::forwarded::Forwarded;
use super::millis;
use super::received::Received;
use super::refused::Refused;

/// Most findings that are shown; the record has them all.
const MAX_LINES_SHOWN: usize = 20;

/// All that is told of a push at its end.
pub(super) struct PushReport<'a> {
    received: Received<'a>,
    changes: Changes,
    verdict: Verdict,
    refusals: Vec<Refusal>,
    findings: Vec<FoundIn>,
    remote_lines: Vec<String>,
    ms: Timings,
}

impl<'a> From<Forwarded<'a>> for PushReport<'a> {
    fn from(forwarded: Forwarded<'a>) -> Self {
        let Forwarded { received, changes, verdict, remote_lines, ms } = forwarded;
        Self { received, changes, verdict, refusals: vec![], findings: vec![], remote_lines, ms }
    }
}

impl<'a> From<Refused<'a>> for PushReport<'a> {
    fn from(refused: Refused<'a>) -> Self {
        let Refused { received, changes, refusals, findings, remote_lines, ms } = refused;
        Self { received, changes, verdict: Verdict::Refused, refusals, findings, remote_lines, ms }
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
        let Received { repo, updates, names, .. } = &self.received;
        let verdict = self.verdict;
        let mut lines = vec![];
        let mut records = vec![];
        let remote_lines: Vec<String> =
            self.remote_lines.iter().map(|line| format!("upstream: {}", known.mask_str(line))).collect();
        // More refs than are allowed are refused together; a line for each would only fill the record.
        for (index, update) in updates.iter().enumerate().take(MAX_REFS) {
            let (commits, objects, bytes) = rules::weigh(&self.changes, index);
            let about_this_ref = self.refusals.iter().filter(|refusal| refusal.update.is_none_or(|of| of == index));
            let mut reasons: Vec<String> = about_this_ref.map(|refusal| known.mask_str(&refusal.text())).collect();
            let findings: Vec<Finding> = self
                .findings
                .iter()
                .filter(|(refs, _)| refs.contains(&index))
                .map(|(_, one)| masked(one, known))
                .collect();
            let name = names[index].clone();
            lines.extend(reasons.iter().map(|reason| format!("refused {name}: {reason}")));
            lines.extend(findings.iter().map(|finding| format!("refused {name}: {}", advice(finding))));
            if verdict == Verdict::Refused && reasons.is_empty() && findings.is_empty() {
                lines.push(format!("refused {name}: another ref of the same push was refused; push it alone"));
            }
            match verdict {
                Verdict::Refused => reasons.extend(remote_lines.iter().cloned()),
                Verdict::Accepted => {
                    lines.push(format!("{name}: {commits} commits scanned, nothing found; upstream has it"))
                }
                Verdict::WouldPush => {
                    lines.push(format!("{name}: {commits} commits scanned, nothing found; dry run: kept, not pushed"))
                }
            }
            records.push(PushedRef {
                time: record::now(),
                repo: repo.upstream.name.clone(),
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
        let more = more + updates.len() - records.len();
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines.extend(remote_lines);
        if let Err(error) = record::append(repo.gate, &records) {
            // Upstream may have it by now; what happened is in the log then.
            lines.push(error);
        }
        for line in &lines {
            log::send(&repo.gate.dirs, line);
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
