//! What no single value of a manifest can show: names that must be there, keys that need or exclude each other.

mod budget;
mod cache;
mod git;
mod model;
mod secrets;
mod services;
mod signing;
mod tools;
mod verify;

pub(crate) use git::keyscan;
pub(super) use secrets::looks_like_secret_value;

use std::collections::BTreeSet;

use bottle_policy::matcher::{Matcher, MatcherError};
use bottle_policy::outputs::AnswerSchema;
use bottle_policy::route::{Injection, Route, RoutesPolicy, Scheme};
use bottle_scan::dlp::Rules;
use bottle_types::address::has_password;
use bottle_types::units::ByteSize;

use super::{Agent, AgentLimits, BottleEntry, ForgeEntry, Manifest, ProxyEntry, Resources, Setup};
use crate::event::BOTTLE;
use crate::plan::{RESERVED_VARIABLES, last_name};

/// Something wrong, and the path of keys and indices to it.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) path: Vec<String>,
    pub(super) problem: String,
    pub(super) hint: Option<String>,
}

type Checked = Result<(), Problem>;

/// A path to a value, grown on the way down.
#[derive(Debug, Clone)]
struct At(Vec<String>);

impl At {
    fn key(&self, key: &str) -> Self {
        let mut path = self.0.clone();
        path.push(key.to_owned());
        Self(path)
    }

    fn item(&self, index: usize) -> Self {
        self.key(&index.to_string())
    }

    /// The finding that this value is wrong; the message begins with the path.
    fn wrong(&self, problem: &str) -> Problem {
        let path: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let problem = match super::position::dotted(&path).as_str() {
            "" => problem.to_owned(),
            path => format!("{path}: {problem}"),
        };
        Problem { path: self.0.clone(), problem, hint: None }
    }
}

