//! One machine: how it is asked for, what smolvm says of it, and which machines are left of dead runs.

use std::path::Path;
use std::time::Duration;

use bottle_plan::plan::{BottlePlan, LABEL_SLUG, LABEL_STATE};
use bottle_types::door::BUNDLE_ADDRESS;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::cli::{CallError, Smolvm};
use crate::backend::Leftover;
use crate::host;

/// The machine's disk, which takes only what is written to it.
const STORAGE_GIB: u32 = 20;
/// What a leftover's part is called.
pub(super) const MACHINE: &str = "machine";

/// What `status --json` and `ls --json` say, as far as it is used here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Status {
    pub(super) name: String,
    pub(super) state: String,
    /// The monitor, which is there only while the machine runs.
    pub(super) pid: Option<i32>,
    pub(super) allowed_cidrs: Option<Vec<String>>,
    /// Seconds since 1970.
    created_at: u64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// One connection that the monitor has refused.
#[derive(Debug, Deserialize)]
struct RefusedConnection {
    timestamp: String,
    operation: String,
    dest: String,
}

/// `198.18.0.1/32`
fn allowed() -> String {
    format!("{BUNDLE_ADDRESS}/32")
}

/// The words of `machine create`.
pub(super) fn create(plan: &BottlePlan, image: &Path) -> Vec<String> {
    let resources = &plan.guest.resources;
    let mut words = vec!["create".to_owned()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    option("--name", plan.names.agent.clone());
    for (name, value) in &plan.labels {
        option("--label", format!("{name}={value}"));
    }
    option("--image", image.display().to_string());
    // A part of a processor is a whole one: a machine has no half.
    option("--cpus", format!("{}", resources.cpus.ceil().max(1.0)));
    option("--mem", resources.memory.0.div_ceil(1 << 20).to_string());
    option("--storage", STORAGE_GIB.to_string());
    // Never `--net`, nor the backend tsi, which does not enforce this list.
    option("--allow-cidr", allowed());
    words
}

/// What smolvm says of the machine.
pub(super) async fn status(smolvm: &Smolvm, name: &str) -> Result<Status, CallError> {
    let ended = smolvm.call(&["status", "--json", "--name", name]).await?;
    serde_json::from_slice(&ended.stdout)
        .map_err(|error| CallError::Other(format!("its status is not in the known form: {error}")))
}

/// What is wrong with a machine that has just been started; an allow list that did not take effect above all.
pub(super) fn mismatch(status: &Status) -> Option<String> {
    if status.state != "running" {
        return Some(format!("it is {}, not running", status.state));
    }
    let in_force = status.allowed_cidrs.clone().unwrap_or_default();
    if in_force != [allowed()] {
        return Some(format!("its allow list is [{}], not [{}]", in_force.join(", "), allowed()));
    }
    None
}

/// Ends a machine and removes it; one that is not there is fine.
pub(super) async fn remove(smolvm: &Smolvm, name: &str) -> Result<(), CallError> {
    // What does not stop is deleted all the same, which ends it.
    let _ = smolvm.call(&["stop", "--timeout", "0", "--name", name]).await;
    match smolvm.call(&["delete", "--force", "--name", name]).await {
        Err(error) if !error.is_not_there() => Err(error),
        _ => Ok(()),
    }
}

/// The machines that have a run's label.
pub(super) async fn leftovers(smolvm: &Smolvm) -> Result<Vec<Leftover>, CallError> {
    let ended = smolvm.call(&["ls", "--json"]).await?;
    let machines: Vec<Status> = serde_json::from_slice(&ended.stdout)
        .map_err(|error| CallError::Other(format!("the list of machines is not in the known form: {error}")))?;
    let now = host::unix_seconds();
    Ok(machines.into_iter().filter_map(|machine| leftover(machine, now)).collect())
}

fn leftover(machine: Status, now: u64) -> Option<Leftover> {
    let mut leftover = Leftover {
        slug: machine.labels.get(LABEL_SLUG)?.clone(),
        running: machine.state == "running",
        age: Some(Duration::from_secs(now.saturating_sub(machine.created_at))),
        record: machine.labels.get(LABEL_STATE).map(Into::into),
        ..Leftover::default()
    };
    leftover.add(MACHINE, "machines", machine.name);
    Some(leftover)
}

/// What the monitor refused, a line each for the log. An error is a line too: the log must not stop a teardown.
pub(super) async fn refused(smolvm: &Smolvm, name: &str) -> String {
    let ended = match smolvm.call(&["egress-events", "--json", "--name", name]).await {
        Ok(ended) => ended,
        Err(error) if error.is_not_there() => return String::new(),
        Err(error) => return format!("machine  | failed to get what its monitor refused: {error}\n"),
    };
    match serde_json::from_slice::<Vec<RefusedConnection>>(&ended.stdout) {
        Ok(all) => all
            .iter()
            .map(|one| format!("machine  | {} its monitor refused: {} {}\n", one.timestamp, one.operation, one.dest))
            .collect(),
        Err(error) => format!("machine  | what its monitor refused is not in the known form: {error}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Status {
        serde_json::from_str(text).expect("a status")
    }

    #[test]
    fn an_allow_list_that_is_not_ours_stops_the_run() {
        let of = |state: &str, list: &str| {
            mismatch(&status(&format!(
                r#"{{"name":"a","state":"{state}","pid":1,"created_at":1,"allowed_cidrs":{list}}}"#
            )))
        };
        assert_eq!(of("running", r#"["198.18.0.1/32"]"#), None);
        assert!(of("created", r#"["198.18.0.1/32"]"#).is_some_and(|why| why.contains("not running")));
        for list in ["null", "[]", r#"["198.18.0.1/32","10.0.0.0/8"]"#, r#"["198.18.0.0/15"]"#, r#"["0.0.0.0/0"]"#] {
            assert!(of("running", list).is_some_and(|why| why.contains("allow list")), "{list}");
        }
    }

    #[test]
    fn only_labelled_machines_are_left_of_runs() {
        let text = r#"{"name":"mine","state":"stopped","pid":7,"created_at":1000,"labels":{}}"#;
        assert!(leftover(status(text), 2000).is_none());
        let text = r#"{"name":"claude-bottle-agent-x","state":"running","pid":7,"created_at":1000,"memory_mib":1,
            "labels":{"io.claude-bottle.slug":"x","io.claude-bottle.state":"/s/x"}}"#;
        let found = leftover(status(text), 1060).expect("a leftover");
        assert_eq!((found.slug.as_str(), found.running, found.age), ("x", true, Some(Duration::from_secs(60))));
        assert_eq!(found.record.as_deref(), Some(Path::new("/s/x")));
        assert_eq!(found.ids(MACHINE).collect::<Vec<_>>(), ["claude-bottle-agent-x"]);
    }
}
