//! A manifest's text with the policies that hold for it: the one way from a text to a [`Manifest`].
//!
//! Policies and manifest are layers. Each stands on the one before: a key that a layer leaves out has the value of the layer below, and a
//! key that it writes may not allow more than that ([`narrow`](super::narrow)). What an upper layer writes of a list, or of a mapping by
//! free names such as `labels`, stands in place of the whole.

use serde_json::{Map, Value};

use super::position::{LineColumn, YamlTree, dotted};
use super::positions::Positions;
use super::read::{read, tree, without_mark};
use super::{Extends, Manifest, ManifestError, Place, RuleRef, check, narrow};

/// A policy's text, and what messages call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText {
    /// Such as its path on this machine, or repository, commit and path.
    pub name: String,
    /// The whole file.
    pub text: String,
}

/// A manifest's text, what messages call it, and the policies that hold for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSource {
    name: String,
    text: String,
    machine: Option<PolicyText>,
    extended: Option<PolicyText>,
}

impl ManifestSource {
    /// A manifest on a machine that has no policy. One with `extends` can't be parsed before [`Self::extending`] gave its policy.
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), machine: None, extended: None }
    }

    /// The same, on a machine with a policy.
    pub fn under(self, machine: Option<PolicyText>) -> Self {
        Self { machine, ..self }
    }

    /// The same, with the policy that its `extends` names.
    pub fn extending(self, extended: PolicyText) -> Self {
        Self { extended: Some(extended), ..self }
    }

    /// The same manifest with another text, such as one with a rule more.
    pub fn with_text(&self, text: String) -> Self {
        Self { text, ..self.clone() }
    }

    /// What messages call the manifest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The manifest's own text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The policies, the machine's first.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyText> {
        self.machine.iter().chain(&self.extended)
    }

    /// The texts of the policies and of the manifest, one after the other: two that differ in nothing have the same rules.
    pub fn all_texts(&self) -> String {
        let policies: String =
            self.policies().map(|policy| format!("{}\u{0}{}\u{0}", policy.name, policy.text)).collect();
        policies + &self.text
    }

    /// The policy that the manifest says it stays within.
    pub fn extends(&self) -> Result<Option<Extends>, ManifestError> {
        let layer = Layer::new(&self.name, &self.text)?;
        match &layer.manifest.extends {
            Some(extends) => layer.check_extends(extends).map(|()| Some(extends.clone())),
            None => Ok(None),
        }
    }

    /// Reads the manifest, checks it, and holds it against its policies.
    pub fn parse(&self) -> Result<Manifest, ManifestError> {
        self.layered().map(|layered| layered.manifest)
    }

    /// What is written of each rule, in the manifest and in its policies.
    pub fn rules(&self) -> Result<Vec<RuleRef>, ManifestError> {
        let layered = self.layered()?;
        let found = narrow::leaves(&layered.manifest).into_iter().filter_map(|(path, text)| {
            let mut steps: Vec<&str> = path.iter().map(String::as_str).collect();
            // A set of words has lost the order of its list.
            let written = match &steps[..] {
                [list @ .., "presets" | "detect" | "methods", _] => {
                    let list = &steps[..=list.len()];
                    layered.item(list, text.trim_matches('`')).map(|index| index.to_string())
                }
                _ => None,
            };
            if let (Some(written), Some(last)) = (&written, steps.last_mut()) {
                *last = written;
            }
            let at = Some(layered.place(&steps)?);
            Some(RuleRef { path: dotted(&steps), at, text })
        });
        Ok(found.collect())
    }

    /// The manifest with the places of what it says.
    pub(crate) fn layered(&self) -> Result<LayeredManifest, ManifestError> {
        let mut below: Option<LayeredManifest> = None;
        for policy in self.policies() {
            let layer = Layer::new(&policy.name, &policy.text)?;
            if layer.manifest.extends.is_some() {
                let problem = "a policy can't have a policy of its own: `extends` is for manifests";
                let hint = "put all of its rules into this one file";
                return Err(layer.error(&["extends"], problem.to_owned(), Some(hint.to_owned())));
            }
            below = Some(LayeredManifest::with(below, layer)?);
        }
        let layer = Layer::new(&self.name, &self.text)?;
        layer.manifest.extends.iter().try_for_each(|extends| layer.check_extends(extends))?;
        match (&layer.manifest.extends, &self.extended) {
            (Some(extends), Some(policy)) if policy.name != extends.name() => {
                let problem = format!("the policy {} was read in place of this one", policy.name);
                return Err(layer.error(&["extends"], problem, None));
            }
            (Some(_), None) => {
                let problem = "the policy was not read, so the manifest can't be held against it".to_owned();
                return Err(layer.error(&["extends"], problem, None));
            }
            _ => {}
        }
        LayeredManifest::with(below, layer)
    }
}

