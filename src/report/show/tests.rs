//! What the terminal shows of the records of the page's tests, and that nothing of a hostile record acts on it.

use bottle_policy::prose::invisible;

use super::*;
use crate::report::Style;
use crate::report::model::samples::{self, Sample, hostile_contents};

const ALL: [Section; 5] = [Section::Timeline, Section::Diff, Section::Egress, Section::Cost, Section::Refused];

/// Everything that `show` prints of a run, then what `diff` prints of it beside itself and another.
fn printed(view: &RunView, other: &RunView, style: Style, columns: Option<usize>) -> Vec<Page> {
    let mut pages = [(); 4].map(|()| Page::new(style, columns));
    let summary = view.summary();
    summary.print(&mut pages[0]);
    view.sections(&ALL).print(&mut pages[1]);
    Comparison::new(&summary, &other.summary()).print(&mut pages[2]);
    Comparison::new(&other.summary(), &summary).print(&mut pages[3]);
    pages.into()
}

/// The text without the colours that are ours.
pub(in crate::report) fn without_own_colours(text: &str) -> String {
    let own = ["0", "1", "2", "31", "32", "33", "35", "36", "1;33"].map(|code| format!("\x1b[{code}m"));
    own.iter().fold(text.to_owned(), |text, code| text.replace(code, ""))
}

/// The first character that acts on a terminal or is not seen, with what is around it.
pub(in crate::report) fn alive(text: &str) -> Option<String> {
    let (at, _) =
        text.char_indices().find(|(_, c)| *c != '\n' && *c != '\u{fe0f}' && (invisible(*c) || c.is_control()))?;
    Some(text[at..].chars().take(40).collect::<String>().escape_debug().to_string())
}

#[test]
fn nothing_of_a_hostile_record_acts_on_a_terminal() {
    let contents = hostile_contents();
    assert!(contents.len() >= 100);
    let (hostile, plain) = (samples::hostile(&contents), samples::success());
    let (view, other) = (hostile.view(), plain.view());
    for (colour, columns) in [(false, None), (true, None), (true, Some(40)), (false, Some(80)), (true, Some(200))] {
        for page in printed(&view, &other, Style::of_test(colour), columns) {
            let text = page.into_text();
            assert!(colour || !text.contains('\x1b'));
            assert_eq!(alive(&without_own_colours(&text)), None);
        }
    }
    let json = [
        serde_json::to_string_pretty(&view.summary()),
        serde_json::to_string_pretty(&view.sections(&ALL)),
        serde_json::to_string_pretty(&Comparison::new(&view.summary(), &other.summary())),
    ];
    for json in json {
        assert_eq!(alive(&json.expect("JSON")), None);
    }
}

#[test]
fn refusals_are_counted_as_they_are_shown() {
    for sample in samples::all().into_iter().chain([samples::hostile(&hostile_contents())]) {
        let shown = sample.view().summary().refused.len();
        assert_eq!(refusals(sample.dir.path()).expect("a record"), shown);
    }
}

/// A run that goes on, fed with everything of a record.
fn live(sample: &Sample) -> (LiveRun, String) {
    sample.view();
    let read = |name: &str| std::fs::read(sample.dir.path().join(name)).unwrap_or_default();
    let mut live = LiveRun::new("issue-7-words-653db91b", sample.view().plan.as_ref());
    let mut told = Page::new(Style::of_test(false), None);
    for line in read("events.jsonl").split(|byte| *byte == b'\n') {
        if let Some((mark, colour, text)) = live.event(line) {
            told.line(&[(colour, mark), ("", " "), ("", &text)]);
        }
    }
    read("transcript.jsonl").split(|byte| *byte == b'\n').for_each(|line| live.transcript(line));
    read("egress.jsonl").split(|byte| *byte == b'\n').for_each(|line| live.access(line));
    read("budget.jsonl").split(|byte| *byte == b'\n').for_each(|line| live.paid(line));
    (live, told.into_text())
}

/// What `watch` draws of a run in which a person is asked, with colours.
pub(crate) fn live_screen(sample: &Sample) -> String {
    let (mut run, _) = live(sample);
    run.proposals(&standing("May I?"), |_| "a question: May I?".to_owned());
    let mut page = Page::new(Style::of_test(true), Some(80));
    run.print(&mut page, 1_795_875_200_000);
    page.into_text()
}

