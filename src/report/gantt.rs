//! A run's timeline for a job's summary, as a diagram of Mermaid: GitHub and Gitea draw one, and take neither an SVG nor a picture in a `data:`
//! address out of a summary.
//!
//! Always: no text of others' is in it but ids and names of doors, of which letters, digits and `-` alone are left.

use std::fmt::Write as _;

use super::{ProposalStatus, RunEvent, TimedEvent};

/// Refusals that have a mark of their own.
const MOST_REFUSALS: usize = 20;
/// Proposals that are shown.
const MOST_PROPOSALS: usize = 20;
/// Characters of an id.
const MOST_CHARS: usize = 20;

/// The diagram of a run that has ended, as a block of Markdown; empty where there is no phase to be seen.
pub(super) fn gantt(events: &[TimedEvent]) -> String {
    let is_end = |event: &RunEvent| matches!(event, RunEvent::Finished { .. });
    let last = events.iter().rev().find(|(_, event)| is_end(event)).or(events.last());
    let Some(end) = last.map(|(at, _)| *at) else { return String::new() };
    let phases = phases(events, end);
    if phases.is_empty() {
        return String::new();
    }
    let mut text = "```mermaid\ngantt\n  accTitle: Timeline of the run\n".to_owned();
    text.push_str("  dateFormat x\n  axisFormat %H:%M:%S\n");
    section(&mut text, "Phases", &phases);
    section(&mut text, "Asked for", &proposals(events, end));
    section(&mut text, "Pushed", &pushes(events));
    section(&mut text, "Refused", &refusals(events));
    text.push_str("```\n");
    text
}

/// A task of the diagram: its words and tags, and when it was.
struct Task {
    words: String,
    tags: &'static str,
    from: i64,
    millis: i64,
}

fn section(text: &mut String, title: &str, tasks: &[Task]) {
    if tasks.is_empty() {
        return;
    }
    let _ = writeln!(text, "  section {title}");
    for Task { words, tags, from, millis } in tasks {
        // A task of no length is not drawn.
        let _ = writeln!(text, "  {words} :{tags}{from}, {}ms", (*millis).max(1));
    }
}

fn phases(events: &[TimedEvent], end: i64) -> Vec<Task> {
    let begun: Vec<_> = events
        .iter()
        .filter_map(|(at, event)| match event {
            RunEvent::Phase { phase } => Some((*at, phase.name())),
            _ => None,
        })
        .collect();
    let ends = begun.iter().skip(1).map(|(at, _)| *at).chain([end]);
    let task = |((from, name), to): (&(i64, &str), i64)| {
        let millis = to.saturating_sub(*from);
        let took = super::show::span(millis as f64 / 1000.0);
        Task { words: format!("{name} {took}"), tags: "", from: *from, millis }
    };
    begun.iter().zip(ends).map(task).collect()
}

/// Each proposal from when it was asked to when it was decided, or to the end.
fn proposals(events: &[TimedEvent], end: i64) -> Vec<Task> {
    let mut asked: Vec<(&str, i64, i64, ProposalStatus)> = vec![];
    for (at, event) in events {
        let RunEvent::Proposal { id, standing, .. } = event else { continue };
        match asked.iter().position(|(known, ..)| known == id) {
            Some(known) if *standing != ProposalStatus::Asked => (asked[known].2, asked[known].3) = (*at, *standing),
            None if asked.len() < MOST_PROPOSALS => asked.push((id, *at, end, *standing)),
            _ => {}
        }
    }
    let task = |(id, from, to, status): (&str, i64, i64, ProposalStatus)| {
        let is_no = matches!(status, ProposalStatus::Denied | ProposalStatus::TimedOut | ProposalStatus::Failed);
        let words = format!("proposal {} {}", word(id), status.name());
        Task { words, tags: if is_no { "crit, " } else { "" }, from, millis: to.saturating_sub(from) }
    };
    asked.into_iter().map(task).collect()
}

fn pushes(events: &[TimedEvent]) -> Vec<Task> {
    let mark = |at: i64, words: String| Task { words, tags: "milestone, ", from: at, millis: 0 };
    let tasks = events.iter().filter_map(|(at, event)| match event {
        RunEvent::Pushed { undone: true, .. } => Some(mark(*at, "branch put back".to_owned())),
        RunEvent::Pushed { .. } => Some(mark(*at, "branch pushed".to_owned())),
        RunEvent::PullRequest { number, .. } => Some(mark(*at, format!("pull request {number}"))),
        _ => None,
    });
    tasks.collect()
}

