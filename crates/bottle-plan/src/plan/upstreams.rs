//! The repositories behind the gate: the manifest's, or the one that the task is about.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bottle_policy::gate::refs::{RefRefusal, RefRules, is_branch_name};
use bottle_policy::gate::signing::SigningPolicy;
use bottle_policy::gate::{GatePolicy, HistoryLimit, RepoName, Transport, Upstream, UpstreamUrl};
use bottle_policy::route::GitUpstream;
use bottle_types::address::without_userinfo;
use bottle_types::backend::Backend;
use bottle_types::door::{Door, KEPT_MIRROR_DIR, MIRROR_DIR};
use bottle_types::git::RefName;
use bottle_types::host::HostName;
use bottle_types::secret::SecretName;

use super::error::PlanError;
use super::make::choose_agent;
use super::secrets::SecretSources;
use super::types::{Bring, GitPlan, Options, ROOT, SecretPlan, SecretSource};
use crate::facts::{Ci, ForgeKind, HostFacts};
use crate::manifest::{
    BottleEntry, GitEntry, LONGEST_BRANCH, Manifest, PullRequestRules, Push, RunIdentity, at_home, keyscan,
    plain_http_warning,
};
use crate::name::words;
use crate::render::{commit_hook, render_gitconfig, signing_settings};
use crate::task::{self, PullRequest, Source, Task, Work};

/// One repository behind the gate.
struct Entry {
    upstream: Upstream,
    /// Where the private key of `upstream.identity` is.
    identity: Option<SecretSource>,
    extra_hosts: BTreeMap<HostName, IpAddr>,
    /// The directories that are checked out; none: all.
    sparse: Vec<String>,
}

/// All repositories of a bottle.
pub(super) struct Upstreams(Vec<Entry>);

impl Upstreams {
    /// The manifest's; else in a job the job's own repository, elsewhere the one of the checkout or of the event.
    pub(super) fn of(
        task: &Task,
        (manifest, bottle): (&Manifest, &BottleEntry),
        (facts, run): (&HostFacts, &RunIdentity),
        notes: &mut Vec<String>,
    ) -> Result<Self, PlanError> {
        let found = Self::found(task, (manifest, bottle), (facts, run), notes)?;
        let open = found.0.iter().map(|entry| &entry.upstream.url).filter(|url| url.transport == Transport::Http);
        let open: BTreeSet<String> = open.map(plain_http_warning).collect();
        notes.splice(0..0, open);
        Ok(found)
    }

    fn found(
        task: &Task,
        (manifest, bottle): (&Manifest, &BottleEntry),
        (facts, run): (&HostFacts, &RunIdentity),
        notes: &mut Vec<String>,
    ) -> Result<Self, PlanError> {
        if !bottle.git.is_empty() {
            let mut names = vec![];
            for entry in bottle.git.iter().filter(|entry| entry.deploy_key) {
                notes.extend(deploy_key_note(entry, facts)?);
            }
            return Ok(Self(bottle.git.iter().map(|entry| from_manifest(entry, (facts, run), &mut names)).collect()));
        }
        let (address, token) = match (&facts.ci, facts.checkout.as_ref().and_then(|c| c.origin.as_deref())) {
            (Some(ci), _) => (
                without_userinfo(&ci_repository(ci, task)?),
                Some(ci_token(ci, SecretSources { declared: &manifest.credentials, facts })),
            ),
            (None, Some(origin)) => (without_userinfo(origin), None),
            (None, None) => match &task.repository {
                Some(repository) => (without_userinfo(&repository.clone_url), None),
                None => return Ok(Self(vec![])),
            },
        };
        let url = UpstreamUrl::parse(&address).map_err(|error| PlanError::Upstream {
            problem: error.to_string(),
            hint: "name it in the manifest: `git: [{ name: origin, upstream: … }]`".to_owned(),
        })?;
        manifest
            .may_be_open(&url)
            .map_err(|error| PlanError::Upstream { problem: error.to_string(), hint: error.hint() })?;
        if url.transport == Transport::Ssh {
            return Err(PlanError::Upstream {
                problem: format!("no host key is pinned for {url}"),
                hint: format!(
                    "add to the bottle: `git: [{{ name: origin, upstream: \"{url}\", identity_file: ~/.ssh/…, \
                     known_host_key: … }}]`; `{}` prints the key behind the host's name",
                    keyscan(&url)
                ),
            });
        }
        let token = token.map(SecretName::parse).transpose();
        let token = token.map_err(|error| PlanError::Facts(error.to_string()))?;
        if token.is_none() {
            notes.push(format!("{url} is used without a credential: name it under `git:` with `token_from` to push"));
        }
        let name = RepoName::parse("origin").map_err(|error| PlanError::Facts(error.to_string()))?;
        let push = Push::default().rules(run);
        let max_lfs_bytes = Upstream::default_max_lfs();
        let upstream =
            Upstream { name, url, identity: None, known_host_key: None, token, max_lfs_bytes, history: None, push };
        let extra_hosts = on_this_machine(&upstream.url, facts);
        Ok(Self(vec![Entry { upstream, identity: None, extra_hosts, sparse: vec![] }]))
    }

