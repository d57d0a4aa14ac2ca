//! npm: `npm config list`, and the project's own `.npmrc`.

use std::collections::BTreeSet;

use super::{NoAnswer, Registries, Role, ToolAnswer};

/// Reads `npm config list --json`, `npm config list` (which alone tells what the first leaves out because there is a
/// credential in it), and the `.npmrc` of the base branch.
pub fn read(json: &str, list: &str, project: Option<&str>) -> ToolAnswer {
    let hint = "see what `npm config get registry` says";
    let config: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json)
        .map_err(|error| NoAnswer::new(format!("`npm config list --json` on this host gave no JSON: {error}"), hint))?;
    let mut all = Registries::default();
    let setting = |all: &mut Registries, key: &str, value: &str, from: &str| {
        if key == "registry" {
            all.add(value, &format!("{from} `registry`"), Role::Main);
        } else if let Some(scope) = key.strip_suffix(":registry").filter(|scope| scope.starts_with('@')) {
            all.add(value, &format!("{from} `{key}`"), Role::Named(scope.to_owned()));
        }
    };
    for (key, value) in &config {
        if let Some(value) = value.as_str() {
            setting(&mut all, key, value, "npm config");
        }
    }
    let mut logins = BTreeSet::new();
    for line in list.lines() {
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else { continue };
        logins.extend(login_of(key));
        if key != "registry" && !key.ends_with(":registry") {
            continue;
        }
        // An address with a user name is here alone, its password crossed out.
        if value.contains('@') {
            setting(&mut all, key, value.trim_matches('"'), "npm config");
        } else if value == "(protected)" {
            all.left_out.push(format!(
                "npm does not tell its `{key}`, because there is a user name or password in it: give the address without \
                 one, and declare a route to its host with `auth` under egress.routes"
            ));
        }
    }
    for line in project.unwrap_or_default().lines() {
        if let Some((key, value)) = line.split_once('=')
            && !value.contains("${")
        {
            setting(&mut all, key.trim(), value.trim().trim_matches('"'), "the base branch's .npmrc,");
        }
    }
    // Only what the guest will ask: a login for another registry is none of its.
    logins.retain(|place| all.found.iter().any(|registry| registry.url.to_string().contains(place.as_str())));
    all.left_out.extend(logins.into_iter().map(|place| {
        format!(
            "npm's login for {place} stays on the host: if the registry asks for it, declare a route to its host with `auth` under egress.routes"
        )
    }));
    all.or_nothing("npm", hint)
}

/// The registry of a setting such as `//npm.example.org/repo/:_authToken`.
fn login_of(key: &str) -> Option<String> {
    let (place, setting) = key.strip_prefix("//")?.rsplit_once("/:")?;
    matches!(setting, "_authToken" | "_auth" | "_password" | "username" | "certfile").then(|| place.to_owned())
}
