//! Comparisons of lists, and of what is more than a word or a number.

use bottle_policy::gate::exemptions::FindingExemption;
use bottle_policy::inclusion::name_within;
use bottle_policy::mcp::ToolRules;
use bottle_policy::pipelock::Exemption;
use bottle_policy::supervise::AutoRule;
use bottle_types::host::HostPattern;
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::{AttachmentRules, Hooks, Verify};
use super::{Wider, other};

/// A comparison: the policy's value, and the manifest's; none: not given. The keys of its error are those below the two.
pub(super) type Compare = fn(Option<&Value>, Option<&Value>) -> Result<(), Wider>;

/// The items of a list; one that can't be read is an error and never none.
pub(super) fn list<T: DeserializeOwned>(value: Option<&Value>) -> Result<Vec<T>, Wider> {
    value.map_or_else(|| Ok(vec![]), read)
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Wider> {
    serde_json::from_value(value.clone()).map_err(|error| Wider::at(&[], format!("it can't be compared: {error}")))
}

/// The first item that no item of the policy's covers is an error.
fn each_covered<T: DeserializeOwned + serde::Serialize>(
    policy: Option<&Value>,
    own: Option<&Value>,
    covers: impl Fn(&T, &T) -> bool,
) -> Result<(), Wider> {
    let (allowed, items) = (list::<T>(policy)?, list::<T>(own)?);
    for (index, item) in items.iter().enumerate() {
        if !allowed.iter().any(|allowed| covers(allowed, item)) {
            return Err(outside(index, item));
        }
    }
    Ok(())
}

fn outside(index: usize, item: &impl serde::Serialize) -> Wider {
    let value = serde_json::to_value(item).ok();
    let sentence = format!("{} is nothing that the policy's list has", super::shown(value.as_ref()));
    Wider { own: vec![index.to_string()], policy: vec![], sentence }
}

pub(super) fn hosts(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    each_covered(policy, own, HostPattern::covers)
}

pub(super) fn networks_within(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    each_covered(policy, own, |allowed: &IpNet, own: &IpNet| allowed.contains(own))
}

/// Each network of the policy is in one of the manifest's.
pub(super) fn networks_beyond(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    let swapped = each_covered(own, policy, |own: &IpNet, wanted: &IpNet| own.contains(wanted));
    swapped.map_err(|wider| Wider {
        own: vec![],
        policy: wider.own,
        sentence: "a network of the policy's list is missing".to_owned(),
    })
}

pub(super) fn dlp_exemptions(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    each_covered(policy, own, |allowed: &Exemption, own: &Exemption| {
        let Exemption { host, rule } = allowed;
        host.covers(&own.host) && *rule == own.rule
    })
}

pub(super) fn finding_exemptions(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    each_covered(policy, own, |allowed: &FindingExemption, own: &FindingExemption| {
        // The reason is for people.
        let FindingExemption { rule, path, sha256, reason: _ } = allowed;
        *rule == own.rule
            && (sha256.is_none() || *sha256 == own.sha256)
            && name_within(&own.path, std::slice::from_ref(path))
    })
}

pub(super) fn auto(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    each_covered(policy, own, |allowed: &AutoRule, own: &AutoRule| {
        let AutoRule { host, methods } = allowed;
        host.covers(&own.host) && own.methods.iter().all(|method| methods.contains(method))
    })
}

/// `deny`, or the policy's.
pub(super) fn approval(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    let is_deny = own.and_then(Value::as_str) == Some("deny");
    is_deny.then_some(()).ok_or_else(|| Wider::at(&[], other(policy, own)))
}

/// Globs of names, of which there is at least one.
pub(super) fn paths(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    let (allowed, items) = (list::<String>(policy)?, list::<String>(own)?);
    match items.iter().enumerate().find(|(_, item)| !name_within(item, &allowed)) {
        None => Ok(()),
        Some((index, item)) => Err(outside(index, item)),
    }
}

/// Globs of names, where none is every name.
pub(super) fn paths_or_every(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    none_is_all(policy, own).unwrap_or_else(|| paths(policy, own))
}

/// What is decided where an empty list means everything.
fn none_is_all(policy: Option<&Value>, own: Option<&Value>) -> Option<Result<(), Wider>> {
    let is_empty = |value: Option<&Value>| value.is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
    match (is_empty(policy), is_empty(own)) {
        (true, _) => Some(Ok(())),
        (false, true) => Some(Err(Wider::at(&[], "an empty list is no limit, and the policy has one".to_owned()))),
        (false, false) => None,
    }
}

/// `run`, or globs of addresses; none: anybody.
pub(super) fn authors(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    if let Some(decided) = none_is_all(policy, own) {
        return decided;
    }
    let allowed = list::<String>(policy)?;
    let items = list::<String>(own)?;
    // The word is no glob.
    let is_allowed = |item: &String| {
        let globs: Vec<String> = allowed.iter().filter(|glob| *glob != "run").cloned().collect();
        allowed.contains(item) || (item != "run" && name_within(item, &globs))
    };
    match items.iter().enumerate().find(|(_, item)| !is_allowed(item)) {
        None => Ok(()),
        Some((index, item)) => Err(outside(index, item)),
    }
}

/// Ids of models, where none is every one of the provider's.
pub(super) fn models(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    if policy.is_none() {
        // Whether an id is one of those is said by the provider's own globs, and not here.
        return Err(Wider::at(&[], "the policy names no models".to_owned()));
    }
    none_is_all(policy, own).unwrap_or_else(|| each_covered(policy, own, |one: &String, other: &String| one == other))
}

/// A text that begins with the policy's.
pub(super) fn longer(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    text(own).starts_with(&text(policy)).then_some(()).ok_or_else(|| Wider::at(&[], other(policy, own)))
}

/// Tools of an MCP server.
pub(super) fn tools(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    let rules = |value: Option<&Value>| value.map_or_else(|| Ok(ToolRules::default()), read::<ToolRules>);
    let ToolRules { allow, deny, arguments } = rules(policy)?;
    let own = rules(own)?;
    let every = |allow: &[String]| allow.iter().any(|tool| tool == "*");
    let allowed = |tool: &String| allow.contains(tool) || (every(&allow) && tool != "*");
    if let Some(index) = own.allow.iter().position(|tool| !allowed(tool)) {
        let sentence = format!("the policy does not allow the tool `{}`", own.allow[index]);
        return Err(Wider::at(&["allow"], sentence).item(&index.to_string()));
    }
    if let Some(tool) = deny.iter().find(|tool| !own.deny.contains(tool)) {
        return Err(Wider::at(&["deny"], format!("the policy denies the tool `{tool}`")));
    }
    match arguments.iter().find(|(tool, rules)| own.arguments.get(*tool) != Some(rules)) {
        None => Ok(()),
        Some((tool, _)) => {
            Err(Wider::at(&["arguments", tool], "the policy says otherwise which arguments may be given".to_owned()))
        }
    }
}

impl Wider {
    /// The same about an item of the manifest's list.
    fn item(mut self, index: &str) -> Self {
        self.own.push(index.to_owned());
        self
    }
}

/// The policy's hooks are among the manifest's.
pub(super) fn hooks(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    let hooks = |value: Option<&Value>| value.map_or_else(|| Ok(Hooks::new()), read::<Hooks>);
    let own = hooks(own)?;
    for (event, wanted) in hooks(policy)? {
        if wanted.iter().any(|hook| !own.get(&event).is_some_and(|own| own.contains(hook))) {
            return Err(Wider::at(&[&format!("{event:?}")], "a hook of the policy is missing".to_owned()));
        }
    }
    Ok(())
}

/// At most so many files and bytes of what people attach, as without the key.
pub(super) fn attachments(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    let rules = |value: Option<&Value>| value.map_or_else(|| Ok(AttachmentRules::default()), read::<AttachmentRules>);
    let (AttachmentRules { max, max_bytes }, own) = (rules(policy)?, rules(own)?);
    if own.max > max {
        return Err(Wider::at(&["max"], format!("{} is more than {max}", own.max)));
    }
    if own.max_bytes > max_bytes {
        return Err(Wider::at(&["max_bytes"], format!("`{}` is more than `{max_bytes}`", own.max_bytes)));
    }
    Ok(())
}

/// The policy's commands are among the manifest's.
pub(super) fn verify(policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
    let verify = |value: Option<&Value>| value.map_or_else(|| Ok(Verify::default()), read::<Verify>);
    let (wanted, own) = (verify(policy)?, verify(own)?);
    let own: Vec<_> = own.commands().iter().map(|command| command.rules()).collect();
    match wanted.commands().iter().find(|command| !own.contains(&command.rules())) {
        None => Ok(()),
        Some(command) => Err(Wider::at(&[], format!("the policy's command `{}` is missing", command.rules().run))),
    }
}
