//! Tells a person that the canary was seen at a door: something in the guest tried to send a secret that nobody has any use for.

use std::collections::BTreeMap;

use bottle_plan::plan::{BottlePlan, SecretSource};
use bottle_types::door::Door;
use bottle_wire::access::Access;
use bottle_wire::proposal::record::{Chain, Event};
use bottle_wire::push_report::PushedRef;

use crate::report::Events;

/// So many places are named one by one.
const MOST_PLACES: usize = 5;

/// Warns where the doors have found the canary, by what they have written: requests, pushes, and calls of the MCP server.
pub(super) fn tell(plan: &BottlePlan, (requests, pushes, proposals): (&[u8], &[u8], &[u8]), events: &Events) {
    let file = plan.secrets.iter().find_map(|secret| match &secret.source {
        SecretSource::Canary(file) => Some(file.as_str()),
        _ => None,
    });
    let places = seen(plan, requests, pushes, proposals);
    if let (Some(file), Some(list)) = (file, listed(&places)) {
        events.warn(format!(
            "something in the guest tried to send the canary of {file}, a secret that nobody has any use for, and was refused: {list}; read \
             what the agent had read before"
        ));
    }
}

/// Each place in which the canary was found, and how often.
fn seen(plan: &BottlePlan, requests: &[u8], pushes: &[u8], proposals: &[u8]) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    let mut see = |place: String| *places.entry(place).or_default() += 1;
    // Both doors write of a request; the guest's own door has every one.
    let guests_door = if plan.doors.contains(&Door::Egress) { Door::Egress } else { Door::Pipelock };
    for access in lines::<Access>(requests).filter(|access| access.door == guests_door) {
        if let Some(found) = access.finding.filter(|found| found.rule.is_canary()) {
            see(format!(
                "through {guests_door} to {} (in the request's {})",
                access.host,
                found.at,
                guests_door = guests_door.name()
            ));
        }
    }
    for push in lines::<PushedRef>(pushes) {
        if let Some(found) = push.findings.iter().find(|found| found.rule.is_canary()) {
            see(format!("through git-gate to {} of {} (at {})", push.r#ref, push.repo, found.path));
        }
    }
    // What is no chain is told elsewhere.
    let records = Chain::read(plan.slug.as_str(), &String::from_utf8_lossy(proposals)).map(|(records, _)| records);
    for record in records.unwrap_or_default() {
        if let Event::SecretRefused { tool, rule } = record.event
            && rule.is_canary()
        {
            see(format!("through supervise (in a call of {tool})"));
        }
    }
    places
}

/// The lines of a file that can be read; what can't is told elsewhere.
fn lines<T: serde::de::DeserializeOwned>(file: &[u8]) -> impl Iterator<Item = T> {
    file.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// The places in words; none: there is none.
fn listed(places: &BTreeMap<String, usize>) -> Option<String> {
    let times = |count: usize| if count > 1 { format!(", {count} times") } else { String::new() };
    let mut words: Vec<String> =
        places.iter().take(MOST_PLACES).map(|(place, count)| format!("{place}{}", times(*count))).collect();
    let more = places.len().saturating_sub(MOST_PLACES);
    if more > 0 {
        words.push(format!("and {more} more places"));
    }
    (!words.is_empty()).then(|| words.join("; "))
}
