//! What the page says of a record, and that nothing of a hostile record comes alive or is hidden on it.

use base64::Engine as _;
use bottle_types::record_file::RecordFile;
use serde_json::Value;

use super::*;
use crate::exit::Code;
use crate::report::model::samples::{self, Sample, hostile_contents};
use crate::report::model::texts::MAX_TEXT_BYTES;
use crate::report::model::visible::{beginning, visible};

/// The value of a packed block; none: the page has no such block.
fn unpacked(page: &str, id: &str) -> Option<Value> {
    let start = format!("<script id=\"{id}\" type=\"application/octet-stream\">");
    let (_, rest) = page.split_once(&start)?;
    let (base64, _) = rest.split_once("</script>").expect("an end");
    let gzip = STANDARD.decode(base64).expect("base64");
    Some(serde_json::from_reader(flate2::read::GzDecoder::new(gzip.as_slice())).expect("JSON in gzip"))
}

fn data(page: &str) -> Value {
    unpacked(page, "data").expect("the data")
}

/// Every text of the page's data, long ones from their parts.
fn texts(page: &str) -> Vec<String> {
    fn walk(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::String(text) => into.push(text.clone()),
            Value::Array(values) => values.iter().for_each(|value| walk(value, into)),
            Value::Object(map) => map.values().for_each(|value| walk(value, into)),
            _ => {}
        }
    }
    let mut found = vec![];
    walk(&data(page), &mut found);
    for part in (0..).map_while(|at| unpacked(page, &format!("part-{at}"))) {
        walk(&part, &mut found);
    }
    found
}

/// The tags of a page with their attributes, but for the blocks of long texts, of which another text makes more or fewer.
pub(in crate::report) fn tags(page: &str) -> Vec<String> {
    let mut rest = page;
    let mut tags = vec![];
    while let Some(at) = rest.find('<') {
        let end = rest[at..].find('>').expect("an end of a tag") + at + 1;
        let tag = &rest[at..end];
        rest = &rest[end..];
        // The two that a browser reads as no markup: ours, and base64.
        for (name, close) in [("<style", "</style>"), ("<script", "</script>")] {
            if tag.starts_with(name) {
                rest = &rest[rest.find(close).expect("an end")..];
            }
        }
        if tag.contains("id=\"part-") {
            rest = &rest["</script>".len()..];
            continue;
        }
        tags.push(tag.to_owned());
    }
    tags
}

#[test]
fn nothing_of_a_hostile_record_becomes_markup_or_is_hidden() {
    // An output that is empty has no place to be folded in: the one difference that a content may make.
    let contents: Vec<String> = hostile_contents().into_iter().filter(|json| json != "\"\"").collect();
    assert!(contents.len() >= 60);
    let page = samples::hostile(&contents).page();
    let harmless = vec!["\"harmless\"".to_owned(); contents.len()];
    assert_eq!(tags(&page), tags(&samples::hostile(&harmless).page()), "the same markup, whatever the contents are");
    for text in texts(&page).iter().chain([&page]) {
        let hidden = text.chars().find(|c| bottle_policy::prose::invisible(*c) && *c != '\u{fe0f}');
        assert_eq!(hidden, None, "{}", beginning(text, 80));
    }
}

