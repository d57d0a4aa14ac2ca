//! Whether a manifest allows nothing that its policy does not allow.
//!
//! Map: `rules` (what may be said about each key), `items` (comparisons of lists and the like), `routes` (what has to be looked at together:
//! routes, images, refs).
//!
//! Always: what is not proven to be narrower is wider; a key without a rule may not differ. The manifest that is compared has the policy's
//! values already where it says nothing itself, so that a difference is one that somebody wrote.

mod items;
mod routes;
mod rules;

use std::collections::BTreeSet;

use bottle_types::units::{ByteSize, Seconds};
use serde_json::{Map, Value};

use self::rules::{Rule, pattern, rule};
use super::Manifest;

/// Everything that a manifest says: the keys and indices of each value or item, and its text.
pub(super) fn leaves(manifest: &Manifest) -> Vec<(Vec<String>, String)> {
    let mut found = vec![];
    if let Ok(value) = serde_json::to_value(manifest) {
        leaves_below(&mut vec![], &value, &mut found);
    }
    found
}

fn leaves_below(path: &mut Vec<String>, value: &Value, found: &mut Vec<(Vec<String>, String)>) {
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    let is_section = is_merged(&keys)
        || matches!(rule(&pattern(&keys)), Rule::Granted | Rule::NamesInPlace | Rule::Outputs | Rule::Repositories);
    match value {
        Value::Object(map) if is_section => {
            for (key, value) in map {
                path.push(key.clone());
                leaves_below(path, value, found);
                path.pop();
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let is_entries = is_section;
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                match is_entries {
                    true => leaves_below(path, item, found),
                    false => found.push((path.clone(), shown(Some(item)))),
                }
                path.pop();
            }
        }
        value => found.push((path.clone(), shown(Some(value)))),
    }
}

/// Something that the policy does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wider {
    /// The keys and indices in the manifest.
    pub(super) own: Vec<String>,
    /// Those in the policy; the nearest that is written there counts.
    pub(super) policy: Vec<String>,
    /// What is wider.
    pub(super) sentence: String,
}

impl Wider {
    fn at(keys: &[&str], sentence: String) -> Self {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        Self { own: keys.clone(), policy: keys, sentence }
    }

    /// The same, seen from further up.
    fn below(mut self, own: &[String], policy: &[String]) -> Self {
        self.own.splice(0..0, own.iter().cloned());
        self.policy.splice(0..0, policy.iter().cloned());
        self
    }
}

/// Whether the keys of a mapping are put onto the policy's one by one; else what is written, there or above, stands in place of the policy's.
pub(super) fn is_merged(path: &[&str]) -> bool {
    (1..=path.len()).all(|length| {
        matches!(
            rule(&pattern(&path[..length])),
            Rule::Keys | Rule::KeysAsThere | Rule::Names | Rule::NamesAndOwn | Rule::Servers
        )
    })
}

/// Looks for what a manifest, put onto its policy, allows beyond it.
pub(super) fn check(policy: &Manifest, own: &Manifest) -> Result<(), Wider> {
    let unreadable = |error: serde_json::Error| Wider::at(&[], format!("it can't be compared: {error}"));
    let (before, after) =
        (serde_json::to_value(policy).map_err(unreadable)?, serde_json::to_value(own).map_err(unreadable)?);
    Comparison { own: vec![], policy: vec![] }.keys("", Some(&before), Some(&after))?;
    routes::check(policy, own)
}

/// A place in both.
struct Comparison {
    own: Vec<String>,
    policy: Vec<String>,
}

impl Comparison {
    fn wider(&self, sentence: String) -> Wider {
        Wider { own: self.own.clone(), policy: self.policy.clone(), sentence }
    }

    fn inside(
        &mut self,
        (own, policy): (&str, &str),
        check: impl FnOnce(&mut Self) -> Result<(), Wider>,
    ) -> Result<(), Wider> {
        self.own.push(own.to_owned());
        self.policy.push(policy.to_owned());
        check(self)?;
        self.own.pop();
        self.policy.pop();
        Ok(())
    }

