//! A git checkout on the host.

use std::path::{Path, PathBuf};

use bottle_types::address::Address;
use bottle_types::git::ObjectId;

use crate::process::Program;

/// A git checkout on the host.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    pub(crate) root: PathBuf,
    pub(crate) git_dir: PathBuf,
    pub(crate) origin: Option<Address>,
    pub(crate) branch: Option<String>,
    pub(crate) head: Option<ObjectId>,
    /// The commit of origin's default branch, as last fetched.
    pub(super) remote_head: Option<ObjectId>,
}

impl Checkout {
    /// The checkout that a directory is in, if it is in one.
    pub(crate) async fn find(dir: &Path) -> Option<Self> {
        // Git looks for the same, and takes its time to start.
        dir.canonicalize().ok()?.ancestors().find(|above| above.join(".git").exists())?;
        let places = git(dir, &["rev-parse", "--path-format=absolute", "--show-toplevel", "--git-common-dir"]).await?;
        // A name that has a line's end in it can't be told from two.
        let (root, git_dir) = places.split_once('\n').filter(|(_, last)| !last.contains('\n'))?;
        let (root, git_dir) = (PathBuf::from(root), PathBuf::from(git_dir));
        let asked = "HEAD^{commit}\nrefs/remotes/origin/HEAD^{commit}\n";
        let (origin, branch, commits) = tokio::join!(
            git(&root, &["config", "--get", "remote.origin.url"]),
            git(&root, &["symbolic-ref", "--quiet", "--short", "HEAD"]),
            Program::git(&root, &["cat-file", "--batch-check=%(objectname)"]).input(asked.into()).run(),
        );
        let commits = commits.map(|ended| String::from_utf8_lossy(&ended.stdout).into_owned()).unwrap_or_default();
        // What is not there comes back as its name and a word.
        let mut commits = commits.lines().map(|line| ObjectId::parse(line).ok());
        let (head, remote_head) = (commits.next().flatten(), commits.next().flatten());
        let origin = origin.map(Address::new);
        Some(Self { root, git_dir, origin, branch, head, remote_head })
    }

    /// The files that were changed and not committed, and those that git does not know; ignored ones are none of it.
    pub(crate) async fn uncommitted(&self) -> Vec<String> {
        let status = ["--no-optional-locks", "status", "--porcelain", "-z", "--no-renames"];
        let Ok(ended) = Program::git(&self.root, &status).run().await else { return vec![] };
        let listed = String::from_utf8_lossy(&ended.stdout).into_owned();
        let names = listed.split('\0').filter_map(|line| line.get(3..));
        names.map(|name| bottle_plan::prose::name(name, 200)).collect()
    }
}

async fn git(dir: &Path, args: &[&str]) -> Option<String> {
    let ended = Program::git(dir, args).run().await.ok()?;
    let text = String::from_utf8(ended.stdout).ok()?.trim_end_matches('\n').to_owned();
    (ended.code == 0 && !text.is_empty()).then_some(text)
}
