//! `report.html`: the whole run on one page that needs nothing else, scripts and network included.

use std::fmt::Write as _;

use super::{RunEvent, Suite, asked};
use crate::exit::Code;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}\
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.3rem .5rem;text-align:left;vertical-align:top}\
pre{white-space:pre-wrap;background:#f6f6f6;padding:.5rem;margin:.3rem 0;overflow-wrap:anywhere}.bad{color:#a40000}.good{color:#00641e}\
.tool{color:#555}summary{cursor:pointer}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#e6e6e6}pre{background:#242424}td,th{border-color:#3a3a3a}\
.bad{color:#ff8a80}.good{color:#7fd79a}.tool{color:#aaa}}";

pub(super) fn render(events: &[RunEvent]) -> String {
    let mut page = String::from("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
    // Nothing on the page may load or run anything, whatever the agent has said.
    page.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
    );
    let _ = write!(page, "<style>{STYLE}</style>");
    for event in events {
        if let RunEvent::Started { slug, title, .. } = event {
            let _ = write!(page, "<title>{0}</title><h1>{0}</h1><p>run <code>{1}</code></p>", text(title), text(slug));
        }
    }
    if let Some(RunEvent::Finished { outcome, .. }) = events.last() {
        let (class, word) = if outcome.code == Code::Done { ("good", "done") } else { ("bad", "failed") };
        let _ = write!(
            page,
            "<p class=\"{class}\"><b>{word}</b> (exit code {}): {}</p>",
            outcome.code,
            text(&outcome.summary)
        );
    }
    conversation(&mut page, events);
    for suite in Suite::ALL {
        cases(&mut page, events, suite);
    }
    let proposals: String = asked::proposals(events)
        .iter()
        .map(|asked| {
            let (id, what, why, end) = (text(asked.id), text(asked.what), text(asked.why), text(&asked.end()));
            format!("<tr><td>{id}</td><td><code>{what}</code></td><td>{why}</td><td>{end}</td></tr>")
        })
        .collect();
    if !proposals.is_empty() {
        let _ = write!(page, "<h2>What the agent asked for</h2><table>{proposals}</table>");
    }
    if let Some(diff) = asked::offer(events) {
        let _ = write!(page, "<h2>Allow it in the next run</h2><pre>{}</pre>", text(diff));
    }
    list(&mut page, "What the doors refused", events, |event| match event {
        RunEvent::Refused { door, what } => Some(format!("{door}: {what}")),
        _ => None,
    });
    list(&mut page, "Warnings", events, |event| match event {
        RunEvent::Warning { text } => Some(text.clone()),
        _ => None,
    });
    page.push_str("</html>\n");
    page
}

fn conversation(page: &mut String, events: &[RunEvent]) {
    let quotes = events.iter().filter_map(|event| match event {
        RunEvent::Said { text: words } | RunEvent::Progress { text: words } => Some(format!("<p>{}</p>", text(words))),
        RunEvent::Tool { name, input } => {
            Some(format!("<p class=\"tool\">{}</p><pre>{}</pre>", text(name), text(input)))
        }
        _ => None,
    });
    let quotes: String = quotes.collect();
    if !quotes.is_empty() {
        let _ = write!(page, "<h2>The agent</h2>{quotes}");
    }
}

fn cases(page: &mut String, events: &[RunEvent], suite: Suite) {
    let mut rows = String::new();
    for event in events {
        let RunEvent::Case { case } = event else { continue };
        if case.suite != suite {
            continue;
        }
        let (class, mark) = if case.failure.is_some() { ("bad", "✗") } else { ("good", "✓") };
        let mut details = String::new();
        for part in case.failure.iter().chain((!case.output.is_empty()).then_some(&case.output)) {
            let _ = write!(details, "<pre>{}</pre>", text(part));
        }
        let _ = write!(
            rows,
            "<tr><td class=\"{class}\">{mark}</td><td>{}{}</td><td>{:.2} s</td></tr>",
            text(&case.name),
            if details.is_empty() {
                String::new()
            } else {
                format!("<details><summary>details</summary>{details}</details>")
            },
            case.duration.as_secs_f64()
        );
    }
    if !rows.is_empty() {
        let _ = write!(page, "<h2>{}</h2><table>{rows}</table>", suite.name());
    }
}

fn list(page: &mut String, title: &str, events: &[RunEvent], item: impl Fn(&RunEvent) -> Option<String>) {
    let items: String = events.iter().filter_map(item).map(|item| format!("<li>{}</li>", text(&item))).collect();
    if !items.is_empty() {
        let _ = write!(page, "<h2>{title}</h2><ul>{items}</ul>");
    }
}

/// Text as text: nothing in it is markup, and control characters are shown as what they are not.
fn text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
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
