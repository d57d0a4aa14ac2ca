//! A rule's place in the manifest.

use std::collections::BTreeSet;

use bottle_policy::route::Route;
use bottle_types::host::HostPattern;

use super::Explainer;
use crate::manifest::{BottleEntry, RuleRef, RunIdentity, dotted, flow};
use crate::registry::Preset;

/// The same route, whatever the plan has added to it.
fn same(one: &Route, other: &Route) -> bool {
    let plain = |route: &Route| Route { model: false, auth: None, ..route.clone() };
    plain(one) == plain(other)
}

impl Explainer {
    /// The rule at a path of keys and indices.
    pub(super) fn rule(&self, path: &[&str], text: String) -> RuleRef {
        RuleRef { path: dotted(path), at: self.layered.place(path), text }
    }

    /// The rule at a path in the bottle.
    pub(super) fn rule_of_bottle(&self, path: &[&str], text: String) -> RuleRef {
        self.rule(&[&["bottles", self.bottle()], path].concat(), text)
    }

    /// The rule from which the plan has a route.
    pub(super) fn rule_of_route(&self, route: &Route) -> RuleRef {
        let text = flow(route, "").unwrap_or_else(|| route.host.to_string());
        if let Some(rules) = &route.mcp {
            return self.rule(&["agents", self.plan.agent.name.as_str(), "mcp", &rules.server], text);
        }
        if route.forge.is_some() {
            return self.rule_of_bottle(&["forge"], text);
        }
        let Some(bottle) = self.entry() else { return self.rule(&["bottles"], text) };
        let model = bottle.model.as_ref().and_then(|model| model.endpoint().ok());
        if model.is_some_and(|model| same(&model.route, route)) {
            return self.rule_of_bottle(&["model"], text);
        }
        let own = bottle.egress.routes.iter().position(|own| same(own, route));
        if let Some(index) = own {
            return self.rule_of_bottle(&["egress", "routes", &index.to_string()], text);
        }
        let of_setup = bottle.setup.iter().flat_map(|setup| &setup.egress.routes).position(|own| same(own, route));
        if let Some(index) = of_setup {
            return self.rule_of_bottle(&["setup", "egress", "routes", &index.to_string()], text);
        }
        match self.presets.iter().find(|(_, routes)| routes.iter().any(|own| same(own, route))) {
            Some((preset, _)) => self.rule_of_preset(*preset, text),
            // A replay's own, which no run has that is explained.
            None => self.rule_of_bottle(&["egress"], text),
        }
    }

    fn rule_of_preset(&self, preset: Preset, text: String) -> RuleRef {
        let of_agent = self.entry().is_some_and(|bottle| bottle.egress.presets.contains(&preset));
        let list: &[&str] = if of_agent { &["egress", "presets"] } else { &["setup", "egress", "presets"] };
        let full = [&["bottles", self.bottle()], list].concat();
        let index = self.layered.item(&full, preset.name()).map(|index| index.to_string());
        let path = [list, index.as_deref().as_slice()].concat();
        self.rule_of_bottle(&path, format!("{}: {text}", preset.name()))
    }

    /// The rules of the manifest that are written there and could decide about a request, a push or an event.
    pub fn written_rules(&self) -> Vec<RuleRef> {
        let mut rules = vec![];
        for (name, bottle) in &self.layered.manifest.bottles {
            let top = ["bottles", name.as_str()];
            if let Some(model) = bottle.model.as_ref().and_then(|model| model.endpoint().ok()) {
                rules.push(self.rule(&[&top[..], &["model"]].concat(), model.base.to_string()));
            }
            if let Some(forge) = &bottle.forge {
                let repositories: Vec<&str> = forge.repositories.iter().map(String::as_str).collect();
                rules.push(self.rule(&[&top[..], &["forge"]].concat(), repositories.join(", ")));
            }
            for (list, texts) in listed(bottle) {
                let list: Vec<&str> = top.into_iter().chain(list.iter().map(String::as_str)).collect();
                for (index, text) in texts.into_iter().enumerate() {
                    // A set of words has lost the order of its list.
                    let index = match list.last() {
                        Some(&"presets") => self.layered.item(&list, &text),
                        _ => Some(index),
                    };
                    let path = index.map(|index| index.to_string());
                    rules.extend(path.map(|index| self.rule(&[&list[..], &[index.as_str()]].concat(), text)));
                }
            }
        }
        for (name, agent) in &self.layered.manifest.agents {
            for (server, entry) in agent.mcp.iter().filter(|(_, entry)| entry.url.is_some()) {
                let text = entry.url.as_ref().map(ToString::to_string).unwrap_or_default();
                rules.push(self.rule(&["agents", name.as_str(), "mcp", server.as_str()], text));
            }
        }
        rules.extend(self.written_commit_rules());
        rules.extend(self.written_triggers());
        rules.retain(|rule| rule.at.is_some());
        rules
    }

