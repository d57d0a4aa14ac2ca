//! `bottle-runner init`: a first manifest and the workflows, for the repository that somebody stands in.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bottle_plan::facts::ForgeKind;
use bottle_plan::manifest;
use bottle_plan::starter::{self, ProjectFiles};
use bottle_policy::gate::{Transport, UpstreamUrl};

use super::{Context, print};
use crate::exit::{Code, Failure};
use crate::forge;
use crate::host::{Checkout, Environment};
use crate::process::Program;

/// How long a forge, or git, may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Write a first claude-bottle.yml and the workflows for this repository; never overwrites a file.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Write without asking.
    #[arg(long, conflicts_with = "print")]
    yes: bool,
    /// Print what would be written, and write nothing.
    #[arg(long)]
    print: bool,
    /// The forge, if its address and its answer do not show which it is.
    #[arg(long, value_name = "NAME", value_enum)]
    forge: Option<ForgeArg>,
}

/// A forge, as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ForgeArg {
    Github,
    Gitea,
    Forgejo,
}

impl ForgeArg {
    /// The forge of this name, as `BOTTLE_FORGE` has it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        clap::ValueEnum::from_str(name, false).ok()
    }

    pub(super) fn kind(self) -> ForgeKind {
        match self {
            Self::Github => ForgeKind::Github,
            Self::Gitea | Self::Forgejo => ForgeKind::Gitea,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Github => "GitHub",
            Self::Gitea => "Gitea",
            Self::Forgejo => "Forgejo",
        }
    }

    /// Where it looks for workflows.
    pub(super) fn dir(self) -> &'static str {
        self.workflow_dirs()[0]
    }

    /// Where it looks for workflows: the first directory that is there counts.
    pub(super) fn workflow_dirs(self) -> &'static [&'static str] {
        match self {
            Self::Github => &[".github/workflows"],
            Self::Gitea => &[".gitea/workflows", ".github/workflows"],
            Self::Forgejo => &[".forgejo/workflows", ".gitea/workflows", ".github/workflows"],
        }
    }

    /// The workflows for labels and for comments, as the project ships them.
    fn workflows(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Github => [
                ("claude-issue.yml", include_str!("../../workflows/github/issue.yml")),
                ("claude-comment.yml", include_str!("../../workflows/github/comment.yml")),
            ],
            Self::Gitea | Self::Forgejo => [
                ("claude-issue.yml", include_str!("../../workflows/gitea/issue.yml")),
                ("claude-comment.yml", include_str!("../../workflows/gitea/comment.yml")),
            ],
        }
    }
}

/// The repository at its forge.
pub(super) struct Origin {
    pub(super) url: UpstreamUrl,
    /// Without a slash at its end.
    pub(super) server: String,
    /// `OWNER/NAME`.
    pub(super) repository: String,
}

/// What is to be written: a path below the checkout's top, and the text.
type File = (String, String);

pub(super) async fn main(args: &InitArgs, context: &Context) -> Result<Code, Failure> {
    let here = std::env::current_dir().map_err(Failure::machine)?;
    let checkout = Checkout::find(&here).await.ok_or_else(|| {
        Failure::input("this directory is in no git repository")
            .hint("go into a checkout of yours; `git init` makes a new one")
    })?;
    if !args.print {
        is_free(&checkout.root, manifest::FILE_NAMES.iter().copied())?;
    }
    let origin = origin(&checkout)?;
    let forge = match args.forge {
        Some(forge) => forge,
        None => which_forge(&origin, &checkout.root, context).await?,
    };
    let branch = default_branch(&checkout).await;
    let project = project(&checkout.root).await?;
    let files = files(&project, &origin, forge, &context.environment)?;
    let next = next_steps(&origin, forge, branch.as_deref(), &files);
    if args.print {
        let text: String = files.iter().map(|(path, text)| format!("# ==> {path}\n{text}\n")).collect();
        return print(&format!("{text}{}", next.trim_end()));
    }
    is_free(&checkout.root, files.iter().map(|(path, _)| path.as_str()))?;
    if !args.yes {
        ask(&found(&project, &origin, forge, branch.as_deref()), &files)?;
    }
    write(&checkout.root, &files)?;
    let written: String = files.iter().map(|(path, _)| format!("wrote {path}\n")).collect();
    print(&format!("{}{written}{}", found(&project, &origin, forge, branch.as_deref()), next.trim_end()))
}

