//! What is found in a file is what gitleaks finds in it by itself, wherever among others it stands and wherever it is cut.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::world::{World, aws_key, random_hex, said};

/// A finding's path, and its line.
type Place = (String, u64);

#[derive(Debug, Deserialize)]
struct Reported {
    #[serde(rename = "File")]
    file: String,
    #[serde(rename = "StartLine")]
    line: u64,
}

/// Texts at whose ends a pattern is open, texts that close one, words that make gitleaks try a rule, and real findings.
fn corpus() -> Vec<String> {
    let open = "API_KEY=|password:|password: |secret = \"|token=>|export AUTH_TOKEN=\n|client_secret: '|aws_secret_access_key =|\
                {\"api_key\":\"|x-api-key:\n\n|Authorization: Basic |curl -u user:|-----BEGIN RSA PRIVATE KEY-----\nMIIE|\
                kind: Secret\ndata:\n|kind: Secret\ndata:\n  a:|sourcegraph|SG.|https://user:|key = =|passwd,";
    let close = format!(
        "gate|{}|-----END RSA PRIVATE KEY-----|  value: {}|\"{}\"|{}==|@example.org|canary",
        random_hex(40),
        random_hex(32),
        random_hex(32),
        random_hex(40)
    );
    let real = format!(
        "a\nb = {}\nc|api_key = \"{}\"\n|x\ny\nsecret_token: {}|kind: Secret\ndata:\n  a: {}\n",
        aws_key(),
        random_hex(40),
        random_hex(40),
        random_hex(40)
    );
    [open, &close, &real].iter().flat_map(|texts| texts.split('|')).map(str::to_owned).collect()
}

/// What gitleaks finds in each file of a directory by itself.
fn by_itself(world: &World, dir: &Path) -> BTreeSet<Place> {
    let report = world.path("by-itself.json");
    let command = format!(
        "gitleaks dir --no-banner --log-level=error --ignore-gitleaks-allow --max-decode-depth=8 --exit-code=0 \
         --report-format=json --report-path={} corpus",
        report.display()
    );
    world.ok(dir, &command);
    let reported: Vec<Reported> = serde_json::from_slice(&fs::read(report).expect("a report")).expect("JSON");
    reported.into_iter().map(|one| (one.file, one.line)).collect()
}

/// What the gate finds in the same files, pushed as one commit.
fn at_the_gate(world: &World, dir: &Path, branch: &str) -> BTreeSet<Place> {
    let before = world.record().len();
    let push = format!("git add .; git commit -qm x; git push -q origin HEAD:refs/heads/bottle/{branch}");
    let output = world.sh(dir, &push, &[]);
    let record = world.record();
    assert_eq!(record.len(), before + 1, "{}", said(&output));
    let plain = |path: &str| path.split(" (").next().unwrap_or(path).to_owned();
    record[before].findings.iter().map(|one| (plain(&one.path), one.line.unwrap_or_default())).collect()
}

#[test]
fn a_file_has_the_same_findings_first_last_alone_and_at_a_cut() {
    let world = World::new();
    let corpus = corpus();
    let check = |name: &str, files: Vec<(String, String)>| {
        let clone = world.clone_origin();
        fs::create_dir(clone.join("corpus")).expect("a directory");
        for (name, text) in files {
            fs::write(clone.join("corpus").join(name), text).expect("written");
        }
        let expected = by_itself(&world, &clone);
        let found = at_the_gate(&world, &clone, name);
        assert_eq!(found, expected, "{name}");
        expected.len()
    };
    let named = |from_the_end: bool| {
        let count = corpus.len();
        let number = move |index: usize| if from_the_end { count - index } else { index };
        corpus.iter().enumerate().map(|(index, text)| (format!("{:03}", number(index)), text.clone())).collect()
    };
    assert!(check("first", named(false)) >= 2, "the real ones are found");
    check("last", named(true));
    for (index, text) in corpus.iter().enumerate().step_by(9) {
        check(&format!("alone-{index}"), vec![("0".to_owned(), text.clone())]);
    }
    // The gate cuts behind 90,000 bytes, gitleaks behind 100,000.
    let words = "some words of no meaning\n";
    let cut = |text: &String, inside: usize| {
        let filler = 90_000 - inside.min(text.len());
        let lines = words.repeat(filler / words.len() - 1);
        format!("{lines}{}\n{text}\n{}", "-".repeat(filler - lines.len() - 1), words.repeat(20))
    };
    for inside in [0, 1, 7, 20, 45] {
        let files = corpus.iter().enumerate().map(|(index, text)| (format!("{index:03}"), cut(text, inside)));
        check(&format!("cut-{inside}"), files.collect());
    }
}
