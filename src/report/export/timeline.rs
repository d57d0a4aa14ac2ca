//! A run's timeline as a picture of its own: an SVG without a script, and without a reference to anything outside of it.

use std::collections::HashMap;
use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use crate::report::ProposalStatus;
use crate::report::model::transcript::{Block, Turn};
use crate::report::model::visible::{beginning, visible};
use crate::report::show::{RunState, RunView, has_passed, is_refusal, span, word};

const STYLE: &str = include_str!("timeline.css");
/// Sizes, in the picture's own units.
const WIDTH: usize = 960;
const LEFT: usize = 170;
const RIGHT: usize = 944;
const TOP: usize = 48;
const ROW: usize = 28;
const BAR: usize = 16;
/// An item that takes less is a mark, and marks at the same place are one.
const MARK: f64 = 2.0;
/// Bars of a row; what is more is counted.
const MAX_BARS: usize = 1500;
/// Ticks of the axis.
const MAX_TICKS: i64 = 9;
/// Bytes of the words of an item.
const WORDS_BYTES: usize = 120;
/// Steps of the axis in milliseconds.
const STEPS: [i64; 19] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000,
    3_600_000, 7_200_000, 14_400_000, 43_200_000,
];

/// A row of the picture.
struct Row {
    title: &'static str,
    class: &'static str,
    /// What one of its items is called, and several.
    nouns: [&'static str; 2],
    /// How those are called that are bad.
    bad: &'static str,
    items: Vec<Item>,
}

impl Row {
    fn count_bad(&self) -> usize {
        self.items.iter().filter(|item| item.is_bad).count()
    }

    /// `14 requests, 3 refused`.
    fn counts(&self) -> String {
        let count = self.items.len();
        let noun = self.nouns[usize::from(count != 1)];
        match self.count_bad() {
            0 => format!("{count} {noun}"),
            bad => format!("{count} {noun}, {bad} {}", self.bad),
        }
    }
}

/// Something that took its time; times are milliseconds of Unix time.
struct Item {
    from: i64,
    to: i64,
    /// It failed, or was refused.
    is_bad: bool,
    words: String,
}

/// A rectangle of a row.
struct Bar {
    x: f64,
    width: f64,
    is_bad: bool,
    words: String,
    /// Items at the same place, besides the first.
    more: usize,
    /// What stands in it, if there is room.
    label: &'static str,
}

/// From when to when the picture goes.
#[derive(Clone, Copy)]
struct Scale {
    from: i64,
    to: i64,
}

impl Scale {
    fn millis(self) -> i64 {
        self.to.saturating_sub(self.from).max(1)
    }

    /// Where a time is; the guest's own clock may say anything, and what is outside is at the edge.
    fn x(self, at: i64) -> f64 {
        let at = at.clamp(self.from, self.to.max(self.from)).saturating_sub(self.from);
        LEFT as f64 + at as f64 / self.millis() as f64 * (RIGHT - LEFT) as f64
    }

    /// The times of the axis' ticks, from 0.
    fn ticks(self) -> Vec<i64> {
        let days = 86_400_000 * (self.millis() / 86_400_000 / MAX_TICKS + 1);
        let step = STEPS.into_iter().find(|step| self.millis() / step < MAX_TICKS).unwrap_or(days);
        (0..=self.millis() / step).map(|at| at * step).collect()
    }
}

impl RunView {
    /// The timeline as SVG. What was said, and what went into tools and came out, is not in it.
    pub(crate) fn timeline_svg(&self) -> String {
        let scale = Scale { from: self.data.from, to: self.data.to };
        let rows: Vec<Row> = self.timeline_rows().into_iter().filter(|row| !row.items.is_empty()).collect();
        let bottom = TOP + rows.len() * ROW;
        let height = bottom + 48;
        let head = self.timeline_head();
        let picture = html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {height}")) width=(WIDTH) height=(height)
                role="img" aria-labelledby="claude-bottle-title claude-bottle-words" {
                title id="claude-bottle-title" { "Timeline of the run " (head) }
                desc id="claude-bottle-words" { (self.timeline_words(&rows)) }
                style { (PreEscaped(STYLE)) }
                rect class="back" x="0.5" y="0.5" width=(WIDTH - 1) height=(height - 1) rx="6" {}
                text class="head" x="16" y="28" { (head) }
                (axis(scale, bottom))
                @for (at, row) in rows.iter().enumerate() { (drawn(row, scale, TOP + at * ROW)) }
                @if rows.iter().any(|row| row.count_bad() > 0) {
                    rect class="bad" x=(LEFT) y=(bottom + 26) width="8" height="12" {}
                    text x=(LEFT + 14) y=(bottom + 36) { "refused or failed" }
                }
            }
        };
        format!("{}\n", picture.into_string())
    }

