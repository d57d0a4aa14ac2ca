//! The setup: commands of the base branch that prepare the repository in the sealed guest, before the agent starts.
//!
//! Always: the setup's own ways out are closed, and nothing of it runs any more, before the agent starts. What it has changed in the
//! repository's files is put back, and what it has added there is no part of the work.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bottle_plan::plan::{AGENT_FILES, BottlePlan, SetupPlan};
use bottle_types::door::Door;
use bottle_types::git::ObjectId;
use bottle_types::record_file::RecordFile;
use bottle_wire::control::Applied;

use super::LiveRun;
use super::cache::{CacheLine, SetupCache};
use super::outcome::{first_of, one_line};
use super::sealed::Sealed;
use crate::approve::ControlClient;
use crate::backend::{Bottle, BottleError, Exec, finish, succeed};
use crate::exit::{Code, Failure};
use crate::provision::GuestEnv;
use crate::report::{Case, Events, Phase, Suite};

/// In the record: who closed the setup's ways out.
const USER: &str = "bottle-runner, after the setup";
/// So many of the last lines of a command that failed are told.
const LAST_LINES: usize = 10;
/// To look at the repository's files takes no longer.
const TIDY_TIMEOUT: Duration = Duration::from_secs(300);

/// A bottle in which the agent can start. It takes the sealed one.
pub(super) struct SetUp<'r> {
    run: LiveRun<'r>,
    env: GuestEnv,
}

impl<'r> SetUp<'r> {
    /// Runs the commands of the setup, if there is one; the first that fails ends the run.
    pub(super) async fn set_up(sealed: Sealed<'r>) -> Result<Self, Failure> {
        let (run, env) = sealed.into_parts();
        let (bottle, plan, events) = (run.bottle, run.context.plan, run.context.events);
        can_start(bottle, plan).await?;
        if let Some(setup) = plan.setup.as_ref() {
            events.phase(Phase::Setup);
            let before = agents_files(bottle, plan).await?;
            let mut log = SetupLog { run: &run, text: vec![] };
            let mut cache = open_cache(&mut log, setup).await?;
            if let Some(cache) = &mut cache {
                log.line(cache.restore(bottle, plan.guest.uid).await?)?;
            }
            if needs_commands(&mut log, setup, cache.as_ref()).await? {
                commands(&mut log, setup, &env).await?;
            }
            bottle.signal("KILL").await.map_err(Failure::machine)?;
            tidy(bottle, plan, run.progress.starts.last(), "the setup", events).await?;
            let packed = match &cache {
                Some(cache) => Some(cache.pack(bottle).await),
                None => None,
            };
            // The repository's own configuration may have git start something, too: a process that is left would hold connections
            // that the setup's rules allowed, and could change after the look what was looked at.
            bottle.signal("KILL").await.map_err(Failure::machine)?;
            close(bottle, plan, events).await?;
            unchanged(&before, &agents_files(bottle, plan).await?)?;
            if let (Some(cache), Some(packed)) = (&cache, packed) {
                cache.keep(packed).await.map(|line| log.line(line)).transpose()?;
            }
        }
        Ok(Self { run, env })
    }

    pub(super) fn into_parts(self) -> (LiveRun<'r>, GuestEnv) {
        (self.run, self.env)
    }
}

/// The setup's log in the record.
struct SetupLog<'a, 'r> {
    run: &'a LiveRun<'r>,
    text: Vec<u8>,
}

impl SetupLog<'_, '_> {
    /// Adds a command and what it printed.
    fn command(&mut self, name: &str, output: &str, failure: Option<&str>) -> Result<(), Failure> {
        let output = output.trim_end();
        let ended = failure.map(|why| format!("({why})\n")).unwrap_or_default();
        let newline = if output.is_empty() { "" } else { "\n" };
        self.add(&format!("$ {name}\n{output}{newline}{ended}"))
    }

    /// Adds what became of the cache, and says it.
    fn line(&mut self, line: CacheLine) -> Result<(), Failure> {
        let events = self.run.context.events;
        let text = match line {
            CacheLine::Note(text) => {
                events.note(text.clone());
                text
            }
            CacheLine::Warning(text) => {
                events.warn(text.clone());
                text
            }
        };
        self.add(&format!("{text}\n"))
    }

    fn add(&mut self, text: &str) -> Result<(), Failure> {
        self.text.extend_from_slice(text.as_bytes());
        self.run.record.write(RecordFile::Setup, &self.text)
    }
}

