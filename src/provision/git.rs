//! The guest's repository, on the branch that is to be pushed. Its `~/.gitconfig` came with `home`.

use bottle_plan::plan::{BottlePlan, Bring, GitPlan};
use bottle_plan::render::own_url;
use bottle_types::git::ObjectId;

use super::CLONE_TIMEOUT;
use crate::backend::{Bottle, Exec, finish};
use crate::exit::Failure;

/// Through the gate, to which `~/.gitconfig` leads; the working directory is there, and empty. What is in the gate's mirror `$9` is not
/// sent: the clone has it from there, for good. Where the mirror's history ends is told with what is sent, so here it is copied. The
/// gate may just be starting: its mirror is waited for, ten seconds at most, and then done without.
const CLONING: &str = r#"shared() { [ -n "$1" ] && [ -r "$1/HEAD" ] && [ -x "$1/objects/pack" ]; }
left=100
while [ -n "$9" ] && [ "$left" -gt 0 ] && ! shared "$9"; do
  left=$((left - 1))
  sleep 0.1
done
if shared "$9"; then
  GIT_ALTERNATE_OBJECT_DIRECTORIES=$9/objects git clone --quiet ${8:+--no-checkout} -- "$4" .
  printf '%s\n' "$9/objects" >>.git/objects/info/alternates
  if [ -e "$9/shallow" ] && [ ! -e .git/shallow ]; then cp "$9/shallow" .git/shallow; fi
else
  git clone --quiet ${8:+--no-checkout} -- "$4" .
fi"#;

/// Limits what is checked out to the directories `$8`, a line each, and the files at the top.
const SPARSE: &str = r#"if [ -n "$8" ]; then printf '%s\n' "$8" | git sparse-checkout set --cone --stdin; fi"#;

/// What was brought is none of this run's work, also where the run's branch begins elsewhere; the fetch shows now, not after
/// the agent's work, that upstream can be reached.
const READYING: &str = "git reset --quiet --hard HEAD
git rev-parse --verify 'HEAD^{commit}'
git fetch --quiet --prune origin";

/// Ends the script with a sentence for people.
const REFUSE: &str = r#"refuse() { echo "$*" >&2; exit 7; }"#;
/// The code with which a script ends that has said why in a sentence.
const REFUSED: i64 = 7;

