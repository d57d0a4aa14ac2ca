//! cargo: its configuration files and variables, its complaint when it can't reach its default index, and what an index says
//! of itself.

use std::collections::BTreeMap;

use super::{NoAnswer, Registries, RegistryUrl, Role, ToolAnswer};

/// The indexes that cargo's configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cargo {
    /// The one in place of the default, and which words say so.
    pub replaced: Option<(String, String)>,
    /// Others by name.
    pub named: BTreeMap<String, (String, String)>,
    /// What can't be used, in words.
    pub left_out: Vec<String>,
}

impl Cargo {
    /// Reads configuration files, the strongest first, each with its path, and the variables that name indexes.
    pub fn parse(files: &[(String, String)], variables: &[(String, String)]) -> Result<Self, NoAnswer> {
        let mut all = Self::default();
        let mut sources: BTreeMap<String, (toml::Table, String)> = BTreeMap::new();
        for (path, text) in files {
            let table: toml::Table = toml::from_str(text).map_err(|error| {
                let line = error.to_string().lines().next().unwrap_or_default().to_owned();
                NoAnswer::new(format!("{path} can't be read: {line}"), "see what cargo says about it")
            })?;
            let section = |name: &str| table.get(name).and_then(toml::Value::as_table).into_iter().flatten();
            for (name, source) in section("source") {
                if let Some(source) = source.as_table() {
                    sources.entry(name.clone()).or_insert_with(|| (source.clone(), path.clone()));
                }
            }
            for (name, registry) in section("registries") {
                if let Some(index) = registry.get("index").and_then(toml::Value::as_str) {
                    let from = format!("{path}, registries.{name}");
                    all.named.entry(name.clone()).or_insert_with(|| (index.to_owned(), from));
                }
            }
        }
        for (variable, index) in variables {
            let name = variable.strip_prefix("CARGO_REGISTRIES_").and_then(|rest| rest.strip_suffix("_INDEX"));
            if let Some(name) = name {
                let name = name.to_ascii_lowercase().replace('_', "-");
                all.named.insert(name, (index.clone(), variable.clone()));
            }
        }
        all.follow(&sources);
        Ok(all)
    }

    /// Who stands in for the default, and for whom that one does.
    fn follow(&mut self, sources: &BTreeMap<String, (toml::Table, String)>) {
        let mut name = "crates-io".to_owned();
        for _ in 0..=sources.len() {
            let Some((source, path)) = sources.get(&name) else {
                // A name of `registries` is a source, too.
                self.replaced = self.named.get(&name).cloned();
                return;
            };
            let text = |key: &str| source.get(key).and_then(toml::Value::as_str);
            if let Some(next) = text("replace-with") {
                next.clone_into(&mut name);
            } else if let Some(index) = text("registry") {
                self.replaced = Some((index.to_owned(), format!("{path}, source.{name}")));
                return;
            } else {
                if let Some(kind) =
                    ["directory", "local-registry", "git"].into_iter().find(|kind| source.contains_key(*kind))
                {
                    self.left_out.push(format!("{path}, source.{name}: a {kind} can't be read from a bottle"));
                }
                return;
            }
        }
        self.left_out.push(format!("the sources of cargo's configuration replace each other in a circle, at {name}"));
    }
}

/// The default index out of what `cargo generate-lockfile` says when it can't reach it.
pub fn default_index(complaint: &str) -> Option<String> {
    let (_, rest) = complaint.split_once("failed to download from `")?;
    let (url, _) = rest.split_once('`')?;
    url.strip_suffix("config.json").map(|base| format!("sparse+{base}"))
}

/// From the configuration, the default index where nothing replaces it, and what each index says of itself
/// (`config.json`), by the index's address without `sparse+`.
pub fn read(cargo: &Cargo, default: Option<&str>, of_indexes: &BTreeMap<String, Vec<String>>) -> ToolAnswer {
    let hint = "run `cargo fetch` once in a project that uses it, or see why that fails";
    let mut all = Registries { left_out: cargo.left_out.clone(), ..Registries::default() };
    let main = match (&cargo.replaced, default) {
        (Some((index, from)), _) => Some((index.as_str(), from.as_str(), Role::Main)),
        (None, Some(index)) => Some((index, "cargo's default index, as it says itself", Role::Default)),
        (None, None) => None,
    };
    let named =
        cargo.named.iter().map(|(name, (index, from))| (index.as_str(), from.as_str(), Role::Named(name.clone())));
    for (index, from, role) in main.into_iter().chain(named) {
        let Some(url) = index.strip_prefix("sparse+") else {
            all.left_out.push(format!(
                "{from}: the index is a git repository, which a read-only route can't give; use its sparse index (sparse+https://…)"
            ));
            continue;
        };
        all.add(url, from, role.clone());
        let Ok(read) = RegistryUrl::parse(url) else { continue };
        let configs = of_indexes.get(url).map(Vec::as_slice).unwrap_or_default();
        if configs.is_empty() {
            return Err(NoAnswer::new(
                format!("cargo on this host does not know where the index at {} has its crates", read.authority()),
                hint,
            ));
        }
        for config in configs {
            let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
            let from = |key: &str| format!("`{key}` of the index at {}", read.authority());
            if let Some(place) = config["dl"].as_str() {
                // What follows a marker is different for each crate.
                all.add(place.split('{').next().unwrap_or_default(), &from("dl"), Role::Files);
            }
            if let Some(place) = config["api"].as_str() {
                all.add(&format!("{}/api/v1", place.trim_end_matches('/')), &from("api"), Role::Files);
            }
        }
    }
    all.or_nothing("cargo", hint)
}
