//! `docker compose` on the rendered file: up, logs, down.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bottle_plan::plan::GENERATED_VARIABLE_PREFIX;

use super::engine::brief;
use crate::backend::BottleError;
use crate::exit::Failure;
use crate::process::{ExitOutput, ProcessError, Program};
use crate::secrets::Secrets;

/// Nothing may be left, so that removing is tried again.
const REMOVAL_TRIES: u32 = 3;
const REMOVAL_PAUSE: Duration = Duration::from_millis(500);

/// One Compose project.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
}

impl Project {
    fn compose(&self, args: &[&str]) -> Program {
        let mut argv: Vec<OsString> =
            ["docker", "compose", "--ansi", "never", "--progress", "plain", "-p"].map(Into::into).to_vec();
        argv.push((&self.name).into());
        argv.push("-f".into());
        argv.push((&self.file).into());
        argv.extend(args.iter().map(Into::into));
        let mut program = Program::new(argv);
        // The plan decides; nothing of the caller's Compose settings does.
        program.without = vec!["COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COMPOSE_ENV_FILES"];
        program.env = vec![("COMPOSE_DISABLE_ENV_FILE".to_owned(), "1".into())];
        program
    }

    /// Creates and starts everything. Not with `--wait`: it looks every half second, and that the doors are open and the
    /// guest runs is proved, sooner, by the self-test.
    pub(crate) async fn up(&self, secrets: &Secrets, generated: &[String]) -> Result<(), Failure> {
        let mut program = self.compose(&["up", "-d", "--no-build", "--pull", "never"]).limit(Duration::from_secs(120));
        program.env.extend(secrets.compose_environment());
        for agents in generated {
            program.env.push((format!("{GENERATED_VARIABLE_PREFIX}{agents}"), secrets.generated(agents)?.into()));
        }
        let ended = program.run().await.map_err(|error| match &error {
            ProcessError::Start { .. } => Failure::machine(&error)
                .hint("install the docker command with Compose v2, or see `bottle-runner doctor`"),
            ProcessError::Slow { .. } => Failure::machine(&error)
                .hint("look at the engine's log; `bottle-runner cleanup` removes what was started"),
        })?;
        if ended.code == 0 {
            return Ok(());
        }
        let stderr = secrets.mask(&last_words(&ended));
        let hint = if stderr.contains("is not a docker command")
            || stderr.contains("unknown shorthand flag")
            || stderr.contains("unknown flag")
        {
            "install Compose v2 (`docker compose version` must answer); see `bottle-runner doctor`"
        } else {
            "the rendered docker-compose.yml is in the run record; compose.log says what the containers printed"
        };
        Err(Failure::machine(format_args!("docker compose up failed: {stderr}")).hint(hint))
    }

    /// What all containers printed, with times.
    pub(crate) async fn logs(&self) -> Result<Vec<u8>, BottleError> {
        let doing = "failed to collect the containers' logs";
        let ended = self
            .compose(&["logs", "--no-color", "--timestamps"])
            .run()
            .await
            .map_err(|error| BottleError::new(doing, error))?;
        if ended.code != 0 {
            return Err(BottleError::new(doing, last_words(&ended)));
        }
        // Compose clears the line before each one it prints, even where there is no terminal.
        Ok(String::from_utf8_lossy(&ended.stdout).replace("\x1b[2K", "").into_bytes())
    }

    /// Removes containers, networks and volumes. What ends Compose half-way leaves the rest to another try.
    pub(crate) async fn down(&self) -> Result<(), BottleError> {
        for _ in 1..REMOVAL_TRIES {
            if self.try_down().await.is_ok() {
                return Ok(());
            }
            // The engine may still be removing what it was told to.
            tokio::time::sleep(REMOVAL_PAUSE).await;
        }
        self.try_down().await
    }

    async fn try_down(&self) -> Result<(), BottleError> {
        let doing = "failed to remove the containers";
        let ended = self
            .compose(&["down", "-v", "--remove-orphans", "--timeout", "3"])
            .limit(Duration::from_secs(60))
            .run()
            .await
            .map_err(|error| BottleError::new(doing, error))?;
        if ended.code != 0 {
            return Err(BottleError::new(doing, last_words(&ended)));
        }
        Ok(())
    }
}

/// The end of what Compose complained about. Its warnings and what it tells of its progress stand before what ended it, and are none of it.
fn last_words(ended: &ExitOutput) -> String {
    let complaint = ended.complaint();
    let is_aside = |line: &str| {
        line.contains(" level=warning msg=")
            || ["Container ", "Network ", "Volume "].iter().any(|of| line.starts_with(of))
    };
    let lines: Vec<&str> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut told: Vec<&str> = lines.iter().copied().filter(|line| !is_aside(line)).collect();
    if told.is_empty() {
        told = lines;
    }
    brief(&told[told.len().saturating_sub(3)..].join("; "))
}
