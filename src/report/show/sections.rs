//! What the flags of `show` ask for, each as rows for JSON and as lines for people.

use bottle_policy::gate::exemptions::glob_of;
use bottle_types::door::Door;
use serde::Serialize;

use super::page::{Page, padded};
use super::summary::{ProposalRow, PushRow, RefusedRow, Spending, has_passed, is_refusal, short, word};
use super::text::colour;
use super::{RunView, count, span, thousands};
use crate::report::ProposalStatus;
use crate::report::model::rfc3339;
use crate::report::model::transcript::Block;

/// A part of a run that is shown by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Timeline,
    Diff,
    Egress,
    Cost,
    Refused,
}

/// The sections that were asked for; the others are not in the JSON.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Sections {
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Vec<Moment>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Vec<EditRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    egress: Option<Vec<RequestLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<CostRows>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<RefusedRows>,
    /// What is not shown, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

/// Something that happened.
#[derive(Debug, Serialize)]
struct Moment {
    /// RFC 3339, UTC.
    time: Option<String>,
    /// Since the run began.
    seconds: f64,
    kind: &'static str,
    text: String,
    /// False: it failed or was refused.
    good: bool,
}

/// What one use of `Edit` or `Write` changed.
#[derive(Debug, Serialize)]
struct EditRow {
    file: String,
    added: usize,
    removed: usize,
    /// Hunks as in a unified diff.
    diff: String,
    /// Bytes of it that are left out.
    lost: usize,
}

/// A request at one of the two outgoing doors.
#[derive(Debug, Serialize)]
struct RequestLine {
    time: Option<String>,
    door: String,
    verdict: &'static str,
    status: u16,
    method: String,
    host: String,
    port: u16,
    path: String,
    route: Option<usize>,
    reason: String,
    finding: String,
    proposal: String,
    credential: String,
    bytes_out: u64,
    bytes_in: u64,
    ms: u64,
}

#[derive(Debug, Serialize)]
struct CostRows {
    all: Spending,
    models: Vec<ModelRow>,
    turns: Vec<TurnRow>,
}

#[derive(Debug, Serialize)]
struct ModelRow {
    model: String,
    spent: Spending,
}

/// What the calls of one turn took.
#[derive(Debug, Serialize)]
struct TurnRow {
    /// The turn, from 1; none: the call is of no turn, such as one that broke off.
    turn: Option<usize>,
    spent: Spending,
}

#[derive(Debug, Serialize)]
struct RefusedRows {
    doors: Vec<RefusedRow>,
    pushes: Vec<PushRow>,
    proposals: Vec<ProposalRow>,
    /// The manifest's change by which the next run need not ask, as a diff.
    offer: Option<String>,
}

impl RunView {
    /// The sections that are asked for.
    pub(crate) fn sections(&self, asked: &[Section]) -> Sections {
        let is_asked = |section| asked.contains(&section);
        Sections {
            timeline: is_asked(Section::Timeline).then(|| self.timeline()),
            diff: is_asked(Section::Diff).then(|| self.edits()),
            egress: is_asked(Section::Egress).then(|| self.request_lines()),
            cost: is_asked(Section::Cost).then(|| self.cost()),
            refused: is_asked(Section::Refused).then(|| self.refused_rows()),
            left_out: self.data.left_out.clone(),
        }
    }

