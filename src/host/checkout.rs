//! A git checkout on the host, and files as its base revision has them.

use std::path::{Path, PathBuf};

use crate::process::Program;

/// A git checkout on the host.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    pub(crate) root: PathBuf,
    pub(crate) git_dir: PathBuf,
    pub(crate) origin: Option<String>,
    pub(crate) branch: Option<String>,
    pub(crate) head: Option<String>,
    /// The revision whose manifest, prompts and skills count: upstream's default branch as last fetched, else HEAD.
    pub(crate) base: Option<String>,
    /// True if that is upstream's default branch.
    base_is_upstreams: bool,
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
        let mut commits = commits.lines().map(|line| (!line.contains(' ')).then(|| line.to_owned()));
        let (head, remote_head) = (commits.next().flatten(), commits.next().flatten());
        let base_is_upstreams = remote_head.is_some();
        let base = remote_head.or_else(|| head.clone());
        Some(Self { root, git_dir, origin, branch, head, base, base_is_upstreams })
    }

    /// The base revision in words.
    pub(crate) fn base_name(&self) -> &'static str {
        match (&self.base, self.base_is_upstreams) {
            (None, _) => "no commit yet",
            (Some(_), true) => "origin's default branch, as last fetched",
            (Some(_), false) => "HEAD",
        }
    }

    /// A file as the base revision has it.
    pub(crate) async fn base_file(&self, path: &str) -> Option<Vec<u8>> {
        let base = self.base.as_deref()?;
        let ended = Program::git(&self.root, &["cat-file", "blob", &format!("{base}:{path}")]).run().await.ok()?;
        (ended.code == 0).then_some(ended.stdout)
    }

    /// The files below a directory as the base revision has them: path, whether executable, content. All or none.
    pub(crate) async fn base_files(&self, dir: &str) -> Vec<(String, bool, Vec<u8>)> {
        let Some(base) = self.base.as_deref() else { return vec![] };
        let list = Program::git(&self.root, &["ls-tree", "-r", "-z", "--full-tree", base, "--", dir]).run().await;
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
        let contents = Program::git(&self.root, &["cat-file", "--batch"]).input(ids.into_bytes()).run().await;
        let Ok(contents) = contents else { return vec![] };
        let mut rest = contents.stdout.as_slice();
        let file = |(path, executable, _): &(&str, bool, &str)| {
            Some(((*path).to_owned(), *executable, next_object(&mut rest)?))
        };
        // One that this checkout lacks makes none of them: a part is not what the base branch says.
        files.iter().map(file).collect::<Option<_>>().unwrap_or_default()
    }
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

async fn git(dir: &Path, args: &[&str]) -> Option<String> {
    let ended = Program::git(dir, args).run().await.ok()?;
    let text = String::from_utf8(ended.stdout).ok()?.trim_end_matches('\n').to_owned();
    (ended.code == 0 && !text.is_empty()).then_some(text)
}
