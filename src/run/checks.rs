//! What is looked at when the agent's work is saved: conflicts that were left, and the verify commands.

use std::time::{Duration, Instant};

use bottle_plan::plan::VerifyCommand;
use bottle_plan::task::Course;
use bottle_types::git::ObjectId;

use super::outcome::first_of;
use super::{LiveRun, services};
use crate::backend::{BottleError, Exec, finish};
use crate::exit::Failure;
use crate::provision::GuestEnv;
use crate::report::{Case, Suite};

/// Something that is wrong with the work.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    kind: FindingKind,
    /// What has found it.
    pub(super) name: String,
    /// What is wrong.
    pub(super) why: String,
    /// What was printed.
    pub(super) output: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FindingKind {
    /// Conflict markers, or a branch that is not where it shall be.
    Branch,
    Command,
}

/// The findings as the run's failures; `repairs` is how often the agent was to mend them.
pub(super) fn failures(findings: &[Finding], repairs: u32) -> Vec<String> {
    let of = |kind: FindingKind| findings.iter().filter(move |finding| finding.kind == kind);
    let mut failures: Vec<String> = of(FindingKind::Branch).map(|finding| finding.why.clone()).collect();
    let commands: Vec<String> = of(FindingKind::Command).map(|finding| format!("`{}`", finding.name)).collect();
    if !commands.is_empty() {
        let after = if repairs > 0 { format!(" after {}", times(repairs)) } else { String::new() };
        failures.push(format!("verify failed{after}: {}", commands.join(", ")));
    }
    failures
}

/// `1 repair`, `2 repairs`.
pub(super) fn times(repairs: u32) -> String {
    format!("{repairs} repair{}", if repairs == 1 { "" } else { "s" })
}

/// Prints the files of HEAD that have both ends of a conflict and did not have them at the start, a line each; the arguments are the
/// commits of the start.
const CONFLICTS: &str = r#"marked() { git grep -lI --all-match -e '^<<<<<<< .' --or -e '^>>>>>>> .' "$1" -- | sed 's/^[^:]*://'; }
before=$(for start; do marked "$start"; done)
marked HEAD | while IFS= read -r path; do
  printf '%s\n' "$before" | grep -Fqx -e "$path" || printf '%s\n' "$path"
done"#;
/// A look at the repository takes no longer.
pub(super) const GIT_TIMEOUT: Duration = Duration::from_secs(300);

/// What is run in the guest to find conflicts that were left.
pub(super) fn conflicts(starts: &[ObjectId]) -> Vec<&str> {
    ["sh", "-c", CONFLICTS, "sh"].into_iter().chain(starts.iter().map(ObjectId::as_str)).collect()
}

/// Looks for a merge that nobody finished.
pub(super) async fn unfinished(run: &LiveRun<'_>, attempt: Option<u32>) -> Result<Option<Finding>, Failure> {
    let (plan, starts) = (run.context.plan, &run.progress.starts);
    if plan.git.is_none() || starts.is_empty() {
        return Ok(None);
    }
    let begun = Instant::now();
    let exec = Exec::guest(conflicts(starts)).in_dir(&plan.guest.workdir);
    let done = finish(run.bottle, exec, GIT_TIMEOUT).await.map_err(Failure::machine)?;
    let output = String::from_utf8_lossy(&done.stdout).into_owned();
    let names: Vec<String> = output.lines().map(super::one_line).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let why = format!("conflict markers are left in {}", first_of(&names, ", "));
    let name = "no conflict is left".to_owned();
    run.context.events.case(Case {
        failure: Some(why.clone()),
        output: output.clone(),
        attempt,
        ..Case::passed(Suite::Verify, name.clone(), begun.elapsed())
    });
    Ok(Some(Finding { kind: FindingKind::Branch, name, why, output }))
}

