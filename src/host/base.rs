//! The base revision, whose manifest, prompts, skills and package managers' configuration are the run's rules.
//!
//! On a laptop it is what the checkout knows of origin. In a job it is a commit of the forge's default branch, which the
//! caller has from the forge or from the job's runner; whatever the checkout has checked out decides nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_types::git::ObjectId;
use tempfile::TempDir;

use super::Checkout;
use crate::process::Program;

/// One commit of a large repository over a slow line.
const FETCH: Duration = Duration::from_secs(600);

/// A file of the base revision: its path, whether it can be executed, its content.
pub(crate) type BaseFile = (String, bool, Vec<u8>);

/// The base revision, in a repository that has it.
#[derive(Debug)]
pub(crate) struct Base {
    repository: PathBuf,
    /// None: the repository has no commit yet.
    revision: Option<ObjectId>,
    /// The revision in words.
    name: String,
    /// Whether it is a commit of the base branch.
    is_branch: bool,
    /// The repository's directory, where it was made for this.
    _fetched: Option<TempDir>,
}

impl Base {
    /// The base of a checkout outside of a job: origin's default branch as last fetched, else HEAD.
    pub(crate) fn of_checkout(checkout: &Checkout) -> Self {
        let (revision, name) = match (&checkout.remote_head, &checkout.head) {
            (Some(commit), _) => (Some(commit.clone()), "origin's default branch, as last fetched"),
            (None, Some(commit)) => (Some(commit.clone()), "HEAD"),
            (None, None) => (None, "no commit yet"),
        };
        let is_branch = checkout.remote_head.is_some();
        Self { repository: checkout.root.clone(), revision, name: name.to_owned(), is_branch, _fetched: None }
    }

    /// This commit, if the checkout has it.
    pub(crate) async fn in_checkout(checkout: &Checkout, commit: &ObjectId, name: &str) -> Option<Self> {
        let object = format!("{}^{{commit}}", commit.as_str());
        let ended = Program::git(&checkout.root, &["cat-file", "-e", &object]).run().await.ok()?;
        (ended.code == 0).then(|| Self::at(commit, name, checkout.root.clone(), None))
    }

    /// This commit of the base branch.
    fn at(commit: &ObjectId, name: &str, repository: PathBuf, fetched: Option<TempDir>) -> Self {
        Self { repository, revision: Some(commit.clone()), name: name.to_owned(), is_branch: true, _fetched: fetched }
    }

    /// This commit, fetched with the token into a repository of its own; the error says why it could not be.
    pub(crate) async fn fetch(
        url: &str,
        token: Option<&str>,
        commit: &ObjectId,
        name: &str,
        ca_bundle: Option<&Path>,
    ) -> Result<Self, String> {
        let dir = fetched(url, token, commit, &["--depth", "1"], commit.as_str(), ca_bundle).await?;
        Ok(Self::at(commit, name, dir.path().to_owned(), Some(dir)))
    }

    /// This commit, if it is one of the default branch's history: the branch is fetched, not the commit, which a forge would also give out
    /// of a fork. The error says why it is not there.
    pub(crate) async fn fetch_from_default_branch(
        url: &str,
        token: Option<&str>,
        commit: &ObjectId,
        name: &str,
        ca_bundle: Option<&Path>,
    ) -> Result<Self, String> {
        let dir = fetched(url, token, commit, &[], &format!("+HEAD:{DEFAULT_BRANCH}"), ca_bundle).await?;
        let is_ancestor = ["merge-base", "--is-ancestor", commit.as_str(), DEFAULT_BRANCH];
        let ended = Program::git(dir.path(), &is_ancestor).run().await.map_err(|error| error.to_string())?;
        if ended.code != 0 {
            return Err("it is no commit of the repository's default branch; a commit of a fork, of another branch or of a tag does not count".to_owned());
        }
        Ok(Self::at(commit, name, dir.path().to_owned(), Some(dir)))
    }

    /// The revision in words.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is a commit at all.
    pub(crate) fn has_commit(&self) -> bool {
        self.revision.is_some()
    }

    /// The commit; none: there is none yet.
    pub(crate) fn commit(&self) -> Option<&ObjectId> {
        self.revision.as_ref()
    }

    /// The commit, where it is one of the base branch; none where the checkout knows of no other and its own stands in for it.
    pub(crate) fn commit_of_branch(&self) -> Option<&ObjectId> {
        self.revision.as_ref().filter(|_| self.is_branch)
    }

    /// The files with these paths as the base revision has them, each with its id.
    pub(crate) async fn ids(&self, is_asked: impl Fn(&str) -> bool) -> Result<BTreeMap<String, String>, String> {
        let Some(base) = self.revision.as_ref() else { return Ok(BTreeMap::new()) };
        let list = Program::git(&self.repository, &["ls-tree", "-r", "-z", "--full-tree", base.as_str()]).run().await;
        let list = list.map_err(|error| error.to_string())?;
        if list.code != 0 {
            return Err(list.complaint());
        }
        let listed = String::from_utf8_lossy(&list.stdout).into_owned();
        let files = listed.split('\0').filter_map(|line| line.split_once('\t'));
        let asked = files.filter(|(_, path)| is_asked(path));
        Ok(asked.map(|(meta, path)| (path.to_owned(), meta.rsplit(' ').next().unwrap_or(meta).to_owned())).collect())
    }

