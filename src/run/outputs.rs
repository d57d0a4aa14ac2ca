//! What the agent wanted written at the forge: judged once more, searched for every secret, and written in order, each at most once.
//!
//! The record has a line before each write and a line behind it.

use std::sync::Arc;

use bottle_plan::plan::BottlePlan;
use bottle_policy::outputs::{ANSWER_TRIES, CodeFinding, Output, OutputJudge, OutputKind, answer_text, sarif};
use bottle_scan::known::KnownSecrets;
use bottle_types::door;
use bottle_types::record_file::RecordFile;
use bottle_wire::proposal::ProposalId;
use bottle_wire::proposal::record::{Chain, ChainError, Event, Record as ProposalRecord};
use bottle_wire::receipt::{Receipt, ReceiptStep};
use bottle_wire::run_record::Outcome;
use serde_json::{Value, json};

use super::RunContext;
use super::claimed::Claimed;
use super::commit_files::CommitFiles;
use super::files::TakenFiles;
use super::mode::RunMode;
use super::published::{ended, failed, write_if_held};
use crate::backend::{Bottle, Side};
use crate::cancel::Cancel;
use crate::exit::{Code, Failure};
use crate::forge::{Forge, ForgeError};
use crate::host;
use crate::report::{Events, RunEvent};
use crate::state::HANDED_IN;
use crate::thread::{WriteResult, WrittenOutput, output_key, write_output};

/// The outputs that were asked for, in their order.
pub(super) type AskedOutputs = Vec<(ProposalId, Output)>;

/// The outputs of a record of proposals.
pub(super) fn asked(records: Vec<ProposalRecord>) -> AskedOutputs {
    let output = |record: ProposalRecord| match record.event {
        Event::Output { id, output } => Some((id, *output)),
        _ => None,
    };
    records.into_iter().filter_map(output).collect()
}

/// The outputs of a run's own record of proposals.
pub(super) fn asked_in(plan: &BottlePlan, proposals: &[u8]) -> Result<AskedOutputs, ChainError> {
    Chain::read(plan.slug.as_str(), &String::from_utf8_lossy(proposals)).map(|(records, _)| asked(records))
}

/// Why a run has failed whose agent had to give an answer and gave none that fits; none: it gave one, or had to give none.
pub(super) fn lacks_answer(plan: &BottlePlan, proposals: &[u8]) -> Option<&'static str> {
    // A record that can't be read has none.
    let asked = asked_in(plan, proposals).unwrap_or_default();
    let has_answer = asked.iter().any(|(_, output)| output.kind() == OutputKind::Json);
    (must_answer(plan) && !has_answer).then_some(NO_ANSWER)
}

/// The record of proposals as the door has written it up to now; none where it can't be read.
pub(super) async fn noted(bottle: &dyn Bottle, plan: &BottlePlan) -> Option<Vec<ProposalRecord>> {
    let path = format!("{}/log/{}", door::STATE_DIR, RecordFile::Proposals);
    let tree = bottle.copy_out(Side::Bundle, &path).await.ok()??;
    let bytes = tree.files().next()?.1.to_vec();
    Chain::read(plan.slug.as_str(), &String::from_utf8_lossy(&bytes)).ok().map(|(records, _)| records)
}

/// Whether the agent has to give an answer, has given none, and the door would still take one. Where that can't be told nothing is
/// waited for: the end of the run judges.
pub(super) async fn waits_for_answer(bottle: &dyn Bottle, plan: &BottlePlan) -> bool {
    if !must_answer(plan) {
        return false;
    }
    let Some(records) = noted(bottle, plan).await else { return false };
    let is_refusal =
        |record: &&ProposalRecord| matches!(&record.event, Event::OutputRefused { kind: OutputKind::Json, .. });
    let refused = records.iter().filter(is_refusal).count();
    refused < ANSWER_TRIES && !asked(records).iter().any(|(_, output)| output.kind() == OutputKind::Json)
}

const NO_ANSWER: &str = "the agent gave no answer that fits `outputs.json`";

