//! Model routes: live with recording, and from a cassette.

use std::time::Duration;

use bottle_policy::budget::{Entry, REACHED, Tokens};
use bottle_wire::cassette::Cassette;
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::world::{Setup, World, refusal, request};

const MODEL: &str = "\n  - { host: localhost, port: PORT, methods: [POST, GET], paths: ['/v1/**'], model: true, \
                     auth: { header: x-api-key, from: ANTHROPIC_API_KEY } }\n";

const CASSETTE: &str = "version: 1\nturns:\n  - text: Let me see.\n    tools: [{ name: Bash, input: { command: ls } }]\n  \
                        - { status: 529, text: Overloaded }\n";

fn ask(assistant: usize, stream: bool) -> http::Request<crate::world::Body> {
    let mut messages = vec![json!({ "role": "user", "content": "go" })];
    messages.extend((0..assistant).map(|_| json!({ "role": "assistant", "content": "x" })));
    messages.push(json!({ "role": "system", "content": "note" }));
    let body = json!({ "model": "claude-test", "stream": stream, "messages": messages }).to_string();
    request("POST", "/v1/messages?beta=true", body)
}

#[tokio::test]
async fn a_cassette_answers_by_turn_and_nothing_goes_out() {
    let world = World::start(Setup { routes: MODEL, cassette: Some(CASSETTE), ..Setup::default() }).await;
    let response = world.send(ask(0, true)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let text = response.into_body().collect().await.expect("a body").to_bytes();
    let text = String::from_utf8_lossy(&text);
    for event in ["message_start", "content_block_delta", "ping", "message_delta", "message_stop"] {
        assert!(text.contains(&format!("event: {event}\n")), "{event}: {text}");
    }
    assert!(text.contains("Let me see.") && text.contains("toolu_bottle0000x00"), "{text}");

    let (status, body) = refusal(world.send(ask(0, false)).await).await;
    assert_eq!(
        (status.as_u16(), &body["model"], &body["stop_reason"]),
        (200, &"claude-test".into(), &"tool_use".into())
    );
    let (status, body) = refusal(world.send(ask(1, true)).await).await;
    assert_eq!((status.as_u16(), &body["error"]["type"]), (529, &"overloaded_error".into()));
    let (status, body) = refusal(world.send(ask(2, true)).await).await;
    let message = body["error"]["message"].as_str().expect("a message");
    assert_eq!((status.as_u16(), message), (400, "cassette has no turn 2: it has 2"));
    let (_, body) = refusal(world.send(request("POST", "/v1/messages/count_tokens", "{\"messages\":[]}")).await).await;
    assert!(body["input_tokens"].is_u64());
    let (status, _) = refusal(world.send(request("GET", "/v1/models", "")).await).await;
    assert_eq!(status.as_u16(), 404);
    assert!(world.origin.state.seen.lock().expect("a lock").is_empty());

    let recorded = std::fs::read_to_string(world.path("state/log/cassette.jsonl")).expect("a record");
    let recorded = Cassette::parse(&recorded).expect("a cassette");
    let turns: Vec<_> = recorded.turns.iter().map(|turn| (turn.after, turn.status, turn.content.len())).collect();
    assert_eq!(turns, [(Some(0), None, 2), (Some(0), None, 2), (Some(1), Some(529), 0)]);
}

#[tokio::test]
async fn a_missing_or_broken_cassette_is_said_and_tried_again() {
    let world = World::start(Setup { routes: MODEL, cassette: Some("turns: 1"), ..Setup::default() }).await;
    let (status, body) = refusal(world.send(ask(0, true)).await).await;
    assert_eq!(status.as_u16(), 400);
    assert!(body["error"]["message"].as_str().expect("a message").contains("failed to read the cassette"), "{body}");
    std::fs::write(world.path("state/replay/cassette"), CASSETTE).expect("a file");
    assert_eq!(world.send(ask(0, true)).await.status().as_u16(), 200);
}

#[tokio::test]
async fn a_live_stream_is_not_held_back_and_is_recorded() {
    let world = World::start(Setup { routes: MODEL, ..Setup::default() }).await;
    let mut response = world.send(ask(0, true)).await;
    let first = tokio::time::timeout(Duration::from_secs(5), response.body_mut().frame()).await;
    let first = first.expect("before the second is sent").expect("a frame").expect("whole");
    assert!(first.data_ref().expect("data").starts_with(b"event: ping"));
    world.origin.state.go_on.notify_one();
    let rest = response.into_body().collect().await.expect("a body").to_bytes();
    assert!(rest.ends_with(b"{\"type\":\"message_stop\"}\n\n"));
    world.log("egress.jsonl", 1).await;
    let recorded = std::fs::read_to_string(world.path("state/log/cassette.jsonl")).expect("a record");
    let turn = Cassette::parse(&recorded).expect("a cassette").turns.remove(0);
    assert_eq!(turn.content, [json!({ "type": "text", "text": "hi" })]);
    assert_eq!(turn.usage, Some(json!({ "input_tokens": 3, "output_tokens": 5 })));
    assert_eq!(
        (turn.after, turn.stop_reason.as_deref(), turn.model.as_deref()),
        (Some(0), Some("end_turn"), Some("claude-test"))
    );
}

/// Asks once and reads the reply to its end.
async fn turn(world: &World) -> (u16, String) {
    world.origin.state.go_on.notify_one();
    let response = world.send(ask(0, true)).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn spent(world: &World) -> Vec<Entry> {
    let text = std::fs::read_to_string(world.path("state/log/budget.jsonl")).expect("a record");
    text.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect()
}

#[tokio::test]
async fn a_budget_is_told_of_when_little_is_left_and_kept_when_nothing_is() {
    // Each reply of the origin's has 8 tokens: two are 94%.
    let routes = format!("{MODEL}budget: {{ tokens: 17 }}\n");
    let mut world = World::start(Setup { routes: routes.leak(), ..Setup::default() }).await;
    for _ in 0..3 {
        assert_eq!(turn(&world).await.0, 200);
    }
    let bodies: Vec<String> = {
        let seen = world.origin.state.seen.lock().expect("a lock");
        seen.iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect()
    };
    let told = "claude-bottle: 16 of 17 tokens are spent";
    assert_eq!(bodies.iter().map(|body| body.contains(told)).collect::<Vec<_>>(), [false, false, true], "{bodies:?}");
    let (status, answer) = turn(&world).await;
    assert_eq!(status, 400);
    assert!(answer.contains(&format!("{REACHED}24 of 17 tokens are spent")), "{answer}");
    assert_eq!(world.origin.state.seen.lock().expect("a lock").len(), 3);
    assert_eq!(world.log("egress.jsonl", 4).await[3].reason.as_deref(), Some("budget"));
    let tokens = Tokens { input: 3, output: 5, ..Tokens::default() };
    assert!(spent(&world).iter().all(|entry| entry.tokens == tokens && !entry.estimated), "{:?}", spent(&world));
    // A new start forgets nothing.
    world.end(rustix::process::Signal::KILL);
    world.daemon("egress", "routes.yaml", "doors/egress.sock").await;
    assert_eq!(turn(&world).await.0, 400);
    // What can't be counted can't be asked for either.
    let (status, body) = refusal(world.send(request("POST", "/v1/messages/batches", "{}")).await).await;
    assert_eq!(status.as_u16(), 400, "{body}");
    assert_eq!(world.send(request("POST", "/v1/messages", "no JSON")).await.status().as_u16(), 400);
    assert_eq!(world.origin.state.seen.lock().expect("a lock").len(), 3);
}

#[tokio::test]
async fn dollars_are_counted_by_model_and_a_model_without_a_price_is_refused() {
    let routes = format!("{MODEL}budget: {{ cost_usd: 10 }}\n");
    let world = World::start(Setup { routes: routes.leak(), ..Setup::default() }).await;
    let (status, answer) = turn(&world).await;
    assert!(status == 400 && answer.contains("the model `claude-test` has no price"), "{answer}");
    assert!(world.origin.state.seen.lock().expect("a lock").is_empty());
    // A dollar a token.
    let routes = format!(
        "{MODEL}budget: {{ cost_usd: 10, prices: {{ claude-test: {{ input: 1000000, output: 1000000 }} }} }}\n"
    );
    let world = World::start(Setup { routes: routes.leak(), ..Setup::default() }).await;
    assert_eq!((turn(&world).await.0, turn(&world).await.0), (200, 200));
    let (status, answer) = turn(&world).await;
    assert!(status == 400 && answer.contains("16.00 of 10 US dollars"), "{answer}");
    assert_eq!(spent(&world).iter().filter_map(|entry| entry.cost_usd).sum::<f64>(), 16.0);
}

#[tokio::test]
async fn a_reply_that_is_not_read_to_its_end_is_charged_all_the_same() {
    let routes = format!("{MODEL}budget: {{ requests: 1 }}\n");
    let world = World::start(Setup { routes: routes.leak(), ..Setup::default() }).await;
    let mut response = world.send(ask(0, true)).await;
    response.body_mut().frame().await.expect("a frame").expect("whole");
    drop(response);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while spent(&world).is_empty() {
        assert!(std::time::Instant::now() < deadline, "it was not charged");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(spent(&world)[0].estimated && spent(&world)[0].tokens.input > 0);
    assert_eq!(turn(&world).await.0, 400);
}

#[tokio::test]
async fn a_cassette_spends_tokens_but_no_dollars() {
    let routes = format!("{MODEL}budget: {{ tokens: 100000, requests: 2, cost_usd: 0.01 }}\n");
    let setup = Setup { routes: routes.leak(), cassette: Some(CASSETTE), ..Setup::default() };
    let world = World::start(setup).await;
    assert_eq!((turn(&world).await.0, turn(&world).await.0), (200, 200));
    let (status, answer) = turn(&world).await;
    assert!(status == 400 && answer.contains("2 of 2 requests"), "{answer}");
}

/// Waits until the origin has seen so many requests, and a little longer to see that there are no more.
async fn seen(world: &World, count: usize) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let now = || world.origin.state.seen.lock().expect("a lock").len();
    while now() < count {
        assert!(std::time::Instant::now() < deadline, "only {} of {count} requests came", now());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(now(), count);
}

#[tokio::test]
async fn many_at_once_spend_no_more_than_one_after_the_other() {
    let routes = format!("{MODEL}budget: {{ requests: 2 }}\n");
    let world = World::start(Setup { routes: routes.leak(), ..Setup::default() }).await;
    let one = || async {
        let response = world.send(ask(0, true)).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    let lead = async {
        // Two are under way, and two wait for them.
        seen(&world, 2).await;
        for _ in 0..2 {
            world.origin.state.go_on.notify_one();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (a, b, c, d, ()) = tokio::join!(one(), one(), one(), one(), lead);
    let answers = [a, b, c, d];
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 2, "{answers:?}");
    let refused: Vec<_> = answers.iter().filter(|(status, _)| *status == 400).collect();
    assert_eq!(refused.len(), 2, "{answers:?}");
    assert!(refused.iter().all(|(_, answer)| answer.contains("2 of 2 requests are spent")), "{refused:?}");
    seen(&world, 2).await;
}

#[tokio::test]
async fn one_that_could_be_too_much_beside_another_waits_for_its_end() {
    // Each reply of the origin's has 8 tokens; the request says that it may have 1,000.
    let routes = format!("{MODEL}budget: {{ tokens: 900 }}\n");
    let world = World::start(Setup { routes: routes.leak(), ..Setup::default() }).await;
    let body = json!({ "model": "claude-test", "stream": true, "max_tokens": 1000, "messages": [] }).to_string();
    let one = || async {
        let response = world.send(request("POST", "/v1/messages", body.clone())).await;
        let status = response.status().as_u16();
        drop(response.into_body().collect().await.expect("a body"));
        status
    };
    let lead = async {
        for count in 1..=3 {
            seen(&world, count).await;
            world.origin.state.go_on.notify_one();
        }
    };
    assert_eq!(tokio::join!(one(), one(), one(), lead), (200, 200, 200, ()));
    assert_eq!(spent(&world).len(), 3);
}
