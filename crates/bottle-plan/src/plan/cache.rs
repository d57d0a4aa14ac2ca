//! Directories that a setup finds as an earlier one left them: which they are, and what the entry's key is made of.

use std::collections::BTreeMap;

use bottle_types::backend::Backend;

use super::types::{CachePlan, GuestPlan, HOME};
use crate::facts::HostFacts;
use crate::manifest::Setup;

/// What a setup without `cache_max_size` may keep.
const DEFAULT_CACHE_BYTES: u64 = 2 << 30;
/// More lock files than these say nothing more.
pub const MAX_LOCK_FILES: usize = 1000;

/// A package manager, the files that pin what it installs, and where it keeps what it has fetched.
struct Manager {
    locks: &'static [&'static str],
    directories: &'static [&'static str],
}

/// What is fetched, and of what is made of that only what is checked again when it is used: sources that are unpacked anew in a
/// moment are not among them.
const MANAGERS: &[Manager] = &[
    Manager { locks: &["package-lock.json", "npm-shrinkwrap.json"], directories: &["~/.npm"] },
    Manager { locks: &["pnpm-lock.yaml"], directories: &["~/.local/share/pnpm/store", "~/.cache/pnpm"] },
    Manager { locks: &["yarn.lock"], directories: &["~/.cache/yarn", "~/.yarn/berry/cache"] },
    Manager { locks: &["requirements.txt", "Pipfile.lock"], directories: &["~/.cache/pip"] },
    Manager { locks: &["uv.lock"], directories: &["~/.cache/uv"] },
    Manager {
        locks: &["Cargo.lock"],
        directories: &["~/.cargo/registry/index", "~/.cargo/registry/cache", "~/.cargo/git/db"],
    },
    Manager { locks: &["go.sum"], directories: &["~/go/pkg/mod/cache/download", "~/.cache/go-build"] },
    Manager { locks: &["pom.xml"], directories: &["~/.m2/repository"] },
    Manager {
        locks: &["gradle.lockfile", "gradle-wrapper.properties", "libs.versions.toml"],
        directories: &["~/.gradle/caches", "~/.gradle/wrapper"],
    },
    Manager { locks: &["Gemfile.lock"], directories: &["~/.bundle/cache", "~/.local/share/gem"] },
];

/// Whether a file of the repository pins what a package manager installs.
pub fn is_lock_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_foreign = path.split('/').any(|part| matches!(part, "node_modules" | "vendor" | "third_party" | "testdata"));
    !is_foreign && MANAGERS.iter().any(|manager| manager.locks.contains(&name))
}

/// Those of the lock files that say what is installed in a directory of the repository: its own, those further down, and those of the
/// directories that it is in, where a workspace has one for all. Without a directory all of them.
pub fn lock_files_for(directory: Option<&str>, all: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let Some(directory) = directory else { return all };
    let is_below =
        |path: &str, of: &str| path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let concerns = |path: &str| match path.rsplit_once('/') {
        Some((parent, _)) => is_below(parent, directory) || is_below(directory, parent),
        None => true,
    };
    all.into_iter().filter(|(path, _)| concerns(path)).collect()
}

/// The names of all lock files, without their directories.
pub fn lock_file_names() -> impl Iterator<Item = &'static str> {
    MANAGERS.iter().flat_map(|manager| manager.locks.iter().copied())
}

/// The directories of the package managers that have a lock file among these.
fn managed<'a>(lock_files: &BTreeMap<String, String>) -> impl Iterator<Item = &'a str> {
    let has = |manager: &&Manager| {
        lock_files.keys().any(|path| manager.locks.contains(&path.rsplit('/').next().unwrap_or(path)))
    };
    MANAGERS.iter().filter(has).flat_map(|manager| manager.directories.iter().copied())
}

/// The setup's cache; none where there is nothing that could be kept.
pub(super) fn cache_plan(
    setup: &Setup,
    facts: &HostFacts,
    guest: &GuestPlan,
    backend: Backend,
    notes: &mut Vec<String>,
) -> Option<CachePlan> {
    let asked = setup.cache.as_ref()?;
    if backend == Backend::Smolmachines {
        notes.push("setup.cache has no effect in smolmachines: the setup starts cold, and nothing is kept".to_owned());
        return None;
    }
    let mut words: Vec<&str> = asked.named().map(|(_, word)| word).collect();
    let lock_files = lock_files_for(guest.directory.as_deref(), facts.lock_files.clone());
    if asked.is_auto() {
        words.extend(managed(&lock_files));
    }
    let mut directories: Vec<String> = vec![];
    for word in words {
        let path = match word.strip_prefix("~/") {
            Some(below) => format!("{HOME}/{}", below.trim_end_matches('/')),
            None => guest.in_repository(word),
        };
        let is_covered = directories.iter().any(|other| path == *other || path.starts_with(&format!("{other}/")));
        if !is_covered {
            directories.retain(|other| !other.starts_with(&format!("{path}/")));
            directories.push(path);
        }
    }
    if lock_files.is_empty() {
        let what = if directories.is_empty() {
            "so there is nothing to keep"
        } else {
            "so what is kept is used until it is too old"
        };
        notes.push(format!("setup.cache: the base branch has no lock file that is known, {what}"));
    }
    let max_size = setup.cache_max_size.map_or(DEFAULT_CACHE_BYTES, |size| size.0);
    let skip_on_hit = setup.skip_on_hit && !lock_files.is_empty();
    if setup.skip_on_hit && !skip_on_hit {
        notes.push("setup.skip_on_hit has no effect without a lock file: the commands run each time".to_owned());
    }
    (!directories.is_empty()).then_some(CachePlan { directories, lock_files, max_size, skip_on_hit })
}
