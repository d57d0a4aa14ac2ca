//! A first manifest for a repository, from the files in it: what `bottle-runner init` writes.
//!
//! Map: `lock` (hosts that lock files name). Always: a host stands in the manifest only because a file of the repository names
//! it; what the machine's own tools are configured for comes by presets.

mod lock;

use std::collections::{BTreeMap, BTreeSet};

use bottle_types::host::HostName;

use crate::registry::Preset;

/// The largest file that is read.
pub const MAX_FILE_BYTES: u64 = 32 << 20;

/// A package manager, and the files that show it.
struct PackageManager {
    name: &'static str,
    /// Names of files.
    files: &'static [&'static str],
    /// Ends of names of files.
    endings: &'static [&'static str],
    preset: Option<Preset>,
    /// The command that installs what the project depends on, as its lock file has it.
    install: &'static str,
    /// The command that runs its tests.
    test: Option<&'static str>,
}

impl PackageManager {
    /// The command that installs what this file names; none for a directory whose name a shell would read otherwise.
    fn install(&self, path: &str) -> Option<String> {
        let command = match (self.name, file_name(path)) {
            ("npm", "package.json") => "npm install",
            ("pip", file) if file != "requirements.txt" => "python3 -m venv .venv && .venv/bin/pip install -e .",
            ("cargo", "Cargo.toml") => "cargo fetch",
            _ => self.install,
        };
        let Some((dir, _)) = path.rsplit_once('/') else { return Some(command.to_owned()) };
        let plain = dir.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/'));
        (plain && !dir.starts_with('-')).then(|| format!("cd {dir} && {command}"))
    }

    fn shows(&self, file: &str) -> bool {
        self.files.contains(&file) || self.endings.iter().any(|ending| file.ends_with(ending))
    }
}

/// Those with a lock file come before those that share their other file with them.
const MANAGERS: &[PackageManager] = &[
    manager("pnpm", &["pnpm-lock.yaml"], &[], Some(Preset::Npm), "pnpm install --frozen-lockfile", Some("pnpm test")),
    manager("yarn", &["yarn.lock"], &[], Some(Preset::Npm), "yarn install", Some("yarn test")),
    manager(
        "npm",
        &["package-lock.json", "npm-shrinkwrap.json", "package.json"],
        &[],
        Some(Preset::Npm),
        "npm ci",
        Some("npm test"),
    ),
    manager("uv", &["uv.lock"], &[], Some(Preset::Pip), "uv sync --locked", Some("uv run pytest")),
    manager("poetry", &["poetry.lock"], &[], Some(Preset::Pip), "poetry install", Some("poetry run pytest")),
    manager(
        "pip",
        &["requirements.txt", "pyproject.toml", "setup.py", "setup.cfg", "Pipfile"],
        &[],
        Some(Preset::Pip),
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
        Some("python3 -m pytest"),
    ),
    manager(
        "cargo",
        &["Cargo.lock", "Cargo.toml"],
        &[],
        Some(Preset::Cargo),
        "cargo fetch --locked",
        Some("cargo test"),
    ),
    manager("go", &["go.mod"], &[], Some(Preset::Go), "go mod download", Some("go test ./...")),
    manager(
        "maven",
        &["pom.xml"],
        &[],
        Some(Preset::Maven),
        "mvn --batch-mode dependency:go-offline",
        Some("mvn --batch-mode test"),
    ),
    manager(
        "gradle",
        &["build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"],
        &[],
        Some(Preset::Maven),
        "./gradlew testClasses",
        Some("./gradlew test"),
    ),
    manager(
        "bundler",
        &["Gemfile.lock", "Gemfile"],
        &[".gemspec"],
        None,
        "bundle install",
        Some("bundle exec rake test"),
    ),
    manager("composer", &["composer.lock", "composer.json"], &[], None, "composer install", Some("composer test")),
];

const fn manager(
    name: &'static str,
    files: &'static [&'static str],
    endings: &'static [&'static str],
    preset: Option<Preset>,
    install: &'static str,
    test: Option<&'static str>,
) -> PackageManager {
    PackageManager { name, files, endings, preset, install, test }
}

/// Directories with what others have written.
const FOREIGN: [&str; 4] = ["node_modules", "vendor", "third_party", "testdata"];

/// What a repository's files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectFiles {
    /// The package managers, each with the file that shows it.
    pub managers: BTreeMap<&'static str, String>,
    presets: BTreeSet<Preset>,
    installs: Vec<String>,
    tests: Vec<&'static str>,
    /// The hosts that lock files name, with the first parts of the paths, and the file.
    hosts: BTreeMap<HostName, (BTreeSet<String>, String)>,
    /// Managers for which no address was found.
    unknown: BTreeSet<&'static str>,
}

/// Whether this file's text says where packages come from.
pub fn is_read(path: &str) -> bool {
    lock::kind(path).is_some() && !is_foreign(path)
}

