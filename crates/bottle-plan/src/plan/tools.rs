//! The owner's tools as Claude Code gets them: which files of the base branch come along, and the two files by which it knows the rest.
//!
//! Always: a program of the repository's is the base branch's, in a directory beside the workspace, and a server or a hook starts in that
//! directory: a relative path leads to the base branch's file or to none.

use std::collections::BTreeMap;

use bottle_types::text::shell_word;
use serde_json::{Map, Value, json};

use super::PlanError;
use super::types::{ConfigFile, FileFromBase, HOME, ROOT, ToolsPlan};
use crate::facts::HostFacts;
use crate::manifest::{Agent, ClaudeSettings, Hook, HookEvent, HookMatcher, Hooks, McpServer};
use crate::name::Name;

/// The variable by which a server or a hook finds the repository that the agent works in.
pub(crate) const WORKSPACE_VARIABLE: &str = "BOTTLE_WORKSPACE";
/// Where a pull request's files are, or may be.
pub(crate) const AGENTS_DIRECTORIES: [&str; 2] = [ROOT, HOME];

/// The directory with the base branch's files. Its name begins as everything that a setup must not change.
fn base_directory() -> String {
    format!("{HOME}/.claude-bottle-base")
}

/// Plans an agent's tools; the base branch's settings are among the facts.
pub(super) fn tools(name: &Name, agent: &Agent, facts: &HostFacts, workdir: &str) -> Result<ToolsPlan, PlanError> {
    let settings = settings(name, agent, facts)?;
    let base = base_directory();
    let servers: Map<String, Value> =
        agent.mcp.iter().map(|(name, server)| (name.to_string(), server_entry(server, &base, workdir))).collect();
    let file = |name: &str, text: String| ConfigFile { path: format!("{HOME}/.claude-bottle-{name}.json"), text };
    let settings = settings.map(|mut settings| {
        settings.hooks = hooks(&settings.hooks, &agent.hooks, &base, workdir);
        serde_json::to_string(&settings).map_err(|error| PlanError::Facts(error.to_string()))
    });
    let has_programs = agent.mcp.values().any(|server| server.url.is_none());
    Ok(ToolsPlan {
        directory: (has_programs || settings.is_some()).then(|| base.clone()),
        base_files: base_files(agent, &base),
        plugins: agent.plugins.iter().map(|path| plugin(path.trim_end_matches('/'))).collect(),
        servers: agent.mcp.iter().map(|(name, server)| (name.clone(), shown(server))).collect(),
        mcp: (!servers.is_empty()).then(|| file("mcp", json!({ "mcpServers": servers }).to_string())),
        hooks: agent.hooks.clone(),
        settings_from: agent.settings.clone(),
        settings: settings.transpose()?.map(|text| file("settings", text)),
    })
}

/// The file's settings with room for the manifest's hooks; none where there is neither.
fn settings(name: &Name, agent: &Agent, facts: &HostFacts) -> Result<Option<ClaudeSettings>, PlanError> {
    let Some(path) = &agent.settings else {
        return Ok((!agent.hooks.is_empty()).then(ClaudeSettings::default));
    };
    let problem = |problem: String, hint: Option<&str>| PlanError::Settings {
        agent: name.clone(),
        problem,
        hint: hint.map(str::to_owned),
    };
    let missing = || {
        let hint = "commit it there: settings are always read from the base branch";
        problem(format!("`{path}` is not in the base branch"), Some(hint))
    };
    let text = facts.claude_settings.get(path).ok_or_else(missing)?;
    let settings = ClaudeSettings::parse(text, path).map_err(|error| problem(error.to_string(), error.hint()))?;
    Ok(Some(settings))
}

/// A plugin, in a directory of its own, where nothing else is brought.
fn plugin(from: &str) -> FileFromBase {
    FileFromBase { from: from.to_owned(), to: format!("{HOME}/.claude-bottle-plugins/{}", last_name(from)) }
}

/// The last part of the path of a directory.
pub(crate) fn last_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// The files and directories of the base branch, each at its own path below the directory, none below another.
fn base_files(agent: &Agent, base: &str) -> Vec<FileFromBase> {
    let programs = agent.mcp.values().filter_map(|server| own_program(server.command.first()?));
    let named = agent.base_files.iter().map(|path| path.trim_end_matches('/'));
    let mut paths: Vec<&str> = named.chain(programs).collect();
    paths.sort_unstable();
    let mut kept: Vec<&str> = vec![];
    for path in paths {
        let is_below =
            |other: &&str| path.strip_prefix(*other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !kept.iter().any(is_below) {
            kept.push(path);
        }
    }
    let place = |from: &str| FileFromBase { from: from.to_owned(), to: format!("{base}/{from}") };
    kept.into_iter().map(place).collect()
}

/// The path in the repository of a program that is there.
fn own_program(program: &str) -> Option<&str> {
    program.strip_prefix("./").or_else(|| (program.contains('/') && !program.starts_with('/')).then_some(program))
}

/// What a server is, for people.
fn shown(server: &McpServer) -> Vec<String> {
    server.url.as_ref().map_or_else(|| server.command.clone(), |url| vec![url.to_string()])
}

/// A server as Claude Code's configuration has it. It starts in the directory, or not at all.
fn server_entry(server: &McpServer, base: &str, workdir: &str) -> Value {
    if let Some(url) = &server.url {
        return json!({ "type": "http", "url": url.to_string() });
    }
    let words = server.command.iter().enumerate().map(|(index, word)| match own_program(word) {
        Some(path) if index == 0 => format!("{base}/{path}"),
        _ => word.clone(),
    });
    let mut args = ["-c", "cd \"$0\" && exec \"$@\"", base].map(str::to_owned).to_vec();
    args.extend(words);
    let mut env: BTreeMap<&str, &str> =
        server.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    env.insert(WORKSPACE_VARIABLE, workdir);
    json!({ "type": "stdio", "command": "/bin/sh", "args": args, "env": env })
}

/// The hooks of the settings, then those of the manifest.
fn hooks(of_settings: &Hooks, of_manifest: &Hooks, base: &str, workdir: &str) -> Hooks {
    let mut all = Hooks::new();
    for (event, matchers) in of_settings.iter().chain(of_manifest) {
        let started = matchers.iter().map(|matcher| started_in(*event, matcher, base, workdir));
        all.entry(*event).or_default().extend(started);
    }
    all
}

fn started_in(event: HookEvent, matcher: &HookMatcher, base: &str, workdir: &str) -> HookMatcher {
    let started = |hook: &Hook| Hook { command: hook_command(event, &hook.command, base, workdir), ..hook.clone() };
    HookMatcher { matcher: matcher.matcher.clone(), hooks: matcher.hooks.iter().map(started).collect() }
}

/// A hook's command, started in the directory, which is also what `CLAUDE_PROJECT_DIR` says. A hook that may refuse does so where its
/// program is not there.
fn hook_command(event: HookEvent, command: &str, base: &str, workdir: &str) -> String {
    let command = shell_word(command);
    let missing = if event.can_refuse() { 2 } else { 1 };
    format!(
        "cd {base} || exit {missing}\nexport {WORKSPACE_VARIABLE}={} CLAUDE_PROJECT_DIR={base}\nsh -c {command}\ncode=$?\ncase $code in 126|127) exit {missing};; esac\nexit $code",
        shell_word(workdir)
    )
}
