//! Progress for people on stderr, or events as JSON lines on stdout.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Instant;

use super::model::events::inert_json;
use super::show::one_line;
use super::{Case, ProposalStatus, Reporter, RunEvent, Suite};
use crate::exit::Code;

/// True if to use colours: a terminal, and no `NO_COLOR` (<https://no-color.org>).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    pub(crate) fn new(no_color: bool) -> Self {
        Self { colour: !no_color && io::stderr().is_terminal() }
    }

    /// The same for what goes to stdout.
    pub(crate) fn of_stdout(no_color: bool) -> Self {
        Self { colour: !no_color && io::stdout().is_terminal() }
    }

    /// Colours, whatever this process writes to.
    #[cfg(test)]
    pub(crate) fn of_test(colour: bool) -> Self {
        Self { colour }
    }

    pub(crate) fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Lines for people.
pub(crate) struct Terminal {
    style: Style,
    started: Instant,
}

impl Terminal {
    pub(crate) fn new(style: Style) -> Self {
        Self { style, started: Instant::now() }
    }
}

impl Reporter for Terminal {
    fn on(&mut self, event: &RunEvent) {
        let Some((mark, colour, text)) = told(event) else { return };
        let at = format!("{:6.1}s", self.started.elapsed().as_secs_f64());
        let (at, mark) = (self.style.paint("2", &at), self.style.paint(colour, mark));
        // A terminal that went away must not end the run.
        let _ = io::stderr().write_all(format!("{at} {mark} {}\n", one_line(&text)).as_bytes());
    }
}

/// An event as a line for people: its mark, the mark's colour, and the words; none where there is nothing to say.
pub(super) fn told(event: &RunEvent) -> Option<(&'static str, &'static str, String)> {
    Some(match event {
        RunEvent::Started { slug, title, .. } => ("▶", "1", format!("{slug}: {title}")),
        RunEvent::Phase { .. } | RunEvent::Pushed { .. } => return None,
        RunEvent::Case { case } => return told_case(case),
        RunEvent::TestReport { report } => {
            let path = bottle_policy::prose::name(&report.path, 300);
            ("·", "2", format!("tests in {path}: {}", report.counts()))
        }
        RunEvent::Note { text } => ("·", "2", text.clone()),
        RunEvent::Warning { text } => ("!", "33", text.clone()),
        RunEvent::Said { text } | RunEvent::Progress { text } => ("│", "36", short(text, 400)),
        RunEvent::Tool { name, input } => ("│", "36", format!("[{name}] {}", short(input, 160))),
        RunEvent::Refused { door, what } => ("⊘", "35", format!("{door} refused: {what}")),
        RunEvent::Proposal { id, what, standing: ProposalStatus::Asked, detail, .. } => {
            let why = if detail.is_empty() { String::new() } else { format!(" (why: {})", short(detail, 400)) };
            ("?", "1;33", format!("{id} asks: {}{why}", short(what, 400)))
        }
        RunEvent::Proposal { id, standing, by, detail, .. } => {
            let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            let detail = if detail.is_empty() { String::new() } else { format!(": {}", short(detail, 400)) };
            ("?", "1;33", format!("{id} {}{by}{detail}", standing.name()))
        }
        RunEvent::Offer { .. } => ("·", "2", "summary.md has the change of the manifest for the next time".to_owned()),
        RunEvent::PullRequest { number, url, opened, draft } => {
            let verb = if *opened { "opened" } else { "updated" };
            let draft = if *draft { ", a draft" } else { "" };
            ("✓", "32", format!("pull request #{number} {verb}{draft}: {url}"))
        }
        RunEvent::Finished { outcome, .. } => {
            let (mark, colour) = if outcome.code == Code::Done { ("✓", "32") } else { ("✗", "31") };
            (mark, colour, outcome.summary.clone())
        }
    })
}

fn told_case(case: &Case) -> Option<(&'static str, &'static str, String)> {
    let (suite, title) = (case.suite.name(), case.title());
    match &case.failure {
        Some(failure) => {
            let first = failure.lines().find(|line| !line.trim().is_empty()).unwrap_or("failed");
            Some(("✗", "31", format!("{suite} {title}: {first}")))
        }
        None if matches!(case.suite, Suite::Seal | Suite::Supervise) => None,
        None => {
            let note = case.note.iter().map(|note| format!(": {note}")).collect::<String>();
            Some(("✓", "32", format!("{suite} {title} ({:.2} s){note}", case.duration.as_secs_f64())))
        }
    }
}

/// The beginning of a text.
fn short(text: &str, most: usize) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if one_line.chars().count() <= most {
        return one_line;
    }
    one_line.chars().take(most).chain(['…']).collect()
}

/// Events as JSON lines.
pub(crate) struct Json;

impl Reporter for Json {
    fn on(&mut self, event: &RunEvent) {
        if let Some(line) = inert_json(event) {
            let _ = io::stdout().write_all(format!("{line}\n").as_bytes());
        }
    }
}
