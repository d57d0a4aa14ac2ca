//! A clean world for one test: a home of its own and a scrubbed environment.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::random::random;

/// Variables that would change what the runner does, or what it masks.
const SCRUBBED: [&str; 8] =
    ["CI", "NO_COLOR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "ANTHROPIC_API_KEY", "DOCKER_HOST", "BOTTLE_LOG"];

/// One test's directory and environment; everything of it goes with it.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    runner: &'static str,
    secret: String,
}

impl World {
    /// Makes one for this `bottle-runner`, which the test names: `env!("CARGO_BIN_EXE_bottle-runner")`.
    pub fn new(runner: &'static str) -> Self {
        let dir = TempDir::with_prefix("bottle-it-").expect("a temporary directory");
        fs::create_dir_all(dir.path().join("home")).expect("a home");
        // Made at run time: no key may stand in this repository, and only the bottle's owner knows this one.
        let secret = format!("{}/{}+x", random(30), random(12));
        Self { dir, runner, secret }
    }

    /// Names a file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Gives the value of BOTTLE_TEST_TOKEN in this world.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Writes a file of it, with the directories above; its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, text).expect("a file");
        path
    }

    /// Names `bottle-runner`, started in this world.
    pub fn runner(&self) -> Command {
        let mut command = Command::new(self.runner);
        self.clean(&mut command);
        command
    }

    /// Takes the tester's environment away and gives this world's.
    pub fn clean(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("GITHUB_")
                || name.starts_with("RUNNER_")
                || name.starts_with("GIT_")
                || SCRUBBED.contains(&name.as_str())
            {
                command.env_remove(name);
            }
        }
        command
            .env("CLAUDE_BOTTLE_CACHE", cache())
            .env("HOME", self.path("home"))
            .env("BOTTLE_STATE_DIR", self.path("state"))
            .env("BOTTLE_CACHE_DIR", self.path("setups"))
            .env("BOTTLE_SESSION_DIR", self.path("sessions"))
            .env("BOTTLE_MIRROR_DIR", self.path("mirrors"))
            .env("ANTHROPIC_API_KEY", "sk-ant-not-needed-in-a-replay")
            .env("BOTTLE_TEST_TOKEN", &self.secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir(self.dir.path());
    }

    /// Lists the slugs of this world's runs.
    pub fn slugs(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("state")) else { return vec![] };
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a slug")).collect()
    }

    /// Names the record of the one run.
    pub fn record(&self) -> PathBuf {
        let slugs = self.slugs();
        assert_eq!(slugs.len(), 1, "one run: {slugs:?}");
        self.path("state").join(&slugs[0])
    }

    /// Reads a file of the one run's record.
    pub fn record_file(&self, name: &str) -> String {
        let path = self.record().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// Names the directory where scripts/test has put Claude Code and gitleaks.
pub fn cache() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    variable("CLAUDE_BOTTLE_CACHE").unwrap_or_else(|| {
        let home = || variable("HOME").expect("HOME").join(".cache");
        variable("XDG_CACHE_HOME").unwrap_or_else(home).join("claude-bottle")
    })
}