/// The cache of a setup that has one; a store that can't be used leaves the setup without.
async fn open_cache(log: &mut SetupLog<'_, '_>, setup: &SetupPlan) -> Result<Option<SetupCache>, Failure> {
    let Some(plan) = &setup.cache else { return Ok(None) };
    match SetupCache::open(log.run, setup, plan).await {
        Ok(cache) => Ok(Some(cache)),
        Err(why) => {
            log.line(CacheLine::Warning(format!("cache: not used: {why}")))?;
            Ok(None)
        }
    }
}

/// Whether the setup's commands run: they do unless its cache stands for them in this run.
async fn needs_commands(
    log: &mut SetupLog<'_, '_>,
    setup: &SetupPlan,
    cache: Option<&SetupCache>,
) -> Result<bool, Failure> {
    let Some((plan, cache)) = setup.cache.as_ref().filter(|plan| plan.skip_on_hit).zip(cache) else { return Ok(true) };
    let why = cache.needs_commands(log.run, plan).await;
    let line = match &why {
        None => "setup: skipped, the cache stands for it".to_owned(),
        Some(why) => format!("setup: not skipped, {why}"),
    };
    log.line(CacheLine::Note(line))?;
    Ok(why.is_some())
}

/// Goes to a directory, and prints where that is.
const WHERE: &str = r#"cd -P -- "$0" && pwd -P"#;

/// Refuses a start in a directory that the repository does not have, or has only as a link.
async fn can_start(bottle: &dyn Bottle, plan: &BottlePlan) -> Result<(), Failure> {
    let Some(directory) = &plan.guest.directory else { return Ok(()) };
    let start = plan.guest.start();
    let exec = Exec::guest(["sh", "-c", WHERE, &start]).in_dir("/");
    let done = finish(bottle, exec, TIDY_TIMEOUT).await;
    let done = done.map_err(|error| Failure::machine(format_args!("failed to look for `{directory}`: {error}")))?;
    match done.code == 0 && done.stdout == format!("{start}\n").as_bytes() {
        true => Ok(()),
        false => Err(Failure::input(format_args!("`{directory}` is no directory where the work starts")).hint(
            "the bottle's `directory` is a path from the top of the repository, of a directory that no link leads to",
        )),
    }
}

/// Runs each command in its turn, and keeps what it prints.
async fn commands(log: &mut SetupLog<'_, '_>, setup: &SetupPlan, env: &GuestEnv) -> Result<(), Failure> {
    let run = log.run;
    let (bottle, plan, events) = (run.bottle, run.context.plan, run.context.events);
    let until = Instant::now() + Duration::from_secs(setup.time.0);
    let script = setup.script.iter().map(|script| (script.from.as_str(), Exec::guest([script.to.as_str()])));
    let commands = setup.run.iter().map(|command| (command.as_str(), Exec::shell(command)));
    for (name, exec) in script.chain(commands) {
        events.note(format!("setup: {}", one_line(name)));
        let mut exec = exec.in_dir(&plan.guest.start());
        exec.env.clone_from(&env.0);
        let started = Instant::now();
        let (failure, output) = match finish(bottle, exec, until.saturating_duration_since(started)).await {
            Ok(done) if done.code == 0 => (None, done.text()),
            Ok(done) => (Some(format!("ended with {}", done.code)), done.text()),
            Err(BottleError::Slow { .. }) => {
                (Some(format!("was ended: the setup took longer than {}", setup.time)), String::new())
            }
            Err(error) => return Err(Failure::machine(format_args!("failed to set up: {error}"))),
        };
        log.command(name, &output, failure.as_deref())?;
        let told = failure.as_ref().map(|why| with_last_lines(why, &output));
        let case = Case::passed(Suite::Setup, name, started.elapsed());
        events.case(Case { failure: told.clone(), output, ..case });
        if let Some(told) = told {
            let failure = Failure::new(Code::Task, format_args!("the setup failed: `{}` {told}", one_line(name)));
            return Err(failure.hint("the agent was not started; setup.log in the run record has all that was printed"));
        }
    }
    Ok(())
}

/// A failure with the last lines of what was printed.
fn with_last_lines(why: &str, output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    match &lines[lines.len().saturating_sub(LAST_LINES)..] {
        [] => why.to_owned(),
        last => format!("{why}: {}", last.join("\n")),
    }
}

