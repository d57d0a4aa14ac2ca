//! Checks of `budget`: each agent has a limit of what it may spend of it, and no push reaches where it is kept.

use bottle_policy::gate::refs::{LEDGER_BRANCH, RefRules};

use super::{At, Checked};
use crate::manifest::{AgentLimits, BudgetEntry, DEFAULT_AGENT, GitEntry, Manifest};

pub(super) fn check(manifest: &Manifest, top: &At) -> Checked {
    let Some(budget) = &manifest.budget else { return Ok(()) };
    let at = top.key("budget");
    if let Err((key, problem)) = budget.check() {
        let at = key.map_or_else(|| at.clone(), |key| at.key(key));
        return Err(at
            .wrong(&problem)
            .hint("name `cost_usd`, `tokens` or `requests`, such as `{ period: day, cost_usd: 20 }`"));
    }
    if manifest.agents.is_empty() {
        let problem =
            format!("the agent `{DEFAULT_AGENT}` has no limits, of which a run reserves what it may spend at most");
        let keys = [
            budget.cost_usd.map(|cost| format!("cost_usd: {cost}")),
            budget.tokens.map(|tokens| format!("tokens: {tokens}")),
            budget.requests.map(|requests| format!("requests: {requests}")),
        ];
        let keys: Vec<String> = keys.into_iter().flatten().collect();
        let hint = format!("add `agents: {{ {DEFAULT_AGENT}: {{ limits: {{ {} }} }} }}`, or less", keys.join(", "));
        return Err(at.wrong(&problem).hint(hint));
    }
    for (name, agent) in &manifest.agents {
        check_limits(budget, &agent.limits, &top.key("agents").key(name.as_str()).key("limits"))?;
    }
    for (name, bottle) in &manifest.bottles {
        check_pushes(&bottle.git, &top.key("bottles").key(name.as_str()).key("git"))?;
    }
    Ok(())
}

/// Checks that a run of the agent knows what to reserve, and that it could ever get it.
fn check_limits(budget: &BudgetEntry, limits: &AgentLimits, at: &At) -> Checked {
    let counted = |count: Option<u64>| count.map(|count| (count.to_string(), count as f64));
    let cost = |cost: Option<f64>| cost.map(|cost| (cost.to_string(), cost));
    for (key, most, own) in [
        ("cost_usd", cost(budget.cost_usd), cost(limits.cost_usd)),
        ("tokens", counted(budget.tokens), counted(limits.tokens)),
        ("requests", counted(budget.requests), counted(limits.requests)),
    ] {
        let Some((most, most_value)) = most else { continue };
        let period = budget.period.as_str();
        match own {
            None => {
                let problem = format!(
                    "there is no `{key}`, and the budget of a {period} has one: a run reserves what it may spend at most"
                );
                return Err(at
                    .wrong(&problem)
                    .hint(format!("add `{key}:` with what one run may spend, at most {most}")));
            }
            Some((own, value)) if value > most_value => {
                let problem = format!("{own} is more than the budget of a {period}, {most}: no run would ever start");
                return Err(at.key(key).wrong(&problem).hint("lower it, or raise the budget"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn check_pushes(entries: &[GitEntry], at: &At) -> Checked {
    let ledger = format!("refs/heads/{LEDGER_BRANCH}");
    for (index, entry) in entries.iter().enumerate() {
        for (glob, text) in entry.push.refs.iter().enumerate() {
            // A glob that is none has been told of already.
            if RefRules::covers(text, &ledger) {
                let problem = format!("`{text}` takes in `{ledger}`, where the runner keeps the budget");
                let at = at.item(index).key("push").key("refs").item(glob);
                return Err(at.wrong(&problem).hint("name the branches of runs, such as `refs/heads/bottle/**`"));
            }
        }
    }
    Ok(())
}
