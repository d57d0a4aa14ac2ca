//! MCP clients that are not ours against the real server: the official Python SDK, and the protocol's own conformance suite.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bottle_policy::supervise::Request;
use bottle_testkit::{bridge, needed, python};
use bottle_wire::proposal::{PolicyFile, Verdict};
use serde_json::{Value, json};

use crate::world::{World, routes};

/// Runs a client while every open proposal is approved and every question answered.
fn run(world: &World, command: &mut Command) -> Output {
    let done = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let over = Arc::clone(&done);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(30));
                for standing in world.list().proposals.iter().filter(|standing| standing.state.is_open()) {
                    let question = matches!(standing.proposal.request, Request::Ask { .. });
                    let yes = || Verdict::Answer { text: "it is".to_owned() };
                    let verdict = if question { yes() } else { Verdict::Approve };
                    world.hand_in(&world.decision(standing, verdict));
                }
            }
        });
        let output = command.output().expect("the client runs");
        done.store(true, Ordering::Relaxed);
        output
    })
}

/// A bottle in which each kind of request can be granted.
fn world() -> World {
    World::with("approval: local\n", |first| {
        let routes = format!("{}budget: {{ tokens: 1000 }}\n", routes(0, "/open/**")).replace("port: 0, ", "");
        first.insert(PolicyFile::Routes, routes);
        let gate = "version: 1\nsecrets: [SOME_KEY]\nupstreams:\n  - name: origin\n    url: https://git.example.com/team/app.git\n    \
                    token: SOME_KEY\n";
        first.insert(PolicyFile::Gate, gate.to_owned());
    })
}

#[test]
fn the_python_sdk_lists_and_calls_every_tool() {
    let world = world();
    let port = bridge(&world.path("doors/supervise.sock"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apply/sdk.py");
    let mut command = python();
    let command = command.arg(script).arg(format!("http://127.0.0.1:{port}/")).arg(world.origin.to_string());
    let output = run(&world, command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["server"], "supervise");
    let tools = told["tools"].as_object().expect("tools");
    for (name, begins) in [
        ("policy", "{"),
        ("request_route", "P1 is approved by ann and in force now"),
        ("request_exemption", "P2 is approved by ann and in force now, until"),
        ("request_capability", "P3 is approved by ann; it changes nothing in this run"),
        ("request_push", "P4 is approved by ann and in force now"),
        ("request_budget", "P5 is approved by ann and in force now"),
        ("ask", "P6, answered by ann: it is"),
        ("progress", "noted as P7"),
        ("status", "P1 is approved"),
        ("wait", "P1 is approved"),
    ] {
        let tool = &tools[name];
        assert!(tool["description"].as_str().is_some_and(|text| text.len() > 40), "{tool}");
        let schema = &tool["inputSchema"];
        assert_eq!((&schema["type"], &schema["additionalProperties"]), (&json!("object"), &json!(false)), "{schema}");
        for property in schema["properties"].as_object().into_iter().flatten() {
            assert!(property.1["description"].is_string(), "{name}: {property:?}");
        }
        let answer = &told["answers"][name];
        assert_eq!(answer["error"], false, "{name}: {answer}");
        assert!(answer["text"].as_str().is_some_and(|text| text.starts_with(begins)), "{name}: {answer}");
    }
    assert_eq!(tools.len(), 10);
    assert_eq!(told["bad"]["error"], true, "{told}");
    assert!(told["progress"].as_u64().is_some_and(|signs| signs >= 5), "{told}");
    assert_eq!(world.get("/sdk"), 200);
    assert!(world.policy(PolicyFile::Routes).contains("tokens: 2000"));
    assert!(world.policy(PolicyFile::Gate).contains("refs/heads/sdk"));
    assert_eq!(world.verify().map(|told| (told.asked, told.granted, told.applied)), Ok((6, 6, 4)));
}

/// The scenarios of the protocol's conformance suite that are about what this server has: it offers tools and nothing else,
/// and the others call tools, prompts and resources of a server that was made for them.
#[test]
fn the_conformance_suite_passes() {
    let world = world();
    let port = bridge(&world.path("doors/supervise.sock"));
    for scenario in
        ["server-initialize", "ping", "tools-list", "server-sse-multiple-streams", "dns-rebinding-protection"]
    {
        let mut command = Command::new(needed("BOTTLE_TEST_NODE"));
        command.arg(needed("BOTTLE_TEST_CONFORMANCE")).args(["server", "--scenario", scenario]);
        let output = run(&world, command.args(["--url", &format!("http://localhost:{port}/mcp")]));
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && told.contains("0 failed"), "{scenario}: {told}");
    }
}