#[test]
fn every_hostile_content_is_readable_in_every_field() {
    for json in hostile_contents() {
        let content = samples::text_of(&json);
        let page = samples::hostile(&[json]).page();
        let data = data(&page);
        let shown = visible(&content);
        let begins = |value: &Value| {
            let text = value.as_str().or(value["head"].as_str()).expect("a text");
            let text = if shown.starts_with(text) { text } else { text.trim_end_matches('…') };
            assert!(shown.starts_with(text) && (text.len() >= shown.len().min(100)), "{text:?} is not {shown:?}");
        };
        let request = &data["requests"][1];
        for field in ["method", "host", "path", "reason"] {
            begins(&request[field]);
        }
        begins(&data["requests"][2]["credential"]);
        let push = &data["pushes"][0];
        for value in [&push["ref"], &push["reasons"][0], &push["findings"][0]["rule"], &push["findings"][0]["path"]] {
            begins(value);
        }
        let proposal = &data["proposals"][0];
        for field in ["what", "why", "by", "detail"] {
            begins(&proposal[field]);
        }
        begins(&data["turns"][0]["blocks"][0]["text"]);
        begins(&data["edits"][0]["file"]);
        begins(&data["turns"][1]["blocks"][0]["text"]);
        let tool = &data["turns"][0]["blocks"][1];
        begins(&tool["name"]);
        let all = texts(&page);
        let whole: &str = &visible(beginning(&content, MAX_TEXT_BYTES));
        assert!(whole.is_empty() || all.iter().any(|text| text == whole), "the tool's output is whole: {content:.60}");
        // The part that needs no script: the title, what was refused, the case.
        let escaped =
            |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        let piece = escaped(beginning_of(&shown));
        assert!(page.matches(&piece).count() >= 8, "{piece:?} is readable without a script");
    }
}

fn beginning_of(text: &str) -> &str {
    beginning(text, 60)
}

#[test]
fn a_line_of_ten_megabytes_is_cut_and_said_to_be() {
    let mut sample = Sample::new("t");
    sample.turn("hello");
    sample.tool("Bash", &serde_json::json!({"command": "yes"}), &"y".repeat(10 << 20), &Value::Null, false);
    sample.verified(Some("failed"), &"z".repeat(10 << 20));
    let page = sample.end(Code::Task, "failed").page();
    let output = &data(&page)["turns"][0]["blocks"][1]["output"];
    assert_eq!((output["bytes"].as_u64(), output["lost"].as_u64()), (Some(10 << 20), Some(9 << 20)));
    assert!(page.contains("1 long texts are not on this page, or not to their end: transcript.jsonl has them."));
    assert!(page.contains("bytes more are in the record's files)") && page.len() < 4 << 20, "{}", page.len());
}

#[test]
fn what_does_not_fit_is_left_out_with_a_sentence() {
    // What repeats itself after so long is as long packed: gzip looks back by 32 KiB.
    let step = |at: u32| at.wrapping_mul(2_654_435_761) >> 11;
    let noise: String = (0..1_000_000).map(|at| char::from(b'!' + (step(at) ^ step(at >> 3)) as u8 % 90)).collect();
    let mut sample = Sample::new("t");
    for _ in 0..50 {
        sample.turn("hello");
        sample.tool("Bash", &serde_json::json!({"command": "noise"}), &noise, &Value::Null, false);
    }
    let page = sample.end(Code::Done, "done").page();
    assert!(page.len() < MAX_PACKED_BYTES + (4 << 20), "{}", page.len());
    assert!(page.contains("long texts are not on this page, or not to their end: transcript.jsonl has them."));
    let data = data(&page);
    assert_eq!(data["turns"].as_array().map(Vec::len), Some(50), "every turn is there");
    assert!(data["turns"][49]["blocks"][1]["output"]["lost"].as_u64() > Some(0));
}

