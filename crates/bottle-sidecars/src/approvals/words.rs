//! Words for the agent about its proposal, which say what to do now.

use bottle_policy::supervise::Request;
use bottle_wire::control::Holding;
use bottle_wire::proposal::Standing;
use bottle_wire::proposal::{By, Proposal, State, Verdict};

/// Words about a proposal, and whether they are the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StatusText {
    pub(super) text: String,
    pub(super) is_final: bool,
}

/// How a proposal stands.
pub(super) fn status(standing: &Standing) -> StatusText {
    let Standing { proposal, state } = standing;
    let id = proposal.id;
    let is_final = |text: String| StatusText { text, is_final: true };
    match state {
        State::Open => StatusText {
            text: format!(
                "{id} waits for a person's decision, at most until {}; call `wait` with its id, or go on with something \
                 else meanwhile",
                proposal.expires_at
            ),
            is_final: false,
        },
        State::Applying { .. } => {
            StatusText { text: format!("{id} is approved and is being applied"), is_final: false }
        }
        State::InForce { verdict, by, until, .. } => {
            let until = until.as_ref().map_or("to the end of this run".to_owned(), |until| format!("until {until}"));
            let again = match proposal.request {
                Request::HeldPush(_) => "push exactly the same again",
                Request::FindingExemption { .. } => "push again",
                _ => "try again",
            };
            is_final(format!(
                "{id} is approved by {by}{} and in force now, {until}: {again}",
                difference(proposal, verdict)
            ))
        }
        State::Granted { verdict: Verdict::Answer { text }, by } => is_final(format!("{id}, answered by {by}: {text}")),
        State::Granted { by, .. } if matches!(proposal.request, Request::HeldRequest(_)) => {
            is_final(format!("{id} is approved by {by}: the request that was held goes on"))
        }
        State::Granted { verdict, by } => is_final(format!(
            "{id} is approved by {by}{}; it changes nothing in this run: a run that resumes this one has it, so go on \
             without it and say in your result what is left to do",
            difference(proposal, verdict)
        )),
        State::Denied { why, by: By::Timeout | By::Nobody } => {
            is_final(format!("refused: {why}; it's noted for the report as proposal {id}"))
        }
        State::Denied { why, by } => {
            let why = if why.trim().is_empty() { "no reason was given" } else { why };
            is_final(format!("refused by {by}: {why}; this is final, so go on without it ({id})"))
        }
        State::Failed { reason } => is_final(format!(
            "{id} was approved, but the doors could not take it, and the policy before it is in force: {reason}"
        )),
        State::Ended { .. } => is_final(format!("the time of {id} is up: what it allowed is refused again")),
    }
}

/// How a held request stands, for pipelock and whoever sent it.
pub(super) fn held(standing: &Standing) -> Holding {
    let id = standing.proposal.id;
    let refused = |why: String| Holding::Refused { id: Some(id), why };
    match &standing.state {
        State::Open | State::Applying { .. } => Holding::Waits { id },
        State::Granted { verdict: Verdict::Approve, by } | State::InForce { verdict: Verdict::Approve, by, .. } => {
            Holding::Approved { id, by: by.to_string() }
        }
        State::Denied { why, by: By::Timeout | By::Nobody } => refused(why.clone()),
        State::Denied { why, by } => {
            let why = if why.trim().is_empty() { "no reason was given" } else { why };
            refused(format!("refused by {by}: {why}"))
        }
        _ => refused("it was not approved as it is".to_owned()),
    }
}

/// The changes that a person made, for the agent to see.
fn difference(proposal: &Proposal, verdict: &Verdict) -> String {
    let Verdict::Modified { request } = verdict else { return String::new() };
    let show = |request: &Request| serde_json::to_string(request).unwrap_or_default();
    format!(", with changes (you asked for {}; granted is {})", show(&proposal.request), show(request))
}

/// Why nothing is granted where nobody decides.
pub(super) fn nobody(proposal: &Proposal) -> String {
    let question = if matches!(proposal.request, Request::Ask { .. }) {
        "; nobody answers during this run, so decide by what you know and say so in your result"
    } else {
        ""
    };
    format!("approval is `deny` in this run{question}")
}
