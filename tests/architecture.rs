//! The floors of `src`: a room uses rooms of lower floors alone, and rooms of one floor in no circle.
//!
//! A room is a file or a directory directly in `src`. Its arrows are the paths that begin with `crate::`, and those by which
//! `super::` climbs as far, in code and in tests; comments are left out.

#![expect(clippy::disallowed_methods, reason = "a test asks the compiler")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The floors from the top down. A new room gets its place here.
const FLOORS: [&[&str]; 12] = [
    &["main", "lib"],
    &["cli"],
    &["run"],
    &["agent", "approve"],
    &["provision", "thread"],
    &["backend", "permission"],
    &["exchange", "forge", "report"],
    &["cache", "state"],
    &["secrets"],
    &["host"],
    &["cancel", "survey"],
    &["exit", "process", "workflow_commands"],
];

/// A use of one room by another.
#[derive(Debug)]
struct Arrow {
    from: String,
    to: String,
    /// File and line.
    at: String,
}

/// Every breach of the floors in these files, each with its file and line; paths are relative to `src`.
fn breaches(files: &[(String, String)]) -> Vec<String> {
    let mut breaches = vec![];
    let mut sideways = vec![];
    for (path, text) in files {
        let from = room(path);
        let Some(above) = floor(&from) else {
            breaches.push(format!("src/{path}: the room `{from}` has no floor; give it one in FLOORS"));
            continue;
        };
        for (line, to) in uses(path, text) {
            let arrow = Arrow { from: from.clone(), to, at: format!("src/{path}:{line}") };
            match floor(&arrow.to) {
                _ if arrow.to == arrow.from => {}
                // A name of the crate's root: the macros and `main`.
                None => breaches.push(format!("{}: `crate::{}` is no room of FLOORS", arrow.at, arrow.to)),
                Some(below) if below < above => {
                    breaches.push(format!("{}: `{}` uses `{}`, which is above it", arrow.at, arrow.from, arrow.to));
                }
                Some(below) if below == above => sideways.push(arrow),
                Some(_) => {}
            }
        }
    }
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for arrow in &sideways {
        graph.entry(&arrow.from).or_default().insert(&arrow.to);
    }
    for arrow in sideways.iter().filter(|arrow| reaches(&graph, &arrow.to, &arrow.from)) {
        breaches.push(format!("{}: `{}` and `{}` use each other", arrow.at, arrow.from, arrow.to));
    }
    breaches
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// The room of a file: the first part of its path.
fn room(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

fn reaches(graph: &BTreeMap<&str, BTreeSet<&str>>, from: &str, to: &str) -> bool {
    let (mut seen, mut next) = (BTreeSet::from([from]), vec![from]);
    while let Some(room) = next.pop() {
        if room == to {
            return true;
        }
        next.extend(graph.get(room).into_iter().flatten().copied().filter(|room| seen.insert(room)));
    }
    false
}

/// The rooms that a file names, each with its line.
fn uses(path: &str, text: &str) -> Vec<(usize, String)> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let depth = path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').count();
    let joined = code.join("\n");
    let mut found = vec![];
    let mut inline = 0;
    for (line, start, end) in lines(&joined) {
        let code = &joined[start..end];
        // By rustfmt an inline module begins and ends without indentation.
        if is_inline_module(code) {
            inline = 1;
        } else if code.starts_with('}') {
            inline = 0;
        }
        for prefix in ["crate::".to_owned(), "super::".repeat(depth + inline)] {
            for (at, _) in code.match_indices(prefix.as_str()) {
                let before = code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                    continue;
                }
                let rest = &joined[start + at + prefix.len()..];
                found.extend(first_names(rest).into_iter().map(|name| (line, name)));
            }
        }
    }
    found
}

/// Each line's number, and where it begins and ends.
fn lines(text: &str) -> Vec<(usize, usize, usize)> {
    let mut start = 0;
    let spans = text.split('\n').enumerate().map(|(at, line)| {
        let begin = start;
        start += line.len() + 1;
        (at + 1, begin, begin + line.len())
    });
    spans.collect()
}

fn is_inline_module(line: &str) -> bool {
    line.starts_with("mod ") && line.trim_end().ends_with('{')
}

