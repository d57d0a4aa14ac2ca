//! A bottle's `model`, and the models of the agents that run in it.

use bottle_policy::matcher::{Matcher, MatcherError};
use bottle_policy::route::RoutesPolicy;

use super::{At, Checked};
use crate::manifest::{Agent, BottleEntry, Manifest, ModelEntry, Provider};

/// Checks the entry, and that nothing else of the bottle leads round it.
pub(super) fn check(bottle: &BottleEntry, at: &At) -> Checked {
    let Some(model) = &bottle.model else { return Ok(()) };
    let endpoint = model.endpoint().map_err(|error| {
        let found = at.key("model").key(error.key).wrong(&error.problem);
        match error.hint {
            Some(hint) => found.hint(hint),
            None => found,
        }
    })?;
    // A variable of the manifest's own would send Claude Code elsewhere, without a word in the plan.
    if let Some(name) = bottle.env.keys().find(|name| ModelEntry::VARIABLES.contains(&name.as_str())) {
        return Err(at.key("env").key(name).wrong("the bottle's `model` sets what this is about").hint("remove it"));
    }
    let of_setup = bottle.setup.iter().map(|setup| (at.key("setup"), &setup.egress));
    for (at, egress) in of_setup.chain([(at.clone(), &bottle.egress)]) {
        // It would be a way round the count, and a pattern would make all that it is about the model's.
        if let Some(index) = egress.routes.iter().position(|route| route.host.matches(&endpoint.base.host)) {
            let at = at.key("egress").key("routes").item(index).key("host");
            let problem = format!("the bottle's `model` is the one way to {}", endpoint.base.host);
            return Err(at.wrong(&problem).hint("remove the route, or name the other hosts that are meant"));
        }
    }
    let passed = &bottle.pipelock.passthrough;
    if let Some(index) = passed.iter().position(|host| host.matches(&endpoint.base.host)) {
        return Err(at
            .key("pipelock")
            .key("passthrough")
            .item(index)
            .wrong("the model is at this host, and what goes to it could not be counted")
            .hint("remove it"));
    }
    let alone = RoutesPolicy { version: 1, routes: vec![endpoint.route], ..RoutesPolicy::default() };
    match Matcher::new(&alone) {
        Ok(_) => Ok(()),
        Err(MatcherError::Route { reason, .. }) => Err(at.key("model").wrong(&reason)),
        Err(other) => Err(at.key("model").wrong(&other.to_string())),
    }
}

/// Checks that an agent's model can be asked for in its bottle.
pub(super) fn check_agent(agent: &Agent, manifest: &Manifest, at: &At) -> Checked {
    let bottle = match &agent.bottle {
        Some(name) => manifest.bottles.get(name),
        None => manifest.bottles.values().next(),
    };
    let (Some(id), Some(model)) = (&agent.model, bottle.and_then(|bottle| bottle.model.as_ref())) else {
        return Ok(());
    };
    model.check_agents_model(id).map_err(|problem| {
        let hint = match (model.models.is_empty(), model.provider) {
            (false, _) => "add it there, or write an alias such as `sonnet`",
            (true, Provider::Bedrock) => {
                "write an alias such as `sonnet`, an id such as `eu.anthropic.claude-sonnet-4-5-20250929-v1:0`, or list it under the \
                 bottle's `model.models`"
            }
            (true, _) => "write an alias such as `sonnet`, an id such as `claude-sonnet-4-5@20250929`, or list it under the bottle's `model.models`",
        };
        at.key("model").wrong(&problem).hint(hint)
    })
}