#[test]
fn a_real_record_has_its_turns_requests_pushes_and_costs() {
    let sample = samples::success();
    let page = sample.page();
    let data = data(&page);
    let turns = data["turns"].as_array().expect("turns");
    assert_eq!(turns.len(), 9);
    assert_eq!(turns[0]["blocks"][0]["text"]["head"], "I'll read the code and see the test fail first.");
    let tool = &turns[0]["blocks"][1];
    assert_eq!((&tool["name"], &tool["failed"]), (&"Bash".into(), &false.into()));
    assert!(tool["to"].as_i64() > tool["from"].as_i64());
    assert_eq!(data["edits"][1]["file"], "/workspace/app/textstats.py");
    let verdicts: Vec<_> = data["pushes"].as_array().expect("pushes").iter().map(|push| &push["verdict"]).collect();
    assert_eq!(verdicts, ["refused", "accepted"]);
    assert_eq!(data["pushes"][0]["edits"], serde_json::json!([0, 2]), "all edits came before the first push");
    assert_eq!(data["pushes"][1]["edits"], serde_json::json!([2, 2]));
    let calls = data["calls"].as_array().expect("calls");
    let of: Vec<_> = calls.iter().map(|call| call["turn"].as_u64()).collect();
    assert_eq!(of, (0..9).map(Some).collect::<Vec<_>>(), "each call is its turn's");
    assert_eq!(data["left_out"], serde_json::json!([]));
    assert_eq!(data["phases"].as_array().map(Vec::len), Some(9));
}

#[test]
fn a_record_that_breaks_off_says_so() {
    let page = samples::crash().page();
    let data = data(&page);
    let last = data["turns"].as_array().and_then(|turns| turns.last()).expect("a turn");
    assert_eq!(last["blocks"][0]["kind"], "unread");
    assert_eq!(data["requests"], serde_json::json!([]));
    assert!(page.contains("the sandbox ended with signal 9"), "{page:.2000}");
    let sample = samples::denied_route();
    sample.append(RecordFile::Egress, b"{\"time\":\"\xff\n");
    assert!(sample.page().contains("1 lines that are not understood are left out: egress.jsonl has them."));
}

#[test]
fn secrets_are_masked_in_the_data_too() {
    let secret = ["hunter", "2hunter", "2"].concat();
    let mut sample = Sample::new("t");
    sample.turn(&format!("it is {secret}"));
    sample.tool("Bash", &serde_json::json!({"command": secret}), &secret, &Value::Null, false);
    let sample = sample.end(Code::Done, &secret);
    // In a spelling that the mask of the record's files does not know.
    let spelled: String = secret.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
    sample.append(
        RecordFile::Transcript,
        format!("{{\"type\":\"user\",\"message\":{{\"content\":\"{spelled}\"}}}}\n").as_bytes(),
    );
    let page = super::render(&sample.events, sample.dir.path(), &|text| text.replace(&secret, "***"));
    assert!(!page.contains(&secret) && !texts(&page).iter().any(|text| text.contains(&secret)));
    assert!(texts(&page).iter().any(|text| text == "***"));
}

#[test]
fn the_page_loads_nothing_and_runs_its_own_script_alone() {
    let page = samples::success().page();
    let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    assert!(page.contains(&format!("script-src 'sha256-{}'", hash)) && page.contains("default-src 'none'"));
    assert!(page.contains(&format!("<script>{SCRIPT}</script>")), "as it was hashed");
    assert!(page.contains(&format!("<style>{STYLE}</style>")));
    for name in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "fetch(", "XMLHttp", "import("]
    {
        let used = SCRIPT.lines().filter(|line| line.contains(name) && !line.trim_start().starts_with("//")).count();
        assert_eq!(used, 0, "{name}");
    }
    assert!(!page.contains(" style=") && !page.contains(" onclick="));
}

#[test]
fn the_hash_is_the_one_that_the_command_prints() {
    let sample = samples::refused_push();
    std::fs::create_dir(sample.dir.path().join("files")).expect("a directory");
    for name in ["files/a b.txt", "files/ä", "B", "a-b", "lock", "attestation.dsse.json"] {
        std::fs::write(sample.dir.path().join(name), name).expect("a file");
    }
    let page = sample.page();
    std::fs::write(sample.dir.path().join("report.html"), &page).expect("the page");
    let printed =
        bottle_testkit::sh(&["sh", "-c", &format!("cd '{}' && {}", sample.dir.path().display(), sums::COMMAND)]);
    let hash = printed.split(' ').next().expect("a hash");
    assert!(page.contains(&format!("<code class=\"hash\">{hash}</code>")), "{printed}");
}
