//! How a run ended, in a code and a line.

use bottle_wire::run_record::Outcome;

use super::RunProgress;
use super::checks::times;
use super::pushed::{PushResult, Pushed};
use crate::exit::{Code, Failure};

/// The outcome of all that happened.
pub(super) fn outcome(ended: Result<(), Failure>, progress: &RunProgress) -> Outcome {
    let agent = progress.agent.clone().unwrap_or_default();
    let (branch, commit, pushed) = match progress.pushed.as_ref().map(Pushed::result) {
        Some(PushResult::Accepted { branch, commit, forwarded }) => {
            let verb = if *forwarded { "pushed" } else { "would push" };
            let push_summary = format!("{verb} {branch} at {}", commit.short());
            (Some(branch.clone()), Some(commit.clone()), push_summary)
        }
        Some(PushResult::Nothing) => (None, None, "no change: nothing to push".to_owned()),
        Some(PushResult::Refused { .. }) | None => (None, None, String::new()),
    };
    let (code, summary) = match ended {
        Err(failure) => {
            let hint = failure.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            (failure.code, format!("{}{hint}", failure.what))
        }
        Ok(()) => {
            // A refused push outranks what failed before it: the work is not on the upstream.
            let codes = || progress.failures.iter().map(|(code, _)| *code);
            let code = codes().find(|code| *code == Code::Gate).or_else(|| codes().next()).unwrap_or(Code::Done);
            let mut parts: Vec<String> = progress.failures.iter().map(|(_, why)| why.clone()).collect();
            if progress.is_verified && progress.repairs > 0 {
                parts.push(format!("verified after {}", times(progress.repairs)));
            }
            if !pushed.is_empty() {
                parts.push(pushed);
            }
            (code, parts.join("; "))
        }
    };
    Outcome {
        code,
        summary: one_line(&summary),
        branch,
        commit,
        session_id: agent.session_id,
        turns: agent.turns,
        cost_usd: agent.cost_usd,
        pull_request: None,
    }
}

/// A text on one line: what the agent or a server said must not begin a line of ours, where a job's runner takes some
/// lines for commands.
pub(super) fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control()).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The most names that a message has.
const MAX_NAMES: usize = 5;

/// The first of some names, with this between them, and how many more there are.
pub(crate) fn first_of(names: &[String], between: &str) -> String {
    let more = names.len().saturating_sub(MAX_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..names.len().min(MAX_NAMES)].join(between))
}

#[cfg(test)]
mod tests {
    use super::{first_of, one_line};

    #[test]
    fn a_message_names_a_few() {
        let names: Vec<String> = (1..=7).map(|number| format!("#{number}")).collect();
        assert_eq!(first_of(&names, ", "), "#1, #2, #3, #4, #5 and 2 more");
        assert_eq!(first_of(&names[..2], "; "), "#1; #2");
    }

    #[test]
    fn nothing_begins_a_line_of_its_own() {
        assert_eq!(one_line("failed:\r\n::set-output name=x::y\n"), "failed:; ::set-output name=x::y");
    }
}
