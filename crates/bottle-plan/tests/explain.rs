//! Which rule decides, and where it stands; the cases of policy tests, and the messages of files with cases that are wrong.

#![expect(clippy::disallowed_methods, reason = "a test reads its fixtures")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bottle_plan::explain::{Explainer, Explanation, PushAsked, RequestAsked, Verdict};
use bottle_plan::facts::HostFacts;
use bottle_plan::manifest::ManifestSource;
use bottle_plan::name::Name;
use bottle_plan::policy_test::{PolicyTests, TestReport};
use bottle_policy::gate::RepoName;
use pretty_assertions::assert_eq;
use serde::Deserialize;

const MANIFEST: &str = include_str!("explain.yml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    agent: Option<String>,
    url: Option<String>,
    method: Option<String>,
    #[serde(default)]
    setup: bool,
    push: Option<String>,
    repo: Option<String>,
    #[serde(default)]
    paths: Vec<String>,
    event: Option<String>,
    kind: Option<String>,
    verdict: Verdict,
    reason: Option<String>,
    rule: Option<String>,
    why: Option<String>,
    change: Option<String>,
}

fn facts() -> HostFacts {
    HostFacts {
        seed: "0000".to_owned(),
        started_at: "1970-01-01T00:00:00Z".to_owned(),
        state_root: "/".to_owned(),
        ..HostFacts::default()
    }
}

fn explainer(text: &str, agent: Option<&str>) -> Explainer {
    let agent = agent.map(|name| Name::parse(name).expect("a name"));
    Explainer::new(&ManifestSource::new("explain.yml", text), agent, &facts()).unwrap_or_else(|error| panic!("{error}"))
}

