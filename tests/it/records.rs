//! Run records that earlier versions wrote: they still verify and print. `tests/fixtures/records` has them.

use std::path::Path;

use bottle_testkit::{World, said, sh};

use crate::RUNNER;
use crate::collector::{TAKEN, collector};

const SLUG: &str = "issue-7-words-followed-by-653db91b";

#[test]
fn a_record_of_version_1_verifies_and_prints() {
    let world = World::new(RUNNER);
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records/v1");
    let state = world.path("state");
    std::fs::create_dir_all(&state).expect("a state root");
    sh(&["cp", "-R", &record.display().to_string(), &state.join(SLUG).display().to_string()]);
    let prints = |args: &[&str]| {
        let output = world.runner().args(args).output().expect("the runner");
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(
        prints(&["verify-record", SLUG]),
        format!(
            "{SLUG}: the record holds: 13 files looked into\n\
             proposals: 2 asked, 1 granted, 1 denied, 0 open; 1 policies applied, and those at the end are what they lead to\n"
        )
    );
    assert_eq!(
        prints(&["ps", "--all"]),
        format!(
            "{SLUG}         ended with 0      4 refused  2026-11-28T06:32:50Z  Words followed by punctuation are counted wrong\n"
        )
    );
    let listed: serde_json::Value = serde_json::from_str(&prints(&["ps", "--all", "--json"])).expect("JSON");
    let shown: serde_json::Value = serde_json::from_str(&prints(&["show", "--json", SLUG])).expect("JSON");
    assert_eq!(listed[0]["refused"], 4, "{listed:#}");
    assert_eq!(shown["refused"].as_array().map(Vec::len), Some(4), "{shown:#}");
    assert_eq!(prints(&["audit-credentials", SLUG]), AUDITED);
    assert_eq!(prints(&["logs", SLUG]), std::fs::read_to_string(record.join("compose.log")).expect("compose.log"));
    assert_eq!(prints(&["logs", "--egress", SLUG]), ROWS);
    let shown = prints(&["show", SLUG]);
    assert!(
        shown.starts_with("✓ Words followed by punctuation are counted wrong\n") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    assert!(shown.contains("Phases, checks and proposals are left out: report.html has them."), "{shown}");
    assert!(
        prints(&["show", "--cost", "--egress", SLUG]).contains("deny     403     0      GET example.com/: no_route")
    );
    let refused: serde_json::Value = serde_json::from_str(&prints(&["export", "--sarif", SLUG])).expect("SARIF");
    assert_eq!(refused["runs"][0]["results"].as_array().map(Vec::len), Some(4), "{refused:#}");
    let events = prints(&["export", "--ocsf", SLUG]);
    let classes = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an event"));
    assert_eq!(classes.filter(|event| event["class_uid"] == 4002).count(), 11, "{events}");
    let page = state.join("index.html");
    assert_eq!(prints(&["site", &state.display().to_string()]), format!("{}: 1 runs\n", page.display()));
    let text = std::fs::read_to_string(&page).expect("the page");
    assert!(text.contains(&format!("href=\"{SLUG}/report.html\"")) && text.contains("request/no_route"), "{text}");
    let picture = prints(&["export", "--svg", SLUG]);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n") && picture.contains("· done ·"), "{picture}");
    let metrics = prints(&["export", "--prometheus", &state.display().to_string(), SLUG]);
    assert!(metrics.contains("\nclaude_bottle_runs{agent=\"implementer\",outcome=\"success\"} 1\n"), "{metrics}");
    for (args, why) in [
        (["export", "--svg", SLUG, SLUG], "more than one record is named"),
        (["export", "--prometheus", SLUG, "/nowhere/at/all"], "failed to read /nowhere/at/all"),
        (["schema", "--events", "--tests", "--no-color"], "cannot be used with"),
    ] {
        let output = world.runner().args(args).output().expect("the runner");
        assert!(output.status.code() == Some(2) && said(&output).contains(why), "{args:?}: {}", said(&output));
    }
    let both = world.runner().args(["export", "--sarif", "--ocsf", SLUG]).output().expect("the runner");
    assert_eq!(both.status.code(), Some(2), "{}", said(&both));
    std::fs::create_dir(world.path("empty")).expect("a directory");
    let empty = world.runner().args(["site", &world.path("empty").display().to_string()]).output().expect("the runner");
    assert!(empty.status.code() == Some(2) && said(&empty).contains("has no run record"), "{}", said(&empty));
    let none = world.runner().args(["show", "no-such-run"]).output().expect("the runner");
    assert!(none.status.code() == Some(2) && said(&none).contains("no-such-run is no run record"), "{}", said(&none));
}

#[test]
fn a_trace_is_sent_or_the_command_says_why_not() {
    let world = World::new(RUNNER);
    let record = format!("{}/tests/fixtures/records/v2", env!("CARGO_MANIFEST_DIR"));
    let secret = world.secret().replace(['/', '+'], "x");
    let send = |address: &str, more: &[&str]| {
        let mut runner = world.runner();
        runner.args(["export", "--otlp", "--send", &record]).args(more).env("OTEL_EXPORTER_OTLP_ENDPOINT", address);
        runner.env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{secret}"));
        runner.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
        let output = runner.output().expect("the runner");
        let text = said(&output);
        assert!(!text.contains(&secret), "{text}");
        (output.status.code(), text)
    };
    let (takes, _) = collector(TAKEN);
    let (code, once) = send(&takes, &[]);
    assert!(
        code == Some(0) && once.starts_with("sent ") && once.ends_with(&format!("spans to {takes}/v1/traces\n")),
        "{once}"
    );
    assert_eq!(send(&takes, &["--follow"]), (Some(0), once), "a run that has ended is followed to its end");
    let (refuses, _) = collector("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let (code, text) = send(&refuses, &["--follow"]);
    let words =
        format!("error: failed to send the trace to {refuses}/v1/traces: it answered with 401 Unauthorized\nhelp: ");
    assert!(code == Some(4) && text.starts_with(&words), "{text}");
    let (code, text) = send("ftp://otel.example.org", &["--follow"]);
    assert!(code == Some(2) && text.contains("OTEL_EXPORTER_OTLP_ENDPOINT is no address of http or https"), "{text}");
    let output = world.runner().args(["export", "--otlp", "--follow", &record]).output().expect("the runner");
    assert!(output.status.code() == Some(2) && said(&output).contains("--send"), "{}", said(&output));
}

#[test]
fn a_record_is_signed_and_checked() {
    let world = World::new(RUNNER);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records/v2");
    let at = |name: &str| world.path(name).display().to_string();
    sh(&["cp", "-R", &fixture.display().to_string(), &at("record")]);
    for name in ["key", "other"] {
        sh(&["openssl", "genpkey", "-algorithm", "ed25519", "-out", &at(name)]);
        sh(&["openssl", "pkey", "-in", &at(name), "-pubout", "-out", &at(&format!("{name}.pub"))]);
    }
    let run = |args: &[&str]| {
        let output = world.runner().args(args).output().expect("the runner");
        (output.status.code(), said(&output))
    };
    let (record, key, public) = (at("record"), at("key"), at("key.pub"));
    let (code, text) = run(&["verify-record", &record, "--public-key", &public]);
    assert!(
        code == Some(1) && text.contains("attestation.dsse.json: it is missing: nobody has signed this record"),
        "{text}"
    );
    let (code, text) = run(&["sign-record", &record, "--key", &key]);
    assert!(code == Some(0) && text.contains(": signed commit ") && text.contains(" files by the key "), "{text}");
    let (code, text) = run(&["sign-record", &record, "--key", &key]);
    assert!(code == Some(4) && text.contains("the record is signed already"), "{text}");
    let (code, text) = run(&["verify-record", &record, "--public-key", &public]);
    assert!(code == Some(0) && text.contains("signed: commit "), "{text}");
    let (code, text) = run(&["verify-record", &record, "--public-key", &at("other.pub")]);
    assert!(code == Some(1) && text.contains("it is not signed by this key"), "{text}");
    let (code, text) = run(&["verify-record", &record, "--public-key", &public, "--commit", "35692de6"]);
    assert!(code == Some(1) && text.contains("not about commit 35692de6"), "{text}");
    let (code, text) = run(&["verify-record", &record, "--public-key", &key]);
    assert!(code == Some(2) && text.contains("it is a private key"), "{text}");
    // A record that does not hold is not signed.
    std::fs::remove_file(world.path("record/attestation.dsse.json")).expect("the attestation");
    std::fs::remove_file(world.path("record/egress.jsonl")).expect("a file");
    let (code, text) = run(&["sign-record", &record, "--key", &key]);
    assert!(code == Some(1) && text.contains("is not signed, as it does not hold: egress.jsonl"), "{text}");
    assert!(!world.path("record/attestation.dsse.json").exists());
}

/// The model was replayed, so no key was sent anywhere.
const AUDITED: &str = "\
BOTTLE_GIT_ORIGIN_IDENTITY from /tmp/bottle/demo/id, for git upstream origin
  2026-11-28T06:33:11.298469448Z  push refs/heads/bottle/issue-7-words-followed-by-punctuation-are to origin: accepted
  each fetch from origin and each question to it uses it too
";

const ROWS: &str = "\
TIME          METHOD   WHERE                                            STATUS  VERDICT    OUT    IN  MS  NOTES
06:32:52.582  CONNECT  api.anthropic.com                                -       error        0     0   0  gone
06:32:52.582  CONNECT  api.anthropic.com                                -       error        0     0   0  gone
06:32:54.670  GET      api.anthropic.com/api/claude_code/settings       403     deny         0   398   0  no_route
06:32:54.670  GET      api.anthropic.com/api/claude_code/policy_limits  403     deny         0   413   0  no_route
06:32:57.355  POST     api.anthropic.com/v1/messages                    200     replay   53293  1457   3
06:32:58.204  GET      example.com/                                     403     deny         0   308   0  no_route
06:32:58.285  POST     api.anthropic.com/v1/messages                    200     replay   54018  1452   8
06:32:58.716  POST     api.anthropic.com/v1/messages                    200     replay   54531  1431  10
06:33:04.244  POST     api.anthropic.com/v1/messages                    200     replay   54997  1341   0
06:33:07.550  POST     api.anthropic.com/v1/messages                    200     replay   56006  1557   1
06:33:11.444  POST     api.anthropic.com/v1/messages                    200     replay   56761   992   1
";