    fn value(&mut self, pattern: &str, policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
        if policy == own {
            return Ok(());
        }
        match rule(pattern) {
            Rule::Own | Rule::WithRoutes => Ok(()),
            Rule::Keys => self.keys(pattern, policy, own),
            Rule::KeysAsThere => self.as_there(pattern, policy, own),
            Rule::Granted => match (policy, own) {
                (_, None) => Ok(()),
                (None, Some(_)) => Err(self.wider("the policy does not grant this".to_owned())),
                _ => self.keys(pattern, policy, own),
            },
            Rule::Names | Rule::NamesInPlace => self.names(pattern, policy, own, |_| false),
            Rule::NamesAndOwn => self.names(pattern, policy, own, |_| true),
            Rule::Servers => self.names(pattern, policy, own, |server| server.get("url").is_none()),
            Rule::Outputs => {
                let branch = serde_json::json!({ "branch": {} });
                self.keys(pattern, policy.or(Some(&branch)), own.or(Some(&branch)))
            }
            Rule::Repositories => self.repositories(pattern, policy, own),
            Rule::Kept if policy.is_none() => Ok(()),
            Rule::Kept | Rule::Same => Err(self.wider(other(policy, own))),
            Rule::AtMost(absent) => self.at_most(policy, own, absent),
            Rule::TrueIfThere if own != Some(&Value::Bool(true)) => Ok(()),
            Rule::TrueIfThere => Err(self.wider("the policy does not allow it".to_owned())),
            Rule::TrueAsThere(absent) => {
                let is_true = |value: Option<&Value>| value.map_or(Some(absent), Value::as_bool);
                match (is_true(policy), is_true(own)) {
                    (Some(false), Some(_)) | (_, Some(true)) => Ok(()),
                    _ => Err(self.wider("the policy asks for it".to_owned())),
                }
            }
            Rule::UpTo(words) => self.up_to(policy, own, words),
            Rule::Within => self.within(policy, own),
            Rule::Beyond => self.beyond(policy, own),
            Rule::By(compare) => compare(policy, own).map_err(|wider| wider.below(&self.own, &self.policy)),
        }
    }