impl Problem {
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Checks all of a manifest; the first thing that is wrong ends it.
pub(super) fn check(manifest: &Manifest) -> Checked {
    let top = At(vec![]);
    if manifest.version != 1 {
        let problem = format!("version {} is not known", manifest.version);
        return Err(top.key("version").wrong(&problem).hint("this program reads version 1"));
    }
    if manifest.bottles.is_empty() {
        return Err(top.key("bottles").wrong("there is no bottle").hint("add one: `default: {}`"));
    }
    for (name, entry) in &manifest.credentials {
        let at = top.key("credentials").key(name.as_str());
        entry.check(name).map_err(|(key, problem)| match key {
            "" => at.wrong(&problem),
            key => key.split('.').fold(at.clone(), |at, key| at.key(key)).wrong(&problem),
        })?;
    }
    git::check_plain_http(&manifest.plain_http, &top.key("plain_http"))?;
    if let Some(Err((key, problem))) = manifest.proxy.as_ref().map(ProxyEntry::check) {
        return Err(top.key("proxy").key(key).wrong(&problem));
    }
    for (name, bottle) in &manifest.bottles {
        check_bottle(bottle, manifest, &top.key("bottles").key(name.as_str()))?;
    }
    for (name, agent) in &manifest.agents {
        check_agent(agent, manifest, &top.key("agents").key(name.as_str()))?;
    }
    if manifest.agents.is_empty() && manifest.bottles.len() > 1 {
        let names: Vec<&str> = manifest.bottles.keys().map(super::Name::as_str).collect();
        return Err(top
            .key("bottles")
            .wrong("there are several bottles and no agent that says which")
            .hint(format!("add `agents: {{ default: {{ bottle: {} }} }}`", names[0])));
    }
    budget::check(manifest, &top)?;
    check_triggers(manifest, &top.key("triggers"))
}

fn check_bottle(bottle: &BottleEntry, manifest: &Manifest, at: &At) -> Checked {
    if let Some(image) = &bottle.image {
        check_image(image, &at.key("image"))?;
    }
    for (name, value) in &bottle.env {
        check_variable(name, value, &at.key("env").key(name))?;
    }
    model::check(bottle, at)?;
    check_forge(bottle, at)?;
    check_resources(&bottle.resources, &at.key("resources"))?;
    for (index, route) in bottle.egress.routes.iter().enumerate() {
        check_route(route, &at.key("egress").key("routes").item(index))?;
    }
    if let Some(directory) = &bottle.directory {
        check_repo_path(directory, &at.key("directory"))?;
    }
    if let Some(setup) = &bottle.setup {
        check_setup(setup, &at.key("setup"))?;
    }
    services::check(bottle, &at.key("services"))?;
    check_pipelock(bottle, &at.key("pipelock"))?;
    for (index, exemption) in bottle.gate.exemptions.iter().enumerate() {
        if let Err((key, problem)) = exemption.check() {
            return Err(at.key("gate").key("exemptions").item(index).key(key).wrong(&problem));
        }
    }
    signing::check(bottle, manifest, &at.key("signing"))?;
    check_supervise(bottle, &at.key("supervise"))?;
    git::check(&bottle.git, manifest, &at.key("git"))?;
    git::check_sparse(bottle, at)
}

fn check_forge(bottle: &BottleEntry, at: &At) -> Checked {
    let Some(forge) = &bottle.forge else { return Ok(()) };
    forge.check().map_err(|(key, problem)| at.key("forge").key(key).wrong(&problem))?;
    match bottle.env.keys().find(|name| ForgeEntry::VARIABLES.contains(&name.as_str())) {
        Some(name) => {
            Err(at.key("env").key(name).wrong("the bottle's `forge` sets what this is about").hint("remove it"))
        }
        None => Ok(()),
    }
}

fn check_image(image: &str, at: &At) -> Checked {
    if has_password(image) {
        let hint = "remove it and revoke it; `docker login` gives the host's engine a registry's credentials";
        return Err(at.wrong("there is a password or a token in the image's address").hint(hint));
    }
    if !is_one_word(image) {
        return Err(at.wrong(&format!("`{image}` is not the name of an image")));
    }
    Ok(())
}

/// Tells whether a text can stand as an argument of a command: it is printable, has no blank, and is no option.
fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_pipelock(bottle: &BottleEntry, pipelock: &At) -> Checked {
    if bottle.pipelock.max_request_bytes.0 == 0 {
        return Err(pipelock.key("max_request_bytes").wrong("no request would fit"));
    }
    let egress = bottle.egress_with_setup();
    let (routes, presets) = (!egress.routes.is_empty(), !egress.presets.is_empty());
    let a_route = match (&bottle.model, &bottle.forge) {
        (Some(_), _) => Some("model"),
        (None, Some(_)) => Some("forge"),
        (None, None) => None,
    };
    if let Some(key) = a_route.filter(|_| !bottle.pipelock.api_allowlist.is_empty()) {
        let problem = &format!("has no effect in a bottle whose `{key}` is a route");
        return Err(pipelock.key("api_allowlist").wrong(problem).hint("make each host a route"));
    }
    if !bottle.pipelock.api_allowlist.is_empty() && (routes || presets) {
        let what = if routes { "routes" } else { "presets" };
        return Err(pipelock
            .key("api_allowlist")
            .wrong(&format!("has no effect in a bottle with egress {what}"))
            .hint(format!("make each host a route, or remove the {what}")));
    }
    for (index, host) in bottle.pipelock.passthrough.iter().enumerate() {
        let covers = |route: &&Route| route.host.covers(host) || host.covers(&route.host);
        if let Some(route) = egress.routes.iter().find(covers) {
            return Err(pipelock
                .key("passthrough")
                .item(index)
                .wrong(&format!("the route {} is about the same host, and could not be kept", route.host))
                .hint(
                    "what is passed through is not looked into: no path, no method, no credential; keep one of the two",
                ));
        }
    }
    let patterns = &bottle.pipelock.patterns;
    for (index, pattern) in patterns.iter().enumerate() {
        let at = pipelock.key("patterns").item(index);
        if let Err((key, problem)) = pattern.check() {
            return Err(at.key(key).wrong(&problem));
        }
        if patterns[..index].iter().any(|other| other.name == pattern.name) {
            return Err(at.key("name").wrong(&format!("there is a pattern `{}` already", pattern.name)));
        }
    }
    for (index, exemption) in bottle.pipelock.exemptions.iter().enumerate() {
        let is_known = |id: &str| Rules::has_builtin(id) || patterns.iter().any(|pattern| pattern.name == id);
        if !exemption.rule.id().is_some_and(is_known) {
            let problem = format!("there is no DLP rule `{}`", exemption.rule);
            let at = pipelock.key("exemptions").item(index).key("rule");
            return Err(at.wrong(&problem).hint("write the id that a refusal named, such as github-pat"));
        }
    }
    Ok(())
}

fn check_supervise(bottle: &BottleEntry, at: &At) -> Checked {
    if bottle.supervise.timeout.0 == 0 {
        return Err(at.key("timeout").wrong("nobody can answer in no time"));
    }
    if bottle.supervise.timeout.0 > 24 * 3600 {
        return Err(at
            .key("timeout")
            .wrong("longer than a day")
            .hint("an agent that waits costs its whole run's time"));
    }
    for (index, rule) in bottle.supervise.auto.iter().enumerate() {
        check_methods(&rule.methods, &at.key("auto").item(index))?;
        if rule.methods.is_empty() {
            let at = at.key("auto").item(index).key("methods");
            return Err(at.wrong("grants nothing").hint("leave `methods` out for GET and HEAD"));
        }
    }
    let egress = &bottle.egress;
    if egress.routes.is_empty()
        && egress.presets.is_empty()
        && bottle.model.is_none()
        && bottle.forge.is_none()
        && !bottle.supervise.auto.is_empty()
    {
        return Err(at
            .key("auto")
            .wrong("has no effect in a bottle without egress routes: its proxy allows whole hosts")
            .hint("declare `egress.routes`, or list the hosts under `pipelock.api_allowlist`"));
    }
    Ok(())
}

fn check_methods(methods: &[String], at: &At) -> Checked {
    for (index, method) in methods.iter().enumerate() {
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_')) {
            let problem = format!("`{method}` is not a method");
            return Err(at.key("methods").item(index).wrong(&problem).hint("methods are written as GET or POST"));
        }
        if method == "CONNECT" {
            return Err(at.key("methods").item(index).wrong("CONNECT can't be a route's method"));
        }
    }
    Ok(())
}

