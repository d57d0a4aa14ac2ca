//! How a plan is made: the agent and its bottle are chosen, then each part is decided by its own file.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bottle_policy::artifacts::{ArtifactPolicy, ArtifactRules};
use bottle_policy::bundle::{Bundle, Daemon, image_user};
use bottle_policy::gate::{BranchRewrite, GatePolicy};
use bottle_policy::proxy::UpstreamProxy;
use bottle_policy::route::{Outbound, Route, RoutesPolicy};
use bottle_policy::supervise::Approval;
use bottle_types::backend::Backend;
use bottle_types::door::Door;
use bottle_types::git::RefName;
use bottle_wire::proposal::sha256;

use super::cache::cache_plan;
use super::forge::ForgeDoor;
use super::guest::Guest;
use super::policies::DoorRules;
use super::presets::Presets;
use super::secrets::SecretSources;
use super::setup_steps::SetupSteps;
use super::upstreams::{Upstreams, ci_token};
use super::words::Words;
use super::*;
use crate::facts::HostFacts;
use crate::manifest::{
    Agent, BottleEntry, DEFAULT_AGENT, Egress, GitEntry, Manifest, ModelEndpoint, ModelEntry, RuleOrigins, RuleRef,
    Setup, Verify,
};
use crate::name::words;
use crate::task::{Course, Source, Task, Work, what};
use crate::tokens::injection;