    /// Trailers are left out: no question is about them.
    fn written_commit_rules(&self) -> Vec<RuleRef> {
        let mut rules = vec![];
        for (name, bottle) in &self.layered.manifest.bottles {
            for (index, entry) in bottle.git.iter().enumerate() {
                let (index, push) = (index.to_string(), entry.push.rules(&RunIdentity::of_no_run()));
                for (key, text) in push.commits.lines().into_iter().filter(|(key, _)| *key != "trailers") {
                    let path = ["bottles", name.as_str(), "git", &index, "push", "commits", key];
                    rules.push(self.rule(&path, text));
                }
            }
        }
        rules
    }

    fn written_triggers(&self) -> Vec<RuleRef> {
        let triggers = &self.layered.manifest.triggers;
        let mut rules = vec![self.rule(&["triggers", "mention"], triggers.mention.clone())];
        for (label, agent) in &triggers.labels {
            rules.push(self.rule(&["triggers", "labels", label], format!("{label}: {agent}")));
        }
        for (login, agent) in &triggers.assignees {
            rules.push(self.rule(&["triggers", "assignees", login], format!("{login}: {agent}")));
        }
        for (index, bot) in triggers.who.bots.iter().enumerate() {
            rules.push(self.rule(&["triggers", "who", "bots", &index.to_string()], bot.to_string()));
        }
        rules
    }
}

/// The keys of a list in a bottle, and its items in a line each.
type Listed = (Vec<String>, Vec<String>);

/// The lists of a bottle whose items are rules.
fn listed(bottle: &BottleEntry) -> Vec<Listed> {
    let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<String>>();
    let routes = |routes: &[Route]| {
        routes.iter().map(|route| flow(route, "").unwrap_or_else(|| route.host.to_string())).collect::<Vec<String>>()
    };
    let presets =
        |presets: &BTreeSet<Preset>| presets.iter().map(|preset| preset.name().to_owned()).collect::<Vec<String>>();
    let hosts = |hosts: &[HostPattern]| hosts.iter().map(ToString::to_string).collect::<Vec<String>>();
    let mut lists = vec![
        (keys(&["egress", "routes"]), routes(&bottle.egress.routes)),
        (keys(&["egress", "presets"]), presets(&bottle.egress.presets)),
        (keys(&["pipelock", "api_allowlist"]), hosts(&bottle.pipelock.api_allowlist)),
        (keys(&["pipelock", "passthrough"]), hosts(&bottle.pipelock.passthrough)),
    ];
    if let Some(setup) = &bottle.setup {
        lists.push((keys(&["setup", "egress", "routes"]), routes(&setup.egress.routes)));
        lists.push((keys(&["setup", "egress", "presets"]), presets(&setup.egress.presets)));
    }
    for (index, entry) in bottle.git.iter().enumerate() {
        let (index, push) = (index.to_string(), &entry.push);
        lists.push((keys(&["git", &index, "push", "refs"]), push.refs.clone()));
        lists.push((keys(&["git", &index, "push", "protect_paths"]), push.protect_paths.clone()));
        lists.push((keys(&["git", &index, "push", "hold", "paths"]), push.hold.paths.clone()));
    }
    lists
}
