//! From what was typed to a plan: the task, the manifest of the base branch, the facts.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bottle_plan::event::{self, Asked};
use bottle_plan::facts::{Ci, ForgeKind, HostFacts, JobStart};
use bottle_plan::manifest::{self, Manifest, Triggers};
use bottle_plan::name::Name;
use bottle_plan::plan::{BottlePlan, Options};
use bottle_plan::task::{Actor, Repository, Source, Task, Thread};
use bottle_types::address::without_userinfo;
use bottle_types::backend::Backend;

use super::task_args::{BackendArg, TaskArgs};
use super::{Context, order, resume};
use crate::exit::{Code, Failure};
use crate::forge::{self, Forge};
use crate::host::{self, Base, Checkout, Environment};
use crate::permission::{Asker, Denial, may_ask};
use crate::thread;

/// What to do where the base is not known without asking, and the token may not be sent yet.
const OPEN: &str = "over plain http no token is sent before the manifest of the base branch allows it: let the checkout step check out \
                    the default branch, with `fetch-depth: 0`, or use https";

/// A plan, and what making it looked up.
pub(crate) struct PlannedRun {
    pub(crate) plan: BottlePlan,
    pub(crate) checkout: Option<Checkout>,
    /// Where manifest, prompts and skills are read; none outside of a job and of a checkout.
    pub(crate) base: Option<Base>,
    /// The manifest's name and text.
    pub(crate) manifest: (String, String),
    /// The job's forge, none outside of one; or why it can't be used, which a plan alone need not care about.
    pub(crate) forge: Result<Option<Arc<dyn Forge>>, Failure>,
}

/// A plan, or a reason why there is nothing to do.
pub(crate) enum PlanResult {
    Plan(Box<PlannedRun>),
    Nothing(String),
    /// The command in a comment was carried out; the text says how.
    Done(String),
}

