//! What has to be looked at together: routes in their order, with what a secret leads to and the largest request; images; refs and tags.
//!
//! The first route that matches decides. So a route is narrower if it is within one route of the policy, as strict as that, and no request
//! of it would have come to an earlier route of the policy that is stricter.

use std::collections::{BTreeMap, BTreeSet};

use bottle_policy::inclusion::{name_within, path_within, paths_disjoint};
use bottle_policy::pipelock::Action;
use bottle_policy::route::{Outbound, Route};
use bottle_types::host::HostPattern;
use bottle_types::units::{ByteSize, Rate};

use super::super::{BottleEntry, Manifest, Push};
use super::Wider;
use crate::name::Name;

/// Every tag, where `tags` is on and no glob is about tags.
const EVERY_TAG: &str = "refs/tags/**";

pub(super) fn check(policy: &Manifest, own: &Manifest) -> Result<(), Wider> {
    let images: Vec<Option<&String>> = policy.bottles.values().map(|bottle| bottle.image.as_ref()).collect();
    for (name, bottle) in &own.bottles {
        let above = ["bottles".to_owned(), name.to_string()];
        let Some(allowed) = policy.bottles.get(name) else {
            return Err(Wider::at(&[], format!("the policy has no `{name}`")).below(&above, &above));
        };
        if !images.contains(&bottle.image.as_ref()) {
            let image = bottle.image.as_deref().unwrap_or("the image of this version");
            let sentence = format!("`{image}` is the image of no bottle of the policy");
            return Err(Wider::at(&["image"], sentence).below(&above, &above));
        }
        if has_routes(policy, name, allowed) && !has_routes(own, name, bottle) {
            let sentence = "without a route pipelock is the bottle's proxy, and allows whole hosts: keep one";
            return Err(Wider::at(&["egress", "routes"], sentence.to_owned()).below(&above, &above));
        }
        check_bottle(allowed, bottle).map_err(|wider| wider.below(&above, &above))?;
    }
    Ok(())
}

/// Whether egress is the proxy of a bottle. Servers of its agents are routes, too.
fn has_routes(manifest: &Manifest, name: &Name, bottle: &BottleEntry) -> bool {
    let agents = manifest.agents.values().filter(|agent| agent.bottle.as_ref().is_none_or(|own| own == name));
    !bottle.egress.routes.is_empty()
        || !bottle.egress.presets.is_empty()
        || bottle.model.is_some()
        || bottle.forge.is_some()
        || agents.flat_map(|agent| agent.mcp.values()).any(|server| server.url.is_some())
}

fn check_bottle(policy: &BottleEntry, own: &BottleEntry) -> Result<(), Wider> {
    for with_setup in [false, true] {
        let lists = Lists {
            policy: Listed::all(policy, with_setup),
            own: Listed::all(own, with_setup),
            limits: (policy.pipelock.max_request_bytes, own.pipelock.max_request_bytes),
            dlp: own.pipelock.dlp,
        };
        lists.check()?;
        check_presets(policy, own, with_setup, &lists)?;
    }
    for (index, entry) in own.git.iter().enumerate() {
        let known = policy.git.iter().position(|known| known.name == entry.name);
        let Some(known) = known else { continue };
        let keys = |index: usize| ["git".to_owned(), index.to_string(), "push".to_owned()];
        let pushed = check_push(&policy.git[known].push, &entry.push);
        pushed.map_err(|wider| wider.below(&keys(index), &keys(known)))?;
    }
    Ok(())
}

/// Refs and tags of one repository.
fn check_push(policy: &Push, own: &Push) -> Result<(), Wider> {
    let names_tags = |push: &Push| push.refs.iter().any(|glob| glob.starts_with("refs/tags/"));
    let every_tag = |push: &Push| push.tags && !names_tags(push);
    if own.tags && !policy.tags {
        return Err(Wider::at(&["tags"], "the policy lets no tags through".to_owned()));
    }
    if every_tag(own) && !every_tag(policy) {
        let sentence = "no glob is about tags, so every tag is let through, and the policy's globs name some";
        return Err(Wider::at(&["refs"], sentence.to_owned()));
    }
    let mut allowed = policy.refs.clone();
    allowed.extend(every_tag(policy).then(|| EVERY_TAG.to_owned()));
    match own.refs.iter().position(|glob| !name_within(glob, &allowed)) {
        None => Ok(()),
        Some(index) => {
            let wider =
                Wider::at(&["refs"], format!("`{}` takes refs that the policy's globs do not", own.refs[index]));
            Err(Wider { own: vec!["refs".to_owned(), index.to_string()], ..wider })
        }
    }
}

