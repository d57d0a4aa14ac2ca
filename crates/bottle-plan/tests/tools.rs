//! The owner's tools in a plan: what Claude Code is started with, and which settings of the base branch end a run before it begins.

use bottle_plan::facts::HostFacts;
use bottle_plan::manifest;
use bottle_plan::plan::{BottlePlan, Options, PlanError, plan};
use bottle_plan::task::Task;
use pretty_assertions::assert_eq;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(rename = "name")]
    _name: Option<String>,
    text: String,
    says: String,
}

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

/// A plan by an agent with these keys, where the base branch's `s.json` has this text.
fn plan_of(agent: &str, settings: Option<&str>) -> Result<BottlePlan, PlanError> {
    let text = format!("version: 1\nbottles: {{ default: {{}} }}\nagents:\n  a:\n{agent}");
    let manifest = manifest::parse(&text, "claude-bottle.yml").unwrap_or_else(|error| panic!("{error}"));
    let facts = HostFacts {
        seed: "1a2b3c".to_owned(),
        claude_settings: settings.map(|text| ("s.json".to_owned(), text.to_owned())).into_iter().collect(),
        ..HostFacts::default()
    };
    plan(&Task::text("Look."), &manifest, &facts, &Options::default())
}

#[test]
fn settings_that_are_not_for_a_bottle_end_a_run_before_it_begins() {
    let cases: Cases = toml::from_str(include_str!("tools.toml")).expect("cases");
    let said = |text: &str| match plan_of("    settings: s.json\n", Some(text)) {
        Ok(_) => "a plan".to_owned(),
        Err(error) => error.to_string(),
    };
    let wrong: Vec<_> = cases.case.iter().filter(|case| said(&case.text) != case.says).collect();
    let wrong: Vec<String> =
        wrong.iter().map(|case| format!("{}\n  {}\n  {}", case.text, said(&case.text), case.says)).collect();
    assert!(wrong.is_empty() && cases.case.len() >= 20, "{}", wrong.join("\n"));
    let error = plan_of("    settings: s.json\n", None).expect_err("no plan");
    assert_eq!(error.to_string(), "agents.a.settings: `s.json` is not in the base branch");
    assert!(error.hint().is_some_and(|hint| hint.contains("commit it there")));
}

#[test]
fn claude_code_is_started_with_the_manifests_tools() {
    let agent = "    mcp:\n      notes: { command: [./tools/notes, tools/data], env: { LEVEL: info } }\n      other: { command: [node, tools/other/x.js] }\n    \
                 settings: s.json\n    hooks: { PreToolUse: [{ hooks: [{ type: command, command: \"echo it's\" }] }] }\n    base_files: [tools/other/, tools/other/sub, tools/otherwise]\n    plugins: [claude/mine/]\n";
    let settings = r#"{"$schema": "x", "permissions": {"deny": ["WebFetch"]}, "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "make"}]}]}}"#;
    let plan = plan_of(agent, Some(settings)).unwrap_or_else(|error| panic!("{error}"));
    let (base, tools) = ("/home/node/.claude-bottle-base", &plan.tools);
    let file = |file: &Option<bottle_plan::plan::ConfigFile>| {
        let file = file.as_ref().expect("a file");
        assert!(
            plan.command.windows(2).any(|pair| pair[0].starts_with("--") && pair[1] == file.path),
            "{:?}",
            plan.command
        );
        serde_json::from_str::<Value>(&file.text).expect("JSON")
    };
    let start = |words: &[&str]| json!([&["-c", "cd \"$0\" && exec \"$@\"", base], words].concat());
    assert_eq!(
        file(&tools.mcp),
        json!({"mcpServers": {
            "notes": {"type": "stdio", "command": "/bin/sh", "args": start(&[&format!("{base}/tools/notes"), "tools/data"]),
                "env": {"LEVEL": "info", "BOTTLE_WORKSPACE": "/workspace"}},
            "other": {"type": "stdio", "command": "/bin/sh", "args": start(&["node", "tools/other/x.js"]),
                "env": {"BOTTLE_WORKSPACE": "/workspace"}},
        }})
    );
    let hook = |command: &str, missing: u32| {
        format!(
            "cd {base} || exit {missing}\nexport BOTTLE_WORKSPACE='/workspace' CLAUDE_PROJECT_DIR={base}\nsh -c {command}\ncode=$?\ncase $code in 126|127) exit {missing};; esac\nexit $code"
        )
    };
    assert_eq!(
        file(&tools.settings),
        json!({"permissions": {"deny": ["WebFetch"]}, "hooks": {
            "PreToolUse": [{"hooks": [{"type": "command", "command": hook("'echo it'\\''s'", 2)}]}],
            "Stop": [{"hooks": [{"type": "command", "command": hook("'make'", 1)}]}],
        }})
    );
    let from: Vec<&str> = tools.base_files.iter().map(|file| file.from.as_str()).collect();
    assert_eq!(from, ["tools/notes", "tools/other", "tools/otherwise"]);
    assert!(tools.base_files.iter().all(|file| file.to == format!("{base}/{}", file.from)));
    let plugin = ["--plugin-dir", "/home/node/.claude-bottle-plugins/mine"].map(str::to_owned);
    assert!(plan.command.windows(2).any(|pair| pair == plugin), "{:?}", plan.command);
    let text = bottle_plan::render::text(&plan);
    for line in [
        "mcp      notes: ./tools/notes tools/data",
        "tools    settings s.json",
        "hook at PreToolUse: echo it's",
        "plugin claude/mine",
    ] {
        assert!(text.contains(line), "{text}");
    }
    // Where it goes on, it has them too.
    let session = bottle_plan::plan::SessionId::parse("0b0c2a5e-4a55-4b6f-9f0e-3f2f4a7a1d11").expect("an id");
    let more = plan.go_on(&session, bottle_plan::plan::ClaudeLimits::default());
    assert!(more.contains(&"--mcp-config".to_owned()) && more.contains(&"--settings".to_owned()), "{more:?}");
    let none = plan_of("    model: claude-x\n", None).unwrap_or_else(|error| panic!("{error}"));
    assert!(none.tools.is_none() && !none.command.contains(&"--settings".to_owned()));
}
