//! Where the host's package managers fetch from, read out of their own words: configuration files, variables, answers.
//!
//! Map: `url` (a registry's address, without credentials), a file a tool (`npm`, `pip`, `cargo`, `go`, `apt`, `maven`). The
//! runner fetches the words (it alone starts programs and reads files); what they say is decided here, and what follows for
//! routes and guest in `plan/presets`.
//!
//! Always: no registry's host is written in this program, and no credential comes out of these readers.

mod apt;
mod cargo;
mod go;
mod maven;
mod npm;
mod pip;
mod url;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use apt::read as apt;
use bottle_types::address::without_userinfo;
pub use cargo::{Cargo, default_index as cargo_default_index, read as cargo};
pub use go::read as go;
pub use maven::read as maven;
pub use npm::read as npm;
pub use pip::read as pip;
pub use url::RegistryUrl;

/// A package manager whose registries the guest may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Node.js packages.
    Npm,
    /// Python packages.
    Pip,
    /// Rust crates.
    Cargo,
    /// Go modules.
    Go,
    /// Debian and Ubuntu packages.
    Apt,
    /// Java packages.
    Maven,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Npm, Self::Pip, Self::Cargo, Self::Go, Self::Apt, Self::Maven];

    /// Its name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pip => "pip",
            Self::Cargo => "cargo",
            Self::Go => "go",
            Self::Apt => "apt",
            Self::Maven => "maven",
        }
    }
}

/// What a tool on the host says, or why it says nothing.
pub type ToolAnswer = Result<Registries, NoAnswer>;

/// All that one tool fetches from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// The places.
    pub found: Vec<Registry>,
    /// What of its configuration the guest can't have, in words.
    pub left_out: Vec<String>,
    /// Variables that tell the tool in the guest the same.
    pub env: BTreeMap<String, String>,
}

/// One place that a tool fetches from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Its address.
    pub url: RegistryUrl,
    /// Which words of the host name it: a file, a variable, a command.
    pub from: String,
    /// What it is for.
    pub role: Role,
}

/// What a place is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The tool's own choice where nobody configures another: the tool in the guest chooses the same.
    Default,
    /// The one that everything comes from unless told otherwise.
    Main,
    /// One more, by its name in the configuration (npm's scope, cargo's registry, Maven's mirror); empty where it has none.
    Named(String),
    /// Where an index sends its readers for the packages themselves.
    Files,
}

/// Why a tool on the host doesn't say where it fetches from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer {
    /// What is wrong.
    pub problem: String,
    /// What to try.
    pub hint: String,
}

impl NoAnswer {
    /// For a reason and what to do about it.
    pub fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { problem: without_userinfo(&problem.into()), hint: hint.into() }
    }

    /// The tool is not on this host.
    pub fn missing(command: &str) -> Self {
        Self::new(
            format!("there is no `{command}` on this host to ask where it fetches from"),
            "install it and configure it as your project needs it, or declare the registries under egress.routes",
        )
    }
}

impl Registries {
    /// Takes in an address, or says why it can't be.
    fn add(&mut self, text: &str, from: &str, role: Role) {
        match RegistryUrl::parse(text) {
            Ok(url) => {
                if url.had_userinfo {
                    let authority = url.authority();
                    self.left_out.push(format!(
                        "the user name or password in the address of {from} stays on the host: if {authority} asks for it, \
                         declare a route to it with `auth` under egress.routes"
                    ));
                }
                let same = |other: &&Registry| other.url == url && other.role == role;
                if self.found.iter().find(same).is_none() {
                    self.found.push(Registry { url, from: from.to_owned(), role });
                }
            }
            Err(problem) => self.left_out.push(format!("{from}: {problem}")),
        }
    }

    /// These, if there is one at all.
    fn or_nothing(self, tool: &str, hint: &str) -> ToolAnswer {
        if !self.found.is_empty() {
            return Ok(self);
        }
        let why = match self.left_out.is_empty() {
            true => String::new(),
            false => format!(": {}", self.left_out.join("; ")),
        };
        Err(NoAnswer::new(
            format!("{tool} on this host is configured for no registry that a bottle can reach{why}"),
            hint,
        ))
    }
}
