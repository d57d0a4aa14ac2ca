//! Refusals: the answers to requests that are not sent, with the reason.

use bottle_policy::supervise::Found;
use bottle_types::place::Where;
use bottle_types::reason::Reason;
use bottle_types::rule::Rule;
use bottle_wire::proposal::ProposalId;
use http::{Response, StatusCode};
use serde::Serialize;

use crate::proxy::response::{Body, json, refuse};

/// The refusal of a request with a secret in it.
#[derive(Serialize)]
struct DlpRefusal {
    error: Reason,
    message: String,
    rule: String,
    #[serde(rename = "where")]
    at: String,
    offset: u64,
    /// The proposal by which a person was asked about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    proposal: Option<ProposalId>,
}

pub(super) fn blocked(found: &Found) -> Response<Body> {
    let message = match &found.rule {
        Rule::KnownSecret(name) => {
            format!("the request was not sent: the value of {name} was found in its {}; leave it out", found.at)
        }
        Rule::Unreadable(why) => format!(
            "the request was not sent: pipelock can't look into its {} ({why}); send it unpacked, or in gzip, deflate, br \
             or zstd",
            found.at
        ),
        Rule::Format(id) => format!(
            "the request was not sent: what looks like a secret ({id}) was found in its {}; leave it out",
            found.at
        ),
    };
    let body = DlpRefusal {
        error: Reason::Dlp,
        message,
        rule: found.rule.to_string(),
        at: found.at.to_string(),
        offset: found.offset,
        proposal: None,
    };
    json(StatusCode::FORBIDDEN, &body)
}

/// The same about findings of a request that a person was asked about, or was to be.
pub(super) fn refused(findings: &[Found], why: &str, proposal: Option<ProposalId>) -> Response<Body> {
    let list: Vec<String> = findings.iter().map(|found| format!("{} in its {}", found.rule, found.at)).collect();
    let named = proposal.map(|id| format!(" ({id})")).unwrap_or_default();
    let message = format!(
        "the request was not sent: what looks like a secret was found ({}), and a person was to decide; {why}{named}",
        list.join("; ")
    );
    let first = findings.first().map(|found| (found.rule.to_string(), found.at.to_string(), found.offset));
    let (rule, at, offset) = first.unwrap_or_default();
    json(StatusCode::FORBIDDEN, &DlpRefusal { error: Reason::Dlp, message, rule, at, offset, proposal })
}

pub(super) fn too_large(max: u64) -> Response<Body> {
    let message = format!("the request's body is larger than the {max} bytes that may leave at once");
    refuse(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge, message)
}

/// A body that was stopped on its way for a reason that is no finding.
pub(super) fn stopped(reason: Reason, max: u64) -> Response<Body> {
    match reason {
        Reason::Limit => {
            let message = "this run has sent as many bytes as it may; the request was cut off";
            refuse(StatusCode::TOO_MANY_REQUESTS, reason, message)
        }
        Reason::Slow => {
            refuse(StatusCode::REQUEST_TIMEOUT, reason, "the request's body did not go on for a minute; it was cut off")
        }
        _ => too_large(max),
    }
}

/// In place of an answer that the guest may not have.
pub(super) fn not_let_in(reason: Reason, found: Option<&Found>) -> Response<Body> {
    let Some(found) = found else {
        let message = "the answer was not let in: it is larger than an answer may be here";
        return refuse(StatusCode::BAD_GATEWAY, reason, message);
    };
    let message = format!("the answer was not let in: {} was found in its {}", found.rule, within_answer(&found.at));
    let (rule, at, offset) = (found.rule.to_string(), found.at.to_string(), found.offset);
    json(StatusCode::BAD_GATEWAY, &DlpRefusal { error: reason, message, rule, at, offset, proposal: None })
}

/// The place in words that follow "the answer … in its".
fn within_answer(at: &Where) -> String {
    match at {
        Where::Answer => Where::Body.to_string(),
        other => other.to_string(),
    }
}