/// Decides everything about a run. It is one list on purpose: each decision needs some of those above it, and a reader finds here
/// in which order they fall; how each is made is a function of its own.
pub fn plan(task: &Task, manifest: &Manifest, facts: &HostFacts, options: &Options) -> Result<BottlePlan, PlanError> {
    let mut notes = vec![];
    let Chosen { agent_name, agent, bottle_name, bottle } = choose(task, manifest, options)?;
    let (task, bottle) = (&*super::outputs::task_for(task, &agent), &*bottle);
    let seed = seed(facts)?;
    let slug = slug(task, seed)?;

    let sources = SecretSources { declared: &manifest.credentials, facts };
    let run = super::commits::identity(task, bottle, facts, options, slug.as_str(), &mut notes)?;
    let upstreams = Upstreams::of(task, (manifest, bottle), (facts, &run), &mut notes)?;
    let backend = options.backend.unwrap_or(facts.backend);
    note_backend(backend, facts, options, &mut notes);
    let model = model(bottle)?;
    let forge = ForgeDoor::of(bottle, &upstreams, sources, &mut notes)?;
    let reach = |egress: &Egress, notes: &mut _| {
        let presets = Presets::of(&egress.presets, facts, backend, notes)?;
        presets.note_beside(&egress.routes, notes);
        // A server's, and the forge's, go first: no other takes what it is about. Then the manifest's own: one of them may have the credential that a preset's host asks for.
        let judged: Vec<Route> = agent.mcp_routes().chain(forge.iter().map(|forge| forge.route.clone())).collect();
        let routes = [&judged[..], &egress.routes, &presets.routes].concat();
        let rules =
            DoorRules::of((bottle, model.as_ref()), routes, &agent.limits, &upstreams, sources, options, notes)?;
        Ok::<_, PlanError>((presets, rules))
    };
    let (presets, rules) = reach(&bottle.egress_with_setup(), &mut notes)?;
    // What is to be said about these was said about all.
    let (agents_presets, agents_rules) = reach(&bottle.egress, &mut vec![])?;
    let commands = bottle.setup.as_ref().map(|asked| setup_commands(asked, facts, &mut notes)).transpose()?;
    let setup = bottle.setup.as_ref().zip(commands);
    let mut setup = setup.map(|asked| setup_plan(asked, &rules.routes, &presets, &agents_presets));
    let doors = doors(&rules, &upstreams);
    let approval = approval(task, bottle, facts, options, &mut notes);
    note_what_nobody_decides(bottle, approval, &mut notes);

    let images = images(bottle, options, backend)?;
    let names = names(&slug, &images, backend);
    let services = super::services::services(bottle, &slug, backend)?;
    let state_dir = format!("{}/{slug}", facts.state_root.trim_end_matches('/'));
    let signing = super::signing::signing(task, bottle, &upstreams, options, &mut notes);
    super::proposed::check(task, &rules.routes.routes, &upstreams, signing.as_ref())?;
    let git = upstreams.git_plan((task, &agent.pull_request), facts, options, seed, signing.as_ref());
    if let Some(git) = git.as_ref().filter(|_| task.work == Work::Change) {
        may_be_pushed((git, task), &upstreams, &mut notes)?;
    }
    let rewrite = rewrite(task, git.as_ref())?;
    let image = images.guest != HOST_SYSTEM;
    let guest = Guest {
        bottle,
        model: model.as_ref(),
        forge: forge.as_ref(),
        rules: &rules,
        presets: &presets,
        doors: &doors,
        services: &services,
        git: git.as_ref(),
        backend,
        image,
        tools: &facts.tools,
    }
    .plan();
    if backend == Backend::Bubblewrap && !image {
        notes.extend(facts.tools.notes.iter().cloned());
    }
    if let (Some(setup), Some(asked)) = (&mut setup, &bottle.setup) {
        setup.cache = cache_plan(asked, facts, &guest, backend, &mut notes);
    }
    let outputs = super::outputs::policy(task, (&agent_name, &agent), bottle, &upstreams, facts, &mut notes)?;
    let artifacts = agent.artifacts.clone().map(|rules| taken(rules, bottle));
    let reports = Some(agent.verify.reports()).filter(|globs| !globs.is_empty());
    let test_reports = reports.map(|globs| taken(ArtifactRules::of_reports(globs), bottle));
    let verify = VerifyPlan::new(&agent.verify, task, &guest, &mut notes);
    let commands = (&agent, setup.as_ref(), services.as_slice(), outputs.as_ref());
    let prompt = super::prompt::prompt(
        task,
        commands,
        &guest,
        (git.as_ref(), signing.as_ref()),
        &upstreams,
        options.dry_run,
        seed,
    );
    let again = || {
        super::prompt::in_a_session(
            (task, &guest),
            (&agent, outputs.as_ref()),
            (git.as_ref(), signing.as_ref()),
            &upstreams,
            options.dry_run,
            seed,
        )
    };
    let session = super::session::session(task, (&agent_name, &agent), (options, &guest.start()), again, &mut notes);
    let tools = super::tools::tools(&agent_name, &agent, facts, &guest.workdir)?;
    note_left_out(task, &prompt, &mut notes);
    note_injections(task, &mut notes);
    super::attachments::note(task, &mut notes);
    let mut gate = GatePolicy { signing, ..gate_policy(task, bottle, (&upstreams, rewrite), options) };
    if manifest.triggers.auto_merge {
        upstreams.close_other_branches(&mut gate, git.as_ref());
    }
    Upstreams::limit_history(&mut gate.upstreams, git.as_ref(), task)?;
    if gate.judges_commits() {
        gate.bases = super::signing::bases(git.as_ref(), facts);
    }
    let supervise = super::policies::supervise(&slug, bottle, approval, outputs);
    let bundle = bundle(&doors, backend);
    let mut secrets = rules.secrets;
    let proxy = super::proxy::proxy(manifest, sources, &mut secrets, &mut notes)?;
    super::proxy::check(proxy.as_ref(), &upstreams)?;
    if let Some(signing) = &gate.signing {
        sources.add(&mut secrets, &signing.key, "signing commits");
    }
    let mut extra_hosts = upstreams.extra_hosts();
    extra_hosts.extend(proxy.as_ref().and_then(|proxy| super::proxy::on_this_machine(proxy, facts)));
    let secrets = self::secrets(secrets, &upstreams, sources, &mut notes)?;
    let policies = Policies { routes: agents_rules.routes, pipelock: rules.pipelock, gate, supervise, bundle };

    Ok(BottlePlan {
        version: 1,
        labels: labels(&slug, &state_dir),
        slug,
        started_at: facts.started_at.clone(),
        backend,
        dry_run: options.dry_run,
        replay: options.replay.clone(),
        publish: options.publish.clone(),
        state_dir,
        task: task.clone(),
        who: manifest.triggers.who.clone(),
        mention: manifest.triggers.mention.clone(),
        ci: ci(facts),
        model: model_plan(bottle, model.as_ref()),
        origins: origins(facts, &agent_name, &bottle_name),
        agent: AgentPlan {
            name: agent_name,
            bottle: bottle_name,
            model: agent.model.clone(),
            labels: agent.labels.clone(),
            pull_request: agent.pull_request.asked_by(task.asked_by.as_ref().map(|asker| asker.login.as_str())),
            outputs: agent.outputs.clone(),
        },
        images,
        names,
        doors,
        skills: skills(&agent, &guest),
        mcp: mcp(bottle, backend),
        command: super::command::first(&agent, &prompt, &tools),
        tools,
        guest,
        policies: policies.behind(proxy).knowing(&secrets),
        secrets,
        presets: agents_presets.plans,
        extra_hosts,
        host_ca_bundle: facts.host_ca_bundle.clone(),
        git,
        prompt,
        session,
        limits: agent.limits,
        budget: manifest.budget,
        setup,
        services,
        verify,
        test_reports,
        artifacts,
        notes,
    })
}

