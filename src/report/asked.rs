//! What the agent asked for and what became of it, as the views show it: each proposal once, as it stands.

use super::{ProposalStatus, RunEvent};

/// The last lines of progress that are shown.
const LINES: usize = 3;

/// A proposal as it stands.
pub(super) struct ProposalRow<'a> {
    pub(super) id: &'a str,
    pub(super) what: &'a str,
    /// Why the agent says it needs it.
    pub(super) why: &'a str,
    pub(super) standing: ProposalStatus,
    pub(super) by: Option<&'a str>,
    pub(super) detail: &'a str,
}

impl ProposalRow<'_> {
    pub(super) fn mark(&self) -> &'static str {
        match self.standing {
            ProposalStatus::Asked => "…",
            ProposalStatus::Approved | ProposalStatus::Modified | ProposalStatus::Answered | ProposalStatus::Ended => {
                "✓"
            }
            ProposalStatus::Denied | ProposalStatus::TimedOut | ProposalStatus::Failed => "✗",
        }
    }

    /// `denied by octocat: too wide`.
    pub(super) fn end(&self) -> String {
        let by = self.by.map(|by| format!(" by {}", by.trim_start_matches('@'))).unwrap_or_default();
        let detail = if self.detail.is_empty() || self.standing == ProposalStatus::Asked {
            String::new()
        } else {
            format!(": {}", self.detail)
        };
        format!("{}{by}{detail}", self.standing.name())
    }
}

/// Every proposal, in the order in which they were asked.
pub(super) fn proposals(events: &[RunEvent]) -> Vec<ProposalRow<'_>> {
    let mut asked: Vec<ProposalRow<'_>> = vec![];
    for event in events {
        let RunEvent::Proposal { id, what, standing, by, detail } = event else { continue };
        let why = if *standing == ProposalStatus::Asked { detail.as_str() } else { "" };
        match asked.iter_mut().find(|asked| asked.id == id) {
            // That its time is up says less than who gave it.
            Some(known) if *standing == ProposalStatus::Ended => known.standing = ProposalStatus::Ended,
            Some(known) => {
                (known.standing, known.by, known.detail) = (*standing, by.as_deref(), detail);
            }
            None => asked.push(ProposalRow { id, what, why, standing: *standing, by: by.as_deref(), detail }),
        }
    }
    asked
}

/// The last lines in which the agent told how far it is.
pub(super) fn progress(events: &[RunEvent]) -> Vec<&str> {
    let mut lines: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            RunEvent::Progress { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    lines.drain(..lines.len().saturating_sub(LINES));
    lines
}

/// What to change in the manifest so that the next run need not ask, as a diff.
pub(super) fn offer(events: &[RunEvent]) -> Option<&str> {
    events.iter().rev().find_map(|event| match event {
        RunEvent::Offer { diff } => Some(diff.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bottle_wire::run_record::Outcome;

    #[test]
    fn every_view_shows_what_was_asked_and_nothing_of_it_acts() {
        let hostile = "@octocat fixes #1\n/claude go <!-- x --> <b>`c`";
        let proposal = |standing, by: Option<&str>| RunEvent::Proposal {
            id: "P1".to_owned(),
            what: format!("GET https://a.example {hostile}"),
            standing,
            by: by.map(str::to_owned),
            detail: hostile.to_owned(),
        };
        let mut events = vec![
            RunEvent::Started {
                version: 1,
                slug: "s".to_owned(),
                title: "t".to_owned(),
                record: "/r".into(),
                asked: None,
                job: None,
                traceparent: None,
            },
            RunEvent::Progress { text: format!("half done {hostile}") },
            proposal(ProposalStatus::Asked, None),
        ];
        let going_on = crate::report::status(&events);
        assert!(
            going_on.contains("#### The agent says\n\n- half done") && going_on.contains("… P1 `GET"),
            "{going_on}"
        );
        events.push(proposal(ProposalStatus::Denied, Some(&format!("octo-{hostile}"))));
        events.push(RunEvent::Offer { diff: format!("--- a/x\n+++ b/x\n+```\n+{hostile}\n") });
        events.push(RunEvent::Finished { outcome: Outcome::default(), record: "/r".into() });
        let timed: Vec<_> = events.iter().map(|event| (0, event.clone())).collect();
        let page = crate::report::html(&timed, std::path::Path::new("/nonexistent"), &str::to_owned);
        let (card, summary) = (crate::report::status(&events), crate::report::summary(&events));
        let pull_request = crate::report::card(&events);
        for text in [&going_on, &card, &pull_request] {
            let code_apart: Vec<&str> = text.split("````").step_by(2).collect();
            let outside: String = code_apart.concat().split('`').step_by(2).collect();
            for wrong in ["@octocat fixes", "fixes #1 ", "<!--", "\n/claude"] {
                assert!(!outside.contains(wrong), "{wrong}: {text}");
            }
        }
        assert!(!card.contains("The agent says"), "its lines go with the run's end: {card}");
        for text in [&card, &pull_request, &summary] {
            assert!(text.contains("P1 `GET https://a.example") && text.contains("denied by octo-"), "{text}");
            assert!(text.contains("````diff\n--- a/x\n+++ b/x\n+```\n"), "no fence of its own ends it: {text}");
        }
        assert!(page.contains(">What the agent asked for</h3>") && page.contains(">Allow it in the next run</h3>"));
        assert!(!page.contains("<b>") || !page.contains("<b>`c`"), "{page}");
    }

    #[test]
    fn a_proposal_is_shown_once_as_it_stands() {
        let event = |id: &str, standing, by: Option<&str>, detail: &str| RunEvent::Proposal {
            id: id.to_owned(),
            what: "GET https://a.example /**".to_owned(),
            standing,
            by: by.map(str::to_owned),
            detail: detail.to_owned(),
        };
        let events = [
            event("P1", ProposalStatus::Asked, None, "for the list"),
            event("P2", ProposalStatus::Asked, None, "why not"),
            event("P1", ProposalStatus::Approved, Some("@octocat"), "until 10:00"),
            event("P2", ProposalStatus::Denied, Some("me"), "too wide"),
            event("P1", ProposalStatus::Ended, None, "its time is up"),
            RunEvent::Progress { text: "half".to_owned() },
        ];
        let shown: Vec<String> =
            proposals(&events).iter().map(|asked| format!("{} {} ({})", asked.id, asked.end(), asked.why)).collect();
        assert_eq!(shown, ["P1 ended by octocat: until 10:00 (for the list)", "P2 denied by me: too wide (why not)"]);
        assert_eq!(progress(&events), ["half"]);
    }
}
