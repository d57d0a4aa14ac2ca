//! The rules of a run: the base, a commit of the base branch, and its manifest.

use std::path::{Component, Path};

use bottle_plan::facts::{Ci, JobStart};
use bottle_plan::manifest::{self, ManifestSource};
use bottle_types::git::ObjectId;

use super::asked::payload;
use super::task::JobForge;
use super::task_args::TaskArgs;
use crate::exit::{Code, Failure};
use crate::forge;
use crate::host::{Base, Checkout, Environment};

/// What to do where the base is not known without asking, and the token may not be sent yet.
const OPEN: &str = "over plain http no token is sent before the manifest of the base branch allows it: let the checkout step check out \
                    the default branch, with `fetch-depth: 0`, or use https";

/// The base of a job, a commit of the repository's default branch, whatever is checked out; and that branch.
///
/// The job's runner names it where the job was started for that branch; else the forge is asked where the branch is now. It is
/// read out of the checkout where the checkout has it, else fetched.
pub(super) async fn job_base(
    ci: &Ci,
    forge: &JobForge,
    checkout: Option<&Checkout>,
    environment: &Environment,
) -> Result<(Base, String), Failure> {
    // The job's own event, not one that is given by hand.
    let payload = payload(&TaskArgs::default(), environment);
    let start = JobStart {
        repository: &ci.repository,
        reference: environment.get("GITHUB_REF"),
        commit: environment.get("GITHUB_SHA"),
        payload: &payload,
    };
    let (branch, commit) = match start.on_the_default_branch() {
        Some((branch, commit)) => (branch.to_owned(), commit),
        None => asked_base(ci, forge, &start, environment).await?,
    };
    let name = format!("{branch} at {}", commit.short());
    if let Some(checkout) = checkout
        && let Some(base) = Base::in_checkout(checkout, &commit, &name).await
    {
        return Ok((base, branch));
    }
    let token = forge::token(environment, ci.forge)?;
    let token = Some(token.expose().as_str()).filter(|_| !forge::is_open(environment, ci));
    let url = format!("{}/{}.git", ci.server_url.trim_end_matches('/'), ci.repository);
    let fetched = Base::fetch(&url, token, &commit, &name, environment.ca_bundle().as_deref()).await;
    let base = fetched.map_err(|why| {
        Failure::machine(format_args!(
            "the base branch of {}, which has the rules, can't be read: the checkout lacks {name}, and it can't be fetched \
             from {url}: {why}",
            ci.repository
        ))
        .hint(format_args!("give the checkout step `ref: {branch}`, or the step a token that may read the repository"))
    })?;
    Ok((base, branch))
}

/// The default branch and a commit of it, by the forge's word.
async fn asked_base(
    ci: &Ci,
    forge: &JobForge,
    start: &JobStart<'_>,
    environment: &Environment,
) -> Result<(String, ObjectId), Failure> {
    let unknown = |code: Code, why: &dyn std::fmt::Display, hint: &str| {
        Failure::new(
            code,
            format_args!("the base branch of {}, which has the rules, is not known: {why}", ci.repository),
        )
        .hint(hint)
    };
    let forge = match forge {
        Ok(Some(forge)) => forge,
        Ok(None) => return Err(unknown(Code::Refused, &"there is no forge to ask", "run it in a job of the forge")),
        Err(failure) if failure.by_stranger => return Err(failure.clone()),
        Err(failure) => return Err(unknown(failure.code, failure, failure.hint.as_deref().unwrap_or_default())),
    };
    let failed = |error: forge::ForgeError| match forge::is_open(environment, ci) {
        true => unknown(Code::Machine, &error, OPEN),
        false => unknown(Code::Machine, &error, &error.hint()),
    };
    let branch = forge.default_branch().await.map_err(failed)?;
    // A schedule's payload has no repository; the job's runner says all the same what it was started for.
    let commit = match start.commit_on(&branch) {
        Some(commit) => commit,
        None => forge.commit_of(&branch).await.map_err(failed)?,
    };
    Ok((branch, commit))
}

