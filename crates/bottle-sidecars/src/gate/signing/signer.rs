//! What is signed in this run, and the record of it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bottle_policy::gate::signing::{CommitToSign, with_signature};
use bottle_policy::gate::{RepoName, Upstream};
use bottle_types::git::ObjectId;
use bottle_wire::signing_report::{SigningLine, SigningOutcome};
use tokio::sync::Semaphore;

use super::super::changes::NOT_UPSTREAMS;
use super::super::dirs::GateDirs;
use super::super::process::{self, git_ok};
use super::super::record;
use super::key;
use crate::common::{Dirs, Error};
use crate::credentials::CredentialStatus;

/// The record's file, which is also what the gate knows of its signatures when it has to start again.
const RECORD: &str = "signing.jsonl";
/// A rebase of more commits than this is not a run's work.
const MAX_SIGNATURES: usize = 10_000;
/// Whoever is refused as often looks for a hole.
const MAX_REFUSALS: usize = 1000;
/// git asks for one at a time.
const MAX_AT_ONCE: usize = 4;

/// Signs for one run.
#[derive(Debug)]
pub(in super::super) struct Signer {
    pub(super) at_once: Semaphore,
    made: Mutex<Made>,
}

/// What was made so far.
#[derive(Debug, Default)]
struct Made {
    /// The signed commits, each with the repositories that it can belong to.
    commits: BTreeMap<ObjectId, Vec<RepoName>>,
    signatures: usize,
    refusals: usize,
}

impl Made {
    fn count(&mut self, outcome: &SigningOutcome) {
        match outcome {
            SigningOutcome::Signed { commit, repos, .. } => {
                self.signatures += 1;
                self.commits.insert(commit.clone(), repos.clone());
            }
            SigningOutcome::Refused { .. } => self.refusals += 1,
        }
    }
}

impl Signer {
    /// Takes up what an earlier gate of this run has signed, by the record. A line without its end was never answered.
    pub(in super::super) fn open(dirs: &Dirs) -> Result<Self, Error> {
        let path = dirs.log(RECORD);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::Read { path, error }),
        };
        let mut made = Made::default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let line: SigningLine = serde_json::from_str(line)
                .map_err(|error| Error::Policy { path: path.clone(), reason: error.to_string() })?;
            made.count(&line.outcome);
        }
        Ok(Self { at_once: Semaphore::new(MAX_AT_ONCE), made: Mutex::new(made) })
    }

    /// Signs a commit; what is refused is said why. Either is in the record before it is returned.
    pub(super) fn sign(&self, gate: &GateDirs, bytes: &[u8]) -> Result<String, String> {
        // One after the other: a commit may be the parent of the next.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.is_open()?;
        match signed(gate, bytes, &made) {
            Ok((outcome, signature)) => made.write(gate, bytes.len() as u64, outcome).map(|()| signature),
            Err(reason) => Err(made.refuse(gate, bytes.len() as u64, reason)),
        }
    }

    /// Records a request that is refused before its bytes are looked at; gives what the guest is told.
    pub(super) fn refuse(&self, gate: &GateDirs, bytes: u64, reason: String) -> String {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match made.is_open() {
            Ok(()) => made.refuse(gate, bytes, reason),
            Err(closed) => closed,
        }
    }
}

impl Made {
    /// Refuses everything from a run that has asked for too much, and records no more of it.
    fn is_open(&self) -> Result<(), String> {
        if self.signatures >= MAX_SIGNATURES {
            return Err(format!("{MAX_SIGNATURES} commits were signed in this run, and no more are"));
        }
        if self.refusals >= MAX_REFUSALS {
            return Err(format!("{MAX_REFUSALS} requests were refused in this run, and no more are looked at"));
        }
        Ok(())
    }

    fn refuse(&mut self, gate: &GateDirs, bytes: u64, reason: String) -> String {
        let outcome = SigningOutcome::Refused { reason: reason.clone() };
        self.write(gate, bytes, outcome).map_or_else(|error| error, |()| reason)
    }

    fn write(&mut self, gate: &GateDirs, bytes: u64, outcome: SigningOutcome) -> Result<(), String> {
        let line = SigningLine { time: record::now(), bytes, outcome };
        record::append(gate, RECORD, std::slice::from_ref(&line))?;
        self.count(&line.outcome);
        match &line.outcome {
            SigningOutcome::Signed { commit, .. } => tracing::info!("signed {commit}"),
            SigningOutcome::Refused { reason } => tracing::warn!("not signed: {reason}"),
        }
        Ok(())
    }
}

