//! Files of the host for the guest: skills, instructions and tools of the base branch, and the checkout.

use std::collections::BTreeSet;
use std::io;
use std::iter::repeat;
use std::path::Path;

use bottle_plan::plan::{BottlePlan, Bring, FileFromBase, SecretSource, attachments_dir};
use sha2::{Digest as _, Sha256};

use crate::backend::Tree;
use crate::exit::Failure;
use crate::host::{Base, BaseFile, Checkout};
use crate::secrets::Secrets;

/// The server that the canary's file names: no name below `internal` is anybody's on the internet.
const CANARY_SERVER: &str = "git.corp.internal";

/// Files of the host for the guest.
#[derive(Debug, Default)]
pub(crate) struct GuestInputs {
    /// Skills and instructions, in place, owned by the agent.
    pub(crate) files: Tree,
    /// The host checkout's `.git`, cleaned of credentials, at the guest's working directory.
    pub(crate) checkout: Option<Tree>,
    /// The files that people attached, each with its size and its SHA-256 in hex.
    pub(crate) attached: Vec<(String, u64, String)>,
}

impl GuestInputs {
    /// Reads everything that the plan names.
    pub(crate) async fn read(
        plan: &BottlePlan,
        checkout: Option<&Checkout>,
        base: Option<&Base>,
    ) -> Result<Self, Failure> {
        let mut inputs = Self::default();
        let owner = plan.guest.uid;
        let mut files = Tree::new();
        if let Some(instructions) = &plan.prompt.instructions {
            files = files.file(&instructions.to, owner, 0o644, file_of(base, &instructions.from).await?);
        }
        if let Some(script) = plan.setup.as_ref().and_then(|setup| setup.script.as_ref()) {
            let dir = script.to.rsplit_once('/').map_or("/", |(dir, _)| dir);
            files = files.directory(dir, owner, 0o755);
            files = files.file(&script.to, owner, 0o755, file_of(base, &script.from).await?);
        }
        files = skills(plan, base, files).await?;
        files = tools(plan, base, files).await?;
        inputs.files = files;
        if let Some(git) = &plan.git
            && let Bring::Checkout(from) = &git.bring
        {
            let checkout = checkout.ok_or_else(|| Failure::input(format_args!("{from} is not a git checkout")))?;
            let failed = |error: io::Error| {
                Failure::input(format_args!("failed to read the checkout {from}: {error}"))
                    .hint("leave out --cwd: the guest then clones through the gate")
            };
            inputs.checkout =
                Some(repository(checkout, &super::git::origin(plan, git), &plan.guest.workdir, owner).map_err(failed)?);
        }
        Ok(inputs)
    }

    /// Plants the canary, as git writes a password of a server into this file.
    pub(crate) fn plant(&mut self, plan: &BottlePlan, secrets: &Secrets) -> Result<(), Failure> {
        for secret in &plan.secrets {
            let SecretSource::Canary(path) = &secret.source else { continue };
            let (value, _) =
                secrets.value(&secret.name).ok_or_else(|| Failure::machine("the run has made no canary"))?;
            let line = [b"https://deploy:".as_slice(), value.expose(), b"@", CANARY_SERVER.as_bytes(), b"\n"].concat();
            self.files = std::mem::take(&mut self.files).file(path, plan.guest.uid, 0o600, line);
        }
        Ok(())
    }

    /// Adds the files that people attached, to be read.
    pub(crate) fn attach(&mut self, plan: &BottlePlan, attached: impl IntoIterator<Item = (String, Vec<u8>)>) {
        let (dir, owner) = (attachments_dir(), plan.guest.uid);
        for (name, bytes) in attached {
            let files = std::mem::take(&mut self.files);
            let files = if self.attached.is_empty() { files.directory(&dir, owner, 0o755) } else { files };
            let sum = hex::encode(Sha256::digest(&bytes));
            self.attached.push((name.clone(), bytes.len() as u64, sum));
            self.files = files.file(format!("{dir}/{name}"), owner, 0o444, bytes);
        }
    }
}

/// A file that the manifest names.
async fn file_of(base: Option<&Base>, path: &str) -> Result<Vec<u8>, Failure> {
    let content = match base {
        Some(base) => base.file(path).await,
        None => None,
    };
    content.ok_or_else(|| missing(path))
}

fn missing(path: &str) -> Failure {
    Failure::input(format_args!("`{path}` is named in the manifest and is not in the base branch"))
        .hint("commit it there: prompts, skills, tools and the setup's script are always read from the base branch")
}

/// The directories of the skills, each whole.
async fn skills(plan: &BottlePlan, base: Option<&Base>, mut files: Tree) -> Result<Tree, Failure> {
    let owner = plan.guest.uid;
    if !plan.skills.is_empty() {
        files = files.directory(format!("{}/.claude/skills", plan.guest.home), owner, 0o755);
    }
    for skill in &plan.skills {
        let directory = &skill.directory;
        let found = match base {
            Some(base) => base.files(&[&directory.from]).await,
            None => vec![],
        };
        if found.is_empty() {
            return Err(missing(&directory.from));
        }
        files = files.directory(&directory.to, owner, 0o755);
        let mut made = BTreeSet::new();
        for (path, executable, content) in found {
            let relative = path.strip_prefix(directory.from.as_str()).unwrap_or(&path).trim_start_matches('/');
            let target = format!("{}/{relative}", directory.to);
            files = parents(files, &directory.to, relative, owner, &mut made);
            files = files.file(target, owner, if executable { 0o755 } else { 0o644 }, content);
        }
    }
    Ok(files)
}