/// Where the rules of an agent and its bottle stand.
fn origins(facts: &HostFacts, agent: &Name, bottle: &Name) -> Option<RuleOrigins> {
    let mut origins = facts.origins.clone()?;
    let others = [("agents.", agent), ("bottles.", bottle)];
    let is_of_this = |rule: &RuleRef| {
        others.iter().all(|(section, name)| {
            let rest = rule.path.strip_prefix(section);
            rest.is_none_or(|rest| rest.split('.').next() == Some(name.as_str()))
        })
    };
    origins.rules.retain(is_of_this);
    Some(origins)
}

/// What is taken of the workspace, and what is looked for in it.
fn taken(rules: ArtifactRules, bottle: &BottleEntry) -> ArtifactPolicy {
    ArtifactPolicy { rules, patterns: bottle.pipelock.patterns.clone(), detect: bottle.pipelock.detect.clone() }
}

/// The agent of a run, and its bottle.
struct Chosen<'a> {
    agent_name: Name,
    agent: Agent,
    bottle_name: Name,
    bottle: Cow<'a, BottleEntry>,
}

/// Chooses the agent and its bottle; of a run that only publishes, what it needs for that.
fn choose<'a>(task: &Task, manifest: &'a Manifest, options: &Options) -> Result<Chosen<'a>, PlanError> {
    let (agent_name, mut agent) = choose_agent(task, manifest, options)?;
    let (bottle_name, bottle) = choose_bottle(&agent_name, &agent, manifest)?;
    let mut bottle = Cow::Borrowed(bottle);
    if options.publish.is_some() || task.course.undo().is_some() {
        // Nobody is there who would use it; and no credential is taken along that the push does not need.
        bottle = Cow::Owned(for_git_alone(&bottle));
        agent.verify = Verify::default();
        agent.artifacts = None;
        agent.skills.clear();
        agent.without_tools();
    }
    if task.course.undo().is_some() {
        agent.outputs = None;
    }
    let says_something = task.thread().is_some() || matches!(task.source, Source::FailedRun(_));
    if !says_something && task.instruction.is_empty() && agent.prompt.is_none() {
        return Err(PlanError::NoTask(agent_name));
    }
    Ok(Chosen { agent_name, agent, bottle_name, bottle })
}

/// Where the model is, if the manifest says so.
fn model(bottle: &BottleEntry) -> Result<Option<ModelEndpoint>, PlanError> {
    let endpoint = bottle.model.as_ref().map(ModelEntry::endpoint).transpose();
    endpoint.map_err(|error| PlanError::Facts(format!("model.{}: {}", error.key, error.problem)))
}

fn model_plan(bottle: &BottleEntry, endpoint: Option<&ModelEndpoint>) -> Option<ModelPlan> {
    let (entry, endpoint) = (bottle.model.as_ref()?, endpoint?);
    Some(ModelPlan { provider: entry.provider, url: endpoint.base.clone() })
}

/// Says which route's findings, and which pushes, nobody can be asked about.
fn note_what_nobody_decides(bottle: &BottleEntry, approval: Approval, notes: &mut Vec<String>) {
    let asks = |route: &&Route| route.dlp.outbound == Some(Outbound::Ask);
    if let Some(route) = bottle.egress.routes.iter().find(asks).filter(|_| approval == Approval::Deny) {
        notes.push(format!("route {}: nobody decides in this run, so `dlp.outbound: ask` is `block`", route.host));
    }
    let holds = |entry: &&GitEntry| !entry.push.hold.is_none();
    if let Some(entry) = bottle.git.iter().find(holds).filter(|_| approval == Approval::Deny) {
        notes.push(format!("git {}: nobody decides in this run, so what `push.hold` names is refused", entry.name));
    }
}

