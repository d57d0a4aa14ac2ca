//! What a preset stands for: read-only routes to where its tool fetches from on the host, and the files and variables by which
//! the tool in the guest fetches from there, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bottle_policy::inclusion::path_within;
use bottle_policy::route::Route;
use bottle_types::backend::Backend;
use bottle_types::door::Door;

use super::error::PlanError;
use super::types::{HOME, PresetPlan, PresetSource, ROOT};
use crate::facts::HostFacts;
use crate::registry::{Preset, Registries, RegistryUrl, Role};

/// What all presets of a bottle add to its plan.
#[derive(Default)]
pub(super) struct Presets {
    pub(super) routes: Vec<Route>,
    pub(super) plans: Vec<PresetPlan>,
    pub(super) files: BTreeMap<String, String>,
    pub(super) env: BTreeMap<String, String>,
}

impl Presets {
    pub(super) fn of(
        presets: &BTreeSet<Preset>,
        facts: &HostFacts,
        backend: Backend,
        notes: &mut Vec<String>,
    ) -> Result<Self, PlanError> {
        let mut all = Self::default();
        for preset in presets {
            let name = preset.name();
            let answer = facts.registries.get(preset).ok_or_else(|| {
                PlanError::Facts(format!(
                    "nobody looked up where {name} fetches from, and the bottle has a preset for it"
                ))
            })?;
            let registries = answer.as_ref().map_err(|no| PlanError::Preset {
                preset: name,
                problem: no.problem.clone(),
                hint: no.hint.clone(),
            })?;
            for registry in &registries.found {
                let route = match preset {
                    // A Python index has its files beside it, where it does not send its readers elsewhere.
                    Preset::Pip => route(&registry.url.parent_of("/simple"))?,
                    _ => route(&registry.url)?,
                };
                if !all.routes.contains(&route) {
                    all.routes.push(route);
                }
            }
            notes.extend(registries.left_out.iter().map(|what| format!("preset {name}: {what}")));
            all.env.extend(registries.env.clone());
            all.tell(*preset, registries, backend);
            let registries = registries
                .found
                .iter()
                .map(|registry| PresetSource { url: registry.url.to_string(), from: registry.from.clone() });
            all.plans.push(PresetPlan { preset: *preset, registries: registries.collect() });
        }
        Ok(all)
    }

    /// Says where a preset opens more of a host than the route that somebody has written for it, with its credential.
    pub(super) fn note_beside(&self, written: &[Route], notes: &mut Vec<String>) {
        for preset in &self.routes {
            let is_same = |own: &&Route| {
                own.auth.is_some()
                    && own.scheme == preset.scheme
                    && own.port == preset.port
                    && own.host.covers(&preset.host)
            };
            let is_more = |own: &&Route| preset.paths.iter().any(|path| !path_within(path, &own.paths));
            let own = written.iter().find(is_same).filter(is_more);
            notes.extend(own.map(|own| {
                format!(
                    "a preset opens {} of {}, too, to be read without the credential of the route for {}",
                    preset.paths.join(", "),
                    preset.host,
                    own.paths.join(", ")
                )
            }));
        }
    }

    /// The tool's own configuration, in the guest.
    fn tell(&mut self, preset: Preset, registries: &Registries, backend: Backend) {
        let mut file = |path: String, text: String| self.files.insert(path, text);
        match preset {
            Preset::Npm => {
                file(format!("{HOME}/.npmrc"), npmrc(registries));
            }
            Preset::Pip => {
                file(format!("{HOME}/.config/pip/pip.conf"), pip_conf(registries));
            }
            Preset::Cargo => {
                let config = cargo_config(registries);
                if !config.is_empty() {
                    // An image may have its CARGO_HOME elsewhere; above the working directory cargo looks in any case.
                    file(format!("{HOME}/.cargo/config.toml"), config.clone());
                    file(format!("{ROOT}/.cargo/config.toml"), config);
                }
            }
            Preset::Maven => {
                file(format!("{HOME}/.m2/settings.xml"), maven_settings(registries, &backend.door_host(Door::Egress)));
                // Java asks the image's list of users for its home, which knows another or none, not HOME.
                self.env.insert("MAVEN_OPTS".to_owned(), format!("-Duser.home={HOME}"));
            }
            // go has its variables; apt's sources are those of the guest's image.
            Preset::Go | Preset::Apt => {}
        }
    }
}