/// Looks whether a branch that was to be rebased is on its base, as the guest knows that.
pub(super) async fn not_rebased(run: &LiveRun<'_>, attempt: Option<u32>) -> Result<Option<Finding>, Failure> {
    let plan = run.context.plan;
    let base = plan.git.as_ref().and_then(|git| git.base.as_deref()).filter(|_| plan.task.course == Course::Rebase);
    let Some(base) = base else { return Ok(None) };
    let begun = Instant::now();
    let onto = format!("refs/remotes/origin/{base}");
    let exec = Exec::guest(["git", "merge-base", "--is-ancestor", &onto, "HEAD"]).in_dir(&plan.guest.workdir);
    let done = finish(run.bottle, exec, GIT_TIMEOUT).await.map_err(Failure::machine)?;
    let why = (done.code != 0).then(|| format!("the branch is not based on {base}"));
    let name = "the branch is rebased".to_owned();
    let output = done.text();
    run.context.events.case(Case {
        failure: why.clone(),
        output: output.clone(),
        attempt,
        ..Case::passed(Suite::Verify, name.clone(), begun.elapsed())
    });
    Ok(why.map(|why| Finding { kind: FindingKind::Branch, name, why, output }))
}

/// Runs each command; gives those that failed.
pub(super) async fn commands(run: &LiveRun<'_>, env: &GuestEnv, attempt: Option<u32>) -> Result<Vec<Finding>, Failure> {
    let mut findings = vec![];
    for command in &run.context.plan.verify.commands {
        let started = Instant::now();
        let mut ended = one(run, env, command).await?;
        let mut note = None;
        if command.flaky
            && let Some(why) = ended.failure.take()
        {
            let again = one(run, env, command).await?;
            note = Some(match &again.failure {
                None => format!("flaky: it failed ({why}), and passed when it was run once more"),
                Some(_) => format!("flaky: it failed ({why}), and again when it was run once more"),
            });
            let output = format!("{}\nflaky: {why}; it is run once more\n{}", ended.output.trim_end(), again.output);
            ended = Ended { failure: again.failure, output };
        }
        let Ended { failure, output } = ended;
        let name = command.name.clone();
        run.context.events.case(Case {
            failure: failure.clone(),
            output: output.clone(),
            attempt,
            note,
            ..Case::passed(Suite::Verify, name.clone(), started.elapsed())
        });
        findings.extend(failure.map(|why| Finding { kind: FindingKind::Command, name, why, output }));
    }
    Ok(findings)
}

/// A command that was run.
struct Ended {
    /// None: it ended with 0.
    failure: Option<String>,
    output: String,
}

impl Ended {
    fn failed(why: String) -> Self {
        Self { failure: Some(why), output: String::new() }
    }
}

/// Runs the command `$1` in the directory `$0`, which the agent may have removed.
const IN_DIRECTORY: &str = r#"cd -- "$0" && exec sh -c "$1""#;

/// Runs a command once, when the services that it needs are ready.
async fn one(run: &LiveRun<'_>, env: &GuestEnv, command: &VerifyCommand) -> Result<Ended, Failure> {
    let (bottle, plan) = (run.bottle, run.context.plan);
    let failed = |error: BottleError| Failure::machine(format_args!("failed to verify: {error}"));
    for service in &command.needs {
        let needed = plan.services.iter().enumerate().find(|(_, other)| other.name == *service);
        let ready = match needed {
            Some((index, service)) => services::wait(bottle, index, service).await.map_err(failed)?,
            None => Err(format!("the bottle has no service `{service}`")),
        };
        if let Err(why) = ready {
            return Ok(Ended::failed(why));
        }
    }
    let exec = match &command.directory {
        None => Exec::shell(&command.run),
        Some(directory) => Exec::guest(["sh", "-c", IN_DIRECTORY, directory, &command.run]),
    };
    let mut exec = exec.in_dir(&plan.guest.workdir);
    exec.env.clone_from(&env.0);
    match finish(bottle, exec, command.timeout.into()).await {
        Ok(done) => {
            let failure = (done.code != 0).then(|| format!("ended with {}", done.code));
            Ok(Ended { failure, output: done.text() })
        }
        Err(BottleError::Slow { .. }) => Ok(Ended::failed(format!("did not end within {}", command.timeout))),
        Err(error) => Err(failed(error)),
    }
}
