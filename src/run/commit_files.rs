//! The files that findings can be about: those of the run's commit, listed before the agent begins. Afterwards the guest's word is the
//! agent's.

use std::collections::BTreeSet;
use std::time::Duration;

use bottle_plan::plan::BottlePlan;
use bottle_policy::outputs::OutputKind;
use bottle_types::git::ObjectId;

use super::LiveRun;
use crate::backend::{Bottle, BottleError, Exec, OutputChunk};

/// The paths of a commit's regular files; none: they are not known, and no finding can be about one.
pub(super) type CommitFiles = Option<BTreeSet<String>>;

const LIST_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest listing that is read; some 500,000 files.
const MAX_LISTING_BYTES: usize = 64 << 20;

/// Lists the files, if the agent may report findings. It has not been in the guest yet.
pub(super) async fn list(run: &LiveRun<'_>) -> CommitFiles {
    let plan = run.context.plan;
    let outputs = plan.policies.supervise.outputs.as_ref();
    if !outputs.is_some_and(|outputs| outputs.rules.grants(OutputKind::Sarif)) {
        return None;
    }
    let commit = plan.task.checked_commit().or(run.progress.starts.last())?;
    let listing = tokio::time::timeout(run.bottle.patience(LIST_TIMEOUT), listing(run.bottle, plan, commit));
    let problem = match listing.await {
        Ok(Ok(listing)) => match regular_files(&listing) {
            Some(files) => return Some(files),
            None => "the listing can't be read".to_owned(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it took longer than {} s", LIST_TIMEOUT.as_secs()),
    };
    let short = commit.short();
    run.context.events.warn(format!("no findings can be reported: failed to list the files of {short}: {problem}"));
    None
}

async fn listing(bottle: &dyn Bottle, plan: &BottlePlan, commit: &ObjectId) -> Result<Vec<u8>, BottleError> {
    let argv = ["git", "ls-tree", "-r", "-z", "--full-tree", commit.as_str()];
    let mut running = bottle.exec(Exec::guest(argv).in_dir(&plan.guest.workdir)).await?;
    let mut bytes = vec![];
    while let Some(chunk) = running.output.recv().await {
        if let OutputChunk::Stdout(more) = chunk {
            bytes.extend_from_slice(&more);
        }
        if bytes.len() > MAX_LISTING_BYTES {
            return Err(BottleError::new("the commit has too many files", "the listing is longer than 64 MiB"));
        }
    }
    let ended = running.code.await.map_err(|_| BottleError::new("failed to learn the exit code", "it went away"))??;
    if ended == 0 { Ok(bytes) } else { Err(BottleError::new("failed to list them", format!("git ended with {ended}"))) }
}

/// The regular files of what `git ls-tree -r -z` prints: `MODE TYPE ID`, a tab, the path, a zero byte. A path that is not UTF-8 is none
/// that a finding could name. None: a line is no entry.
fn regular_files(listing: &[u8]) -> Option<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for entry in listing.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        if let (true, Ok(path)) = (entry.starts_with(b"100"), str::from_utf8(&entry[tab + 1..])) {
            files.insert(path.to_owned());
        }
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::regular_files;

    #[test]
    fn links_and_submodules_are_no_files_of_the_commit() {
        let id = "a".repeat(40);
        let entry = |kind: &str, path: &[u8]| [format!("{kind} {id}\t").as_bytes(), path, b"\0"].concat();
        let listing = [
            entry("100644 blob", b"src/a\tb.rs"),
            entry("100755 blob", b"run"),
            entry("120000 blob", b"link"),
            entry("160000 commit", b"vendor/module"),
            entry("100644 blob", b"not-\xff-text"),
        ];
        let files = regular_files(&listing.concat()).expect("a listing");
        assert_eq!(files.into_iter().collect::<Vec<_>>(), ["run", "src/a\tb.rs"]);
        assert_eq!(regular_files(b"fatal: not a tree object\0"), None);
        assert_eq!(regular_files(b"").map(|files| files.len()), Some(0));
    }
}
