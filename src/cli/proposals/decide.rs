//! Decisions of the person at this machine.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

use bottle_plan::approval::ApprovalCode;
use bottle_policy::supervise::Request;
use bottle_wire::control::Decided;
use bottle_wire::proposal::{By, Proposal, State, Verdict};
use bottle_wire::proposal::{Decide, Standing};

use super::pick::AttachedRun;
use super::view;
use crate::approve::{outcome, what};
use crate::cli::{Context, print};
use crate::exit::{Code, Failure};
use crate::process::Program;
use crate::report::ProposalStatus;

/// The account that decides.
pub(crate) fn user(context: &Context) -> String {
    let named = ["USER", "LOGNAME"].iter().find_map(|name| context.environment.get(name));
    named.map_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()), str::to_owned)
}

/// Yes, to what was shown: by its code, or by a question on the terminal.
pub(super) async fn approve(
    run: &AttachedRun,
    standing: &Standing,
    code: Option<&str>,
    instead: Option<Request>,
    context: &Context,
) -> Result<Code, Failure> {
    let proposal = &standing.proposal;
    let id = proposal.id;
    let right = ApprovalCode::of(&proposal.hash).to_string();
    match code {
        Some(code) if code == right => {}
        Some(code) => {
            return Err(Failure::input(format_args!("`{code}` is not the code of {id} as it is now"))
                .hint(format_args!("`bottle-runner proposals show {id}` shows it as it is now")));
        }
        None if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => {
            let mut text = view::details(standing, context.style);
            if let Some(instead) = &instead {
                text.push_str(&format!("\n  instead: {}\n", what(instead)));
            }
            let mut err = std::io::stderr().lock();
            let _ = err.write_all(format!("{text}\napprove? [y/N] ").as_bytes());
            let mut line = String::new();
            let _ = std::io::stdin().lock().read_line(&mut line);
            if !matches!(line.trim(), "y" | "yes") {
                return Err(Failure::input("nothing was decided"));
            }
        }
        None => {
            return Err(Failure::input(format_args!("a yes to {id} needs its code"))
                .hint(format_args!("`bottle-runner proposals show {id}` shows what would change, and the code")));
        }
    }
    let verdict = match instead {
        Some(request) if request != proposal.request => Verdict::Modified { request: Box::new(request) },
        _ => Verdict::Approve,
    };
    print_outcome(proposal, &decide(run, proposal, verdict, context).await?)
}

pub(super) async fn deny(
    run: &AttachedRun,
    proposal: &Proposal,
    why: &str,
    context: &Context,
) -> Result<Code, Failure> {
    print_outcome(proposal, &decide(run, proposal, Verdict::Deny { why: why.to_owned() }, context).await?)
}

pub(super) async fn answer(
    run: &AttachedRun,
    proposal: &Proposal,
    text: &str,
    context: &Context,
) -> Result<Code, Failure> {
    print_outcome(proposal, &decide(run, proposal, Verdict::Answer { text: text.to_owned() }, context).await?)
}

/// Hands it to the bundle, bound to the proposal as it was read; the state that it leads to.
pub(super) async fn decide(
    run: &AttachedRun,
    proposal: &Proposal,
    verdict: Verdict,
    context: &Context,
) -> Result<State, Failure> {
    let decide = Decide::on(proposal, verdict, By::Local { user: user(context) });
    match run.control().decide(&decide).await.map_err(Failure::machine)? {
        Decided::Taken(state) => Ok(*state),
        Decided::Refused { reason } => {
            Err(Failure::new(Code::Refused, format_args!("it counts for nothing: {reason}"))
                .hint(format_args!("`bottle-runner proposals show {}` shows how it stands", proposal.id)))
        }
    }
}

/// Prints the outcome; an approval that could not be applied is a failure.
fn print_outcome(proposal: &Proposal, state: &State) -> Result<Code, Failure> {
    let id = proposal.id;
    let Some(outcome) = outcome(state) else { return print(&format!("{id}: being applied")) };
    if outcome.standing == ProposalStatus::Failed {
        return Err(Failure::new(Code::Task, format_args!("{id} could not be applied: {}", outcome.detail))
            .hint("what was in force before still is; the agent has been told"));
    }
    let detail = if outcome.detail.is_empty() { String::new() } else { format!(": {}", outcome.detail) };
    print(&format!("{id} {}{detail}", outcome.standing.name()))
}

/// A request out of a file.
pub(super) fn from_file(path: &Path) -> Result<Request, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::input(format_args!("failed to read {}: {error}", path.display())))?;
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, place: &str) -> Result<Request, Failure> {
    let request: Request = bottle_types::yaml::from_str(text).map_err(|error| {
        Failure::input(format_args!("{place} is no request: {error}"))
            .hint("`bottle-runner proposals show ID --json` has one under `request`")
    })?;
    request.check().map_err(|error| Failure::input(format_args!("{place}: {error}")))?;
    Ok(request)
}

/// The request as a person changes it in an editor.
pub(super) async fn edited(proposal: &Proposal, context: &Context) -> Result<Request, Failure> {
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| context.environment.get(name)).ok_or_else(|| {
        Failure::input("neither VISUAL nor EDITOR is set").hint("set one, or give the request as --request FILE")
    })?;
    let failed = |error: &dyn std::fmt::Display| Failure::machine(format_args!("failed to edit the request: {error}"));
    let text = bottle_types::yaml::to_string(&proposal.request).map_err(|error| failed(&error))?;
    // The file is this user's alone, and is removed however this ends.
    let mut file = tempfile::Builder::new()
        .prefix(&format!("bottle-{}-", proposal.id))
        .suffix(".yaml")
        .tempfile()
        .map_err(|error| failed(&error))?;
    file.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
    // An editor may be given with options, as git takes it too.
    let script = format!("{editor} \"$1\"");
    let ended = Program::new(["sh", "-c", &script, "sh", &file.path().display().to_string()]).interactive().await;
    // By its name: an editor may put another file in its place.
    let text = std::fs::read_to_string(file.path());
    match ended {
        Ok(0) => parse(&text.map_err(|error| failed(&error))?, "the edited request"),
        Ok(code) => Err(Failure::input(format_args!("the editor ended with {code}; nothing was decided"))),
        Err(error) => Err(failed(&error)),
    }
}
