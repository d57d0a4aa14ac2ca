//! `bottle-runner self check`: whether what a run is made of on this machine is one release, and whole.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, print};
use crate::backend;
use crate::exit::{Code, Failure};
use crate::host;
use crate::process::Program;
use crate::survey::Survey;

/// The version of what `--json` prints.
const SCHEMA_VERSION: u32 = 1;
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The sums of a release's files, beside them.
const SUMS: &str = "SHA256SUMS";
/// The bill of materials, beside them.
const BILL: &str = "sbom.cdx.json";
/// The programs of a release, which its sums have to name.
const PROGRAMS: [&str; 4] = ["bottle-runner", "bottle-link", "bottle-sidecars", "gitleaks"];
/// The pins of Claude Code, as the action and the scripts have them.
const CLAUDE_PINS: &str = include_str!("../../scripts/action/claude.sh");
/// How long a program may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest file of sums that is read.
const MAX_SUMS_BYTES: u64 = 64 << 10;

/// Look after this installation.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SelfCommand {
    /// Check that the programs of this installation are of one version, and as they were packed.
    Check(CheckArgs),
    /// Make a picture anew that comes by standard input; a run starts this itself.
    #[command(hide = true)]
    Picture,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Print the checks as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn main(command: &SelfCommand, context: &Context) -> Result<Code, Failure> {
    let args = match command {
        SelfCommand::Check(args) => args,
        SelfCommand::Picture => {
            crate::thread::decoder().map_err(Failure::machine)?;
            return Ok(Code::Done);
        }
    };
    let survey = survey(context).await?;
    let text = if args.json {
        let value = json!({"schema_version": SCHEMA_VERSION, "usable": survey.usable(), "checks": survey.checks});
        serde_json::to_string_pretty(&value).map_err(Failure::machine)?
    } else {
        survey.page(&format!("bottle-runner {VERSION}"))
    };
    print(&text)?;
    Ok(if survey.usable() { Code::Done } else { Code::Machine })
}

