//! Object ids and ref names against git's own word about generated texts.

use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Output};

use bottle_types::git::{ObjectId, RefName};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const CASES: u32 = 600;
/// A test in which nearly all texts are of one kind compares nothing.
const MIN_OF_A_KIND: u32 = CASES / 8;
/// What the rules of git-check-ref-format(1) are about, and what they are not.
const PIECES: &str =
    "refs/heads/ refs/ heads tags / // . .. .lock lock LOCK @ @{ { ~ ^ : ? * [ ] \\ - é % \" ' ( $ ; a b Z 0";

/// git's answer, without the configuration and the templates of whoever runs the test.
fn git(args: &[&str]) -> Output {
    let clean = [("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_TEMPLATE_DIR", "")];
    Command::new("git").envs(clean).args(args).output().expect("git runs")
}

/// Gives each generated text to `is_taken`, which compares the two answers and gives it.
fn compare(texts: impl Strategy<Value = String>, is_taken: impl Fn(&str) -> bool) {
    let taken = Cell::new(0);
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let compared = TestRunner::new(config).run(&texts, |text| {
        taken.set(taken.get() + u32::from(is_taken(&text)));
        Ok(())
    });
    compared.unwrap_or_else(|error| panic!("{error}"));
    let taken = taken.get();
    assert!((MIN_OF_A_KIND..CASES - MIN_OF_A_KIND).contains(&taken), "{taken} of {CASES} texts were taken");
}

#[test]
fn a_name_is_a_ref_where_git_says_so() {
    let mut pieces: Vec<&str> = PIECES.split(' ').collect();
    pieces.extend([" ", "\t", "\n", "\u{1}", "\u{7f}", "\u{85}", "\u{2028}"]);
    let anything = prop::collection::vec(prop::sample::select(pieces), 0..7).prop_map(|pieces| pieces.concat());
    let plain = "refs/(heads|tags|pull)/[a-z0-9.@/-]{1,8}";
    // git takes a beginning hyphen for an option.
    let texts = prop_oneof![anything, plain].prop_filter("an option", |text| !text.starts_with('-'));
    compare(texts, |text| {
        let is_name = git(&["check-ref-format", text]).status.success();
        assert_eq!(RefName::parse(text).is_ok(), is_name, "{text:?}");
        is_name
    });
}

#[test]
fn a_text_is_an_id_where_git_prints_it_as_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let repositories = ["sha1", "sha256"].map(|format| {
        let path = dir.path().join(format);
        let text = path.to_str().expect("UTF-8").to_owned();
        let made = git(&["init", "--quiet", "--bare", &format!("--object-format={format}"), &text]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        (path, format)
    });
    let length = prop_oneof![Just(40_usize), Just(64), Just(39), Just(41), Just(63), Just(65), 0..80_usize];
    let digits = length
        .prop_flat_map(|length| prop::collection::vec(prop::sample::select(b"0123456789abcdef".to_vec()), length));
    let spoiled = (digits, prop::option::weighted(0.3, (any::<prop::sample::Index>(), "[A-Gg -]")));
    let texts = spoiled.prop_map(|(mut digits, odd)| {
        if let Some((index, odd)) = odd.filter(|_| !digits.is_empty()) {
            let at = index.index(digits.len());
            digits[at] = odd.as_bytes()[0];
        }
        digits.into_iter().map(char::from).collect::<String>()
    });
    // git reads capital digits, and never prints them.
    let printed = |repository: &Path, text: &str| {
        let repository = repository.to_str().expect("UTF-8");
        let output = git(&["-C", repository, "rev-parse", "--verify", "--quiet", "--end-of-options", text]);
        output.status.success() && output.stdout == format!("{text}\n").as_bytes()
    };
    compare(texts, |text| {
        let format = repositories.iter().find(|(path, _)| printed(path, text)).map(|(_, format)| *format);
        let id = ObjectId::parse(text).ok();
        assert_eq!(id.as_ref().map(ObjectId::object_format), format, "{text:?}");
        format.is_some()
    });
}
