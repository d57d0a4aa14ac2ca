//! Bad input: each has its documented exit code and one clear message. Needs no engine.

use bottle_testkit::{World, said, sh};

use crate::RUNNER;

/// A manifest that is fine, for faults elsewhere.
const GOOD: &str = "version: 1\nbottles:\n  default: {}\nagents:\n  implementer: { bottle: default }\n";

struct Case {
    name: &'static str,
    manifest: &'static str,
    args: &'static [&'static str],
    code: i32,
    /// All of stderr; `DIR` stands for the world's directory.
    says: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "no manifest",
        manifest: "",
        args: &["run", "--task", "hello"],
        code: 2,
        says: "error: there is no claude-bottle.yml in this directory\nhelp: write one (`bottle-runner schema` describes it) and commit it, or name one with --manifest\n",
    },
    Case {
        name: "no task",
        manifest: GOOD,
        args: &["run"],
        code: 2,
        says: "error: there is no task\nhelp: give --task TEXT, or --event FILE with a webhook payload\n",
    },
    Case {
        name: "an empty task",
        manifest: GOOD,
        args: &["run", "--task", ""],
        code: 2,
        says: "error: the task is empty\nhelp: give the task in words: --task \"…\"\n",
    },
    Case {
        name: "an event that is not there",
        manifest: GOOD,
        args: &["run", "--event", "nowhere.json"],
        code: 2,
        says: "error: failed to read the event nowhere.json: No such file or directory (os error 2)\nhelp: give --event a file with the forge's webhook payload\n",
    },
    Case {
        name: "an event that is not JSON",
        manifest: GOOD,
        args: &["run", "--event", "not-json"],
        code: 2,
        says: "error: not-json: the event is not JSON: EOF while parsing an object at line 1 column 1\nhelp: give the payload as the forge wrote it, such as $GITHUB_EVENT_PATH\n",
    },
    Case {
        name: "an event of another kind",
        manifest: GOOD,
        args: &["run", "--event", "push.json"],
        code: 0,
        says: "nothing to do: `push` starts nothing; a run is started by issues, comments, reviews, labels, pull requests, failed runs, dispatches and schedules\n",
    },
    Case {
        name: "a command to a run",
        manifest: GOOD,
        args: &["run", "--event", "approve.json"],
        code: 0,
        says: "nothing to do: this is not a job of a forge, where runs hear comments\n",
    },
    Case {
        name: "a schedule without a task",
        manifest: GOOD,
        args: &["run", "--event", "schedule.json"],
        code: 2,
        says: "error: nothing says what is to be done: the event has no task, and the agent `implementer` has no `prompt`\nhelp: give the agent a `prompt`, or the dispatch an input `task`\n",
    },
    Case {
        name: "a missing agent",
        manifest: GOOD,
        args: &["run", "--task", "x", "--agent", "nobody"],
        code: 2,
        says: "error: no agent `nobody` in the manifest\nhelp: it has implementer\n",
    },
    Case {
        name: "an unknown option",
        manifest: GOOD,
        args: &["run", "--nonsense"],
        code: 2,
        says: "error: unexpected argument '--nonsense' found\n\nUsage: bottle-runner run [OPTIONS]\n\nFor more information, try '--help'.\n",
    },
    Case {
        name: "a cassette that is not there",
        manifest: GOOD,
        args: &["run", "--task", "x", "--replay", "nowhere"],
        code: 2,
        says: "error: failed to read the cassette nowhere: No such file or directory (os error 2)\nhelp: give --replay a run record or a cassette file\n",
    },
    Case {
        name: "a cassette that is none",
        manifest: GOOD,
        args: &["run", "--task", "x", "--replay", "not-json"],
        code: 2,
        says: "error: the cassette not-json: error: line 1 column 1: unclosed bracket '{'\n --> <input>:1:1\n  |\n1 | {\n  | ^ unclosed bracket '{'\n",
    },
    Case {
        name: "a directory that is not there",
        manifest: GOOD,
        args: &["run", "--task", "x", "--cwd", "nowhere"],
        code: 2,
        says: "error: nowhere is not a directory\nhelp: give --cwd a git checkout\n",
    },
    Case {
        name: "a directory that is no checkout",
        manifest: GOOD,
        args: &["run", "--task", "x", "--cwd", "."],
        code: 2,
        says: "error: . is not in a git checkout\nhelp: leave out --cwd to clone through the gate\n",
    },
    Case {
        name: "an unknown key",
        manifest: "version: 1\nbottles:\n  default:\n    egress:\n      routs: []\n",
        args: &["run", "--task", "x"],
        code: 2,
        says: "error: claude-bottle.yml:5:7: unknown key `routs` in bottles.default.egress; did you mean `routes`?\nhelp: the keys there are routes, presets\n",
    },
    Case {
        name: "a wrong type",
        manifest: "version: 1\nbottles:\n  default:\n    resources: { cpus: many }\n",
        args: &["run", "--task", "x"],
        code: 2,
        says: "error: claude-bottle.yml:4:24: bottles.default.resources.cpus: expected a number\n",
    },
    Case {
        name: "an agent in a bottle that is not there",
        manifest: "version: 1\nbottles:\n  default: {}\nagents:\n  implementer: { bottle: other }\n",
        args: &["run", "--task", "x"],
        code: 2,
        says: "error: claude-bottle.yml:5:26: agents.implementer.bottle: there is no bottle `other`\nhelp: there is default\n",
    },
    Case {
        name: "a variable that is not set",
        manifest: "version: 1\nbottles:\n  default:\n    egress:\n      routes: [{ host: a.example, auth: { bearer: NO_SUCH_VARIABLE } }]\n",
        args: &["run", "--task", "x"],
        code: 2,
        says: "error: the variable NO_SUCH_VARIABLE is not set, and route a.example needs it\nhelp: set NO_SUCH_VARIABLE, or give --replay to answer the model from a cassette\n",
    },
    Case {
        name: "instructions that are not there",
        manifest: "version: 1\nbottles:\n  default: {}\nagents:\n  implementer: { bottle: default, prompt: nowhere.md }\n",
        args: &["run", "--task", "x"],
        code: 2,
        says: "error: `nowhere.md` is named in the manifest and is not in the base branch\nhelp: commit it there: prompts, skills, tools and the setup's script are always read from the base branch\n",
    },
    Case {
        name: "a server's program that is not there",
        manifest: "version: 1\nbottles:\n  default: {}\nagents:\n  implementer: { mcp: { notes: { command: [./nowhere] } } }\n",
        args: &["run", "--task", "x"],
        code: 2,
        says: "error: `nowhere` is named in the manifest and is not in the base branch\nhelp: commit it there: prompts, skills, tools and the setup's script are always read from the base branch\n",
    },
    Case {
        name: "settings that are not there",
        manifest: "version: 1\nbottles:\n  default: {}\nagents:\n  implementer: { settings: s.json }\n",
        args: &["run", "--task", "x"],
        code: 2,
        says: "error: agents.implementer.settings: `s.json` is not in the base branch\nhelp: commit it there: settings are always read from the base branch\n",
    },
];

