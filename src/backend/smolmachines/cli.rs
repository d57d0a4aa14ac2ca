//! `smolvm`: where it is, which version, and calls of it with its own errors told from those of what it runs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::exit::Failure;
use crate::host::Environment;
use crate::process::{ExitOutput, Program};

/// The oldest version whose options and output are known here.
const OLDEST: (u32, u32) = (1, 32);
/// In the directory of all runs: smolvm's own.
const STATE: &str = ".smolvm";
/// A call that takes longer hangs: all but starting and running commands take a second.
pub(super) const CALL: Duration = Duration::from_secs(60);
/// Starting takes as long as smolvm itself waits for a sign of life, and the image's unpacking before that.
pub(super) const START: Duration = Duration::from_secs(600);

/// A `smolvm` that can be called.
#[derive(Debug, Clone)]
pub(super) struct Smolvm {
    program: PathBuf,
    env: Vec<(String, OsString)>,
    /// Where it keeps its machines: not in the user's home, which the monitors' users can't enter.
    state: PathBuf,
}

/// What went wrong with a call.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// smolvm's own word, with its code.
    #[error("{message} ({code})")]
    Own { code: String, message: String },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl CallError {
    /// True if the machine that was named is not there.
    pub(super) fn is_not_there(&self) -> bool {
        matches!(self, Self::Own { code, .. } if code == "NOT_FOUND")
    }
}

impl Smolvm {
    /// What `BOTTLE_SMOLVM` names, what is on the PATH, or what `./scripts/smol` fetched.
    pub(super) fn find(environment: &Environment, base: &Path) -> Result<Self, String> {
        let path = environment.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
        let on_path = path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| Path::new(dir).join("smolvm"));
        let named = environment.get("BOTTLE_SMOLVM").map(PathBuf::from);
        let fetched = environment.cache().and_then(|cache| {
            let versions = fs::read_dir(cache.join("smolvm")).ok()?;
            versions.filter_map(Result::ok).map(|entry| entry.path().join("smolvm")).filter(|path| path.is_file()).max()
        });
        let program = named.into_iter().chain(on_path).chain(fetched).find(|path| path.is_file());
        let program = program.and_then(|program| program.canonicalize().ok()).ok_or_else(|| {
            "smolvm: not found; `./scripts/smol fetch` gets it, or set BOTTLE_SMOLVM to the program".to_owned()
        })?;
        // Any other name gets a note before everything that it prints.
        if program.file_name().is_none_or(|name| name != "smolvm") {
            return Err(format!("smolvm: {} must have the name smolvm (make a hard link)", program.display()));
        }
        let dir = program.parent().unwrap_or(Path::new("/"));
        let mut env = vec![];
        // As the wheel has it: its libraries and its agent's system beside it.
        let mut set = |name: &str, path: &Path, needed: &Path| {
            if environment.get(name).is_none() && needed.exists() {
                env.push((name.to_owned(), path.as_os_str().to_owned()));
            }
        };
        set("SMOLVM_LIB_DIR", dir, &dir.join("libkrun.so"));
        set("LD_LIBRARY_PATH", dir, &dir.join("libkrun.so"));
        set("SMOLVM_AGENT_ROOTFS", &dir.join("agent-rootfs"), &dir.join("agent-rootfs"));
        Ok(Self { program, env, state: base.join(STATE) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.program
    }

    /// The version, if it is new enough.
    pub(super) async fn version(&self) -> Result<String, String> {
        let mut program = Program::new([self.program.as_os_str(), "--version".as_ref()]).limit(CALL);
        program.env.clone_from(&self.env);
        let ended = program.run().await.map_err(|error| error.to_string())?;
        let stdout = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
        match (ended.code, is_new_enough(&stdout)) {
            (0, Some(true)) => Ok(stdout),
            (0, Some(false)) => Err(format!("{stdout} is too old: {}.{} or newer is needed", OLDEST.0, OLDEST.1)),
            _ => Err(format!("{} does not say its version: {stdout} {}", self.program.display(), ended.complaint())),
        }
    }

    /// The same with a hint, for a run.
    pub(super) async fn connect(environment: &Environment, base: &Path) -> Result<Self, Failure> {
        let hint = "`./scripts/smol fetch` gets the version that is tested; or use --backend docker";
        let found = Self::find(environment, base).map_err(|why| Failure::machine(why).hint(hint))?;
        found.version().await.map_err(|why| Failure::machine(why).hint(hint))?;
        Ok(found)
    }

    /// `smolvm --state-dir … --error-format json machine …`, after the words of `before`.
    pub(super) fn machine(&self, before: &[String], args: &[&str]) -> Program {
        let mut argv: Vec<OsString> = before.iter().map(Into::into).collect();
        argv.push(self.program.clone().into());
        argv.extend(["--state-dir".into(), self.state.clone().into()]);
        argv.extend(["--error-format", "json", "machine"].map(Into::into));
        argv.extend(args.iter().map(Into::into));
        let mut program = Program::new(argv).limit(CALL);
        program.env.clone_from(&self.env);
        program
    }

    /// Runs `machine …` to its end, which must be a good one.
    pub(super) async fn call(&self, args: &[&str]) -> Result<ExitOutput, CallError> {
        finish(self.machine(&[], args)).await
    }
}

/// Runs a call to its end, which must be a good one.
pub(super) async fn finish(program: Program) -> Result<ExitOutput, CallError> {
    let ended = program.run().await.map_err(|error| CallError::Other(error.to_string()))?;
    if ended.code == 0 {
        return Ok(ended);
    }
    Err(own_error(&ended.stderr)
        .unwrap_or_else(|| CallError::Other(format!("ended with {}: {}", ended.code, ended.complaint()))))
}

/// smolvm's own failure, as `--error-format json` prints it: the last such line.
pub(super) fn own_error(stderr: &[u8]) -> Option<CallError> {
    #[derive(Deserialize)]
    struct Line {
        error: ErrorLine,
    }
    #[derive(Deserialize)]
    struct ErrorLine {
        code: String,
        message: String,
    }
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rev().find_map(|line| serde_json::from_str::<Line>(line.trim()).ok())?;
    Some(CallError::Own { code: line.error.code, message: line.error.message })
}

fn is_new_enough(stdout: &str) -> Option<bool> {
    let mut numbers = stdout.strip_prefix("smolvm ")?.split('.');
    let version: (u32, u32) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some(version >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (stdout, expected) in [
            ("smolvm 1.32.2", Some(true)),
            ("smolvm 1.100.0", Some(true)),
            ("smolvm 2.0", Some(true)),
            ("smolvm 1.9.9", Some(false)),
            ("smolvm 0.99.0", Some(false)),
            ("smol 1.32.2", None),
            ("smolvm one", None),
        ] {
            assert_eq!(is_new_enough(stdout), expected, "{stdout}");
        }
    }

    #[test]
    fn its_own_errors_are_told_from_others() {
        let stdout =
            b"Starting machine 'a'...\n{\"error\":{\"code\":\"NOT_FOUND\",\"message\":\"machine 'a' not found\"}}\n";
        let error = own_error(stdout).expect("its own");
        assert!(error.is_not_there());
        assert_eq!(error.to_string(), "machine 'a' not found (NOT_FOUND)");
        assert!(own_error(b"{\"error\": \"the guest's\"}\n").is_none());
        assert!(own_error(b"cat: x: No such file\n").is_none());
    }
}