/// The signature of a commit, and its line in the record; or why there is none.
fn signed(gate: &GateDirs, bytes: &[u8], made: &Made) -> Result<(SigningOutcome, String), String> {
    let policy = gate.policy.signing.as_ref().ok_or("nothing is signed in this run")?;
    let commit = CommitToSign::read(bytes, policy).map_err(|refusal| refusal.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "this machine's clock is before 1970")?;
    commit.is_of_now(now.as_secs()).map_err(|refusal| refusal.to_string())?;
    let status = CredentialStatus::read(&gate.dirs).map_err(|error| error.to_string())?;
    if let Some(why) = status.end(&policy.key).why_ended(&policy.key) {
        return Err(why);
    }
    let (mut repos, mut why_not) = (vec![], None);
    for upstream in &gate.policy.upstreams {
        match (Mirror { gate, upstream }).takes(&commit, made)? {
            None => repos.push(upstream),
            Some(why) => why_not = why_not.or(Some(why)),
        }
    }
    let first = repos.first().ok_or_else(|| why_not.unwrap_or_else(|| "there is no repository".to_owned()))?;
    let signature = key::sign(gate, bytes)?;
    let whole = with_signature(bytes, &signature).ok_or("the signature has no place in this commit")?;
    // git reads what it hashes, and refuses what it would not take for a commit.
    let mut hash = Mirror { gate, upstream: first }.git();
    hash.args(["hash-object", "-t", "commit", "--stdin"]);
    let id = git_ok(hash, Some(whole)).map_err(|error| format!("git does not take it: {error}"))?;
    let id = ObjectId::from_bytes(id.trim_ascii_end()).map_err(|error| error.to_string())?;
    let CommitToSign { tree, parents, .. } = commit;
    let repos = repos.into_iter().map(|upstream| upstream.name.clone()).collect();
    Ok((SigningOutcome::Signed { commit: id, tree, parents, repos, key: key::fingerprint(gate)? }, signature))
}

/// A mirror, as its upstream's branches and tags have it.
struct Mirror<'a> {
    gate: &'a GateDirs,
    upstream: &'a Upstream,
}

impl Mirror<'_> {
    fn git(&self) -> std::process::Command {
        let mut command = process::git(&self.gate.home());
        command.env("GIT_DIR", self.gate.mirror(&self.upstream.name));
        command
    }

    /// Tells whether a commit can belong to this repository: each parent is upstream's, a start of this run's work, or signed in this run.
    /// If not, says why.
    fn takes(&self, commit: &CommitToSign, made: &Made) -> Result<Option<String>, String> {
        let mut format = self.git();
        format.args(["rev-parse", "--show-object-format"]);
        if git_ok(format, None)?.trim_ascii_end() != commit.tree.object_format().as_bytes() {
            return Ok(Some(format!("its ids are not those of {}'s repository", self.upstream.name)));
        }
        if commit.parents.is_empty() {
            let mut refs = self.git();
            refs.args(["for-each-ref", "--count=1", "refs/heads/", "refs/tags/"]);
            let is_empty = git_ok(refs, None)?.is_empty();
            return Ok(
                (!is_empty).then(|| "a commit without a parent is signed in an empty repository alone".to_owned())
            );
        }
        for parent in &commit.parents {
            let is_own = made.commits.get(parent).is_some_and(|repos| repos.contains(&self.upstream.name));
            let bases = &self.gate.policy.bases;
            if !is_own && !bases.contains(parent) && !self.has(parent, bases)? {
                let id = parent.short();
                return Ok(Some(format!("the parent {id} is neither upstream's nor signed in this run")));
            }
        }
        Ok(None)
    }

    /// Tells whether upstream's branches and tags, or the starts of the work that are here, lead to a commit.
    fn has(&self, commit: &ObjectId, bases: &[ObjectId]) -> Result<bool, String> {
        let ids = std::iter::once(commit).chain(bases);
        let input: String = ids.flat_map(|id| [id.as_str(), "\n"]).collect();
        let mut kinds = self.git();
        kinds.args(["cat-file", "--batch-check=%(objecttype)"]);
        let kinds = String::from_utf8_lossy(&git_ok(kinds, Some(input.into_bytes()))?).into_owned();
        let mut kinds = kinds.lines().map(|kind| kind == "commit");
        // A tag's id would be taken for its commit's below.
        if kinds.next() != Some(true) {
            return Ok(false);
        }
        let here = bases.iter().zip(kinds).filter(|(_, is_here)| *is_here).map(|(base, _)| base.as_str());
        let mut beyond = self.git();
        beyond.args(["rev-list", "--max-count=1", commit.as_str()]).args(NOT_UPSTREAMS).args(here);
        Ok(git_ok(beyond, None)?.is_empty())
    }
}