fn check_variable(name: &str, value: &str, at: &At) -> Checked {
    check_variable_name(name, at)?;
    if RESERVED_VARIABLES.contains(&name) {
        return Err(at.wrong("the bottle sets this variable itself").hint("remove it"));
    }
    if value.contains('\0') {
        return Err(at.wrong("a variable can't hold a NUL"));
    }
    if secrets::looks_like_one(name, value) {
        return Err(at.wrong("the value looks like a secret, and the agent would see it").hint(format!(
            "revoke it if it is one; a route's `auth: {{ header: …, from: {name} }}` adds a credential outside the bottle"
        )));
    }
    Ok(())
}

fn check_variable_name(name: &str, at: &At) -> Checked {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(at.wrong("not the name of an environment variable"));
    }
    Ok(())
}

fn check_resources(resources: &Resources, at: &At) -> Checked {
    check_cpus(resources, at)?;
    if resources.memory < ByteSize(256 << 20) {
        return Err(at.key("memory").wrong("too little for Claude Code").hint("give at least 256MiB"));
    }
    if resources.pids < 64 {
        return Err(at.key("pids").wrong("too few for Claude Code").hint("give at least 64"));
    }
    Ok(())
}

fn check_cpus(resources: &Resources, at: &At) -> Checked {
    if !(resources.cpus.is_finite() && (0.1..=1024.0).contains(&resources.cpus)) {
        return Err(at.key("cpus").wrong("expected between 0.1 and 1024 processors"));
    }
    Ok(())
}

