//! The work, saved: what the agent left uncommitted is committed; work that is not pushed is kept in the run record: a git bundle of what the guest's branch has and upstream has not.
//!
//! The gate has not seen it. It stays in the record, as the transcript does, and goes nowhere by itself.

use std::time::Duration;

use bottle_plan::plan::BottlePlan;
use bottle_plan::render::signing_settings;
use bottle_types::git::ObjectId;
use bottle_types::record_file::RecordFile;

use crate::backend::{Bottle, Exec, Side, finish};
use crate::exit::Failure;
use crate::report::Events;
use crate::state::RunRecord;

const BUNDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A large tree on a slow disk.
const SAVE_TIMEOUT: Duration = Duration::from_secs(1800);

/// Commits everything that is not committed, on the branch `$1`, with the message `$2`. Nothing of the agent's runs any more, so a lock that
/// is left is nobody's; and the agent's own hooks and keys have no say: the rest of the arguments are our settings for git, under which the gate signs. Where it
/// does not, the work is saved without. What can't be read does not keep the rest from being saved.
const SAVING: &str = r#"set -e
dir=$(git rev-parse --git-common-dir)
rm -f "$dir"/*.lock "$(git rev-parse --git-path index.lock)" "$(git rev-parse --git-path HEAD.lock)" "$dir/refs/heads/$1.lock"
message=$2
shift 2
commit() { git -c core.hooksPath=/dev/null -c commit.gpgSign=false "$@" commit --quiet --no-verify -m "$message" >&2; }
changed=$(git status --porcelain)
[ -n "$changed" ] || exit 0
complete=true
git add --all --ignore-errors >&2 || complete=false
git diff --cached --quiet || commit "$@" || commit
echo saved
[ "$complete" = true ] || exit 8"#;

/// The subject of that commit.
const LEFT: &str = "Work that was left uncommitted";

/// What is run in the guest to save the work.
pub(super) fn saving(branch: &str, message: &str, settings: &[(&str, String)]) -> Vec<String> {
    let options = settings.iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]);
    ["sh", "-c", SAVING, "sh", branch, message].map(str::to_owned).into_iter().chain(options).collect()
}

/// Commits what the agent left uncommitted: the bottle goes, the work must not. What could not be saved is the failure that is returned.
pub(super) async fn save(bottle: &dyn Bottle, plan: &BottlePlan, events: &Events) -> Result<Option<String>, Failure> {
    let Some(git) = &plan.git else { return Ok(None) };
    let signing = plan.policies.gate.signing.as_ref();
    let mut settings = signing.map(|policy| signing_settings(plan.backend, policy)).unwrap_or_default();
    let (rules, committer) = (plan.commit_rules(), plan.committer());
    if rules.is_some() {
        settings.extend([("user.name", committer.name.clone()), ("user.email", committer.email.clone())]);
    }
    let message = rules.map_or_else(|| LEFT.to_owned(), |rules| rules.own_message(LEFT, &committer));
    let exec = Exec::guest(saving(&git.branch, &message, &settings)).in_dir(&plan.guest.workdir);
    let done = finish(bottle, exec, SAVE_TIMEOUT).await.map_err(Failure::machine)?;
    if !done.stdout.is_empty() {
        events.warn("the agent left work uncommitted; it was committed as it stood");
    }
    let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Ok((done.code != 0).then(|| super::one_line(&format!("what the agent left uncommitted could not be saved: {why}"))))
}

/// Saves the work as it stands; says what came of it.
pub(super) async fn keep(
    bottle: &dyn Bottle,
    plan: &BottlePlan,
    starts: &[ObjectId],
    record: &RunRecord,
    events: &Events,
) {
    // Before there is a start there is no agent, and no work.
    if plan.git.is_none() || starts.is_empty() {
        return;
    }
    // Nothing may change it under our hands.
    if let Err(error) = bottle.signal("KILL").await {
        return events.warn(format!("the work so far could not be kept: {error}"));
    }
    match save(bottle, plan, events).await {
        Ok(None) => {}
        Ok(Some(lost)) => events.warn(lost),
        Err(failure) => return events.warn(format!("the work so far could not be kept: {failure}")),
    }
    let place = format!("{}/{}", plan.guest.home, RecordFile::Work);
    let script = r#"bundle=$1
shift
[ "$(git rev-list --count HEAD --not --remotes=origin "$@" --)" != 0 ] || exit 0
git bundle create --quiet "$bundle" HEAD --not --remotes=origin && echo kept"#;
    let exec = Exec::guest(["sh", "-c", script, "sh", &place].into_iter().chain(starts.iter().map(ObjectId::as_str)))
        .in_dir(&plan.guest.workdir);
    let kept = async {
        let done = finish(bottle, exec, BUNDLE_TIMEOUT).await.map_err(|error| error.to_string())?;
        if done.code != 0 {
            return Err(done.text().trim().to_owned());
        }
        if done.stdout.is_empty() {
            return Ok(false);
        }
        let tree = bottle.copy_out(Side::Guest, &place).await.map_err(|error| error.to_string())?;
        let file = tree.as_ref().and_then(|tree| tree.files().next()).ok_or("it is not there")?;
        record.write(RecordFile::Work, file.1).map_err(|failure| failure.to_string()).map(|()| true)
    };
    match kept.await {
        Ok(true) => events
            .note(format!("the work that was not pushed is in the run record: git fetch {} HEAD", RecordFile::Work)),
        Ok(false) => events.note("there is no work that upstream lacks"),
        Err(why) => events.warn(format!("the work so far could not be kept: {}", super::one_line(&why))),
    }
}