    /// Which run it is, how it ended, and how long it took.
    fn timeline_head(&self) -> String {
        let summary = self.summary();
        let end = match (summary.outcome.as_ref().map(|outcome| outcome.code), summary.state) {
            (Some(0), _) => "done".to_owned(),
            (Some(code), _) => format!("exit code {code}"),
            (None, RunState::Running) => "running".to_owned(),
            (None, _) => "died".to_owned(),
        };
        format!("{} · {end} · {}", short(&summary.slug), span(summary.seconds))
    }

    /// The picture in words, for who does not see it.
    fn timeline_words(&self, rows: &[Row]) -> String {
        let phases: Vec<String> =
            self.summary().phases.iter().map(|phase| format!("{} {}", phase.name, span(phase.seconds))).collect();
        let mut words = if phases.is_empty() { String::new() } else { format!("{}. ", phases.join(", ")) };
        let counts: Vec<String> = rows.iter().filter(|row| row.class != "phases").map(Row::counts).collect();
        let _ = write!(words, "{}.", if counts.is_empty() { "Nothing else".to_owned() } else { counts.join("; ") });
        for sentence in &self.data.left_out {
            let _ = write!(words, " {}", short(sentence));
        }
        words
    }

    fn timeline_rows(&self) -> [Row; 6] {
        let data = &self.data;
        let row = |title, class, nouns, bad, items| Row { title, class, nouns, bad, items };
        let phases = data.phases.iter().map(|phase| Item {
            from: phase.from,
            to: phase.to,
            is_bad: false,
            words: phase.name.to_owned(),
        });
        let turns = data.turns.iter().enumerate().filter(|(_, turn)| turn.is_the_models()).filter_map(|(at, turn)| {
            let from = turn.from?;
            let words = format!("turn {} by {}", at + 1, short(&turn.model));
            Some(Item { from, to: turn.to.unwrap_or(from), is_bad: false, words })
        });
        let requests = self.requests().into_iter().filter_map(|request| {
            let from = request.at?;
            let to = from.saturating_add_unsigned(request.ms);
            let what = format!("{} {}", request.method, request.host);
            let words = format!("{}: {}", word(request.verdict), short(&what));
            Some(Item { from, to, is_bad: is_refusal(request.verdict) || !has_passed(request.verdict), words })
        });
        let pushes = data.pushes.iter().filter_map(|push| {
            let has_passed = push.verdict.has_passed();
            let words = format!("{} {}", short(&push.r#ref), if has_passed { "passed" } else { "refused" });
            Some(Item { from: push.from?, to: push.to?, is_bad: !has_passed, words })
        });
        let asked = data.proposals.iter().map(|proposal| {
            let status = proposal.status;
            let is_bad = matches!(status, ProposalStatus::Denied | ProposalStatus::TimedOut | ProposalStatus::Failed);
            let words = format!("{} {}", short(&proposal.id), status.name());
            Item { from: proposal.from, to: proposal.to.unwrap_or(data.to), is_bad, words }
        });
        [
            row("Phases", "phases", ["phase", "phases"], "failed", phases.collect()),
            row("Turns", "turns", ["turn", "turns"], "failed", turns.collect()),
            row("Tools", "tools", ["call of a tool", "calls of tools"], "failed", tools(&data.turns)),
            row("Requests", "requests", ["request", "requests"], "refused or failed", requests.collect()),
            row("Pushes", "pushes", ["push", "pushes"], "refused", pushes.collect()),
            row("Asked for", "asked", ["proposal", "proposals"], "denied or without an answer", asked.collect()),
        ]
    }
}

/// The uses of tools; one whose end never came is as long as nothing.
fn tools(turns: &[Turn]) -> Vec<Item> {
    let blocks = turns.iter().flat_map(|turn| &turn.blocks);
    let items = blocks.filter_map(|block| match block {
        Block::Tool(tool) => {
            let from = tool.from?;
            let failed = if tool.failed { " failed" } else { "" };
            Some(Item {
                from,
                to: tool.to.unwrap_or(from),
                is_bad: tool.failed,
                words: format!("{}{failed}", short(&tool.name)),
            })
        }
        _ => None,
    });
    items.collect()
}

/// The bars of a row, those that are bad at the end, and how many have no room.
fn bars(row: &Row, scale: Scale) -> (Vec<Bar>, usize) {
    let mut bars: Vec<Bar> = vec![];
    let mut marks: HashMap<(i64, bool), usize> = HashMap::new();
    let mut left_out = 0;
    for item in &row.items {
        let x = scale.x(item.from);
        let width = scale.x(item.to.max(item.from)) - x;
        let place = (x as i64, item.is_bad);
        if width < MARK
            && let Some(bar) = marks.get(&place).and_then(|at| bars.get_mut(*at))
        {
            bar.more += 1;
            continue;
        }
        // A refusal is not left out for what passed.
        if bars.len() >= MAX_BARS && !(item.is_bad && bars.len() < 2 * MAX_BARS) {
            left_out += 1;
            continue;
        }
        if width < MARK {
            marks.insert(place, bars.len());
        }
        let label = if row.class == "phases" { phase_label(&item.words, width) } else { "" };
        bars.push(Bar { x, width: width.max(MARK), is_bad: item.is_bad, words: item.words.clone(), more: 0, label });
    }
    bars.sort_by_key(|bar| bar.is_bad);
    (bars, left_out)
}

/// A phase's name, where the bar is wide enough for it.
fn phase_label(name: &str, width: f64) -> &'static str {
    let known = crate::report::Phase::ALL.into_iter().map(crate::report::Phase::name).find(|known| *known == name);
    known.filter(|name| name.len() as f64 * 6.5 + 8.0 < width).unwrap_or_default()
}

fn drawn(row: &Row, scale: Scale, y: usize) -> Markup {
    let (bars, left_out) = bars(row, scale);
    let (bad, all) = (row.count_bad(), row.items.len());
    html! {
        text class="row" x="16" y=(y + 18) { (row.title) }
        @if row.class != "phases" {
            text class=[(bad > 0).then_some("bad")] x=(LEFT - 8) y=(y + 18) text-anchor="end" {
                @if bad > 0 { (bad) " of " } (all)
            }
        }
        @for bar in &bars {
            // What is bad is taller, too: a colour alone says nothing to many.
            @let (top, height) = if bar.is_bad { (y + 3, BAR + 6) } else { (y + 6, BAR) };
            rect class=(if bar.is_bad { "bad" } else { row.class }) x=(format!("{:.1}", bar.x)) y=(top) width=(format!("{:.1}", bar.width)) height=(height) {
                title { (bar.words) @if bar.more > 0 { " and " (bar.more) " more" } }
            }
            @if !bar.label.is_empty() { text class="in" x=(format!("{:.1}", bar.x + 4.0)) y=(y + 18) { (bar.label) } }
        }
        @if left_out > 0 { text x=(RIGHT) y=(y + 18) text-anchor="end" { (left_out) " more" } }
    }
}

fn axis(scale: Scale, bottom: usize) -> Markup {
    html! {
        @for at in scale.ticks() {
            @let x = format!("{:.1}", scale.x(scale.from.saturating_add(at)));
            line class="rule" x1=(x) x2=(x) y1=(TOP - 4) y2=(bottom + 4) {}
            text x=(x) y=(bottom + 18) text-anchor="middle" { (clock(at, scale.millis())) }
        }
    }
}

/// A time of the axis: `0.5 s` in a short run, `2:05`, `1:02:05`.
fn clock(millis: i64, all: i64) -> String {
    let seconds = millis / 1000;
    if all < 9_000 {
        return format!("{}.{} s", seconds, millis / 100 % 10);
    }
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// A text on one line, or its beginning.
fn short(text: &str) -> String {
    let shown = visible(text).replace(['\n', '\t'], " ");
    let kept = beginning(&shown, WORDS_BYTES);
    if kept.len() < shown.len() { format!("{kept}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Stdio;

    use super::*;
    use crate::report::model::samples::{self, Sample, hostile_contents};

    /// The elements of a picture as Python's XML reader gives them: the name, its attributes' names, and its text; it ends at what is no XML.
    fn elements(svg: &str) -> Vec<(String, Vec<String>, String)> {
        let script = "import json, sys, xml.etree.ElementTree as tree\n\
            root = tree.fromstring(sys.stdin.buffer.read())\n\
            print(json.dumps([[e.tag, sorted(e.attrib), e.text or ''] for e in root.iter()]))";
        let mut python = bottle_testkit::python();
        let python = python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut python = python.spawn().expect("Python");
        let mut input = python.stdin.take().expect("its input");
        let text = svg.to_owned();
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()).expect("it reads"));
        let output = python.wait_with_output().expect("an end");
        writer.join().expect("it is written");
        assert!(output.status.success(), "{}", bottle_testkit::said(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The kinds of elements, with their attributes.
    fn shapes(svg: &str) -> std::collections::BTreeSet<(String, Vec<String>)> {
        elements(svg).into_iter().map(|(name, attributes, _)| (name, attributes)).collect()
    }

    fn svg(sample: &Sample) -> String {
        sample.view().timeline_svg()
    }

    #[test]
    fn nothing_of_a_hostile_record_is_alive_in_the_picture() {
        let known: std::collections::BTreeSet<_> =
            samples::all().iter().chain([&samples::of_each_kind()]).flat_map(|sample| shapes(&svg(sample))).collect();
        let names: Vec<&str> = known.iter().map(|(name, _)| name.rsplit('}').next().expect("a name")).collect();
        for name in &names {
            assert!(["svg", "title", "desc", "style", "rect", "text", "line"].contains(name), "{name}");
        }
        let contents = hostile_contents();
        let picture = svg(&samples::hostile(&contents));
        assert!(shapes(&picture).is_subset(&known), "{:?}", shapes(&picture).difference(&known));
        let one_by_one = contents.iter().filter(|json| json.len() < 20_000);
        for content in one_by_one {
            let picture = svg(&samples::hostile(std::slice::from_ref(content)));
            assert_eq!(crate::report::show::alive(&picture), None, "{content:.80}");
            let tags: Vec<&str> = picture.split('<').skip(1).filter_map(|tag| tag.split(['>', ' ']).next()).collect();
            assert!(tags.iter().all(|tag| names.contains(&tag.trim_start_matches('/'))), "{content:.80}: {tags:?}");
            // What is not in a tag is text, in which each `<` is escaped.
            let markup: String = picture.split('<').skip(1).filter_map(|tag| tag.split('>').next()).collect();
            assert_eq!(markup.matches("http").count(), 1, "the name space alone: {content:.80}");
            for outside in ["href", "url", "on", "src", "!", "?"] {
                assert!(
                    !markup.contains(&format!(" {outside}")) && !markup.starts_with(outside),
                    "{outside}: {content:.80}"
                );
            }
        }
    }

    #[test]
    fn the_picture_has_what_the_record_has_and_says_it_in_words() {
        let picture = svg(&samples::refused_push());
        let texts: Vec<String> = elements(&picture).into_iter().map(|(_, _, text)| text).collect();
        let has = |text: &str| texts.iter().any(|known| known == text);
        assert!(has("Timeline of the run issue-7-words-653db91b · exit code 5 · 9.4 s"), "{texts:?}");
        let words = "2 turns; 3 calls of tools, 1 failed; 2 requests; 1 push, 1 refused.";
        assert!(
            texts.iter().any(|text| text.starts_with("prepare 0.4 s, launch 0.4 s") && text.ends_with(words)),
            "{texts:?}"
        );
        for text in [
            "agent",
            "Bash failed",
            "refs/heads/bottle/issue-7 refused",
            "turn 1 by claude-opus-5-5",
            "refused or failed",
        ] {
            assert!(has(text), "{text}: {texts:?}");
        }
        // What was said, asked for and done is not exported.
        for text in ["Deploy to the second region", "I write the settings", "git push origin HEAD", "aws-access-token"]
        {
            assert!(!picture.contains(text), "{text}");
        }
        assert!(svg(&samples::approval()).contains("P2 denied") && picture.contains("prefers-color-scheme: dark"));
        // Earlier versions have no phases; a run that died has no end.
        let old = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records/v1");
        let old = RunView::open(&old).expect("a record").timeline_svg();
        assert!(!old.contains(">Phases<") && old.contains(">Requests<") && !elements(&old).is_empty());
        let mut dead = samples::crash();
        dead.events.pop();
        assert!(svg(&dead).contains("· died ·"));
    }

    #[test]
    fn a_large_run_has_a_picture_of_bounded_size_and_loses_no_refusal() {
        let mut sample = Sample::new("Many");
        for at in 0..6000 {
            let refused = (at % 1000 == 7).then_some("no_route");
            sample.request("GET", "a.example", "/", if refused.is_some() { "deny" } else { "allow" }, refused);
        }
        let picture = svg(&sample.end(crate::exit::Code::Done, "done"));
        assert!(picture.len() < 600_000, "{}", picture.len());
        assert!(
            picture.contains("6000 requests, 6 refused or failed") && picture.contains(">6 of 6000<"),
            "{picture:.2000}"
        );
        assert_eq!(picture.matches("class=\"bad\"").count(), 6 + 2, "its marks, its count and the key");
    }

    #[test]
    fn the_axis_has_few_ticks_whatever_the_length() {
        for (millis, first, last) in [
            (0, "0.0 s", "0.0 s"),
            (700, "0.0 s", "0.7 s"),
            (9_400, "0:00", "0:08"),
            (125_000, "0:00", "2:00"),
            (9_000_000, "0:00", "2:30:00"),
            (i64::MAX, "0:00", ""),
        ] {
            let scale = Scale { from: 0, to: millis };
            let ticks: Vec<String> = scale.ticks().iter().map(|at| clock(*at, scale.millis())).collect();
            assert!(ticks.len() <= MAX_TICKS as usize && ticks[0] == first, "{millis}: {ticks:?}");
            assert!(last.is_empty() || ticks.last().map(String::as_str) == Some(last), "{millis}: {ticks:?}");
        }
        let scale = Scale { from: 1000, to: 2000 };
        assert_eq!([i64::MIN, 1000, 2000, i64::MAX].map(|at| scale.x(at)), [170.0, 170.0, 944.0, 944.0]);
    }
}
