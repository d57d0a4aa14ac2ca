//! Asks the host's package managers where they fetch from; what they say is read in `bottle_plan::registry`.
//!
//! They are asked in a directory that nobody proposes changes to: the configuration of a checkout counts only as the base
//! branch has it, like the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bottle_plan::registry::{self, Cargo, NoAnswer, Preset, ToolAnswer};

use super::{Base, Environment};
use crate::process::{ExitOutput, ProcessError, Program};

/// The longest that a tool may take; some ask their registry.
const TOOL_TIMEOUT: Duration = Duration::from_secs(60);
/// A crate that nobody has; asked for to see where cargo looks.
const NO_CRATE: &str = "claude-bottle-asks-where-crates-are";

/// Asks all of these at once.
pub(crate) async fn gather(
    presets: BTreeSet<Preset>,
    base: Option<&Base>,
    environment: &Environment,
) -> BTreeMap<Preset, ToolAnswer> {
    let answers = presets.into_iter().map(|preset| async move {
        let answer = match preset {
            Preset::Npm => npm(base).await,
            Preset::Pip => pip().await,
            Preset::Cargo => cargo(base, environment).await,
            Preset::Go => go().await,
            Preset::Apt => apt().await,
            Preset::Maven => maven(environment).await,
        };
        (preset, answer)
    });
    futures_util::future::join_all(answers).await.into_iter().collect()
}

/// Runs a tool where no project's configuration is in force.
async fn ask(argv: &[&str]) -> Result<ExitOutput, NoAnswer> {
    run(Program::new(argv).in_dir("/")).await
}

async fn run(program: Program) -> Result<ExitOutput, NoAnswer> {
    let command = program.argv.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    program.limit(TOOL_TIMEOUT).run().await.map_err(|error| match &error {
        ProcessError::Start { error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
            NoAnswer::missing(&command)
        }
        _ => NoAnswer::new(error.to_string(), format!("see whether `{command}` works in a terminal")),
    })
}

