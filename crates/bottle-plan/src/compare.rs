//! What a change of a manifest newly allows, and what it no longer allows, in sentences.
//!
//! Routes are compared request by request: host, port, scheme, method and path. So are the routes that a name stands for: a preset's, which
//! the host's package managers name, and the model's provider's. Lists of rules are compared item by item. Every other difference is told
//! as what it was and what it is, without a judgement: none is left out.

use std::collections::BTreeSet;

use bottle_policy::route::Route;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::facts::HostFacts;
use crate::manifest::{Agent, BottleEntry, Egress, Manifest, ModelEntry, Service};
use crate::name::Name;
use crate::plan::{PlanError, preset_routes};
use crate::prose;
use crate::registry::Preset;

/// What one difference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Something may be done that might not be.
    Allows,
    /// Something may not be done any more.
    Forbids,
    /// Something is otherwise; which way is for a person to say.
    Changes,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it means.
    pub direction: Direction,
    /// Its keys: `bottles.default.egress.routes`.
    pub path: String,
    /// The sentence.
    pub sentence: String,
}

/// Lists of which each item is a rule: the last keys of their paths, what an item more means, and the sentence about one.
const LISTS: [(&[&str], Direction, &str); 18] = [
    (&["egress", "presets"], Direction::Allows, "the registries of {} may be read"),
    (&["forge", "repositories"], Direction::Allows, "{} may be read at the forge"),
    (&["forge", "read"], Direction::Allows, "{} may be read at the forge"),
    (&["forge", "trust"], Direction::Allows, "words of {} at the forge come unmarked"),
    (&["pipelock", "api_allowlist"], Direction::Allows, "every method and path of https://{} may be asked for"),
    (&["pipelock", "passthrough"], Direction::Allows, "TLS to {} is passed through, and nobody looks into it"),
    (&["pipelock", "allow_private"], Direction::Allows, "addresses in {} may be reached although they are private"),
    (&["pipelock", "internal"], Direction::Forbids, "addresses in {} may be reached"),
    (&["pipelock", "exemptions"], Direction::Allows, "a finding of {} is let through"),
    (&["gate", "exemptions"], Direction::Allows, "a finding of {} may be pushed"),
    (&["push", "refs"], Direction::Allows, "refs like {} may be pushed"),
    (&["push", "protect_paths"], Direction::Forbids, "pushed commits may touch {}"),
    (&["hold", "paths"], Direction::Forbids, "a push that touches {} goes without a person's yes"),
    (&["commits", "trailers"], Direction::Forbids, "commits without the trailer {} may be pushed"),
    (&["supervise", "auto"], Direction::Allows, "routes like {} are granted without a person"),
    (&["artifacts", "paths"], Direction::Allows, "files like {} are taken out of the bottle into the run record"),
    (&["verify", "reports"], Direction::Allows, "test reports like {} are taken out of the bottle into junit.xml"),
    (&["who", "bots"], Direction::Allows, "the bot with the id {} may ask for runs"),
];

/// The presets of both manifests, about which the host's package managers are asked; none where a change is of no preset.
pub fn presets_to_ask(before: Option<&Manifest>, after: &Manifest) -> BTreeSet<Preset> {
    let of = |manifest: Option<&Manifest>| -> BTreeSet<(Name, bool, Preset)> {
        let bottles = manifest.into_iter().flat_map(|manifest| &manifest.bottles);
        let presets = bottles.flat_map(|(name, bottle)| {
            let of_setup = bottle.setup.iter().flat_map(|setup| &setup.egress.presets);
            let own = bottle.egress.presets.iter().map(|preset| (name.clone(), false, *preset));
            own.chain(of_setup.map(|preset| (name.clone(), true, *preset)))
        });
        presets.collect()
    };
    let (old, new) = (of(before), of(Some(after)));
    if old == new {
        return BTreeSet::new();
    }
    old.union(&new).map(|(_, _, preset)| *preset).collect()
}

