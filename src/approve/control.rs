//! `bottle-sidecars control VERB` in the bundle: what was asked, decisions, policies, credentials.

use std::time::Duration;

use bottle_types::door::Door;
use bottle_wire::control::{Applied, CredentialUpdate, CredentialsTaken, Decided, Listing, Update};
use bottle_wire::proposal::Decide;
use serde::de::DeserializeOwned;

use crate::backend::{Bottle, BottleError, Exec, ExecUser, OutputChunk, Running, Side, finish};

/// An apply waits for every door that reads the policy.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(90);
/// A line of `watch` holds a proposal with two policies.
const MAX_LINE_BYTES: usize = 4 << 20;

/// The bundle's end of a bottle.
#[derive(Clone, Copy)]
pub(crate) struct ControlClient<'a>(pub(crate) &'a dyn Bottle);

impl ControlClient<'_> {
    /// All that was asked so far.
    pub(crate) async fn list(self) -> Result<Listing, BottleError> {
        self.call(&["list"], vec![]).await
    }

    /// Hands a decision over.
    pub(crate) async fn decide(self, decide: &Decide) -> Result<Decided, BottleError> {
        let json = serde_json::to_vec(decide).map_err(|error| BottleError::new("failed to decide", error))?;
        self.call(&["decide"], json).await
    }

    /// Puts a whole policy in force.
    pub(crate) async fn apply(self, door: Door, user: &str, policy: Vec<u8>) -> Result<Applied, BottleError> {
        self.call(&["apply", "--door", door.name(), "--user", user], policy).await
    }

    /// Gives new credentials to the doors.
    pub(crate) async fn credentials(self, updates: &[CredentialUpdate]) -> Result<CredentialsTaken, BottleError> {
        let json =
            serde_json::to_vec(updates).map_err(|error| BottleError::new("failed to give credentials", error))?;
        self.call(&["credentials"], json).await
    }

    /// Requests and decisions as they happen; ends when the door ends.
    pub(crate) async fn watch(self) -> Result<Updates, BottleError> {
        let running = self.0.exec(exec(&["watch"], None)).await?;
        Ok(Updates { running, rest: vec![], stderr: String::new() })
    }

    async fn call<T: DeserializeOwned>(self, verb: &[&str], stdin: Vec<u8>) -> Result<T, BottleError> {
        let doing = format!("failed to ask the bundle (control {})", verb[0]);
        // `finish` itself ends the agent's processes when the time is up, and those are not to blame.
        let done = finish(self.0, exec(verb, Some(stdin)), Duration::MAX);
        let done = tokio::time::timeout(CONTROL_TIMEOUT, done).await.map_err(|_| {
            BottleError::new(&doing, format_args!("no answer within {} s", CONTROL_TIMEOUT.as_secs()))
        })??;
        // 1 is a refusal, which is an answer too.
        if !matches!(done.code, 0 | 1) || done.stdout.is_empty() {
            let stderr = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            let stderr = if stderr.is_empty() { format!("it ended with {}", done.code) } else { stderr };
            return Err(BottleError::new(doing, stderr));
        }
        serde_json::from_slice(&done.stdout).map_err(|error| BottleError::new(doing, error))
    }
}

fn exec(verb: &[&str], stdin: Option<Vec<u8>>) -> Exec {
    Exec {
        side: Side::Bundle,
        user: ExecUser::Agent,
        argv: ["bottle-sidecars", "control"].iter().chain(verb).map(|&word| word.to_owned()).collect(),
        cwd: None,
        env: vec![],
        stdin,
    }
}

/// The lines of `watch`.
pub(crate) struct Updates {
    running: Running,
    rest: Vec<u8>,
    stderr: String,
}

impl Updates {
    /// The next one; none: the door has ended. Nothing is lost where this is given up while it waits.
    pub(crate) async fn next(&mut self) -> Result<Option<Update>, BottleError> {
        let lost = |why: &dyn std::fmt::Display| BottleError::new("lost sight of what the agent asks for", why);
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|error| lost(&error));
            }
            match self.running.output.recv().await {
                Some(OutputChunk::Stdout(bytes)) if self.rest.len() + bytes.len() <= MAX_LINE_BYTES => {
                    self.rest.extend_from_slice(&bytes);
                }
                Some(OutputChunk::Stdout(_)) => return Err(lost(&"a line is too long")),
                Some(OutputChunk::Stderr(bytes)) if self.stderr.len() < 4096 => {
                    self.stderr.push_str(&String::from_utf8_lossy(&bytes));
                }
                Some(OutputChunk::Stderr(_)) => {}
                None if self.stderr.trim().is_empty() => return Ok(None),
                None => return Err(lost(&self.stderr.trim())),
            }
        }
    }
}