/// Its standard output, if it ended well.
async fn answer(argv: &[&str]) -> Result<String, NoAnswer> {
    let ended = ask(argv).await?;
    if ended.code != 0 {
        let complaint = ended.complaint();
        let line = complaint.lines().next().unwrap_or("it said nothing");
        let command = argv.join(" ");
        return Err(NoAnswer::new(
            format!("`{command}` on this host ended with {}: {line}", ended.code),
            format!("see whether `{command}` works in a terminal"),
        ));
    }
    Ok(text(&ended.stdout))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn of_base(base: Option<&Base>, path: &str) -> Option<String> {
    let content = base?.file(path).await?;
    String::from_utf8(content).ok()
}

async fn npm(base: Option<&Base>) -> ToolAnswer {
    let list = ["npm", "--prefix", "/", "config", "list"];
    let json = [&list[..], &["--json"]].concat();
    let (json, list, project) = tokio::join!(answer(&json), answer(&list), of_base(base, ".npmrc"));
    registry::npm(&json?, &list?, project.as_deref())
}

async fn pip() -> ToolAnswer {
    let mut pip = vec!["pip"];
    let mut found = ask(&["pip", "--version"]).await;
    for other in [&["pip3"][..], &["python3", "-m", "pip"]] {
        if found.as_ref().is_ok_and(|ended| ended.code == 0) {
            break;
        }
        let version = ask(&[other, &["--version"]].concat()).await;
        if version.as_ref().is_ok_and(|ended| ended.code == 0) {
            (pip, found) = (other.to_vec(), version);
        }
    }
    if found.is_ok_and(|ended| ended.code != 0) || pip.is_empty() {
        return Err(NoAnswer::missing("pip"));
    }
    let (list, help) = ([&pip[..], &["config", "list"]].concat(), [&pip[..], &["download", "--help"]].concat());
    let report = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", "-", "pip"];
    let report = [&pip[..], &report].concat();
    let (list, help, report) = tokio::join!(answer(&list), answer(&help), ask(&report));
    let report = report?;
    let (stdout, complaint) = (text(&report.stdout), report.complaint());
    // pip prints a report only where it found all. What goes by its name may fail after that: pyenv's `pip` writes its
    // commands anew after each `install`, and two that do so at once get in each other's way.
    let is_whole = report.code == 0 || serde_json::from_str::<serde_json::Value>(&stdout).is_ok();
    let report = if is_whole { Ok(stdout.as_str()) } else { Err(complaint.as_str()) };
    registry::pip(&list?, &help?, report)
}

async fn go() -> ToolAnswer {
    registry::go(&answer(&["go", "env", "-json", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY"]).await?)
}

async fn apt() -> ToolAnswer {
    // Without `--no-release-info` it leaves out every source whose lists nobody has fetched yet.
    let targets = ["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI) $(SOURCESENTRY)"];
    registry::apt(&answer(&targets).await?)
}

async fn maven(environment: &Environment) -> ToolAnswer {
    let empty = tempfile::tempdir().map_err(no_directory)?;
    let repository = format!("-Dmaven.repo.local={}", empty.path().display());
    // It fails, because nothing may be fetched, and says from where it would have.
    let answer = ask(&["mvn", "-o", "-q", "-B", &repository, "help:evaluate"]).await?;
    let home = environment.home().map(|home| home.join(".m2/settings.xml"));
    let global = environment.get("MAVEN_HOME").map(|home| Path::new(home).join("conf/settings.xml"));
    let files = home.into_iter().chain(global.or_else(|| Some("/usr/share/maven/conf/settings.xml".into())));
    registry::maven(&text(&answer.stdout), &read(files))
}

fn no_directory(error: std::io::Error) -> NoAnswer {
    NoAnswer::new(format!("failed to make a temporary directory: {error}"), "see whether TMPDIR can be written to")
}

/// The files that are there, with their paths.
fn read(files: impl IntoIterator<Item = PathBuf>) -> Vec<(String, String)> {
    let texts = files.into_iter().map(|path| (path.display().to_string(), std::fs::read_to_string(path)));
    texts.filter_map(|(path, text)| Some((path, text.ok()?))).collect()
}

async fn cargo(base: Option<&Base>, environment: &Environment) -> ToolAnswer {
    answer(&["cargo", "--version"]).await?;
    let home = environment.get("CARGO_HOME").map(PathBuf::from).or_else(|| Some(environment.home()?.join(".cargo")));
    let home = home.ok_or_else(|| NoAnswer::new("neither CARGO_HOME nor HOME is set", "set HOME"))?;
    let mut files = vec![];
    if let Some(project) = of_base(base, ".cargo/config.toml").await {
        files.push(("the base branch's .cargo/config.toml".to_owned(), project));
    }
    // cargo takes the file without an ending where both are there.
    files.extend(read(["config", "config.toml"].map(|name| home.join(name))).into_iter().take(1));
    let variables: Vec<(String, String)> = environment
        .names()
        .filter(|name| name.starts_with("CARGO_REGISTRIES_") && name.ends_with("_INDEX"))
        .filter_map(|name| Some((name.to_owned(), environment.get(name)?.to_owned())))
        .collect();
    let cargo = Cargo::parse(&files, &variables)?;

    let probe = probe(&cargo)?;
    let lock = |offline: bool| {
        let mut program = Program::new(["cargo", "generate-lockfile"]).in_dir(probe.path());
        program.env.push(("CARGO_NET_RETRY".to_owned(), "0".into()));
        if offline {
            // Nothing listens at the first port: cargo says what it would have fetched.
            program.env.push(("CARGO_HTTP_PROXY".to_owned(), "http://127.0.0.1:1".into()));
        }
        run(program)
    };
    let default = match cargo.replaced {
        Some(_) => None,
        None => registry::cargo_default_index(&lock(true).await?.complaint()),
    };
    let indexes: BTreeSet<&str> = cargo
        .replaced
        .iter()
        .chain(cargo.named.values())
        .map(|(index, _)| index.as_str())
        .chain(default.as_deref())
        .filter_map(|index| index.strip_prefix("sparse+"))
        .collect();
    let say = |indexes: &BTreeSet<&str>| -> BTreeMap<String, Vec<String>> {
        indexes.iter().map(|index| ((*index).to_owned(), configs(&home, index))).collect()
    };
    let mut of_indexes = say(&indexes);
    if of_indexes.values().any(Vec::is_empty) {
        // cargo has not been there yet: it goes now, and keeps what each index says of itself.
        lock(false).await?;
        of_indexes = say(&indexes);
    }
    registry::cargo(&cargo, default.as_deref(), &of_indexes)
}

/// A package that needs a crate of each registry.
fn probe(cargo: &Cargo) -> Result<tempfile::TempDir, NoAnswer> {
    let dir = tempfile::tempdir().map_err(no_directory)?;
    let mut manifest = format!(
        "[package]\nname = \"probe\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[lib]\npath = \"lib.rs\"\n[dependencies]\n\
         {NO_CRATE} = \"*\"\n"
    );
    let mut config = String::new();
    for (number, (name, (index, _))) in cargo.named.iter().enumerate() {
        manifest.push_str(&format!("{NO_CRATE}-{number} = {{ version = \"*\", registry = \"{name}\" }}\n"));
        config.push_str(&format!("[registries.\"{name}\"]\nindex = {}\n", serde_json::Value::from(index.as_str())));
    }
    std::fs::write(dir.path().join("Cargo.toml"), manifest)
        .and_then(|()| std::fs::write(dir.path().join("lib.rs"), ""))
        .and_then(|()| std::fs::create_dir(dir.path().join(".cargo")))
        .and_then(|()| std::fs::write(dir.path().join(".cargo/config.toml"), config))
        .map_err(no_directory)?;
    Ok(dir)
}

/// The files that cargo keeps of the indexes at this one's host: `registry/index/HOST-HASH/config.json`.
fn configs(home: &Path, index: &str) -> Vec<String> {
    let Ok(url) = registry::RegistryUrl::parse(index) else { return vec![] };
    let Ok(entries) = std::fs::read_dir(home.join("registry/index")) else { return vec![] };
    let prefix = format!("{}-", url.host);
    let there = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    there.filter_map(|entry| std::fs::read_to_string(entry.path().join("config.json")).ok()).collect()
}
