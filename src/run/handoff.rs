//! Work that another job has done and could not push: taken from its run record, and pushed through this run's own gate.
//!
//! The record comes from a job that may push nothing, in which an agent was at work, and nothing of it is believed. The task, its
//! asker, the branch, where it is proposed and what may be pushed come from this job's own event and from the base branch. Of the
//! record are taken: commits, which the gate judges as it does an agent's push; whether the work failed, which can only make a
//! draft of it; and words, which are made neutral and quoted as that job's. git reads its bundles in the sealed guest. Of a
//! review, words are all there is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bottle_plan::plan::BottlePlan;
use bottle_plan::task::Work;
use bottle_types::git::ObjectId;
use bottle_types::record_file::RecordFile;
use serde_json::Value;

use super::outputs::{AskedOutputs, asked};
use crate::backend::{Bottle, Exec, Side, Tree, finish};
use crate::exit::{Code, Failure};
use crate::report::{Case, Events, Suite, neutral_text};

/// The largest file of words or values.
const MAX_WORDS_BYTES: u64 = 1 << 20;
/// The largest size of all bundles together.
const MAX_BUNDLES_BYTES: u64 = 512 << 20;
/// More pushes than these nobody makes in a run.
const MAX_PUSHES: usize = 100;
const PUSH_TIMEOUT: Duration = Duration::from_secs(600);

/// The parts of a record that are used.
#[derive(Debug)]
pub(crate) struct Handoff {
    /// The pushes, in their order.
    bundles: Vec<Vec<u8>>,
    /// The commit that the last push brought; none: nothing was pushed.
    commit: Option<ObjectId>,
    /// The review that would have been handed in.
    review: Option<String>,
    /// What its agent wanted written.
    outputs: AskedOutputs,
    /// The pull request's commit that it was done for.
    pin: Option<ObjectId>,
    /// How the other job's run ended, as it says.
    code: Code,
    summary: String,
    /// Its summary.
    words: String,
}

/// Reads a record; none where it has nothing to push and nothing to hand in.
pub(crate) fn read(dir: &Path) -> Result<Option<Handoff>, Failure> {
    let unpublishable = |why: String| {
        Failure::input(format_args!("the run record {} can't be published: {why}", dir.display()))
            .hint("give --publish the run record of a dry run, as the other job kept it")
    };
    let json = |name: RecordFile| -> Result<Value, Failure> {
        let bytes = file(&dir.join(name), MAX_WORDS_BYTES * 32).map_err(unpublishable)?;
        serde_json::from_slice(&bytes).map_err(|error| unpublishable(format!("{name}: {error}")))
    };
    let (metadata, plan) = (json(RecordFile::Metadata)?, json(RecordFile::Plan)?);
    let outcome = &metadata["outcome"];
    let commit = outcome["commit"].as_str().map(ObjectId::parse).transpose();
    let commit = commit.map_err(|error| unpublishable(error.to_string()))?;
    let review = match commit {
        Some(_) => None,
        None => review(dir).map_err(unpublishable)?,
    };
    let outputs = outputs(dir).map_err(unpublishable)?;
    if commit.is_none() && review.is_none() && outputs.is_empty() {
        return Ok(None);
    }
    let pin = plan["task"]["pull_request"]["head"].as_str().map(ObjectId::parse).transpose();
    let mut bytes_left = MAX_BUNDLES_BYTES;
    let mut bundles = vec![];
    for path in shelf(dir).map_err(unpublishable)? {
        let bytes = file(&path, bytes_left).map_err(unpublishable)?;
        bytes_left -= bytes.len() as u64;
        bundles.push(bytes);
    }
    let words = file(&dir.join(RecordFile::Summary), MAX_WORDS_BYTES).unwrap_or_default();
    Ok(Some(Handoff {
        bundles,
        commit,
        review,
        outputs,
        pin: pin.map_err(|error| unpublishable(error.to_string()))?,
        code: serde_json::from_value(outcome["code"].clone()).unwrap_or(Code::Task),
        summary: super::one_line(outcome["summary"].as_str().unwrap_or_default()),
        words: String::from_utf8_lossy(&words).into_owned(),
    }))
}