fn payload(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/good/event").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn ask(case: &Case) -> Explanation {
    let explainer = explainer(MANIFEST, case.agent.as_deref());
    if let Some(url) = &case.url {
        let method = case.method.as_deref().unwrap_or("GET");
        return explainer.request(&RequestAsked::new(method, url).expect("a URL").in_setup(case.setup));
    }
    if let Some(push) = &case.push {
        let repo = case.repo.as_deref().map(|name| RepoName::parse(name).expect("a name"));
        let asked = PushAsked { repo, paths: case.paths.clone(), ..PushAsked::new(push) };
        return explainer.push(&asked).expect("rules");
    }
    let name = case.event.as_deref().expect("a case about something");
    // The fixtures are named for their events.
    let kind = case.kind.clone().unwrap_or_else(|| name.split('-').next().unwrap_or_default().to_owned());
    explainer.event(&payload(name), Some(&kind)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn each_question_has_its_answer() {
    #[derive(Deserialize)]
    struct Cases {
        case: Vec<Case>,
    }
    let cases: Cases = toml::from_str(include_str!("explain.toml")).expect("cases");
    let mut wrong = vec![];
    for case in &cases.case {
        let told = ask(case);
        let rule = told.rule.as_ref().map(|rule| match &rule.at {
            Some(at) => format!("{}:{}:{}", rule.path, at.line, at.column),
            None => rule.path.clone(),
        });
        let has = |lines: &[String], part: &Option<String>| {
            part.as_ref().is_none_or(|part| lines.iter().any(|line| line.contains(part.as_str())))
        };
        let fine = told.verdict == case.verdict
            && (case.reason.is_none() || told.reason == case.reason)
            && (case.rule.is_none() || rule == case.rule)
            && has(&told.why, &case.why)
            && has(&told.change, &case.change)
            && told.change.is_empty() == told.why.iter().any(|why| why.ends_with("has no setup"));
        if !fine {
            wrong.push(format!("{case:#?}\n{told:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const COMMITS: &str = r#"version: 1
bottles:
  default:
    git:
      - name: origin
        upstream: https://git.example.org/team/app.git
        token_from: GITHUB_TOKEN
        push:
          commits:
            authors: [run, "*@example.org"]
            message: conventional
            sign_off: true
            trailers: [run]
"#;

#[test]
fn a_push_is_refused_for_the_rule_that_its_commit_breaks() {
    let signed = "fix: x\n\nSigned-off-by: Claude (bottle) <claude@bottle.invalid>\n";
    for (message, author, rule) in [
        (None, None, None),
        (Some(signed), None, None),
        (None, Some("A <a@example.org>"), None),
        (Some("Some words"), None, Some("message")),
        (Some("fix: x"), None, Some("sign_off")),
        (None, Some("A <a@evil.test>"), Some("authors")),
        (None, Some("no address"), Some("authors")),
        (Some(signed), Some("A <a@example.org>"), Some("sign_off")),
    ] {
        let explainer = explainer(COMMITS, None);
        let (message, author) = (message.map(str::to_owned), author.map(str::to_owned));
        let told = explainer.push(&PushAsked { message, author, ..PushAsked::new("bottle/x") }).expect("rules");
        let key = told.rule.as_ref().map(|rule| rule.path.clone()).unwrap_or_default();
        let expected = rule.map_or("bottles.default.git[0].push.refs[0]".to_owned(), |rule| {
            format!("bottles.default.git[0].push.commits.{rule}")
        });
        assert_eq!((told.verdict == Verdict::Deny, key), (rule.is_some(), expected), "{told:#?}");
        assert_eq!(told.rule.is_some_and(|rule| rule.at.is_some()), rule.is_some());
    }
    let told = explainer(COMMITS, None).push(&PushAsked::new("bottle/x")).expect("rules");
    assert!(told.then.iter().any(|line| line.contains("a trailer `Run: ")), "{told:#?}");
    let written = explainer(COMMITS, None).written_rules();
    let written: Vec<&str> = written.iter().filter_map(|rule| rule.path.split("push.commits.").nth(1)).collect();
    assert_eq!(written, ["authors", "message", "sign_off"]);
}

/// The rule that an answer offers makes the request one that is allowed, and is no wider than the request.
#[test]
fn what_would_change_a_refusal_does() {
    let mut count = 0;
    for (method, url) in [
        ("PUT", "https://files.example.org/private"),
        ("GET", "http://docs.example.org/"),
        ("GET", "https://new.example.net:8443/a%5Bb%5D/c*d?e=f"),
        ("POST", "https://new.example.net/%E2%80%AEtxt"),
        ("GET", "wss://docs.example.org/feed"),
        ("GET", "https://docs.example.org/a//b"),
    ] {
        let asked = RequestAsked::new(method, url).expect("a URL");
        let told = explainer(MANIFEST, None).request(&asked);
        assert_eq!(told.verdict, Verdict::Deny, "{url}");
        let rule = told.change.iter().find_map(|line| line.strip_prefix("add to bottles.default.egress.routes: "));
        let line = "        - host: docs.example.org\n";
        let edited = MANIFEST.replace(line, &format!("{line}        {}\n", rule.expect("a rule")));
        let with = explainer(&edited, None);
        assert_eq!(with.request(&asked).verdict, Verdict::Allow, "{url}: {told:#?}");
        for (method, url) in [("DELETE", url.to_owned()), (method, format!("{}x", url.split('?').next().expect("one")))]
        {
            let wider = RequestAsked::new(method, &url).expect("a URL");
            let before = explainer(MANIFEST, None).request(&wider).verdict;
            assert_eq!(with.request(&wider).verdict, before, "{method} {url}: {told:#?}");
        }
        count += 1;
    }
    assert_eq!(count, 6);
}

#[test]
fn a_label_that_would_start_a_run_does() {
    let told =
        explainer(MANIFEST, None).event(&payload("issues-labeled-otherwise.json"), Some("issues")).expect("issues");
    let rule = told.change[0].strip_prefix("add to triggers.labels: ").expect("a label");
    let edited = MANIFEST.replace("labels: { ", &format!("labels: {{ {rule}, "));
    let with = explainer(&edited, None).event(&payload("issues-labeled-otherwise.json"), Some("issues"));
    assert_eq!(with.expect("issues").verdict, Verdict::Start);
}

const TESTS: &str = r#"version: 1
cases:
  - name: documentation may be read
    request: { url: "https://docs.example.org/a" }
    verdict: allow
    rule: egress.routes[1]
  - request: { url: "https://docs.example.org/a", method: POST }
    verdict: deny
  - push: { ref: bottle/x, paths: [deploy/a] }
    verdict: hold
    rule: bottles.default.git[0].push.hold.paths[0]
  - event: { file: issues-labeled.json, name: issues }
    verdict: start
    rule: triggers.labels.claude
  - agent: opener
    request: { url: "https://a.example.net/", method: PUT }
    verdict: allow
"#;

fn run(text: &str) -> TestReport {
    let tests = PolicyTests::parse(text, "cases.yml").unwrap_or_else(|error| panic!("{error}"));
    let payloads = BTreeMap::from([("issues-labeled.json".to_owned(), payload("issues-labeled.json"))]);
    tests
        .run(&ManifestSource::new("explain.yml", MANIFEST), &facts(), &payloads)
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn cases_pass_and_the_rest_of_the_rules_is_named() {
    let report = run(TESTS);
    let failures: Vec<_> = report.cases.iter().filter_map(|case| case.failure.as_ref()).collect();
    assert_eq!((report.failed(), failures), (0, vec![]));
    assert_eq!(report.cases[0].at, Some((3, 5)));
    let untouched: Vec<&str> = report.untouched.iter().map(|rule| rule.path.as_str()).collect();
    assert_eq!(
        untouched,
        [
            "bottles.default.egress.routes[0]",
            "bottles.default.egress.routes[2]",
            "bottles.default.egress.routes[3]",
            "bottles.default.egress.routes[4]",
            "bottles.default.egress.routes[5]",
            "bottles.default.egress.routes[6]",
            "bottles.default.pipelock.passthrough[0]",
            "bottles.default.setup.egress.routes[0]",
            "bottles.default.git[0].push.refs[1]",
            "bottles.default.git[0].push.protect_paths[0]",
            "bottles.open.pipelock.api_allowlist[1]",
            "bottles.reading.forge",
            "agents.caller.mcp.notes",
            "triggers.mention",
            "triggers.labels.other",
            "triggers.assignees.claude-bot",
            "triggers.who.bots[0]",
        ]
    );
    assert_eq!(report.rules, untouched.len() + 5);
}

#[test]
fn a_case_that_differs_says_how() {
    let text = TESTS
        .replace("    verdict: hold\n", "    verdict: allow\n")
        .replace("egress.routes[1]", "routes[0]")
        .replace("agent: opener", "agent: nobody");
    let failures: Vec<_> = run(&text).cases.into_iter().filter_map(|case| case.failure).collect();
    assert_eq!(
        failures,
        [
            "expected routes[0] to decide, and explain.yml:8:11: bottles.default.egress.routes[1] does: it is the first \
             route that allows the request",
            "expected allow, and it is hold by explain.yml:27:27: bottles.default.git[0].push.hold.paths[0]: a push that \
             touches deploy/a waits for a person",
            "no agent `nobody` in the manifest",
        ]
    );
}

#[test]
fn files_with_cases_that_are_wrong_get_their_messages() {
    let one = |case: &str| format!("version: 1\ncases:\n  - {case}\n");
    for (text, message) in [
        ("version: 2\ncases: []\n".to_owned(), "cases.yml:1:10: version: version 2 is not known"),
        ("version: 1\ncases: []\n".to_owned(), "cases.yml:2:8: cases: there is no case"),
        ("version: 1\n".to_owned(), "cases.yml:1:1: the key `cases` is missing"),
        (one("{ verdict: allow }"), "cases.yml:3:5: cases[0]: a case is about one thing"),
        (
            one("{ request: { url: \"https://a.example\" }, push: { ref: x }, verdict: allow }"),
            "cases.yml:3:5: cases[0]: a case is about one thing",
        ),
        (
            one("{ request: { url: \"https://a.example\" }, verdict: hold }"),
            "cases.yml:3:55: cases[0].verdict: `hold` is no verdict about a request",
        ),
        (
            one("{ request: { url: \"https://a.example\" }, verdict: maybe }"),
            "cases.yml:3:55: cases[0].verdict: unknown value `maybe`",
        ),
        (
            one("{ request: { url: a.example }, verdict: deny }"),
            "cases.yml:3:23: cases[0].request.url: `a.example` is no URL that a door takes: it begins with https://, \
             http://, wss:// or ws://",
        ),
        (
            one("{ request: { url: \"https://a.example\", method: \"G T\" }, verdict: deny }"),
            "cases.yml:3:52: cases[0].request.method: not a method",
        ),
        (
            one("{ request: { urls: x }, verdict: deny }"),
            "cases.yml:3:18: unknown key `urls` in cases[0].request; did you mean `url`?",
        ),
        (one("{ push: { ref: \"\" }, verdict: deny }"), "cases.yml:3:20: cases[0].push.ref: no ref is named"),
        (
            one("{ event: { file: ../x.json }, verdict: start }"),
            "cases.yml:3:22: cases[0].event.file: `../x.json` is not a path below this file's directory",
        ),
        (
            one("{ event: { file: /etc/passwd }, verdict: start }"),
            "cases.yml:3:22: cases[0].event.file: `/etc/passwd` is not a path below this file's directory",
        ),
        (one("{ verdict: deny, agent: \"a b\" }"), "cases.yml:3:29: cases[0].agent: `a b` is not a name"),
    ] {
        let error = PolicyTests::parse(&text, "cases.yml").expect_err(&text).to_string();
        assert!(error.starts_with(message), "{text}\n{error}");
    }
}