/// The differences from one manifest to another, those that allow something first. `before` is none where there was no manifest. `facts` has
/// what the host's package managers say about [`presets_to_ask`].
pub fn compare(
    before: Option<&Manifest>,
    after: &Manifest,
    facts: &HostFacts,
) -> Result<Vec<Difference>, serde_json::Error> {
    let none = Value::Object(Map::new());
    let before = before.map(serde_json::to_value).transpose()?.unwrap_or_else(|| none.clone());
    let mut after = serde_json::to_value(after)?;
    if let (Some(after), true) = (after.as_object_mut(), before == none) {
        // A manifest that there was not has no version that could change.
        after.remove("version");
    }
    let mut found = Comparison {
        defaults: (serde_json::to_value(BottleEntry::default())?, serde_json::to_value(Agent::default())?),
        facts,
        found: vec![],
    };
    found.values(&mut vec![], &before, &after);
    found.found.sort_by(|one, other| (one.direction, &one.path).cmp(&(other.direction, &other.path)));
    Ok(found.found)
}

/// The state of a comparison.
struct Comparison<'a> {
    /// A bottle and an agent that say nothing.
    defaults: (Value, Value),
    facts: &'a HostFacts,
    found: Vec<Difference>,
}

impl Comparison<'_> {
    fn say(&mut self, direction: Direction, path: &[String], sentence: String) {
        let path = prose::name(&path.join("."), 300);
        self.found.push(Difference { direction, path, sentence: prose::name(&sentence, 500) });
    }

    fn values(&mut self, path: &mut Vec<String>, before: &Value, after: &Value) {
        if before == after {
            return;
        }
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        if keys.ends_with(&["egress", "routes"]) {
            return self.routes(path, (before, &[]), (after, &[]));
        }
        let list = LISTS.iter().find(|(last, ..)| keys.ends_with(last));
        if let Some((_, direction, sentence)) = list {
            return self.items(path, (before, after), *direction, sentence);
        }
        match (&keys[..], before, after) {
            (["triggers", "labels" | "assignees"], ..) => self.starts(path, before, after),
            (["triggers", "auto_merge"], ..) => {
                let direction = if after == &Value::Bool(true) { Direction::Allows } else { Direction::Forbids };
                let what = "a person may have the forge merge a run's pull request when its required checks are green";
                self.say(direction, path, what.to_owned());
            }
            (["triggers", "pull_requests"], ..) => self.reviews(path, before, after),
            (["bottles", _, "git"], ..) => self.named(path, before, after),
            (["agents", _, "mcp"], ..) => self.servers(path, before, after),
            (["bottles", _, "git", _, "deploy_key"], ..) => self.deploy_key(path, after),
            (["bottles", _, "egress"] | ["bottles", _, "setup", "egress"], ..) => self.egress(path, before, after),
            (["bottles", _, "model"], ..) => self.model(path, before, after),
            (["bottles", _, "services", _], ..) => self.service(path, before, after),
            (["bottles", _, "services", _, "ports"], ..) => {
                self.items(path, (before, after), Direction::Allows, "the agent may reach port {} of the service")
            }
            ([.., "commits", "authors" | "message" | "sign_off"], ..) => self.commits(path, before, after),
            (_, Value::Object(_) | Value::Null, Value::Object(_) | Value::Null) => self.mappings(path, before, after),
            _ => {
                let (before, after) = (words(before), words(after));
                self.say(Direction::Changes, path, format!("{} is {after} now, and was {before}", path.join(".")));
            }
        }
    }

    fn mappings(&mut self, path: &mut Vec<String>, before: &Value, after: &Value) {
        let empty = Map::new();
        let (old, new) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let what = match path.first().map(String::as_str).filter(|_| path.len() == 1) {
                Some("bottles") => Some(("a bottle", self.defaults.0.clone())),
                Some("agents") => Some(("an agent", self.defaults.1.clone())),
                _ => None,
            };
            path.push(key.clone());
            match (what, old.get(key), new.get(key)) {
                (Some((what, default)), None, Some(new)) => {
                    self.say(Direction::Allows, path, format!("there is {what} `{key}`"));
                    self.values(path, &default, new);
                }
                (Some((what, _)), Some(_), None) => {
                    self.say(Direction::Forbids, path, format!("there is {what} `{key}`"));
                }
                (_, old, new) => self.values(path, old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null)),
            }
            path.pop();
        }
    }

    /// Repositories, by their names.
    fn named(&mut self, path: &mut Vec<String>, before: &Value, after: &Value) {
        let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
        let entries = |value: &Value| -> Vec<Value> { value.as_array().cloned().unwrap_or_default() };
        let (old, new) = (entries(before), entries(after));
        let names: BTreeSet<String> = old.iter().chain(&new).map(name).collect();
        for key in names {
            let of = |list: &[Value]| list.iter().find(|entry| name(entry) == key).cloned();
            path.push(key.clone());
            match (of(&old), of(&new)) {
                (Some(old), Some(new)) => self.values(path, &old, &new),
                (None, Some(new)) => {
                    let to = words(&new["upstream"]);
                    let refs = words(&new["push"]["refs"]);
                    self.say(
                        Direction::Allows,
                        path,
                        format!("the repository {key} ({to}) may be fetched, and refs like {refs} pushed"),
                    );
                    path.push("deploy_key".to_owned());
                    self.values(path, &Value::Null, &new["deploy_key"]);
                    path.pop();
                }
                (Some(_), None) => self.say(Direction::Forbids, path, format!("the repository {key} may be fetched")),
                (None, None) => {}
            }
            path.pop();
        }
    }

    fn deploy_key(&mut self, path: &[String], after: &Value) {
        let direction = if after == &Value::Bool(true) { Direction::Allows } else { Direction::Forbids };
        let sentence = "each run registers a key of its own at the forge, and removes it at its end";
        self.say(direction, path, sentence.to_owned());
    }

    /// Ways out: the rules that are written, and what the presets stand for.
    fn egress(&mut self, path: &mut Vec<String>, before: &Value, after: &Value) {
        let read = |value: &Value| match value {
            Value::Null => Ok(Egress::default()),
            value => serde_json::from_value::<Egress>(value.clone()),
        };
        // What can't be read is told as it stands.
        let (Ok(old), Ok(new)) = (read(before), read(after)) else { return self.mappings(path, before, after) };
        // Of a preset without an answer nothing is known to be allowed, so that the others' requests are told rather too often.
        let known = |egress: &Egress| -> Vec<Route> {
            egress.presets.iter().filter_map(|preset| preset_routes(*preset, self.facts).ok()).flatten().collect()
        };
        let (of_old, of_new) = (known(&old), known(&new));
        path.push("routes".to_owned());
        self.routes(path, (&before["routes"], &of_old), (&after["routes"], &of_new));
        path.pop();
        path.push("presets".to_owned());
        self.values(path, &before["presets"], &after["presets"]);
        let both = |egress: &Egress, presets: &[Route]| [&egress.routes[..], presets].concat();
        let (all_old, all_new) = (both(&old, &of_old), both(&new, &of_new));
        for preset in new.presets.difference(&old.presets) {
            self.preset(path, *preset, &all_old, Direction::Allows);
        }
        for preset in old.presets.difference(&new.presets) {
            self.preset(path, *preset, &all_new, Direction::Forbids);
        }
        path.pop();
    }

    /// The requests of a preset that no other rule allows.
    fn preset(&mut self, path: &[String], preset: Preset, others: &[Route], direction: Direction) {
        let name = preset.name();
        match preset_routes(preset, self.facts) {
            Ok(routes) => {
                for route in &routes {
                    self.requests(path, route, others, direction, &format!(", of the preset {name}"));
                }
            }
            Err(error) => {
                let why = match error {
                    PlanError::Preset { problem, .. } => problem,
                    other => other.to_string(),
                };
                let sentence = format!("the hosts of the preset {name} are not known on this machine: {why}");
                self.say(direction, path, sentence);
            }
        }
    }

    /// Where the model is: the keys, and the requests that its provider stands for.
    fn model(&mut self, path: &mut Vec<String>, before: &Value, after: &Value) {
        self.mappings(path, before, after);
        let route = |value: &Value| -> Option<Route> {
            let entry: ModelEntry = serde_json::from_value(value.clone()).ok()?;
            entry.endpoint().ok().map(|endpoint| endpoint.route)
        };
        let (old, new) = (route(before), route(after));
        for (one, other, direction) in [(&new, &old, Direction::Allows), (&old, &new, Direction::Forbids)] {
            if let Some(one) = one {
                self.requests(path, one, other.as_slice(), direction, ", of the model");
            }
        }
    }

    /// A program beside the agent.
    fn service(&mut self, path: &mut Vec<String>, before: &Value, after: &Value) {
        let default = || serde_json::to_value(Service::default()).unwrap_or_default();
        match (before, after) {
            (Value::Null, new) => {
                self.say(Direction::Allows, path, service(path, new));
                let mut told = default();
                for key in ["image", "program", "ports"] {
                    told[key] = new[key].clone();
                }
                self.mappings(path, &told, new);
            }
            (old, Value::Null) => self.say(Direction::Forbids, path, service(path, old)),
            (old, new) => self.mappings(path, old, new),
        }
    }

    /// MCP servers, by their names; one that is otherwise is one less and one more.
    fn servers(&mut self, path: &[String], before: &Value, after: &Value) {
        let empty = Map::new();
        let (old, new) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
        for (one, other, direction) in [(new, old, Direction::Allows), (old, new, Direction::Forbids)] {
            for (name, server) in one.iter().filter(|(name, server)| other.get(*name) != Some(server)) {
                let place = server.get("url").or_else(|| server.get("command")).unwrap_or(&Value::Null);
                let mut more = server.as_object().cloned().unwrap_or_default();
                more.retain(|key, _| !matches!(key.as_str(), "url" | "command"));
                let more = if more.is_empty() { String::new() } else { format!(" with {}", Value::Object(more)) };
                let sentence = format!("the agent has the tools of the server {name}: {}{more}", words(place));
                self.say(direction, path, sentence);
            }
        }
    }

    fn items(&mut self, path: &[String], (before, after): (&Value, &Value), direction: Direction, sentence: &str) {
        let items = |value: &Value| -> Vec<Value> { value.as_array().cloned().unwrap_or_default() };
        let (old, new) = (items(before), items(after));
        let more = direction;
        let less = if direction == Direction::Allows { Direction::Forbids } else { Direction::Allows };
        for item in new.iter().filter(|item| !old.contains(item)) {
            self.say(more, path, sentence.replace("{}", &words(item)));
        }
        for item in old.iter().filter(|item| !new.contains(item)) {
            self.say(less, path, sentence.replace("{}", &words(item)));
        }
    }

    /// A rule about commits: what it refuses is allowed without it.
    fn commits(&mut self, path: &[String], before: &Value, after: &Value) {
        let sentence = |rule: &Value| match path.last().map(String::as_str) {
            Some("authors") => format!("commits of others than {} may be pushed", words(rule)),
            Some("message") => format!("commits whose message does not match {} may be pushed", words(rule)),
            _ => "commits without a sign-off may be pushed".to_owned(),
        };
        let is_list = before.is_array() && after.is_array();
        if is_list {
            return self.items(path, (before, after), Direction::Allows, "commits of {} may be pushed");
        }
        if !before.is_null() {
            self.say(Direction::Allows, path, sentence(before));
        }
        if !after.is_null() {
            self.say(Direction::Forbids, path, sentence(after));
        }
    }

    fn starts(&mut self, path: &[String], before: &Value, after: &Value) {
        let empty = Map::new();
        let (old, new) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
        let what = if path.last().is_some_and(|key| key == "labels") { "the label" } else { "giving an issue to" };
        let sentence = |key: &str, agent: &Value| format!("{what} `{key}` starts a run of the agent {}", words(agent));
        for (key, agent) in new.iter().filter(|(key, agent)| old.get(*key) != Some(agent)) {
            self.say(Direction::Allows, path, sentence(key, agent));
        }
        for (key, agent) in old.iter().filter(|(key, agent)| new.get(*key) != Some(agent)) {
            self.say(Direction::Forbids, path, sentence(key, agent));
        }
    }

    fn reviews(&mut self, path: &[String], before: &Value, after: &Value) {
        let sentences = |value: &Value| -> Vec<String> {
            let acts = value["on"].as_array().into_iter().flatten().map(words);
            let whose = |is: &Value, what: &str| if is == &Value::Bool(true) { what.to_owned() } else { String::new() };
            let (drafts, forks) =
                (whose(&value["drafts"], ", drafts too"), whose(&value["forks"], ", those of anybody's fork too"));
            let agent = words(&value["agent"]);
            acts.map(|act| {
                format!("a pull request that is {act} is reviewed by {agent} though nobody asks{drafts}{forks}")
            })
            .collect()
        };
        let (old, new) = (sentences(before), sentences(after));
        for sentence in new.iter().filter(|sentence| !old.contains(sentence)) {
            self.say(Direction::Allows, path, sentence.clone());
        }
        for sentence in old.iter().filter(|sentence| !new.contains(sentence)) {
            self.say(Direction::Forbids, path, sentence.clone());
        }
    }

    /// Written routes, each list with the routes of the presets beside it.
    fn routes(&mut self, path: &[String], (before, of_old): (&Value, &[Route]), (after, of_new): (&Value, &[Route])) {
        if before == after {
            return;
        }
        let read = |value: &Value| match value {
            Value::Null => Ok(vec![]),
            list => serde_json::from_value::<Vec<Route>>(list.clone()),
        };
        // Routes that can't be read are told as they stand, and never as none.
        let (Ok(old), Ok(new)) = (read(before), read(after)) else {
            let sentence = format!("{} is {} now, and was {}", path.join("."), words(after), words(before));
            return self.say(Direction::Changes, path, sentence);
        };
        let (all_old, all_new) = ([&old[..], of_old].concat(), [&new[..], of_new].concat());
        for (one, other, direction) in [(&new, &all_old, Direction::Allows), (&old, &all_new, Direction::Forbids)] {
            for route in one {
                self.requests(path, route, other, direction, "");
            }
        }
        // The same requests, otherwise treated: a credential, a limit, another place, what a secret leads to.
        let rest = |route: &Route| Route { methods: vec![], paths: vec![], ..route.clone() };
        for route in &new {
            let same = |other: &&Route| place(other) == place(route);
            let known = old.iter().filter(same).any(|other| rest(other) == rest(route));
            let plain = Route::plain(route.host.clone(), &[], &[]);
            let plain = Route { port: route.port, scheme: route.scheme, ..plain };
            if !known && (old.iter().any(|other| same(&other)) || rest(route) != plain) {
                let mut value = serde_json::to_value(route).unwrap_or_default();
                for key in ["host", "port", "scheme", "methods", "paths"] {
                    value.as_object_mut().and_then(|keys| keys.remove(key));
                }
                let sentence = format!("requests to {} have {} now", place(route), words(&value));
                self.say(Direction::Changes, path, sentence);
            }
        }
        if one_order(&old, &new) {
            self.say(
                Direction::Changes,
                path,
                "the order of the routes is another; the first that matches decides".to_owned(),
            );
        }
    }

    /// The requests of a route that no other allows; `of` says what they belong to.
    fn requests(&mut self, path: &[String], route: &Route, others: &[Route], direction: Direction, of: &str) {
        let phase = if path.iter().any(|key| key == "setup") { " while the setup runs" } else { "" };
        for (methods, paths) in beyond(route, others) {
            let at = place(route);
            self.say(direction, path, format!("{methods} of {at} may be asked for{phase}: {paths}{of}"));
        }
    }
}

