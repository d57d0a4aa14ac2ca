//! A rule's place in the manifest.

use std::fmt;

use bottle_policy::route::Route;
use serde::Serialize;

use super::Explainer;
use crate::manifest::{Manifest, Positions, dotted, flow};
use crate::registry::Preset;

/// A file, a line and a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The manifest, as messages call it.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
}

/// A rule of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleRef {
    /// Its keys and indices: `bottles.default.egress.routes[0]`.
    pub path: String,
    /// Where it stands; none: it is what holds where the manifest says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// The rule in a line.
    pub text: String,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(Place { file, line, column }) => write!(f, "{file}:{line}:{column}: {}", self.path),
            None => write!(f, "{} (as it is where the manifest does not say)", self.path),
        }
    }
}

/// The same route, whatever the plan has added to it.
fn same(one: &Route, other: &Route) -> bool {
    let plain = |route: &Route| Route { model: false, auth: None, ..route.clone() };
    plain(one) == plain(other)
}

impl Explainer {
    /// The rule at a path of keys and indices.
    pub(super) fn rule(&self, path: &[&str], text: String) -> RuleRef {
        reference(&self.positions, &self.file, path, text)
    }

    /// The rule at a path in the bottle.
    pub(super) fn rule_of_bottle(&self, path: &[&str], text: String) -> RuleRef {
        self.rule(&[&["bottles", self.bottle()], path].concat(), text)
    }

    /// The rule from which the plan has a route.
    pub(super) fn rule_of_route(&self, route: &Route) -> RuleRef {
        let text = flow(route, "").unwrap_or_else(|| route.host.to_string());
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
        let index = self.positions.item(&full, preset.name()).map(|index| index.to_string());
        let path = [list, index.as_deref().as_slice()].concat();
        self.rule_of_bottle(&path, format!("{}: {text}", preset.name()))
    }

    /// The rules of the manifest that are written there and could decide about a request, a push or an event.
    pub fn written_rules(&self) -> Vec<RuleRef> {
        written(&self.manifest, &self.positions, &self.file)
    }
}

fn reference(positions: &Positions, file: &str, path: &[&str], text: String) -> RuleRef {
    let at = positions.of(path).map(|(line, column)| Place { file: file.to_owned(), line, column });
    RuleRef { path: dotted(path), at, text }
}

/// A list below a key, and its items in a line each.
type Listed<'a> = (Vec<&'a str>, Vec<String>);

fn written(manifest: &Manifest, positions: &Positions, file: &str) -> Vec<RuleRef> {
    let mut rules = vec![];
    let mut add = |path: &[&str], text: String| {
        rules.extend(Some(reference(positions, file, path, text)).filter(|rule| rule.at.is_some()));
    };
    let routes = |routes: &[Route]| -> Vec<String> {
        routes.iter().map(|route| flow(route, "").unwrap_or_else(|| route.host.to_string())).collect()
    };
    let presets = |presets: &std::collections::BTreeSet<Preset>, list: &[&str]| -> Vec<(usize, String)> {
        let find = |preset: &Preset| Some((positions.item(list, preset.name())?, preset.name().to_owned()));
        presets.iter().filter_map(find).collect()
    };
    for (name, bottle) in &manifest.bottles {
        let top = ["bottles", name.as_str()];
        if let Some(model) = bottle.model.as_ref().and_then(|model| model.endpoint().ok()) {
            add(&[&top[..], &["model"]].concat(), model.base.to_string());
        }
        let hosts = |hosts: &[bottle_types::host::HostPattern]| hosts.iter().map(ToString::to_string).collect();
        let mut lists: Vec<Listed<'_>> = vec![
            (vec!["egress", "routes"], routes(&bottle.egress.routes)),
            (vec!["pipelock", "api_allowlist"], hosts(&bottle.pipelock.api_allowlist)),
            (vec!["pipelock", "passthrough"], hosts(&bottle.pipelock.passthrough)),
        ];
        lists
            .extend(bottle.setup.iter().map(|setup| (vec!["setup", "egress", "routes"], routes(&setup.egress.routes))));
        let indices: Vec<String> = (0..bottle.git.len()).map(|index| index.to_string()).collect();
        for (entry, index) in bottle.git.iter().zip(&indices) {
            let push = &entry.push;
            lists.push((vec!["git", index, "push", "refs"], push.refs.clone()));
            lists.push((vec!["git", index, "push", "protect_paths"], push.protect_paths.clone()));
            lists.push((vec!["git", index, "push", "hold", "paths"], push.hold.paths.clone()));
        }
        for (list, items) in lists {
            for (index, text) in items.into_iter().enumerate() {
                add(&[&top[..], &list, &[index.to_string().as_str()]].concat(), text);
            }
        }
        let of_setup = bottle.setup.iter().map(|setup| (&["setup", "egress", "presets"][..], &setup.egress.presets));
        for (list, chosen) in std::iter::once((&["egress", "presets"][..], &bottle.egress.presets)).chain(of_setup) {
            let list = [&top[..], list].concat();
            for (index, text) in presets(chosen, &list) {
                add(&[&list[..], &[index.to_string().as_str()]].concat(), text);
            }
        }
    }
    let triggers = &manifest.triggers;
    add(&["triggers", "mention"], triggers.mention.clone());
    for (label, agent) in &triggers.labels {
        add(&["triggers", "labels", label], format!("{label}: {agent}"));
    }
    for (login, agent) in &triggers.assignees {
        add(&["triggers", "assignees", login], format!("{login}: {agent}"));
    }
    for (index, bot) in triggers.who.bots.iter().enumerate() {
        add(&["triggers", "who", "bots", &index.to_string()], bot.to_string());
    }
    rules
}