/// A program of the installation: its name in a release, and where a run takes it from.
type Installed = (&'static str, PathBuf);

async fn survey(context: &Context) -> Result<Survey, Failure> {
    let own = std::env::current_exe().and_then(|path| path.canonicalize()).map_err(Failure::machine)?;
    let dir = own.parent().map(Path::to_owned).unwrap_or_default();
    let mut survey = Survey::default();
    survey.there(format!("bottle-runner {VERSION}: {}", own.display()));
    let parts = backend::host_parts(&context.environment);
    let mut installed: Vec<Installed> = vec![("bottle-runner", own)];
    for (name, located) in
        [("bottle-link", parts.link), ("bottle-sidecars", parts.sidecars), ("gitleaks", parts.gitleaks)]
    {
        match located {
            Ok(path) => installed.push((name, path)),
            Err(missing) => survey.missing(missing),
        }
    }
    let bill = Bill::read(&dir);
    for (name, path) in installed.iter().skip(1) {
        let wanted = if *name == "gitleaks" { bill.gitleaks.as_deref() } else { Some(VERSION) };
        version(name, path, wanted, &mut survey).await;
    }
    sums(&dir, &installed, &mut survey);
    bill.judge(&mut survey);
    claude(parts.claude, context, &mut survey);
    Ok(survey)
}

/// Has a program say its version, the last word of its first line.
async fn version(name: &str, path: &Path, wanted: Option<&str>, survey: &mut Survey) {
    let at = path.display();
    let ended = match Program::new([path.as_os_str(), "--version".as_ref()]).limit(VERSION_TIMEOUT).run().await {
        Ok(ended) if ended.code == 0 => ended,
        Ok(ended) => {
            return survey.wrong(format!("{name}: {at} ends with {} where it is to say its version", ended.code));
        }
        Err(error) => return survey.wrong(format!("{name}: {error}")),
    };
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    let found = text.lines().next().and_then(|line| line.split_whitespace().last()).unwrap_or("of no version");
    match wanted {
        Some(wanted) if wanted != found => survey.wrong(format!(
            "{name}: {at} is {found}, and this release has {wanted}: put all programs of one release in one directory"
        )),
        _ => survey.there(format!("{name} {found}: {at}")),
    }
}

/// Holds the files of the release against the sums beside them.
fn sums(dir: &Path, installed: &[Installed], survey: &mut Survey) {
    let path = dir.join(SUMS);
    let text = match read_some(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return survey.unknown(format!(
                "{SUMS}: not beside bottle-runner, as it is in a release, so that a changed byte does not show here"
            ));
        }
        Err(error) => return survey.wrong(format!("failed to read {}: {error}", path.display())),
    };
    let Some(sums) = parse_sums(&text) else {
        return survey.wrong(format!("{}: not the sums of a release's files; unpack the archive anew", path.display()));
    };
    for program in PROGRAMS.iter().filter(|program| !sums.iter().any(|(_, name)| name == *program)) {
        survey.wrong(format!("{}: it has no sum of {program}; unpack the archive anew", path.display()));
    }
    let mut right = 0;
    for (sum, name) in &sums {
        // A program counts where a run takes it from.
        let used = installed.iter().find(|(program, _)| program == name).map(|(_, path)| path.clone());
        let file = used.unwrap_or_else(|| dir.join(name));
        match sha256(&file) {
            Ok(found) if found == *sum => right += 1,
            Ok(_) => survey
                .wrong(format!("{}: not the file that was packed, by {SUMS}; unpack the archive anew", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                survey.missing(format!("{}: {SUMS} names it; unpack the archive anew", file.display()));
            }
            Err(error) => survey.wrong(format!("failed to read {}: {error}", file.display())),
        }
    }
    if right == sums.len() {
        survey.there(format!("the {right} files of the release are as {} says", path.display()));
    }
}

/// The lines of `sha256sum`, each with the plain name of a file beside it; none: something else is in there.
fn parse_sums(text: &str) -> Option<Vec<(String, String)>> {
    let line = |line: &str| {
        let (sum, name) = line.split_once("  ")?;
        let is_sum = sum.len() == 64 && sum.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_name = !matches!(name, "" | "." | "..") && !name.contains('/');
        (is_sum && is_name).then(|| (sum.to_owned(), name.to_owned()))
    };
    text.lines().map(line).collect()
}

fn read_some(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_SUMS_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn sha256(path: &Path) -> std::io::Result<String> {
    host::sha256(&mut std::fs::File::open(path)?)
}

/// What the bill of materials says about versions.
#[derive(Default)]
struct Bill {
    /// None: there is no bill.
    path: Option<PathBuf>,
    release: Option<String>,
    gitleaks: Option<String>,
}

impl Bill {
    fn read(dir: &Path) -> Self {
        let path = dir.join(BILL);
        // One that is damaged is told from none by what it does not say.
        let value: Value = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Self::default(),
            Err(_) => Value::Null,
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let parts = value["components"].as_array().into_iter().flatten();
        let gitleaks =
            parts.into_iter().find(|part| part["name"] == "gitleaks").and_then(|part| text(&part["version"]));
        Self { path: Some(path), release: text(&value["metadata"]["component"]["version"]), gitleaks }
    }

    fn judge(&self, survey: &mut Survey) {
        let Some(path) = &self.path else { return };
        let at = path.display();
        match (&self.release, &self.gitleaks) {
            (Some(release), Some(_)) if release == VERSION => {
                survey.there(format!("bill of materials of {release}: {at}"))
            }
            (Some(release), Some(_)) => {
                survey.wrong(format!("{at} is of {release}, and bottle-runner {VERSION}: unpack the archive anew"));
            }
            _ => survey.wrong(format!("{at}: no bill of materials of a release; unpack the archive anew")),
        }
    }
}

/// Holds Claude Code against its pin.
fn claude(located: Result<PathBuf, String>, context: &Context, survey: &mut Survey) {
    let Some((version, sum)) = pinned_claude(std::env::consts::ARCH) else {
        return survey.unknown("Claude Code: there is none for this machine's processor");
    };
    let path = match located {
        Ok(path) => path,
        Err(missing) => {
            return survey.unknown(format!("{missing}; only Docker's guest brings its own"));
        }
    };
    let at = path.display();
    let is_fetched =
        context.environment.cache().is_some_and(|cache| path.starts_with(cache.join("claude").join(&version)));
    match sha256(&path) {
        Ok(found) if found == sum => survey.there(format!("Claude Code {version}: {at}")),
        Ok(_) if is_fetched => survey.wrong(format!(
            "Claude Code: {at} is not {version} as it is published, by its SHA-256; remove it and fetch it again"
        )),
        Ok(_) => survey.unknown(format!(
            "Claude Code: {at} is not {version}, with which this release was tested; BOTTLE_CLAUDE names another one"
        )),
        Err(error) => survey.wrong(format!("Claude Code: failed to read {at}: {error}")),
    }
}

/// The version of Claude Code that is pinned, and the SHA-256 of its program for a processor.
fn pinned_claude(arch: &str) -> Option<(String, String)> {
    let machine = match arch {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        _ => return None,
    };
    let version = CLAUDE_PINS.lines().find_map(|line| line.strip_prefix("CLAUDE_VERSION="))?;
    let (_, sums) = CLAUDE_PINS.split_once("\nclaude_sum() {\n")?;
    let start = format!("{machine}) echo ");
    let sum = sums.lines().find_map(|line| line.trim().strip_prefix(&start)?.strip_suffix(" ;;"))?;
    Some((version.to_owned(), sum.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_are_read_out_of_the_script() {
        let mut sums = vec![];
        for arch in ["x86_64", "aarch64"] {
            let (version, sum) = pinned_claude(arch).expect("a pin");
            assert!(version.split('.').count() == 3 && version.starts_with('2'), "{version}");
            assert!(sum.len() == 64 && hex::decode(&sum).is_ok(), "{sum}");
            sums.push(sum);
        }
        assert_ne!(sums[0], sums[1]);
        assert_eq!(pinned_claude("riscv64"), None);
    }

    #[test]
    fn sums_are_of_files_beside_them_alone() {
        let sum = "0".repeat(64);
        assert_eq!(parse_sums(&format!("{sum}  gitleaks\n")), Some(vec![(sum.clone(), "gitleaks".to_owned())]));
        for bad in
            ["x", "0  gitleaks", &format!("{sum} gitleaks"), &format!("{sum}  ../gitleaks"), &format!("{sum}  ..")]
        {
            assert_eq!(parse_sums(bad), None, "{bad}");
        }
    }
}