#[test]
fn each_bad_input_has_its_exit_code_and_its_message() {
    let mut wrong = vec![];
    for case in CASES {
        let world = World::new(RUNNER);
        if !case.manifest.is_empty() {
            world.write("claude-bottle.yml", case.manifest);
        }
        world.write("not-json", "{");
        world.write("approve.json", include_str!("../fixtures/good/event/issue_comment-approve.json"));
        world.write("schedule.json", include_str!("../fixtures/good/event/schedule.json"));
        world.write("push.json", r#"{"ref": "refs/heads/main", "commits": [], "pusher": {"name": "x"}}"#);
        let output = world.runner().args(case.args).output().expect("the runner");
        let told = said(&output).replace(&world.path("").display().to_string(), "DIR/");
        if output.status.code() != Some(case.code) || told != case.says {
            wrong.push(format!("== {}: exit {:?}, wanted {}\n{told}", case.name, output.status.code(), case.code));
        }
        assert!(world.slugs().is_empty(), "{}: something was started", case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_good_manifest_plans() {
    let world = World::new(RUNNER);
    world.write("claude-bottle.yml", GOOD);
    let output = world.runner().args(["plan", "--task", "say hello"]).output().expect("the runner");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_manifest_that_was_edited_and_not_committed_is_said_to_be_another() {
    let world = World::new(RUNNER);
    let path = world.write("claude-bottle.yml", GOOD);
    let here = world.path("").display().to_string();
    let git = |args: &[&str]| {
        sh(&[&["git", "-C", &here, "-c", "user.name=a", "-c", "user.email=a@example.org"], args].concat())
    };
    git(&["init", "-q"]);
    git(&["add", "claude-bottle.yml"]);
    git(&["commit", "-q", "-m", "Rules"]);
    let plan = |args: &[&str]| {
        let output = world.runner().args(["plan", "--task", "say hello"]).args(args).output().expect("the runner");
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    let told = "claude-bottle.yml in this directory is another than the one of HEAD";
    assert!(!plan(&[]).contains(told));
    std::fs::write(path, format!("{GOOD}credentials: {{}}\n")).expect("a manifest");
    assert!(plan(&[]).contains(told));
    assert!(!plan(&["--manifest", "claude-bottle.yml"]).contains(told));
}

#[test]
fn a_dry_run_needs_no_word() {
    let world = World::new(RUNNER);
    world.write("claude-bottle.yml", GOOD);
    world.write("push.json", r#"{"ref": "refs/heads/main", "commits": [], "pusher": {"name": "x"}}"#);
    for args in [
        &["--dry-run", "--event", "push.json", "--replay", "nowhere"][..],
        &["--event", "push.json", "--dry-run"],
        &["--no-color", "--dry-run", "--event", "push.json"],
        &["--dry-run", "run", "--event", "push.json"],
        &["run", "--dry-run", "--event", "push.json"],
    ] {
        let output = world.runner().args(args).output().expect("the runner");
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        assert!(said(&output).starts_with("nothing to do: `push` starts nothing"), "{args:?}: {}", said(&output));
    }
    // The flag alone is a run, which misses its task; help and version stay what they are.
    let output = world.runner().arg("--dry-run").output().expect("the runner");
    assert!(output.status.code() == Some(2) && said(&output).contains("there is no task"), "{}", said(&output));
    for (args, code) in
        [(&["--dry-run", "--help"][..], 0), (&["--dry-run", "--version"], 0), (&["--event", "push.json"], 2)]
    {
        let output = world.runner().args(args).output().expect("the runner");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
    }
}
