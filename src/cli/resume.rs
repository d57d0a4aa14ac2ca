//! What an earlier run leaves to the one that resumes it: its task, and what people granted for its image.

use std::path::Path;

use bottle_plan::plan::BottlePlan;
use bottle_plan::task::Task;
use bottle_policy::supervise::Request;
use bottle_types::record_file::RecordFile;
use bottle_wire::proposal::ledger::Ledger;
use bottle_wire::proposal::record::Chain;

use crate::backend;
use crate::exit::Failure;
use crate::state;

/// An earlier run.
pub(crate) struct EarlierRun {
    pub(crate) task: Task,
    /// Lines for a Dockerfile, in the order in which they were asked for.
    pub(crate) capabilities: Vec<String>,
    /// True if some of it was granted in that run itself.
    pub(crate) more: bool,
}

/// Reads a run record that holds: a record that was changed could grant anything.
pub(crate) fn read(dir: &Path) -> Result<EarlierRun, Failure> {
    let cannot_resume =
        |what: &dyn std::fmt::Display| Failure::input(format_args!("can't resume {}: {what}", dir.display()));
    let checked = state::check(dir, backend::record_files).ok_or_else(|| {
        cannot_resume(&"it is no run record")
            .hint("`bottle-runner ps --all` lists records; each run ends by saying where its own is")
    })?;
    if let Some(problem) = checked.problems.first() {
        return Err(cannot_resume(problem)
            .hint(format_args!("`bottle-runner verify-record {}` says all that is wrong", dir.display())));
    }
    let text = |name: RecordFile| {
        std::fs::read_to_string(dir.join(name)).map_err(|error| cannot_resume(&format_args!("{name}: {error}")))
    };
    let plan: BottlePlan = serde_json::from_str(&text(RecordFile::Plan)?)
        .map_err(|error| cannot_resume(&format_args!("plan.json: {error}")))?;
    // What it had been granted by the run before it is still granted.
    let mut capabilities: Vec<String> = plan.images.made.map(|made| made.lines).unwrap_or_default();
    let before = capabilities.len();
    // A run that was stopped before its bottle came up has none, which the check above knows.
    if dir.join(RecordFile::Proposals).is_file() {
        let (records, _) =
            Chain::read(plan.slug.as_str(), &text(RecordFile::Proposals)?).map_err(|error| cannot_resume(&error))?;
        let mut ledger = Ledger::new(plan.slug.as_str());
        for record in &records {
            ledger.add(record).map_err(|error| cannot_resume(&error))?;
        }
        capabilities.extend(ledger.standings().filter_map(|standing| match ledger.granted(standing.proposal.id)? {
            Request::RequestCapability { dockerfile, .. } => Some(dockerfile.clone()),
            _ => None,
        }));
    }
    Ok(EarlierRun { task: plan.task, more: capabilities.len() > before, capabilities })
}
