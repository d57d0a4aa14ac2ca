//! `bottle-runner cleanup`: what dead runs have left, collected and removed; also at the start of every run.

use std::time::Duration;

use bottle_scan::known::KnownSecrets;

use super::{Context, print};
use crate::backend::{self, Backend, Leftover};
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
    let mask = KnownSecrets::new(&context.environment.credentials()).map_err(Failure::input)?;
    let mut text = String::new();
    let mut first = None;
    let mut looked = false;
    for name in bottle_types::backend::Backend::ALL {
        let backend = match backend::connect(name).await {
            Ok(backend) => backend,
            Err(failure) => {
                first.get_or_insert(failure);
                continue;
            }
        };
        looked = true;
        for leftover in backend.leftovers().await? {
            if !is_dead(&leftover) {
                text.push_str(&format!("{}: alive, left alone\n", leftover.slug));
                continue;
            }
            if !args.dry_run {
                backend.remove(&leftover, &mask).await?;
            }
            let verb = if args.dry_run { "would remove" } else { "removed" };
            text.push_str(&format!("{}: {verb} {}\n", leftover.slug, leftover.describe()));
        }
    }
    if let Some(failure) = first.filter(|_| !looked) {
        return Err(failure);
    }
    if text.is_empty() {
        text.push_str("nothing is left of any run\n");
    }
    print(&text)
}

/// Pulling and creating may take this long.
const LONGEST_START: Duration = Duration::from_secs(15 * 60);
const LONGEST_RUN: Duration = Duration::from_secs(24 * 3600);

/// At the start of a run: what dead runs have left goes; a problem with it does not stop the new one.
pub(crate) async fn dead_runs(backend: &dyn Backend, mask: &KnownSecrets, events: &Events) {
    let leftovers = match backend.leftovers().await {
        Ok(leftovers) => leftovers,
        Err(failure) => return events.warn(format!("failed to look for what dead runs have left: {failure}")),
    };
    for leftover in leftovers.iter().filter(|leftover| is_dead(leftover)) {
        match backend.remove(leftover, mask).await {
            Ok(()) => {
                events.note(format!("removed what the dead run {} had left: {}", leftover.slug, leftover.describe()))
            }
            Err(failure) => {
                events.warn(format!("failed to remove what the dead run {} has left: {failure}", leftover.slug))
            }
        }
    }
}

/// A run whose record is here is dead when nobody holds its lock. One of another machine or container is dead when
/// nothing of it has run for as long as a start may take, or when it is older than any run may become.
fn is_dead(leftover: &Leftover) -> bool {
    if let Some(record) = leftover.record.as_deref().filter(|record| record.is_dir()) {
        return !state::is_live(record);
    }
    // Nothing that could run: it may be about to be made, and an empty network or volume does no harm meanwhile.
    let Some(age) = leftover.age else { return false };
    age >= LONGEST_RUN || (!leftover.running && age >= LONGEST_START)
}