/// One text, read by itself.
#[derive(Debug)]
struct Layer {
    name: String,
    manifest: Manifest,
    tree: YamlTree,
    positions: Positions,
}

impl Layer {
    fn new(name: &str, text: &str) -> Result<Self, ManifestError> {
        let manifest = read(text, name)?;
        let tree = tree(without_mark(text)).unwrap_or(YamlTree::Leaf);
        Ok(Self { name: name.to_owned(), manifest, tree, positions: Positions::new(text) })
    }

    fn error(&self, path: &[&str], problem: String, hint: Option<String>) -> ManifestError {
        ManifestError::new(&self.name, self.tree.find(path), format!("{}: {problem}", dotted(path)), hint)
    }

    fn check_extends(&self, extends: &Extends) -> Result<(), ManifestError> {
        extends
            .check()
            .map_err(|(key, problem, hint)| self.error(&["extends", key], problem, Some(hint.to_owned())))?;
        let is_path = check::is_repo_path(&extends.path);
        let problem =
            || self.error(&["extends", "path"], format!("`{}` is not a path in the repository", extends.path), None);
        is_path.then_some(()).ok_or_else(problem)
    }
}

/// A manifest that has been held against its policies, and the texts of all of them.
#[derive(Debug)]
pub(crate) struct LayeredManifest {
    pub(crate) manifest: Manifest,
    /// From the ground up.
    layers: Vec<Layer>,
}

impl LayeredManifest {
    /// The manifest of one layer more.
    fn with(below: Option<Self>, mut layer: Layer) -> Result<Self, ManifestError> {
        layer.manifest.extends = None;
        let Some(below) = below else {
            if !layer.tree.has("bottles") {
                let problem = "the key `bottles` is missing".to_owned();
                return Err(ManifestError::new(&layer.name, Some((1, 1)), problem, None));
            }
            let manifest = layer.manifest.clone();
            return Self { manifest, layers: vec![layer] }.checked();
        };
        if matches!(layer.tree, YamlTree::Leaf) {
            // What it says would not be put onto the policy, and could be narrower.
            let problem = "it can't be put onto its policy: its keys can't be found".to_owned();
            return Err(ManifestError::new(&layer.name, Some((1, 1)), problem, None));
        }
        let internal = |error: serde_json::Error| {
            // Both have been read from text, so what they have in common can be.
            ManifestError::new(&layer.name, None, format!("it can't be put onto its policy: {error}"), None)
        };
        let mut policy = serde_json::to_value(&below.manifest).map_err(internal)?;
        if layer.tree.has("agents") && below.manifest.agents.is_empty() {
            // Without the section there is one agent, who says nothing.
            policy["agents"] = serde_json::json!({ super::DEFAULT_AGENT: super::Agent::default() });
        }
        let own = serde_json::to_value(&layer.manifest).map_err(internal)?;
        let merged = merged(&mut vec![], &policy, Some(&own), &layer.tree);
        let manifest: Manifest = serde_json::from_value(merged).map_err(internal)?;
        let policy: Manifest = serde_json::from_value(policy).map_err(internal)?;
        let LayeredManifest { mut layers, .. } = below;
        layers.push(layer);
        let whole = Self { manifest, layers }.checked()?;
        match narrow::check(&policy, &whole.manifest) {
            Ok(()) => Ok(whole),
            Err(wider) => Err(whole.refusal(&wider)),
        }
    }

