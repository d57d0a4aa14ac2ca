//! The commands that are the agent: the one that begins its session, and the one that goes on in it.

use super::go_on::SessionId;
use super::types::{BottlePlan, FileFromBase, PromptPlan, TOOLS_DIR, ToolsPlan};
use crate::manifest::Agent;

/// What is left of the limits that Claude Code keeps itself; a limit that is not given is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ClaudeLimits {
    /// Replies of the model.
    pub turns: Option<u64>,
    /// US dollars.
    pub cost_usd: Option<f64>,
}

/// Claude Code reads the prompt from standard input, because a command line is no place for a long text.
pub(super) fn first(agent: &Agent, prompt: &PromptPlan, tools: &ToolsPlan) -> Vec<String> {
    let limits = ClaudeLimits { turns: agent.limits.turns.map(u64::from), cost_usd: agent.limits.cost_usd };
    let mut argv = ["/bin/sh", "-c", "exec \"$@\" <\"$0\"", &prompt.path].map(str::to_owned).to_vec();
    argv.extend(claude(agent.model.as_deref(), limits, prompt.instructions.as_ref()));
    argv.extend(tools.arguments());
    argv
}

impl BottlePlan {
    /// The command with which the agent goes on in this session, within these limits; what it is told comes by standard input.
    pub fn go_on(&self, session: &SessionId, limits: ClaudeLimits) -> Vec<String> {
        let mut argv = claude(self.agent.model.as_deref(), limits, self.prompt.instructions.as_ref());
        argv.extend(self.tools.arguments());
        argv.extend(["--resume".to_owned(), session.as_str().to_owned()]);
        argv
    }
}

fn claude(model: Option<&str>, limits: ClaudeLimits, instructions: Option<&FileFromBase>) -> Vec<String> {
    let claude = format!("{TOOLS_DIR}/bin/claude");
    let fixed = [&claude, "-p", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions"];
    let mut argv = fixed.map(str::to_owned).to_vec();
    let mut option = |name: &str, value: String| argv.extend([name.to_owned(), value]);
    if let Some(model) = model {
        option("--model", model.to_owned());
    }
    if let Some(turns) = limits.turns {
        option("--max-turns", turns.to_string());
    }
    if let Some(dollars) = limits.cost_usd {
        option("--max-budget-usd", dollars.to_string());
    }
    if let Some(instructions) = instructions {
        option("--append-system-prompt-file", instructions.to.clone());
    }
    argv
}
