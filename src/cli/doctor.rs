//! `bottle-runner doctor`: what this machine can do, backend by backend, and what the repository here lacks at its forge.

use std::path::Path;

use bottle_types::backend::Backend;
use serde_json::{Value, json};

use super::policy::manifest_text;
use super::{Context, extends, print, repository};
use crate::backend::{self, BackendChoice};
use crate::exit::{Code, Failure};
use crate::process::Program;
use crate::survey::Survey;

/// The version of what `--json` prints.
const SCHEMA_VERSION: u32 = 1;

/// Check what this machine has for each backend, and what the repository here lacks at its forge.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Print the checks as JSON.
    #[arg(long)]
    json: bool,
}

/// Everything that was looked at.
struct Examination {
    backends: Vec<(Backend, Survey)>,
    every: Survey,
    best: BackendChoice,
    /// None: the current directory is in no checkout.
    repository: Option<Survey>,
}

pub(super) async fn main(args: &DoctorArgs, context: &Context) -> Result<Code, Failure> {
    let examination = Examination {
        backends: backends().await,
        every: for_every_backend(context).await,
        best: backend::best().await,
        repository: repository::survey(context).await,
    };
    print(&if args.json { examination.json()? } else { examination.text() })?;
    Ok(if examination.usable() { Code::Done } else { Code::Machine })
}

async fn backends() -> Vec<(Backend, Survey)> {
    let mut backends = vec![];
    for name in Backend::ALL {
        backends.push((name, backend::survey(name).await));
    }
    backends
}

async fn for_every_backend(context: &Context) -> Survey {
    let mut every = Survey::default();
    match Program::new(["git", "--version"]).run().await {
        Ok(ended) if ended.code == 0 => every.there(String::from_utf8_lossy(&ended.stdout).trim()),
        _ => every.missing("git: install git"),
    }
    if let Some(root) = context.environment.state_root() {
        every.there(format!("run records go to {}", root.display()));
    }
    if signs(Path::new("."), context).await {
        signing_program(&mut every).await;
    }
    every
}

/// Whether the manifest in this directory has commits signed. One that is wrong is looked at with the repository.
async fn signs(dir: &Path, context: &Context) -> bool {
    let read = async || {
        let (name, text) = manifest_text(None, dir)?;
        let source = extends::source(&name, &text, &context.environment).await?;
        extends::manifest(&source)
    };
    read().await.is_ok_and(|manifest| manifest.bottles.values().any(|bottle| bottle.signing.is_some()))
}

/// Looks for the program with which the gate signs where it runs on this machine itself. A machine that has none may be fine with Docker.
async fn signing_program(every: &mut Survey) {
    // With an option that it does not have it prints its usage; without any it would make a key.
    match Program::new(["ssh-keygen", "-?"]).run().await {
        Ok(_) => every.there("ssh-keygen, with which the gate signs (`signing` of a bottle)"),
        Err(_) => every.unknown(
            "ssh-keygen, with which the gate signs (`signing` of a bottle): bubblewrap and smolmachines take this machine's, and it has none; \
             install openssh-client. The image of the doors has its own",
        ),
    }
}

impl Examination {
    /// Whether a run can start on this machine. What the repository lacks at its forge is no part of that.
    fn usable(&self) -> bool {
        self.every.usable() && self.backends.iter().any(|(_, survey)| survey.usable())
    }

    fn text(&self) -> String {
        let mut text: String = self.backends.iter().map(|(backend, survey)| survey.page(backend.name())).collect();
        text.push_str(&self.every.page("for every backend"));
        text.push_str(&taken(&self.best));
        if let Some(repository) = &self.repository {
            text.push_str(&repository.page("this repository at its forge"));
        }
        text
    }

    fn json(&self) -> Result<String, Failure> {
        let backends: serde_json::Map<String, Value> = self
            .backends
            .iter()
            .map(|(backend, survey)| {
                (backend.name().to_owned(), json!({"usable": survey.usable(), "checks": survey.checks}))
            })
            .collect();
        let passed = |(backend, why): &(Backend, String)| json!({"backend": backend.name(), "why": why});
        let value = json!({
            "schema_version": SCHEMA_VERSION,
            "usable": self.usable(),
            "backends": backends,
            "every_backend": self.every.checks,
            "auto": is_taken(&self.best).then(|| self.best.backend.name()),
            "passed_over": self.best.passed.iter().map(passed).collect::<Vec<_>>(),
            "repository": self.repository.as_ref().map(|repository| &repository.checks),
        });
        serde_json::to_string_pretty(&value).map_err(Failure::machine)
    }
}

/// Whether a run that names no backend can start.
fn is_taken(best: &BackendChoice) -> bool {
    best.passed.iter().all(|(backend, _)| *backend != best.backend)
}

/// What a run takes that names none, and why nothing before that.
fn taken(best: &BackendChoice) -> String {
    let mut text = if is_taken(best) {
        format!("a run that names no backend takes {}\n", best.backend.name())
    } else {
        "a run that names no backend can't start here\n".to_owned()
    };
    for (backend, why) in &best.passed {
        text.push_str(&format!("  not {}: {why}\n", backend.name()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_over_is_said_with_its_reason() {
        let mut best =
            BackendChoice { backend: Backend::Docker, passed: vec![(Backend::Smolmachines, "no /dev/kvm".to_owned())] };
        assert_eq!(taken(&best), "a run that names no backend takes docker\n  not smolmachines: no /dev/kvm\n");
        best.backend = Backend::Bubblewrap;
        best.passed.push((Backend::Docker, "no engine".to_owned()));
        best.passed.push((Backend::Bubblewrap, "no bwrap".to_owned()));
        assert!(taken(&best).starts_with("a run that names no backend can't start here\n"), "{}", taken(&best));
        assert!(taken(&best).ends_with("  not bubblewrap: no bwrap\n"));
    }
}
