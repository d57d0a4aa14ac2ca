//! Backends: each launches what the plan says and gives a [`Bottle`] with few verbs.
//!
//! Map: `bottle` (the verbs), `tree` (files on their way in or out), `copy` (by tar), `image` (systems as files), `sandbox/`
//! (the kit around bwrap), `bundle/` (the doors without an engine), `dead_runs` (removal of what they left), `seccomp` (the
//! profile as programs), and a directory a backend. Everything else
//! (provisioning, running Claude, verify, collecting) is written once, above these traits, and never names a backend.

mod bottle;
mod bubblewrap;
mod bundle;
mod copy;
mod dead_runs;
mod docker;
mod image;
mod sandbox;
mod seccomp;
mod smolmachines;
mod tree;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bottle_plan::plan::BottlePlan;
use bottle_scan::known::KnownSecrets;
use bottle_types::backend;
use bottle_types::record_file::RecordFile;
use futures_util::future::BoxFuture;

pub(crate) use bottle::{Bottle, BottleError, Exec, ExecUser, OutputChunk, Running, Side, finish, succeed};
use bottle::{any, last_lines};
pub(crate) use dead_runs::{is_dead, remove_dead_runs};
pub(crate) use tree::Tree;

use crate::exit::Failure;
use crate::host::Environment;
use crate::survey::Survey;

/// A way to launch bottles on this machine.
pub(crate) trait BackendDriver: Send + Sync {
    /// Makes sure that everything is there which the plan's bottle is made of.
    fn prepare<'a>(&'a self, plan: &'a BottlePlan, progress: &'a dyn Progress) -> BoxFuture<'a, Result<(), Failure>>;
    /// The plan's bottle. It need not run yet; one that runs already is attached to. `record` is its run record.
    fn bottle(&self, plan: &BottlePlan, record: &Path) -> Box<dyn Bottle>;
    /// All runs of which something is on this machine, live ones too.
    fn leftovers(&self) -> BoxFuture<'_, Result<Vec<Leftover>, Failure>>;
    /// Saves the logs to the run record, if that is here without them, and removes everything of the run.
    fn remove<'a>(&'a self, leftover: &'a Leftover, mask: &'a KnownSecrets) -> BoxFuture<'a, Result<(), Failure>>;
}

/// Hears what takes long.
pub(crate) trait Progress: Send + Sync {
    /// One line a person may like to see.
    fn say(&self, line: &str);
}

/// Everything of one run that is on this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leftover {
    pub(crate) slug: String,
    pub(crate) parts: Vec<LeftoverPart>,
    /// True if anything of it runs.
    pub(crate) running: bool,
    /// Since the newest thing that can run was made; none where there is no such thing.
    pub(crate) age: Option<Duration>,
    /// The run record's directory, where the runner is.
    pub(crate) record: Option<PathBuf>,
}

/// A thing that a run has left, as its backend names it.
#[derive(Debug, Clone)]
pub(crate) struct LeftoverPart {
    /// `container`, `network`, …
    pub(crate) kind: &'static str,
    /// Several of them.
    pub(crate) many: &'static str,
    pub(crate) id: String,
}

impl Leftover {
    /// The names of the things of one kind.
    pub(crate) fn ids(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.parts.iter().filter(move |part| part.kind == kind).map(|part| part.id.as_str())
    }

    pub(crate) fn add(&mut self, kind: &'static str, many: &'static str, id: impl Into<String>) {
        self.parts.push(LeftoverPart { kind, many, id: id.into() });
    }