    /// A file as the base revision has it.
    pub(crate) async fn file(&self, path: &str) -> Option<Vec<u8>> {
        let base = self.revision.as_ref()?;
        let ended =
            Program::git(&self.repository, &["cat-file", "blob", &format!("{base}:{path}")]).run().await.ok()?;
        (ended.code == 0).then_some(ended.stdout)
    }

    /// These files and the files below these directories as the base revision has them: path, whether executable, content. All or none.
    pub(crate) async fn files(&self, paths: &[&str]) -> Vec<BaseFile> {
        let Some(base) = self.revision.as_ref() else { return vec![] };
        let list = [&["ls-tree", "-r", "-z", "--full-tree", base.as_str(), "--"], paths].concat();
        let list = Program::git(&self.repository, &list).run().await;
        let Ok(list) = list else { return vec![] };
        let listed = String::from_utf8_lossy(&list.stdout).into_owned();
        // Links and submodules would point at something the base branch does not hold.
        let mut files: Vec<(&str, bool, &str)> = vec![];
        for line in listed.split('\0') {
            let Some((meta, path)) = line.split_once('\t') else { continue };
            let mut meta = meta.split(' ');
            if let (Some(mode @ ("100644" | "100755")), _, Some(id)) = (meta.next(), meta.next(), meta.next()) {
                files.push((path, mode == "100755", id));
            }
        }
        let ids: String = files.iter().flat_map(|(_, _, id)| [id, "\n"]).collect();
        let contents = Program::git(&self.repository, &["cat-file", "--batch"]).input(ids.into_bytes()).run().await;
        let Ok(contents) = contents else { return vec![] };
        let mut rest = contents.stdout.as_slice();
        let file = |(path, executable, _): &(&str, bool, &str)| {
            Some(((*path).to_owned(), *executable, next_object(&mut rest)?))
        };
        // One that this checkout lacks makes none of them: a part is not what the base branch says.
        files.iter().map(file).collect::<Option<_>>().unwrap_or_default()
    }
}

/// Where the default branch is put.
const DEFAULT_BRANCH: &str = "refs/bottle/default-branch";

/// A repository with what was fetched; the token is for this address alone.
async fn fetched(
    url: &str,
    token: Option<&str>,
    commit: &ObjectId,
    options: &[&str],
    refspec: &str,
    ca_bundle: Option<&Path>,
) -> Result<TempDir, String> {
    let dir = TempDir::with_prefix("bottle-base-").map_err(|error| format!("no temporary directory: {error}"))?;
    let run = async |program: Program| {
        let ended = program.run().await.map_err(|error| error.to_string())?;
        if ended.code == 0 { Ok(()) } else { Err(ended.complaint()) }
    };
    let format = format!("--object-format={}", commit.object_format());
    run(Program::git(dir.path(), &["init", "--quiet", "--template=", &format, "."])).await?;
    let fetch = [&["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"], options, &[url, refspec]].concat();
    let mut program = Program::git(dir.path(), &fetch).limit(FETCH);
    let scheme = if url.starts_with("http://") { "protocol.http.allow" } else { "protocol.https.allow" };
    // By the environment, because command lines can be read by everybody on this machine. The token is for this address alone.
    let mut settings = vec![
        ("protocol.allow", "never".to_owned()),
        (scheme, "always".to_owned()),
        ("http.followRedirects", "false".to_owned()),
    ];
    if let Some(token) = token {
        let credential = STANDARD.encode(format!("x-access-token:{token}"));
        settings.push(("http.extraHeader", format!("Authorization: Basic {credential}")));
    }
    program.env.push(("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string().into()));
    for (number, (key, value)) in settings.iter().enumerate() {
        program.env.push((format!("GIT_CONFIG_KEY_{number}"), key.into()));
        program.env.push((format!("GIT_CONFIG_VALUE_{number}"), value.into()));
    }
    if let Some(bundle) = ca_bundle {
        program.env.push(("GIT_SSL_CAINFO".to_owned(), bundle.into()));
    }
    run(program).await?;
    Ok(dir)
}

/// The next object out of what `git cat-file --batch` prints: `ID blob SIZE`, a line's end, the content, a line's end.
fn next_object(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (head, content) = rest.split_at(end + 1);
    let size: usize = std::str::from_utf8(head).ok()?.trim_end().rsplit(' ').next()?.parse().ok()?;
    let (content, after) = content.split_at_checked(size)?;
    *rest = after.strip_prefix(b"\n")?;
    Some(content.to_vec())
}
