//! The route by which a forge is read: what a guest may try at it, and what a forge may try with its answers, by the cases of `forge.toml`. What
//! stands in paths, queries and answers is judged by `bottle-policy`, and has its cases there.

use serde::Deserialize;

use crate::mcp::Server;
use crate::world::KEY;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "get")]
    method: String,
    target: String,
    #[serde(default)]
    headers: Vec<String>,
    /// A query's document, posted as JSON.
    query: Option<String>,
    body: Option<String>,
    /// What the forge answers with; of `kind` and `data`, where only they are given.
    answer: Option<String>,
    #[serde(default = "json_kind")]
    kind: String,
    #[serde(default = "nothing")]
    data: String,
    /// The status that the guest gets.
    status: u16,
    /// What the guest's answer has, and has not.
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    lacks: Vec<String>,
    /// What the forge's request has; none: no request reaches it.
    reaches: Option<Vec<String>>,
    #[serde(default)]
    without: Vec<String>,
    /// The reason in the record; none: it was allowed.
    record: Option<String>,
}

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

fn get() -> String {
    "GET".to_owned()
}

fn json_kind() -> String {
    "application/json; charset=utf-8".to_owned()
}

fn nothing() -> String {
    "{}".to_owned()
}

const ROUTES: &str = r#"
  - host: localhost
    port: PORT
    methods: [GET, HEAD, POST, PUT, PATCH, DELETE]
    paths: [/api/graphql, "/api/v3/**"]
    auth: { bearer: ANTHROPIC_API_KEY }
    forge:
      api: github
      base: /api/v3
      repositories: [o/r]
      read: [issues, pull_requests, logs]
      trust: [write]
"#;

impl Case {
    fn request(&self, host: &str) -> String {
        let target = self.target.replace("KEY", KEY);
        let mut head = format!("{} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", self.method);
        for header in &self.headers {
            head.push_str(&header.replace("KEY", KEY));
            head.push_str("\r\n");
        }
        let query = self.query.as_ref().map(|query| serde_json::json!({ "query": query }).to_string());
        if query.is_some() {
            head.push_str("Content-Type: application/json\r\n");
        }
        match query.or_else(|| self.body.clone()) {
            Some(body) => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
            None => format!("{head}\r\n"),
        }
    }

    fn answer(&self) -> String {
        let (kind, length, data) = (&self.kind, self.data.len(), &self.data);
        let own = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{data}"
        );
        self.answer.clone().unwrap_or(own)
    }
}

#[tokio::test]
async fn nothing_is_read_at_a_forge_or_comes_of_it_but_what_was_judged() {
    let cases: Cases = toml::from_str(include_str!("forge.toml")).expect("cases");
    assert!(cases.case.iter().filter(|case| case.record.is_some()).count() >= 30);
    let server = Server::start(ROUTES).await;
    let mut wrong = vec![];
    for (index, case) in cases.case.iter().enumerate() {
        let (told, seen) = server.ask(&case.request(&server.place), case.answer()).await;
        let log = server.world.log("egress.jsonl", index + 1).await;
        let mut say = |what: &str| wrong.push(format!("{}: {what}\n  {told}\n  {seen:?}", case.name));
        if !told.starts_with(&format!("HTTP/1.1 {}", case.status)) {
            say(&format!("not {}", case.status));
        }
        case.says.iter().filter(|part| !told.contains(*part)).for_each(|part| say(&format!("lacks {part}")));
        case.lacks.iter().filter(|part| told.contains(*part)).for_each(|part| say(&format!("has {part}")));
        if told.contains(KEY) {
            say("has the token");
        }
        match (&case.reaches, seen.as_slice()) {
            (None, []) => {}
            (Some(parts), [request]) => {
                let lacks = parts.iter().map(|part| part.replace("KEY", KEY)).find(|part| !request.contains(part));
                lacks.into_iter().for_each(|part| say(&format!("was sent without {part}")));
                let has = case.without.iter().find(|part| request.contains(*part));
                has.into_iter().for_each(|part| say(&format!("was sent with {part}")));
            }
            _ => say("another number of requests reached the forge"),
        }
        if log[index].reason != case.record {
            say(&format!("the record says {:?}", log[index].reason));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