fn check_route(route: &Route, at: &At) -> Checked {
    if route.port == Some(0) {
        return Err(at.key("port").wrong("0 is not a port"));
    }
    check_methods(&route.methods, at)?;
    for (index, path) in route.paths.iter().enumerate() {
        let odd = path.contains(['?', '#', '\\', '%', ' ']) || path.split('/').any(|part| matches!(part, "." | ".."));
        if !path.starts_with('/') || odd {
            let problem = format!("`{path}` is not a path's glob");
            let hint = "it begins with `/`, without query, `..` or %-codes: `/v1/*` or `/v1/**`";
            return Err(at.key("paths").item(index).wrong(&problem).hint(hint));
        }
    }
    if route.mcp.is_some() {
        let hint = "name the server under an agent's `mcp`, with its `url`";
        return Err(at.key("mcp").wrong("a route to an MCP server is made by the agent that has it").hint(hint));
    }
    if route.forge.is_some() {
        let hint = "say what may be read under the bottle's `forge`";
        return Err(at
            .key("forge")
            .wrong("a route to a forge that is read is made by the bottle's `forge`")
            .hint(hint));
    }
    check_credential(route, at)?;
    // The door's own reading of it, for globs that are none and whatever else it minds.
    let alone = RoutesPolicy { version: 1, routes: vec![route.clone()], ..RoutesPolicy::default() };
    if let Err(error) = Matcher::new(&alone) {
        return Err(at.wrong(&match error {
            MatcherError::Route { reason, .. } => reason,
            other => other.to_string(),
        }));
    }
    Ok(())
}

/// Checks what a route adds to requests.
fn check_credential(route: &Route, at: &At) -> Checked {
    if let Some(auth) = &route.auth {
        let at = at.key("auth");
        if let Injection::Header { name: header, .. } = auth.injection().map_err(|problem| at.wrong(problem))? {
            let token =
                !header.is_empty() && header.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            let framing = ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer"];
            if !token || framing.contains(&header.as_str()) || header.starts_with("proxy-") {
                return Err(at.key("header").wrong(&format!("`{header}` can't carry a credential")));
            }
        }
        if route.scheme == Scheme::Http {
            return Err(at.wrong("a credential would go over http, readable on the way").hint("use https"));
        }
    }
    Ok(())
}

fn check_agent(agent: &Agent, manifest: &Manifest, at: &At) -> Checked {
    let names = || manifest.bottles.keys().map(super::Name::as_str).collect::<Vec<_>>().join(", ");
    match &agent.bottle {
        Some(bottle) if !manifest.bottles.contains_key(bottle) => {
            let problem = format!("there is no bottle `{bottle}`");
            return Err(at.key("bottle").wrong(&problem).hint(format!("there is {}", names())));
        }
        None if manifest.bottles.len() > 1 => {
            return Err(at.wrong("the agent names no bottle").hint(format!("add `bottle:`, one of {}", names())));
        }
        _ => {}
    }
    if let Some(prompt) = &agent.prompt {
        check_repo_path(prompt, &at.key("prompt"))?;
    }
    let mut skills = BTreeSet::new();
    for (index, skill) in agent.skills.iter().enumerate() {
        let at = at.key("skills").item(index);
        check_repo_path(skill, &at)?;
        if !skills.insert(last_name(skill)) {
            return Err(at.wrong("another skill has the same name").hint("a skill's name is that of its directory"));
        }
    }
    if let Some(model) = agent.model.as_ref().filter(|model| !is_one_word(model)) {
        return Err(at.key("model").wrong(&format!("`{model}` is not the name of a model")));
    }
    model::check_agent(agent, manifest, at)?;
    check_limits(&agent.limits, &at.key("limits"))?;
    // Aliases such as `sonnet` are resolved by Claude Code; egress sees what they stand for.
    let is_id = |model: &str| model.starts_with("claude-") || model.contains("anthropic.") || model.starts_with("arn:");
    if let Some(model) = agent.model.as_deref().map(|model| model.strip_suffix("[1m]").unwrap_or(model))
        && is_id(model)
        && agent.limits.budget().unpriced(model).is_some()
    {
        return Err(at
            .key("limits")
            .key("cost_usd")
            .wrong(&format!("the model `{model}` has no price, so this limit can't be kept"))
            .hint(format!("add its price: limits: {{ prices: {{ {model}: {{ input: 3, output: 15 }} }} }}")));
    }
    tools::check(agent, manifest, at)?;
    verify::check(agent, manifest, &at.key("verify"))?;
    if let Some((Err((keys, problem)), at)) = agent.artifacts.as_ref().map(|rules| (rules.check(), at.key("artifacts")))
    {
        let hint = "such as `paths: [screenshots/**]`, with `max: 100` files and `max_bytes: 64MiB` together";
        return Err(keys.iter().fold(at, |at, key| at.key(key)).wrong(&problem).hint(hint));
    }
    if let Err((key, problem)) = agent.attachments.check() {
        let hint = "such as `max: 20` files of `max_bytes: 10MiB` each; `max: 0` gives the agent none";
        return Err(at.key("attachments").key(key).wrong(&problem).hint(hint));
    }
    if let Err((keys, problem)) = agent.pull_request.check() {
        let at = keys.iter().fold(at.key("pull_request"), |at, key| match key.parse() {
            Ok(index) => at.item(index),
            Err(_) => at.key(key),
        });
        return Err(at.wrong(&problem));
    }
    check_labels(agent, manifest, &at.key("labels"))?;
    check_outputs(agent, manifest, &at.key("outputs"))
}

