//! Any bytes as an event: no panic; a task that comes of them plans, and nothing invisible is in its prompt.
#![no_main]

use std::sync::LazyLock;

use bottle_plan::event::{self, Asked};
use bottle_plan::facts::HostFacts;
use bottle_plan::manifest::{self, Manifest};
use bottle_plan::plan::{Options, plan};
use bottle_plan::prose::invisible;
use libfuzzer_sys::fuzz_target;

static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    let text = "version: 1\nbottles: { default: {} }\nagents: { implementer: { prompt: a.md } }\n\
                triggers: { labels: { claude: implementer }, assignees: { mona: implementer } }\n";
    manifest::parse(text, "claude-bottle.yml").expect("a manifest")
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(Asked::Task(task)) = event::parse(text, None, &MANIFEST.triggers) {
        let facts = HostFacts { seed: "1a2b3c".to_owned(), ..HostFacts::default() };
        if let Ok(plan) = plan(&task, &MANIFEST, &facts, &Options::default()) {
            assert!(!plan.prompt.text.contains(invisible));
        }
    }
});