/// Says why a run that names no backend takes this one.
fn note_backend(backend: Backend, facts: &HostFacts, options: &Options, notes: &mut Vec<String>) {
    if options.backend.is_none() && !facts.passed_over.is_empty() {
        notes.push(format!("the bottle runs in {}: {}", backend.name(), facts.passed_over.join("; ")));
    }
}

/// Says what the prompt does not have of the conversation.
fn note_left_out(task: &Task, prompt: &PromptPlan, notes: &mut Vec<String>) {
    notes.extend(task.left_out.iter().map(|what| format!("left out: {what}")));
    if !prompt.removed.is_empty() {
        notes.push(format!(
            "taken out of what people wrote, because readers don't see it or it is too long: {}",
            prompt.removed
        ));
    }
}

/// Says which of people's words in the prompt talk an agent into something: they are data there, and whoever reads the record should
/// know.
fn note_injections(task: &Task, notes: &mut Vec<String>) {
    if matches!(task.source, Source::Text | Source::Schedule { .. }) {
        return;
    }
    for block in Words::of(task).blocks {
        if let Some(rule) = injection(&block.text) {
            let by = block.by.map_or_else(String::new, |by| format!(" by {by}"));
            notes.push(format!("{}{by}: has words that talk an agent into something ({rule})", block.kind));
        }
    }
}

fn images(bottle: &BottleEntry, options: &Options, backend: Backend) -> Result<Images, PlanError> {
    let (agent_image, sidecars_image) = match backend {
        Backend::Docker | Backend::Smolmachines => (AGENT_IMAGE, SIDECARS_IMAGE),
        Backend::Bubblewrap => (HOST_SYSTEM, HOST_SYSTEM),
    };
    let guest = first([&options.image, &bottle.image]).unwrap_or_else(|| agent_image.to_owned());
    let made = made_image(&guest, options, backend)?;
    Ok(Images {
        guest: made.as_ref().map_or(guest, |(name, _)| name.clone()),
        sidecars: options.sidecars_image.clone().unwrap_or_else(|| sidecars_image.to_owned()),
        tools: options.tools_image.clone().unwrap_or_else(|| agent_image.to_owned()),
        made: made.map(|(_, image)| image),
    })
}

fn bundle(doors: &[Door], backend: Backend) -> Bundle {
    // Only in a container are there users for the sidecars.
    let user = |door| (backend == Backend::Docker).then(|| image_user(door));
    let daemon = |door: &Door| Daemon { door: *door, config: config_file(*door).to_owned(), user: user(*door) };
    Bundle { version: 1, daemons: doors.iter().map(daemon).collect() }
}

fn gate_policy(
    task: &Task,
    bottle: &BottleEntry,
    (upstreams, rewrite): (&Upstreams, Option<BranchRewrite>),
    options: &Options,
) -> GatePolicy {
    let mut gate = upstreams.gate_policy(options.dry_run);
    gate.patterns.clone_from(&bottle.pipelock.patterns);
    gate.detect.clone_from(&bottle.pipelock.detect);
    gate.exemptions.clone_from(&bottle.gate.exemptions);
    gate.base_allowlists = bottle.gate.base_allowlists;
    gate.allow_private.clone_from(&bottle.pipelock.allow_private);
    gate.internal.clone_from(&bottle.pipelock.internal);
    if task.work != Work::Change {
        // Nothing is pushed, whatever the agent tries.
        for upstream in &mut gate.upstreams {
            upstream.push.refs.clear();
            upstream.push.tags = false;
        }
    }
    if let (Some(rewrite), Some(main)) = (rewrite, upstreams.main()) {
        for upstream in gate.upstreams.iter_mut().filter(|upstream| upstream.name == main.name) {
            upstream.push.rewrite = Some(rewrite.clone());
        }
    }
    gate
}

/// The branch that this run may rewrite: the one that it was asked to put back, or onto its base.
fn rewrite(task: &Task, git: Option<&GitPlan>) -> Result<Option<BranchRewrite>, PlanError> {
    let to = match &task.course {
        Course::Forward | Course::Continue => return Ok(None),
        Course::Rebase => None,
        Course::Undo(undo) => Some(undo.to.clone()),
    };
    let own = git.filter(|git| git.goes_on && task.work == Work::Change);
    let (Some(git), Some(from)) = (own, own.and_then(|git| git.start.clone())) else {
        return Err(PlanError::NotOurs(git.map(|git| git.branch.clone()).unwrap_or_default()));
    };
    let name = RefName::of_branch(&git.branch).map_err(|error| PlanError::Facts(error.to_string()))?;
    Ok(Some(BranchRewrite { name, from, to }))
}