/// The sentence about a program beside the agent.
fn service(path: &[String], service: &Value) -> String {
    let name = path.last().map(String::as_str).unwrap_or_default();
    let from = match (service.get("image"), service.get("program")) {
        (Some(image), _) => format!("the image {}", words(image)),
        (None, Some(program)) => format!("the program {}", words(program)),
        (None, None) => "nothing".to_owned(),
    };
    format!(
        "the service {name} runs beside the agent, from {from}, and is reached at the ports {}",
        words(&service["ports"])
    )
}

/// Whether two lists have the same routes in another order.
fn one_order(old: &[Route], new: &[Route]) -> bool {
    old != new && old.len() == new.len() && old.iter().all(|route| new.contains(route))
}

/// A route's host in an address.
fn place(route: &Route) -> String {
    let scheme = if route.scheme.is_https() { "https" } else { "http" };
    let port = route.port.map(|port| format!(":{port}")).unwrap_or_default();
    let socket = if route.websocket { " (WebSockets too)" } else { "" };
    format!("{scheme}://{}{port}{socket}", route.host)
}

/// The requests of a route that no other route allows: paths with the same methods together. A route with conditions allows what another
/// allows under the same ones, or under none.
fn beyond(route: &Route, others: &[Route]) -> Vec<(String, String)> {
    let covers = |other: &&Route| {
        let under = (other.query.is_empty() && other.headers.is_empty())
            || (other.query == route.query && other.headers == route.headers);
        other.host.covers(&route.host)
            && other.port() == route.port()
            && other.scheme == route.scheme
            && (other.websocket || !route.websocket)
            && under
    };
    let others: Vec<&Route> = others.iter().filter(covers).collect();
    let is_new = |method: &String, path: &String| {
        !others
            .iter()
            .any(|other| other.methods.contains(method) && other.paths.iter().any(|glob| glob == path || glob == "/**"))
    };
    let mut found: Vec<(Vec<&str>, Vec<&str>)> = vec![];
    for path in &route.paths {
        let methods: Vec<&str> =
            route.methods.iter().filter(|method| is_new(method, path)).map(String::as_str).collect();
        match found.iter_mut().find(|(known, _)| *known == methods) {
            _ if methods.is_empty() => {}
            Some((_, paths)) => paths.push(path),
            None => found.push((methods, vec![path])),
        }
    }
    found.into_iter().map(|(methods, paths)| (methods.join(", "), paths.join(", "))).collect()
}