/// The first name of each path that begins here: one, or those of a group in braces.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = rest.strip_prefix('{') else {
        let name = name(rest);
        return if name.is_empty() || name == "super" { vec![] } else { vec![name] };
    };
    let (mut depth, mut names, mut begins) = (0, vec![], true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && depth == 0 && !c.is_whitespace() => {
                names.push(name(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn read(dir: &Path, root: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).expect("a directory of src") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(&path, root, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let name = path.strip_prefix(root).expect("below src").to_str().expect("UTF-8").to_owned();
            files.push((name, fs::read_to_string(&path).expect("a source file")));
        }
    }
}

fn src() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    read(&root, &root, &mut files);
    files.sort();
    files
}

#[test]
fn no_arrow_of_src_runs_up_or_in_a_circle() {
    let breaches = breaches(&src());
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_room_of_the_floors_is_there() {
    let rooms: BTreeSet<String> = src().iter().map(|(path, _)| room(path)).collect();
    let listed: BTreeSet<String> =
        FLOORS.iter().flat_map(|floor| floor.iter().map(|room| (*room).to_owned())).collect();
    assert_eq!(rooms, listed);
}

/// `src` with a line added to the end of a file.
fn with(path: &str, line: &str) -> (Vec<(String, String)>, String) {
    let mut files = src();
    let (_, text) = files.iter_mut().find(|(name, _)| name == path).expect("a file of src");
    let at = format!("src/{path}:{}", text.lines().count() + 1);
    text.push_str(line);
    text.push('\n');
    (files, at)
}

#[test]
fn an_upward_arrow_is_found_with_its_file_and_line() {
    let cases = [
        ("report/card.rs", "use crate::cli::Context;"),
        ("report/card.rs", "use crate::{exit::Code, cli::{Context, print}};"),
        ("backend/mod.rs", "use super::run::run;"),
        ("backend/docker/exec.rs", "use super::super::super::run::run;"),
        ("state/check.rs", "fn up() { crate::backend::best(); }"),
        ("exit.rs", "mod tests {\n    use super::super::cli;\n}"),
        ("process.rs", "pub(crate) use crate::backend::Tree;"),
    ];
    for (path, line) in cases {
        let (files, at) = with(path, line);
        let found = breaches(&files);
        let at = if line.starts_with("mod ") { at.replace(&line_of(&at), &next(&at)) } else { at };
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("{at}: ")) && found[0].contains("above"),
            "{line}: {found:?}"
        );
    }
}

fn line_of(at: &str) -> String {
    at.rsplit_once(':').expect("a line").1.to_owned()
}

fn next(at: &str) -> String {
    (line_of(at).parse::<usize>().expect("a number") + 1).to_string()
}

#[test]
fn a_circle_of_one_floor_is_found_and_an_arrow_is_not() {
    let (files, _) = with("process.rs", "use crate::exit::Code;");
    assert_eq!(breaches(&files), Vec::<String>::new());
    let (mut files, at) = with("process.rs", "use crate::exit::Code;");
    let (_, exit) = files.iter_mut().find(|(name, _)| name == "exit.rs").expect("exit.rs");
    let line = exit.lines().count() + 1;
    exit.push_str("use crate::process::Program;\n");
    let found = breaches(&files);
    assert_eq!(
        found,
        [
            format!("src/exit.rs:{line}: `exit` and `process` use each other"),
            format!("{at}: `process` and `exit` use each other"),
        ]
    );
}

#[test]
fn a_room_without_a_floor_is_found() {
    let mut files = src();
    files.push(("attic.rs".to_owned(), "use crate::exit::Code;\n".to_owned()));
    assert_eq!(breaches(&files), ["src/attic.rs: the room `attic` has no floor; give it one in FLOORS"]);
}

#[test]
fn what_is_said_in_a_comment_or_stays_in_the_room_is_no_arrow() {
    let (files, _) = with("exit.rs", "// use crate::cli::Context;\nmod tests {\n    use super::Code;\n}");
    assert_eq!(breaches(&files), Vec::<String>::new());
}

/// The files that contain a text outside of comments.
fn files_with(text: &str) -> Vec<String> {
    let has = |code: &str| code.lines().any(|line| line.split("//").next().unwrap_or_default().contains(text));
    src().into_iter().filter(|(_, code)| has(code)).map(|(path, _)| path).collect()
}

#[test]
fn one_phase_alone_starts_the_agent_and_one_publishes() {
    assert_eq!(files_with("AgentSession::new("), ["run/worked.rs"]);
    assert_eq!(files_with("session.begin("), ["run/worked.rs"]);
    assert_eq!(files_with("session.go_on("), ["run/worked.rs"]);
    assert_eq!(files_with("thread::{PublishResult, hand_in, publish,"), ["run/published.rs"]);
    assert!(files_with("thread::publish(").is_empty() && files_with("thread::hand_in(").is_empty());
}

/// The texts in backticks of a page, each with its line.
fn quoted(page: &str) -> Vec<(usize, &str)> {
    let lines = page.lines().enumerate();
    lines.flat_map(|(at, line)| line.split('`').skip(1).step_by(2).map(move |text| (at + 1, text))).collect()
}

/// Tells whether a file has a name: a file of Rust defines it, and does not only use it.
fn has_name(path: &Path, name: &str) -> bool {
    let text = fs::read_to_string(path).expect("a file");
    if path.extension().is_none_or(|extension| extension != "rs") {
        return text.contains(name);
    }
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let defines = ["struct", "enum", "trait", "fn", "type", "const", "static"];
    words.windows(2).any(|pair| defines.contains(&pair[0]) && pair[1] == name)
        || text.contains(&format!("macro_rules! {name}"))
}

