//! What Claude Code goes by of the repository's own: instructions, rules, skills, agents, commands, settings, hooks and servers.
//!
//! Always: these are the base branch's. Work that starts at the base branch's own commit has them where they are. Any other start is a
//! proposed change, or an agent's earlier work: there Claude Code reads nothing of it, and the base branch's words are put into its home. Settings,
//! hooks and servers are not, because they name programs in the repository, which the change may have written.

use std::collections::{BTreeMap, BTreeSet};

use bottle_plan::plan::BottlePlan;

use super::{LiveRun, RunContext};
use crate::backend::{Side, Tree};
use crate::exit::Failure;
use crate::host::{Base, BaseFile};

/// What is words alone.
const WORDS: [&str; 7] = [
    "CLAUDE.md",
    "AGENTS.md",
    ".claude/CLAUDE.md",
    ".claude/rules",
    ".claude/skills",
    ".claude/agents",
    ".claude/commands",
];

/// Where Claude Code finds instructions in its home, and in a directory.
const INSTRUCTIONS: &str = "CLAUDE.md";

/// Where Claude Code takes its configuration from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ProjectConfig {
    /// The agent's home and the repository.
    Repository,
    /// The agent's home alone.
    #[default]
    Home,
}

impl ProjectConfig {
    /// The arguments that say so to Claude Code.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Repository => &[],
            Self::Home => &["--setting-sources", "user"],
        }
    }
}

/// Reads what the base branch has of it; nothing where no agent is started.
pub(super) async fn read(context: &RunContext<'_>) -> Vec<BaseFile> {
    let Some(base) = context.inputs.planning.base.as_ref().filter(|_| context.inputs.mode.has_agent()) else {
        return vec![];
    };
    let mut files = vec![];
    for directory in directories(context.plan) {
        let paths = WORDS.map(|name| format!("{directory}{name}"));
        files.extend(base.files(&paths.each_ref().map(String::as_str)).await);
    }
    files
}

/// Decides it for the commit at which the work starts, and puts the base branch's words into the agent's home where they are needed.
pub(super) async fn bring(run: &LiveRun<'_>, files: Vec<BaseFile>) -> Result<ProjectConfig, Failure> {
    let context = &run.context;
    let start = run.progress.starts.last().filter(|_| context.inputs.mode.has_agent());
    let Some(start) = start else { return Ok(ProjectConfig::Home) };
    let config = match context.inputs.planning.base.as_ref().and_then(Base::commit) {
        Some(commit) if commit == start => ProjectConfig::Repository,
        _ => ProjectConfig::Home,
    };
    let starts_elsewhere = config == ProjectConfig::Home;
    // Its hooks and settings are the manifest's, at whatever commit.
    let config = if context.plan.tools.settings.is_some() { ProjectConfig::Home } else { config };
    let (tree, told) = words(context.plan, &files, config);
    if starts_elsewhere {
        let goes_by =
            if told.is_empty() { "nothing of either".to_owned() } else { format!("the base branch's {told}") };
        context.events.note(format!(
            "the work does not start at the base branch's own commit, so Claude Code goes by {goes_by}, and not by the configuration in the repository"
        ));
    }
    if !tree.nodes.is_empty() {
        run.bottle.copy_in(Side::Guest, tree).await.map_err(Failure::machine)?;
    }
    Ok(config)
}

/// The directories in which Claude Code would look where it starts, each as the beginning of a path in the repository.
fn directories(plan: &BottlePlan) -> Vec<String> {
    let below = plan.guest.directories();
    [String::new()].into_iter().chain(below.iter().map(|directory| format!("{directory}/"))).collect()
}

/// The base branch's words, where Claude Code finds them in the agent's home; and their names for people. Instructions of several
/// directories are one file, from the top down; of others of one name the last counts.
fn words(plan: &BottlePlan, files: &[BaseFile], config: ProjectConfig) -> (Tree, String) {
    let mut found: BTreeMap<String, (bool, Vec<u8>)> = BTreeMap::new();
    for directory in directories(plan) {
        let here: Vec<(&str, bool, &[u8])> = files
            .iter()
            .filter_map(|(path, executable, content)| Some((path.strip_prefix(&*directory)?, *executable, &**content)))
            .filter(|(path, ..)| WORDS.iter().any(|word| path.strip_prefix(word).is_some_and(is_end)))
            .collect();
        let has = |name: &str| here.iter().any(|(path, ..)| *path == name);
        for (path, executable, content) in &here {
            let place = match *path {
                // Claude Code does not read this one by itself.
                "AGENTS.md" if !has("CLAUDE.md") && !has(".claude/CLAUDE.md") => INSTRUCTIONS,
                _ if config == ProjectConfig::Repository => continue,
                ".claude/CLAUDE.md" if has(INSTRUCTIONS) => continue,
                path => path.strip_prefix(".claude/").unwrap_or(path),
            };
            let (all_executable, all) = found.entry(place.to_owned()).or_default();
            *all_executable = *executable;
            match place {
                INSTRUCTIONS if !all.is_empty() => all.push(b'\n'),
                INSTRUCTIONS => {}
                _ => all.clear(),
            }
            all.extend_from_slice(content);
        }
    }
    in_home(plan, found)
}

/// The files in the agent's home, and the names of what is there, for people.
fn in_home(plan: &BottlePlan, found: BTreeMap<String, (bool, Vec<u8>)>) -> (Tree, String) {
    let (home, owner) = (format!("{}/.claude", plan.guest.home), plan.guest.uid);
    let (mut tree, mut made, mut told) = (Tree::new(), BTreeSet::new(), BTreeSet::new());
    for (place, (executable, content)) in found {
        told.insert(place.split('/').next().unwrap_or(&place).to_owned());
        for (slash, _) in place.match_indices('/') {
            if made.insert(place[..slash].to_owned()) {
                tree = tree.directory(format!("{home}/{}", &place[..slash]), owner, 0o755);
            }
        }
        tree = tree.file(format!("{home}/{place}"), owner, if executable { 0o755 } else { 0o644 }, content);
    }
    (tree, told.into_iter().collect::<Vec<_>>().join(", "))
}

/// Tells whether what follows a name ends it.
fn is_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}