/// The secrets of the routes and of the upstreams, and the canary; says which of them this host lacks.
fn secrets(
    of_routes: Vec<SecretPlan>,
    upstreams: &Upstreams,
    sources: SecretSources<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<SecretPlan>, PlanError> {
    let mut secrets = of_routes;
    upstreams.add_secrets(&mut secrets, sources);
    add_forge_token(&mut secrets, sources);
    for secret in secrets.iter().filter(|secret| !secret.present) {
        notes.push(format!("{} is not set on this host, and {} needs it", secret.name, secret.used_by.join(", ")));
    }
    sources.add_canary(&mut secrets)?;
    Ok(secrets)
}

/// Adds the token with which the job's forge is asked, where the manifest says where it comes from: it is renewed, too.
fn add_forge_token(secrets: &mut Vec<SecretPlan>, sources: SecretSources<'_>) {
    let Some(ci) = &sources.facts.ci else { return };
    let name = ci_token(ci, sources);
    if let Some((name, _)) = sources.declared.iter().find(|(declared, _)| declared.as_str() == name) {
        sources.add(secrets, name, FORGE_USER);
    }
}

impl Policies {
    /// The same policies, whose doors go through this proxy.
    fn behind(mut self, proxy: Option<UpstreamProxy>) -> Self {
        self.gate.proxy = proxy.clone().filter(|_| !self.gate.upstreams.is_empty());
        self.pipelock.proxy = proxy;
        self
    }

    /// The same policies, whose scanners search for each of these secrets.
    fn knowing(mut self, secrets: &[SecretPlan]) -> Self {
        let known: Vec<_> = secrets.iter().map(|secret| secret.name.clone()).collect();
        self.pipelock.secrets.clone_from(&known);
        // That door may know no credential.
        let open_nothing = secrets.iter().filter(|secret| matches!(secret.source, SecretSource::Canary(_)));
        self.supervise.secrets = open_nothing.map(|secret| secret.name.clone()).collect();
        self.gate.secrets = known;
        self
    }
}

fn labels(slug: &Slug, state_dir: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_SLUG.to_owned(), slug.to_string()),
        (LABEL_MANAGED.to_owned(), "bottle-runner".to_owned()),
        (LABEL_STATE.to_owned(), state_dir.to_owned()),
    ])
}

fn ci(facts: &HostFacts) -> Option<CiPlan> {
    facts.ci.as_ref().map(|ci| CiPlan {
        forge: ci.forge,
        server_url: bottle_types::address::without_userinfo(&ci.server_url),
        repository: ci.repository.clone(),
        run_id: ci.run_id.clone(),
        run_url: ci.run_url.clone(),
    })
}

/// The agent that does a task.
pub(crate) fn agent_of(task: &Task, manifest: &Manifest) -> Result<Name, PlanError> {
    choose_agent(task, manifest, &Options::default()).map(|(name, _)| name)
}

pub(super) fn choose_agent(task: &Task, manifest: &Manifest, options: &Options) -> Result<(Name, Agent), PlanError> {
    let default = || Name::parse(DEFAULT_AGENT).map_err(|error| PlanError::Facts(error.to_string()));
    let agents = match manifest.agents.is_empty() {
        true => BTreeMap::from([(default()?, Agent::default())]),
        false => manifest.agents.clone(),
    };
    let known = || agents.keys().cloned().collect();
    match options.agent.as_ref().or(task.agent.as_ref()) {
        Some(name) => match agents.get(name) {
            Some(agent) => Ok((name.clone(), agent.clone())),
            None => Err(PlanError::NoSuchAgent { name: name.clone(), known: known() }),
        },
        None => match (agents.len(), agents.first_key_value(), agents.get(&default()?)) {
            (1, Some((name, agent)), _) => Ok((name.clone(), agent.clone())),
            (_, _, Some(agent)) => Ok((default()?, agent.clone())),
            _ => Err(PlanError::WhichAgent(known())),
        },
    }
}

