//! The files of the workspace that the manifest has taken into the run record when the work is done.
//!
//! Always: nothing runs in the guest any more; files are listed and read by programs of the guest, as the agent's user, so that what a link
//! leads to is the guest's own; each is judged before it is written. What may not be in the record is left out and said, and ends no run.

use std::collections::{BTreeSet, HashSet};

use bottle_policy::artifacts::{ArtifactJudge, ArtifactPolicy, ArtifactRules};
use bottle_types::units::ByteSize;

use super::{LiveRun, RunContext, files};
use crate::state::ARTIFACTS;

/// Prints the regular files below `$2`, `$3`, … of the directory `$1`, without git's own. No link is followed.
const LISTING: &str = r#"cd -P -- "$1" || exit 3
shift
code=0
for top; do
  if [ -e "./$top" ]; then find -P "./$top" -name .git -prune -o -type f -print0 2>/dev/null || code=6; fi
done
exit $code"#;
/// Some of it could not be listed, such as a directory that the agent's user may not read.
const NOT_ALL: i64 = 6;

/// The most that a list of files may have, in bytes.
const MOST_LISTED: u64 = 8 << 20;
/// So many files that are left out are named one by one.
const MOST_NAMED: usize = 10;

/// Takes what the manifest names.
pub(super) async fn take(run: &LiveRun<'_>) {
    let RunContext { plan, events, .. } = run.context;
    let Some(policy) = &plan.artifacts else { return };
    match take_all(run, policy).await {
        Ok((taken, bytes)) => {
            let files = if taken == 1 { "1 file".to_owned() } else { format!("{taken} files") };
            events.note(format!("artifacts: {files}, {}, in {ARTIFACTS}/ of the run record", ByteSize(bytes)));
        }
        Err(why) => events.warn(format!("no artifact was taken: {why}")),
    }
}

/// Gives the number of files that were taken, and their size.
async fn take_all(run: &LiveRun<'_>, policy: &ArtifactPolicy) -> Result<(usize, u64), String> {
    let events = run.context.events;
    let ArtifactRules { max, max_bytes, .. } = policy.rules;
    let judge = ArtifactJudge::new(policy)?;
    // Nothing may change them under our hands.
    run.bottle.signal("KILL").await.map_err(|error| error.to_string())?;
    let named = list(run, &judge).await?;
    let (most, more) = (max as usize, named.len().saturating_sub(max as usize));
    let (mut taken, mut size, mut seen, mut left_out) = (0, 0, HashSet::new(), vec![]);
    for path in named.into_iter().take(most) {
        match take_one(run, (policy, &judge), &path, (max_bytes.0 - size, &mut seen)).await {
            Ok(bytes) => (taken, size) = (taken + 1, size + bytes),
            Err(why) => left_out.push(format!("{}: {why}", bottle_policy::prose::name(&path, 300))),
        }
    }
    for one in left_out.iter().take(MOST_NAMED) {
        events.warn(format!("the artifact {one}"));
    }
    if left_out.len() > MOST_NAMED {
        events.warn(format!("artifacts: {} more are left out", left_out.len() - MOST_NAMED));
    }
    if more > 0 {
        events.warn(format!(
            "artifacts: {more} more files are named than `artifacts.max` ({max}) allows; they are left out"
        ));
    }
    Ok((taken, size))
}

/// Takes one file, and gives its size; or says why it is left out.
async fn take_one(
    run: &LiveRun<'_>,
    (policy, judge): (&ArtifactPolicy, &ArtifactJudge),
    path: &str,
    (left, seen): (u64, &mut HashSet<String>),
) -> Result<u64, String> {
    let RunContext { inputs, plan, .. } = run.context;
    if !ArtifactJudge::is_plain(path) {
        return Err("not every file system can have this name".to_owned());
    }
    // Whoever unpacks the record may have a file system that takes no two names that differ by case alone.
    if !seen.insert(path.to_lowercase()) {
        return Err("another has this name in another case".to_owned());
    }
    let too_long = format!("with it the artifacts are larger than `artifacts.max_bytes` ({})", policy.rules.max_bytes);
    let bytes = files::read(run.bottle, &plan.guest.workdir, path, (left, &too_long)).await?;
    judge.judge(&inputs.secrets.known(), &bytes).map_err(|refusal| refusal.to_string())?;
    match run.record.write_of_guest(ARTIFACTS, path, &bytes) {
        Ok(true) => Ok(bytes.len() as u64),
        Ok(false) => Err("it has a secret of this run or of the runner's environment in it".to_owned()),
        Err(failure) => Err(failure.what),
    }
}

/// The files of the workspace that the globs name, in order.
async fn list(run: &LiveRun<'_>, judge: &ArtifactJudge) -> Result<BTreeSet<String>, String> {
    let argv = ["sh", "-c", LISTING, "sh", &run.context.plan.guest.workdir].into_iter().chain(judge.tops());
    let too_long =
        "there are more files than can be listed; name directories in `artifacts.paths`, such as `screenshots/**`";
    let argv = argv.map(str::to_owned).collect();
    let (listed, code) = files::printed(run.bottle, argv, (MOST_LISTED, too_long)).await?;
    match code {
        0 => {}
        NOT_ALL => run.context.events.warn("artifacts: some directories could not be listed"),
        _ => return Err(format!("listing the workspace ended with {code}")),
    }
    // A name that is not UTF-8 is none that the record could have.
    let paths = listed.split(|byte| *byte == 0).filter_map(|path| str::from_utf8(path).ok());
    let plain = |path: &str| path.trim_start_matches("./").to_owned();
    Ok(paths.map(plain).filter(|path| judge.names(path)).collect())
}