fn must_answer(plan: &BottlePlan) -> bool {
    plan.policies.supervise.outputs.as_ref().is_some_and(|policy| policy.rules.grants(OutputKind::Json))
}

/// Performs the run's outputs, which `proposals` names as the door has written it. What a dry run would have written outside of its
/// forge is returned.
pub(super) async fn perform(
    claimed: &Claimed<'_>,
    (proposals, files, commit_files): (&[u8], TakenFiles, CommitFiles),
    outcome: &mut Outcome,
) -> Vec<Value> {
    let RunContext { inputs, plan, events, .. } = claimed.context();
    let asked = match collected(plan, events, proposals) {
        Ok(asked) => asked,
        Err(failure) => {
            ended(&failure, outcome);
            return vec![];
        }
    };
    let asked = match &inputs.mode {
        RunMode::Publish(handoff) => handoff.outputs().to_vec(),
        RunMode::Live | RunMode::Replay(_) | RunMode::Undo(_) => asked,
    };
    let mut would = vec![];
    let performed = match asked.is_empty() {
        true => Ok(vec![]),
        false => perform_all(claimed, (asked, files, commit_files), &mut would, outcome).await,
    };
    match performed {
        Err(failure) => ended(&failure, outcome),
        Ok(kinds) if must_answer(plan) && outcome.code == Code::Done && !kinds.contains(&OutputKind::Json) => {
            ended(&Failure::new(Code::Task, NO_ANSWER), outcome);
        }
        Ok(_) => {}
    }
    would
}

/// Gives the kinds of what was performed.
async fn perform_all(
    claimed: &Claimed<'_>,
    (asked, files, commit_files): (AskedOutputs, TakenFiles, CommitFiles),
    would: &mut Vec<Value>,
    outcome: &mut Outcome,
) -> Result<Vec<OutputKind>, Failure> {
    let RunContext { inputs, plan, events, cancel } = claimed.context();
    // Where the plan grants nothing, nothing may go out.
    let judge = OutputJudge::new(plan.policies.supervise.outputs.clone().unwrap_or_default())
        .map_err(|why| Failure::machine(format_args!("no output is written: the policy can't be used: {why}")))?;
    let record = claimed.record();
    let mut file = record.lines(RecordFile::Outputs)?;
    let mut receipts = |receipt: &Receipt| {
        let line = serde_json::to_vec(receipt)
            .map_err(|error| Failure::machine(format_args!("failed to write outputs.jsonl: {error}")))?;
        file.push(&line)
    };
    let mut keep = |kept: Kept<'_>| match kept {
        Kept::Answer(text) => record.write(RecordFile::Answer, format!("{text}\n").as_bytes()).map(|()| true),
        Kept::Findings(sarif) => record.write(RecordFile::Findings, format!("{sarif:#}\n").as_bytes()).map(|()| true),
        Kept::File(path, bytes) => record.write_of_guest(HANDED_IN, path, bytes),
    };
    let mut performer = Performer {
        forge: inputs.forge.as_deref(),
        plan,
        known: inputs.secrets.known(),
        events,
        cancel,
        claimed: Some(claimed),
        judge,
        receipts: &mut receipts,
        keep: &mut keep,
        files,
        commit_files,
        before: vec![],
        performed: vec![],
        would,
    };
    performer.perform_all(asked, outcome).await?;
    Ok(performer.performed)
}

/// The outputs of this run's own bottle; what the door refused is told. The chain is held against the bytes before the record's mask:
/// an output with a secret in it is refused by its name, and does not keep the others.
fn collected(plan: &BottlePlan, events: &Events, proposals: &[u8]) -> Result<AskedOutputs, Failure> {
    let (records, _) = Chain::read(plan.slug.as_str(), &String::from_utf8_lossy(proposals))
        .map_err(|error| Failure::machine(format_args!("no output is written: proposals.jsonl: {error}")))?;
    for record in &records {
        if let Event::OutputRefused { id, kind, reason } = &record.event {
            events.emit(RunEvent::Refused { door: "supervise".to_owned(), what: format!("{id}, {kind}: {reason}") });
        }
    }
    Ok(asked(records))
}

