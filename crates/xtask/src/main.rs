//! Developers' commands: `cargo xtask`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command-line program")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use xtask::bill::{Bill, Gitleaks};
use xtask::{generate, source};

const USAGE: &str = "\
usage: cargo xtask generate [--check]   write the files that are generated and committed; --check only compares them
       cargo xtask names [--private]    list type names that exist twice or more; --private counts private types too
       cargo xtask long [LINES]         list functions above LINES lines (default: 60)
       cargo xtask bill TARGET TIME GITLEAKS LICENCE DIR
                                        write DIR/sbom.cdx.json and DIR/THIRD-PARTY.txt: what a release for TARGET is made of, at
                                        TIME (RFC 3339), with gitleaks of version GITLEAKS, whose licence is the file LICENCE
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let done = match args[..] {
        ["generate"] => runner(&root).and_then(|runner| write(&root, &runner)),
        ["generate", "--check"] => runner(&root).and_then(|runner| check(&root, &runner)),
        ["names"] => source::names(&root, false).map(|text| print!("{text}")),
        ["names", "--private"] => source::names(&root, true).map(|text| print!("{text}")),
        ["bill", target, when, version, licence, dir] => bill(&root, target, when, (version, licence), Path::new(dir)),
        ["long"] => source::long(&root, 60).map(|text| print!("{text}")),
        ["long", lines] => lines
            .parse()
            .map_err(|error| format!("'{lines}' is no number of lines: {error}"))
            .and_then(|lines| source::long(&root, lines))
            .map(|text| print!("{text}")),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bill(root: &Path, target: &str, when: &str, gitleaks: (&str, &str), dir: &Path) -> Result<(), String> {
    let licence = std::fs::read_to_string(gitleaks.1).map_err(|error| format!("{}: {error}", gitleaks.1))?;
    let gitleaks = Gitleaks { version: gitleaks.0, licence: &licence };
    let bill = Bill::read(root, target)?;
    for (name, text) in
        [("sbom.cdx.json", bill.cyclonedx(&gitleaks, when)), ("THIRD-PARTY.txt", bill.licences(&gitleaks)?)]
    {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Builds `bottle-runner` and returns its path.
fn runner(root: &Path) -> Result<PathBuf, String> {
    cargo(root, &["build", "--package", "bottle-runner"], None)?;
    // The runner's directory is the one that this program was built into.
    let this = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    Ok(this.with_file_name("bottle-runner"))
}

fn write(root: &Path, runner: &Path) -> Result<(), String> {
    for file in generate::stale(root, runner)? {
        std::fs::write(root.join(file.path), file.text).map_err(|error| format!("{}: {error}", file.path))?;
        println!("wrote {}", file.path);
    }
    // Files of expected results are written by the tests that compare them.
    let mut tests = vec!["test", "--package", "bottle-plan", "--test", "manifest", "--test", "event", "--test", "plan"];
    if std::env::var_os("BOTTLE_WEBHOOK_EXAMPLES").is_some() {
        tests.extend(["--test", "webhooks"]);
    } else {
        println!("left out tests/webhooks.expected: BOTTLE_WEBHOOK_EXAMPLES is not set (scripts/test sets it)");
    }
    cargo(root, &tests, Some(("UPDATE_FIXTURES", "1")))
}

fn check(root: &Path, runner: &Path) -> Result<(), String> {
    let stale = generate::stale(root, runner)?;
    let paths: Vec<&str> = stale.iter().map(|file| file.path).collect();
    if paths.is_empty() {
        Ok(())
    } else {
        Err(format!("not as generated: {}; run `cargo xtask generate`", paths.join(", ")))
    }
}

fn cargo(root: &Path, args: &[&str], variable: Option<(&str, &str)>) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(args).envs(variable).current_dir(root).status();
    let status = status.map_err(|error| format!("starting cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`cargo {}` ended with {status}", args.join(" "))) }
}