/// An open proposal as a run's control socket gives it, with this text in what is asked.
fn standing(text: &str) -> Vec<bottle_wire::proposal::Standing> {
    let proposal = serde_json::json!({
        "id": "P1", "run": "issue-7-words-653db91b", "nonce": "ff687e08cf8099bb7553e83d44a69eae",
        "request": {"ask": {"question": text}}, "change": null, "policy_hash": "0".repeat(64),
        "hash": "30443db6f32c674b9db303d43eb5e36f909fcde2c34bb52372f33119adac5b5b",
        "asked_at": "2026-11-28T14:12:40Z", "expires_at": "2026-11-28T14:27:40Z",
    });
    let standing = serde_json::json!({"proposal": proposal, "state": "open"});
    vec![serde_json::from_value(standing).expect("a standing proposal")]
}

#[test]
fn a_run_that_goes_on_is_shown_on_one_screen_and_nothing_of_it_acts() {
    let contents = hostile_contents();
    let (mut hostile, told) = live(&samples::hostile(&contents));
    assert_eq!(alive(&told), None);
    for content in &contents {
        let text = samples::text_of(content);
        hostile.proposals(&standing(&text), |_| text.clone());
        for columns in [40, 80, 200] {
            let mut page = Page::new(Style::of_test(true), Some(columns));
            hostile.print(&mut page, 1_795_875_200_000);
            assert!(page.lines().all(|line| page::columns_of(&without_own_colours(line)) <= columns));
            assert_eq!(alive(&without_own_colours(&page.into_text())), None);
        }
    }
    let (mut approval, told) = live(&samples::denied_route());
    assert!(told.contains("⊘ egress refused: GET pypi.org/simple/parser/: no_route\n"), "{told}");
    approval.proposals(&standing("May I?"), |_| "a question: May I?".to_owned());
    let mut page = Page::new(Style::of_test(false), Some(100));
    approval.print(&mut page, 1_795_875_200_000);
    let text = page.into_text();
    assert_eq!(text, include_str!("live.txt"), "{text}");
}

#[test]
fn every_hostile_content_is_readable() {
    for json in hostile_contents() {
        let content = samples::text_of(&json);
        let sample = samples::hostile(&[json]);
        let pages = printed(&sample.view(), &samples::success().view(), Style::of_test(false), None);
        let shown = page::one_line(crate::report::model::visible::beginning(&content, 60)).trim().to_owned();
        for page in pages {
            let text = page.into_text();
            assert!(text.contains(&shown), "{shown:?} is in {text:.400}");
        }
    }
}

#[test]
fn no_line_is_wider_than_the_terminal_and_none_is_cut_on_a_pipe() {
    let wide = "漢".repeat(300);
    let mut sample = Sample::new(&wide);
    sample.turn(&wide);
    sample.request("GET", "registry.example", &format!("/{}", "x".repeat(300)), "deny", Some("no_route"));
    let sample = sample.end(crate::exit::Code::Task, &"y".repeat(300));
    let other = samples::large(3, 100);
    for columns in [40, 80, 200] {
        for sample in samples::all().iter().chain([&sample]) {
            for page in printed(&sample.view(), &other.view(), Style::of_test(false), Some(columns)) {
                let widest = page.lines().map(page::columns_of).max();
                assert!(widest <= Some(columns), "{widest:?} of {columns}: {}", page.into_text());
            }
        }
    }
    let text: String =
        printed(&sample.view(), &other.view(), Style::of_test(false), None).into_iter().map(Page::into_text).collect();
    for whole in [&wide, &"x".repeat(300), &"y".repeat(300)] {
        assert!(text.contains(whole.as_str()));
    }
}

#[test]
fn a_line_of_ten_megabytes_and_one_without_columns_are_cut() {
    let mut sample = Sample::new(&"\u{301}".repeat(5 << 20));
    sample.turn(&"z".repeat(10 << 20));
    let sample = sample.end(crate::exit::Code::Task, &"y".repeat(10 << 20));
    for page in printed(&sample.view(), &sample.view(), Style::of_test(false), None) {
        let text = page.into_text();
        assert!(text.len() < 100_000, "{}", text.len());
    }
}

