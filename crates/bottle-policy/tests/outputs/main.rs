//! The outputs of an agent: what is refused, and where remarks may stand. Each case is a few lines of a data file.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the tests run git on files of their own")]

mod positions;
mod sarif;
mod schemas;

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_policy::outputs::changed::ChangedLines;
use bottle_policy::outputs::{
    DiffSide, Output, OutputJudge, OutputPolicy, OutputRules, OwnThread, marked_remark, remark_mark,
};
use bottle_scan::dlp::DataKind;
use bottle_scan::known::KnownSecrets;
use bottle_types::secret::{Secret, SecretName};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cheats {
    case: Vec<Cheat>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cheat {
    name: String,
    rules: Option<OutputRules>,
    /// The kinds of data that are kept in.
    #[serde(default)]
    detect: BTreeSet<DataKind>,
    /// Whether there are threads of earlier reviews.
    #[serde(default)]
    threads: bool,
    #[serde(default)]
    before: Vec<Output>,
    /// As the agent's tools read it: what is no output at all is refused as that.
    output: toml::Value,
    refused: Option<String>,
}

const RULES: &str = r##"
comment = { max = 2 }
labels = { allowed = ["bug", "needs triage"], max = 2 }
review = { max = 3, paths = ["src/**", "docs/**", ".github/**"] }
file = { paths = ["out/**", "*.md"], max = 2 }
sarif = { max = 3, paths = ["src/**"] }
issue = { max = 2, title_prefix = "[bot] ", labels = ["bug", "flaky"] }
close = { reasons = ["not_planned"] }
check = { names = ["bottle / review", "bottle / docs"] }

[json]
type = "object"
required = ["verdict", "files"]
additionalProperties = false

[json.properties]
verdict = { enum = ["ship", "wait"] }
files = { type = "array", maxItems = 3, items = { "$ref" = "#/$defs/path" } }
score = { type = "integer", minimum = 0, maximum = 10 }
day = { type = "string", format = "date" }
note = {}

[json."$defs"]
path = { type = "string", pattern = "^[a-z/]+[.]rs$", maxLength = 40 }
"##;

const DIFF: &str = "diff --git a/src/a.rs b/src/a.rs
--- a/src/a.rs
+++ b/src/a.rs
@@ -1,4 +1,5 @@
 one
-two
+zwei
+drei
 three
 four
diff --git a/docs/x.md b/docs/x.md
--- a/docs/x.md
+++ b/docs/x.md
@@ -1 +1 @@
-a
+b
diff --git a/.github/workflows/ci.yml b/.github/workflows/ci.yml
--- a/.github/workflows/ci.yml
+++ b/.github/workflows/ci.yml
@@ -1 +1 @@
-on: []
+on: issues
diff --git \"a/src/`@octocat`\" \"b/src/`@octocat`\"
similarity index 100%
rename from src/x
rename to src/`@octocat`
diff --git a/x b/x
--- a/x
+++ \"b/src/a\\n\\n@octocat\"
@@ -1 +1 @@
-a
+b
diff --git a/other.txt b/other.txt
--- a/other.txt
+++ b/other.txt
@@ -1 +1 @@
-a
+b
";

/// A value of the bottle's own, made here so that no file holds one.
fn own() -> String {
    ["zq8", "-own.", "Value/", "42+made", "Here"].concat()
}

/// The text with tokens and secrets in place of their names.
fn filled(text: &str) -> String {
    let pat = ["ghp", "R4nd0mLettersThatAreNoWords0Xy7Qw9Ab"].join("_");
    let own = own();
    let numbers: Vec<String> = own.bytes().map(|byte| byte.to_string()).collect();
    let pieces: Vec<String> = own.chars().map(String::from).collect();
    let url: String = own.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut text = text.to_owned();
    for (name, value) in [
        ("{pat}", pat.clone()),
        ("{pat:base64}", STANDARD.encode(&pat)),
        ("{pat:first}", pat[..14].to_owned()),
        ("{pat:rest}", pat[14..].to_owned()),
        ("{aws}", format!("{}{}", "AKIA", "QYLPMN5HHHFPZAM2")),
        ("{own}", own.clone()),
        ("{own:base64}", STANDARD.encode(&own)),
        ("{own:hex}", own.bytes().map(|byte| format!("{byte:02x}")).collect()),
        ("{own:url}", url),
        ("{own:numbers}", numbers.join(", ")),
        ("{own:pieces}", pieces.join(" ")),
        ("{own:first}", own[..9].to_owned()),
        ("{own:rest}", own[9..].to_owned()),
        ("{7kB}", "yx ".repeat(2_500)),
        ("{10kB}", "x".repeat(10_000)),
        ("{80kB}", "xy ".repeat(27_000)),
        ("{300kB}", "xy ".repeat(100_000)),
    ] {
        text = text.replace(name, &value);
    }
    text
}

/// Threads of earlier reviews: 41 is open at a line, 42 is open and its line is not known any more, 43 is resolved.
fn threads() -> Vec<OwnThread> {
    let thread = |thread, path: &str, line, body: &str, resolved| {
        let text = format!("{}\n{body}", remark_mark("reviewer", body));
        let words = marked_remark("reviewer", &text).expect("a mark").to_owned();
        OwnThread { thread, path: path.to_owned(), line, side: DiffSide::After, words, resolved }
    };
    vec![
        thread(41, "src/a.rs", Some(2), "Off by one.", false),
        thread(42, "docs/x.md", None, "Say what `b` is.", false),
        thread(43, "src/a.rs", Some(3), "Name it.", true),
    ]
}

fn judge(rules: OutputRules, detect: BTreeSet<DataKind>, has_threads: bool) -> OutputJudge {
    let protect_paths = vec![".github/workflows/**".to_owned()];
    OutputJudge::new(OutputPolicy {
        rules,
        changed: ChangedLines::parse(DIFF),
        threads: if has_threads { threads() } else { vec![] },
        protect_paths,
        patterns: vec![],
        detect,
    })
    .expect("a policy")
}

#[test]
fn no_cheat_goes_out() {
    let cheats: Cheats = toml::from_str(&filled(include_str!("cheats.toml"))).expect("the cases");
    let name = SecretName::parse("OWN_KEY").expect("a name");
    let known = KnownSecrets::new(&[(name, Secret::new(own().into_bytes()))]).expect("a secret");
    let secret = own();
    let rules: OutputRules = toml::from_str(RULES).expect("the rules");
    let usual = judge(rules.clone(), BTreeSet::new(), false);
    let mut wrong = vec![];
    for cheat in &cheats.case {
        let own = cheat.rules.is_some() || !cheat.detect.is_empty() || cheat.threads;
        let own =
            own.then(|| judge(cheat.rules.as_ref().unwrap_or(&rules).clone(), cheat.detect.clone(), cheat.threads));
        let judge = own.as_ref().unwrap_or(&usual);
        let output = Output::deserialize(cheat.output.clone()).map_err(|error| error.to_string());
        let judged = output
            .and_then(|output| judge.judge(&known, &cheat.before, &output).map_err(|refusal| refusal.to_string()));
        let as_expected = match (&judged, &cheat.refused) {
            (Ok(_), None) => true,
            (Err(said), Some(refused)) => said.contains(refused) && !said.contains(&secret),
            _ => false,
        };
        if !as_expected {
            wrong.push(format!("{}: {judged:?}", cheat.name));
        }
        // What went out goes out again: the runner judges what the door has judged.
        if let Ok(output) = judged {
            assert_eq!(judge.judge(&known, &cheat.before, &output), Ok(output), "{}", cheat.name);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cheats.case.iter().filter(|cheat| cheat.refused.is_some()).count() >= 130, "{}", cheats.case.len());
}
