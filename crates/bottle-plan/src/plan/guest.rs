//! The agent's environment: who it is, what it sees, and how it reaches its doors.

use std::collections::BTreeMap;

use bottle_types::backend::Backend;
use bottle_types::door::{BUNDLE_ADDRESS, DOORS_DIR, Door, STATE_DIR};

use super::forge::ForgeDoor;
use super::policies::DoorRules;
use super::presets::Presets;
use super::types::{CANARY_FILE, CaPlan, GitPlan, GuestPlan, HOME, ROOT, ServicePlan, ServicePort, TOOLS_DIR};
use crate::facts::HostTools;
use crate::manifest::{BottleEntry, ModelEndpoint};

/// The variables that name a file of CAs to programs that don't read the system's store by themselves.
const CA_VARIABLES: [&str; 7] = [
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
];
/// What a bubblewrap guest has of the host, read-only.
const LENT: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32", "/etc", TOOLS_DIR];
/// What it has that is not its image's, where it has one.
const LENT_TO_AN_IMAGE: [&str; 3] = ["/etc", "/usr/local/share/ca-certificates", TOOLS_DIR];

/// Where its own programs are.
const SYSTEM_PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// What the guest is made of.
pub(super) struct Guest<'a> {
    pub(super) bottle: &'a BottleEntry,
    /// Where the model is, where the manifest says so.
    pub(super) model: Option<&'a ModelEndpoint>,
    /// The door to a forge, where there is one.
    pub(super) forge: Option<&'a ForgeDoor>,
    pub(super) rules: &'a DoorRules,
    pub(super) presets: &'a Presets,
    pub(super) doors: &'a [Door],
    pub(super) services: &'a [ServicePlan],
    pub(super) git: Option<&'a GitPlan>,
    pub(super) backend: Backend,
    /// Whether its system is an image's, and not the host's.
    pub(super) image: bool,
    pub(super) tools: &'a HostTools,
}