fn is_foreign(path: &str) -> bool {
    path.split('/').any(|part| FOREIGN.contains(&part))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a file that several managers have is another one's: `package.json` below `yarn.lock`, `pyproject.toml` below `uv.lock`.
fn is_anothers(manager: &PackageManager, path: &str, paths: &[&String]) -> bool {
    let own_lock = matches!(file_name(path), "package-lock.json" | "npm-shrinkwrap.json" | "requirements.txt");
    if own_lock || !matches!(manager.name, "npm" | "pip") {
        return false;
    }
    let dirs: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..=at]).chain([""]).collect();
    let others = MANAGERS.iter().filter(|other| other.preset == manager.preset && other.name != manager.name);
    let locks: Vec<&str> =
        others.flat_map(|other| other.files).copied().filter(|file| !manager.files.contains(file)).collect();
    dirs.iter().any(|dir| locks.iter().any(|lock| paths.iter().any(|path| path.strip_prefix(dir) == Some(lock))))
}

impl ProjectFiles {
    /// Reads the list of a repository's files, and the texts of those that [`is_read`] names.
    pub fn from_files(paths: &[String], texts: &BTreeMap<String, String>) -> Self {
        let mut project = Self::default();
        // A file further up says more about the project than one in a corner of it.
        let mut paths: Vec<&String> = paths.iter().filter(|path| !is_foreign(path)).collect();
        paths.sort_by_key(|path| (path.matches('/').count(), path.as_str()));
        for path in &paths {
            let found = MANAGERS.iter().find(|manager| manager.shows(file_name(path)));
            let Some(manager) = found else { continue };
            if !is_anothers(manager, path, &paths) {
                project.take(manager, path);
            }
        }
        for (path, text) in texts.iter().filter(|(path, _)| is_read(path)) {
            for (host, part) in lock::hosts(path, text) {
                let entry = project.hosts.entry(host).or_insert_with(|| (BTreeSet::new(), path.clone()));
                entry.0.insert(part);
            }
        }
        let by_file = |path: &String| MANAGERS.iter().find(|one| one.shows(file_name(path)));
        let named: BTreeSet<&str> =
            project.hosts.values().filter_map(|(_, path)| by_file(path)).map(|one| one.name).collect();
        project.unknown.retain(|name| !named.contains(name));
        project
    }

    fn take(&mut self, manager: &PackageManager, path: &str) {
        if self.managers.contains_key(manager.name) {
            return;
        }
        self.managers.insert(manager.name, path.to_owned());
        match manager.preset {
            Some(preset) => drop(self.presets.insert(preset)),
            None => drop(self.unknown.insert(manager.name)),
        }
        self.installs.extend(manager.install(path));
        self.tests.extend(manager.test);
    }

    /// The manifest's text. `open` is the forge's host, where it has no TLS.
    pub fn manifest(&self, open: Option<&str>) -> String {
        let mut text = "# Written by `bottle-runner init`. `bottle-runner schema` describes all keys.\nversion: 1\nbottles:\n  default:\n"
            .to_owned();
        if !self.managers.is_empty() {
            let names: Vec<&str> = self.managers.keys().copied().collect();
            text.push_str(&format!(
                "    # The agent's own image has git, make, python3 and ripgrep. Name one that also has {}: any with glibc, git and\n    \
                 # sh. Without an engine, in bubblewrap, the machine's own tools are there.\n    # image: registry.example.org/team/image:1\n",
                names.join(", ")
            ));
        }
        text.push_str("    egress:\n");
        if !self.presets.is_empty() {
            let names: Vec<&str> = self.presets.iter().map(|preset| preset.name()).collect();
            text.push_str(&format!(
                "      # Reading from the registries that these tools are configured for on the machine that runs the bottle.\n      \
                 presets: [{}]\n",
                names.join(", ")
            ));
        }
        text.push_str(
            "      routes:\n        - host: api.anthropic.com\n          methods: [POST]\n          paths: [/v1/messages, \
             /v1/messages/count_tokens]\n          auth: { header: x-api-key, from: ANTHROPIC_API_KEY }\n",
        );
        for (host, (parts, path)) in &self.hosts {
            let paths: Vec<String> = parts.iter().map(|part| format!("\"{part}\"")).collect();
            text.push_str(&format!(
                "        # {} names it.\n        - {{ host: {host}, methods: [GET, HEAD], paths: [{}] }}\n",
                crate::prose::name(path, 200),
                paths.join(", ")
            ));
        }
        for name in &self.unknown {
            text.push_str(&format!(
                "        # {name}: no file names where its packages come from. Add a route to that host.\n"
            ));
        }
        if !self.installs.is_empty() {
            let commands: Vec<String> = self.installs.iter().map(|command| format!("\"{command}\"")).collect();
            text.push_str(&format!(
                "    # Run in the bottle before the agent, once its image has the tools:\n    # setup: {{ run: [{}] }}\n",
                commands.join(", ")
            ));
        }
        text.push_str("agents:\n  implementer:\n    bottle: default\n    limits: { turns: 60, time: 45m }\n");
        if let Some(test) = self.tests.first() {
            text.push_str(&format!(
                "    # Run in the bottle afterwards, once its image has the tools:\n    # verify: [\"{test}\"]\n"
            ));
        }
        text.push_str("triggers:\n  labels: { claude: implementer }\n");
        if let Some(host) = open {
            text.push_str(&format!(
                "# The forge has no TLS: anybody on the way can read the token and change the code.\nplain_http: [\"{host}\"]\n"
            ));
        }
        text
    }
}