    fn checked(self) -> Result<Self, ManifestError> {
        match check::check(&self.manifest) {
            Ok(()) => Ok(self),
            Err(found) => {
                let path: Vec<&str> = found.path.iter().map(String::as_str).collect();
                let (file, at) = nearest(&self.layers, &path);
                Err(ManifestError::new(file, at, found.problem, found.hint))
            }
        }
    }

    /// The error that a manifest allows more than its policy, with the places of both.
    fn refusal(&self, wider: &narrow::Wider) -> ManifestError {
        let own: Vec<&str> = wider.own.iter().map(String::as_str).collect();
        let policy: Vec<&str> = wider.policy.iter().map(String::as_str).collect();
        let (file, at) = nearest(&self.layers, &own);
        let (of_policy, place) = nearest(&self.layers[..self.layers.len() - 1], &policy);
        // A policy that says nothing of it says that from its first line on.
        let (line, column) = place.unwrap_or((1, 1));
        let problem = format!("{}: {} (the policy: {of_policy}:{line}:{column})", dotted(&own), wider.sentence);
        let hint = "a manifest may narrow its policy and never widen it: leave the key out for the policy's own, or have the policy changed";
        ManifestError::new(file, at, problem, Some(hint.to_owned()))
    }

    /// Where the value at a path is written; none: it is what holds where nothing is said.
    pub(crate) fn place(&self, path: &[&str]) -> Option<Place> {
        let layer = self.layer_of(path)?;
        let (line, column) = layer.positions.of(path)?;
        Some(Place { file: layer.name.clone(), line, column })
    }

    /// Which item of a list, from 0, is this word.
    pub(crate) fn item(&self, list: &[&str], word: &str) -> Option<usize> {
        self.layer_of(list)?.positions.item(list, word)
    }

    /// The layer whose word about a path counts.
    fn layer_of(&self, path: &[&str]) -> Option<&Layer> {
        owner(&self.layers, path).map(|(layer, _)| layer)
    }
}

/// The layer whose word about a path counts, and how much of the path it writes; none: no layer has a word about it.
fn owner<'a>(layers: &'a [Layer], path: &[&str]) -> Option<(&'a Layer, usize)> {
    for layer in layers.iter().rev() {
        let written = (1..=path.len()).take_while(|length| layer.positions.of(&path[..*length]).is_some()).count();
        // Below what stands in place of the whole, the layers under it have no say.
        if written == path.len() || (written > 0 && !narrow::is_merged(&path[..written])) {
            return Some((layer, written));
        }
    }
    None
}

/// The place of a path, else of what it stands in: a file, line and column.
fn nearest<'a>(layers: &'a [Layer], path: &[&str]) -> (&'a str, Option<LineColumn>) {
    let found =
        (1..=path.len()).rev().find_map(|length| owner(layers, &path[..length]).filter(|(_, written)| *written > 0));
    match found {
        Some((layer, written)) => (&layer.name, layer.positions.of(&path[..written])),
        None => (layers.last().map_or("", |layer| &layer.name), None),
    }
}

/// The layer below with what the layer above writes.
fn merged(path: &mut Vec<String>, below: &Value, own: Option<&Value>, tree: &YamlTree) -> Value {
    let mut values: Map<String, Value> = below.as_object().cloned().unwrap_or_default();
    for (key, subtree) in tree.entries() {
        path.push(key.to_owned());
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        let written = own.and_then(|own| own.get(key));
        if narrow::is_merged(&keys) && matches!(subtree, YamlTree::Map(_)) {
            let under = values.get(key).cloned().unwrap_or_else(|| Value::Object(Map::new()));
            let value = merged(path, &under, written, subtree);
            values.insert(key.to_owned(), value);
        } else {
            // What is written and not there is a default.
            match written {
                Some(value) => drop(values.insert(key.to_owned(), value.clone())),
                None => drop(values.remove(key)),
            }
        }
        path.pop();
    }
    Value::Object(values)
}