/// Every place that a page names and that is not there: a path, or a name that its file does not have. A name belongs to a path that
/// stands directly before it.
fn misplaced(page: &str, root: &Path) -> Vec<String> {
    const TOP: [&str; 5] = ["src/", "crates/", "tests/", "docs/", "scripts/"];
    let is_path = |text: &str| TOP.iter().any(|top| text.starts_with(top)) && !text.contains([' ', '*']);
    let (mut wrong, mut before) = (vec![], None);
    for (line, text) in quoted(page) {
        if is_path(text) {
            if !root.join(text).exists() {
                wrong.push(format!("line {line}: `{text}` is not there"));
            }
            before = Some((line, text));
            continue;
        }
        let file = before.take().filter(|(at, path)| *at == line && root.join(path).is_file());
        let is_name = text.chars().all(|c| c.is_alphanumeric() || c == '_');
        if let Some((_, path)) = file.filter(|_| is_name)
            && !has_name(&root.join(path), text)
        {
            wrong.push(format!("line {line}: {path} has no `{text}`"));
        }
    }
    wrong
}

#[test]
fn every_place_that_the_pages_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in ["ARCHITECTURE.md", "docs/GLOSSARY.md", "CONTRIBUTING.md", "crates/README.md"] {
        let text = fs::read_to_string(root.join(page)).expect("a page");
        let wrong = misplaced(&text, root);
        assert!(wrong.is_empty(), "{page}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn a_place_that_is_not_there_is_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The last is used there, and defined elsewhere.
    let page =
        "In `src/nowhere.rs`.\n`src/exit.rs`, `Failure`, and `src/exit.rs`, `Nothing`.\n`src/exit.rs`, `Code`.\n";
    assert_eq!(
        misplaced(page, root),
        [
            "line 1: `src/nowhere.rs` is not there",
            "line 2: src/exit.rs has no `Nothing`",
            "line 3: src/exit.rs has no `Code`"
        ]
    );
}

/// What the compiler says to a test of the suite that names its backends so; nothing if it takes it.
fn compiler_says_to(backends: &str) -> String {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/suite/shared.rs");
    let text = format!(
        "mod place {{ pub enum Place {{ Docker, Bubblewrap, Smolmachines }} pub fn on(_: Place, test: fn()) {{ test() }} }}\n\
         #[macro_use] #[path = {shared:?}] mod shared;\nconst WHY: &str = \"why\";\nshared!(works: {backends});\nfn works() {{}}\n"
    );
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("suite.rs"), text).expect("a file");
    let mut rustc = Command::new(Path::new(env!("CARGO")).with_file_name("rustc"));
    rustc.args(["--edition", "2024", "--test", "--emit", "metadata", "--cap-lints", "allow", "suite.rs"]);
    let output = rustc.current_dir(dir.path()).output().expect("rustc");
    if output.status.success() { String::new() } else { String::from_utf8_lossy(&output.stderr).into_owned() }
}

#[test]
fn a_shared_test_names_each_backend_or_says_why_not() {
    for good in ["docker, bubblewrap, smolmachines", "docker: \"why\", bubblewrap, smolmachines: WHY"] {
        assert_eq!(compiler_says_to(good), "", "{good}");
    }
    for (bad, says) in [
        ("docker, bubblewrap", "unexpected end of macro invocation"),
        ("docker, smolmachines", "no rules expected"),
        ("bubblewrap, smolmachines", "no rules expected"),
        ("", "unexpected end of macro invocation"),
        ("docker, bubblewrap, firecracker", "no rules expected"),
        ("docker, bubblewrap, smolmachines:", "unexpected end of macro invocation"),
        ("docker: \"\", bubblewrap, smolmachines", "docker is left out without a reason"),
        ("docker, bubblewrap: \"\", smolmachines", "bubblewrap is left out without a reason"),
        ("docker, bubblewrap, smolmachines: \"\"", "smolmachines is left out without a reason"),
    ] {
        let said = compiler_says_to(bad);
        assert!(said.contains(says), "{bad}: {said}");
    }
}

#[test]
fn every_test_of_the_suite_is_shared() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/suite");
    let mut files = vec![];
    read(&root, &root, &mut files);
    let (macros, tests): (Vec<_>, Vec<_>) = files.into_iter().partition(|(path, _)| path == "shared.rs");
    let is_made = |line: &str| line.trim_start().starts_with("#[") && line.contains("test");
    let made = |text: &str| text.lines().filter(|line| is_made(line)).count();
    assert!(macros.len() == 1 && made(&macros[0].1) == 1, "shared.rs makes the tests");
    for (path, text) in &tests {
        assert_eq!(made(text), 0, "tests/it/suite/{path}: a test that does not say where it runs: make it by shared!");
    }
    assert!(tests.iter().any(|(_, text)| text.contains("shared!(")), "no test of the suite was found");
}
