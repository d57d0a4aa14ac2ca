//! Cassettes: what the model says in a replay.

use serde_json::{Value, json};

/// Writes a cassette in which the agent runs these shell commands, one a turn, and then ends.
pub fn commands(commands: &[&str]) -> String {
    let mut turns: Vec<Value> = commands
        .iter()
        .map(|command| json!({"tools": [{"name": "Bash", "input": {"command": command, "description": "a step"}}]}))
        .collect();
    turns.push(json!({"text": "That is all."}));
    json!({"version": 1, "turns": turns}).to_string()
}
