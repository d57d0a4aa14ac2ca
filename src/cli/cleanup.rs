//! `bottle-runner cleanup`: what dead runs have left, collected and removed; also at the start of every run.

use std::path::Path;

use bollard::Docker;
use bottle_policy::known::KnownSecrets;

use super::{Context, print};
use crate::backend::docker;
use crate::exit::{Code, Failure};
use crate::report::Events;
use crate::state;

/// Remove what dead runs have left; never touches a live one.
#[derive(Debug, clap::Args)]
pub(crate) struct CleanupArgs {
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn main(args: &CleanupArgs, context: &Context) -> Result<Code, Failure> {
    let root = context
        .environment
        .state_root()
        .ok_or_else(|| Failure::machine("HOME is not set").hint("set BOTTLE_STATE_DIR"))?;
    let docker = docker::connect().await?;
    let mask = KnownSecrets::new(&context.environment.credentials()).map_err(Failure::input)?;
    let mut text = String::new();
    for leftover in docker::find_leftovers(&docker).await? {
        if !is_dead(&leftover, &root) {
            text.push_str(&format!("{}: alive, left alone\n", leftover.slug));
            continue;
        }
        if !args.dry_run {
            docker::remove_leftover(&docker, &leftover, &root.join(&leftover.slug), &mask).await?;
        }
        let verb = if args.dry_run { "would remove" } else { "removed" };
        text.push_str(&format!("{}: {verb} {}\n", leftover.slug, leftover.describe()));
    }
    if text.is_empty() {
        text.push_str("nothing is left of any run\n");
    }
    print(&text)
}

/// At the start of a run: what dead runs have left goes; a problem with it does not stop the new one.
pub(crate) async fn dead_runs(docker: &Docker, root: &Path, mask: &KnownSecrets, events: &Events) {
    let leftovers = match docker::find_leftovers(docker).await {
        Ok(leftovers) => leftovers,
        Err(failure) => return events.warn(format!("failed to look for what dead runs have left: {failure}")),
    };
    for leftover in leftovers.iter().filter(|leftover| is_dead(leftover, root)) {
        match docker::remove_leftover(docker, leftover, &root.join(&leftover.slug), mask).await {
            Ok(()) => {
                events.note(format!("removed what the dead run {} had left: {}", leftover.slug, leftover.describe()))
            }
            Err(failure) => {
                events.warn(format!("failed to remove what the dead run {} has left: {failure}", leftover.slug))
            }
        }
    }
}

/// A run with a record here is dead when nobody holds its lock; one of another machine or container is dead when
/// nothing of it runs, or when it is older than any run may become.
fn is_dead(leftover: &docker::Leftover, root: &Path) -> bool {
    let dir = root.join(&leftover.slug);
    if dir.is_dir() { !state::is_live(&dir) } else { !leftover.running || leftover.age_hours >= 24 }
}