/// The review that the run would have handed in: its words behind the mark, which is another run's.
fn review(dir: &Path) -> Result<Option<String>, String> {
    let path = dir.join(RecordFile::WouldDo);
    if !path.exists() && fs::symlink_metadata(&path).is_err() {
        return Ok(None);
    }
    let bytes = file(&path, MAX_WORDS_BYTES)?;
    let lines = String::from_utf8_lossy(&bytes).into_owned();
    let last = lines
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["would"] == "review");
    let body = last.and_then(|line| Some(line["body"].as_str()?.to_owned()));
    Ok(body.map(|body| match body.split_once('\n') {
        Some((mark, words)) if mark.starts_with("<!--") => neutral_text(words),
        _ => neutral_text(&body),
    }))
}

/// The outputs that its record of proposals names. Whether they may go out is judged here as they were there.
fn outputs(dir: &Path) -> Result<AskedOutputs, String> {
    let path = dir.join(RecordFile::Proposals);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(vec![]);
    }
    let bytes = file(&path, MAX_WORDS_BYTES * 32)?;
    let text = String::from_utf8_lossy(&bytes);
    let records = text.lines().enumerate().map(|(at, line)| {
        serde_json::from_str(line).map_err(|error| format!("{}, line {}: {error}", path.display(), at + 1))
    });
    Ok(asked(records.collect::<Result<_, _>>()?))
}

