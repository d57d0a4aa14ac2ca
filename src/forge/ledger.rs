//! The ledger of a repository's budget, at the forge: one file that is stored only over the version that was read.
//!
//! GitHub writes any ref by its git data API: the ledger is alone in commits of a ref of its own, and a new one goes in as a child of the
//! commit that was read, without force: anything else is no fast-forward. Gitea and Forgejo have no such calls. There it is a file of a
//! branch, and the contents API takes a new one only with the blob's id that was read; what is written at once is pushed as a child of
//! one commit, of which git takes one (services/repository/files/update.go and temp_repo.go of Gitea 1.25).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_plan::facts::ForgeKind;
use bottle_policy::gate::refs::LEDGER_BRANCH;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{ApiCall, ForgeError, Http};
use super::{Operation, StoredLedger};

/// Where it is in its tree; no project has a file of this name.
const FILE: &str = ".claude-bottle/budget.json";
/// The same, as a call's path.
const CONTENTS: [&str; 3] = ["contents", ".claude-bottle", "budget.json"];
/// GitHub's ref, and the same as a call's path.
const REF: &str = "refs/claude-bottle/budget";
const REF_PATH: [&str; 2] = ["claude-bottle", "budget"];
/// Gitea's own word in it keeps workflows from starting.
const MESSAGE: &str = "Count the budget of runs [skip ci]";

/// The full name of the ref that has it.
pub(crate) fn ledger_ref(kind: ForgeKind) -> String {
    match kind {
        ForgeKind::Github => REF.to_owned(),
        ForgeKind::Gitea => format!("refs/heads/{LEDGER_BRANCH}"),
    }
}

/// The ledger of one repository.
pub(super) struct Ledger<'a> {
    pub(super) http: &'a Http,
    pub(super) kind: ForgeKind,
    /// The repository.
    pub(super) path: Vec<&'a str>,
    /// What the token needs to read it, and to write it.
    pub(super) needs: (&'static str, &'static str),
}

#[derive(Debug, Deserialize)]
struct WireRef {
    object: WireObject,
}

#[derive(Debug, Deserialize)]
struct WireObject {
    #[serde(rename = "type")]
    kind: String,
    sha: String,
}

/// A tree or a commit that was made.
#[derive(Debug, Deserialize)]
struct WireMade {
    sha: String,
}

#[derive(Debug, Deserialize)]
struct WireFile {
    #[serde(rename = "type")]
    kind: String,
    sha: String,
    size: u64,
    /// In base64; GitHub gives none of a file above 1 MB, and Gitea none above what its administrator allows.
    content: Option<String>,
}

impl<'a> Ledger<'a> {
    fn reading(&self) -> Operation {
        Operation { what: "read the ledger of the budget", needs: self.needs.0 }
    }

    fn storing(&self) -> Operation {
        Operation { what: "store the ledger of the budget", needs: self.needs.1 }
    }