/// A value in words.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "not said".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;
    use crate::registry::{self, NoAnswer};

    const BEFORE: &str = "version: 1\nbottles:\n  default:\n    egress:\n      presets: [npm]\n      routes:\n        - host: \
                          docs.example.org\n        - { host: api.example.org, methods: [GET], paths: [/a, /b] }\n    git:\n      - name: \
                          origin\n        upstream: https://git.example.org/a/b\n        token_from: T\nagents:\n  implementer: {}\n\
                          triggers:\n  labels: { claude: implementer }\n";

    /// Each difference in a line.
    fn lines(before: &str, after: &str) -> Vec<String> {
        let read = |text: &str| parse(text, "m.yml").unwrap_or_else(|error| panic!("{error}"));
        let (before, after) = (read(before), read(after));
        let npm = |host: &str| registry::npm(&format!("{{\"registry\": \"https://{host}/npm/\"}}"), "", None);
        let registries = presets_to_ask(Some(&before), &after).into_iter().map(|preset| match preset {
            Preset::Npm => (preset, npm("npm.example.org")),
            other => (other, Err(NoAnswer::missing(other.name()))),
        });
        let facts = HostFacts { registries: registries.collect(), ..HostFacts::default() };
        let found = compare(Some(&before), &after, &facts).expect("manifests");
        found.into_iter().map(|one| format!("{:?} {}: {}", one.direction, one.path, one.sentence)).collect()
    }

    #[test]
    fn each_kind_of_change_has_its_sentence() {
        let routes = "bottles.default.egress.routes";
        for (from, to, told) in [
            (
                "[GET], paths: [/a, /b]",
                "[GET, POST], paths: [/a, /c]",
                vec![
                    format!("Allows {routes}: POST of https://api.example.org may be asked for: /a"),
                    format!("Allows {routes}: GET, POST of https://api.example.org may be asked for: /c"),
                    format!("Forbids {routes}: GET of https://api.example.org may be asked for: /b"),
                ],
            ),
            // A wider host with the same methods takes nothing away.
            (
                "- host: docs.example.org",
                "- host: \"*.example.org\"",
                vec![format!("Allows {routes}: GET, HEAD of https://*.example.org may be asked for: /**")],
            ),
            (
                "- host: docs.example.org",
                "- { host: docs.example.org, dlp: { outbound: warn } }",
                vec![format!(
                    "Changes {routes}: requests to https://docs.example.org have {{\"dlp\":{{\"outbound\":\"warn\"}}}} now"
                )],
            ),
            (
                "token_from: T",
                "token_from: T\n        push: { commits: { authors: [run], message: conventional, sign_off: true, trailers: [run] } }",
                [
                    "authors: commits of others than run may be pushed",
                    "message: commits whose message does not match conventional may be pushed",
                    "sign_off: commits without a sign-off may be pushed",
                    "trailers: commits without the trailer run may be pushed",
                ]
                .map(|told| format!("Forbids bottles.default.git.origin.push.commits.{told}"))
                .to_vec(),
            ),
            (
                "token_from: T",
                "token_from: T\n      - name: own\n        upstream: ssh://git@git.example.org/a/c\n        deploy_key: true\n        \
                 known_host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
                vec![
                    "Allows bottles.default.git.own: the repository own (ssh://git@git.example.org/a/c) may be fetched, and refs like \
                     refs/heads/bottle/** pushed"
                        .to_owned(),
                    "Allows bottles.default.git.own.deploy_key: each run registers a key of its own at the forge, and removes it at its \
                     end"
                        .to_owned(),
                ],
            ),
            (
                "presets: [npm]",
                "presets: [pip]",
                vec![
                    "Allows bottles.default.egress.presets: the registries of pip may be read".to_owned(),
                    "Allows bottles.default.egress.presets: the hosts of the preset pip are not known on this machine: there is no `pip` \
                     on this host to ask where it fetches from"
                        .to_owned(),
                    "Forbids bottles.default.egress.presets: the registries of npm may be read".to_owned(),
                    "Forbids bottles.default.egress.presets: GET, HEAD of https://npm.example.org may be asked for: /npm/**, of the preset npm"
                        .to_owned(),
                ],
            ),
            // A written rule allows a part of what the preset did.
            (
                "presets: [npm]\n      routes:\n",
                "routes:\n        - { host: npm.example.org, methods: [GET], paths: [/**] }\n",
                vec![
                    format!("Allows {routes}: GET of https://npm.example.org may be asked for: /**"),
                    "Forbids bottles.default.egress.presets: the registries of npm may be read".to_owned(),
                    "Forbids bottles.default.egress.presets: HEAD of https://npm.example.org may be asked for: /npm/**, of the preset npm"
                        .to_owned(),
                ],
            ),
            (
                "    git:\n",
                "    setup: { run: [x], egress: { presets: [npm] } }\n    git:\n",
                vec![
                    "Allows bottles.default.setup.egress.presets: the registries of npm may be read".to_owned(),
                    "Allows bottles.default.setup.egress.presets: GET, HEAD of https://npm.example.org may be asked for while the setup runs: \
                     /npm/**, of the preset npm"
                        .to_owned(),
                    "Changes bottles.default.setup.run: bottles.default.setup.run is x now, and was not said".to_owned(),
                    "Changes bottles.default.setup.time: bottles.default.setup.time is 30m now, and was not said".to_owned(),
                ],
            ),
            (
                "    git:\n",
                "    services: { db: { image: \"registry.example.org/db:16\", ports: [5432], env: { A: b } } }\n    git:\n",
                vec![
                    "Allows bottles.default.services.db: the service db runs beside the agent, from the image registry.example.org/db:16, and is \
                     reached at the ports 5432"
                        .to_owned(),
                    "Changes bottles.default.services.db.env.A: bottles.default.services.db.env.A is b now, and was not said".to_owned(),
                ],
            ),
            (
                "    git:\n",
                "    model: { provider: foundry, resource: acme, from: KEY }\n    git:\n",
                vec![
                    "Allows bottles.default.model: POST of https://acme.services.ai.azure.com may be asked for: /anthropic/v1/messages, \
                     /anthropic/v1/messages/count_tokens, of the model"
                        .to_owned(),
                    "Changes bottles.default.model.from: bottles.default.model.from is KEY now, and was not said".to_owned(),
                    "Changes bottles.default.model.provider: bottles.default.model.provider is foundry now, and was not said".to_owned(),
                    "Changes bottles.default.model.resource: bottles.default.model.resource is acme now, and was not said".to_owned(),
                ],
            ),
            (
                "token_from: T",
                "token_from: T\n        push: { refs: [refs/heads/bottle/**, refs/heads/main], protect_paths: [] }",
                {
                    let mut told = vec![
                        "Allows bottles.default.git.origin.push.refs: refs like refs/heads/main may be pushed"
                            .to_owned(),
                    ];
                    for path in [".github/workflows/**", ".gitea/workflows/**", ".forgejo/workflows/**"]
                        .into_iter()
                        .chain(crate::manifest::FILE_NAMES)
                    {
                        told.push(format!(
                            "Allows bottles.default.git.origin.push.protect_paths: pushed commits may touch {path}"
                        ));
                    }
                    told.sort();
                    told
                },
            ),
            (
                "labels: { claude: implementer }",
                "labels: { bug: implementer }",
                vec![
                    "Allows triggers.labels: the label `bug` starts a run of the agent implementer".to_owned(),
                    "Forbids triggers.labels: the label `claude` starts a run of the agent implementer".to_owned(),
                ],
            ),
            (
                "    egress:\n",
                "    pipelock: { dlp: \"off\" }\n    egress:\n",
                vec![
                    "Changes bottles.default.pipelock.dlp: bottles.default.pipelock.dlp is off now, and was block"
                        .to_owned(),
                ],
            ),
            (
                "agents:\n",
                "agents:\n  other: { model: x }\n",
                vec![
                    "Allows agents.other: there is an agent `other`".to_owned(),
                    "Changes agents.other.model: agents.other.model is x now, and was not said".to_owned(),
                ],
            ),
            (
                "implementer: {}",
                "implementer: { mcp: { notes: { command: [node, tools/x.js], env: { A: b } } } }",
                vec![
                    "Allows agents.implementer.mcp: the agent has the tools of the server notes: node, tools/x.js with {\"env\":{\"A\":\"b\"}}"
                        .to_owned(),
                ],
            ),
        ] {
            assert!(BEFORE.contains(from), "{from}");
            let mut found = lines(BEFORE, &BEFORE.replace(from, to));
            let mut told = told;
            found.sort();
            told.sort();
            assert_eq!(found, told, "{from} → {to}");
        }
        assert_eq!(lines(BEFORE, BEFORE), [""; 0]);
    }

    #[test]
    fn the_order_of_routes_is_told() {
        let (one, other) = (
            "        - host: docs.example.org\n",
            "        - { host: api.example.org, methods: [GET], paths: [/a, /b] }\n",
        );
        let found = lines(BEFORE, &BEFORE.replace(&format!("{one}{other}"), &format!("{other}{one}")));
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn of_a_first_manifest_everything_is_new() {
        let after = parse(BEFORE, "m.yml").expect("a manifest");
        let found = compare(None, &after, &HostFacts::default()).expect("a manifest");
        assert!(found.iter().all(|one| one.direction != Direction::Forbids), "{found:#?}");
        let has =
            |part: &str| found.iter().any(|one| one.direction == Direction::Allows && one.sentence.contains(part));
        assert!(
            has("docs.example.org") && has("registries of npm") && has("repository origin") && has("label `claude`")
        );
    }
}
