//! Sets up a launched guest: home, ca, git, supervise, prompt, skills.
//!
//! Map: `inputs` (what the host gives the guest, read before the launch), `mirror_seed` (what the host's checkout gives the
//! gate's mirror), `java` (what Java trusts), and a file a step. Each step is a function over the [`Bottle`] trait alone, so that every backend shares it,
//! and a JUnit case. All files go in first, in one copy (`home`): on Docker each copy into a container mounts its volumes a
//! second time for a moment, which the proof of the seal must not see.

mod ca;
pub(crate) mod git;
mod home;
mod inputs;
mod java;
pub(crate) mod mirror_seed;
mod plugin;
mod supervise;

use std::time::{Duration, Instant};

use bottle_plan::plan::BottlePlan;
use bottle_types::git::ObjectId;

use crate::backend::{Bottle, BottleError, Exec, succeed};
use crate::exit::Failure;
use crate::report::{Case, Events, Suite};

pub(crate) use git::origin;
pub(crate) use inputs::GuestInputs;

/// The guest as provisioning leaves it, as far as the run needs it.
#[derive(Debug)]
pub(crate) struct GuestSetup {
    pub(crate) env: GuestEnv,
    /// The commits in the guest before the agent begins; none: there is no repository.
    pub(crate) starts: Vec<ObjectId>,
}

/// The variables that every command in the guest needs on top of the container's own environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct GuestEnv(pub(crate) Vec<(String, String)>);

/// No single step of provisioning takes longer, but for bringing a repository in.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// A clone of a large repository over a slow line.
const CLONE_TIMEOUT: Duration = Duration::from_secs(1800);

/// What to do where objects of an earlier run may be what is wrong.
const KEPT_IS_FORGOTTEN: &str = "run it again: what earlier runs left of this repository on this machine is not used any more; \
                                 if it fails once more, check the upstream's address, key and reachability in claude-bottle.yml";

/// The result of a step: a word about what it did.
type Step = Result<String, BottleError>;

/// Runs all provisioners: the files first, then the rest side by side. `bundle` brings what the bundle needs for the repository.
pub(crate) async fn all(
    bottle: &dyn Bottle,
    plan: &BottlePlan,
    inputs: &GuestInputs,
    bundle: impl Future<Output = Result<(), Failure>>,
    events: &Events,
) -> Result<GuestSetup, Failure> {
    case(events, "provision.home", home::provision(bottle, plan, inputs)).await?;
    // All of the rest takes a processor, and most of it a door: the doors go first.
    let _ = tokio::time::timeout(STEP_TIMEOUT, bottle.opened()).await;
    let git = async {
        bundle.await?;
        let started = Instant::now();
        let (step, starts) = match git::provision(bottle, plan).await {
            Ok((said, starts)) => (Ok(said), starts),
            Err(error) => (Err(error), vec![]),
        };
        report(events, "provision.git", started, &step);
        let had_kept = bottle.has_kept_mirror();
        bottle.keep_mirror(step.is_ok()).await;
        match step {
            Ok(_) => Ok(starts),
            Err(failure) if had_kept => Err(failure.hint(KEPT_IS_FORGOTTEN)),
            Err(failure) => Err(failure),
        }
    };
    let ca = async {
        let started = Instant::now();
        let result = ca::provision(bottle, plan).await;
        let (step, own) = match result {
            Ok((summary, own)) => (Ok(summary), own),
            Err(error) => (Err(error), vec![]),
        };
        report(events, "provision.ca", started, &step);
        step.map(|_| own).map_err(|error| fatal("provision.ca", &error))
    };
    let supervise = async {
        // A bottle without its MCP server can still do the task.
        if case(events, "provision.supervise", supervise::provision(bottle, plan)).await.is_err() {
            events.warn("the agent was not told about the supervise door; it can't ask for more in this run");
        }
    };
    let (ca, git, (), readable) = tokio::join!(ca, git, supervise, readable(bottle, plan, events));
    let starts = git?;
    readable?;
    Ok(GuestSetup { env: GuestEnv(ca?), starts })
}

/// True if the agent can read what was brought in for it, the prompt and the skills.
async fn readable(bottle: &dyn Bottle, plan: &BottlePlan, events: &Events) -> Result<(), Failure> {
    let started = Instant::now();
    let skills: Vec<&str> = plan.skills.iter().map(|skill| skill.directory.to.as_str()).collect();
    let prompt = plan.prompt.path.as_str();
    let script = "for path; do test -r \"$path\" || printf '%s\\0' \"$path\"; done";
    let argv = ["sh", "-c", script, "sh", prompt].into_iter().chain(skills.iter().copied());
    let done = succeed(bottle, Exec::guest(argv).in_dir("/"), STEP_TIMEOUT).await;
    let step = |paths: &[&str]| -> Step {
        let done = done.as_ref().map_err(Clone::clone)?;
        let mut closed = done.stdout.split(|byte| *byte == 0);
        match closed.find_map(|closed| paths.iter().find(|path| path.as_bytes() == closed)) {
            Some(path) => {
                Err(BottleError::new("the agent can't use what was brought in", format_args!("{path} can't be read")))
            }
            None if paths.is_empty() => Ok("none".to_owned()),
            None => Ok(paths.join(", ")),
        }
    };
    let mut all = Ok(());
    for (name, step) in [("provision.prompt", step(&[prompt])), ("provision.skills", step(&skills))] {
        report(events, name, started, &step);
        all = all.and(step.map(|_| ()).map_err(|error| fatal(name, &error)));
    }
    all
}

async fn case(events: &Events, name: &str, step: impl Future<Output = Step>) -> Result<(), Failure> {
    let started = Instant::now();
    let result = step.await;
    report(events, name, started, &result);
    result.map(|_| ()).map_err(|error| fatal(name, &error))
}

fn report<E: std::fmt::Display>(events: &Events, name: &str, started: Instant, result: &Result<String, E>) {
    let (failure, output) = match result {
        Ok(summary) => (None, summary.clone()),
        Err(error) => (Some(error.to_string()), String::new()),
    };
    events.case(Case { failure, output, ..Case::passed(Suite::Bottle, name, started.elapsed()) });
}

fn fatal(name: &str, error: &BottleError) -> Failure {
    Failure::machine(format_args!("{name} failed: {error}")).hint("compose.log in the run record says more")
}