    fn below(&self, rest: &[&'a str]) -> Vec<&'a str> {
        [&self.path, rest].concat()
    }

    pub(super) async fn read(&self) -> Result<Option<StoredLedger>, ForgeError> {
        match self.kind {
            ForgeKind::Github => {
                let Some(commit) = self.commit().await? else { return Ok(None) };
                let file = self.file(&commit).await?;
                let StoredLedger { bytes, size, .. } =
                    file.ok_or_else(|| self.nonsense(&format!("{REF} has no {FILE}")))?;
                Ok(Some(StoredLedger { bytes, size, version: commit }))
            }
            ForgeKind::Gitea => self.file(LEDGER_BRANCH).await,
        }
    }

    /// Stores it over this version; none: over nothing. False: it is another version by now.
    pub(super) async fn store(&self, text: &str, over: Option<&str>) -> Result<bool, ForgeError> {
        match (self.kind, over) {
            (ForgeKind::Github, over) => self.store_commit(text, over).await,
            (ForgeKind::Gitea, Some(over)) => self.store_file(text, over).await,
            (ForgeKind::Gitea, None) => self.create_file(text).await,
        }
    }

    /// GitHub: the commit that the ref is at.
    async fn commit(&self) -> Result<Option<String>, ForgeError> {
        let path = [&["git", "ref"][..], &REF_PATH].concat();
        match self.http.send::<WireRef>(ApiCall::get(self.reading(), self.below(&path))).await {
            Ok(WireRef { object }) if object.kind == "commit" => Ok(Some(object.sha)),
            Ok(WireRef { object }) => Err(self.nonsense(&format!("{REF} is at a {}, and no commit", object.kind))),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The file of a commit or a branch.
    async fn file(&self, of: &str) -> Result<Option<StoredLedger>, ForgeError> {
        let call = ApiCall::get(self.reading(), self.below(&CONTENTS)).query("ref", of);
        let file: WireFile = match self.http.send(call).await {
            Err(error) if error.status() == Some(404) => return Ok(None),
            answer => answer?,
        };
        if file.kind != "file" {
            return Err(self.nonsense(&format!("{FILE} is a {}", file.kind)));
        }
        let packed: String = file.content.unwrap_or_default().split_whitespace().collect();
        let bytes = STANDARD.decode(packed).map_err(|error| self.nonsense(&error.to_string()))?;
        Ok(Some(StoredLedger { bytes, size: file.size, version: file.sha }))
    }

    fn nonsense(&self, problem: &str) -> ForgeError {
        ForgeError::Nonsense { operation: self.reading(), place: ledger_ref(self.kind), problem: problem.to_owned() }
    }

    async fn make(&self, path: &[&'a str], body: Value) -> Result<String, ForgeError> {
        let call = ApiCall::write(self.storing(), Method::POST, self.below(path), body);
        Ok(self.http.send::<WireMade>(call).await?.sha)
    }

    /// GitHub: a commit whose parent is the one that was read.
    async fn store_commit(&self, text: &str, over: Option<&str>) -> Result<bool, ForgeError> {
        match self.put_commit(text, over).await {
            Ok(()) => Ok(true),
            Err(error) if is_conflict(&error) => {
                // A reader beside the writer may be a moment behind it, and the words say it, too.
                let words = error.to_string();
                let known = ["fast forward", "Reference already exists", "Reference does not exist"];
                let is_old = known.iter().any(|known| words.contains(known));
                if is_old || self.commit().await?.as_deref() != over { Ok(false) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    async fn put_commit(&self, text: &str, over: Option<&str>) -> Result<(), ForgeError> {
        let file = json!({"path": FILE, "mode": "100644", "type": "blob", "content": text});
        let tree = self.make(&["git", "trees"], json!({"tree": [file]})).await?;
        let parents: Vec<&str> = over.into_iter().collect();
        let commit = json!({"message": MESSAGE, "tree": tree, "parents": parents});
        let commit = self.make(&["git", "commits"], commit).await?;
        let refs = [&["git", "refs"][..], &REF_PATH].concat();
        let (method, path, body) = match over {
            None => (Method::POST, &refs[..2], json!({"ref": REF, "sha": commit})),
            Some(_) => (Method::PATCH, &refs[..], json!({"sha": commit, "force": false})),
        };
        self.http.send::<WireRef>(ApiCall::write(self.storing(), method, self.below(path), body)).await.map(|_| ())
    }

    /// Gitea: the file in place of the one that was read.
    async fn store_file(&self, text: &str, over: &str) -> Result<bool, ForgeError> {
        let body = json!({"branch": LEDGER_BRANCH, "message": MESSAGE, "content": STANDARD.encode(text), "sha": over});
        let call = ApiCall::write(self.storing(), Method::PUT, self.below(&CONTENTS), body);
        match self.http.send_for_text(call).await {
            Ok(_) => Ok(true),
            Err(error) if is_refused_by_gitea(&error) => {
                let now = self.read().await?.map(|now| now.version);
                if now.as_deref() == Some(over) { Err(error) } else { Ok(false) }
            }
            Err(error) => Err(error),
        }
    }

    /// Gitea: the file where there is none; with it the branch, unless that is there.
    async fn create_file(&self, text: &str) -> Result<bool, ForgeError> {
        let create = |branch: &str| {
            let body = json!({branch: LEDGER_BRANCH, "message": MESSAGE, "content": STANDARD.encode(text)});
            self.http.send_for_text(ApiCall::write(self.storing(), Method::POST, self.below(&CONTENTS), body))
        };
        let first = match create("new_branch").await {
            Ok(_) => return Ok(true),
            Err(error) if is_refused_by_gitea(&error) => error,
            Err(error) => return Err(error),
        };
        match create("branch").await {
            Ok(_) => Ok(true),
            // There is no such branch: the first refusal was about something else.
            Err(error) if error.status() == Some(404) => Err(first),
            Err(error) if is_refused_by_gitea(&error) && self.read().await?.is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether it may be that another was first. Gitea says so by 422 where it sees it itself, by 403 ("cannot lock ref") where git does as
/// both push, and by 404 of a branch that is gone.
fn is_refused_by_gitea(error: &ForgeError) -> bool {
    is_conflict(error) || matches!(error.status(), Some(403 | 404))
}

/// Whether the forge has found something else than the call goes by.
fn is_conflict(error: &ForgeError) -> bool {
    matches!(error.status(), Some(409 | 422))
}
