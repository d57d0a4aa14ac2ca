//! What the benchmarks' scripts make of figures: the cases of `benchmarks.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use bottle_testkit::python;
use serde::Deserialize;
use serde_json::json;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// None: there is no file.
    expected: Option<BTreeMap<String, u64>>,
    counted: BTreeMap<String, u64>,
    #[serde(default)]
    other: BTreeMap<String, String>,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default)]
    lines: Vec<String>,
    #[serde(default)]
    says: Vec<String>,
    code: i32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Curve {
    name: String,
    points: Vec<(u64, u64)>,
    exponent: String,
    /// What it is held against; without it n log n.
    #[serde(default)]
    bound: Option<String>,
    worse: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
    curve: Vec<Curve>,
}

fn cases() -> Cases {
    toml::from_str(include_str!("benchmarks.toml")).expect("cases")
}

/// Runs the script with its arguments; the exit code, and what it said on both outputs.
fn instructions(command: &str, dir: &Path, more: &[String]) -> (i32, String, String) {
    let output = python()
        .arg(format!("{ROOT}/scripts/bench.d/instructions.py"))
        .args([command.as_ref(), dir.join("expected.toml").as_os_str(), dir.join("counted.json").as_os_str()])
        .args(more)
        .output()
        .expect("python");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
}

/// What a program of Python says that imports the benchmarks' modules; it has `value` as its input.
fn said_by(program: &str, value: &serde_json::Value) -> String {
    let start = "import json, sys\nsys.path.insert(0, sys.argv[1])\nvalue = json.loads(sys.argv[2])\n";
    let output = python()
        .args(["-c", &format!("{start}{program}"), &format!("{ROOT}/scripts/bench.d"), &value.to_string()])
        .output()
        .expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn narrowed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn counts_are_held_against_those_written_down() {
    let toolchain = json!({
        "rustc": "1.95.0 (of a test)", "target": "x86_64-unknown-linux-musl", "profile": "dist", "features": "ssse3 avx2",
    });
    for case in cases().case {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, value: &serde_json::Value| {
            std::fs::write(dir.path().join(name), value.to_string()).expect("written");
        };
        // What is written down is written by the script itself.
        if let Some(expected) = &case.expected {
            write("counted.json", &json!({ "toolchain": toolchain, "counts": expected }));
            assert_eq!(instructions("update", dir.path(), &[]).0, 0, "{}", case.name);
        }
        let mut now = toolchain.clone();
        for (key, value) in &case.other {
            now[key] = json!(value);
        }
        write("counted.json", &json!({ "toolchain": now, "counts": case.counted }));
        let (code, table, said) = instructions("compare", dir.path(), &case.options);
        assert_eq!(code, case.code, "{}: {table}{said}", case.name);
        let lines: Vec<String> = table.lines().map(narrowed).collect();
        for line in &case.lines {
            assert!(lines.contains(line), "{}: {line}: {table}", case.name);
        }
        for words in &case.says {
            assert!(said.contains(words), "{}: {words}: {said}", case.name);
        }
        assert_eq!(said.is_empty(), code == 0 && case.says.is_empty(), "{}: {said}", case.name);
        let figures: serde_json::Value = serde_json::from_str(table.lines().last().expect("a line")).expect("JSON");
        assert_eq!(figures["comparable"], json!(!said.contains("not comparable")), "{}", case.name);
    }
}

#[test]
fn one_count_is_written_beside_the_others_of_its_toolchain_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |rustc: &str, counts: serde_json::Value| {
        let counted = json!({ "toolchain": { "rustc": rustc }, "counts": counts });
        std::fs::write(dir.path().join("counted.json"), counted.to_string()).expect("written");
    };
    write("one", json!({ "alpha": 1, "beta": 2 }));
    assert_eq!(instructions("update", dir.path(), &[]).0, 0);
    write("one", json!({ "beta": 3 }));
    assert_eq!(instructions("update", dir.path(), &["beta".to_owned()]).0, 0);
    let written = std::fs::read_to_string(dir.path().join("expected.toml")).expect("the file");
    assert!(written.ends_with("[toolchain]\nrustc = \"one\"\n\n[counts]\nalpha = 1\nbeta = 3\n"), "{written}");
    write("two", json!({ "beta": 4 }));
    let (code, _, said) = instructions("update", dir.path(), &["beta".to_owned()]);
    assert!(code == 1 && said.contains("beside counts of another toolchain"), "{said}");
    assert_eq!(written, std::fs::read_to_string(dir.path().join("expected.toml")).expect("the file"));
}

#[test]
fn a_curve_is_held_against_its_bound() {
    for curve in cases().curve {
        let bound = curve.bound.as_deref().unwrap_or("n log n");
        let said = said_by(
            "import growth\npoints, bound = value\none = growth.curve('x', points, growth.BY_INSTRUCTIONS, 'n', bound)\nprint(growth.told(one))",
            &json!([curve.points, bound]),
        );
        let verdict = if curve.worse { "WORSE" } else { "not worse" };
        assert!(said.ends_with(&format!(": n^{}, {verdict} than {bound}\n", curve.exponent)), "{}: {said}", curve.name);
    }
}

