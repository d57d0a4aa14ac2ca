//! `bottle-runner test`: the manifest held against the cases of `claude-bottle.test.yml`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bottle_plan::policy_test::{FILE_NAME, PolicyTests, TestReport};

use super::policy::{self, WorkingManifest, read_text};
use super::{Context, print};
use crate::approve::visible;
use crate::exit::{Code, Failure};
use crate::host;
use crate::report::policy_tests_junit;

/// Hold the manifest against the cases of claude-bottle.test.yml, and name the rules that no case touches.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// The file with the cases; default: claude-bottle.test.yml or .github/claude-bottle.test.yml.
    file: Option<PathBuf>,
    /// The manifest; default: the one beside the file with the cases, committed or not.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Write a JUnit report.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn main(args: &TestArgs, context: &Context) -> Result<Code, Failure> {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => found()?,
    };
    let name = file.display().to_string();
    let text = read_text(&file, "the cases")?;
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let tests = PolicyTests::parse(&text, &name).map_err(|error| wrong(&error))?;
    let payloads = payloads(&tests, dir)?;
    let manifest = match &args.manifest {
        Some(path) => WorkingManifest::read(Some(path), dir, &[], context).await?,
        None => WorkingManifest::read(None, manifest_dir(dir), &[], context).await?,
    };
    let report = tests.run(&manifest.source, &manifest.facts, &payloads);
    let report = report.map_err(|error| policy::failure(&error))?;
    if let Some(path) = &args.junit {
        let xml = policy_tests_junit(&report, now()).map_err(Failure::machine)?;
        std::fs::write(path, xml)
            .map_err(|error| Failure::machine(format_args!("failed to write {}: {error}", path.display())))?;
    }
    match args.json {
        true => print(&serde_json::to_string_pretty(&report).map_err(Failure::machine)?)?,
        false => print(&lines(&report, &name))?,
    };
    match report.failed() {
        0 => Ok(Code::Done),
        failed => {
            let what = format!("{failed} of {} cases of {name} differ", report.cases.len());
            Err(Failure::new(Code::Task, what).hint("`bottle-runner explain` says more about one of them"))
        }
    }
}

/// The manifest's lists of names begin at the repository's top; the cases may stand beside one in `.github`.
fn manifest_dir(dir: &Path) -> &Path {
    match dir.file_name() {
        Some(name) if name == ".github" => match dir.parent() {
            Some(top) if !top.as_os_str().is_empty() => top,
            _ => Path::new("."),
        },
        _ => dir,
    }
}

fn found() -> Result<PathBuf, Failure> {
    let names = [PathBuf::from(FILE_NAME), Path::new(".github").join(FILE_NAME)];
    names.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Failure::input(format_args!("there is no {FILE_NAME} in this directory"))
            .hint("docs/reference/policy-tests.md shows how to write one")
    })
}

fn wrong(error: &bottle_plan::manifest::ManifestError) -> Failure {
    let failure = Failure::input(error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The events' files; one that can't be read is an error at its case.
fn payloads(tests: &PolicyTests, dir: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut payloads = BTreeMap::new();
    for (index, case) in tests.cases.iter().enumerate() {
        let Some(event) = &case.event else { continue };
        let text = std::fs::read_to_string(dir.join(&event.file)).map_err(|error| {
            let problem = format!("failed to read {}: {error}", event.file);
            wrong(&tests.wrong_in_case(index, &["event", "file"], &problem, "name a file with the forge's payload"))
        })?;
        payloads.insert(event.file.clone(), text);
    }
    Ok(payloads)
}

fn now() -> time::OffsetDateTime {
    let seconds = i64::try_from(host::unix_seconds()).unwrap_or_default();
    time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

/// A line a case, then the rules that no case touches.
fn lines(report: &TestReport, file: &str) -> String {
    let mut text = String::new();
    for case in &report.cases {
        let at = case.at.map(|(line, column)| format!("{file}:{line}:{column}: ")).unwrap_or_default();
        let _ = match &case.failure {
            None => writeln!(text, "ok    {}", case.name),
            Some(failure) => writeln!(text, "FAIL  {}\n      {at}{failure}", case.name),
        };
    }
    let touched = report.rules - report.untouched.len();
    let _ = writeln!(
        text,
        "{} cases, {} of them differ; {touched} of {} rules are touched by a case",
        report.cases.len(),
        report.failed(),
        report.rules
    );
    for rule in &report.untouched {
        let _ = writeln!(text, "no case touches {rule} ({})", rule.text);
    }
    visible(&text)
}