    /// Where each of them is.
    pub(super) fn urls(&self) -> impl Iterator<Item = &UpstreamUrl> {
        self.0.iter().map(|entry| &entry.upstream.url)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that the guest works in.
    pub(super) fn main(&self) -> Option<&Upstream> {
        self.main_entry().map(|entry| &entry.upstream)
    }

    fn main_entry(&self) -> Option<&Entry> {
        let named = self.0.iter().find(|entry| entry.upstream.name.as_str() == "origin");
        named.or(self.0.first())
    }

    /// Whether the gate will take a push of this branch to the repository that the guest works in.
    pub(super) fn may_push(&self, branch: &str) -> Result<(), RefRefusal> {
        let rules = self.main().and_then(|main| RefRules::new(&main.push).ok());
        rules.map_or(Ok(()), |rules| rules.judge(&format!("refs/heads/{branch}")).map(drop))
    }

    /// Whether nothing at all may be pushed to it: such a bottle is there to answer.
    pub(super) fn pushes_nothing(&self) -> bool {
        self.main().is_some_and(|main| main.push.refs.is_empty())
    }

    /// All the others.
    pub(super) fn others(&self) -> impl Iterator<Item = &Upstream> {
        let main = self.main().map(|main| &main.name);
        self.0.iter().map(|entry| &entry.upstream).filter(move |upstream| Some(&upstream.name) != main)
    }

    /// What egress refuses although a route might allow it: https to these repositories would go round the gate.
    pub(super) fn closed_to_https(&self) -> Vec<GitUpstream> {
        // A route is to a name: what is at an address has none.
        let url = |entry: &Entry| {
            let host = entry.upstream.url.host.name()?.clone();
            Some(GitUpstream { host, path: entry.upstream.url.repository().to_owned() })
        };
        self.0.iter().filter_map(url).collect()
    }

    pub(super) fn gate_policy(&self, dry_run: bool) -> GatePolicy {
        let upstreams: Vec<Upstream> = self.0.iter().map(|entry| entry.upstream.clone()).collect();
        GatePolicy {
            version: 1,
            dry_run,
            upstreams,
            patterns: vec![],
            detect: BTreeSet::new(),
            exemptions: vec![],
            base_allowlists: false,
            approved: vec![],
            allow_private: vec![],
            internal: vec![],
            proxy: None,
            signing: None,
            bases: vec![],
            secrets: vec![],
        }
    }

    /// Leaves in the gate's rules for the repository that the guest works in the run's own branch alone, and tags: another branch may be
    /// that of a pull request which a person has had the forge merge as it was.
    pub(super) fn close_other_branches(&self, gate: &mut GatePolicy, git: Option<&GitPlan>) {
        let Some(main) = self.main() else { return };
        let is_main = |url: &UpstreamUrl| {
            url.host == main.url.host && url.repository().eq_ignore_ascii_case(main.url.repository())
        };
        for upstream in gate.upstreams.iter_mut().filter(|upstream| is_main(&upstream.url)) {
            let own = git.map(|git| format!("refs/heads/{}", git.branch));
            let own = own.filter(|own| RefRules::new(&upstream.push).is_ok_and(|rules| rules.judge(own).is_ok()));
            upstream.push.refs.retain(|glob| glob.starts_with("refs/tags/"));
            upstream.push.refs.extend(own);
        }
    }

    /// Names in each limit of the history what a run about this needs.
    pub(super) fn limit_history(
        upstreams: &mut [Upstream],
        git: Option<&GitPlan>,
        task: &Task,
    ) -> Result<(), PlanError> {
        let Some(git) = git else { return Ok(()) };
        let undo = task.course.undo();
        for upstream in upstreams {
            let Some(limit) = &mut upstream.history else { continue };
            // What is above the branch would keep it from being pushed.
            let mut branches: Vec<&str> =
                git.branch.match_indices('/').map(|(slash, _)| &git.branch[..slash]).collect();
            branches.push(&git.branch);
            if upstream.name == git.upstream {
                branches.extend(git.base.as_deref());
                limit.starts.extend(git.start.iter().chain(undo.map(|undo| &undo.to)).cloned());
            }
            let refs = branches.into_iter().map(RefName::of_branch).collect::<Result<Vec<_>, _>>();
            limit.refs.extend(refs.map_err(|error| PlanError::Facts(error.to_string()))?);
        }
        Ok(())
    }

    pub(super) fn extra_hosts(&self) -> BTreeMap<HostName, IpAddr> {
        self.0.iter().flat_map(|entry| entry.extra_hosts.iter().map(|(host, at)| (host.clone(), *at))).collect()
    }

    pub(super) fn add_secrets(&self, secrets: &mut Vec<SecretPlan>, sources: SecretSources<'_>) {
        for Entry { upstream, identity, .. } in &self.0 {
            let used_by = format!("git upstream {}", upstream.name);
            if let Some(token) = &upstream.token {
                sources.add(secrets, token, &used_by);
            }
            if let (Some(name), Some(source)) = (&upstream.identity, identity) {
                let (name, source) = (name.clone(), source.clone());
                secrets.push(SecretPlan { name, source, used_by: vec![used_by], present: true });
            }
        }
    }

    /// Whether the work on a pull request is pushed to its own branch: one of this repository that the manifest's `push.refs` allow,
    /// and neither the one that it goes to nor the default one.
    fn goes_on(&self, pull: &PullRequest, task: &Task) -> bool {
        let Some(repository) = &task.repository else { return false };
        let branch = pull.head_branch.as_str();
        !pull.from_fork
            && pull.head_repository.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(&repository.full_name))
            && branch != pull.base_branch
            && branch != repository.default_branch
            && is_branch_name(branch)
            && task.work == Work::Change
            && self.main().is_some()
            && self.may_push(branch).is_ok()
    }