fn check_setup(setup: &Setup, at: &At) -> Checked {
    if setup.script.is_none() && setup.from.is_none() && setup.run.is_empty() {
        return Err(at
            .wrong("nothing is run")
            .hint("add `run: [npm ci]`, or `script:` with a program of the base branch"));
    }
    if let Some(script) = &setup.script {
        check_repo_path(script, &at.key("script"))?;
    }
    if let Some(from) = &setup.from {
        check_repo_path(from, &at.key("from"))?;
    }
    check_commands(&setup.run, &at.key("run"))?;
    for (index, route) in setup.egress.routes.iter().enumerate() {
        let at = at.key("egress").key("routes").item(index);
        if route.model {
            return Err(at
                .key("model")
                .wrong("a setup has no model")
                .hint("move the route to the bottle's own `egress`"));
        }
        check_route(route, &at)?;
    }
    if !(1..=24 * 3600).contains(&setup.time.0) {
        return Err(at.key("time").wrong("expected between a second and a day"));
    }
    cache::check_cache(setup, at)
}

fn check_commands(commands: &[String], at: &At) -> Checked {
    commands.iter().enumerate().try_for_each(|(index, command)| check_command(command, &at.item(index)))
}

fn check_command(command: &str, at: &At) -> Checked {
    if command.trim().is_empty() {
        return Err(at.wrong("expected a shell command"));
    }
    check_words(command, at)
}

fn check_words(words: &str, at: &At) -> Checked {
    if words.contains('\0') {
        return Err(at.wrong("a command can't hold a NUL"));
    }
    if has_password(words) {
        return Err(at.wrong("there is an address with a password or a token in the command").hint(
            "revoke it, since the record shows the command; a route's `auth` adds a credential outside the bottle",
        ));
    }
    Ok(())
}

fn check_labels(agent: &Agent, manifest: &Manifest, at: &At) -> Checked {
    for (index, label) in agent.labels.iter().enumerate() {
        let at = at.item(index);
        if label.trim().is_empty() || label.len() > 50 || label.contains(char::is_control) {
            return Err(at.wrong("expected a label's name, at most 50 bytes"));
        }
        if manifest.triggers.labels.contains_key(label) {
            return Err(at.wrong("this label starts a run, and would do so again").hint("choose another"));
        }
    }
    Ok(())
}

fn check_outputs(agent: &Agent, manifest: &Manifest, at: &At) -> Checked {
    let Some(outputs) = &agent.outputs else { return Ok(()) };
    if let Err((keys, problem)) = outputs.check() {
        let hint = match keys.first().map(String::as_str) {
            Some("json") => "a schema is JSON Schema 2020-12; docs/reference/outputs.md lists what it may say",
            _ => "name what may come of a run, such as `comment: {}` or `branch: {}`",
        };
        let at = keys.iter().fold(at.clone(), |at, key| at.key(key));
        return Err(at.wrong(&problem).hint(hint));
    }
    if let Some(AnswerSchema::File(path)) = &outputs.json {
        check_repo_path(path, &at.key("json"))?;
    }
    for (keys, label) in outputs.allowed_labels() {
        if manifest.triggers.agent_of(label).is_some() {
            let at = keys.iter().fold(at.clone(), |at, key| at.key(key));
            return Err(at.wrong("this label starts a run, which the agent could then ask for").hint("choose another"));
        }
    }
    Ok(())
}

