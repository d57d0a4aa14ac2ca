//! From what was typed to a plan: the rules of the base branch, what is asked for and by whom, the facts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bottle_plan::event::{Asked, Unclear};
use bottle_plan::facts::HostFacts;
use bottle_plan::manifest::{Manifest, ManifestSource, Setup};
use bottle_plan::name::Name;
use bottle_plan::plan::{BottlePlan, MAX_LOCK_FILES, Options};
use bottle_plan::task::{Source, Task};
use bottle_policy::outputs::AnswerSchema;
use bottle_types::address::without_userinfo;

use super::auto_merge::AutoMergeRequest;
use super::task_args::TaskArgs;
use super::{Context, asked, extends, facts, oldest, order, resume, rules};
use crate::exit::{Code, Failure};
use crate::forge::{self, Forge};
use crate::host::{self, Base, Checkout};
use crate::run::Planning;
use crate::thread::AttachedFile;

/// The job's forge, none outside of one; or why it can't be used, which a plan alone need not care about.
pub(super) type JobForge = Result<Option<Arc<dyn Forge>>, Failure>;

/// A plan, and what it was made of.
pub(crate) struct PlannedRun {
    pub(crate) plan: BottlePlan,
    /// The files that people attached.
    pub(crate) attached: Vec<AttachedFile>,
    pub(crate) planning: Planning,
    /// The manifest's text, with its policies.
    pub(crate) manifest: ManifestSource,
    pub(crate) forge: JobForge,
    /// The issue that was chosen for `--oldest-issue`.
    pub(crate) chosen: Option<u64>,
}

/// A plan, or a reason why there is nothing to do.
pub(crate) enum PlanResult {
    Plan(Box<PlannedRun>),
    Nothing(String),
    /// The command in a comment was carried out; the text says how.
    Done(String),
    /// A comment, by somebody who may ask, that is nearly a command; the forge shows the answer.
    Unclear(Box<Unclear>, Arc<dyn Forge>),
    /// A person may have the forge merge a pull request, or not any more; nothing is done yet.
    AutoMerge(Box<AutoMergeRequest>),
}

/// Makes the plan. The issues in `passed` are not chosen.
pub(crate) async fn plan(
    args: &TaskArgs,
    dry_run: bool,
    passed: &BTreeSet<u64>,
    context: &Context,
) -> Result<PlanResult, Failure> {
    let environment = &context.environment;
    let checkout = checkout(args).await?;
    let mut ci = facts::ci(environment).await?;
    let forge: JobForge = ci.as_ref().map(|ci| forge::connect(environment, ci)).transpose();
    let base = match &mut ci {
        Some(ci) => {
            let (base, branch) = rules::job_base(ci, &forge, checkout.as_ref(), environment).await?;
            ci.base = Some(branch);
            Some(base)
        }
        None => checkout.as_ref().map(Base::of_checkout),
    };
    let (name, text) = match (&base, &args.manifest) {
        (Some(base), Some(path)) if ci.is_some() => rules::named_manifest(path, base, checkout.as_ref()).await?,
        _ => rules::find_manifest(args, base.as_ref(), &directory(args), environment).await?,
    };
    let source = extends::source(&name, &text, environment).await?;
    let manifest = extends::manifest(&source)?;
    extends::check_image(args.image.as_deref(), &source, &manifest)?;
    let forge = match &ci {
        Some(ci) if forge::is_open(environment, ci) => forge::connect_open(environment, ci, &manifest).map(Some),
        _ => forge,
    };
    let resumed = args.resume.as_deref().map(resume::read).transpose()?;
    let mut facts = facts::host_facts(args, checkout.as_ref(), ci, environment).await?;
    let presets = manifest.bottles.values().flat_map(|bottle| bottle.presets()).collect();
    facts.registries = host::registries::gather(presets, base.as_ref(), environment).await;
    facts.origins = extends::origins(&source)?;
    facts.lock_files = lock_files(&manifest, base.as_ref()).await?;
    facts.answer_schemas = base_texts(base.as_ref(), answer_schemas(&manifest)).await;
    facts.claude_settings =
        base_texts(base.as_ref(), manifest.agents.values().filter_map(|agent| agent.settings.as_deref())).await;
    let workflows = manifest.bottles.values().filter_map(|bottle| bottle.setup.as_ref()?.from.as_deref());
    facts.setup_workflows = base_texts(base.as_ref(), workflows).await;
    let mut choice = Chosen { passed, number: None, notes: vec![] };
    let task = match task(args, &manifest, &facts, resumed.as_ref(), context, &forge, &mut choice).await? {
        Ok(task) => task,
        Err(result) => return Ok(result),
    };
    let options = options(args, dry_run, resumed)?;
    let planning = Planning { task, manifest, facts, options, checkout, base };
    let (mut plan, attached) = planning.plan(forge.as_ref().ok().and_then(Option::as_deref)).await?;
    if planning.facts.ci.is_none() && args.manifest.is_none() {
        plan.notes.extend(rules::edited(&source, planning.base.as_ref(), &directory(args)));
    }
    plan.notes.extend(choice.notes);
    let chosen = choice.number;
    Ok(PlanResult::Plan(Box::new(PlannedRun { plan, attached, planning, manifest: source, forge, chosen })))
}

