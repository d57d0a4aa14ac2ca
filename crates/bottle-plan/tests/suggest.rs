//! What is offered for the refusals of runs, what never is, and that the offers make the manifest that a person would write.

use std::collections::{BTreeMap, BTreeSet};

use bottle_plan::facts::HostFacts;
use bottle_plan::manifest;
use bottle_plan::manifest::ManifestSource;
use bottle_plan::name::Name;
use bottle_plan::prose::invisible;
use bottle_plan::registry::{self, Preset};
use bottle_plan::suggest::{RunRefusals, suggest};
use bottle_wire::access::Access;
use bottle_wire::push_report::PushedRef;
use pretty_assertions::assert_eq;
use serde::Deserialize;
use serde_json::json;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    manifest: String,
    #[serde(default)]
    requests: Vec<String>,
    /// So many of the requests, from the first, came while the setup ran.
    #[serde(default)]
    in_setup: usize,
    #[serde(default)]
    pushes: Vec<String>,
    offers: Vec<String>,
    #[serde(default)]
    by_hand: Vec<usize>,
    #[serde(default)]
    withheld: Vec<String>,
    with: Option<String>,
}

fn cases() -> Vec<Case> {
    #[derive(Deserialize)]
    struct Cases {
        case: Vec<Case>,
    }
    let suffix = "0f1e2d3c4b5a6978";
    let secret = ["acme", suffix].join("_");
    let text = include_str!("suggest.toml").replace("SECRET", &secret).replace("SUFFIX", suffix);
    toml::from_str::<Cases>(&text).expect("cases").case
}

fn source(text: &str) -> ManifestSource {
    ManifestSource::new("m.yml", text)
}

