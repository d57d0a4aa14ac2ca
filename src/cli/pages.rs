//! The documentation's commands, each held against the command line.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::Args;

/// The pages: the README, and everything below docs/.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut left) = (vec![root.join("README.md")], vec![root.join("docs")]);
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).expect("the pages") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("a page"))).collect()
}

/// The words of a command line as a shell reads them, up to a pipe, a redirection or a comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (vec![], None::<String>, None);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | '<' | ';' | '&') => break,
            (None, '#') if word.is_none() => break,
            // It goes on in the next line.
            (None, '\\') => break,
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// What the program says of a command line; nothing where it takes it.
fn refusal(words: &[String]) -> Option<(ErrorKind, String)> {
    let error = Args::command().try_get_matches_from(super::with_run(words.iter().map(Into::into))).err()?;
    let kind = error.kind();
    let is_help = matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    (!is_help).then(|| (kind, error.to_string()))
}

/// The lines of a page's blocks of code that begin with the program's name, and its words between backticks that do.
fn commands(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut lines, mut inline, mut in_code) = (vec![], vec![], false);
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with("```") {
            in_code = !in_code;
        } else if in_code {
            lines.push(line.strip_prefix("$ ").unwrap_or(line));
        } else {
            inline.extend(line.split('`').skip(1).step_by(2));
        }
    }
    let is_own = |line: &&str| line.starts_with("bottle-runner ") && !line.contains('…') && !line.contains(" NUMBER:");
    lines.retain(is_own);
    inline.retain(is_own);
    (lines, inline)
}

#[test]
fn every_command_of_the_pages_is_one_that_the_program_takes() {
    let (mut seen, mut wrong) = (0, vec![]);
    for (path, text) in pages() {
        let (lines, inline) = commands(&text);
        seen += lines.len();
        for line in lines {
            if let Some((_, said)) = refusal(&words(line)) {
                wrong.push(format!("{}: {line}: {said}", path.display()));
            }
        }
        // In a sentence a command may be without what it needs.
        for line in inline {
            let unknown = [ErrorKind::InvalidSubcommand, ErrorKind::UnknownArgument, ErrorKind::InvalidValue];
            if let Some((kind, said)) = refusal(&words(line))
                && unknown.contains(&kind)
            {
                wrong.push(format!("{}: {line}: {said}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty() && seen >= 30, "{seen} commands\n{}", wrong.join("\n"));
}

#[test]
fn a_wrong_command_would_be_found() {
    let (lines, inline) = commands("see `bottle-runner plan`\n```sh\n$ bottle-runner pan --taks 'x y' | cat\n```\n");
    assert_eq!(words(lines[0]), ["bottle-runner", "pan", "--taks", "x y"]);
    assert!(refusal(&words(lines[0])).is_some() && refusal(&words(inline[0])).is_none());
}