/// What comes of `--oldest-issue`.
struct Chosen<'a> {
    /// Issues that other runs have taken up meanwhile.
    passed: &'a BTreeSet<u64>,
    number: Option<u64>,
    notes: Vec<String>,
}

/// The base branch's lock files, where a setup has a cache whose key they are part of.
async fn lock_files(manifest: &Manifest, base: Option<&Base>) -> Result<BTreeMap<String, String>, Failure> {
    let has_cache = |setup: &Setup| setup.cache.is_some();
    let mut setups = manifest.bottles.values().filter_map(|bottle| bottle.setup.as_ref());
    let Some(base) = base.filter(|_| setups.any(has_cache)) else { return Ok(BTreeMap::new()) };
    let found = base
        .ids(bottle_plan::plan::is_lock_file)
        .await
        .map_err(|why| Failure::machine(format_args!("failed to look for the lock files of {}: {why}", base.name())))?;
    if found.len() > MAX_LOCK_FILES {
        let what = format!("the base branch has {} lock files, too many for a cache's key", found.len());
        return Err(Failure::input(what).hint("leave out `setup.cache`"));
    }
    Ok(found)
}

/// The paths of files with schemas of answers.
fn answer_schemas(manifest: &Manifest) -> impl Iterator<Item = &str> {
    let outputs = manifest.agents.values().filter_map(|agent| agent.outputs.as_ref());
    outputs.filter_map(|outputs| match &outputs.json {
        Some(AnswerSchema::File(path)) => Some(path.as_str()),
        _ => None,
    })
}