    /// Every key that either has.
    fn keys(&mut self, pattern: &str, policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
        let (before, after) = (self.mapping(policy)?, self.mapping(own)?);
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let child = if pattern.is_empty() { key.clone() } else { format!("{pattern}.{key}") };
            self.inside((key, key), |inside| inside.value(&child, before.get(key), after.get(key)))?;
        }
        Ok(())
    }

    fn mapping(&self, value: Option<&Value>) -> Result<Map<String, Value>, Wider> {
        match value {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.clone()),
            Some(_) => Err(self.wider("this can't be compared with the policy".to_owned())),
        }
    }

    fn as_there(&mut self, pattern: &str, policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
        match (policy, own) {
            (Some(_), Some(_)) => self.keys(pattern, policy, own),
            (None, _) => Err(self.wider("the policy has none".to_owned())),
            (_, None) => Err(self.wider("the policy has one".to_owned())),
        }
    }

    fn names(
        &mut self,
        pattern: &str,
        policy: Option<&Value>,
        own: Option<&Value>,
        may_be_own: impl Fn(&Value) -> bool,
    ) -> Result<(), Wider> {
        let (before, after) = (self.mapping(policy)?, self.mapping(own)?);
        for (name, value) in &after {
            let child = format!("{pattern}.*");
            let before = before.get(name);
            self.inside((name, name), |inside| match before {
                None if may_be_own(value) => Ok(()),
                None => Err(inside.wider(format!("the policy has no `{name}`"))),
                before => inside.value(&child, before, Some(value)),
            })?;
        }
        Ok(())
    }

    /// The policy's repositories, all of them: git over https to one is refused whatever the routes say, and only while it is here.
    fn repositories(&mut self, pattern: &str, policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
        let (before, after) = (items::list::<Value>(policy)?, items::list::<Value>(own)?);
        for (index, entry) in after.iter().enumerate() {
            let known = before.get(index).filter(|known| known["name"] == entry["name"]);
            let at = index.to_string();
            self.inside((&at, &at), |inside| match known {
                None => Err(inside.wider(format!("the policy has no repository {} here", shown(entry.get("name"))))),
                known => inside.value(&format!("{pattern}.*"), known, Some(entry)),
            })?;
        }
        match before.get(after.len()) {
            None => Ok(()),
            Some(missing) => {
                let sentence = format!(
                    "the policy's repository {} is missing: only while it is here, git reaches it by the gate alone",
                    shown(missing.get("name"))
                );
                let wider = self.wider(sentence);
                Err(Wider { policy: [&self.policy[..], &[after.len().to_string()]].concat(), ..wider })
            }
        }
    }

    fn at_most(&self, policy: Option<&Value>, own: Option<&Value>, absent: Option<&str>) -> Result<(), Wider> {
        let absent = absent.map(|text| Value::String(text.to_owned()));
        let (Some(most), own) = (policy.or(absent.as_ref()), own.or(absent.as_ref())) else { return Ok(()) };
        let Some(own) = own else {
            return Err(self.wider(format!("there is no limit, and the policy has {}", shown(Some(most)))));
        };
        match is_at_most(own, most) {
            Some(true) => Ok(()),
            Some(false) => Err(self.wider(format!("{} is more than {}", shown(Some(own)), shown(Some(most))))),
            None => Err(self.wider("this can't be compared with the policy".to_owned())),
        }
    }

    fn up_to(&self, policy: Option<&Value>, own: Option<&Value>, words: &[&str]) -> Result<(), Wider> {
        let place = |value: Option<&Value>| match value {
            None => words.len().checked_sub(1),
            Some(value) => words.iter().position(|word| value.as_str() == Some(word)),
        };
        match (place(policy), place(own)) {
            (Some(most), Some(own)) if own <= most => Ok(()),
            _ => Err(self.wider(other(policy, own))),
        }
    }

    fn within(&self, policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
        let allowed = items::list::<Value>(policy)?;
        let items = items::list::<Value>(own)?;
        match items.iter().enumerate().find(|(_, item)| !allowed.contains(item)) {
            None => Ok(()),
            Some((index, item)) => {
                let wider = self.wider(format!("{} is not in the policy's list", shown(Some(item))));
                Err(Wider { own: [&self.own[..], &[index.to_string()]].concat(), ..wider })
            }
        }
    }

    fn beyond(&self, policy: Option<&Value>, own: Option<&Value>) -> Result<(), Wider> {
        let items = items::list::<Value>(own)?;
        let wanted = items::list::<Value>(policy)?;
        match wanted.iter().enumerate().find(|(_, item)| !items.contains(item)) {
            None => Ok(()),
            Some((index, item)) => {
                let wider = self.wider(format!("{} of the policy's list is missing", shown(Some(item))));
                Err(Wider { policy: [&self.policy[..], &[index.to_string()]].concat(), ..wider })
            }
        }
    }
}

/// Whether a number, a size or a time is at most another; none: they are no quantities of one kind.
fn is_at_most(own: &Value, most: &Value) -> Option<bool> {
    match (own, most) {
        (Value::Number(own), Value::Number(most)) => match (own.as_u64(), most.as_u64()) {
            (Some(own), Some(most)) => Some(own <= most),
            _ => Some(own.as_f64()? <= most.as_f64()?),
        },
        (Value::String(own), Value::String(most)) => match (Seconds::parse(own), Seconds::parse(most)) {
            (Ok(own), Ok(most)) => Some(own <= most),
            _ => Some(ByteSize::parse(own).ok()? <= ByteSize::parse(most).ok()?),
        },
        _ => None,
    }
}

/// That something is not the policy's.
fn other(policy: Option<&Value>, own: Option<&Value>) -> String {
    match (policy, own) {
        (None, _) => format!("{} is not the policy's, which says nothing of it", shown(own)),
        (Some(_), None) => format!("it is not given, and the policy says {}", shown(policy)),
        _ => format!("{} is not the policy's {}", shown(own), shown(policy)),
    }
}

/// A value as a message quotes it.
fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None => "nothing".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(other) => other.to_string(),
    };
    crate::prose::name(&text, 120)
}

#[cfg(test)]
mod tests;