fn check_limits(limits: &AgentLimits, at: &At) -> Checked {
    for (key, is_zero) in [
        ("turns", limits.turns == Some(0)),
        ("time", limits.time.is_some_and(|time| time.0 == 0)),
        ("tokens", limits.tokens == Some(0)),
        ("requests", limits.requests == Some(0)),
        ("cost_usd", limits.cost_usd.is_some_and(|cost| !(cost.is_finite() && cost > 0.0))),
    ] {
        if is_zero {
            return Err(at.key(key).wrong("nothing could be done within this limit").hint("leave it out for no limit"));
        }
    }
    for (model, price) in &limits.prices {
        if !price.is_possible() {
            let hint = "US dollars for a million tokens, such as { input: 3, output: 15 }";
            return Err(at.key("prices").key(model).wrong("this can't be a price").hint(hint));
        }
    }
    Ok(())
}

/// A path in the repository: what comes from the base branch must not be anything else of the host.
pub(super) fn is_repo_path(path: &str) -> bool {
    let plain = path.trim_end_matches('/');
    !plain.is_empty()
        && !plain.contains(['\0', '\n', '\\'])
        && plain.split('/').all(|part| !matches!(part, "" | "." | ".." | ".git"))
}

fn check_repo_path(path: &str, at: &At) -> Checked {
    if is_repo_path(path) {
        Ok(())
    } else {
        let hint = "it is relative to the repository's top, without `..`";
        Err(at.wrong(&format!("`{path}` is not a path in the repository")).hint(hint))
    }
}

fn check_triggers(manifest: &Manifest, at: &At) -> Checked {
    let triggers = &manifest.triggers;
    if triggers.mention.is_empty() || triggers.mention.contains(char::is_whitespace) {
        return Err(at.key("mention").wrong("expected one word, such as `/claude`"));
    }
    // A word of ordinary text would start runs that nobody meant, and what we post can't be kept from being one.
    let name = triggers.mention.strip_prefix(['/', '@']);
    if !name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic())) || triggers.mention == BOTTLE {
        let wrong = format!("`{}` can't be the mention", triggers.mention);
        return Err(at
            .key("mention")
            .wrong(&wrong)
            .hint(format!("it begins with `/` or `@` and a letter, such as `/claude`; `{BOTTLE}` is taken")));
    }
    if let Some(reviews) = &triggers.pull_requests {
        let at = at.key("pull_requests");
        if reviews.on.is_empty() {
            return Err(at
                .key("on")
                .wrong("expected at least one of `opened`, `reopened`, `ready_for_review` and `synchronize`"));
        }
        if reviews.forks && manifest.budget.is_none() {
            return Err(at
                .key("forks")
                .wrong("anybody can open a pull request from another repository, and there is no `budget`")
                .hint("add one beside `agents:`, such as `budget: { period: day, cost_usd: 20 }`"));
        }
    }
    let labels = triggers.labels.iter().map(|(label, agent)| (at.key("labels").key(label), agent));
    let assignees = triggers.assignees.iter().map(|(login, agent)| (at.key("assignees").key(login), agent));
    let reviews = triggers.pull_requests.iter().map(|reviews| (at.key("pull_requests").key("agent"), &reviews.agent));
    for (at, agent) in labels.chain(assignees).chain(reviews) {
        let known: Vec<&str> = match manifest.agents.is_empty() {
            true => vec![super::DEFAULT_AGENT],
            false => manifest.agents.keys().map(super::Name::as_str).collect(),
        };
        if !known.contains(&agent.as_str()) {
            return Err(at
                .wrong(&format!("there is no agent `{agent}`"))
                .hint(format!("there is {}", known.join(", "))));
        }
    }
    Ok(())
}