/// Makes the plan.
pub(crate) async fn plan(args: &TaskArgs, dry_run: bool, context: &Context) -> Result<PlanResult, Failure> {
    let environment = &context.environment;
    let here = PathBuf::from(".");
    let dir = args.cwd.as_deref().unwrap_or(&here);
    if !dir.is_dir() {
        return Err(
            Failure::input(format_args!("{} is not a directory", dir.display())).hint("give --cwd a git checkout")
        );
    }
    let checkout = Checkout::find(dir).await;
    if args.cwd.is_some() && checkout.is_none() {
        return Err(Failure::input(format_args!("{} is not in a git checkout", dir.display()))
            .hint("leave out --cwd to clone through the gate"));
    }
    let ci = ci(environment).await?;
    let forge = ci.as_ref().map(|ci| forge::connect(environment, ci)).transpose();
    let base = match &ci {
        Some(ci) => Some(job_base(ci, forge.as_ref(), checkout.as_ref(), environment).await?),
        None => checkout.as_ref().map(Base::of_checkout),
    };
    let (name, text) = match (&base, &args.manifest) {
        (Some(base), Some(path)) if ci.is_some() => named_manifest(path, base, checkout.as_ref()).await?,
        _ => find_manifest(args, base.as_ref(), dir).await?,
    };
    let manifest = read_manifest(&name, &text)?;
    let forge = match &ci {
        Some(ci) if forge::is_open(environment, ci) => forge::connect_open(environment, ci, &manifest).map(Some),
        _ => forge,
    };
    let resumed = args.resume.as_deref().map(resume::read).transpose()?;
    let mut facts = host_facts(args, checkout.as_ref(), ci, environment).await?;
    let presets = manifest.bottles.values().flat_map(|bottle| bottle.egress.presets.iter().copied()).collect();
    facts.registries = host::registries::gather(presets, base.as_ref(), environment).await;
    let asked = match (args.issue, &facts.ci) {
        (Some(number), Some(ci)) => {
            let mut task = issue_task(number, ci, environment, forge.as_ref()).await?;
            // It is taken as it is now, with all that was said so far.
            task.asked_at = Some(facts.started_at.clone());
            Asked::Task(Box::new(task))
        }
        (Some(_), None) => {
            return Err(Failure::input("--issue is for a job of a forge, and this is none")
                .hint("give --event FILE with the issue's payload, or --task TEXT"));
        }
        (None, ci) => match &resumed {
            Some(resumed) if ci.is_none() && args.names_no_task() => Asked::Task(Box::new(resumed.task.clone())),
            _ => read_task(args, &manifest, environment, forge.as_ref()).await?,
        },
    };
    let asked = match (asked, &forge) {
        (Asked::Command(command), Ok(Some(forge))) => {
            let payload = payload(args, environment);
            match order::carry_out(&command, &payload, &manifest.triggers, forge).await? {
                order::OrderResult::Done(what) => return Ok(PlanResult::Done(what)),
                order::OrderResult::Task(asked) => asked,
            }
        }
        (Asked::Command(_), Err(failure)) => return Err(failure.clone()),
        (asked, _) => asked,
    };
    let mut task = match asked {
        Asked::Task(task) => *task,
        Asked::Nothing(why) => return Ok(PlanResult::Nothing(why)),
        Asked::Command(_) => {
            return Ok(PlanResult::Nothing("this is not a job of a forge, where runs hear comments".to_owned()));
        }
        Asked::Refused(why) => {
            let failure = Failure::new(Code::Refused, why).by_stranger();
            return Err(failure.hint("`triggers.who` in claude-bottle.yml says who may ask"));
        }
    };
    if facts.ci.is_some() {
        let payload = payload(args, environment);
        check_who_asked(args, &payload, &task, &manifest, environment, forge.as_ref()).await?;
        if let Ok(Some(forge)) = &forge {
            thread::gather(forge.as_ref(), &mut task).await?;
        }
    }
    let agent = args.agent.as_deref().map(Name::parse).transpose().map_err(Failure::input)?;
    let options = Options {
        agent,
        backend: match args.backend {
            BackendArg::Auto => None,
            BackendArg::Docker => Some(Backend::Docker),
            BackendArg::Smolmachines => Some(Backend::Smolmachines),
            BackendArg::Bubblewrap => Some(Backend::Bubblewrap),
        },
        dry_run,
        replay: args.replay.as_ref().map(|path| without_userinfo(&path.display().to_string())),
        publish: args.publish.as_ref().map(|path| without_userinfo(&path.display().to_string())),
        bring_checkout: args.cwd.is_some(),
        image: args.image.as_deref().map(without_userinfo),
        capabilities: resumed.map(|resumed| resumed.capabilities).unwrap_or_default(),
        ..Options::default()
    };
    let plan = bottle_plan::plan::plan(&task, &manifest, &facts, &options).map_err(|error| {
        let failure = Failure::input(&error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    Ok(PlanResult::Plan(Box::new(PlannedRun { plan, checkout, base, manifest: (name, text), forge })))
}

/// The event's payload as it came, for what is asked of the forge; null where there is none.
fn payload(args: &TaskArgs, environment: &Environment) -> serde_json::Value {
    let path = args.event.clone().or_else(|| environment.get("GITHUB_EVENT_PATH").map(PathBuf::from));
    path.and_then(|path| std::fs::read(path).ok())
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// The user who set off the job.
fn sender(payload: &serde_json::Value) -> Option<Asker> {
    let sender = &payload["sender"];
    Some(Asker { login: sender["login"].as_str()?.to_owned(), id: sender["id"].as_u64()? })
}

/// The base of a job: a commit of the repository's default branch, whatever is checked out.
///
/// The job's runner names it where the job was started for that branch; else the forge is asked where the branch is now. It is
/// read out of the checkout where the checkout has it, else fetched.
async fn job_base(
    ci: &Ci,
    forge: Result<&Option<Arc<dyn Forge>>, &Failure>,
    checkout: Option<&Checkout>,
    environment: &Environment,
) -> Result<Base, Failure> {
    // The job's own event, not one that is given by hand.
    let payload = payload(&TaskArgs::default(), environment);
    let start = JobStart {
        repository: &ci.repository,
        reference: environment.get("GITHUB_REF"),
        commit: environment.get("GITHUB_SHA"),
        payload: &payload,
    };
    let unknown = |code: Code, why: &dyn std::fmt::Display, hint: &str| {
        Failure::new(
            code,
            format_args!("the base branch of {}, which has the rules, is not known: {why}", ci.repository),
        )
        .hint(hint)
    };
    let (branch, commit) = match start.on_the_default_branch() {
        Some((branch, commit)) => (branch.to_owned(), commit),
        None => {
            let forge = match forge {
                Ok(Some(forge)) => forge,
                Ok(None) => {
                    return Err(unknown(Code::Refused, &"there is no forge to ask", "run it in a job of the forge"));
                }
                Err(failure) if failure.by_stranger => return Err(failure.clone()),
                Err(failure) => {
                    return Err(unknown(failure.code, failure, failure.hint.as_deref().unwrap_or_default()));
                }
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
            (branch, commit)
        }
    };
    let name = format!("{branch} at {}", &commit.as_str()[..12]);
    if let Some(checkout) = checkout
        && let Some(base) = Base::in_checkout(checkout, &commit, &name).await
    {
        return Ok(base);
    }
    let token = forge::token(environment, ci.forge)?;
    let token = Some(token.expose().as_str()).filter(|_| !forge::is_open(environment, ci));
    let url = format!("{}/{}.git", ci.server_url.trim_end_matches('/'), ci.repository);
    Base::fetch(&url, token, &commit, &name, environment.ca_bundle().as_deref()).await.map_err(|why| {
        Failure::machine(format_args!(
            "the base branch of {}, which has the rules, can't be read: the checkout lacks {name}, and it can't be fetched \
             from {url}: {why}",
            ci.repository
        ))
        .hint(format_args!("give the checkout step `ref: {branch}`, or the step a token that may read the repository"))
    })
}

/// The manifest that `--manifest` names in a job: a file of the base branch, because the working tree may be somebody's proposal.
async fn named_manifest(path: &Path, base: &Base, checkout: Option<&Checkout>) -> Result<(String, String), Failure> {
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

/// An issue as a task, asked for by whoever set off the job.
async fn issue_task(
    number: u64,
    ci: &Ci,
    environment: &Environment,
    forge: Result<&Option<Arc<dyn Forge>>, &Failure>,
) -> Result<Task, Failure> {
    let no_forge = || Failure::input("--issue needs the forge");
    let forge = forge.map_err(Clone::clone)?.as_ref().ok_or_else(no_forge)?;
    let failed = |error: forge::ForgeError| Failure::machine(&error).hint(error.hint());
    let issue = forge.issue(number).await.map_err(failed)?;
    if issue.is_pull_request {
        return Err(Failure::input(format_args!("#{number} is a pull request, not an issue")));
    }
    let payload = payload(&TaskArgs::default(), environment);
    Ok(Task {
        source: Source::Issue(Thread { number, title: issue.title, body: issue.body, author: None, url: issue.url }),
        asked_by: sender(&payload).map(|asker| Actor { login: asker.login, id: asker.id, association: None }),
        repository: Some(Repository {
            full_name: ci.repository.clone(),
            clone_url: format!("{}/{}.git", ci.server_url.trim_end_matches('/'), ci.repository),
            default_branch: forge.default_branch().await.map_err(failed)?,
        }),
        ..Task::text("")
    })
}

/// Refuses an actor below the manifest's permission; in a job somebody always asked, but for a schedule.
async fn check_who_asked(
    args: &TaskArgs,
    payload: &serde_json::Value,
    task: &Task,
    manifest: &Manifest,
    environment: &Environment,
    forge: Result<&Option<Arc<dyn Forge>>, &Failure>,
) -> Result<(), Failure> {
    let refused = |why: &str| {
        Failure::new(Code::Refused, why)
            .hint("`triggers.who` in claude-bottle.yml says who may ask; the event must say who asked")
    };
    let asker = match &task.asked_by {
        Some(actor) => Asker { login: actor.login.clone(), id: actor.id },
        // Nobody asks for a schedule but the base branch, where the workflow is.
        None if environment.get("GITHUB_EVENT_NAME") == Some("schedule") && args.event.is_none() => return Ok(()),
        None => sender(payload).ok_or_else(|| refused("who asked can't be checked: the event names no sender"))?,
    };
    let forge = match forge {
        Ok(Some(forge)) => forge,
        Ok(None) => return Err(refused("who asked can't be checked: this is no job of a forge")),
        Err(failure) if failure.by_stranger => return Err(failure.clone()),
        Err(failure) => {
            let hint = failure.hint.clone().unwrap_or_default();
            return Err(Failure::new(Code::Refused, format_args!("who asked can't be checked: {failure}")).hint(hint));
        }
    };
    let pull = pull_request_of(task, payload);
    may_ask(forge.as_ref(), &manifest.triggers.who, &asker, pull).await.map_err(Denial::into_failure)
}

/// The pull request that a task is about, however the event says it: the task knows Gitea's `is_pull` too, the payload also
/// what a text that was asked for in a job came with.
fn pull_request_of(task: &Task, payload: &serde_json::Value) -> Option<u64> {
    if let Some(thread) = task.thread().filter(|_| task.is_about_a_pull_request()) {
        return Some(thread.number);
    }
    let issue = &payload["issue"];
    let number = if issue["pull_request"].is_null() { &payload["pull_request"]["number"] } else { &issue["number"] };
    number.as_u64()
}

fn read_manifest(name: &str, text: &str) -> Result<Manifest, Failure> {
    manifest::parse(text, name).map_err(|error| {
        let failure = Failure::input(&error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

fn as_text(name: String, bytes: Vec<u8>) -> Result<(String, String), Failure> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name, text)),
        Err(_) => Err(Failure::input(format_args!("{name} is not UTF-8 text"))),
    }
}

async fn find_manifest(args: &TaskArgs, base: Option<&Base>, dir: &Path) -> Result<(String, String), Failure> {
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

async fn read_task(
    args: &TaskArgs,
    manifest: &Manifest,
    environment: &Environment,
    forge: Result<&Option<Arc<dyn Forge>>, &Failure>,
) -> Result<Asked, Failure> {
    if let Some(text) = &args.task {
        if text.trim().is_empty() {
            return Err(Failure::input("the task is empty").hint("give the task in words: --task \"…\""));
        }
        return Ok(Asked::Task(Box::new(Task::text(text))));
    }
    let path = args.event.clone().or_else(|| environment.get("GITHUB_EVENT_PATH").map(PathBuf::from));
    let Some(path) = path else {
        return Err(Failure::input("there is no task").hint("give --task TEXT, or --event FILE with a webhook payload"));
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::input(format_args!("failed to read the event {}: {error}", path.display()))
            .hint("give --event a file with the forge's webhook payload")
    })?;
    let kind = match &args.event {
        Some(_) => args.event_name.as_deref(),
        None => environment.get("GITHUB_EVENT_NAME"),
    };
    let parsed = |text: &str| {
        event::parse(text, kind, &manifest.triggers)
            .map_err(|error| Failure::input(format_args!("{}: {error}", path.display())).hint(error.hint()))
    };
    let asked = parsed(&text)?;
    match with_labels(&asked, &text, &manifest.triggers, forge).await? {
        Some(text) => parsed(&text),
        None => Ok(asked),
    }
}

/// The event with the labels that it tells of, by the forge's word, where it leaves them out itself and one of those that are
/// there would start a run.
async fn with_labels(
    asked: &Asked,
    text: &str,
    triggers: &Triggers,
    forge: Result<&Option<Arc<dyn Forge>>, &Failure>,
) -> Result<Option<String>, Failure> {
    let mut payload: serde_json::Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap_or_default();
    let (Asked::Nothing(_), Some(unsaid)) = (asked, event::label_unsaid(&payload, triggers)) else { return Ok(None) };
    let Some(forge) = forge.map_err(Clone::clone)? else { return Ok(None) };
    let failed = |error: forge::ForgeError| Failure::machine(&error).hint(error.hint());
    let acts = forge.label_acts(unsaid.number, &unsaid.since).await.map_err(failed)?;
    event::say_labels(&mut payload, &acts);
    Ok(Some(payload.to_string()))
}

async fn host_facts(
    args: &TaskArgs,
    checkout: Option<&Checkout>,
    ci: Option<Ci>,
    environment: &Environment,
) -> Result<HostFacts, Failure> {
    let state_root = environment.state_root().ok_or_else(|| {
        Failure::machine("there is no place for run records: HOME is not set")
            .hint("set BOTTLE_STATE_DIR to a directory")
    })?;
    let state_root = std::path::absolute(&state_root).map_err(Failure::machine)?;
    Ok(HostFacts {
        seed: host::run_id_suffix()?,
        started_at: host::now(),
        state_root: state_root.display().to_string(),
        home: environment.home().map(|home| home.display().to_string()),
        variables: environment.names().map(str::to_owned).collect(),
        checkout: checkout.map(|checkout| bottle_plan::facts::Checkout {
            path: checkout.root.display().to_string(),
            origin: checkout.origin.as_ref().map(ToString::to_string),
            branch: checkout.branch.clone(),
            head: checkout.head.clone(),
        }),
        ci,
        backend: if args.backend == BackendArg::Auto {
            crate::backend::best().await.backend
        } else {
            HostFacts::default().backend
        },
        host_ca_bundle: environment.ca_bundle().map(|path| path.display().to_string()),
        hosts: host::hosts_file(),
        registries: Default::default(),
    })
}

/// The job of GitHub Actions, Gitea or Forgejo that this is, if it is one.
async fn ci(environment: &Environment) -> Result<Option<Ci>, Failure> {
    if environment.get("GITHUB_ACTIONS").is_none() {
        return Ok(None);
    }
    let needed = |name: &str| {
        environment.get(name).map(str::to_owned).ok_or_else(|| {
            Failure::input(format_args!("this is a job of Actions, and {name} is not set"))
                .hint("run it as a step of the job, with the job's environment")
        })
    };
    let forge = forge::kind(environment).await?;
    let server_url = without_userinfo(&needed("GITHUB_SERVER_URL")?);
    let (server_url, repository) = (server_url, needed("GITHUB_REPOSITORY")?);
    let run_id = environment.get("GITHUB_RUN_ID").unwrap_or_default().to_owned();
    // Gitea's pages are by the run's number in its repository.
    let run = match forge {
        ForgeKind::Github => &run_id,
        ForgeKind::Gitea => environment.get("GITHUB_RUN_NUMBER").unwrap_or(&run_id),
    };
    let run_url = format!("{}/{repository}/actions/runs/{run}", server_url.trim_end_matches('/'));
    let branch = environment.get("GITHUB_REF_NAME").map(str::to_owned);
    Ok(Some(Ci { forge, server_url, repository, run_url, run_id, branch }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_on_a_pull_request_where_only_is_pull_says_so() {
        let thread = Thread { number: 7, title: String::new(), body: String::new(), author: None, url: String::new() };
        let task = Task { source: Source::PullRequest(thread.clone()), ..Task::text("") };
        // As Gitea may send it: the issue's own field is null.
        let payload = serde_json::json!({"is_pull": true, "issue": {"number": 7, "pull_request": null}});
        assert_eq!(pull_request_of(&task, &payload), Some(7));
        let task = Task { source: Source::Issue(thread), ..Task::text("") };
        assert_eq!(pull_request_of(&task, &payload), None);
    }
}
