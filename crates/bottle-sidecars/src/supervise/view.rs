//! What is allowed now, as the agent may know it: routes, push rules, who decides. Names of secrets stay out.

use std::path::{Path, PathBuf};

use bottle_policy::gate::GatePolicy;
use bottle_policy::route::{RoutesPolicy, Scheme};
use bottle_policy::supervise::Approval;
use serde::Serialize;

use crate::common::{self, read_policy};

/// Where the policies in force are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    routes: (PathBuf, bool),
    gate: (PathBuf, bool),
}

impl Files {
    /// A file that was named must be there; one that is only looked for may be missing.
    pub(super) fn new(config: &Path, routes: Option<PathBuf>, gate: Option<PathBuf>) -> Self {
        let beside = |named: Option<PathBuf>, name: &str| match named {
            Some(path) => (path, true),
            None => (config.with_file_name(name), false),
        };
        Self { routes: beside(routes, "routes.yaml"), gate: beside(gate, "gate.yaml") }
    }
}

/// The answer of the tool `policy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct View {
    routes: Vec<Route>,
    git: Vec<Upstream>,
    pub(super) approval: Approval,
    /// In words, for an agent that has just been refused.
    how: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Route {
    url: String,
    methods: Vec<String>,
    paths: Vec<String>,
    /// Whether the bottle adds one, so that the agent needs none.
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
    dry_run: bool,
}

impl View {
    /// Reads the policies in force.
    pub(super) fn read(files: &Files, approval: Approval) -> Result<Self, common::Error> {
        let (path, needed) = &files.routes;
        let routes: Option<RoutesPolicy> = if *needed || path.exists() { Some(read_policy(path)?) } else { None };
        let (path, needed) = &files.gate;
        let gate: Option<GatePolicy> = if *needed || path.exists() { Some(read_policy(path)?) } else { None };
        Ok(Self::new(routes.as_ref(), gate.as_ref(), approval))
    }

    fn new(routes: Option<&RoutesPolicy>, gate: Option<&GatePolicy>, approval: Approval) -> Self {
        let route = |route: &bottle_policy::route::Route| {
            let scheme = if route.scheme == Scheme::Https { "https" } else { "http" };
            Route {
                url: format!("{scheme}://{}:{}", route.host, route.port()),
                methods: route.methods.clone(),
                paths: route.paths.clone(),
                credential_added: route.auth.is_some(),
            }
        };
        let upstream = |gate: &GatePolicy, upstream: &bottle_policy::gate::Upstream| Upstream {
            url: format!("git://git-gate:9418/{}.git", upstream.name),
            push_refs: upstream.push.refs.clone(),
            push_tags: upstream.push.tags,
            protected_paths: upstream.push.protect_paths.clone(),
            max_blob_bytes: upstream.push.max_blob_bytes.to_string(),
            max_push_bytes: upstream.push.max_push_bytes.to_string(),
            dry_run: gate.dry_run,
        };
        Self {
            routes: routes.map(|policy| policy.routes.iter().map(route).collect()).unwrap_or_default(),
            git: gate.map(|gate| gate.upstreams.iter().map(|one| upstream(gate, one)).collect()).unwrap_or_default(),
            approval,
            how: match approval {
                Approval::Deny => {
                    "everything that is not listed is refused; what you ask for is refused too in this \
                                   run, and noted for the people who read its report"
                }
                Approval::Comment | Approval::Local => {
                    "everything that is not listed is refused; what you ask for can't be decided in this version, is \
                     refused, and noted for the people who read the report"
                }
            }
            .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_secret_is_shown() {
        let routes: RoutesPolicy = bottle_policy::yaml::from_str(
            "version: 1\nroutes:\n  - host: api.example.com\n    methods: [POST]\n    auth: { bearer: TOP_TOKEN }\n",
        )
        .expect("routes");
        let gate: GatePolicy = bottle_policy::yaml::from_str(
            "version: 1\nsecrets: [TOP_TOKEN]\nupstreams:\n  - name: origin\n    url: https://git.example.com/a/b\n    \
             token: TOP_TOKEN\n    push: { refs: [\"refs/heads/bottle/**\"] }\n",
        )
        .expect("a gate");
        let text = serde_json::to_string(&View::new(Some(&routes), Some(&gate), Approval::Deny)).expect("JSON");
        assert!(text.contains("https://api.example.com:443") && text.contains("refs/heads/bottle/**"), "{text}");
        assert!(!text.contains("TOP_TOKEN"), "{text}");
    }
}