/// Whether an output belongs into the record alone.
fn is_here(output: &Output) -> bool {
    matches!(output, Output::Json { .. } | Output::File { .. })
}

/// Why something that was judged is not kept after all.
const MASKED: &str = "it has a secret of this run or of the runner's environment in it";

/// Something for the record.
enum Kept<'k> {
    Answer(&'k str),
    /// SARIF.
    Findings(&'k Value),
    /// A path and its content.
    File(&'k str, &'k [u8]),
}

struct Performer<'r> {
    /// None outside of a job.
    forge: Option<&'r dyn Forge>,
    plan: &'r BottlePlan,
    known: Arc<KnownSecrets>,
    events: &'r Events,
    cancel: &'r Cancel,
    /// None in tests: nobody else is there who could take the lease over.
    claimed: Option<&'r Claimed<'r>>,
    judge: OutputJudge,
    receipts: &'r mut (dyn FnMut(&Receipt) -> Result<(), Failure> + Send),
    /// Writes something into the record; whether that has it as it is.
    keep: &'r mut (dyn FnMut(Kept<'_>) -> Result<bool, Failure> + Send),
    /// What was taken of the files that were handed in.
    files: TakenFiles,
    /// The files that findings can be about.
    commit_files: CommitFiles,
    /// Those that may go out, up to here.
    before: Vec<Output>,
    /// The kinds of those that were performed.
    performed: Vec<OutputKind>,
    /// What a dry run would have written that its forge does not keep.
    would: &'r mut Vec<Value>,
}