/// The base branch's texts at these paths; a link is none. The plan says that one is missing.
async fn base_texts<'a>(base: Option<&Base>, paths: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let Some(base) = base else { return found };
    for path in paths {
        let files = base.files(&[path]).await;
        if let Some((_, _, bytes)) = files.into_iter().find(|(found, ..)| found == path) {
            found.insert(path.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    found
}

fn directory(args: &TaskArgs) -> PathBuf {
    args.cwd.clone().unwrap_or_else(|| PathBuf::from("."))
}

/// The checkout that the command was given, or stands in.
async fn checkout(args: &TaskArgs) -> Result<Option<Checkout>, Failure> {
    let dir = directory(args);
    if !dir.is_dir() {
        return Err(
            Failure::input(format_args!("{} is not a directory", dir.display())).hint("give --cwd a git checkout")
        );
    }
    let checkout = Checkout::find(&dir).await;
    if args.cwd.is_some() && checkout.is_none() {
        return Err(Failure::input(format_args!("{} is not in a git checkout", dir.display()))
            .hint("leave out --cwd to clone through the gate"));
    }
    Ok(checkout)
}

/// The task, asked for by somebody who may; or the result of a command that is none.
async fn task(
    args: &TaskArgs,
    manifest: &Manifest,
    facts: &HostFacts,
    resumed: Option<&resume::EarlierRun>,
    context: &Context,
    forge: &JobForge,
    choice: &mut Chosen<'_>,
) -> Result<Result<Task, PlanResult>, Failure> {
    let environment = &context.environment;
    let payload = asked::payload(args, environment);
    if let Some(label) = &args.oldest_issue {
        return match oldest::choose(label, manifest, facts, environment, forge, choice.passed).await? {
            Ok(found) => {
                (choice.number, choice.notes) = (Some(found.number), found.notes);
                Ok(Ok(found.task))
            }
            Err(why) => nothing(&why),
        };
    }
    let mut asked = match (args.issue, resumed) {
        (Some(number), _) => asked::issue(number, facts, environment, forge).await?,
        (None, Some(resumed)) if facts.ci.is_none() && args.names_no_task() => {
            Asked::Task(Box::new(resumed.task.clone()))
        }
        (None, _) => asked::read_task(args, manifest, environment, forge).await?,
    };
    if let Asked::Command(command) = &asked {
        let Some(forge) = forge.as_ref().map_err(Clone::clone)? else {
            return nothing("this is not a job of a forge, where runs hear comments");
        };
        let job_url = facts.ci.as_ref().map(|ci| ci.run_url.as_str()).unwrap_or_default();
        match order::carry_out(command, &payload, (&manifest.triggers, job_url), forge).await? {
            order::OrderResult::Done(what) => return Ok(Err(PlanResult::Done(what))),
            order::OrderResult::Task(again) => asked = again,
            order::OrderResult::AutoMerge(request) => return Ok(Err(PlanResult::AutoMerge(request))),
        }
    }
    let task = match asked {
        Asked::Task(task) => *task,
        Asked::Nothing(why) => return nothing(&why),
        Asked::Command(_) => return nothing("the command asks for nothing that can be done again"),
        Asked::Refused(why) => {
            let failure = Failure::new(Code::Refused, why).by_stranger();
            return Err(failure.hint("`triggers.who` in claude-bottle.yml says who may ask"));
        }
        Asked::Unclear(unclear) => return Ok(Err(asked::unclear(*unclear, manifest, forge).await)),
    };
    if facts.ci.is_some() {
        asked::check_who_asked(args, &payload, &task, manifest, environment, forge).await?;
    }
    if let (Source::FailedRun(run), Ok(Some(forge))) = (&task.source, forge) {
        match forge.commit_of(&run.branch).await {
            Ok(_) => {}
            Err(error) if error.status() == Some(404) => {
                return nothing(&format!(
                    "the failed run is of `{}`, which is no branch now: it is a tag, or gone",
                    run.branch
                ));
            }
            Err(error) => return Err(Failure::machine(&error).hint(error.hint())),
        }
    }
    Ok(Ok(task))
}

fn nothing(why: &str) -> Result<Result<Task, PlanResult>, Failure> {
    Ok(Err(PlanResult::Nothing(why.to_owned())))
}

fn options(args: &TaskArgs, dry_run: bool, resumed: Option<resume::EarlierRun>) -> Result<Options, Failure> {
    Ok(Options {
        agent: args.agent.as_deref().map(Name::parse).transpose().map_err(Failure::input)?,
        backend: args.backend.backend(),
        dry_run,
        replay: args.replay.as_ref().map(|path| without_userinfo(&path.display().to_string())),
        publish: args.publish.as_ref().map(|path| without_userinfo(&path.display().to_string())),
        bring_checkout: args.cwd.is_some(),
        image: args.image.as_deref().map(without_userinfo),
        capabilities: resumed.map(|resumed| resumed.capabilities).unwrap_or_default(),
        ..Options::default()
    })
}
