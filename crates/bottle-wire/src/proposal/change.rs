//! What a request would make of the policy files: the policy in force is always the one that the run began with (or that
//! somebody gave by hand) and, in their order, the requests that are granted.

use std::collections::BTreeMap;

use bottle_policy::gate::GatePolicy;
use bottle_policy::gate::exemptions::{Exemptions, FindingExemption};
use bottle_policy::gate::refs::RefRules;
use bottle_policy::pipelock::{Exemption, PipelockPolicy};
use bottle_policy::route::{Route, RoutesPolicy};
use bottle_policy::supervise::{HeldPush, Request};
use bottle_types::units::Seconds;
use bottle_types::yaml;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Change, PolicyFile, ProposalId};

/// The policy files, as texts.
pub type Texts = BTreeMap<PolicyFile, String>;

/// Why a request changes no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The file is not there or can't be read.
    #[error("{file} can't be read: {reason}")]
    File {
        /// Which.
        file: PolicyFile,
        /// Why.
        reason: String,
    },
    /// There is nothing to change.
    #[error("the policy allows it already")]
    Already,
    /// This bottle can't do it, whoever approves.
    #[error("{0}")]
    Impossible(String),
}

impl Change {
    /// What a request makes of these policies; none: it changes nothing in a running bottle.
    pub fn of(texts: &Texts, request: &Request) -> Result<Option<Self>, ChangeError> {
        match request {
            Request::RequestRoute { .. } => route(texts, request).map(Some),
            Request::RequestExemption { .. } => {
                edit(texts, PolicyFile::Pipelock, |policy| exemption(policy, request)).map(Some)
            }
            Request::FindingExemption { .. } => {
                edit(texts, PolicyFile::Gate, |policy| finding(policy, request)).map(Some)
            }
            Request::HeldPush(held) => edit(texts, PolicyFile::Gate, |policy| held_push(policy, held)).map(Some),
            Request::RequestPush { .. } => edit(texts, PolicyFile::Gate, |policy| push(policy, request)).map(Some),
            Request::RequestBudget { .. } => {
                edit(texts, PolicyFile::Routes, |policy| budget(policy, request)).map(Some)
            }
            Request::RequestCapability { .. }
            | Request::HeldRequest(_)
            | Request::Ask { .. }
            | Request::Progress { .. } => Ok(None),
        }
    }
}

/// What a proposal got.
#[derive(Debug, Clone, PartialEq)]
struct Grant {
    id: ProposalId,
    file: Option<PolicyFile>,
    request: Request,
}

/// The policies of a run: where they began, and what has been granted since.
#[derive(Debug, Clone, PartialEq)]
pub struct InForce {
    base: Texts,
    grants: Vec<Grant>,
    texts: Texts,
}

impl InForce {
    /// Nothing is granted yet.
    pub fn new(base: Texts) -> Self {
        Self { texts: base.clone(), base, grants: vec![] }
    }

    /// The files in force.
    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    /// With one request more.
    pub fn with(&self, id: ProposalId, request: &Request) -> Result<Self, ChangeError> {
        let mut next = self.clone();
        let change = Change::of(&self.texts, request)?;
        next.grants.push(Grant { id, file: change.as_ref().map(|change| change.file), request: request.clone() });
        if let Some(change) = change {
            next.texts.insert(change.file, change.after);
        }
        Ok(next)
    }

    /// Without what a proposal got. What another one got meanwhile stays, also where both asked for the same.
    pub fn without(&self, id: ProposalId) -> Result<Self, ChangeError> {
        let mut next = Self::new(self.base.clone());
        for grant in self.grants.iter().filter(|grant| grant.id != id) {
            match next.with(grant.id, &grant.request) {
                Ok(with) => next = with,
                // The base has it by now.
                Err(ChangeError::Already) => next.grants.push(grant.clone()),
                Err(error) => return Err(error),
            }
        }
        Ok(next)
    }

    /// With a whole file by hand, which takes the place of all that was granted in it.
    pub fn by_hand(&self, file: PolicyFile, text: String) -> Self {
        let mut next = self.clone();
        next.grants.retain(|grant| grant.file != Some(file));
        next.base.insert(file, text.clone());
        next.texts.insert(file, text);
        next
    }
}