/// The base branch's files of the owner's tools, each whole, at their own paths; and its plugins.
async fn tools(plan: &BottlePlan, base: Option<&Base>, mut files: Tree) -> Result<Tree, Failure> {
    let owner = plan.guest.uid;
    let mut made = BTreeSet::new();
    for directory in plan.tools.directory.iter().chain(plan.tools.plugins.iter().map(|plugin| &plugin.to)) {
        files = files.directory(directory, owner, 0o755);
    }
    let below = plan.tools.directory.iter().flat_map(|directory| plan.tools.base_files.iter().zip(repeat(directory)));
    for (FileFromBase { from, .. }, directory) in below {
        for (path, executable, content) in whole(base, from).await? {
            files = parents(files, directory, &path, owner, &mut made);
            files = files.file(format!("{directory}/{path}"), owner, read_only(executable), content);
        }
    }
    for FileFromBase { from, to } in &plan.tools.plugins {
        let found = whole(base, from).await?;
        for (path, executable, content) in super::plugin::files(from, found)? {
            files = parents(files, to, &path, owner, &mut made);
            files = files.file(format!("{to}/{path}"), owner, read_only(executable), content);
        }
    }
    Ok(files)
}

fn read_only(executable: bool) -> u32 {
    if executable { 0o555 } else { 0o444 }
}

/// A file or directory of the base branch's, each file with its path in the repository, whether it can be executed, and its content.
async fn whole(base: Option<&Base>, from: &str) -> Result<Vec<BaseFile>, Failure> {
    let base = base.ok_or_else(|| missing(from))?;
    let is_below = |path: &str| path.strip_prefix(from).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let listed = base
        .ids(is_below)
        .await
        .map_err(|why| Failure::machine(format_args!("failed to look for `{from}` in the base branch: {why}")))?;
    if listed.is_empty() {
        return Err(missing(from));
    }
    let found = base.files(&[from]).await;
    // A link would lead to something that is not the base branch's, and a part is not what it has.
    if let Some(left_out) = listed.keys().find(|path| !found.iter().any(|(found, ..)| found == *path)) {
        let what = format!("`{left_out}` of the base branch is no plain file, or its content can't be read");
        return Err(
            Failure::input(what).hint("a tool's files are neither links nor submodules; commit the file itself")
        );
    }
    Ok(found)
}

/// Adds the directories between this one and a file below it, each once.
fn parents(mut files: Tree, directory: &str, below: &str, owner: u32, made: &mut BTreeSet<String>) -> Tree {
    for (slash, _) in below.match_indices('/') {
        let parent = format!("{directory}/{}", &below[..slash]);
        if made.insert(parent.clone()) {
            files = files.directory(parent, owner, 0o755);
        }
    }
    files
}

/// The checkout's repository as the guest gets it: objects and refs, and a configuration of our own. Hooks, credential
/// helpers, `http.*.extraheader`, `url.*.insteadOf` and whatever else is in the host's never come along, because only
/// what is known to be harmless does.
fn repository(checkout: &Checkout, origin: &str, workdir: &str, owner: u32) -> io::Result<Tree> {
    let git_dir = &checkout.git_dir;
    let alternates = git_dir.join("objects/info/alternates");
    if alternates.exists() {
        return Err(io::Error::other(format!("{} borrows objects of another repository", alternates.display())));
    }
    let head = checkout.head.as_ref().ok_or_else(|| io::Error::other("it has no commit yet"))?;
    let target = format!("{workdir}/.git");
    let mut tree = Tree::new().directory(&target, owner, 0o755);
    tree = tree.file(format!("{target}/HEAD"), owner, 0o644, format!("{head}\n"));
    let (version, extension) =
        if head.object_format() == "sha256" { (1, "[extensions]\n\tobjectformat = sha256\n") } else { (0, "") };
    let config = format!(
        "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = false\n{extension}\
         [remote \"origin\"]\n\turl = {origin}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    );
    tree = tree.file(format!("{target}/config"), owner, 0o644, config);
    for name in ["packed-refs", "shallow"] {
        match std::fs::read(git_dir.join(name)) {
            Ok(bytes) => tree = tree.file(format!("{target}/{name}"), owner, 0o644, bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for name in ["objects", "refs"] {
        copy_below(&git_dir.join(name), &format!("{target}/{name}"), owner, &mut tree)?;
    }
    Ok(tree)
}

fn copy_below(from: &Path, to: &str, owner: u32, tree: &mut Tree) -> io::Result<()> {
    *tree = std::mem::take(tree).directory(to, owner, 0o755);
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let target = format!("{to}/{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_below(&entry.path(), &target, owner, tree)?;
        } else if kind.is_file() && !name.ends_with(".lock") && !name.starts_with("tmp_") {
            *tree = std::mem::take(tree).file(target, owner, 0o644, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}
