//! A job that is ready to run on the backend of its test: the world, an upstream with the sample, an event, a cassette.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bottle_testkit::{Host, Running, Upstream, World, said, sh};

use crate::RUNNER;
use crate::place::{Place, here, left_behind, patience};

/// Every test's routes: the model's, and one with a credential that the doors know in a replay too.
pub(crate) const MODEL_ROUTE: &str = "      routes:
        - host: api.anthropic.com
          methods: [POST]
          paths: [/v1/messages, /v1/messages/count_tokens]
          auth: { header: x-api-key, from: ANTHROPIC_API_KEY }
        - { host: api.example.org, auth: { bearer: BOTTLE_TEST_TOKEN } }
";

/// A job that is ready to run: world, upstream, checkout, event, cassette.
pub(crate) struct Job {
    pub(crate) world: World,
    pub(crate) upstream: Upstream,
    pub(crate) checkout: PathBuf,
    pub(crate) args: Vec<String>,
}

/// The manifest of most tests.
pub(crate) fn manifest(upstream: &Upstream) -> String {
    // Where a machine is emulated it has one processor: two only wait for each other.
    let cpus = std::env::var("BOTTLE_TEST_CPUS").ok().filter(|_| here() == Place::Smolmachines);
    let resources = cpus.map(|cpus| format!("    resources: {{ cpus: {cpus} }}\n"));
    format!(
        "version: 1\nbottles:\n  default:\n    env: {{ PYTHONDONTWRITEBYTECODE: \"1\" }}\n{}    egress:\n{MODEL_ROUTE}    git:\n{}\
         agents:\n  implementer:\n    bottle: default\n    limits: {{ turns: 20, time: {}m }}\n    verify: [\"python3 -m unittest\"]\n\
         triggers:\n  labels: {{ claude: implementer }}\n",
        resources.unwrap_or_default(),
        upstream.manifest_entry(),
        patience(300).as_secs() / 60
    )
}

impl Job {
    /// Commits a file to the checkout; its path. In a job a manifest that is named must be one of the base branch.
    pub(crate) fn with_file(&self, name: &str, text: &str) -> String {
        let path = self.checkout.join(name);
        std::fs::write(&path, text).expect("a file");
        let dir = self.checkout.display().to_string();
        let who = ["-c", "user.name=Sample", "-c", "user.email=sample@bottle.test"];
        sh(&["git", "-C", &dir, "add", name]);
        sh(&[&["git", "-C", &dir], &who[..], &["commit", "--quiet", "-m", "Rules"]].concat());
        path.display().to_string()
    }

    /// The sample's issue, with this cassette.
    pub(crate) fn new(cassette: &str) -> Self {
        Self::with_manifest(cassette, manifest)
    }

    pub(crate) fn with_manifest(cassette: &str, manifest: impl Fn(&Upstream) -> String) -> Self {
        Self::of_format(cassette, "sha1", manifest)
    }

    /// A job in a repository whose objects are named so.
    pub(crate) fn of_format(cassette: &str, format: &'static str, manifest: impl Fn(&Upstream) -> String) -> Self {
        let world = World::new(RUNNER);
        let host = if here() == Place::Docker { Host::Container } else { Host::Loopback };
        let upstream = Upstream::start(&world, host, format);
        let checkout = upstream.sample(&world, &manifest(&upstream));
        let cassette = world.write("cassette.yml", cassette);
        let event = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/issue-labeled.json");
        let args = [
            "run",
            "--event",
            &event.display().to_string(),
            "--backend",
            here().name(),
            "--replay",
            &cassette.display().to_string(),
        ];
        let mut args = args.map(str::to_owned).to_vec();
        if here() == Place::Smolmachines {
            // scripts/smol says where; a test that needs none finds out when it is looked for.
            let image = std::env::var("BOTTLE_TEST_ROOTFS").unwrap_or_else(|_| "/no-BOTTLE_TEST_ROOTFS".to_owned());
            args.extend(["--image".to_owned(), image]);
        }
        Self { world, upstream, checkout, args }
    }

    /// Makes it a live run.
    pub(crate) fn without_replay(&mut self) {
        let at = self.args.iter().position(|word| word == "--replay").expect("a replay");
        self.args.drain(at..at + 2);
    }

    /// The command, in the checkout: the guest clones through the gate.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.world.runner();
        command.args(&self.args).current_dir(&self.checkout);
        command
    }

    pub(crate) fn run(&self) -> Output {
        self.command().output().expect("the runner")
    }

    pub(crate) fn start(&self) -> Running {
        Running::new(self.command().spawn().expect("the runner"))
    }

    /// Nothing of the runs is there any more but their records, and those hold.
    pub(crate) fn nothing_left(&self) {
        self.gone();
        for slug in self.world.slugs() {
            // However a run ended: if it came to its end, its record holds.
            let record = self.world.path("state").join(&slug);
            if std::fs::read_to_string(record.join("metadata.json")).is_ok_and(|text| text.contains("\"outcome\"")) {
                let output = self.world.runner().arg("verify-record").arg(&record).output().expect("the runner");
                assert!(output.status.success(), "{slug}: {}", said(&output));
                events_as_published(&record);
            }
        }
    }

    /// Nothing of the runs is there any more but their records.
    pub(crate) fn gone(&self) {
        for slug in self.world.slugs() {
            let left = left_behind(&slug);
            assert!(left.is_empty(), "{slug} left {left:?}");
        }
    }
}

/// Asserts that each line of a record's events.jsonl is as the published schema has it, and that the run's end is among them.
fn events_as_published(record: &Path) {
    let schema = include_str!("../../schema/claude-bottle.events-v1.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).expect("a schema");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let text = std::fs::read_to_string(record.join("events.jsonl")).expect("events.jsonl");
    let mut kinds = vec![];
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let errors: Vec<String> = validator.iter_errors(&event).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {line}");
        kinds.push(event["data"]["event"].to_string());
    }
    for kind in ["\"started\"", "\"finished\""] {
        assert!(kinds.iter().any(|known| known == kind), "no {kind} in {kinds:?}");
    }
}

/// Asserts an exit code, with all that was printed where it is another.
#[track_caller]
pub(crate) fn ended_with(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
}