/// The lines of one benchmark, from its JSON to the table and the page.
#[test]
fn a_ratio_is_to_the_floor_or_to_the_best_peer() {
    let egress = |rate: f64, p99: f64| json!({ "rate": rate, "p99_ms": p99 });
    let figures = json!({
        "doors": egress(2000.0, 2.5), "floor": egress(4000.0, 1.0), "squid": egress(1600.0, 1.5), "mitmproxy": egress(80.0, 30.0),
        "renewed_us": 12.5, "signed_us": 40,
    });
    let program = "import all, page\nrows = [{'bench': 'egress', **one} for one in all.of_egress(value)]\n\
                   rows += [{'bench': '<b>', **all.row('x', 's', 3, peers={'one': 2, 'two': 1.5, 'none': None})}]\n\
                   rows += [{'bench': 'more', **all.row('y', 's', 3, peers={'one': 2, 'two': 1.5}, more_is_better=True)}]\n\
                   print('\\n'.join(page.table(rows, None)))\n\
                   import growth\ncurve = growth.curve('c', [[1, 10], [10, 100], [100, 9000]], growth.BY_INSTRUCTIONS, 'n', growth.N_LOG_N)\n\
                   curves = [curve, growth.curve('d', [[1, 10], [10, 10]], growth.BY_INSTRUCTIONS, 'n', growth.CONSTANT)]\n\
                   print(page.html(rows, None, {'apply': 'why'}, ['late'], curves, True))";
    let said = said_by(program, &figures);
    let (table, page) = said.split_once("<!doctype html>").expect("a page");
    let lines: Vec<String> = table.lines().map(narrowed).collect();
    for line in [
        "name unit floor ours peers ratio last release's",
        "egress: requests, 16 connections 1/s 4,000 2,000 squid 1,600, mitmproxy 80 0.50x -",
        "egress: p99, 16 connections ms 1 2.5 squid 1.5, mitmproxy 30 2.50x -",
        "egress: memory, 1,000 connections MB - - - - -",
        "egress: a renewed credential, over a static us - 12.5 - - -",
        "<b>: x s - 3 one 2, two 1.5 2.00x -",
        "more: y s - 3 one 2, two 1.5 1.50x -",
    ] {
        assert!(lines.iter().any(|own| own == line), "{line}: {table}");
    }
    assert!(
        page.contains("<td>&lt;b&gt;: x</td>")
            && page.contains("<svg ")
            && page.contains("worse than n log n</span>")
            && page.contains("not worse than a constant"),
        "{page}"
    );
    for outside in ["<script", "<link", "src=", "href=", "url(", "http:", "https:"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

/// Curves out of benchmarks' figures: those at hand are not measured again, and what is missing is said.
#[test]
fn curves_of_benchmarks_say_what_was_left_out() {
    let known = json!({
        "egress": { "connections": [{ "connections": 1, "request_us": 90, "held_mb": -0.1 }, { "connections": 10, "request_us": 60, "held_mb": 0.1 }],
            "not_measured": { "connections": "5000 connections" } },
        "gate": { "commits_s": 1 },
    });
    let history = json!([{ "objects": 10, "push_ms": 5.0 }, { "objects": 100, "push_ms": 5.5 }]);
    let program = "import growth\nknown, history = value\nasked, left_out = [], {}\n\
                   def run(name, arguments, seconds):\n\
                   \x20   asked.append([name, *arguments])\n\
                   \x20   return ({'history': history}, True, None) if name == 'gate' else (None, False, 'ended with 1, without figures')\n\
                   curves = list(growth.of_benches(True, float('inf'), known, run, left_out))\n\
                   print(json.dumps({'curves': [[c['name'], c['points'], c['bound']] for c in curves], 'asked': asked, 'left_out': left_out}))";
    let said: serde_json::Value = serde_json::from_str(&said_by(program, &json!([known, history]))).expect("JSON");
    assert_eq!(
        said,
        json!({
            "curves": [
                ["a request by the connections that are held", [[1, 90], [10, 60]], "a constant"],
                ["memory of held connections", [[1, 0.01], [10, 0.1]], "n log n"],
                ["a push of one commit by the objects of its history", [[10, 5.0], [100, 5.5]], "a constant"],
            ],
            "asked": [["gate", "history=10000"], ["proposals"]],
            "left_out": {
                "growth, a request by the connections that are held, in part": "5000 connections",
                "growth, memory of held connections, in part": "5000 connections",
                "growth, a push of one commit by the objects of its history, in part": "a history of 1,000,000 objects",
                "growth, one more proposal by those there are": "ended with 1, without figures",
                "growth, until all bottles are at their agents": "61 bottles take minutes",
                "growth, memory of a bottle by those beside it": "61 bottles take minutes",
            },
        })
    );
}