fn refusals(events: &[TimedEvent]) -> Vec<Task> {
    let mut refused = events.iter().filter_map(|(at, event)| match event {
        RunEvent::Refused { door, .. } => Some((*at, door)),
        _ => None,
    });
    let mark = |at, words| Task { words, tags: "crit, milestone, ", from: at, millis: 0 };
    let mut tasks: Vec<Task> =
        refused.by_ref().take(MOST_REFUSALS).map(|(at, door)| mark(at, format!("refused by {}", word(door)))).collect();
    if let Some((at, _)) = refused.next() {
        tasks.push(mark(at, format!("and {} more", 1 + refused.count())));
    }
    tasks
}

/// What of an id or a name can be nothing but a word in the diagram.
fn word(text: &str) -> String {
    let word: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(MOST_CHARS).collect();
    if word.is_empty() { "unknown".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::samples::{self, hostile_contents};

    /// Asserts that each line is one of those that this file writes.
    fn assert_inert(text: &str) {
        let mut lines = text.lines();
        for fixed in
            ["```mermaid", "gantt", "  accTitle: Timeline of the run", "  dateFormat x", "  axisFormat %H:%M:%S"]
        {
            assert_eq!(lines.next(), Some(fixed));
        }
        assert_eq!(lines.next_back(), Some("```"));
        for line in lines {
            if ["Phases", "Asked for", "Pushed", "Refused"].iter().any(|title| line == format!("  section {title}")) {
                continue;
            }
            let (words, rest) = line.strip_prefix("  ").and_then(|line| line.split_once(" :")).expect(line);
            assert!(
                words.len() < 60 && words.chars().all(|c| c.is_ascii_alphanumeric() || " .-".contains(c)),
                "{line}"
            );
            let begins = |word: &str| words.starts_with(&format!("{word} "));
            let known = ["proposal", "refused by", "branch", "pull request", "and"];
            assert!(
                known.iter().any(|word| begins(word))
                    || super::super::Phase::ALL.iter().any(|phase| begins(phase.name())),
                "{line}"
            );
            let times =
                rest.trim_start_matches("crit, ").trim_start_matches("milestone, ").strip_suffix("ms").expect(line);
            assert!(times.split(", ").all(|number| number.parse::<i64>().is_ok()), "{line}");
        }
    }

    #[test]
    fn nothing_of_a_hostile_run_is_more_than_a_word() {
        for content in hostile_contents() {
            let text = samples::text_of(&content);
            let mut sample = samples::hostile(&[content]);
            sample.events.insert(3, (sample.events[3].0, RunEvent::Refused { door: text.clone(), what: text.clone() }));
            let id = RunEvent::Proposal {
                id: text.clone(),
                what: text.clone(),
                standing: ProposalStatus::Asked,
                by: None,
                detail: text,
            };
            sample.events.insert(4, (sample.events[4].0, id));
            assert_inert(&gantt(&sample.events));
        }
        let all = gantt(&samples::hostile(&hostile_contents()).events);
        assert_inert(&all);
        assert!(all.contains("more :crit, milestone") && all.lines().count() < 80, "{all}");
    }

    #[test]
    fn the_diagram_has_what_the_run_did() {
        let text = gantt(&samples::approval().events);
        assert_inert(&text);
        for line in [
            "  section Phases\n  prepare 0.4 s :1795875152000, 420ms\n",
            "  section Asked for\n  proposal P1 approved :1795875159",
            "  proposal P2 denied :crit, ",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let text = gantt(&samples::of_each_kind().events);
        assert_inert(&text);
        assert!(
            text.contains("  branch pushed :milestone, ") && text.contains("  pull request 8 :milestone, "),
            "{text}"
        );
        assert!(text.contains("  section Refused\n  refused by egress :crit, milestone, "), "{text}");
        // A run that ended before its first phase has none.
        assert_eq!(gantt(&samples::approval().events[..1]), "");
        assert_eq!(gantt(&[]), "");
    }
}
