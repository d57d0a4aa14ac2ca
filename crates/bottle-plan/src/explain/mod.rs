//! Which rule of a manifest decides about a request, a push or an event, where it stands, and what would change the verdict.
//!
//! Map: `request` (egress and pipelock), `push` (the gate), `event` (what starts a run), `rules` (a rule's place in the manifest),
//! `url` (a URL as the doors read it).
//!
//! Always: the verdict is that of the code that decides in a run: [`Matcher`], [`bottle_policy::gate`]'s judges, and
//! [`crate::event::parse`], on the policies of the plan. What would change it is found by asking the same code again about a rule less
//! or a rule more. Content is not here: what a body or a commit holds is scanned in a run alone.

mod event;
mod push;
mod request;
mod rules;
mod url;

use bottle_policy::matcher::Matcher;
use bottle_policy::route::Route;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::manifest::{Place, RuleRef};
pub use push::PushAsked;
pub use request::RequestAsked;
pub(crate) use request::Unrouted;
pub use url::UrlError;

use crate::facts::{CheckoutFacts, HostFacts};
use crate::manifest::{BottleEntry, LayeredManifest, Manifest, ManifestError, ManifestSource};
use crate::name::Name;
use crate::plan::{self, BottlePlan, Options, PlanError};
use crate::registry::Preset;
use crate::task::{Repository, Task};

/// What comes of a request, a push or an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A request or a push is let through, as far as rules say.
    Allow,
    /// It is refused.
    Deny,
    /// A push waits for a person.
    Hold,
    /// An event starts a run.
    Start,
    /// An event is a command to a run.
    Command,
    /// An event is a comment that is nearly a command.
    Unclear,
    /// An event starts nothing.
    Nothing,
    /// An event asks for something, by somebody who may not.
    Refuse,
}

impl Verdict {
    /// Its word, as it is read and written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Hold => "hold",
            Self::Start => "start",
            Self::Command => "command",
            Self::Unclear => "unclear",
            Self::Nothing => "nothing",
            Self::Refuse => "refuse",
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What was asked about, in a line.
    pub asked: String,
    /// What comes of it.
    pub verdict: Verdict,
    /// The word by which a door says why, such as `no_route`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rule that decides; none: that there is no rule decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// The other rules without which the answer would be another one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<RuleRef>,
    /// Why, a line each.
    pub why: Vec<String>,
    /// What would change the verdict, a line each.
    pub change: Vec<String>,
    /// What else is looked at in a run, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<String>,
}

impl Explanation {
    fn new(asked: String, verdict: Verdict) -> Self {
        Self { asked, verdict, reason: None, rule: None, also: vec![], why: vec![], change: vec![], then: vec![] }
    }

    /// Every rule that has a say in it.
    pub fn rules(&self) -> impl Iterator<Item = &RuleRef> {
        self.rule.iter().chain(&self.also)
    }
}

/// Why nothing can be said about a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// It can't be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// No plan can be made by it.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The doors would refuse the policy.
    #[error("the plan's policy can't be used: {0}")]
    Policy(String),
}

impl ExplainError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Manifest(error) => error.hint().map(str::to_owned),
            Self::Plan(error) => error.hint(),
            Self::Policy(_) => None,
        }
    }
}

/// The routes of one part of a run, ready to decide.
#[derive(Debug)]
struct PhaseRoutes {
    matcher: Matcher,
    /// In the matcher's order; none in a bottle whose proxy allows whole hosts.
    routes: Vec<Route>,
}

/// A manifest and the plan of a run by it, ready to be asked.
#[derive(Debug)]
pub struct Explainer {
    /// With its policies.
    layered: LayeredManifest,
    plan: BottlePlan,
    agent: PhaseRoutes,
    setup: Option<PhaseRoutes>,
    presets: Vec<(Preset, Vec<Route>)>,
}

/// The repository of a run outside of a checkout with an https address; its name is one that nobody can have (RFC 2606).
const SOME_REPOSITORY: &str = "https://repository.invalid/owner/name.git";

/// The manifest without what no door's policy depends on and some machines don't have: services, what runs in the guest for the agent, and
/// files with schemas.
fn without_side_parts(manifest: &Manifest) -> Manifest {
    let mut manifest = manifest.clone();
    manifest.bottles.values_mut().for_each(|bottle| bottle.services.clear());
    for agent in manifest.agents.values_mut() {
        agent.mcp.retain(|_, server| server.url.is_some());
        (agent.settings, agent.hooks, agent.base_files, agent.plugins) = Default::default();
        agent.outputs.iter_mut().for_each(|outputs| outputs.json = None);
    }
    manifest
}

impl Explainer {
    /// Reads a manifest with its policies, and plans a run of an agent by it: the one of this name, else the manifest's own choice.
    pub fn new(source: &ManifestSource, agent: Option<Name>, facts: &HostFacts) -> Result<Self, ExplainError> {
        let layered = source.layered()?;
        let manifest = &layered.manifest;
        let mut facts = facts.clone();
        // The address of a clone by ssh is not that of a job, which takes https.
        let is_https = |checkout: &CheckoutFacts| checkout.origin.as_ref().is_some_and(|url| url.starts_with("https:"));
        facts.checkout = facts.checkout.filter(is_https);
        let repository = Repository {
            full_name: "owner/name".to_owned(),
            clone_url: SOME_REPOSITORY.to_owned(),
            default_branch: "main".to_owned(),
        };
        let task = Task { repository: Some(repository), ..Task::text("explain") };
        let plan = plan::plan(&task, &without_side_parts(manifest), &facts, &Options { agent, ..Options::default() })?;
        let matcher = |routes: &_| Matcher::new(routes).map_err(|error| ExplainError::Policy(error.to_string()));
        let policies = &plan.policies;
        let agent = if policies.pipelock.guest_proxy {
            let hosts = Matcher::for_hosts(&policies.pipelock.api_allowlist, &policies.routes.git_upstreams);
            let matcher = hosts.map_err(|error| ExplainError::Policy(error.to_string()))?;
            PhaseRoutes { matcher, routes: vec![] }
        } else {
            PhaseRoutes { matcher: matcher(&policies.routes)?, routes: policies.routes.routes.clone() }
        };
        let setup = plan.setup.as_ref().map(|setup| {
            Ok::<_, ExplainError>(PhaseRoutes { matcher: matcher(&setup.routes)?, routes: setup.routes.routes.clone() })
        });
        let setup = setup.transpose()?;
        let own = manifest.bottles.get(&plan.agent.bottle);
        let presets = own.into_iter().flat_map(BottleEntry::presets);
        let presets = presets.map(|preset| Ok((preset, plan::preset_routes(preset, &facts)?)));
        let presets = presets.collect::<Result<_, PlanError>>()?;
        Ok(Self { layered, plan, agent, setup, presets })
    }

    /// The plan that is explained.
    pub fn plan(&self) -> &BottlePlan {
        &self.plan
    }

    /// The manifest that is explained.
    pub fn manifest(&self) -> &Manifest {
        &self.layered.manifest
    }

    fn bottle(&self) -> &str {
        self.plan.agent.bottle.as_str()
    }

    fn entry(&self) -> Option<&BottleEntry> {
        self.layered.manifest.bottles.get(&self.plan.agent.bottle)
    }
}