    /// How the guest comes by its repository, and where the work goes.
    pub(super) fn git_plan(
        &self,
        (task, rules): (&Task, &PullRequestRules),
        facts: &HostFacts,
        options: &Options,
        seed: &str,
        signing: Option<&SigningPolicy>,
    ) -> Option<GitPlan> {
        let Entry { upstream: main, sparse, .. } = self.main_entry()?;
        let undo = task.course.undo();
        let checkout = facts.checkout.as_ref().filter(|_| options.bring_checkout && undo.is_none());
        let failed = match &task.source {
            // What failed there is mended there.
            Source::FailedRun(run) => Some(run.branch.clone()),
            _ => None,
        };
        // In a job it is the branch whose rules hold, whatever the job was started for.
        let of_job = || facts.ci.as_ref().and_then(|ci| ci.base.clone());
        let named = rules.base.clone().filter(|_| checkout.is_none());
        let base = failed.or(named).or_else(of_job).or_else(|| match (&task.repository, checkout) {
            (Some(repository), _) => Some(repository.default_branch.clone()),
            (None, checkout) => checkout.and_then(|checkout| checkout.branch.clone()),
        });
        let pull = task.pull_request.as_ref().filter(|_| checkout.is_none() && task.is_about_a_pull_request());
        let goes_on = pull.is_some_and(|pull| self.goes_on(pull, task));
        let base = match pull {
            Some(pull) if undo.is_some() => Some(pull.base_branch.clone()),
            // What is not pushed to the pull request's own branch is proposed to it; but never to a fork.
            Some(pull) if !goes_on && !pull.from_fork && is_branch_name(&pull.head_branch) => {
                Some(pull.head_branch.clone())
            }
            Some(pull) => Some(pull.base_branch.clone()),
            None => base,
        };
        let repository = main.url.repository().rsplit('/').next().unwrap_or_default();
        let directory: String =
            repository.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).collect();
        let directory = match directory.trim_start_matches(['.', '-']) {
            "" => main.name.as_str(),
            name => name,
        };
        let all: Vec<Upstream> = self.0.iter().map(|entry| entry.upstream.clone()).collect();
        let gate = Door::GitGate;
        let backend = options.backend.unwrap_or(facts.backend);
        let host = format!("{}:{}", backend.door_host(gate), gate.port());
        let is_of_main = |origin: &str| main.url.is_reached_by(&without_userinfo(origin), &main.url);
        let seed_from = facts.checkout.as_ref().filter(|checkout| checkout.origin.as_deref().is_some_and(is_of_main));
        Some(GitPlan {
            upstream: main.name.clone(),
            gate_url: crate::render::gate_url(&host, &main.name),
            directory: format!("{ROOT}/{directory}"),
            bring: checkout.map_or(Bring::Clone, |checkout| Bring::Checkout(checkout.path.clone())),
            seed: seed_from.map(|checkout| checkout.path.clone()),
            // A machine of its own sees no directory of the bundle's.
            mirror: (checkout.is_none() && backend != Backend::Smolmachines).then(|| MIRROR_DIR.to_owned()),
            kept: (checkout.is_none() && backend == Backend::Bubblewrap && main.history.is_none())
                .then(|| KEPT_MIRROR_DIR.to_owned()),
            history: main.history.as_ref().map(|limit| limit.commits),
            sparse: sparse.clone(),
            base,
            start: undo.map(|undo| undo.from.clone()).or_else(|| pull.map(|pull| pull.head.clone())),
            branch: match (undo, pull) {
                (Some(undo), _) => undo.branch.clone(),
                (None, Some(pull)) if goes_on => pull.head_branch.clone(),
                // People change titles, of which the name is made: the work goes on where it is proposed already.
                _ => match &facts.earlier_branch {
                    Some(earlier) if is_branch_name(earlier) && self.may_push(earlier).is_ok() => earlier.clone(),
                    _ => branch(task, rules, seed),
                },
            },
            goes_on: goes_on || undo.is_some(),
            commit_hook: commit_hook(&main.push.commits),
            gitconfig: render_gitconfig(
                &host,
                &all,
                &signing.map(|policy| signing_settings(backend, policy)).unwrap_or_default(),
            ),
        })
    }
}