    /// Phases, what the agent said and did, pushes, proposals, and requests that did not pass, by their times.
    fn timeline(&self) -> Vec<Moment> {
        let data = &self.data;
        let mut rows: Vec<(Option<i64>, &'static str, String, bool)> = vec![];
        rows.extend(data.phases.iter().map(|phase| {
            let took = phase.to.saturating_sub(phase.from) as f64 / 1000.0;
            (Some(phase.from), "phase", format!("{} ({})", phase.name, span(took)), true)
        }));
        for turn in &data.turns {
            rows.extend(turn.blocks.iter().filter_map(|block| moment(block, turn.from)));
        }
        let refused = data.requests.iter().filter(|request| !has_passed(request.verdict));
        rows.extend(refused.map(|request| {
            let text = format!("{} {}{}: {}", request.method, request.host, request.path, request.reason);
            (request.at, "request", format!("{} {text}", word(request.verdict)), !is_refusal(request.verdict))
        }));
        rows.extend(data.pushes.iter().map(|push| {
            let verdict = if push.verdict.has_passed() { "passed" } else { "refused" };
            (push.to, "push", format!("{} {verdict}, {}", push.r#ref, commits(push.commits)), push.verdict.has_passed())
        }));
        for proposal in &data.proposals {
            rows.push((Some(proposal.from), "proposal", format!("{} asks: {}", proposal.id, proposal.what), true));
            if let Some(at) = proposal.to {
                let by = if proposal.by.is_empty() { String::new() } else { format!(" by {}", proposal.by) };
                let is_no = matches!(
                    proposal.status,
                    ProposalStatus::Denied | ProposalStatus::TimedOut | ProposalStatus::Failed
                );
                rows.push((Some(at), "proposal", format!("{} {}{by}", proposal.id, proposal.status.name()), !is_no));
            }
        }
        // One without a time stands where the one before it does.
        let mut last = data.from;
        for row in &mut rows {
            last = row.0.unwrap_or(last);
            row.0 = Some(last);
        }
        rows.sort_by_key(|row| row.0);
        let moment = |(at, kind, text, good): (Option<i64>, _, _, _)| {
            let at = at.unwrap_or(data.from);
            Moment { time: rfc3339(at), seconds: at.saturating_sub(data.from) as f64 / 1000.0, kind, text, good }
        };
        rows.into_iter().map(moment).collect()
    }

    fn edits(&self) -> Vec<EditRow> {
        let row = |edit: &crate::report::model::transcript::Edit| EditRow {
            file: edit.file.clone(),
            added: edit.added,
            removed: edit.removed,
            diff: edit.diff.head.clone(),
            lost: edit.diff.lost,
        };
        self.data.edits.iter().map(row).collect()
    }

    fn request_lines(&self) -> Vec<RequestLine> {
        let row = |request: &crate::report::model::data::Request| RequestLine {
            time: request.at.and_then(rfc3339),
            door: request.door.clone(),
            verdict: word(request.verdict),
            status: request.status,
            method: request.method.clone(),
            host: request.host.clone(),
            port: request.port,
            path: request.path.clone(),
            route: request.route,
            reason: request.reason.clone(),
            finding: request.finding.clone(),
            proposal: request.proposal.clone(),
            credential: request.credential.clone(),
            bytes_out: request.sent,
            bytes_in: request.received,
            ms: request.ms,
        };
        self.data.requests.iter().map(row).collect()
    }

    fn cost(&self) -> CostRows {
        let mut rows = CostRows { all: self.spent(), models: vec![], turns: vec![] };
        for call in &self.data.calls {
            match rows.models.iter_mut().find(|row| row.model == call.model) {
                Some(row) => row.spent.add(call),
                None => {
                    let mut row = ModelRow { model: call.model.clone(), spent: Spending::default() };
                    row.spent.add(call);
                    rows.models.push(row);
                }
            }
            let turn = call.turn.map(|turn| turn + 1);
            // The calls of a turn come one after the other.
            match rows.turns.last_mut() {
                Some(row) if row.turn == turn => row.spent.add(call),
                _ => {
                    let mut row = TurnRow { turn, spent: Spending::default() };
                    row.spent.add(call);
                    rows.turns.push(row);
                }
            }
        }
        rows
    }

    fn refused_rows(&self) -> RefusedRows {
        let summary = self.summary();
        let is_no =
            |status| matches!(status, ProposalStatus::Denied | ProposalStatus::TimedOut | ProposalStatus::Failed);
        RefusedRows {
            doors: summary.refused,
            pushes: summary.pushes.into_iter().filter(|push| !push.verdict.has_passed()).collect(),
            proposals: summary.proposals.into_iter().filter(|row| is_no(row.status)).collect(),
            offer: summary.offer,
        }
    }
}

fn commits(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "commit", "commits")
}

/// What is told of a turn's part.
fn moment(block: &Block, at: Option<i64>) -> Option<(Option<i64>, &'static str, String, bool)> {
    match block {
        Block::Said { text } => Some((at, "said", text.head.clone(), true)),
        Block::Tool(tool) => {
            let took = tool.to.zip(tool.from).map(|(to, from)| to.saturating_sub(from) as f64 / 1000.0);
            let took = took.map(|took| format!(" ({})", span(took))).unwrap_or_default();
            let end = if tool.failed { " failed" } else { "" };
            Some((tool.from, "tool", format!("[{}]{end}{took} {}", tool.name, tool.brief), !tool.failed))
        }
        Block::Unread { text } => Some((at, "unread", text.head.clone(), false)),
        // The prompt and the agent's thoughts are in the report.
        Block::Thought { .. } | Block::Told { .. } => None,
    }
}

impl Sections {
    /// Prints what was asked for.
    pub(crate) fn print(&self, page: &mut Page) {
        if let Some(rows) = &self.timeline {
            timeline(page, rows);
        }
        if let Some(rows) = &self.diff {
            diff(page, rows);
        }
        if let Some(rows) = &self.egress {
            egress(page, rows);
        }
        if let Some(rows) = &self.cost {
            cost(page, rows);
        }
        if let Some(rows) = &self.refused {
            refused(page, rows);
        }
        for text in &self.left_out {
            page.line(&[("33", "! "), ("", text)]);
        }
    }
}

fn timeline(page: &mut Page, rows: &[Moment]) {
    page.heading("Timeline");
    for row in rows {
        let colour = match (row.good, row.kind) {
            (false, _) => "31",
            (true, "phase") => "1",
            (true, _) => "",
        };
        let (at, kind) = (format!("{:>9.1}s  ", row.seconds), padded(row.kind, 10));
        page.line(&[("2", &at), ("2", &kind), (colour, &row.text)]);
    }
}

fn diff(page: &mut Page, rows: &[EditRow]) {
    page.heading("What Edit and Write changed");
    if rows.is_empty() {
        page.line(&[("", "  nothing")]);
    }
    for row in rows {
        page.line(&[("1", &row.file), ("2", &format!("  +{} −{}", row.added, row.removed))]);
        print_diff(page, &row.diff);
        if row.lost > 0 {
            page.line(&[("33", &format!("… transcript.jsonl has {} bytes more", thousands(row.lost as u64)))]);
        }
    }
}

/// The lines of a diff, painted.
fn print_diff(page: &mut Page, diff: &str) {
    for line in diff.lines() {
        let colour = match line.as_bytes().first() {
            Some(b'+') => "32",
            Some(b'-') => "31",
            Some(b'@') => "36",
            _ => "",
        };
        page.line(&[(colour, line)]);
    }
}

fn egress(page: &mut Page, rows: &[RequestLine]) {
    page.heading("Requests");
    let titles = [padded("TIME", 14), padded("DOOR", 10), padded("VERDICT", 9), padded("STATUS", 8), padded("MS", 7)];
    page.line(&[("2", &titles.concat()), ("2", "WHAT")]);
    for row in rows {
        let time = row.time.as_deref().and_then(|time| time.get(11..)).unwrap_or("-").trim_end_matches('Z');
        let status = if row.status == 0 { "-".to_owned() } else { row.status.to_string() };
        let colour = match row.verdict {
            "allow" | "replay" => "32",
            "error" => "33",
            _ => "31",
        };
        let notes = [&row.reason, &row.finding, &row.proposal].into_iter().filter(|text| !text.is_empty());
        let notes: Vec<&str> = notes.map(String::as_str).collect();
        let notes = if notes.is_empty() { String::new() } else { format!(": {}", notes.join(", ")) };
        let port = if matches!(row.port, 80 | 443) { String::new() } else { format!(":{}", row.port) };
        let what = format!("{} {}{port}{}{notes}", row.method, row.host, row.path);
        page.line(&[
            ("2", &padded(time, 14)),
            ("", &padded(&row.door, 10)),
            (colour, &padded(row.verdict, 9)),
            ("", &padded(&status, 8)),
            ("", &padded(&row.ms.to_string(), 7)),
            ("", &what),
        ]);
    }
}

fn cost(page: &mut Page, rows: &CostRows) {
    page.heading("Cost");
    let titles = ["CALLS", "INPUT", "CACHE WRITE", "CACHE READ", "OUTPUT", "US DOLLARS"];
    let titles: String = titles.iter().map(|title| format!("{title:>12}")).collect();
    page.line(&[("2", &padded("", 26)), ("2", &titles)]);
    let line = |page: &mut Page, colour: &str, name: &str, spent: &Spending| {
        let numbers = [spent.calls, spent.input, spent.cache_write, spent.cache_read, spent.output];
        let mut text: String = numbers.iter().map(|number| format!("{:>12}", thousands(*number))).collect();
        text.push_str(&format!("{:>12.4}", spent.cost_usd));
        let notes = [(spent.estimated, "estimated"), (spent.unpriced, "without a price")];
        for (count, what) in notes.iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!("  {count} {what}"));
        }
        page.line(&[(colour, &padded(name, 26)), (colour, &text)]);
    };
    for row in &rows.turns {
        let name = row.turn.map_or_else(|| "no turn".to_owned(), |turn| format!("turn {turn}"));
        line(page, "", &name, &row.spent);
    }
    for row in &rows.models {
        line(page, "36", &row.model, &row.spent);
    }
    line(page, "1", "all", &rows.all);
    let all = &rows.all;
    if all.replayed > 0 {
        let text =
            format!("{} of {} calls were replayed: {:.2} US dollars were paid", all.replayed, all.calls, all.paid_usd);
        page.line(&[("33", "! "), ("", &text)]);
    }
}

