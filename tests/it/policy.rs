//! `explain`, `test`, `suggest` and `plan --diff`: their words, exit codes and files. What they decide is tried in `crates/bottle-plan/tests`.

use std::path::Path;
use std::process::Output;

use bottle_testkit::{World, said, sh};

use crate::RUNNER;

const MANIFEST: &str = "\
version: 1
bottles:
  default:
    egress:
      routes:
        - { host: api.anthropic.com, methods: [POST], paths: [/v1/messages] }
        - host: docs.example.org
agents:
  implementer: { bottle: default }
triggers:
  labels: { claude: implementer }
";

const CASES: &str = "\
version: 1
cases:
  - name: documentation is read
    request: { url: \"https://docs.example.org/a\" }
    verdict: allow
  - name: nothing is pushed to main
    push: { ref: main }
    verdict: deny
  - event: { file: event.json, name: issues }
    verdict: start
";

fn world() -> World {
    let world = World::new(RUNNER);
    world.write("claude-bottle.yml", MANIFEST);
    world.write("claude-bottle.test.yml", CASES);
    let event = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/good/event/issues-labeled.json");
    world.write("event.json", &std::fs::read_to_string(event).expect("an event"));
    world
}

fn run(world: &World, args: &[&str]) -> Output {
    // `suggest` asks every package manager that it finds, and without a network some of them wait for long.
    let mut runner = world.runner();
    runner.args(args).current_dir(world.path("")).env("PATH", "/usr/bin:/bin").output().expect("the runner")
}

fn code_and_words(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let output = run(world, args);
    (output.status.code(), said(&output))
}

#[test]
fn an_answer_has_the_rule_and_its_place() {
    let world = world();
    let (code, words) = code_and_words(&world, &["explain", "--url", "https://docs.example.org/a"]);
    let all = "GET https://docs.example.org/a\nallow\n  rule:   claude-bottle.yml:7:11: bottles.default.egress.routes[1]\n          \
               { host: docs.example.org }\n  why:    it is the first route that allows the request\n  change: take that route \
               out or narrow it: no other allows the request\n  then:   what the request carries is scanned for secrets, the \
               address of its host is judged, and limits and rates are counted\n";
    assert_eq!((code, words.as_str()), (Some(0), all));
    // A refusal is an answer, too.
    let output = run(&world, &["explain", "--json", "--push", "main", "--path", "a\u{1b}[31m"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&value["verdict"], &value["rule"]["path"]),
        (&"deny".into(), &"bottles.default.git.origin.push.refs".into())
    );
    let (code, words) = code_and_words(&world, &["explain", "--push", "bottle/x", "--path", "a\u{1b}[31m\u{202e}b"]);
    assert!(code == Some(0) && words.contains("a\\u{1b}[31m\\u{202e}b") && !words.contains('\u{1b}'), "{words:?}");
    let (code, words) = code_and_words(&world, &["explain", "--event", "event.json", "--event-name", "issues"]);
    assert!(code == Some(0) && words.contains("claude-bottle.yml:11:21: triggers.labels.claude"), "{words}");
}

#[test]
fn what_can_t_be_explained_is_bad_input() {
    let world = world();
    for (args, words) in [
        (&["explain", "--url", "docs.example.org"][..], "error: `docs.example.org` is no URL that a door takes"),
        (
            &["explain", "--url", "https://a.example", "--push", "x"],
            "error: the argument '--url <URL>' cannot be used with",
        ),
        (&["explain"], "error: the following required arguments were not provided"),
        (&["explain", "--url", "https://a.example", "--header", "x"], "error: `x` is no header\nhelp: write it as"),
        (&["explain", "--url", "https://a.example", "--agent", "nobody"], "error: no agent `nobody` in the manifest"),
        (
            &["explain", "--url", "https://a.example", "--manifest", "none.yml"],
            "error: failed to read the manifest none.yml",
        ),
        (&["explain", "--event", "claude-bottle.yml"], "error: claude-bottle.yml: the event is not JSON"),
        (&["test", "none.yml"], "error: failed to read the cases none.yml"),
        (&["suggest", "none"], "error: none is no run record: failed to read plan.json: "),
    ] {
        let (code, text) = code_and_words(&world, args);
        assert!(code == Some(2) && text.starts_with(words), "{args:?}: {code:?} {text}");
    }
    world.write("claude-bottle.test.yml", &CASES.replace("event.json", "gone.json"));
    let (code, text) = code_and_words(&world, &["test"]);
    let words = "error: claude-bottle.test.yml:9:20: cases[2].event.file: failed to read gone.json: No such file";
    assert!(code == Some(2) && text.starts_with(words), "{text}");
}

#[test]
fn cases_pass_or_end_with_1_and_are_junit() {
    let world = world();
    let (code, text) = code_and_words(&world, &["test", "--junit", "junit.xml"]);
    assert_eq!(
        (code, text.as_str()),
        (
            Some(0),
            "ok    documentation is read\nok    nothing is pushed to main\nok    event issues labeled by mona\n\
             3 cases, 0 of them differ; 2 of 3 rules are touched by a case\nno case touches \
             claude-bottle.yml:6:11: bottles.default.egress.routes[0] ({ host: api.anthropic.com, methods: [POST], paths: \
             [/v1/messages] })\n"
        )
    );
    let junit = std::fs::read_to_string(world.path("junit.xml")).expect("a report");
    assert!(junit.contains("tests=\"3\"") && junit.contains("failures=\"0\""), "{junit}");
    world.write("claude-bottle.test.yml", &CASES.replace("verdict: allow", "verdict: deny"));
    let (code, text) = code_and_words(&world, &["test", "claude-bottle.test.yml", "--junit", "junit.xml"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("FAIL  documentation is read\n      claude-bottle.test.yml:3:5: expected deny, and it is allow"),
        "{text}"
    );
    assert!(text.contains("error: 1 of 3 cases of claude-bottle.test.yml differ"), "{text}");
    let junit = std::fs::read_to_string(world.path("junit.xml")).expect("a report");
    assert!(junit.contains("failures=\"1\"") && junit.contains("expected deny"), "{junit}");
    // In `.github`, the manifest may stand above.
    world.write(".github/claude-bottle.test.yml", CASES.split("  - event").next().expect("the first cases"));
    let (code, text) = code_and_words(&world, &["test", ".github/claude-bottle.test.yml", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(code == Some(0) && value["cases"].as_array().is_some_and(|cases| cases.len() == 2), "{text}");
}

/// A line that is lost could be the one that says where a secret was found.
#[test]
fn a_record_that_can_t_be_read_whole_suggests_nothing() {
    let world = world();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records/v2");
    for file in ["plan.json", "egress.jsonl", "gate.jsonl"] {
        world.write(&format!("record/{file}"), &std::fs::read_to_string(dir.join(file)).expect("a file"));
    }
    assert_eq!(code_and_words(&world, &["suggest", "record"]).0, Some(0));
    let pushes = std::fs::read_to_string(dir.join("gate.jsonl")).expect("the gate's lines");
    world.write("record/gate.jsonl", &format!("{pushes}{}", &pushes[..40]));
    let (code, text) = code_and_words(&world, &["suggest", "record"]);
    let line = pushes.lines().count() + 1;
    assert!(
        code == Some(2) && text.starts_with(&format!("error: record: gate.jsonl, line {line}, can't be read: ")),
        "{text}"
    );
}

/// The records of earlier versions: what they were refused, and the manifest with it. `git apply` takes the output.
#[test]
fn a_suggestion_is_a_diff_that_git_takes() {
    let world = world();
    for record in ["v1", "v2"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records").join(record);
        let dir = dir.display().to_string();
        world.write("claude-bottle.yml", MANIFEST);
        let output = run(&world, &["suggest", &dir]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.contains("paths: [/api/claude_code/policy_limits, /api/claude_code/settings]"), "{text}");
        assert_eq!(std::fs::read_to_string(world.path("claude-bottle.yml")).expect("a manifest"), MANIFEST);
        let patch = world.write("change.patch", &text).display().to_string();
        let here = world.path("").display().to_string();
        sh(&["git", "-C", &here, "apply", &patch]);
        let (_, again) = code_and_words(&world, &["suggest", &dir]);
        assert!(again.contains("nothing is offered"), "{again}");
        let (code, text) = code_and_words(&world, &["suggest", &dir, "--only", "9"]);
        assert!(code == Some(2) && text.starts_with("error: there is no offer 9: there are 0"), "{text}");
    }
}

#[test]
fn a_change_of_the_manifest_is_told_in_sentences() {
    let world = world();
    let here = world.path("").display().to_string();
    sh(&["git", "-C", &here, "init", "-q"]);
    sh(&["git", "-C", &here, "add", "claude-bottle.yml"]);
    sh(&["git", "-C", &here, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "x"]);
    let same = code_and_words(&world, &["plan", "--diff", "HEAD"]);
    assert_eq!(same, (Some(0), "the manifest allows what it did\n".to_owned()));
    world.write("claude-bottle.yml", &MANIFEST.replace("methods: [POST]", "methods: [PUT]"));
    let (code, text) = code_and_words(&world, &["plan", "--diff", "HEAD"]);
    let told = "Newly allowed:\n- PUT of https://api.anthropic.com may be asked for: /v1/messages (bottles.default.egress.routes)\n\n\
                No longer allowed:\n- POST of https://api.anthropic.com may be asked for: /v1/messages \
                (bottles.default.egress.routes)\n";
    assert_eq!((code, text.as_str()), (Some(0), told));
    world.write("old.yml", MANIFEST);
    let (code, text) = code_and_words(&world, &["plan", "--diff", "old.yml", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(code == Some(0) && value[0]["direction"] == "allows" && value[1]["direction"] == "forbids", "{text}");
    for base in ["nowhere", "--help=x", "HEAD~7"] {
        let (code, text) = code_and_words(&world, &["plan", &format!("--diff={base}")]);
        let words = format!("error: `{base}` is neither a file nor a commit here");
        assert!(code == Some(2) && text.starts_with(&words), "{text}");
    }
}

#[test]
fn a_plan_and_an_answer_say_where_each_rule_stands() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = world();
    let policy = world.write("policy.yml", MANIFEST);
    std::fs::set_permissions(&policy, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    std::fs::set_permissions(world.path(""), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    world.write("claude-bottle.yml", "version: 1\nbottles:\n  default:\n    resources: { cpus: 1 }\n");
    let run = |args: &[&str]| {
        let mut runner = world.runner();
        runner.args(args).current_dir(world.path("")).env("PATH", "/usr/bin:/bin").env("BOTTLE_POLICY", &policy);
        said(&runner.output().expect("the runner"))
    };
    let shown = policy.display().to_string();
    let words = run(&["plan", "--task", "Tidy up"]);
    for line in [
        format!("{shown} (sha256 "),
        "claude-bottle.yml:4:24: bottles.default.resources.cpus 1".to_owned(),
        format!("{shown}:7:11: bottles.default.egress.routes[1] "),
        format!("{shown}:11:21: triggers.labels.claude `implementer`"),
    ] {
        assert!(words.contains(&line), "{line}: {words}");
    }
    let words = run(&["explain", "--url", "https://docs.example.org/a"]);
    assert!(words.contains(&format!("rule:   {shown}:7:11: bottles.default.egress.routes[1]")), "{words}");
    let words = run(&["test"]);
    assert!(words.contains("3 cases, 0 of them differ"), "{words}");
    // Every command that reads the manifest holds it against the policy.
    let wide = "version: 1\nbottles:\n  default:\n    resources: { cpus: 3 }\n";
    world.write("claude-bottle.yml", wide);
    let refused = "claude-bottle.yml:4:24: bottles.default.resources.cpus: 3.0 is more than 2.0";
    let plan = world.write("record/plan.json", "{\"slug\": \"x-1\", \"agent\": {\"name\": \"implementer\"}}");
    let record = plan.parent().expect("a directory").display().to_string();
    for args in [
        &["plan", "--task", "Tidy up"][..],
        &["run", "--task", "Tidy up", "--backend", "bubblewrap"],
        &["explain", "--url", "https://docs.example.org/a"],
        &["test"],
        &["plan", "--diff", "claude-bottle.yml"],
        &["suggest", &record],
    ] {
        let words = run(args);
        assert!(words.contains(refused), "{args:?}: {words}");
    }
}
