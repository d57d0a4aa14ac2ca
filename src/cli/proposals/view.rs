//! Proposals as text for people. The agent's words show every character and do nothing to a terminal.

use std::fmt::Write as _;

use bottle_plan::approval::ApprovalCode;
use bottle_wire::control::Listing;
use bottle_wire::proposal::Standing;

use crate::approve::{ProposalOutcome, diff, one_line, outcome, visible, what};
use crate::report::{ProposalStatus, Style};

/// All of several runs, a line each.
pub(super) fn list(listings: &[Listing], style: Style) -> String {
    let mut text = String::new();
    for listing in listings {
        let _ = writeln!(text, "{} (approval: {})", style.paint("1", &listing.run), listing.approval);
        if listing.proposals.is_empty() {
            text.push_str("  nothing was asked\n");
        }
        for standing in &listing.proposals {
            let _ = writeln!(text, "  {}", line(standing, style));
        }
    }
    text
}

/// One in a line: its number, how it stands, what is asked.
pub(super) fn line(standing: &Standing, style: Style) -> String {
    let proposal = &standing.proposal;
    let id = style.paint("1", &format!("{:<4}", proposal.id.to_string()));
    format!("{id} {:<22} {}", stands(standing, style), what(&proposal.request))
}

/// How it stands, and by whom, painted.
pub(super) fn stands(standing: &Standing, style: Style) -> String {
    match outcome(&standing.state) {
        None => style.paint("33", "being applied"),
        Some(ProposalOutcome { standing, by, .. }) => {
            let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
            style.paint(colour(standing), &format!("{}{by}", standing.name()))
        }
    }
}

fn colour(standing: ProposalStatus) -> &'static str {
    match standing {
        ProposalStatus::Asked => "1;33",
        ProposalStatus::Approved | ProposalStatus::Modified | ProposalStatus::Answered => "32",
        ProposalStatus::Denied | ProposalStatus::TimedOut | ProposalStatus::Failed => "31",
        ProposalStatus::Ended => "2",
    }
}

/// Everything about one.
pub(super) fn details(standing: &Standing, style: Style) -> String {
    let proposal = &standing.proposal;
    let mut text = format!("{}  {}\n", line(standing, style), style.paint("2", &proposal.run));
    if let Some(ProposalOutcome { detail, .. }) = outcome(&standing.state).filter(|outcome| !outcome.detail.is_empty())
    {
        let _ = writeln!(text, "  {detail}");
    }
    for (at, why) in visible(proposal.request.why()).lines().enumerate() {
        let _ = writeln!(text, "  {} {why}", if at == 0 { "why:" } else { "    " });
    }
    let _ = writeln!(text, "  asked {}, waits until {}", one_line(&proposal.asked_at), one_line(&proposal.expires_at));
    if let Some(diff) = diff(proposal) {
        text.push('\n');
        for line in diff.lines() {
            let colour = match line.as_bytes().first() {
                Some(b'+') => "32",
                Some(b'-') => "31",
                Some(b'@') => "36",
                _ => "0",
            };
            let _ = writeln!(text, "{}", if colour == "0" { line.to_owned() } else { style.paint(colour, line) });
        }
    }
    if standing.state.is_open() {
        let _ = writeln!(text, "\n  code: {}", style.paint("1", &ApprovalCode::of(&proposal.hash).to_string()));
    }
    text
}
