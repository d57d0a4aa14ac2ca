//! `report.html`: the whole run on one page that needs nothing else, scripts and network included.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Case, RunEvent, Suite, asked};
use crate::exit::Code;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}\
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.3rem .5rem;text-align:left;vertical-align:top}\
pre{white-space:pre-wrap;background:#f6f6f6;padding:.5rem;margin:.3rem 0;overflow-wrap:anywhere}.bad{color:#a40000}.good{color:#00641e}\
.tool{color:#555}summary{cursor:pointer}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#e6e6e6}pre{background:#242424}td,th{border-color:#3a3a3a}\
.bad{color:#ff8a80}.good{color:#7fd79a}.tool{color:#aaa}}";

pub(super) fn render(events: &[RunEvent]) -> String {
    let started = events.iter().find_map(|event| match event {
        RunEvent::Started { slug, title, .. } => Some((slug, title)),
        _ => None,
    });
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // Nothing on the page may load or run anything, whatever the agent has said.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                style { (PreEscaped(STYLE)) }
                @if let Some((_, title)) = started { title { (printable(title)) } }
            }
            body {
                @if let Some((slug, title)) = started {
                    h1 { (printable(title)) }
                    p { "run " code { (printable(slug)) } }
                }
                @if let Some(RunEvent::Finished { outcome, .. }) = events.last() {
                    @let (class, word) = if outcome.code == Code::Done { ("good", "done") } else { ("bad", "failed") };
                    p class=(class) { b { (word) } " (exit code " (outcome.code) "): " (printable(&outcome.summary)) }
                }
                (conversation(events))
                @for suite in Suite::ALL { (cases(events, suite)) }
                (proposals(events))
                @if let Some(diff) = asked::offer(events) {
                    h2 { "Allow it in the next run" }
                    pre { (printable(diff)) }
                }
                (list("What the doors refused", events, |event| match event {
                    RunEvent::Refused { door, what } => Some(format!("{door}: {what}")),
                    _ => None,
                }))
                (list("Warnings", events, |event| match event {
                    RunEvent::Warning { text } => Some(text.clone()),
                    _ => None,
                }))
            }
        }
    };
    page.into_string()
}

fn conversation(events: &[RunEvent]) -> Markup {
    let quotes = events.iter().filter_map(|event| match event {
        RunEvent::Said { text } | RunEvent::Progress { text } => Some(html! { p { (printable(text)) } }),
        RunEvent::Tool { name, input } => {
            Some(html! { p class="tool" { (printable(name)) } pre { (printable(input)) } })
        }
        _ => None,
    });
    section("The agent", &quotes.collect::<Vec<_>>(), |quotes| html! { @for quote in quotes { (quote) } })
}

fn cases(events: &[RunEvent], suite: Suite) -> Markup {
    let cases = events.iter().filter_map(|event| match event {
        RunEvent::Case { case } if case.suite == suite => Some(case),
        _ => None,
    });
    section(suite.name(), &cases.collect::<Vec<_>>(), |cases| {
        html! {
            table {
                @for case in cases {
                    @let (class, mark) = match &case.failure {
                        Some(_) if case.was_superseded(events) => ("", "↻"),
                        Some(_) => ("bad", "✗"),
                        None => ("good", "✓"),
                    };
                    tr { td class=(class) { (mark) } td { (case_name(case)) } td { (format!("{:.2} s", case.duration.as_secs_f64())) } }
                }
            }
        }
    })
}

/// The name of a case; why it failed and what it printed are folded below it.
fn case_name(case: &Case) -> Markup {
    let parts: Vec<&String> =
        case.failure.iter().chain(&case.note).chain((!case.output.is_empty()).then_some(&case.output)).collect();
    html! {
        (printable(&case.title()))
        @if !parts.is_empty() {
            details { summary { "details" } @for part in parts { pre { (printable(part)) } } }
        }
    }
}

fn proposals(events: &[RunEvent]) -> Markup {
    section("What the agent asked for", &asked::proposals(events), |proposals| {
        html! {
            table {
                @for asked in proposals {
                    tr {
                        td { (printable(asked.id)) }
                        td { code { (printable(asked.what)) } }
                        td { (printable(asked.why)) }
                        td { (printable(&asked.end())) }
                    }
                }
            }
        }
    })
}

fn list(title: &str, events: &[RunEvent], item: impl Fn(&RunEvent) -> Option<String>) -> Markup {
    section(title, &events.iter().filter_map(item).collect::<Vec<_>>(), |items| {
        html! { ul { @for item in items { li { (printable(item)) } } } }
    })
}

/// A heading and what is below it; nothing where there is nothing to show.
fn section<T>(title: &str, items: &[T], render: impl Fn(&[T]) -> Markup) -> Markup {
    html! { @if !items.is_empty() { h2 { (title) } (render(items)) } }
}

/// The text with each control character shown as one that can't be printed.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_says_is_never_markup() {
        let page = render(&[RunEvent::Said { text: "<script>alert(1)</script>\u{1b}[31m".to_owned() }]);
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>") && !page.contains('\u{1b}'));
    }
}
