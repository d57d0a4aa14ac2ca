//! For tests: the forge as the runner has it, against a stand-in that knows the forges' own descriptions.

use std::sync::Arc;

use bottle_plan::facts::{Ci, ForgeKind, HostFacts};
use bottle_plan::plan::{BottlePlan, Options};
use bottle_types::secret::Secret;
use serde_json::Value;

use super::gitea::{self, Gitea};
use super::github::{self, Github};
use super::http::Http;
use super::{Forge, ForgeError};
pub(crate) use bottle_testkit::Double;

pub(crate) const BOTH: [&str; 2] = ["github", "gitea"];

/// The forge as the runner has it, talking to the stand-in.
pub(crate) fn forge(double: &Double) -> Arc<dyn Forge> {
    forge_with(double, &double.token, &double.ca())
}

/// True if the description that the stand-in is held against has a call of this path.
pub(crate) fn knows(double: &Double, path: &str) -> bool {
    std::fs::read_to_string(&double.spec).expect("the description").contains(path)
}

pub(crate) fn forge_with(double: &Double, token: &str, roots: &std::path::Path) -> Arc<dyn Forge> {
    let token = Secret::new(token.to_owned());
    let (owner, name) = ("octo-org".to_owned(), "textstats".to_owned());
    let http = |dialect| Http::new(&double.api(), Some(&token), dialect, Some(roots)).expect("a client");
    match double.kind {
        "github" => Arc::new(Github::new(http(github::DIALECT), &double.server, owner, name).expect("a forge")),
        _ => Arc::new(Gitea::new(http(gitea::DIALECT), &double.server, owner, name).expect("a forge")),
    }
}

/// The plan of the example's issue, or of a text.
#[expect(clippy::disallowed_methods, reason = "a manifest of a test has no policy")]
pub(crate) fn plan(event: Option<&str>) -> BottlePlan {
    let text = "version: 1\nbottles: { default: {} }\nagents: { implementer: { bottle: default } }\ntriggers: { labels: { claude: implementer } }\n";
    let manifest = bottle_plan::manifest::parse(text, "claude-bottle.yml").expect("a manifest");
    let task = match event {
        Some(event) => match bottle_plan::event::parse(event, None, &manifest.triggers).expect("an event") {
            bottle_plan::event::Asked::Task(task) => *task,
            other => panic!("{other:?}"),
        },
        None => bottle_plan::task::Task::text("Tidy up"),
    };
    let facts = HostFacts {
        seed: "1a2b3c".to_owned(),
        started_at: "2026-03-02T09:14:11Z".to_owned(),
        state_root: "/state".to_owned(),
        ci: Some(Ci {
            forge: ForgeKind::Github,
            server_url: "https://git.bottle.test".to_owned(),
            repository: "octo-org/textstats".to_owned(),
            run_id: "1".to_owned(),
            run_url: "https://git.bottle.test/octo-org/textstats/actions/runs/1".to_owned(),
            started_for: None,
            base: None,
        }),
        ..HostFacts::default()
    };
    bottle_plan::plan::plan(&task, &manifest, &facts, &Options::default()).expect("a plan")
}

pub(crate) fn issue() -> BottlePlan {
    plan(Some(include_str!("../../examples/issue-labeled.json")))
}

pub(crate) fn count(value: &Value, key: &str) -> usize {
    value[key].as_array().map_or(0, Vec::len)
}

/// A failure in full, as people read it.
pub(crate) fn told(error: &ForgeError) -> String {
    format!("{error}; {}", error.hint())
}
