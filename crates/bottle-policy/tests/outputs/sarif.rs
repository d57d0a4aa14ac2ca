//! The SARIF that findings become, held against those parts of the published schema that it has (`sarif-schema.json`).

use bottle_policy::outputs::{CodeFinding, FindingLevel, sarif};
use jsonschema::Draft;
use serde_json::{Value, json};

fn finding(rule: &str, path: &str, line: u64) -> CodeFinding {
    CodeFinding {
        rule: rule.to_owned(),
        level: FindingLevel::Error,
        message: "Wrong.".to_owned(),
        path: path.to_owned(),
        line,
        last_line: None,
    }
}

fn findings() -> [CodeFinding; 3] {
    [
        finding("b/x", "src/ü b#1%.rs", 3),
        CodeFinding { last_line: Some(9), level: FindingLevel::Note, ..finding("a", "src/a.rs", 7) },
        finding("b/x", "src/ü b#1%.rs", 40),
    ]
}

#[test]
fn findings_become_sarif_as_it_is_published() {
    let schema: Value = serde_json::from_str(include_str!("sarif-schema.json")).expect("a schema");
    // It says draft 4, which does not have the format of its addresses.
    let options = jsonschema::options().with_draft(Draft::Draft7).should_validate_formats(true);
    let published = options.build(&schema).expect("a schema");
    let faults = |sarif: &Value| published.iter_errors(sarif).map(|error| error.to_string()).collect::<Vec<_>>();
    for findings in [&findings()[..], &[]] {
        let built = sarif("reviewer", "0.1.0", findings);
        assert_eq!(faults(&built), Vec::<String>::new(), "{built:#}");
    }
    // The schema does judge: each of these is wrong in one place.
    for (at, value) in [
        ("/version", json!("2.2.0")),
        ("/runs/0/tool/driver/name", json!(1)),
        ("/runs/0/results/0/level", json!("fatal")),
        ("/runs/0/results/0/locations/0/physicalLocation/region/startLine", json!(0)),
        ("/runs/0/results/0/locations/0/physicalLocation/artifactLocation/uri", json!("src/ b.rs")),
        ("/runs/0/results/0/message", json!({"markdown": "x"})),
        ("/runs/0/tool/driver/rules/0", json!({"id": "a", "helpUri": "https://a.example"})),
    ] {
        let mut built = sarif("reviewer", "0.1.0", &findings());
        *built.pointer_mut(at).expect(at) = value;
        assert!(!faults(&built).is_empty(), "{at}");
    }
}

#[test]
fn the_next_report_of_an_agent_has_the_same_alerts() {
    let built = sarif("reviewer", "0.1.0", &findings());
    let run = &built["runs"][0];
    assert_eq!(run["automationDetails"]["id"], "claude-bottle/reviewer/");
    let rules: Vec<&Value> =
        run["tool"]["driver"]["rules"].as_array().expect("rules").iter().map(|one| &one["id"]).collect();
    assert_eq!(rules, ["b/x", "a"]);
    let results = run["results"].as_array().expect("results");
    let at = |index: usize| &results[index]["locations"][0]["physicalLocation"];
    assert_eq!(at(0)["artifactLocation"]["uri"], "src/%C3%BC%20b%231%25.rs");
    assert_eq!(at(1)["region"], json!({"startLine": 7, "endLine": 9}));
    assert_eq!((&results[2]["ruleIndex"], &results[1]["level"]), (&json!(0), &json!("note")));
    // The second of a rule in a file is another alert than the first, and both are the same ones in the next commit.
    let prints: Vec<&Value> =
        results.iter().map(|one| &one["partialFingerprints"]["primaryLocationLineHash"]).collect();
    assert!(prints[0] != prints[2] && prints[0] != prints[1], "{prints:?}");
    let moved = sarif("reviewer", "0.1.0", &[finding("b/x", "src/ü b#1%.rs", 5)]);
    assert_eq!(&moved["runs"][0]["results"][0]["partialFingerprints"]["primaryLocationLineHash"], prints[0]);
}