/// Package managers of the policy alone, and none that a route of the policy is stricter than.
fn check_presets(policy: &BottleEntry, own: &BottleEntry, with_setup: bool, lists: &Lists<'_>) -> Result<(), Wider> {
    let of = |bottle: &BottleEntry| {
        let egress = if with_setup { bottle.egress_with_setup() } else { bottle.egress.clone() };
        egress.presets
    };
    let (allowed, presets) = (of(policy), of(own));
    let at: &[&str] =
        match presets.iter().any(|preset| own.egress.presets.contains(preset) && !allowed.contains(preset)) {
            true => &["egress", "presets"],
            false if with_setup => &["setup", "egress", "presets"],
            false => &["egress", "presets"],
        };
    if let Some(preset) = presets.difference(&allowed).next() {
        return Err(Wider::at(at, format!("`{}` is not in the policy's list", preset.name())));
    }
    // A preset's routes come last and ask for nothing: a request must not come to them that the policy has a rule about.
    let reads = |route: &Route| route.methods.iter().any(|method| matches!(method.as_str(), "GET" | "HEAD"));
    let gone = |listed: &&Listed<'_>| {
        let is_kept = lists.own.iter().any(|own| own.route == listed.route);
        reads(listed.route) && !is_kept && !is_plain(listed.route)
    };
    match lists.policy.iter().find(gone) {
        Some(listed) if !presets.is_empty() => {
            let sentence =
                "what it was about would come to a preset's route, without its rules: keep the route as it is"
                    .to_owned();
            Err(Wider { own: vec!["egress".to_owned(), "routes".to_owned()], policy: listed.keys.clone(), sentence })
        }
        _ => Ok(()),
    }
}

/// Whether a route says nothing but which requests may go.
fn is_plain(route: &Route) -> bool {
    let plain = Route::plain(route.host.clone(), &[], &[]);
    let scope = Route { methods: vec![], paths: vec![], port: None, scheme: plain.scheme, ..route.clone() };
    scope == plain
}

/// A route, and the keys to it in its bottle.
struct Listed<'a> {
    route: &'a Route,
    keys: Vec<String>,
}

impl<'a> Listed<'a> {
    /// In the order in which they decide.
    fn all(bottle: &'a BottleEntry, with_setup: bool) -> Vec<Self> {
        let listed = |keys: &'static [&'static str], routes: &'a [Route]| {
            routes.iter().enumerate().map(move |(index, route)| {
                let keys = keys.iter().map(|&key| key.to_owned()).chain([index.to_string()]);
                Self { route, keys: keys.collect() }
            })
        };
        let setup = bottle.setup.iter().filter(|_| with_setup);
        let setup = setup.flat_map(|setup| listed(&["setup", "egress", "routes"], &setup.egress.routes));
        listed(&["egress", "routes"], &bottle.egress.routes).chain(setup).collect()
    }
}

/// The routes of one phase, in the policy and in the manifest.
struct Lists<'a> {
    policy: Vec<Listed<'a>>,
    own: Vec<Listed<'a>>,
    /// The largest request where a route does not say it.
    limits: (ByteSize, ByteSize),
    /// What a finding leads to where a route does not say it.
    dlp: Action,
}

