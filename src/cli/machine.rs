//! `bottle-runner doctor`: what this machine can do, backend by backend.

use bottle_plan::plan::Backend;

use super::{Context, print};
use crate::backend::{self, Survey};
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
    text.push_str(&format!("a run that names no backend takes {}\n", backend::best().await.name()));
    print(&text)?;
    Ok(if usable && every.usable() { Code::Done } else { Code::Machine })
}

/// A heading, and a line for each thing.
fn page(heading: &str, survey: &Survey) -> String {
    let mut text = format!("{heading}\n");
    for (there, what) in &survey.lines {
        text.push_str(&format!("  {} {what}\n", if *there { "ok     " } else { "missing" }));
    }
    text
}
