//! Runs whose process is gone: how they are told from live ones, and their removal before a new run starts.

use std::time::Duration;

use bottle_scan::known::KnownSecrets;

use super::{BackendDriver, Leftover};
use crate::report::Events;
use crate::state;

/// Pulling and creating may take this long.
const LONGEST_START: Duration = Duration::from_secs(15 * 60);
const LONGEST_RUN: Duration = Duration::from_secs(24 * 3600);

/// At the start of a run: what dead runs have left goes; a problem with it does not stop the new one.
pub(crate) async fn remove_dead_runs(backend: &dyn BackendDriver, mask: &KnownSecrets, events: &Events) {
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
pub(crate) fn is_dead(leftover: &Leftover) -> bool {
    if let Some(record) = leftover.record.as_deref().filter(|record| record.is_dir()) {
        return !state::is_live(record);
    }
    // Nothing that could run: it may be about to be made, and an empty network or volume does no harm meanwhile.
    let Some(age) = leftover.age else { return false };
    age >= LONGEST_RUN || (!leftover.running && age >= LONGEST_START)
}