/// Prints the hash of each file by which the agent goes, and the target of each link; the arguments are the home directory, and
/// the agent's files elsewhere. What can't be read is an error.
const AGENTS_FILES: &str = r#"set -e
home=$1; shift
set -- "$home"/.claude "$home"/.claude.json "$home"/.claude-bottle-* "$@"
for path; do
  if [ -L "$path" ] || [ -e "$path" ]; then
    find "$path" -type f -exec sha256sum {} + -o -type l -printf '%p -> %l\n'
  fi
done"#;

/// What the agent is told, and its own settings, by lines that can be compared.
async fn agents_files(bottle: &dyn Bottle, plan: &BottlePlan) -> Result<String, Failure> {
    let guest = &plan.guest;
    let mut argv = ["sh", "-c", AGENTS_FILES, "sh", &guest.home].map(str::to_owned).to_vec();
    let below = guest.directories().into_iter().map(|below| format!("{}/{below}", guest.workdir));
    for dir in [guest.root.clone(), guest.workdir.clone()].into_iter().chain(below) {
        argv.extend(AGENT_FILES.map(|name| format!("{dir}/{name}")));
    }
    let done = succeed(bottle, Exec::guest(argv).in_dir("/"), TIDY_TIMEOUT).await;
    let done = done.map_err(|error| Failure::machine(format_args!("failed to look at the agent's files: {error}")))?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Refuses a setup that has changed what the agent goes by: a package that a pull request names must not tell it what to do.
fn unchanged(before: &str, after: &str) -> Result<(), Failure> {
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) = (before.lines().collect(), after.lines().collect());
    match before.symmetric_difference(&after).next() {
        None => Ok(()),
        Some(line) => Err(Failure::new(
            Code::Task,
            format_args!("the setup changed what the agent goes by: {}", one_line(line)),
        )
        .hint("the agent was not started; its prompt, skills and settings come from the base branch alone, so look at what the setup installs")),
    }
}

/// Puts the agent's own routes in force; where they are not confirmed, there is no agent.
async fn close(bottle: &dyn Bottle, plan: &BottlePlan, events: &Events) -> Result<(), Failure> {
    if !plan.doors.contains(&Door::Egress) {
        return Ok(());
    }
    let started = Instant::now();
    let failed = |why: &dyn std::fmt::Display| {
        Failure::machine(format_args!("the setup's ways out can't be closed: {why}"))
            .hint("the agent was not started; compose.log in the run record says more")
    };
    let routes = bottle_types::yaml::to_string(&plan.policies.routes).map_err(|error| failed(&error))?;
    match ControlClient(bottle).apply(Door::Egress, USER, routes.into_bytes()).await.map_err(|error| failed(&error))? {
        Applied::InForce { .. } => {}
        Applied::Kept { reason } => return Err(failed(&reason)),
    }
    events.case(Case::passed(Suite::Setup, "the setup's ways out are closed", started.elapsed()));
    Ok(())
}

/// Puts back the branch and the files of the commit, prints those that were changed, and has git ignore what was added; the
/// arguments are the commit and the branch.
const TIDY: &str = r#"set -e
git diff --name-only "$1" --
git -c core.hooksPath=/dev/null checkout --quiet --force -B "$2" "$1"
exclude=$(git rev-parse --git-path info/exclude)
mkdir -p "$(dirname "$exclude")"
git ls-files --others --exclude-standard --directory -z | tr '\0' '\n' |
  sed 's/[][*?\\]/\\&/g; s/ $/\\ /; s|^|/|' >> "$exclude""#;

/// Leaves the repository as the agent should find it, at this commit: what `others` made beside it is there, and is no part of the
/// work.
pub(super) async fn tidy(
    bottle: &dyn Bottle,
    plan: &BottlePlan,
    commit: Option<&ObjectId>,
    others: &str,
    events: &Events,
) -> Result<(), Failure> {
    let (Some(commit), Some(git)) = (commit, &plan.git) else { return Ok(()) };
    let argv = ["sh", "-c", TIDY, "sh", commit.as_str(), git.branch.as_str()];
    let done = succeed(bottle, Exec::guest(argv).in_dir(&plan.guest.workdir), TIDY_TIMEOUT).await;
    let done =
        done.map_err(|error| Failure::machine(format_args!("failed to look at what {others} changed: {error}")))?;
    let changed = String::from_utf8_lossy(&done.stdout).into_owned();
    let names: Vec<String> = changed.lines().map(one_line).collect();
    if !names.is_empty() {
        let names = first_of(&names, ", ");
        events.warn(format!("{others} changed files of the repository, which were put back: {names}"));
    }
    Ok(())
}