fn from_manifest(entry: &GitEntry, (facts, run): (&HostFacts, &RunIdentity), names: &mut Vec<String>) -> Entry {
    let file = || Some(SecretSource::File(at_home(entry.identity_file.as_deref()?, facts.home.as_deref())));
    let identity = if entry.deploy_key { Some(SecretSource::DeployKey) } else { file() };
    let upstream = Upstream {
        name: entry.name.clone(),
        url: entry.upstream.clone(),
        identity: identity.as_ref().and_then(|_| identity_name(&entry.name, names)),
        known_host_key: entry.known_host_key.clone(),
        token: entry.token_from.clone(),
        max_lfs_bytes: entry.max_lfs_bytes,
        history: entry.history.map(|commits| HistoryLimit { commits, refs: BTreeSet::new(), starts: BTreeSet::new() }),
        push: entry.push.rules(run),
    };
    let mut extra_hosts = on_this_machine(&upstream.url, facts);
    extra_hosts.extend(entry.extra_hosts.clone());
    Entry { upstream, identity, extra_hosts, sparse: entry.sparse.clone() }
}

/// Wants the entry with a deploy key to be the job's own repository, which is the one that the runner asks its forge about; the note
/// says that there is no job.
fn deploy_key_note(entry: &GitEntry, facts: &HostFacts) -> Result<Option<String>, PlanError> {
    let (name, repository) = (&entry.name, entry.upstream.repository());
    let Some(ci) = &facts.ci else {
        return Ok(Some(format!(
            "the upstream {name} has a deploy key, which a job alone can register: a run here fails"
        )));
    };
    if repository.eq_ignore_ascii_case(&ci.repository) {
        return Ok(None);
    }
    Err(PlanError::Upstream {
        problem: format!(
            "the upstream {name} has a deploy key and is {repository}, and the job's own repository is {}",
            ci.repository
        ),
        hint: "give the upstream `identity_file`: a run registers no key at other repositories".to_owned(),
    })
}