/// Refuses where one of these is there already.
fn is_free<'a>(root: &Path, paths: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    // A link that leads nowhere is something as well.
    let there: Vec<&str> = paths.filter(|path| root.join(path).symlink_metadata().is_ok()).collect();
    match there.is_empty() {
        true => Ok(()),
        false => Err(Failure::input(format_args!("{} is there already, and nothing is overwritten", there.join(", ")))
            .hint("`bottle-runner init --print` shows what would be written; move the file away to begin anew")),
    }
}

pub(super) fn origin(checkout: &Checkout) -> Result<Origin, Failure> {
    let address = checkout.origin.as_ref().ok_or_else(|| {
        Failure::input("this repository has no remote `origin`, which says where its forge is")
            .hint("`git remote add origin ADDRESS`, with the repository's address at the forge")
    })?;
    // Its address may have a password, which is no part of what is written.
    let shown = address.to_string();
    let unfit = |why: &dyn std::fmt::Display| {
        Failure::input(format_args!("the remote `origin` is no repository at a forge: {why}"))
            .hint("`git remote set-url origin ADDRESS`, with the repository's https or ssh address at the forge")
    };
    let url = UpstreamUrl::parse(&shown).map_err(|error| unfit(&error))?;
    let parts: Vec<&str> = url.repository().split('/').collect();
    let [below @ .., owner, name] = &parts[..] else {
        return Err(unfit(&format_args!("`{shown}` has no owner and name")));
    };
    // The web's port is not ssh's.
    let server = match url.transport {
        Transport::Ssh => format!("https://{}", url.host),
        Transport::Https | Transport::Http => {
            let place = format!("{}://{}", url.transport.scheme(), url.authority());
            below.iter().fold(place, |place, part| format!("{place}/{part}"))
        }
    };
    let repository = format!("{owner}/{name}");
    Ok(Origin { server, repository, url })
}

pub(super) async fn which_forge(origin: &Origin, root: &Path, context: &Context) -> Result<ForgeArg, Failure> {
    const HINT: &str = "say which it is: --forge github, gitea or forgejo";
    let server = &origin.server;
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, forge::kind_of(server, &context.environment)).await;
    let kind = asked.map_err(|_| {
        Failure::machine(format_args!("{server} did not answer in {} s", ANSWER_TIMEOUT.as_secs())).hint(HINT)
    })?;
    match kind.map_err(|failure| failure.hint(HINT))? {
        Some(ForgeKind::Github) => Ok(ForgeArg::Github),
        // Forgejo answers as Gitea does; a repository that has its directory is there.
        Some(ForgeKind::Gitea) if root.join(".forgejo").is_dir() => Ok(ForgeArg::Forgejo),
        Some(ForgeKind::Gitea) => Ok(ForgeArg::Gitea),
        None => {
            Err(Failure::input(format_args!("{server} answers neither as GitHub nor as Gitea or Forgejo")).hint(HINT))
        }
    }
}

/// The default branch, as the checkout has heard last, or else as origin says.
async fn default_branch(checkout: &Checkout) -> Option<String> {
    let git = |args: &[&str]| Program::git(&checkout.root, args).limit(ANSWER_TIMEOUT);
    let local = git(&["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"]).run().await.ok();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    if let Some(ended) = local.filter(|ended| ended.code == 0) {
        return text(ended.stdout)?.trim().strip_prefix("origin/").map(str::to_owned);
    }
    let asked = git(&["ls-remote", "--symref", "origin", "HEAD"]).run().await.ok()?;
    let said = text(asked.stdout).filter(|_| asked.code == 0)?;
    let line = said.lines().find_map(|line| line.strip_prefix("ref: refs/heads/"))?;
    line.split_once('\t').map(|(branch, _)| branch.to_owned())
}