    /// What there is, counted.
    pub(crate) fn describe(&self) -> String {
        let mut counts: Vec<(&LeftoverPart, usize)> = vec![];
        for part in &self.parts {
            match counts.iter_mut().find(|(first, _)| first.kind == part.kind) {
                Some((_, count)) => *count += 1,
                None => counts.push((part, 1)),
            }
        }
        let words = counts.iter().map(|(part, n)| format!("{n} {}", if *n == 1 { part.kind } else { part.many }));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// The backend of that name, if it is there; whether it can run a bottle shows as one is prepared.
pub(crate) async fn connect(backend: backend::Backend) -> Result<Box<dyn BackendDriver>, Failure> {
    match backend {
        backend::Backend::Bubblewrap => Ok(Box::new(bubblewrap::Bubblewrap::new())),
        backend::Backend::Docker => Ok(Box::new(docker::Docker::connect().await?)),
        backend::Backend::Smolmachines => Ok(Box::new(smolmachines::Smolmachines::connect().await?)),
    }
}

/// The files that a plan's backend renders into the run record before the launch: name and text.
pub(crate) fn record_files(plan: &BottlePlan) -> Vec<(RecordFile, String)> {
    match plan.backend {
        backend::Backend::Docker => docker::record_files(plan),
        backend::Backend::Bubblewrap | backend::Backend::Smolmachines => vec![],
    }
}

/// The backend of a run that names none.
#[derive(Debug)]
pub(crate) struct BackendChoice {
    pub(crate) backend: backend::Backend,
    /// Those that would come before it, and why they can't be taken. All of them: the run will say what it lacks.
    pub(crate) passed: Vec<(backend::Backend, String)>,
}

/// Looks for the first backend that this machine can run.
pub(crate) async fn best() -> BackendChoice {
    let mut passed = vec![];
    for backend in backend::Backend::ALL {
        let usable = match backend {
            backend::Backend::Docker => {
                let checked = async { docker::Docker::connect().await?.check().await };
                checked.await.map_err(|failure| failure.what)
            }
            // It costs more to look at, and most machines have none.
            backend::Backend::Smolmachines if !smolmachines::is_there().await => {
                let missing = first_missing(backend).await;
                Err(missing.unwrap_or_else(|| "this smolvm was fetched for tests; put one on the PATH".to_owned()))
            }
            other => first_missing(other).await.map_or(Ok(()), Err),
        };
        match usable {
            Ok(()) => return BackendChoice { backend, passed },
            Err(why) => passed.push((backend, why)),
        }
    }
    // It has no engine to ask: what it lacks shows when it starts.
    BackendChoice { backend: backend::Backend::Bubblewrap, passed }
}

async fn first_missing(backend: backend::Backend) -> Option<String> {
    survey(backend).await.first_failed().map(|check| check.what.clone())
}

/// Programs of this machine that go into sandboxes, for who looks after the installation: each with its place, or with how to get it.
pub(crate) fn host_parts(environment: &Environment) -> sandbox::HostParts {
    sandbox::host_parts(environment)
}

/// What this machine has for a backend, as lines for people.
pub(crate) async fn survey(backend: backend::Backend) -> Survey {
    match backend {
        backend::Backend::Docker => docker::survey().await,
        backend::Backend::Bubblewrap => bubblewrap::survey().await,
        backend::Backend::Smolmachines => smolmachines::survey().await,
    }
}

/// The bottle of a run that is going on, by its run record: its commands run beside the run's own.
pub(crate) async fn attach(record: &Path) -> Result<Box<dyn Bottle>, Failure> {
    let path = record.join(RecordFile::Plan);
    let bytes = std::fs::read(&path)
        .map_err(|error| Failure::input(format_args!("failed to read {}: {error}", path.display())))?;
    let plan: BottlePlan = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::input(format_args!("{} is not a plan: {error}", path.display())))?;
    if !crate::state::is_live(record) {
        return Err(Failure::input(format_args!("the run {} has ended", plan.slug))
            .hint("`bottle-runner ps` lists the runs that are going on"));
    }
    Ok(connect(plan.backend).await?.bottle(&plan, record))
}

#[cfg(test)]
mod tests {
    use super::Leftover;

    #[test]
    fn what_is_left_is_counted() {
        let mut leftover = Leftover::default();
        for (kind, many) in [("container", "containers"), ("container", "containers"), ("network", "networks")] {
            leftover.add(kind, many, "x");
        }
        assert_eq!(leftover.describe(), "2 containers, 1 network");
        assert_eq!(leftover.ids("container").count(), 2);
    }
}