/// The address that this machine's own hosts file has for an upstream: the doors' name service does not know it.
fn on_this_machine(url: &UpstreamUrl, facts: &HostFacts) -> BTreeMap<HostName, IpAddr> {
    let known = url.host.name().and_then(|name| Some((name.clone(), *facts.hosts.get(name)?)));
    known.into_iter().collect()
}

/// `BOTTLE_GIT_ORIGIN_IDENTITY`; two upstreams never share one.
fn identity_name(upstream: &RepoName, taken: &mut Vec<String>) -> Option<SecretName> {
    let upper: String = upstream
        .as_str()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    let mut name = format!("BOTTLE_GIT_{upper}_IDENTITY");
    while taken.contains(&name) {
        name.push('_');
    }
    taken.push(name.clone());
    SecretName::parse(&name).ok()
}

/// The job's own repository. The event can't choose another: the job's token is for this one.
fn ci_repository(ci: &Ci, task: &Task) -> Result<String, PlanError> {
    if let Some(repository) = &task.repository
        && !repository.full_name.eq_ignore_ascii_case(&ci.repository)
    {
        let event = &repository.full_name;
        return Err(PlanError::Facts(format!("the event is about {event}, and the job runs in {}", ci.repository)));
    }
    Ok(format!("{}/{}.git", ci.server_url.trim_end_matches('/'), ci.repository))
}

/// The name of the token with which the job's forge is asked and its repository is reached.
pub(super) fn ci_token(ci: &Ci, sources: SecretSources<'_>) -> &'static str {
    match ci.forge {
        ForgeKind::Gitea if sources.has("GITEA_TOKEN") => "GITEA_TOKEN",
        _ => "GITHUB_TOKEN",
    }
}

/// `bottle/issue-12-parse-size-accepts-kib`, `bottle/task-tidy-up-1a2b3c`.
/// How the name begins of the branch for a task, by the rules of the agent that does it.
pub fn branch_stem(task: &Task, manifest: &Manifest, options: &Options) -> Result<String, PlanError> {
    let (_, agent) = choose_agent(task, manifest, options)?;
    let named = task.thread().and_then(|thread| agent.pull_request.branch_stem(thread.number));
    Ok(named.unwrap_or_else(|| task::branch_stem(task)))
}

fn branch(task: &Task, rules: &PullRequestRules, seed: &str) -> String {
    if let Some(name) = task.thread().and_then(|thread| rules.branch(thread.number, &task.title())) {
        return name;
    }
    let mut name = task::branch_stem(task);
    let seed = match task.source {
        Source::Text | Source::Dispatch { .. } | Source::Schedule { .. } => format!("-{seed}"),
        _ => String::new(),
    };
    let title = words(&task.title(), LONGEST_BRANCH.saturating_sub(name.len() + 1 + seed.len()));
    if !title.is_empty() {
        name.push('-');
        name.push_str(&title);
    }
    name.push_str(&seed);
    name
}
