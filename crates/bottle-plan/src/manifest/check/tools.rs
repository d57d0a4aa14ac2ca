//! The owner's tools: names that stand for no other server, programs that no change brings, variables without secrets.

use std::collections::BTreeSet;

use bottle_policy::mcp::McpRules;
use bottle_policy::route::BaseUrl;
use bottle_types::door::Door;

use super::{At, Checked, check_credential, check_repo_path, check_variable, check_words};
use crate::manifest::tools::check_hooks;
use crate::manifest::{Agent, BottleEntry, Manifest, McpServer};
use crate::name::Name;
use crate::plan::{AGENTS_DIRECTORIES, MODEL_HOST, WORKSPACE_VARIABLE, last_name};

/// More are no tools that an agent works with.
const MAX_SERVERS: usize = 16;
/// Names of Claude Code's own servers.
const TAKEN: [&str; 5] = ["ide", "computer-use", "claude-in-chrome", "workspace", "plugin"];
/// Directories whose programs are nobody's that is known before a run.
const NO_PROGRAMS: [&str; 5] = ["/tmp", "/var/tmp", "/dev", "/proc", "/run"];

pub(super) fn check(agent: &Agent, manifest: &Manifest, at: &At) -> Checked {
    let has_programs = agent.mcp.values().any(|server| server.url.is_none());
    if !agent.base_files.is_empty() && !has_programs && agent.settings.is_none() && agent.hooks.is_empty() {
        return Err(at.key("base_files").wrong("has no effect without a server's `command`, `hooks` or `settings`"));
    }
    for (index, path) in agent.base_files.iter().enumerate() {
        check_repo_path(path, &at.key("base_files").item(index))?;
    }
    check_plugins(agent, &at.key("plugins"))?;
    if agent.mcp.len() > MAX_SERVERS {
        return Err(at.key("mcp").wrong(&format!("more than {MAX_SERVERS} servers")));
    }
    for (name, server) in &agent.mcp {
        let at = at.key("mcp").key(name.as_str());
        check_name(name.as_str(), &at)?;
        match (&server.url, server.command.is_empty()) {
            (Some(url), true) => check_remote((name, server), url, (agent, manifest), &at)?,
            (None, false) => check_server(server, &at)?,
            (Some(_), false) => return Err(at.wrong("it has a `command` and a `url`").hint("keep one of the two")),
            (None, true) => {
                let hint = "a program and its arguments, `command: [node, tools/server.js]`, or an address, `url:`";
                return Err(at.wrong("nothing is run").hint(hint));
            }
        }
    }
    if let Some(settings) = &agent.settings {
        check_repo_path(settings, &at.key("settings"))?;
    }
    check_hooks(&agent.hooks).map_err(|(keys, problem)| {
        let at = keys.iter().fold(at.key("hooks"), |at, key| at.key(key));
        at.wrong(problem)
    })
}

/// Each is brought into a directory of its last name.
fn check_plugins(agent: &Agent, at: &At) -> Checked {
    let mut names = BTreeSet::new();
    for (index, plugin) in agent.plugins.iter().enumerate() {
        let at = at.item(index);
        check_repo_path(plugin, &at)?;
        let name = last_name(plugin);
        if !names.insert(name) {
            return Err(at.wrong(&format!("a second plugin would be `{name}`")).hint("rename one of the directories"));
        }
    }
    Ok(())
}

/// A tool is called `mcp__SERVER__TOOL`, so a server's name must not run into a tool's.
fn check_name(name: &str, at: &At) -> Checked {
    let choose = "choose another name";
    let is_a_door = Door::ALL.iter().any(|door| door.name().eq_ignore_ascii_case(name));
    if is_a_door {
        return Err(at.wrong(&format!("`{name}` is the name of a door")).hint(choose));
    }
    if TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
        return Err(at.wrong(&format!("`{name}` is a name of Claude Code's own")).hint(choose));
    }
    if name.contains("__") || name.starts_with('_') || name.ends_with('_') {
        let problem = format!("`{name}` and a tool's name would run into each other");
        return Err(at.wrong(&problem).hint("leave out `__`, and `_` at the ends"));
    }
    Ok(())
}

fn check_server(server: &McpServer, at: &At) -> Checked {
    let command = at.key("command");
    let remote = [
        ("auth", server.auth.is_some()),
        ("tools", server.tools.is_some()),
        ("methods", !server.methods.is_empty()),
        ("descriptions", server.descriptions.is_some()),
    ];
    if let Some((key, _)) = remote.into_iter().find(|(_, given)| *given) {
        let hint = "a program in the guest is not judged at a door";
        return Err(at.key(key).wrong("has no effect without `url`").hint(hint));
    }
    let program = server.command.first().map_or("", String::as_str);
    for (index, word) in server.command.iter().enumerate() {
        check_word(word, &command.item(index))?;
    }
    check_program(program, &command.item(0))?;
    for (name, value) in &server.env {
        let at = at.key("env").key(name);
        if name == WORKSPACE_VARIABLE {
            return Err(at.wrong("the bottle sets this variable itself").hint("remove it"));
        }
        check_variable(name, value, &at)?;
        check_expansion(value, &at)?;
    }
    Ok(())
}

