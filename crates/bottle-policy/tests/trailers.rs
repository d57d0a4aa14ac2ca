//! Trailers of random messages, held against git itself.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the test asks git itself")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use bottle_policy::gate::trailers::trailers;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// What git reads: without its own settings, and each value on one line.
fn by_git(message: &str) -> String {
    let mut command = Command::new("git");
    command.args(["interpret-trailers", "--no-divider", "--parse"]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_DIR", "/nowhere")]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git starts");
    child.stdin.take().expect("a pipe").write_all(message.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success(), "{message:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The same by our reading; a value that goes on is put on one line as git does it.
fn by_us(message: &str) -> String {
    let one_line = |value: &str| {
        let (mut line, mut rest) = (String::new(), value);
        while let Some((before, after)) = rest.split_once('\n') {
            line.push_str(before);
            line.push(' ');
            rest = after.trim_start_matches([' ', '\t', '\n', '\r']);
        }
        line + rest
    };
    trailers(message).iter().map(|trailer| format!("{}: {}\n", trailer.key, one_line(trailer.value))).collect()
}

fn line() -> impl Strategy<Value = String> {
    let pieces = [
        "",
        "",
        "",
        " ",
        "\t",
        "\r",
        "Words of a body.",
        "words",
        "# a comment",
        "#",
        "Run: a",
        "Run : b",
        "Run:c",
        "Run:",
        ": d",
        " Run: e",
        "\tgoes on",
        " goes on",
        "Signed-off-by: A <a@example.org>",
        "signed-off-by: A <a@example.org>",
        "Signed-off-by:A <a@example.org>",
        "(cherry picked from commit 0123)",
        "Co-authored-by: B <b@example.org>",
        "Conflicts:",
        "\tpath",
        "Two words: x",
        "Ünder: x",
        "a_b: x",
        "1: 2",
        "-: x",
        "---",
        "https://example.org",
        "fix: x",
        "Run: a\r",
        "Run: \u{a0}x ",
        "# ------------------------ >8 ------------------------",
        "Run: a : b",
    ];
    proptest::sample::select(pieces.map(str::to_owned).to_vec())
}

#[test]
fn trailers_are_read_as_git_reads_them() {
    let message = (proptest::collection::vec(line(), 0..12), any::<bool>());
    let message = message.prop_map(|(lines, ends)| lines.join("\n") + if ends { "\n" } else { "" });
    let mut runner = TestRunner::new(Config { cases: 1500, failure_persistence: None, ..Config::default() });
    runner
        .run(&message, |message| {
            // git ends each file that it reads with a line end.
            let whole = if message.ends_with('\n') || message.is_empty() { message } else { format!("{message}\n") };
            prop_assert_eq!(by_us(&whole), by_git(&whole), "{:?}", whole);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_message_without_an_end_of_line_has_the_same() {
    let message = "fix: x\n\nSigned-off-by: A <a@example.org>\nRun: a";
    assert_eq!(by_us(message), by_us(&format!("{message}\n")));
    assert_eq!(by_us(message), "Signed-off-by: A <a@example.org>\nRun: a\n");
}
