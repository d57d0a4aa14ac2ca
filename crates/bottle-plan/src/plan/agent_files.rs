//! The files by which the agent goes, wherever it works: instructions, skills, settings, servers.

/// Their names at the top of the directories in which the agent looks for them.
pub const AGENT_FILES: [&str; 5] = [".claude", "CLAUDE.md", "CLAUDE.local.md", "AGENTS.md", ".mcp.json"];
/// In the agent's home alone.
const IN_HOME: [&str; 2] = [".claude.json", ".gitconfig"];
/// What the runner puts into the agent's home begins so.
const OF_THE_RUNNER: &str = ".claude-bottle";

/// Whether a file or directory of this name is the agent's or git's own, so that no cache has it, in whatever directory. Case does not
/// count.
pub fn is_the_agents_own(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let own = AGENT_FILES.iter().chain(&IN_HOME).chain(&[".git"]);
    own.clone().any(|own| own.to_ascii_lowercase() == name) || name.starts_with(OF_THE_RUNNER)
}
