//! The commands of `verify`: what is run, for how long, and what it needs.

use std::collections::BTreeSet;

use bottle_policy::artifacts::ArtifactRules;
use bottle_types::units::Seconds;

use super::{At, Checked, check_command, check_repo_path};
use crate::manifest::{Agent, BottleEntry, Manifest, Verify, VerifyCommandRules, VerifyEntry};

/// An agent that has not mended it by then does not.
const MOST_REPAIRS: u32 = 5;
/// The longest name, in bytes.
const LONGEST_NAME: usize = 100;

pub(super) fn check(agent: &Agent, manifest: &Manifest, at: &At) -> Checked {
    let commands_at = match &agent.verify {
        Verify::List(_) => at.clone(),
        Verify::Rules(rules) => {
            if rules.commands.is_empty() {
                let hint = "add a command, such as `cargo test`";
                return Err(at.key("commands").wrong("nothing is run").hint(hint));
            }
            if rules.repair > MOST_REPAIRS {
                return Err(at.key("repair").wrong(&format!("expected at most {MOST_REPAIRS}")));
            }
            if !rules.reports.is_empty()
                && let Err((keys, problem)) = ArtifactRules::of_reports(&rules.reports).check()
            {
                let index = keys.last().and_then(|index| index.parse().ok()).unwrap_or_default();
                let hint = "such as `target/nextest/default/junit.xml` or `**/TEST-*.xml`";
                return Err(at.key("reports").item(index).wrong(&problem).hint(hint));
            }
            at.key("commands")
        }
    };
    let bottle = bottle_of(agent, manifest);
    let mut names = BTreeSet::new();
    for (index, entry) in agent.verify.commands().iter().enumerate() {
        let at = commands_at.item(index);
        match entry {
            VerifyEntry::Command(run) => check_command(run, &at)?,
            VerifyEntry::Rules(rules) => {
                check_entry(rules, bottle, &at)?;
                if let Some(name) = rules.name.as_deref().filter(|name| !names.insert(*name)) {
                    return Err(at.key("name").wrong(&format!("another command has the name `{name}`")));
                }
            }
        }
    }
    Ok(())
}

fn bottle_of<'m>(agent: &Agent, manifest: &'m Manifest) -> Option<&'m BottleEntry> {
    match &agent.bottle {
        Some(name) => manifest.bottles.get(name),
        None => manifest.bottles.values().next(),
    }
}

fn check_entry(rules: &VerifyCommandRules, bottle: Option<&BottleEntry>, at: &At) -> Checked {
    check_command(&rules.run, &at.key("run"))?;
    if let Some(name) = &rules.name
        && (name.trim().is_empty() || name.len() > LONGEST_NAME || name.contains(char::is_control))
    {
        return Err(at.key("name").wrong(&format!("expected one line of at most {LONGEST_NAME} bytes")));
    }
    if rules.timeout.is_some_and(|Seconds(timeout)| !(1..=24 * 3600).contains(&timeout)) {
        return Err(at.key("timeout").wrong("expected between a second and a day"));
    }
    if let Some(directory) = &rules.directory {
        check_repo_path(directory, &at.key("directory"))?;
    }
    let services = bottle.map(|bottle| &bottle.services);
    for (index, need) in rules.needs.iter().enumerate() {
        if !services.is_some_and(|services| services.contains_key(need)) {
            let known: Vec<&str> = services.into_iter().flat_map(|all| all.keys()).map(|name| name.as_str()).collect();
            let hint = match known.is_empty() {
                true => "the agent's bottle has no `services`".to_owned(),
                false => format!("there is {}", known.join(", ")),
            };
            let at = at.key("needs").item(index);
            return Err(at.wrong(&format!("the bottle has no service `{}`", need.as_str())).hint(hint));
        }
    }
    Ok(())
}