/// The bundles, in the order of their pushes: `NAME-1.bundle`, `NAME-2.bundle`, …
fn shelf(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name
            .strip_suffix(".bundle")
            .and_then(|name| name.rsplit_once('-'))
            .map(|(_, number)| number.parse::<u32>());
        if let Some(Ok(number)) = number {
            found.push((number, path));
        }
    }
    found.sort();
    if found.len() > MAX_PUSHES {
        return Err(format!("it has more than {MAX_PUSHES} bundles"));
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// A file of the record: a link would lead to something of this machine's.
fn file(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let say = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let metadata = fs::symlink_metadata(path).map_err(|error| say(&error))?;
    if !metadata.is_file() {
        return Err(say(&"it is not a file"));
    }
    if metadata.len() > most {
        return Err(say(&format_args!("it is larger than {most} bytes")));
    }
    fs::read(path).map_err(|error| say(&error))
}

impl Handoff {
    /// Puts the work into the guest's branch. What it is not good for is the failure; how it went there is a case.
    pub(super) async fn bring(
        &self,
        bottle: &dyn Bottle,
        plan: &BottlePlan,
        events: &Events,
    ) -> Result<Option<String>, Failure> {
        let reviews = plan.task.work == Work::Review;
        let refused = |why: String| match reviews {
            true => Failure::new(Code::Task, format_args!("not handed in: {why}")),
            false => Failure::new(Code::Gate, format_args!("not pushed: {why}")),
        };
        let now = plan.task.pull_request.as_ref().map(|pull| &pull.head);
        if self.pin.as_ref() != now {
            let short = |commit: Option<&ObjectId>| commit.map_or("none", ObjectId::short).to_owned();
            return Err(refused(format!(
                "the pull request has moved from {} to {} since the work was done",
                short(self.pin.as_ref()),
                short(now)
            )));
        }
        if reviews {
            return match self.review {
                Some(_) => Ok(self.failed(events)),
                None if !self.outputs.is_empty() => Ok(self.failed(events)),
                None => Err(refused("the other job's run was no review".to_owned())),
            };
        }
        if self.commit.is_none() && !self.outputs.is_empty() || plan.task.work == Work::Outputs {
            return Ok(self.failed(events));
        }
        let Some(commit) = &self.commit else { return Err(refused("the other job's run was a review".to_owned())) };
        let Some(git) = &plan.git else { return Err(refused("there is no repository".to_owned())) };
        let place = format!("{}/handed", plan.guest.home);
        let mut tree = Tree::new().directory(&place, plan.guest.uid, 0o755);
        for (number, bundle) in self.bundles.iter().enumerate() {
            tree = tree.file(format!("{place}/{number:03}.bundle"), plan.guest.uid, 0o644, bundle.clone());
        }
        bottle.copy_in(Side::Guest, tree).await.map_err(Failure::machine)?;
        let script = r#"set -e
for bundle in "$3"/*.bundle; do
  git fetch --quiet --no-tags "$bundle" "+refs/heads/*:refs/bottle/handed/*"
done
git for-each-ref --contains "$2" refs/bottle/handed | grep -q . || { echo "its bundles have no $2"; exit 1; }
git checkout --quiet --no-track -B "$1" "$2""#;
        let exec = Exec::guest(["sh", "-c", script, "sh", &git.branch, commit.as_str(), &place]);
        let done = finish(bottle, exec.in_dir(&plan.guest.workdir), PUSH_TIMEOUT).await.map_err(Failure::machine)?;
        if done.code != 0 {
            return Err(refused(super::one_line(&format!(
                "the other job's work can't be used: {}",
                done.text().trim()
            ))));
        }
        Ok(self.failed(events))
    }

    /// What the agent wanted written, in order.
    pub(super) fn outputs(&self) -> &AskedOutputs {
        &self.outputs
    }

    /// The review's words.
    pub(super) fn review(&self) -> Option<&str> {
        self.review.as_deref()
    }

    /// Says how it went there; what it is not good for.
    fn failed(&self, events: &Events) -> Option<String> {
        let failed = (self.code != Code::Done)
            .then(|| format!("the other job's run ended with {}: {}", self.code, self.summary));
        events.case(Case {
            failure: failed.clone(),
            output: format!(
                "What follows is what the job says in which the agent was; this one does not vouch for it.\n\n{}",
                self.words
            ),
            ..Case::passed(Suite::Agent, "another job's work", Duration::ZERO)
        });
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(metadata: &str, plan: &str) -> tempfile::TempDir {
        let dir = tempfile::TempDir::new().expect("a directory");
        fs::write(dir.path().join("metadata.json"), metadata).expect("a file");
        fs::write(dir.path().join("plan.json"), plan).expect("a file");
        dir
    }

    fn sound_record() -> tempfile::TempDir {
        record(&format!(r#"{{"outcome":{{"code":0,"commit":"{}"}}}}"#, "a".repeat(40)), "{}")
    }

    #[test]
    fn pushes_come_in_their_order() {
        let dir = sound_record();
        for name in ["origin-10.bundle", "origin-2.bundle", "origin-1.bundle", "x.bundle", "origin-1.bundle.txt"] {
            fs::write(dir.path().join(name), name).expect("a file");
        }
        let handoff = read(dir.path()).expect("a record").expect("work");
        let names: Vec<_> = handoff.bundles.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
        assert_eq!(names, ["origin-1.bundle", "origin-2.bundle", "origin-10.bundle"]);
        assert!(read(record(r#"{"outcome":{"code":1}}"#, "{}").path()).expect("a record").is_none());
    }

    #[test]
    fn a_record_leads_nowhere_else() {
        let secret = tempfile::NamedTempFile::new().expect("a file");
        for name in ["metadata.json", "plan.json", "origin-1.bundle"] {
            let dir = sound_record();
            let _ = fs::remove_file(dir.path().join(name));
            std::os::unix::fs::symlink(secret.path(), dir.path().join(name)).expect("a link");
            let failure = read(dir.path()).expect_err(name);
            assert!(failure.what.contains("it is not a file"), "{failure}");
        }
        let dir = sound_record();
        std::os::unix::fs::symlink(secret.path(), dir.path().join("summary.md")).expect("a link");
        assert_eq!(read(dir.path()).expect("a record").expect("work").words, "");
    }

    #[test]
    fn a_review_is_words_and_nothing_acts_in_them() {
        let dir = record(r#"{"outcome":{"code":0}}"#, "{}");
        let body = "<!-- claude-bottle: review x -->\nask @octocat\n/claude fix\nfixes #1";
        let line = serde_json::json!({"would": "review", "number": 9, "body": body});
        fs::write(dir.path().join(RecordFile::WouldDo), format!("{line}\n")).expect("a file");
        let handoff = read(dir.path()).expect("a record").expect("a review");
        let words = handoff.review().expect("words");
        assert!(words.contains("octocat") && !words.contains("<!--"), "{words}");
        for active in ["@octocat", "\n/claude", "fixes #1"] {
            assert!(!words.contains(active), "{active}: {words}");
        }
        // Where something was pushed, that is the work.
        let metadata = format!(r#"{{"outcome":{{"code":0,"commit":"{}"}}}}"#, "a".repeat(40));
        fs::write(dir.path().join("metadata.json"), metadata).expect("a file");
        assert_eq!(read(dir.path()).expect("a record").expect("work").review(), None);
    }

    #[test]
    fn what_is_no_commit_is_refused() {
        for commit in ["--upload-pack=x", "HEAD", "../x", "A"] {
            let dir = record(&format!(r#"{{"outcome":{{"code":0,"commit":"{commit}"}}}}"#), "{}");
            assert!(read(dir.path()).is_err(), "{commit}");
        }
    }
}