/// What the files say that git knows, or would take.
async fn project(root: &Path) -> Result<ProjectFiles, Failure> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Program::git(root, &list).run().await.map_err(Failure::machine)?;
    if listed.code != 0 {
        return Err(Failure::machine(format_args!("git can't list the repository's files: {}", listed.complaint())));
    }
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let paths: Vec<String> = names.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    let mut texts = BTreeMap::new();
    for path in paths.iter().filter(|path| starter::is_read(path)) {
        let at = root.join(path);
        // A link may lead anywhere.
        if !at.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let mut bytes = vec![];
        let file = std::fs::File::open(&at).and_then(|file| file.take(starter::MAX_FILE_BYTES).read_to_end(&mut bytes));
        file.map_err(|error| Failure::input(format_args!("failed to read {}: {error}", at.display())))?;
        texts.insert(path.clone(), String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(ProjectFiles::from_files(&paths, &texts))
}

fn files(
    project: &ProjectFiles,
    origin: &Origin,
    forge: ForgeArg,
    environment: &Environment,
) -> Result<Vec<File>, Failure> {
    let open = (origin.url.transport == Transport::Http).then(|| origin.url.authority());
    let text = project.manifest(open.as_deref());
    let name = manifest::FILE_NAMES[0];
    // It goes into somebody's repository: what `run` would not take is not written.
    super::extends::manifest(&super::extends::own_source(name, &text, environment)?)?;
    let mut files = vec![(name.to_owned(), text)];
    files.extend(forge.workflows().map(|(name, text)| (format!("{}/{name}", forge.dir()), text.to_owned())));
    Ok(files)
}

/// What was found, for people.
fn found(project: &ProjectFiles, origin: &Origin, forge: ForgeArg, branch: Option<&str>) -> String {
    let branch =
        branch.map_or("its default branch is not known".to_owned(), |branch| format!("default branch {branch}"));
    let mut text = format!("{}: {}/{}, {branch}\n", forge.name(), origin.server, origin.repository);
    for (manager, path) in &project.managers {
        text.push_str(&format!("{manager}: {}\n", bottle_plan::prose::name(path, 200)));
    }
    text
}

fn next_steps(origin: &Origin, forge: ForgeArg, branch: Option<&str>, files: &[File]) -> String {
    let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    let web = format!("{}/{}", origin.server, origin.repository);
    let branch = branch.map_or("the default branch".to_owned(), |branch| format!("`{branch}`"));
    let secrets = match forge {
        ForgeArg::Github => format!(
            "2. Store the model's key as the secret ANTHROPIC_API_KEY: {web}/settings/secrets/actions/new\n\
             3. Enable \"Allow GitHub Actions to create and approve pull requests\": {web}/settings/actions\n"
        ),
        ForgeArg::Gitea | ForgeArg::Forgejo => format!(
            "2. Make a token of an administrator of the repository, with the scopes read:user, write:issue and write:repository: \
             {}/user/settings/applications\n\
             3. Store it as the secret BOTTLE_TOKEN, and the model's key as ANTHROPIC_API_KEY: {web}/settings/actions/secrets\n",
            origin.server
        ),
    };
    let token = forge::token_variables(forge.kind())[0];
    format!(
        "\nNext:\n1. Look at the files, and bring them to {branch}:\n     git add {}\n     git commit -m \"Let claude-bottle work on \
         issues\" && git push\n{secrets}4. Make the label `claude` and set it on an issue, or write the comment `/claude fix this`.\n\
         Before that, `bottle-runner plan --manifest {} --task \"Fix it\"` shows what a run would do here, and `bottle-runner doctor`, \
         with a token in {token}, says what the forge still lacks.\n",
        paths.join(" "),
        manifest::FILE_NAMES[0]
    )
}

/// A person's yes.
fn ask(found: &str, files: &[File]) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::input("nothing is written without a yes, and there is nobody to ask")
            .hint("give --yes, or --print to look at it first"));
    }
    let paths: String = files.iter().map(|(path, _)| format!("  {path}\n")).collect();
    let _ =
        std::io::stderr().lock().write_all(format!("{found}\nTo be written:\n{paths}\nwrite them? [y/N] ").as_bytes());
    let mut line = String::new();
    let _ = std::io::stdin().lock().read_line(&mut line);
    match line.trim() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::input("nothing was written")),
    }
}

/// Writes all of them, or none.
fn write(root: &Path, files: &[File]) -> Result<(), Failure> {
    let mut made: Vec<PathBuf> = vec![];
    for (path, text) in files {
        let at = root.join(path);
        if let Err(error) = write_new(root, &at, text) {
            for path in &made {
                let _ = std::fs::remove_file(path);
            }
            return Err(Failure::input(format_args!("failed to write {}: {error}", at.display()))
                .hint("nothing was written; let yourself write there, or use --print"));
        }
        made.push(at);
    }
    Ok(())
}

fn write_new(root: &Path, at: &Path, text: &str) -> std::io::Result<()> {
    let dir = at.parent().unwrap_or(root);
    // A directory that is a link would bring the file somewhere else.
    let there = dir.ancestors().find(|above| above.symlink_metadata().is_ok()).unwrap_or(root);
    if !there.canonicalize()?.starts_with(root.canonicalize()?) {
        return Err(std::io::Error::other("its directory leads out of the repository"));
    }
    std::fs::create_dir_all(dir)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(at)?;
    file.write_all(text.as_bytes()).inspect_err(|_| drop(std::fs::remove_file(at)))
}