fn choose_bottle<'a>(
    agent_name: &Name,
    agent: &Agent,
    manifest: &'a Manifest,
) -> Result<(Name, &'a BottleEntry), PlanError> {
    let found = match &agent.bottle {
        Some(name) => manifest.bottles.get_key_value(name),
        None => manifest.bottles.first_key_value().filter(|_| manifest.bottles.len() == 1),
    };
    let (name, bottle) = found.ok_or_else(|| PlanError::NoBottle(agent_name.clone()))?;
    Ok((name.clone(), bottle))
}

/// Refuses a run whose work the gate would refuse at its end. Where nothing may be pushed nobody waits for a push.
fn may_be_pushed(
    (git, task): (&GitPlan, &Task),
    upstreams: &Upstreams,
    notes: &mut Vec<String>,
) -> Result<(), PlanError> {
    match upstreams.may_push(&git.branch) {
        Ok(()) => Ok(()),
        Err(_) if upstreams.pushes_nothing() && task.course.undo().is_none() => {
            notes.push(format!("nothing is pushed in this run: `push.refs` of `{}` is empty", git.upstream));
            Ok(())
        }
        Err(refusal) => Err(PlanError::Push { branch: git.branch.clone(), refusal }),
    }
}

/// The bottle without its ways out but the gate.
fn for_git_alone(bottle: &BottleEntry) -> BottleEntry {
    let mut bottle = bottle.clone();
    bottle.egress.routes.clear();
    bottle.model = None;
    bottle.forge = None;
    bottle.directory = None;
    bottle.setup = None;
    bottle.services.clear();
    bottle.pipelock.api_allowlist.clear();
    bottle.supervise.approval = Approval::Deny;
    bottle
}

/// The setup's commands: those of the workflow that it names, and then its own.
fn setup_commands(setup: &Setup, facts: &HostFacts, notes: &mut Vec<String>) -> Result<Vec<String>, PlanError> {
    let Some(path) = &setup.from else { return Ok(setup.run.clone()) };
    let wrong = |problem: String| PlanError::SetupSteps { path: path.clone(), problem };
    let workflow = facts.setup_workflows.get(path).ok_or_else(|| wrong("it is not there".to_owned()))?;
    let steps = SetupSteps::parse(workflow).map_err(wrong)?;
    notes.extend(steps.left_out.into_iter().map(|what| format!("setup.from: left out {what}")));
    Ok([steps.run, setup.run.clone()].concat())
}

/// The setup, and the routes that are its alone: all but those to the model, to MCP servers and to the forge.
fn setup_plan(
    (setup, run): (&Setup, Vec<String>),
    all: &RoutesPolicy,
    presets: &Presets,
    agents: &Presets,
) -> SetupPlan {
    let mut routes = all.clone();
    routes.routes.retain(|route| !route.model && route.mcp.is_none() && route.forge.is_none());
    let name = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned();
    let script = setup
        .script
        .as_ref()
        .map(|from| FileFromBase { from: from.clone(), to: format!("{HOME}/.claude-bottle-setup/{}", name(from)) });
    let is_own = |preset: &&PresetPlan| !agents.plans.contains(preset);
    let presets = presets.plans.iter().filter(is_own).cloned().collect();
    SetupPlan { script, run, time: setup.time, routes, presets, cache: None }
}

fn doors(rules: &DoorRules, upstreams: &Upstreams) -> Vec<Door> {
    let wanted = |door: &Door| match door {
        Door::Pipelock | Door::Supervise => true,
        Door::Egress => !rules.routes.routes.is_empty(),
        Door::GitGate => !upstreams.is_empty(),
    };
    Door::ALL.into_iter().filter(wanted).collect()
}

/// The guest's image with what a run before was granted, and its name: the same lines on the same image have the same.
fn made_image(from: &str, options: &Options, backend: Backend) -> Result<Option<(String, MadeImage)>, PlanError> {
    if options.capabilities.is_empty() {
        return Ok(None);
    }
    if backend != Backend::Docker {
        return Err(PlanError::NoImage(backend));
    }
    let made = MadeImage { from: from.to_owned(), lines: options.capabilities.clone() };
    let hash = sha256(&made.dockerfile());
    let name = format!("claude-bottle-resumed:{}", hash.get(..12).unwrap_or_default());
    Ok(Some((name, made)))
}

fn seed(facts: &HostFacts) -> Result<&str, PlanError> {
    let good =
        (4..=8).contains(&facts.seed.len()) && facts.seed.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    good.then_some(facts.seed.as_str())
        .ok_or_else(|| PlanError::Facts(format!("the seed `{}` is not four to eight hex digits", facts.seed)))
}