#[test]
fn a_refused_push_on_one_screen() {
    let mut page = Page::new(Style::of_test(false), Some(80));
    samples::refused_push().view().summary().print(&mut page);
    let text = page.into_text();
    assert_eq!(text, include_str!("refused_push.txt"), "{text}");
}

#[test]
fn two_runs_beside_each_other() {
    let mut page = Page::new(Style::of_test(false), Some(100));
    let (one, other) = (samples::refused_push().view().summary(), samples::denied_route().view().summary());
    Comparison::new(&one, &other).print(&mut page);
    let text = page.into_text();
    assert_eq!(text, include_str!("two_runs.txt"), "{text}");
    let mut page = Page::new(Style::of_test(false), None);
    Comparison::new(&one, &one).print(&mut page);
    let text = page.into_text();
    assert!(!text.contains("Refused in") && !text.contains("Phases") && !text.contains("Files"), "{text}");
}

#[test]
fn each_section_has_what_its_flag_promises() {
    let text = |sample: &Sample, section| {
        let mut page = Page::new(Style::of_test(false), None);
        sample.view().sections(&[section]).print(&mut page);
        page.into_text()
    };
    let refused = samples::refused_push();
    let timeline = text(&refused, Section::Timeline);
    let order = [
        "phase     prepare",
        "phase     agent",
        "I write the settings",
        "[Write]",
        "push      refs/heads/bottle/issue-7 refused",
        "[Bash] failed",
    ];
    let places: Vec<_> = order.iter().map(|what| timeline.find(what)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}: {timeline}");
    let diff = text(&refused, Section::Diff);
    assert!(diff.contains("/workspace/app/main.py  +2 −1") && diff.contains("\n+    settings = load("), "{diff}");
    let egress = text(&samples::denied_route(), Section::Egress);
    assert!(egress.contains("deny     403     410    GET pypi.org/simple/parser/: no_route"), "{egress}");
    let cost = text(&samples::large(12, 100), Section::Cost);
    assert!(cost.contains("turn 12") && cost.contains("claude-opus-5-5") && cost.contains("\nall "), "{cost}");
    let asked = text(&samples::approval(), Section::Refused);
    assert!(asked.contains("P2 denied by octo-maintainer: POST https://prices.example /**"), "{asked}");
    assert!(asked.contains("    reading is enough") && asked.contains("\n+    - { host: prices.example"), "{asked}");
    assert!(text(&samples::crash(), Section::Refused).contains("  nothing\n"));
}

#[test]
fn the_records_of_earlier_versions_are_shown() {
    for version in ["v1", "v2"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records").join(version);
        let view = RunView::open(&dir).expect("a record");
        let summary = view.summary();
        assert_eq!(summary.outcome.as_ref().map(|outcome| outcome.code), Some(0));
        assert!(summary.spent.calls > 0 && !summary.tools.is_empty() && summary.seconds > 1.0, "{summary:?}");
        assert!(summary.refused.iter().any(|row| row.what.contains("GET example.com/: no_route")), "{summary:?}");
        assert_eq!(summary.left_out, ["Phases, checks and proposals are left out: report.html has them."]);
    }
}

#[test]
fn a_request_that_both_doors_have_is_one() {
    let sample = samples::success();
    let view = sample.view();
    let rows = view.summary().requests;
    let counted: u64 = rows.iter().map(|row| row.count).sum();
    let lines = std::fs::read_to_string(sample.dir.path().join("egress.jsonl")).expect("egress.jsonl");
    let mut ids: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["id"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(counted, ids.len() as u64);
}

#[test]
fn numbers_and_times_are_written_as_people_read_them() {
    assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!([0.04, 59.9, 61.0, 3_725.0].map(span), ["0.0 s", "59.9 s", "1 min 01 s", "1 h 02 min"]);
    assert_eq!(page::fitting("漢字漢字", 5), ("漢字…".into(), true));
    assert_eq!(page::fitting("abc", 3), ("abc".into(), false));
    assert_eq!(page::padded("漢字", 5), "漢字 ");
}

#[test]
fn the_guide_has_what_is_printed() {
    let guide = include_str!("../../../docs/guide/see.md");
    for printed in [include_str!("refused_push.txt"), include_str!("two_runs.txt"), include_str!("live.txt")] {
        assert!(guide.contains(&format!("\n{printed}```\n")), "{printed}");
    }
}
