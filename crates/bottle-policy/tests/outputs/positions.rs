//! Remarks land on their lines, and suggestions apply to the head: held against git's own work.

use std::fs;
use std::path::Path;
use std::process::Command;

use bottle_policy::outputs::changed::{ChangedLines, NoPlace};
use bottle_policy::outputs::{DiffSide, Remark};
use serde::Deserialize;
use tempfile::TempDir;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Positions {
    file: Vec<File>,
    case: Vec<Position>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    before_path: Option<String>,
    before: Option<String>,
    after_path: Option<String>,
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    /// `PATH:LINE` or `PATH:FIRST-LINE`.
    at: String,
    #[serde(default)]
    side: DiffSide,
    says: Option<String>,
    suggestion: Option<String>,
    place: Option<String>,
}

impl Position {
    fn remark(&self) -> Remark {
        let (path, lines) = self.at.rsplit_once(':').expect("a line");
        let (first, line) = lines.split_once('-').map_or((None, lines), |(first, line)| (Some(first), line));
        let number = |text: &str| text.parse().expect("a number");
        Remark {
            path: path.to_owned(),
            line: number(line),
            first_line: first.map(number),
            side: self.side,
            body: "x".to_owned(),
            suggestion: self.suggestion.clone(),
        }
    }
}

fn git(dir: &Path, args: &[&str]) -> Vec<u8> {
    let fixed = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").args(fixed).args(args).current_dir(dir).output().expect("git");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A repository with the change as its last commit.
fn repository(files: &[File]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    git(dir.path(), &["init", "--quiet"]);
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    };
    for file in files {
        if let (Some(path), Some(text)) = (&file.before_path, &file.before) {
            write(path, text);
        }
    }
    git(dir.path(), &["add", "--all"]);
    git(dir.path(), &["commit", "--quiet", "--message", "before"]);
    for path in files.iter().filter_map(|file| file.before_path.as_ref()) {
        fs::remove_file(dir.path().join(path)).expect("a file");
    }
    for file in files {
        if let (Some(path), Some(text)) = (&file.after_path, &file.after) {
            write(path, text);
        }
    }
    git(dir.path(), &["add", "--all"]);
    git(dir.path(), &["commit", "--quiet", "--message", "after"]);
    dir
}

/// The lines of the file that a remark is about, on its side.
fn lines(files: &[File], remark: &Remark) -> Vec<String> {
    let is_it = |file: &&File| file.after_path.as_ref().or(file.before_path.as_ref()) == Some(&remark.path);
    let file = files.iter().find(is_it).unwrap_or_else(|| panic!("no file {}", remark.path));
    let text = match remark.side {
        DiffSide::Before => &file.before,
        DiffSide::After => &file.after,
    };
    text.as_ref().expect("a text").lines().map(str::to_owned).collect()
}

/// A patch that does what a suggestion says, for `git apply --unidiff-zero`.
fn patch(files: &[File], remark: &Remark, suggestion: &str) -> String {
    let (first, last) = (remark.first() as usize, remark.line as usize);
    let old = &lines(files, remark)[first - 1..last];
    let new: Vec<&str> = if suggestion.is_empty() { vec![] } else { suggestion.split('\n').collect() };
    let after = if new.is_empty() { first - 1 } else { first };
    let mut patch = format!("--- \"a/{0}\"\n+++ \"b/{0}\"\n", remark.path);
    patch += &format!("@@ -{first},{} +{after},{} @@\n", old.len(), new.len());
    patch += &old.iter().map(|line| format!("-{line}\n")).collect::<String>();
    patch + &new.iter().map(|line| format!("+{line}\n")).collect::<String>()
}

#[test]
fn remarks_stand_on_their_lines_and_suggestions_apply() {
    let Positions { file: files, case: cases } = toml::from_str(include_str!("positions.toml")).expect("the cases");
    let repository = repository(&files);
    let diff = git(repository.path(), &["diff", "--find-renames", "--unified=3", "HEAD~1", "HEAD"]);
    let changed = ChangedLines::parse(&String::from_utf8(diff).expect("UTF-8"));
    let mut suggested = 0;
    for case in &cases {
        let remark = case.remark();
        let wanted = match case.place.as_deref() {
            None => Ok(()),
            Some("file") => Err(NoPlace::File),
            Some("line") => Err(NoPlace::Line),
            Some("lines") => Err(NoPlace::Lines),
            other => panic!("{other:?}"),
        };
        assert_eq!(changed.place(&remark), wanted, "{case:?}: {changed:?}");
        let Some(says) = &case.says else { continue };
        assert_eq!(&lines(&files, &remark)[remark.line as usize - 1], says, "{case:?}");
        let Some(suggestion) = &case.suggestion else { continue };
        let patch_file = repository.path().join(".git/suggestion.patch");
        fs::write(&patch_file, patch(&files, &remark, suggestion)).expect("a patch");
        git(repository.path(), &["apply", "--unidiff-zero", "--check", ".git/suggestion.patch"]);
        suggested += 1;
    }
    assert!(cases.len() >= 55 && suggested >= 20, "{} cases, {suggested} suggestions", cases.len());
}

/// A diff that is cut short or made up gives no more lines than it has.
#[test]
fn a_broken_diff_is_left_out() {
    let head = "diff --git a/x b/x\n--- a/x\n+++ b/x\n";
    for (name, diff, known) in [
        ("whole", format!("{head}@@ -1,2 +1,2 @@\n a\n-b\n+c\n"), true),
        ("cut short", format!("{head}@@ -1,2 +1,2 @@\n a\n-b\n"), false),
        ("more than its head says", format!("{head}@@ -1,1 +1,9 @@\n a\n+b\n+++ b/y\n"), false),
        ("a head of words", format!("{head}@@ -a,b +c,d @@\n a\n"), false),
        ("a number that is none", format!("{head}@@ -1,99999999999999999999 +1 @@\n a\n"), false),
        ("a sign", format!("{head}@@ -1,+1 +1 @@\n a\n"), false),
        ("no name", "@@ -1 +1 @@\n-a\n+b\n".to_owned(), false),
        ("a quote without an end", "--- a/x\n+++ \"b/x\n@@ -1 +1 @@\n-a\n+b\n".to_owned(), false),
        ("a merge's diff", "diff --cc x\n--- a/x\n+++ b/x\n@@@ -1,1 -1,1 +1,1 @@@\n  a\n".to_owned(), false),
    ] {
        assert_eq!(!ChangedLines::parse(&diff).is_empty(), known, "{name}");
    }
    // A line of a broken piece names no other file.
    let broken = format!("{head}@@ -1,1 +1,9 @@\n a\n junk\nx\n--- a/y\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n");
    let changed = ChangedLines::parse(&broken);
    let y = Remark {
        path: "y".to_owned(),
        line: 1,
        first_line: None,
        side: DiffSide::After,
        body: String::new(),
        suggestion: None,
    };
    assert_eq!(changed.place(&y), Ok(()), "its own head names it");
    let binary = ChangedLines::parse("diff --git a/y b/y\nBinary files a/y and b/y differ\n");
    assert_eq!(binary.place(&y), Err(NoPlace::File), "a binary file has no lines");
}
