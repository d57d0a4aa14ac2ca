//! The files of the workspace that the manifest has taken out when the work is done: into the run record, and test reports into `junit.xml`.
//!
//! Always: nothing runs in the guest any more; files are listed and read by programs of the guest, as the agent's user, so that what a link
//! leads to is the guest's own; each is judged before it is written. What may not be in the record is left out and said, and ends no run.

use std::collections::{BTreeSet, HashSet};

use bottle_policy::artifacts::{ArtifactJudge, ArtifactPolicy, ArtifactRules};
use bottle_types::units::ByteSize;

use super::{LiveRun, RunContext, files};
use crate::report::{MAX_TESTS, RunEvent, TestReport};
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

/// What files are taken as.
#[derive(Clone, Copy)]
struct Taking<'p> {
    /// The word for one.
    word: &'static str,
    /// The key of the manifest that names them.
    paths: &'static str,
    /// The key whose `max` and `max_bytes` bound them; none: no key does.
    bounds: Option<&'static str>,
    policy: &'p ArtifactPolicy,
}

impl Taking<'_> {
    /// A bound in words.
    fn bound(&self, key: &str, value: impl std::fmt::Display) -> String {
        self.bounds.map_or_else(|| value.to_string(), |above| format!("`{above}.{key}` ({value})"))
    }
}

/// Takes what the manifest names.
pub(super) async fn take(run: &LiveRun<'_>) {
    let RunContext { plan, events, .. } = run.context;
    if let Some(policy) = &plan.test_reports {
        reports(run, policy).await;
    }
    let Some(policy) = &plan.artifacts else { return };
    let taking = Taking { word: "artifact", paths: "artifacts.paths", bounds: Some("artifacts"), policy };
    let keep = |path: &str, bytes: Vec<u8>| match run.record.write_of_guest(ARTIFACTS, path, &bytes) {
        Ok(true) => Ok(()),
        Ok(false) => Err("it has a secret of this run or of the runner's environment in it".to_owned()),
        Err(failure) => Err(failure.what),
    };
    match take_all(run, taking, keep).await {
        Ok((taken, bytes)) => {
            let files = if taken == 1 { "1 file".to_owned() } else { format!("{taken} files") };
            events.note(format!("artifacts: {files}, {}, in {ARTIFACTS}/ of the run record", ByteSize(bytes)));
        }
        Err(why) => events.warn(format!("no artifact was taken: {why}")),
    }
}

/// Reads the project's own test reports. They decide nothing: the commands' exit codes have.
async fn reports(run: &LiveRun<'_>, policy: &ArtifactPolicy) {
    let events = run.context.events;
    let mut left = MAX_TESTS;
    let keep = |path: &str, bytes: Vec<u8>| {
        let report = TestReport::read(path, &bytes).map_err(|error| error.to_string())?;
        left =
            left.checked_sub(report.tests()).ok_or_else(|| format!("with it there are more than {MAX_TESTS} tests"))?;
        events.emit(RunEvent::TestReport { report });
        Ok(())
    };
    let taking = Taking { word: "test report", paths: "verify.reports", bounds: None, policy };
    match take_all(run, taking, keep).await {
        Ok((0, _)) => events.warn("no test report was taken: none that can be read is where `verify.reports` says"),
        Ok(_) => {}
        Err(why) => events.warn(format!("no test report was taken: {why}")),
    }
}

/// Gives the number of files that were taken, and their size.
async fn take_all(
    run: &LiveRun<'_>,
    taking: Taking<'_>,
    mut keep: impl FnMut(&str, Vec<u8>) -> Result<(), String>,
) -> Result<(usize, u64), String> {
    let (events, Taking { word, policy, .. }) = (run.context.events, taking);
    let ArtifactRules { max, max_bytes, .. } = policy.rules;
    let judge = ArtifactJudge::new(policy)?;
    // Nothing may change them under our hands.
    run.bottle.signal("KILL").await.map_err(|error| error.to_string())?;
    let named = list(run, &judge, taking).await?;
    let (most, more) = (max as usize, named.len().saturating_sub(max as usize));
    let (mut taken, mut size, mut seen, mut left_out) = (0, 0, HashSet::new(), vec![]);
    for path in named.into_iter().take(most) {
        let one = take_one(run, (taking, &judge), &path, (max_bytes.0 - size, &mut seen)).await;
        let kept = one.and_then(|bytes| {
            let length = bytes.len() as u64;
            keep(&path, bytes).map(|()| length)
        });
        match kept {
            Ok(bytes) => (taken, size) = (taken + 1, size + bytes),
            Err(why) => left_out.push(format!("{}: {why}", bottle_policy::prose::name(&path, 300))),
        }
    }
    for one in left_out.iter().take(MOST_NAMED) {
        events.warn(format!("the {word} {one}"));
    }
    if left_out.len() > MOST_NAMED {
        events.warn(format!("{word}s: {} more are left out", left_out.len() - MOST_NAMED));
    }
    if more > 0 {
        let most = taking.bound("max", max);
        events.warn(format!("{word}s: {more} more files are named than {most} allows; they are left out"));
    }
    Ok((taken, size))
}

/// Reads one file, or says why it is left out.
async fn take_one(
    run: &LiveRun<'_>,
    (taking, judge): (Taking<'_>, &ArtifactJudge),
    path: &str,
    (left, seen): (u64, &mut HashSet<String>),
) -> Result<Vec<u8>, String> {
    let RunContext { inputs, plan, .. } = run.context;
    if !ArtifactJudge::is_plain(path) {
        return Err("not every file system can have this name".to_owned());
    }
    // Whoever unpacks the record may have a file system that takes no two names that differ by case alone.
    if !seen.insert(path.to_lowercase()) {
        return Err("another has this name in another case".to_owned());
    }
    let most = taking.bound("max_bytes", taking.policy.rules.max_bytes);
    let too_long = format!("with it the {}s are larger than {most}", taking.word);
    let bytes = files::read(run.bottle, &plan.guest.workdir, path, (left, &too_long)).await?;
    judge.judge(&inputs.secrets.known(), &bytes).map_err(|refusal| refusal.to_string())?;
    Ok(bytes)
}

/// The files of the workspace that the globs name, in order.
async fn list(run: &LiveRun<'_>, judge: &ArtifactJudge, taking: Taking<'_>) -> Result<BTreeSet<String>, String> {
    let argv = ["sh", "-c", LISTING, "sh", &run.context.plan.guest.workdir].into_iter().chain(judge.tops());
    let Taking { word, paths, .. } = taking;
    let too_long = format!("there are more files than can be listed; name directories in `{paths}`, such as `out/**`");
    let argv = argv.map(str::to_owned).collect();
    let (listed, code) = files::printed(run.bottle, argv, (MOST_LISTED, &too_long)).await?;
    match code {
        0 => {}
        NOT_ALL => run.context.events.warn(format!("{word}s: some directories could not be listed")),
        _ => return Err(format!("listing the workspace ended with {code}")),
    }
    // A name that is not UTF-8 is none that the record could have.
    let found = listed.split(|byte| *byte == 0).filter_map(|path| str::from_utf8(path).ok());
    let plain = |path: &str| path.trim_start_matches("./").to_owned();
    Ok(found.map(plain).filter(|path| judge.names(path)).collect())
}