/// The manifest that `--manifest` names in a job: a file of the base branch, because the working tree may be somebody's proposal.
pub(super) async fn named_manifest(
    path: &Path,
    base: &Base,
    checkout: Option<&Checkout>,
) -> Result<(String, String), Failure> {
    let inside = match (path.is_absolute(), checkout) {
        (false, _) => Some(path),
        (true, Some(checkout)) => path.strip_prefix(&checkout.root).ok(),
        (true, None) => None,
    };
    let plain = |path: &&Path| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let found = inside.filter(plain).and_then(|path| path.components().as_path().to_str());
    let found = found.map(|path| path.strip_prefix("./").unwrap_or(path));
    let bytes = match found {
        Some(path) => base.file(path).await,
        None => None,
    };
    let shown = path.display();
    let bytes = bytes.ok_or_else(|| {
        Failure::input(format_args!("the manifest {shown} is not a file of the base branch ({})", base.name()))
            .hint("in a job --manifest is a path in the repository: commit the file to the default branch")
    })?;
    as_text(shown.to_string(), bytes)
}

fn as_text(name: String, bytes: Vec<u8>) -> Result<(String, String), Failure> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name, text)),
        Err(_) => Err(Failure::input(format_args!("{name} is not UTF-8 text"))),
    }
}

/// Says that the file in the working tree is another than the base branch's, whose rules a run goes by: somebody may just have edited it.
pub(super) fn edited(source: &ManifestSource, base: Option<&Base>, dir: &Path) -> Option<String> {
    let base = base.filter(|base| base.has_commit())?;
    let name = source.name();
    let there = std::fs::read(dir.join(name)).ok()?;
    (there != source.text().as_bytes()).then(|| {
        format!(
            "{name} in this directory is another than the one of {}, by which runs go: commit it, or try it with `--manifest {name}`",
            base.name()
        )
    })
}

pub(super) async fn find_manifest(
    args: &TaskArgs,
    base: Option<&Base>,
    dir: &Path,
    environment: &Environment,
) -> Result<(String, String), Failure> {
    if let Some(path) = &args.manifest {
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::input(format_args!("failed to read the manifest {}: {error}", path.display())))?;
        return as_text(path.display().to_string(), bytes);
    }
    for name in manifest::FILE_NAMES {
        match base {
            // From the base branch: a proposed change must not change its own rules.
            Some(base) if base.has_commit() => {
                if let Some(bytes) = base.file(name).await {
                    return as_text(name.to_owned(), bytes);
                }
            }
            _ => {
                if let Ok(bytes) = std::fs::read(dir.join(name)) {
                    return as_text(name.to_owned(), bytes);
                }
            }
        }
    }
    if environment.policy_file().is_some() && has_no_manifest(base, dir).await? {
        // The policy is a whole manifest; nothing narrows it.
        return Ok((manifest::FILE_NAMES[0].to_owned(), "version: 1\n".to_owned()));
    }
    let (place, hint) = match base {
        // Where it is read from is what people miss: a file in the working tree does not count.
        Some(base) => (
            format!("the base branch of this checkout ({})", base.name()),
            "commit one there (`bottle-runner schema` describes it), or try one out with --manifest FILE",
        ),
        None => (
            "this directory".to_owned(),
            "write one (`bottle-runner schema` describes it) and commit it, or name one with --manifest",
        ),
    };
    Err(Failure::input(format_args!("there is no claude-bottle.yml in {place}")).hint(hint))
}

/// Whether it is known that there is no manifest; one that only can't be read must not count as none.
async fn has_no_manifest(base: Option<&Base>, dir: &Path) -> Result<bool, Failure> {
    if let Some(base) = base.filter(|base| base.has_commit()) {
        let found = base.ids(|path| manifest::FILE_NAMES.contains(&path)).await;
        let found = found.map_err(|why| {
            Failure::machine(format_args!("failed to look for the manifest in {}: {why}", base.name()))
        })?;
        return Ok(found.is_empty());
    }
    let is_gone = |name: &&str| {
        std::fs::symlink_metadata(dir.join(name)).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    Ok(manifest::FILE_NAMES.iter().all(is_gone))
}