impl Guest<'_> {
    pub(super) fn plan(&self) -> GuestPlan {
        let proxy = self.proxy();
        let link = format!("{TOOLS_DIR}/bin/bottle-link");
        let mut forwards: Vec<String> =
            self.reachable().map(|door| format!("{}={}", door.port(), door.socket())).collect();
        let ports = self.services.iter().flat_map(|service| &service.ports);
        forwards.extend(ports.map(|ServicePort { port, socket }| format!("{port}={socket}")));
        let mut init: Vec<String> = [&link, "forward", "--as-init", "--doors", DOORS_DIR].map(str::to_owned).to_vec();
        if self.backend == Backend::Smolmachines {
            init.extend(["--address".to_owned(), BUNDLE_ADDRESS.to_string()]);
        }
        init.extend(forwards.iter().cloned());
        let mut selftest: Vec<String> =
            [&link, "selftest", "--json", "--doors", DOORS_DIR, "--tools", TOOLS_DIR].map(str::to_owned).to_vec();
        selftest.extend(forwards.iter().flat_map(|forward| ["--door".to_owned(), forward.clone()]));
        selftest.extend(["--canary".to_owned(), CANARY_FILE.to_owned()]);
        let mirrors = self.git.into_iter().flat_map(|git| [&git.mirror, &git.kept]).flatten();
        selftest.extend(mirrors.flat_map(|dir| ["--lent".to_owned(), dir.clone()]));
        if self.backend == Backend::Smolmachines {
            selftest.extend(["--machine".to_owned(), BUNDLE_ADDRESS.to_string()]);
        }
        if self.backend == Backend::Bubblewrap {
            let options = |option: &'static str, dirs: &[&str]| {
                dirs.iter().flat_map(move |dir| [option.to_owned(), (*dir).to_owned()]).collect::<Vec<_>>()
            };
            let lent: &[&str] = if self.image { &LENT_TO_AN_IMAGE } else { &LENT };
            selftest.extend(options("--lent", lent));
            let tools = self.host_tools().into_iter().flat_map(|tools| &tools.directories);
            selftest.extend(tools.flat_map(|dir| ["--lent".to_owned(), dir.clone()]));
            selftest.extend(options("--own", &[HOME, ROOT, "/tmp", "/var/tmp"]));
        }
        GuestPlan {
            uid: 1000,
            gid: 1000,
            home: HOME.to_owned(),
            root: ROOT.to_owned(),
            workdir: self.git.map_or(ROOT, |git| git.directory.as_str()).to_owned(),
            directory: self.bottle.directory.as_ref().map(|path| path.trim_end_matches('/').to_owned()),
            env: self.env(proxy),
            files: self.presets.files.clone(),
            host_tools: self.host_tools().map(|tools| tools.directories.clone()).unwrap_or_default(),
            resources: self.bottle.resources.clone(),
            init,
            selftest,
            ca: CaPlan {
                door: proxy,
                source: format!("{STATE_DIR}/ca/{}.crt", proxy.name()),
                system_file: "/usr/local/share/ca-certificates/claude-bottle.crt".to_owned(),
                system_bundle: "/etc/ssl/certs/ca-certificates.crt".to_owned(),
                own_file: format!("{HOME}/.claude-bottle-ca.crt"),
                variables: CA_VARIABLES.map(str::to_owned).to_vec(),
            },
        }
    }

    /// The host's tools, in a guest that has the host's system.
    fn host_tools(&self) -> Option<&HostTools> {
        (self.backend == Backend::Bubblewrap && !self.image).then_some(self.tools)
    }

    /// The door that is the guest's HTTP proxy.
    fn proxy(&self) -> Door {
        if self.doors.contains(&Door::Egress) { Door::Egress } else { Door::Pipelock }
    }

    /// The doors that the guest may talk to: behind egress, pipelock is not one of them.
    fn reachable(&self) -> impl Iterator<Item = Door> {
        let behind = (self.proxy() == Door::Egress).then_some(Door::Pipelock);
        self.doors.iter().copied().filter(move |door| Some(*door) != behind)
    }

    fn env(&self, proxy: Door) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
        let host = |door| self.backend.door_host(door);
        let proxy = format!("http://{}:{}", host(proxy), proxy.port());
        let mut direct = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        direct.extend([Door::Supervise, Door::GitGate].map(host));
        direct.dedup();
        direct.extend(self.services.iter().map(|service| service.name.to_string()));
        let direct = direct.join(",");
        for (upper, lower, value) in [
            ("HTTP_PROXY", "http_proxy", &proxy),
            ("HTTPS_PROXY", "https_proxy", &proxy),
            ("NO_PROXY", "no_proxy", &direct),
        ] {
            set(upper, value);
            set(lower, value);
        }
        set("HOME", HOME);
        set("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        set("DISABLE_AUTOUPDATER", "1");
        set("GIT_TERMINAL_PROMPT", "0");
        // Else Node's own fetch knows nothing of the proxy.
        set("NODE_USE_ENV_PROXY", "1");
        // Longer than a proposal waits, in milliseconds.
        set("MCP_TOOL_TIMEOUT", &((self.bottle.supervise.timeout.0 + 60) * 1000).to_string());
        for (name, value) in self.model.iter().flat_map(|model| &model.env) {
            set(name, value);
        }
        for (name, value) in self.forge.iter().flat_map(|forge| &forge.env) {
            set(name, value);
        }
        for name in &self.rules.placeholders {
            set(name, &placeholder(name));
        }
        if let Some(tools) = self.host_tools() {
            env.extend(tools.variables.clone());
            env.extend((!tools.path.is_empty()).then(|| ("PATH".to_owned(), path(&tools.path))));
        }
        env.extend(self.presets.env.clone());
        env.extend(self.bottle.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        env
    }
}

/// The `PATH` of a guest with these directories of the host's: our own programs first, and the system's in any case.
fn path(dirs: &[String]) -> String {
    let own = format!("{TOOLS_DIR}/bin");
    let mut all: Vec<&str> = vec![];
    for dir in [own.as_str()].into_iter().chain(dirs.iter().map(String::as_str)).chain(SYSTEM_PATH) {
        if !all.contains(&dir) {
            all.push(dir);
        }
    }
    all.join(":")
}

/// What stands in the guest where a program wants a credential; pipelock puts the real one in its place.
pub(super) fn placeholder(name: &str) -> String {
    format!("bottle-placeholder-{}", name.to_ascii_lowercase().replace('_', "-"))
}