impl Performer<'_> {
    /// Performs all of them in order. One that the forge does not take does not keep the others; a failure ends it: the lease is lost,
    /// the run is ended, or the record can't be written.
    async fn perform_all(&mut self, asked: AskedOutputs, outcome: &mut Outcome) -> Result<(), Failure> {
        // A branch can be looked at when the run has failed; words have no such state, and are kept in the record.
        let unfinished = (outcome.code != Code::Done).then(|| format!("the run ended with {}", outcome.code));
        for (id, output) in asked {
            match &unfinished {
                Some(reason) => self.note(id, &output, ReceiptStep::Refused { reason: reason.clone() })?,
                None => self.perform(id, &output, outcome).await?,
            }
        }
        Ok(())
    }

    async fn perform(&mut self, id: ProposalId, output: &Output, outcome: &mut Outcome) -> Result<(), Failure> {
        let judged = self.judge.judge(&self.known, &self.before, output).map_err(|refusal| refusal.to_string());
        let judged = judged.and_then(|output| match &output {
            Output::File { path } => self.content(path).map(|()| output.clone()),
            Output::Sarif { findings } => self.of_the_commit(id, findings),
            _ => Ok(output),
        });
        let output = match judged {
            Ok(output) => output,
            Err(reason) => {
                let step = self.refused(id, output.kind(), &reason);
                return self.note(id, output, step);
            }
        };
        let kind = output.kind();
        self.before.push(output.clone());
        let nth = self.before.iter().filter(|other| other.kind() == kind).count();
        let key = output_key(self.plan, kind, nth);
        self.note(id, &output, ReceiptStep::Begun { key: key.clone() })?;
        if kind == OutputKind::Sarif {
            // The record has them, whatever becomes of the upload.
            self.keep(&output)?;
        }
        let lost = async {
            match self.claimed {
                Some(claimed) => claimed.lost().await,
                None => Ok(None),
            }
        };
        let write = self.write(&key, &output);
        let step = match write_if_held(lost, self.cancel, write).await? {
            Ok(WriteResult::Written(_)) if is_here(&output) && !self.keep(&output)? => self.refused(id, kind, MASKED),
            Ok(WriteResult::Written(WrittenOutput { number, url, was_there, note })) => {
                self.would_write(&output);
                note.into_iter().for_each(|note| self.events.note(format!("{id}, {kind}: {note}")));
                let at = if url.is_empty() { String::new() } else { format!(": {url}") };
                let how = if was_there { "it was there" } else { "written" };
                self.events.note(format!("{id}, {kind}: {how}{at}"));
                self.performed.push(kind);
                ReceiptStep::Done { number, url, was_there }
            }
            Ok(WriteResult::Refused(reason)) => self.refused(id, kind, reason),
            Err(error) => {
                failed(&error, outcome);
                ReceiptStep::Failed { reason: super::one_line(&error.to_string()) }
            }
        };
        self.note(id, &output, step)
    }

    /// Writes an output at the forge, if it belongs there.
    async fn write(&self, key: &str, output: &Output) -> Result<WriteResult, ForgeError> {
        let here = WrittenOutput::default();
        match (output, self.forge) {
            (Output::Json { .. } | Output::File { .. }, _) => Ok(WriteResult::Written(here)),
            (Output::Sarif { .. }, None) => Ok(WriteResult::Written(here)),
            (_, Some(forge)) => write_output(forge, self.plan, key, output).await,
            (_, None) if self.plan.dry_run => Ok(WriteResult::Written(here)),
            (_, None) => Ok(WriteResult::Refused("this is no job of a forge")),
        }
    }

    /// Tells whether a file was taken and may go out.
    fn content(&self, path: &str) -> Result<(), String> {
        match self.files.iter().find(|(taken, _)| taken == path) {
            Some((_, Ok(bytes))) => self.judge.judge_content(&self.known, bytes).map_err(|refusal| refusal.to_string()),
            Some((_, Err(why))) => Err(why.clone()),
            // Of another job's run, too: its own record has the file.
            None => Err("it was not taken out of this run's guest".to_owned()),
        }
    }

    /// The findings about files of the run's commit; each other one is told, and left out.
    fn of_the_commit(&self, id: ProposalId, findings: &[CodeFinding]) -> Result<Output, String> {
        let Some(files) = &self.commit_files else {
            return Err("the files of the run's commit are not known".to_owned());
        };
        let (known, unknown): (Vec<_>, Vec<_>) =
            findings.iter().cloned().partition(|finding| files.contains(&finding.path));
        for finding in &unknown {
            let what = format!("{id}, sarif: {} is no file of the run's commit; the finding is left out", finding.path);
            self.events.emit(RunEvent::Refused { door: "supervise".to_owned(), what });
        }
        // An empty report says that nothing was found.
        if known.is_empty() && !unknown.is_empty() {
            return Err("none of the findings is about a file of the run's commit".to_owned());
        }
        Ok(Output::Sarif { findings: known })
    }

    /// Keeps what does not belong at the forge; whether the record has it as it was handed in.
    fn keep(&mut self, output: &Output) -> Result<bool, Failure> {
        match output {
            Output::Json { answer } => (self.keep)(Kept::Answer(&answer_text(answer))),
            Output::File { path } => match self.files.iter().find(|(taken, _)| taken == path) {
                Some((path, Ok(bytes))) => (self.keep)(Kept::File(path, bytes)),
                _ => Ok(false),
            },
            Output::Sarif { findings } => {
                (self.keep)(Kept::Findings(&sarif(self.plan.agent.name.as_str(), env!("CARGO_PKG_VERSION"), findings)))
            }
            _ => Ok(false),
        }
    }

    /// Notes what a dry run's forge does not keep.
    fn would_write(&mut self, output: &Output) {
        if self.plan.dry_run && (is_here(output) || output.kind() == OutputKind::Sarif || self.forge.is_none()) {
            self.would.push(json!({"would": output.kind(), "output": output}));
        }
    }

    fn refused(&self, id: ProposalId, kind: OutputKind, reason: &str) -> ReceiptStep {
        let what = format!("{id}, {kind}: {reason}");
        self.events.emit(RunEvent::Refused { door: "supervise".to_owned(), what });
        ReceiptStep::Refused { reason: reason.to_owned() }
    }

    fn note(&mut self, id: ProposalId, output: &Output, step: ReceiptStep) -> Result<(), Failure> {
        (self.receipts)(&Receipt { time: host::now(), id, kind: output.kind(), step })
    }
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;
