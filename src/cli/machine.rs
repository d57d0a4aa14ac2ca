//! `bottle-runner doctor`: what this machine can do, backend by backend.

use bottle_types::backend::Backend;

use super::{Context, print};
use crate::backend::{self, BackendChoice, Survey};
use crate::exit::{Code, Failure};
use crate::process::Program;

pub(super) async fn doctor(context: &Context) -> Result<Code, Failure> {
    let mut text = String::new();
    let mut usable = false;
    for name in Backend::ALL {
        let survey = backend::survey(name).await;
        usable |= survey.usable();
        text.push_str(&page(name.name(), &survey));
    }
    let mut every = Survey::default();
    match Program::new(["git", "--version"]).run().await {
        Ok(ended) if ended.code == 0 => every.there(String::from_utf8_lossy(&ended.stdout).trim()),
        _ => every.missing("git: install git"),
    }
    if let Some(root) = context.environment.state_root() {
        every.there(format!("run records go to {}", root.display()));
    }
    text.push_str(&page("for every backend", &every));
    text.push_str(&taken(&backend::best().await));
    print(&text)?;
    Ok(if usable && every.usable() { Code::Done } else { Code::Machine })
}

/// What a run takes that names none, and why nothing before that.
fn taken(best: &BackendChoice) -> String {
    let mut text = if best.passed.iter().any(|(backend, _)| *backend == best.backend) {
        "a run that names no backend can't start here\n".to_owned()
    } else {
        format!("a run that names no backend takes {}\n", best.backend.name())
    };
    for (backend, why) in &best.passed {
        text.push_str(&format!("  not {}: {why}\n", backend.name()));
    }
    text
}

/// A heading, and a line for each thing.
fn page(heading: &str, survey: &Survey) -> String {
    let mut text = format!("{heading}\n");
    for (there, what) in &survey.lines {
        text.push_str(&format!("  {} {what}\n", if *there { "ok     " } else { "missing" }));
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