impl Lists<'_> {
    fn check(&self) -> Result<(), Wider> {
        let mut rated: BTreeMap<usize, usize> = BTreeMap::new();
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for index in 0..self.own.len() {
            let found = self.covering(index)?;
            let (policy, own) = (&self.policy[found], &self.own[index]);
            let wider = |sentence: &str| Wider {
                own: own.keys.clone(),
                policy: policy.keys.clone(),
                sentence: sentence.to_owned(),
            };
            if policy.route.rate.is_some() && rated.insert(found, index).is_some() {
                return Err(wider("a route more would count the policy's rate once more"));
            }
            if let (HostPattern::Below(allowed), HostPattern::Below(below)) = (&policy.route.host, &own.route.host) {
                let below_this = names.entry(allowed.to_string()).or_default();
                below_this.insert(below.to_string());
                if below_this.len() > 1 {
                    return Err(wider("a wildcard more would count the policy's limit on names once more"));
                }
            }
        }
        Ok(())
    }

    /// The policy's route that a route of the manifest is within.
    fn covering(&self, index: usize) -> Result<usize, Wider> {
        let own = &self.own[index];
        let mut nearest: Option<(bool, usize, String)> = None;
        for (at, policy) in self.policy.iter().enumerate() {
            let outside = beyond(policy.route, own.route);
            let is_scope = outside.is_none();
            let outside = outside.or_else(|| self.laxer(policy.route, own.route)).or_else(|| self.shadowed(at, index));
            let Some(sentence) = outside else { return Ok(at) };
            // Of a route with other requests less is to be learnt.
            let is_nearer = nearest.as_ref().is_none_or(|(known, ..)| is_scope && !known);
            if is_nearer && policy.route.host.covers(&own.route.host) {
                nearest = Some((is_scope, at, sentence));
            }
        }
        let (keys, sentence) = match nearest {
            Some((_, at, sentence)) => (self.policy[at].keys.clone(), sentence),
            None => (own.keys[..own.keys.len() - 1].to_vec(), format!("the policy has no route to {}", own.route.host)),
        };
        Err(Wider { own: own.keys.clone(), policy: keys, sentence })
    }

    /// How a route treats requests less strictly than the policy's does.
    fn laxer(&self, policy: &Route, own: &Route) -> Option<String> {
        // Every key is named: one that is added later has to find its place here.
        let Route {
            host: _,
            port: _,
            scheme: _,
            methods: _,
            paths: _,
            query: _,
            headers: _,
            websocket: _,
            max_bytes,
            rate,
            upstream,
            dlp,
            auth,
            model,
            mcp,
            forge,
        } = policy;
        let is_block = match own.dlp.outbound {
            Some(outbound) => outbound == Outbound::Block,
            None => self.dlp == Action::Block,
        };
        let most = max_bytes.unwrap_or(self.limits.0);
        let what = if *auth != own.auth {
            "`auth` is not the policy's: a credential goes with the policy's own routes, and with all of them"
        } else if *upstream != own.upstream {
            "`upstream` is not the policy's"
        } else if *model != own.model {
            "`model` is not the policy's"
        } else if *mcp != own.mcp {
            "`mcp` is not the policy's"
        } else if *forge != own.forge {
            "`forge` is not the policy's"
        } else if *dlp != own.dlp && !is_block {
            "`dlp` is not the policy's"
        } else if own.max_bytes.unwrap_or(self.limits.1) > most {
            return Some(format!("`max_bytes` is more than {most}"));
        } else if rate.is_some_and(|most| own.rate.is_none_or(|rate| !is_slower(rate, most))) {
            "`rate` is more than the policy's"
        } else {
            return None;
        };
        Some(what.to_owned())
    }

    /// Whether a route of the manifest takes requests that the policy gives to an earlier, stricter route.
    fn shadowed(&self, at: usize, index: usize) -> Option<String> {
        let own = self.own[index].route;
        let is_fine = |earlier: &&Listed<'_>| {
            let earlier = earlier.route;
            !overlap(earlier, own)
                // A rate is counted by its own route.
                || (earlier.rate.is_none() && self.laxer(earlier, own).is_none())
                || self.own[..index].iter().any(|before| before.route == earlier)
        };
        let stricter = self.policy[..at].iter().find(|earlier| !is_fine(earlier))?;
        let path = stricter.keys.join(".");
        Some(format!(
            "it takes requests of {path}, which comes first in the policy: keep that route before it, as it is"
        ))
    }
}

/// Whether a rate lets no more through than another, at once and in the long run.
fn is_slower(rate: Rate, most: Rate) -> bool {
    let product = |count: u32, per: u64| u128::from(count) * u128::from(per);
    rate.count <= most.count && product(rate.count, most.per.0) <= product(most.count, rate.per.0)
}

/// What a route allows that the policy's does not.
fn beyond(policy: &Route, own: &Route) -> Option<String> {
    if !policy.host.covers(&own.host) {
        return Some(format!("the policy's route is about {}", policy.host));
    }
    if (policy.port(), policy.scheme) != (own.port(), own.scheme) {
        return Some("the policy has another port or scheme".to_owned());
    }
    if let Some(method) = own.methods.iter().find(|method| !policy.methods.contains(method)) {
        return Some(format!("the policy does not allow {method}"));
    }
    if let Some(path) = own.paths.iter().find(|path| !path_within(path, &policy.paths)) {
        return Some(format!("`{path}` takes paths that the policy's globs do not"));
    }
    let conditions = [("query", &policy.query, &own.query), ("headers", &policy.headers, &own.headers)];
    for (key, wanted, given) in conditions {
        if let Some((name, _)) = wanted.iter().find(|(name, glob)| given.get(*name) != Some(glob)) {
            return Some(format!("the policy has a condition about `{name}` in `{key}`"));
        }
    }
    (own.websocket && !policy.websocket).then(|| "the policy does not allow WebSockets".to_owned())
}

/// Whether a request may match both.
fn overlap(one: &Route, other: &Route) -> bool {
    (one.host.covers(&other.host) || other.host.covers(&one.host))
        && (one.port(), one.scheme) == (other.port(), other.scheme)
        && one.methods.iter().any(|method| other.methods.contains(method))
        && !paths_disjoint(&one.paths, &other.paths)
}