/// Looks for what would stop the push of `$1`, or its proposal to `$5`, when the work is done: git keeps a branch as a file, and
/// there is no file below a file.
const PUSHABLE: &str = r#"above=$1
while [ "${above%/*}" != "$above" ]; do
  above=${above%/*}
  if git rev-parse --verify --quiet "refs/remotes/origin/$above" >/dev/null; then
    refuse "upstream has a branch called $above, so it can't have one called $1: rename that branch"
  fi
done
if [ -n "$(git for-each-ref --count=1 "refs/remotes/origin/$1/")" ]; then
  refuse "upstream has branches below $1/, so it can't have one called $1: rename or remove those"
fi
if [ -n "$5" ] && [ "$3" != true ] && ! git rev-parse --verify --quiet "refs/remotes/origin/$5" >/dev/null; then
  refuse "upstream has no branch called $5, from which the work starts and to which it would be proposed"
fi"#;

/// Adds the hook `$7` to this clone, if it has none of its own; the repository's own hooks stay.
const HOOK: &str = r#"hook=$(git rev-parse --absolute-git-dir)/hooks/prepare-commit-msg
if [ -n "$7" ] && [ ! -e "$hook" ]; then
  mkdir -p "${hook%/*}"
  printf '%s' "$7" > "$hook"
  chmod 755 "$hook"
fi"#;

/// Upstream's own branch if it is there already, else a new one from `$2`.
const BRANCH: &str = r#"if git rev-parse --verify --quiet "refs/remotes/origin/$1" >/dev/null; then base="origin/$1"; else base="$2"; fi
git checkout --quiet --no-track -B "$1" "$base""#;

/// A pull request's branch where it was when it was asked for, the commit `$2`, and nowhere else; or a new one from there.
/// Forges keep the heads of pull requests, forks' too, where a clone does not look; they give a commit by its id.
const PINNED: &str = r#"git cat-file -e "$2^{commit}" 2>/dev/null || git fetch --quiet --update-shallow origin "$2" || {
  refuse "upstream no longer has the commit $2 that was asked about: the pull request has moved; ask again"; }
there=$(git rev-parse --verify --quiet "refs/remotes/origin/$1" || :)
if [ "$3" = true ] && [ "$there" != "$2" ]; then
  refuse "the pull request's branch has moved from $2 to ${there:-nowhere} since this was asked for; ask again"
fi
git checkout --quiet --no-track -B "$1" "${there:-$2}"
git merge-base --is-ancestor "$2" HEAD || git merge --quiet --no-edit ${6:+-m "$6"} "$2" >&2 ||
  refuse "the branch $1 of an earlier run does not go together with the pull request as it is now; remove it, and ask again""#;

/// Clones through the gate, or readies the checkout that was brought, and checks out the run's branch: upstream's own
/// if it is there already (a follow-up goes on from it), else a new one from the base, or from the commit that the pull
/// request was at when it was asked for. All of it is one command: each costs its time to start.
///
/// Gives what it did in words, and the commits that are there before the agent begins: what is reachable from them is none of
/// the agent's work. No agent has been in the guest yet, so its word is good.
pub(super) async fn provision(bottle: &dyn Bottle, plan: &BottlePlan) -> Result<(String, Vec<ObjectId>), Failure> {
    let Some(git) = &plan.git else { return Ok(("no repository".to_owned(), vec![])) };
    let brought = match &git.bring {
        Bring::Clone => format!("cloned {}", git.gate_url),
        Bring::Checkout(from) => format!("brought {from}"),
    };
    let failed = |why: &dyn std::fmt::Display| {
        Failure::machine(format_args!("provision.git failed: {why}")).hint(
            "check the upstream's address, key and reachability in claude-bottle.yml; compose.log in the run record says more",
        )
    };
    let command = Exec::guest(command(git, &origin(plan, git), merge_message(plan, git))).in_dir(&plan.guest.workdir);
    let done = finish(bottle, command, CLONE_TIMEOUT).await.map_err(|error| failed(&error))?;
    let said = done.text().trim().to_owned();
    match done.code {
        0 => {}
        REFUSED => {
            return Err(Failure::machine(format_args!("the work could not be pushed: {}", last_line(&said)))
                .hint("nothing was run and nothing was spent"));
        }
        _ => {
            let doing = format!("failed to bring in {} on the branch {}", git.gate_url, git.branch);
            return Err(failed(&format_args!("{doing}: {said}")));
        }
    }
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    let (starts, at) =
        started(&printed).map_err(|why| failed(&format_args!("failed to note where the work starts: {why}")))?;
    let from = git.base.as_deref().map(|base| format!(", base {base}")).unwrap_or_default();
    Ok((format!("{brought}; {} at {at}{from}", git.branch), starts))
}

/// The sentence of a script that refuses is the last that it says.
fn last_line(said: &str) -> &str {
    said.lines().last().unwrap_or(said)
}

/// The address of the guest's remote: upstream's own, so that a submodule's address that is relative to it leads where it should.
pub(crate) fn origin(plan: &BottlePlan, git: &GitPlan) -> String {
    let mut upstreams = plan.policies.gate.upstreams.iter();
    let found = upstreams.find(|upstream| upstream.name == git.upstream);
    found.map_or_else(|| git.gate_url.clone(), |upstream| own_url(&upstream.url))
}

/// The message of a merge that brings an earlier run's branch and the pull request together, where commits are judged.
fn merge_message(plan: &BottlePlan, git: &GitPlan) -> Option<String> {
    let start = git.start.as_ref()?;
    let subject = format!("Merge commit {} into {}", start.short(), git.branch);
    Some(plan.commit_rules()?.own_message(&subject, &plan.committer()))
}

/// What is run in the guest, whose remote has this address: it prints the commits that are there at the start, a line each, and
/// then the last one in words.
pub(crate) fn command(git: &GitPlan, origin: &str, merge_message: Option<String>) -> Vec<String> {
    let (branch, from) = match (&git.start, &git.base, &git.bring) {
        (Some(start), _, Bring::Clone) => (PINNED, start.as_str().to_owned()),
        (None, Some(base), Bring::Clone) => (BRANCH, format!("origin/{base}")),
        _ => (BRANCH, "HEAD".to_owned()),
    };
    let (bring, ready) = match &git.bring {
        Bring::Clone => (CLONING, ""),
        Bring::Checkout(_) => ("", READYING),
    };
    let script = format!(
        "set -e\n{REFUSE}\n{bring}\n{SPARSE}\n{ready}\n{HOOK}\n{PUSHABLE}\n{branch}\ngit log -1 --format='%H%n%h %s'"
    );
    let goes_on = if git.goes_on { "true" } else { "false" };
    // A checkout that is brought starts where it is, on a branch that upstream need not have.
    let base = git.base.as_deref().filter(|_| git.bring == Bring::Clone).unwrap_or_default();
    let (message, hook) = (merge_message.unwrap_or_default(), git.commit_hook.as_deref().unwrap_or_default());
    // Claude Code's own settings stand in a directory.
    let sparse = match &git.sparse[..] {
        [] => String::new(),
        directories => format!("{}\n.claude", directories.join("\n")),
    };
    let mirror = git.mirror.as_deref().unwrap_or_default();
    let words = [&*git.branch, &from, goes_on, origin, base, &message, hook, &sparse, mirror];
    ["sh", "-c", &script, "sh"].into_iter().chain(words).map(str::to_owned).collect()
}

/// The commits that it printed, and the words.
pub(crate) fn started(printed: &str) -> Result<(Vec<ObjectId>, &str), String> {
    let (commits, at) = printed.trim_end().rsplit_once('\n').ok_or("git printed no commit")?;
    let commits = commits.lines().map(ObjectId::parse).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Ok((commits, at))
}