impl PolicyFile {
    /// Whether a text is a policy that the doors can obey, as far as it can be told without them.
    pub fn check(self, text: &str) -> Result<(), String> {
        let texts = Texts::from([(self, text.to_owned())]);
        let version = match self {
            Self::Routes => {
                let policy: RoutesPolicy = read(&texts, self).map_err(|error| error.to_string())?;
                return bottle_policy::matcher::Matcher::new(&policy)
                    .map_or_else(|error| Err(error.to_string()), |_| Ok(()));
            }
            Self::Pipelock => read::<PipelockPolicy>(&texts, self).map(|policy| policy.version),
            Self::Gate => {
                let policy: GatePolicy = read(&texts, self).map_err(|error| error.to_string())?;
                for upstream in &policy.upstreams {
                    RefRules::new(&upstream.push).map_err(|error| error.to_string())?;
                }
                Ok(policy.version)
            }
        };
        match version {
            Ok(1) => Ok(()),
            Ok(version) => Err(format!("version {version} is not known: 1 is")),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn read<T: DeserializeOwned>(texts: &Texts, file: PolicyFile) -> Result<T, ChangeError> {
    let text = texts.get(&file).ok_or_else(|| ChangeError::File { file, reason: "this bottle has none".to_owned() })?;
    yaml::from_str(text).map_err(|error| ChangeError::File { file, reason: error.to_string() })
}

fn edit<T: DeserializeOwned + Serialize>(
    texts: &Texts,
    file: PolicyFile,
    change: impl FnOnce(&mut T) -> Result<(), ChangeError>,
) -> Result<Change, ChangeError> {
    let mut policy: T = read(texts, file)?;
    change(&mut policy)?;
    let after = yaml::to_string(&policy).map_err(|error| ChangeError::File { file, reason: error.to_string() })?;
    Ok(Change { file, before: texts.get(&file).cloned().unwrap_or_default(), after })
}

fn impossible<T>(reason: impl Into<String>) -> Result<T, ChangeError> {
    Err(ChangeError::Impossible(reason.into()))
}

fn route(texts: &Texts, request: &Request) -> Result<Change, ChangeError> {
    let Request::RequestRoute { host, port, scheme, methods, paths, .. } = request else {
        return impossible("no route");
    };
    if read::<PipelockPolicy>(texts, PolicyFile::Pipelock)?.guest_proxy {
        if port.is_some() || !scheme.is_https() {
            return impossible("this bottle declares no routes, so hosts can be allowed over https alone");
        }
        return edit(texts, PolicyFile::Pipelock, |policy: &mut PipelockPolicy| {
            if policy.api_allowlist.iter().any(|known| known.covers(host)) {
                return Err(ChangeError::Already);
            }
            policy.api_allowlist.push(host.clone());
            Ok(())
        });
    }
    edit(texts, PolicyFile::Routes, |policy: &mut RoutesPolicy| {
        // What goes to the model is counted, recorded and paid for; a second way to it would be neither.
        let model =
            policy.routes.iter().find(|route| route.model && (route.host.covers(host) || host.covers(&route.host)));
        if let Some(model) = model {
            return impossible(format!("{} is the model's, and its routes stay as they are", model.host));
        }
        // What is said to an MCP server is judged on its own route; a second one would be by a path or a method that nobody judges.
        let judged = policy
            .routes
            .iter()
            .find(|route| route.mcp.is_some() && (route.host.covers(host) || host.covers(&route.host)));
        if let Some(judged) = judged {
            return impossible(format!("{} is an MCP server's, and its route stays as it is", judged.host));
        }
        let read = policy
            .routes
            .iter()
            .find(|route| route.forge.is_some() && (route.host.covers(host) || host.covers(&route.host)));
        if let Some(read) = read {
            return impossible(format!("{} is the forge's, and its route stays as it is", read.host));
        }
        if let Some(passed) = policy.passthrough.iter().find(|own| own.covers(host) || host.covers(own)) {
            return impossible(format!("the TLS of {passed} is passed through, so no rule about it could be kept"));
        }
        let asked = Route {
            port: *port,
            scheme: *scheme,
            methods: methods.clone(),
            paths: paths.clone(),
            ..Route::plain(host.clone(), &[], &[])
        };
        let has = |own: &[String], asked: &[String]| asked.iter().all(|one| own.contains(one));
        let every = |paths: &[String]| paths.iter().any(|path| path == "/**");
        let allowed = policy.routes.iter().any(|own| {
            own.host.covers(host)
                && own.query.is_empty()
                && own.headers.is_empty()
                && own.port() == asked.port()
                && own.scheme == asked.scheme
                && has(&own.methods, &asked.methods)
                && (every(&own.paths) || has(&own.paths, &asked.paths))
        });
        if allowed {
            return Err(ChangeError::Already);
        }
        // At the end: what was allowed before goes the way that it went.
        policy.routes.push(asked);
        bottle_policy::matcher::Matcher::new(policy).map_or_else(|error| impossible(error.to_string()), |_| Ok(()))
    })
}

fn exemption(policy: &mut PipelockPolicy, request: &Request) -> Result<(), ChangeError> {
    let Request::RequestExemption { host, rule, .. } = request else { return impossible("no exemption") };
    if !policy.dlp.knows(rule) {
        return impossible(format!("there is no DLP rule `{rule}`; name the one that the refusal named"));
    }
    if policy.dlp.exemptions.iter().any(|own| own.host.covers(host) && own.rule == *rule) {
        return Err(ChangeError::Already);
    }
    policy.dlp.exemptions.push(Exemption { host: host.clone(), rule: rule.clone() });
    Ok(())
}

fn finding(policy: &mut GatePolicy, request: &Request) -> Result<(), ChangeError> {
    let Some(exemption) = request.exempts() else { return impossible("no exemption") };
    let same = |own: &FindingExemption| {
        (&own.rule, &own.path, &own.sha256) == (&exemption.rule, &exemption.path, &exemption.sha256)
    };
    if policy.exemptions.iter().any(same) {
        return Err(ChangeError::Already);
    }
    policy.exemptions.push(exemption);
    Exemptions::new(&policy.exemptions).map_or_else(|error| impossible(error.to_string()), |_| Ok(()))
}

fn held_push(policy: &mut GatePolicy, held: &HeldPush) -> Result<(), ChangeError> {
    if !policy.upstreams.iter().any(|upstream| upstream.name == held.upstream) {
        return impossible(format!("{} is not one of this bottle's repositories", held.upstream));
    }
    let approved = held.approved();
    if policy.approved.contains(&approved) {
        return Err(ChangeError::Already);
    }
    policy.approved.push(approved);
    Ok(())
}

fn push(policy: &mut GatePolicy, request: &Request) -> Result<(), ChangeError> {
    let Request::RequestPush { upstream, r#ref, .. } = request else { return impossible("no push") };
    let names: Vec<String> = policy.upstreams.iter().map(|upstream| upstream.name.to_string()).collect();
    let at = match upstream {
        Some(name) => policy.upstreams.iter_mut().find(|upstream| upstream.name == *name),
        None if policy.upstreams.len() == 1 => policy.upstreams.first_mut(),
        None => policy.upstreams.iter_mut().find(|upstream| upstream.name.as_str() == "origin"),
    };
    let Some(at) = at else {
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return impossible(format!("`upstream` is not one of this bottle's repositories ({names})"));
    };
    let rules = |at: &bottle_policy::gate::Upstream| {
        RefRules::new(&at.push).map_err(|error| ChangeError::Impossible(error.to_string()))
    };
    if rules(at)?.judge(r#ref.as_str()).is_ok() {
        return Err(ChangeError::Already);
    }
    let tag = r#ref.tag().is_some();
    at.push.refs.push(globset::escape(r#ref.as_str()));
    at.push.tags |= tag;
    let judged = rules(at)?.judge(r#ref.as_str());
    judged.map(drop).map_err(|refusal| ChangeError::Impossible(format!("{}: {refusal}", r#ref)))
}

fn budget(policy: &mut RoutesPolicy, request: &Request) -> Result<(), ChangeError> {
    let Request::RequestBudget { tokens, requests, time, cost_usd, .. } = request else {
        return impossible("no budget");
    };
    let own = &mut policy.budget;
    let missing = |what: &str| impossible(format!("this run has no limit of {what} that could be raised"));
    if let Some(more) = tokens {
        let Some(limit) = &mut own.tokens else { return missing("tokens") };
        *limit = limit.saturating_add(*more);
    }
    if let Some(more) = requests {
        let Some(limit) = &mut own.requests else { return missing("requests") };
        *limit = limit.saturating_add(*more);
    }
    if let Some(more) = time {
        let Some(limit) = &mut own.time else { return missing("time") };
        *limit = Seconds(limit.0.saturating_add(more.0));
    }
    if let Some(more) = cost_usd {
        let Some(limit) = &mut own.cost_usd else { return missing("dollars") };
        *limit += more;
    }
    Ok(())
}
