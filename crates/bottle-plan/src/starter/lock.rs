//! The hosts that lock files and the like name, for tools that no preset asks.

use std::collections::BTreeSet;

use bottle_types::host::HostName;
use serde_json::Value;

/// A file that names addresses of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockFile {
    /// `Gemfile`: `source "https://…"`.
    Gemfile,
    /// `Gemfile.lock`: `remote:` below `GEM`.
    GemfileLock,
    /// `composer.lock`: each package's `dist`.
    ComposerLock,
    /// `yarn.lock`: `resolved "https://…"`.
    YarnLock,
    /// `gradle-wrapper.properties`: `distributionUrl`.
    GradleWrapper,
}

/// What a file is, by its name.
pub(super) fn kind(path: &str) -> Option<LockFile> {
    match super::file_name(path) {
        "Gemfile" => Some(LockFile::Gemfile),
        "Gemfile.lock" => Some(LockFile::GemfileLock),
        "composer.lock" => Some(LockFile::ComposerLock),
        "yarn.lock" => Some(LockFile::YarnLock),
        "gradle-wrapper.properties" => Some(LockFile::GradleWrapper),
        _ => None,
    }
}

/// The hosts in a file, each with a glob over the paths below it.
pub(super) fn hosts(path: &str, text: &str) -> BTreeSet<(HostName, String)> {
    let urls: Vec<String> = match kind(path) {
        Some(LockFile::Gemfile) => quoted(text, |line| line.starts_with("source ") || line.starts_with("source(")),
        Some(LockFile::GemfileLock) => gem_remotes(text),
        Some(LockFile::ComposerLock) => composer(text),
        Some(LockFile::YarnLock) => quoted(text, |line| line.starts_with("resolved ")),
        // Java's properties write a colon as `\:`.
        Some(LockFile::GradleWrapper) => {
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix("distributionUrl"));
            lines.map(|rest| rest.trim_start_matches([' ', '=']).replace('\\', "")).collect()
        }
        None => vec![],
    };
    // What serves whole packages by their names is a registry: all of it is read.
    let whole = matches!(kind(path), Some(LockFile::Gemfile | LockFile::GemfileLock | LockFile::YarnLock));
    urls.iter().filter_map(|url| place(url, whole)).collect()
}

/// The host of an https address with a name, and the first part of its path; no address without TLS, at a port or with a login.
fn place(url: &str, whole: bool) -> Option<(HostName, String)> {
    let rest = url.trim().strip_prefix("https://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = HostName::parse(authority).ok()?;
    let first = path.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = first.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let narrow = !whole && !first.is_empty() && plain && path.contains('/') && !matches!(first, "." | "..");
    Some((host, if narrow { format!("/{first}/**") } else { "/**".to_owned() }))
}

/// The first text in quotes of each line that this is about.
fn quoted(text: &str, about: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| about(line));
    lines.filter_map(|line| line.split(['"', '\'']).nth(1).map(str::to_owned)).collect()
}

/// The remotes of the sections `GEM`; those of `GIT` are repositories.
fn gem_remotes(text: &str) -> Vec<String> {
    let mut section = "";
    let mut found = vec![];
    for line in text.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            section = line.trim();
        } else if let Some(url) = line.trim().strip_prefix("remote: ").filter(|_| section == "GEM") {
            found.push(url.to_owned());
        }
    }
    found
}

fn composer(text: &str) -> Vec<String> {
    let Ok(lock) = serde_json::from_str::<Value>(text) else { return vec![] };
    let packages = ["packages", "packages-dev"].into_iter().filter_map(|key| lock[key].as_array()).flatten();
    packages.filter_map(|one| one["dist"]["url"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_https_address_of_a_name_is_a_place() {
        let glob = |url: &str| place(url, false).map(|(host, glob)| format!("{host} {glob}"));
        assert_eq!(glob("https://files.bottle.test/repos/a/b").as_deref(), Some("files.bottle.test /repos/**"));
        assert_eq!(glob("https://files.bottle.test").as_deref(), Some("files.bottle.test /**"));
        assert_eq!(glob("https://files.bottle.test/x").as_deref(), Some("files.bottle.test /**"));
        assert_eq!(glob("https://files.bottle.test/**/x/y").as_deref(), Some("files.bottle.test /**"));
        for bad in [
            "http://files.bottle.test/a/b",
            "https://u:p@files.bottle.test/a",
            "https://files.bottle.test:8443/a",
            "https:///a",
            "git@x:y",
        ] {
            assert_eq!(glob(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_repository_in_a_gemfile_is_no_registry() {
        let lock = "GIT\n  remote: https://git.bottle.test/a.git\n  specs:\n\nGEM\n  remote: https://gems.bottle.test/\n  specs:\n";
        let found: Vec<String> = hosts("Gemfile.lock", lock).into_iter().map(|(host, _)| host.to_string()).collect();
        assert_eq!(found, ["gems.bottle.test"]);
    }
}