/// `issue-12-parse-size-accepts-1a2b3c`.
fn slug(task: &Task, seed: &str) -> Result<Slug, PlanError> {
    let mut start = what(task);
    let room = Slug::LONGEST - seed.len() - 1;
    start.truncate(room);
    let title = words(&task.title(), room.saturating_sub(start.len() + 1));
    let parts: Vec<&str> = [start.as_str(), &title, seed].into_iter().filter(|part| !part.is_empty()).collect();
    Slug::parse(&parts.join("-")).map_err(|error| PlanError::Facts(error.to_string()))
}

fn names(slug: &Slug, images: &Images, backend: Backend) -> Names {
    let project = format!("claude-bottle-{slug}");
    // One volume for all runs of this version; where the tools come from is part of its name, so that another image's
    // tools are never taken for these.
    let tools = || format!("claude-bottle-tools-{}-{}", env!("CARGO_PKG_VERSION"), tag(&images.tools));
    Names {
        sidecars: format!("claude-bottle-sidecars-{slug}"),
        agent: format!("claude-bottle-agent-{slug}"),
        network: format!("{project}-egress"),
        doors_volume: format!("{project}-doors"),
        // In bubblewrap they are bound in, and the users are there.
        tools_volume: (images.guest != images.tools && backend != Backend::Bubblewrap).then(tools),
        project,
    }
}

/// An image's name in the characters of a volume's name.
fn tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(80).collect()
}

/// The policy file of each sidecar. Egress and pipelock both read `routes.yaml`; pipelock finds it beside its own.
fn config_file(door: Door) -> &'static str {
    match door {
        Door::Egress => "routes.yaml",
        Door::Pipelock => "pipelock.yaml",
        Door::GitGate => "gate.yaml",
        Door::Supervise => "supervise.yaml",
    }
}

fn skills(agent: &Agent, guest: &GuestPlan) -> Vec<SkillPlan> {
    agent
        .skills
        .iter()
        .map(|from| {
            let name = last_name(from).to_owned();
            let to = format!("{}/.claude/skills/{name}", guest.home);
            SkillPlan { directory: FileFromBase { from: from.trim_end_matches('/').to_owned(), to }, name }
        })
        .collect()
}

/// Who decides in this run: the manifest's word, where there is a place to ask.
fn approval(
    task: &Task,
    bottle: &BottleEntry,
    facts: &HostFacts,
    options: &Options,
    notes: &mut Vec<String>,
) -> Approval {
    let wanted = bottle.supervise.approval;
    if wanted != Approval::Comment {
        return wanted;
    }
    let mut instead = |approval, why: &str| {
        notes.push(format!("supervise.approval: {why}"));
        approval
    };
    if facts.ci.is_none() {
        return instead(
            Approval::Local,
            "this is no job of a forge, so what the agent asks for is decided here, by `bottle-runner proposals`",
        );
    }
    if options.dry_run {
        return instead(
            Approval::Deny,
            "a dry run posts nothing, so what the agent asks for is refused and kept for the report",
        );
    }
    if task.thread().is_none() {
        return instead(
            Approval::Deny,
            "this task has no issue or pull request to ask on, so what the agent asks for is refused and kept for the report",
        );
    }
    wanted
}

/// The server's own time-out, in milliseconds, is longer than a proposal waits.
fn mcp(bottle: &BottleEntry, backend: Backend) -> McpPlan {
    let url = format!("http://{}:{}/", backend.door_host(Door::Supervise), Door::Supervise.port());
    let claude = format!("{TOOLS_DIR}/bin/claude");
    let timeout = (bottle.supervise.timeout.0 + 60) * 1000;
    let server = serde_json::json!({ "type": "http", "url": url, "timeout": timeout });
    let text = serde_json::json!({ "mcpServers": { Door::Supervise.name(): server } }).to_string();
    let server = server.to_string();
    let register = [&claude, "mcp", "add-json", "--scope", "user", Door::Supervise.name(), &server];
    McpPlan {
        name: Door::Supervise.name().to_owned(),
        register: register.iter().map(|part| (*part).to_owned()).collect(),
        url: url.clone(),
        settings: McpSettings { file: format!("{HOME}/.claude.json"), text },
    }
}

fn first(options: [&Option<String>; 2]) -> Option<String> {
    options.into_iter().flatten().next().cloned()
}
