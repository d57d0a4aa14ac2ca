//! The view of what is allowed now, as the agent may know it: routes, push rules, who decides. Names of secrets stay out.

use std::path::Path;

use bottle_policy::budget::{Budget, Spent};
use bottle_policy::gate::GatePolicy;
use bottle_policy::gate::hold::HoldRules;
use bottle_policy::pipelock::{Exemption, PipelockPolicy};
use bottle_policy::route::{RoutesPolicy, Scheme};
use bottle_policy::supervise::{Approval, SupervisePolicy};
use bottle_types::host::HostPattern;
use bottle_types::yaml;
use bottle_wire::proposal::PolicyFile;
use bottle_wire::proposal::ledger::Ledger;
use serde::Serialize;

/// The answer of the tool `policy`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct View {
    routes: Vec<Route>,
    /// DLP rules that are not looked for on their way to a host.
    exemptions: Vec<Exemption>,
    git: Vec<Upstream>,
    /// Limits of the model's budget, and the part that is spent.
    budget: Option<BudgetView>,
    approval: Approval,
    /// Rules that grant without a person.
    granted_by_rule: Vec<String>,
    /// In words, for an agent that has just been refused.
    how: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Route {
    url: String,
    methods: Vec<String>,
    paths: Vec<String>,
    /// The bottle adds the credential, so the agent needs none.
    credential_added: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Upstream {
    url: String,
    push_refs: Vec<String>,
    push_tags: bool,
    protected_paths: Vec<String>,
    max_blob_bytes: String,
    max_push_bytes: String,
    max_files: Option<u64>,
    max_lines: Option<u64>,
    max_new_binaries: Option<u64>,
    /// What each new commit has to be like, a rule a line.
    commits: Vec<String>,
    /// Whether each commit of the run has to have the gate's signature, for which git as it is set up here asks by itself.
    signed_by_the_gate: bool,
    /// Pushes that wait for a person.
    hold: HoldRules,
    dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct BudgetView {
    limits: Budget,
    spent_tokens: u64,
    spent_requests: u64,
    spent_usd: f64,
}

impl Upstream {
    fn new(gate: &GatePolicy, upstream: &bottle_policy::gate::Upstream) -> Self {
        Self {
            url: format!("git://git-gate:9418/{}.git", upstream.name),
            push_refs: upstream.push.refs.clone(),
            push_tags: upstream.push.tags,
            protected_paths: upstream.push.protect_paths.clone(),
            max_blob_bytes: upstream.push.max_blob_bytes.to_string(),
            max_push_bytes: upstream.push.max_push_bytes.to_string(),
            max_files: upstream.push.max_files,
            max_lines: upstream.push.max_lines,
            max_new_binaries: upstream.push.max_new_binaries,
            commits: upstream.push.commits.lines().into_iter().map(|(_, line)| line).collect(),
            signed_by_the_gate: gate.signing.as_ref().is_some_and(|signing| signing.required),
            hold: upstream.push.hold.clone(),
            dry_run: gate.dry_run,
        }
    }
}

impl View {
    /// Makes the view of the policies in force; `spent` is egress' file of what the model has cost.
    pub(super) fn new(ledger: &Ledger, policy: &SupervisePolicy, spent: &Path) -> Self {
        let text = |file| ledger.in_force().texts().get(&file);
        // Policies that the doors have taken can be read; if one can't, the view shows nothing of it.
        let routes = text(PolicyFile::Routes).and_then(|text| yaml::from_str(text).ok());
        let pipelock = text(PolicyFile::Pipelock).and_then(|text| yaml::from_str(text).ok());
        let gate = text(PolicyFile::Gate).and_then(|text| yaml::from_str(text).ok());
        Self::of(&Policies { routes, pipelock, gate }, policy, &std::fs::read_to_string(spent).unwrap_or_default())
    }

    fn of(policies: &Policies, policy: &SupervisePolicy, spent: &str) -> Self {
        let (routes, gate) = (policies.routes.as_ref(), policies.gate.as_ref());
        let route = |route: &bottle_policy::route::Route| {
            let scheme = if route.scheme == Scheme::Https { "https" } else { "http" };
            Route {
                url: format!("{scheme}://{}:{}", route.host, route.port()),
                methods: route.methods.clone(),
                paths: route.paths.clone(),
                credential_added: route.auth.is_some(),
            }
        };
        let host = |host: &HostPattern| Route {
            url: format!("https://{host}:443"),
            methods: vec!["any".to_owned()],
            paths: vec!["/**".to_owned()],
            credential_added: false,
        };
        let hosts = policies.pipelock.iter().filter(|pipelock| pipelock.guest_proxy);
        let hosts = hosts.flat_map(|pipelock| pipelock.api_allowlist.iter().map(host));
        let exemptions = policies.pipelock.iter().flat_map(|pipelock| pipelock.dlp.exemptions.clone());
        Self {
            routes: routes.iter().flat_map(|policy| policy.routes.iter().map(route)).chain(hosts).collect(),
            exemptions: exemptions.collect(),
            git: gate
                .map(|gate| gate.upstreams.iter().map(|one| Upstream::new(gate, one)).collect())
                .unwrap_or_default(),
            budget: routes.map(|policy| &policy.budget).filter(|budget| !budget.is_none()).map(|limits| {
                let mut sum = Spent::default();
                spent.lines().filter_map(|line| serde_json::from_str(line).ok()).for_each(|entry| sum.add(&entry));
                BudgetView {
                    limits: Budget { prices: std::collections::BTreeMap::new(), ..limits.clone() },
                    spent_tokens: sum.tokens,
                    spent_requests: sum.requests,
                    spent_usd: sum.cost_usd,
                }
            }),
            approval: policy.approval,
            granted_by_rule: policy.auto.iter().map(ToString::to_string).collect(),
            how: match policy.approval {
                Approval::Deny => {
                    "everything that is not listed is refused; what you ask for is refused too in this run unless \
                     `granted_by_rule` has it, and noted for the people who read its report"
                }
                Approval::Comment | Approval::Local => {
                    "everything that is not listed is refused; ask for what the task needs, and a person decides while \
                     you wait; what is granted is in force at once, without a restart"
                }
            }
            .to_owned(),
        }
    }
}

/// The files, read.
#[derive(Debug, Default)]
struct Policies {
    routes: Option<RoutesPolicy>,
    pipelock: Option<PipelockPolicy>,
    gate: Option<GatePolicy>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_secret_is_shown() {
        let routes: RoutesPolicy = bottle_types::yaml::from_str(
            "version: 1\nroutes:\n  - host: api.example.com\n    methods: [POST]\n    auth: { bearer: TOP_TOKEN }\n",
        )
        .expect("routes");
        let gate: GatePolicy = bottle_types::yaml::from_str(
            "version: 1\nsecrets: [TOP_TOKEN]\nupstreams:\n  - name: origin\n    url: https://git.example.com/a/b\n    \
             token: TOP_TOKEN\n    push: { refs: [\"refs/heads/bottle/**\"], max_files: 7, hold: { paths: [\"deploy/**\"] } }\n",
        )
        .expect("a gate");
        let policy = SupervisePolicy {
            version: 1,
            run: "run-1".to_owned(),
            approval: Approval::Deny,
            timeout: SupervisePolicy::default_timeout(),
            auto: vec![],
            secrets: vec![],
            outputs: None,
        };
        let policies = Policies { routes: Some(routes), pipelock: None, gate: Some(gate) };
        let text = serde_json::to_string(&View::of(&policies, &policy, "")).expect("JSON");
        assert!(text.contains("https://api.example.com:443") && text.contains("refs/heads/bottle/**"), "{text}");
        // The rules about the patch, and what is held, are told.
        assert!(text.contains("\"max_files\":7") && text.contains("deploy/**"), "{text}");
        assert!(!text.contains("TOP_TOKEN"), "{text}");
    }
}
