//! A plugin of Claude Code's, as the base branch has it: skills, commands, agents and output styles, and nothing that starts a program by itself.
//!
//! Always: only what is known to be words, or a file that words name, is brought. The manifest of a plugin is written anew.

use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::host::BaseFile;

/// Directories that Claude Code reads in a plugin, and those that are only used where its words name them.
const BROUGHT: [&str; 8] =
    ["skills", "commands", "agents", "output-styles", "scripts", "references", "assets", "templates"];
/// What starts programs, or sets what the manifest sets; each with the key to use in its place.
const REFUSED: [(&str, &str); 7] = [
    ("hooks", "name them in the agent's `hooks`, and their programs in `base_files`"),
    (".mcp.json", "name its servers in the agent's `mcp`"),
    (".lsp.json", "a bottle starts no language servers"),
    ("monitors", "a bottle starts no monitors"),
    ("bin", "programs for everybody belong into the bottle's image"),
    ("settings.json", "name a file of settings in the agent's `settings`"),
    ("workflows", "a bottle runs no workflows of a plugin's"),
];
/// Where its manifest is.
const MANIFEST: &str = ".claude-plugin/plugin.json";

/// The manifest of a plugin, as far as a bottle has a use for it. Source of the keys: Claude Code's own schema.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginManifest {
    #[serde(default, rename = "$schema", skip_serializing)]
    _schema: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "displayName", skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, rename = "author", skip_serializing)]
    _author: Option<serde_json::Value>,
    #[serde(default, rename = "homepage", skip_serializing)]
    _homepage: Option<serde_json::Value>,
    #[serde(default, rename = "repository", skip_serializing)]
    _repository: Option<serde_json::Value>,
    #[serde(default, rename = "license", skip_serializing)]
    _license: Option<serde_json::Value>,
    #[serde(default, rename = "keywords", skip_serializing)]
    _keywords: Option<serde_json::Value>,
}

/// The files of a plugin that are brought, with their paths in it, out of those that the base branch has below `from`.
pub(super) fn files(from: &str, found: Vec<BaseFile>) -> Result<Vec<BaseFile>, Failure> {
    let mut manifest = PluginManifest::default();
    let mut brought = vec![];
    for (path, executable, content) in found {
        let Some(inside) = path.strip_prefix(from).and_then(|rest| rest.strip_prefix('/')) else {
            return Err(Failure::input(format_args!("the plugin `{from}` is a file"))
                .hint("name the plugin's directory in `plugins`"));
        };
        let top = inside.split('/').next().unwrap_or(inside);
        // Where a file system does not mind case, neither would Claude Code.
        if let Some((_, instead)) = REFUSED.iter().find(|(name, _)| name.eq_ignore_ascii_case(top)) {
            let what =
                format!("the plugin `{from}` has `{top}`, which would start programs that the manifest does not name");
            return Err(Failure::input(what).hint(instead));
        }
        if inside == MANIFEST {
            manifest = parse(&path, &content)?;
        } else if BROUGHT.contains(&top) && inside != top {
            brought.push((inside.to_owned(), executable, content));
        }
    }
    if !brought.iter().any(|(path, ..)| BROUGHT[..4].iter().any(|top| path.starts_with(&format!("{top}/")))) {
        return Err(Failure::input(format_args!(
            "the plugin `{from}` has no skills, commands, agents or output styles"
        ))
        .hint("name the directory that has `skills` or `commands` in it"));
    }
    manifest.name.get_or_insert_with(|| from.rsplit('/').next().unwrap_or(from).to_owned());
    let text = serde_json::to_vec(&manifest).map_err(Failure::machine)?;
    brought.push((MANIFEST.to_owned(), false, text));
    Ok(brought)
}

fn parse(path: &str, content: &[u8]) -> Result<PluginManifest, Failure> {
    let manifest: PluginManifest = serde_json::from_slice(content).map_err(|error| {
        Failure::input(format_args!("{path}: {error}")).hint(
            "a plugin in a bottle has `name`, `version`, `description` and who made it; hooks, servers and other places of its parts are not read",
        )
    })?;
    let is_name = |name: &str| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match &manifest.name {
        Some(name) if !is_name(name) => {
            Err(Failure::input(format_args!("{path}: `name` is not a name of letters, digits, `-`, `_` and `.`")))
        }
        _ => Ok(manifest),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        name: String,
        /// Each path, below the plugin's directory, with its content.
        files: Vec<(String, String)>,
        /// What comes of it: the paths, or the message and its hint.
        says: String,
    }

    #[derive(Deserialize)]
    struct Cases {
        case: Vec<Case>,
    }

    #[test]
    fn a_plugin_brings_words_and_starts_nothing() {
        let cases: Cases = toml::from_str(include_str!("plugin.toml")).expect("cases");
        assert!(cases.case.len() >= 20);
        for case in cases.case {
            let found = case.files.iter().map(|(path, text)| {
                let path = if path.is_empty() { "tools/mine".to_owned() } else { format!("tools/mine/{path}") };
                (path, false, text.clone().into_bytes())
            });
            let said = match files("tools/mine", found.collect()) {
                Ok(files) => {
                    let shown = |(path, _, content): &BaseFile| match path.as_str() {
                        MANIFEST => String::from_utf8_lossy(content).into_owned(),
                        path => path.to_owned(),
                    };
                    files.iter().map(shown).collect::<Vec<_>>().join(" ")
                }
                Err(failure) => failure.to_string(),
            };
            assert_eq!(said, case.says, "{}", case.name);
        }
    }
}