/// What stands in a manifest by which the same bytes would pass, for what is no secret.
fn exemptions(page: &mut Page, push: &PushRow) {
    let exemptable: Vec<_> = push.findings.iter().filter(|finding| !finding.sha256.is_empty()).collect();
    if exemptable.is_empty() {
        return;
    }
    page.line(&[("", "    if it is no secret, below `gate.exemptions` of the bottle:")]);
    for finding in exemptable {
        let path = serde_json::Value::from(glob_of(&finding.path));
        let line = format!("- {{ rule: {}, path: {path}, sha256: {}, reason: \"…\" }}", finding.rule, finding.sha256);
        page.line(&[("", "      "), ("", &line)]);
    }
}

fn refused(page: &mut Page, rows: &RefusedRows) {
    page.heading("Refused");
    if rows.doors.is_empty() && rows.pushes.is_empty() && rows.proposals.is_empty() {
        page.line(&[("", "  nothing")]);
    }
    // What the gate said is told of each push, with more.
    let is_told = |row: &&RefusedRow| row.door == Door::GitGate.name() && !rows.pushes.is_empty();
    for row in rows.doors.iter().filter(|row| !is_told(row)) {
        page.line(&[("35", "⊘ "), ("", &padded(&row.door, 10)), ("", &row.what)]);
    }
    for push in &rows.pushes {
        page.line(&[
            ("31", "✗ "),
            ("", "push of "),
            ("", &push.r#ref),
            ("", " to "),
            ("", &push.repo),
            ("", ": "),
            ("", &push.end()),
        ]);
        for why in &push.why {
            page.line(&[("", "    "), ("", why)]);
        }
        for finding in &push.findings {
            let bytes = if finding.sha256.is_empty() { String::new() } else { format!(", sha256 {}", finding.sha256) };
            page.line(&[("", "      "), ("2", "commit "), ("2", short(&finding.commit)), ("2", &bytes)]);
        }
        exemptions(page, push);
    }
    for row in &rows.proposals {
        page.line(&[("1", &row.id), ("", " "), (colour(row.status), &row.end()), ("", ": "), ("", &row.what)]);
        for text in [&row.why, &row.detail].into_iter().filter(|text| !text.is_empty()) {
            page.line(&[("", "    "), ("", text)]);
        }
    }
    if let Some(offer) = &rows.offer {
        page.heading("Allow it in the next run");
        print_diff(page, offer);
    }
}