fn facts() -> HostFacts {
    let npm = registry::npm(r#"{"registry": "https://registry.npm.example/"}"#, "", None);
    HostFacts {
        seed: "0000".to_owned(),
        started_at: "1970-01-01T00:00:00Z".to_owned(),
        state_root: "/".to_owned(),
        registries: BTreeMap::from([(Preset::Npm, npm)]),
        ..HostFacts::default()
    }
}

fn id(index: usize) -> String {
    format!("{index:016}")
}

fn access(index: usize, line: &str) -> Vec<Access> {
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    let [method, host, port, path, reason, rest @ ..] = &words[..] else { panic!("{line}") };
    let verdict = if matches!(*reason, "dlp" | "answer" | "too_large" | "address") { "block" } else { "deny" };
    let port: u16 = port.parse().expect("a port");
    let mut one = json!({
        "time": "2026-11-28T14:12:32.825Z", "id": id(index), "door": "egress", "method": method, "host": host,
        "port": port, "path": path, "verdict": verdict, "reason": reason, "status": 403, "bytes_out": 0, "bytes_in": 0, "ms": 0,
    });
    let mut lines = vec![one.clone()];
    if let [rule] = rest {
        // pipelock knows what was found, egress only that it was.
        one["door"] = "pipelock".into();
        one["finding"] = json!({ "rule": rule, "at": "body", "offset": 7 });
        lines.push(one);
    }
    lines.into_iter().map(|line| serde_json::from_value(line).expect("a line of a door")).collect()
}

fn push(line: &str) -> PushedRef {
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    let [name, verdict, rest @ ..] = &words[..] else { panic!("{line}") };
    let findings: Vec<_> = rest.iter().map(|rule| json!({ "rule": rule, "path": "a.txt", "line": 1 })).collect();
    let ms = json!({ "judge": 0, "scan": 0, "forward": 0, "total": 0 });
    serde_json::from_value(json!({
        "time": "2026-11-28T14:12:44Z", "repo": "origin", "ref": name, "old": "0".repeat(40), "new": "1".repeat(40), "commits": 1,
        "objects": 1, "bytes": 1, "findings": findings, "verdict": verdict, "reasons": [], "ms": ms,
    }))
    .expect("a line of the gate")
}

fn record(case: &Case) -> RunRefusals {
    RunRefusals {
        run: "a-run".to_owned(),
        agent: Name::parse("default").expect("a name"),
        requests: case.requests.iter().enumerate().flat_map(|(index, line)| access(index, line)).collect(),
        pushes: case.pushes.iter().map(|line| push(line)).collect(),
        in_setup: (0..case.in_setup).map(id).collect(),
    }
}

#[test]
fn offers_are_what_a_person_would_write() {
    for case in cases() {
        let records = [record(&case)];
        let told = suggest(&source(&case.manifest), &records, &facts()).unwrap_or_else(|error| panic!("{error}"));
        let mut rules: Vec<&str> = told.offers.iter().map(|offer| offer.rule.as_str()).collect();
        let mut wanted: Vec<&str> = case.offers.iter().map(String::as_str).collect();
        rules.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(rules, wanted, "{}: {told:#?}", case.name);
        let withheld: Vec<String> = told.withheld.iter().map(|one| format!("{}: {}", one.what, one.why)).collect();
        for part in &case.withheld {
            assert!(withheld.iter().any(|line| line.contains(part.as_str())), "{}: {part}\n{withheld:#?}", case.name);
        }
        // Nothing that is said acts on a terminal, and none of it has the secret.
        let said = withheld.join("\n");
        assert!(!said.chars().any(|c| c != '\n' && invisible(c)), "{}: {said:?}", case.name);
        assert!(!said.contains("0f1e2d3c4b5a6978"), "{}: {said}", case.name);
        let all: BTreeSet<usize> = (0..told.offers.len()).collect();
        let edited = told.edit(&case.manifest, &all);
        assert_eq!(edited.by_hand, case.by_hand, "{}", case.name);
        let Some(with) = &case.with else {
            assert_eq!(edited.text, case.manifest, "{}", case.name);
            continue;
        };
        let parsed = |text: &str| manifest::parse(text, "m.yml").unwrap_or_else(|error| panic!("{error}\n{text}"));
        let routes = |text: &str| {
            let mut manifest = parsed(text);
            // Between routes that have no request in common, the order says nothing.
            let key = |route: &bottle_policy::route::Route| format!("{} {:?}", route.host, route.methods);
            manifest.bottles.values_mut().for_each(|bottle| bottle.egress.routes.sort_by_key(key));
            manifest
        };
        assert_eq!(routes(&edited.text), routes(with), "{}:\n{}", case.name, edited.text);
        // What stood there stands there still.
        let kept = |line: &&str| line.trim_start().starts_with('#');
        assert_eq!(edited.text.lines().filter(kept).count(), case.manifest.lines().filter(kept).count());
        // A second look finds nothing more to offer.
        let again = suggest(&source(&edited.text), &records, &facts()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.offers, [], "{}:\n{}", case.name, edited.text);
    }
}

/// Each offer by itself is a change, and is no part of another.
#[test]
fn one_offer_can_be_picked() {
    let case = cases().into_iter().find(|case| case.offers.len() == 3).expect("a case with three offers");
    let told = suggest(&source(&case.manifest), &[record(&case)], &facts()).unwrap_or_else(|error| panic!("{error}"));
    for index in 0..told.offers.len() {
        let edited = told.edit(&case.manifest, &BTreeSet::from([index]));
        let added = manifest::parse(&edited.text, "m.yml").expect("a manifest").bottles;
        let routes: usize = added.values().map(|bottle| bottle.egress.routes.len()).sum();
        assert_eq!(routes, 1, "{}", edited.text);
    }
    assert_eq!(told.edit(&case.manifest, &BTreeSet::new()).text, case.manifest);
}

/// A run that found a secret at a place takes the offer away that another run's record would bring.
#[test]
fn a_secret_in_one_record_counts_in_all() {
    let with = |requests: &[&str]| Case {
        name: String::new(),
        manifest: "version: 1\nbottles:\n  default:\n    egress:\n      routes: [{ host: docs.example.org }]\n"
            .to_owned(),
        requests: requests.iter().map(|&line| line.to_owned()).collect(),
        pushes: vec![],
        in_setup: 0,
        offers: vec![],
        by_hand: vec![],
        withheld: vec![],
        with: None,
    };
    let (refused, found) =
        (with(&["POST a.example.org 443 /x no_route"]), with(&["POST a.example.org 443 /x dlp npm-access-token"]));
    let offers = |records: &[RunRefusals]| {
        suggest(&source(&refused.manifest), records, &facts()).unwrap_or_else(|error| panic!("{error}")).offers.len()
    };
    assert_eq!(offers(&[record(&refused)]), 1);
    assert_eq!(offers(&[record(&refused), record(&found)]), 0);
    assert_eq!(offers(&[record(&found), record(&refused)]), 0);
}