/// Checks a server that is reached through the doors, and that nothing else of the agent's bottle leads round the judge.
fn check_remote(
    (name, server): (&Name, &McpServer),
    url: &BaseUrl,
    (agent, manifest): (&Agent, &Manifest),
    at: &At,
) -> Checked {
    if !server.env.is_empty() {
        return Err(at.key("env").wrong("has no effect without `command`"));
    }
    if !url.scheme.is_https() {
        return Err(at.key("url").wrong("anybody on the way could change what the agent is told").hint("use https"));
    }
    if url.path.contains(['%', '*', '?', '[', ']', '{', '}', '!']) {
        return Err(at.key("url").wrong("its path has a character that is no letter of a plain path"));
    }
    if server.tools.is_none() {
        let hint = "name the tools: `tools: { allow: [search] }`; `[\"*\"]` is every one";
        return Err(at.key("tools").wrong("no tool could be called").hint(hint));
    }
    let Some(route) = server.route(name) else { return Ok(()) };
    if let Some(Err((keys, problem))) = route.mcp.as_ref().map(McpRules::check) {
        let at = keys.iter().fold(at.clone(), |at, key| at.key(key));
        return Err(at.wrong(&problem));
    }
    if route.auth.as_ref().is_some_and(|auth| auth.aws.is_some()) {
        return Err(at.key("auth").key("aws").wrong("a server of MCP takes a header or a token"));
    }
    check_credential(&route, at)?;
    let bottle = match &agent.bottle {
        Some(bottle) => manifest.bottles.get(bottle),
        None => manifest.bottles.values().next(),
    };
    check_no_way_round(bottle, agent, name, url, &at.key("url"))
}

/// A second route to the host could reach the server by a path or a method that nobody judges.
fn check_no_way_round(bottle: Option<&BottleEntry>, agent: &Agent, name: &Name, url: &BaseUrl, at: &At) -> Checked {
    let Some(bottle) = bottle else { return Ok(()) };
    let host = &url.host;
    let other = |what: &str, hint: &str| {
        Err(at.wrong(&format!("{what} {host}, and would lead round what is judged here")).hint(hint))
    };
    let of_setup = bottle.setup.iter().flat_map(|setup| &setup.egress.routes);
    if bottle.egress.routes.iter().chain(of_setup).any(|route| route.host.matches(host)) {
        return other("a route of the bottle is about", "remove the route, or name the other hosts that are meant");
    }
    let model = bottle.model.as_ref().and_then(|model| model.endpoint().ok());
    if model.is_some_and(|model| model.base.host == *host) || host.as_str() == MODEL_HOST {
        return other("the model is at", "choose another address");
    }
    if bottle.pipelock.passthrough.iter().any(|pattern| pattern.matches(host)) {
        return other("`pipelock.passthrough` is about", "remove it there");
    }
    if !bottle.pipelock.api_allowlist.is_empty() {
        let problem = "the bottle has an `api_allowlist`, which has no effect beside a route";
        return Err(at.wrong(problem).hint("make each host a route"));
    }
    let mut others = agent.mcp.iter().filter(|(other, _)| *other != name);
    match others.find(|(_, server)| server.url.as_ref().is_some_and(|other| other.host == *host)) {
        Some((second, _)) => {
            let what = format!("the server `{second}` is at");
            other(&what, "one server of a host is enough; name the tools of both there")
        }
        None => Ok(()),
    }
}

/// Claude Code would put a variable's value there; what the manifest says is what is run.
fn check_expansion(text: &str, at: &At) -> Checked {
    if text.contains("${") {
        let hint = format!("a shell reads variables: `[sh, -c, 'exec server \"${WORKSPACE_VARIABLE}\"']`");
        return Err(at.wrong("`${` is not put in place here").hint(hint));
    }
    Ok(())
}

fn check_word(word: &str, at: &At) -> Checked {
    check_words(word, at)?;
    check_expansion(word, at)?;
    if let Some(directory) = AGENTS_DIRECTORIES.into_iter().find(|directory| word.contains(directory)) {
        let problem = format!("what is in {directory} may be the pull request's");
        let hint = format!(
            "name a file by its path in the repository, and it is the base branch's; a server finds the workspace in ${WORKSPACE_VARIABLE}"
        );
        return Err(at.wrong(&problem).hint(hint));
    }
    Ok(())
}

fn check_program(program: &str, at: &At) -> Checked {
    if program.trim().is_empty() || program.starts_with('-') {
        return Err(at.wrong("expected a program's name or path"));
    }
    if program.starts_with('/') {
        let is_below = |directory: &&str| program.strip_prefix(*directory).is_some_and(|rest| rest.starts_with('/'));
        let is_odd = program.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
        if is_odd || NO_PROGRAMS.iter().any(is_below) {
            let problem = format!("`{program}` is not the path of a program of the image");
            return Err(at.wrong(&problem));
        }
        return Ok(());
    }
    match program.strip_prefix("./") {
        Some(path) => check_repo_path(path, at),
        None if program.contains('/') => check_repo_path(program, at),
        None => Ok(()),
    }
}