/// The routes that one preset stands for.
pub(crate) fn preset_routes(preset: Preset, facts: &HostFacts) -> Result<Vec<Route>, PlanError> {
    Presets::of(&BTreeSet::from([preset]), facts, facts.backend, &mut vec![]).map(|presets| presets.routes)
}

/// A registry's route: to be read, from its path on. As in a manifest, with all other keys left to their defaults.
fn route(url: &RegistryUrl) -> Result<Route, PlanError> {
    let paths = [format!("{}/**", url.path.trim_end_matches('/'))];
    let route = serde_json::json!({"host": url.host, "port": url.port, "scheme": url.scheme, "paths": paths});
    serde_json::from_value(route).map_err(|error| PlanError::Facts(format!("{url} can't be a route: {error}")))
}

fn main(registries: &Registries) -> Option<&RegistryUrl> {
    registries.found.iter().find(|registry| registry.role == Role::Main).map(|registry| &registry.url)
}

fn named(registries: &Registries) -> impl Iterator<Item = (&str, &RegistryUrl)> {
    registries.found.iter().filter_map(|registry| match &registry.role {
        Role::Named(name) => Some((name.as_str(), &registry.url)),
        _ => None,
    })
}

fn npmrc(registries: &Registries) -> String {
    // What npm would post to the registry without being asked does not pass a read-only route.
    let mut text = "audit=false\nfund=false\nupdate-notifier=false\n".to_owned();
    if let Some(url) = main(registries) {
        let _ = writeln!(text, "registry={url}");
    }
    for (scope, url) in named(registries) {
        let _ = writeln!(text, "{scope}:registry={url}");
    }
    text
}

fn pip_conf(registries: &Registries) -> String {
    let mut text = "[global]\ndisable-pip-version-check = true\n".to_owned();
    if let Some(url) = main(registries) {
        let _ = writeln!(text, "index-url = {url}");
    }
    let extra: Vec<String> = named(registries).map(|(_, url)| format!("\n    {url}")).collect();
    if !extra.is_empty() {
        let _ = writeln!(text, "extra-index-url ={}", extra.concat());
    }
    text
}

/// Nothing where cargo is as it comes.
fn cargo_config(registries: &Registries) -> String {
    let mut text = String::new();
    if let Some(url) = main(registries) {
        let _ =
            writeln!(text, "[source.crates-io]\nreplace-with = \"host\"\n[source.host]\nregistry = \"sparse+{url}\"");
    }
    for (name, url) in named(registries) {
        let _ = writeln!(text, "[registries.\"{name}\"]\nindex = \"sparse+{url}\"");
    }
    text
}

/// Maven reads no proxy variables; `host` is what the guest calls the proxy.
fn maven_settings(registries: &Registries, host: &str) -> String {
    let mut text = "<settings>\n  <proxies>\n".to_owned();
    let port = Door::Egress.port();
    for protocol in ["http", "https"] {
        let _ = writeln!(
            text,
            "    <proxy><id>{protocol}</id><active>true</active><protocol>{protocol}</protocol><host>{host}</host>\
             <port>{port}</port></proxy>"
        );
    }
    text.push_str("  </proxies>\n");
    if let Some(url) = main(registries) {
        let _ = writeln!(
            text,
            "  <mirrors>\n    <mirror><id>host</id><url>{url}</url><mirrorOf>*</mirrorOf></mirror>\n  </mirrors>"
        );
    }
    text.push_str("</settings>\n");
    text
}
