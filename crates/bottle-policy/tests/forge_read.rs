//! What a guest may try at the door to a forge, and what of a forge's answers comes back: the cases of `forge_read.toml`, and what gh asks for.

use bottle_policy::forge_read::{ForgeReadJudge, ForgeReadRules, ForgeRefusal, ForgeRequest, Judged};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    method: Option<String>,
    target: Option<String>,
    accept: Option<String>,
    query: Option<String>,
    variables: Option<String>,
    operation: Option<String>,
    /// What is searched for.
    q: Option<String>,
    body: Option<String>,
    /// The target or the query as it goes.
    goes: Option<String>,
    /// The rule that refuses it.
    refused: Option<String>,
    /// The status of an answer.
    status: Option<u16>,
    #[serde(default)]
    has: Vec<String>,
    #[serde(default)]
    lacks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    rest: Vec<Case>,
    code: Vec<Case>,
    query: Vec<Case>,
    body: Vec<Case>,
    answer: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfGh {
    gh: Vec<Case>,
}

const RULES: &str = r#"{"api": "github", "base": "/api/v3", "repositories": ["o/r", "team/lib"], "trust": ["write", "bot", "@hubot"],
    "read": ["issues", "pull_requests", "checks", "logs", "releases", "contents"]}"#;

fn judge(rules: &str) -> ForgeReadJudge {
    let rules: ForgeReadRules = serde_json::from_str(rules).expect("rules");
    ForgeReadJudge::new(&rules).expect("rules that can be kept")
}

fn cases() -> Cases {
    toml::from_str(include_str!("forge_read.toml")).expect("cases")
}

impl Case {
    /// What a request of this case leads to; of an answer's case the request is what was asked for.
    fn asked(&self, judge: &ForgeReadJudge, body: Option<&str>) -> Result<Judged, ForgeRefusal> {
        let posted = match &self.query {
            Some(query) => {
                let variables: Value =
                    self.variables.as_ref().map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"));
                json!({ "query": query, "variables": variables, "operationName": self.operation }).to_string()
            }
            None => body.unwrap_or_default().to_owned(),
        };
        let own = if posted.is_empty() { "GET" } else { "POST" };
        let target = self.target.as_deref().unwrap_or("/api/graphql");
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let own = if self.target.is_some() && self.query.is_none() && !target.contains("raphql") { "GET" } else { own };
        judge.request(ForgeRequest {
            method: self.method.as_deref().unwrap_or(own),
            path,
            query,
            accept: self.accept.as_deref(),
            body: posted.as_bytes(),
        })
    }

    /// What is wrong with what came of it.
    fn wrong(&self, judged: &Result<Judged, ForgeRefusal>, goes: impl Fn(&Judged) -> String) -> Option<String> {
        let found = match judged {
            Ok(judged) => Ok(goes(judged)),
            Err(refusal) => Err(refusal.rule.word()),
        };
        let is_right = match &found {
            Ok(found) => self.goes.as_ref() == Some(found),
            Err(rule) => self.refused.as_deref() == Some(rule),
        };
        (!is_right).then(|| format!("{}: {found:?} {judged:?}", self.name))
    }
}

fn written_query(judged: &Judged) -> String {
    let body: Value = serde_json::from_slice(judged.body.as_ref().expect("a body")).expect("JSON");
    body["query"].as_str().expect("a query").to_owned()
}

fn posted(judge: &ForgeReadJudge, body: &str) -> Result<Judged, ForgeRefusal> {
    let (path, body) = ("/api/graphql", body.as_bytes());
    judge.request(ForgeRequest { method: "POST", path, query: None, accept: None, body })
}

/// A query that was written, without what the door asks for.
fn without_own(query: &str) -> String {
    let own = [
        " bottleAuthor:author{__typename login}",
        " bottleAssociation:authorAssociation",
        " bottleRepository:repository{nameWithOwner}",
    ];
    own.iter().fold(query.to_owned(), |query, own| query.replace(own, ""))
}

/// Pieces of documents that are none more often than not.
fn pieces() -> impl Strategy<Value = String> {
    let pieces = [
        "id ",
        "name ",
        "issue(number: 1) { title body } ",
        "i: issues(first: 2) { nodes { title } } ",
        "...on Repository { id } ",
        "pullRequest(number: $n) { author { login } } ",
        "{",
        "}",
        "(",
        ")",
        "...",
        "on ",
        "Issue",
        "PullRequest ",
        "query ",
        "mutation ",
        "fragment a on Query ",
        "...a ",
        "repository",
        "(owner: \"o\", name: \"r\")",
        "issue(number: 1)",
        "issues(first: 2)",
        "nodes",
        "title ",
        "body ",
        "author",
        "login ",
        "viewer ",
        "x: ",
        "$n",
        ": Int = 3",
        "@skip(if: true)",
        "\"",
        "\"\"\"",
        "\\u0041",
        "#\n",
        "\u{feff}",
        ",",
        "rateLimit { cost } ",
        "search(type: ISSUE, query: \"repo:o/r\", first: 1)",
        "node(id: \"I\")",
        "-1",
        "1e999",
        "[",
        "]",
        "null ",
    ];
    proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn whatever_is_asked_is_refused_or_can_be_asked_again(query in pieces(), wrapped in any::<bool>()) {
        let judge = judge(RULES);
        let query = if wrapped { format!("{{ repository(owner: \"o\", name: \"r\") {{ {query} }} }}") } else { query };
        if let Ok(judged) = posted(&judge, &json!({ "query": query, "variables": {"n": 2} }).to_string()) {
            let written = written_query(&judged);
            prop_assert!(!written.contains("viewer") && !written.contains("mutation") && written.starts_with("query"));
            let again = posted(&judge, &json!({ "query": without_own(&written), "variables": {"n": 2} }).to_string());
            prop_assert_eq!(again.map(|judged| written_query(&judged)), Ok(written));
        }
    }

    #[test]
    fn whatever_path_is_asked_for_stays_in_its_repository(path in "[a-z0-9/%.;:#*~-]{0,40}", query in "[a-z=&%0-9+]{0,20}") {
        let judge = judge(RULES);
        for path in [format!("/api/v3/repos/o/r/{path}"), format!("/api/v3/{path}"), path] {
            let request = ForgeRequest { method: "GET", path: &path, query: Some(&query), accept: None, body: b"" };
            if let Ok(judged) = judge.request(request) {
                let target = judged.target.split('?').next().unwrap_or_default();
                let rest = target.strip_prefix("/api/v3/").expect("the API");
                let is_general = ["", "rate_limit", "version", "meta"].contains(&rest);
                let is_named = rest == "repos/o/r" || rest.starts_with("repos/o/r/") || rest.starts_with("repos/team/lib");
                prop_assert!(is_general || is_named, "{}", judged.target);
                prop_assert!(!rest.split('/').any(|part| matches!(part, "." | "..") || (part.is_empty() && !rest.is_empty())));
            }
        }
    }
}

#[test]
fn each_request_is_judged() {
    let (judge, cases) = (judge(RULES), cases());
    let rest = cases
        .rest
        .iter()
        .filter_map(|case| case.wrong(&case.asked(&judge, case.body.as_deref()), |judged| judged.target.clone()));
    let queries = cases.query.iter().chain(&cases.body);
    let queries = queries.filter_map(|case| case.wrong(&case.asked(&judge, case.body.as_deref()), written_query));
    let wrong: Vec<String> = rest.chain(queries).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.rest.len() >= 35 && cases.query.len() >= 50 && cases.body.len() >= 10);
}

#[test]
fn a_search_stays_in_its_repositories() {
    let judge = judge(&RULES.replace(r#""contents""#, r#""contents", "code_search""#));
    let mut wrong = vec![];
    for case in cases().code {
        let q = case.q.as_deref().expect("a search");
        let q: String = q.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let (query, accept) = (format!("q={q}"), None);
        let request =
            ForgeRequest { method: "GET", path: "/api/v3/search/code", query: Some(&query), accept, body: b"" };
        let read = |judged: &Judged| {
            let text = judged.target.strip_prefix("/api/v3/search/code?q=").expect("a search");
            percent_encoding::percent_decode_str(text).decode_utf8().expect("text").into_owned()
        };
        wrong.extend(case.wrong(&judge.request(request), read));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let request = ForgeRequest {
        method: "GET",
        path: "/api/v3/search/code",
        query: Some("q=x+repo%3Ao/r"),
        accept: None,
        body: b"",
    };
    let judged = judge.request(request).expect("a search");
    let found = |name: &str| format!(r#"{{"items":[{{"path":"x","repository":{{"full_name":"{name}"}}}}]}}"#);
    assert!(judge.answer(&judged, true, found("O/R").as_bytes()).is_ok());
    assert!(judge.answer(&judged, true, found("o/secret").as_bytes()).is_err());
}

#[test]
fn each_answer_is_judged() {
    let (judge, cases) = (judge(RULES), cases());
    let mut wrong = vec![];
    for case in &cases.answer {
        let judged = case.asked(&judge, None).expect(&case.name);
        let body = case.body.as_deref().expect("an answer");
        let is_success = case.status.is_none_or(|status| status < 300);
        match judge.answer(&judged, is_success, body.as_bytes()) {
            Ok(told) => {
                let told = String::from_utf8(told).expect("text");
                // As a reader of JSON has it.
                let plain = told.replace("\\n", "\n");
                let has = |part: &&String| told.contains(part.as_str()) || plain.contains(part.as_str());
                let lacks: Vec<_> = case.has.iter().filter(|part| !has(part)).collect();
                let has: Vec<_> = case.lacks.iter().filter(has).collect();
                if case.refused.is_some() || !lacks.is_empty() || !has.is_empty() {
                    wrong.push(format!("{}: {told}", case.name));
                }
            }
            Err(refusal) if case.refused.as_deref() == Some(refusal.rule.word()) => {}
            Err(refusal) => wrong.push(format!("{}: {refusal:?}", case.name)),
        }
    }
    assert!(wrong.is_empty() && cases.answer.len() >= 20, "{}", wrong.join("\n"));
}

#[test]
fn what_gh_asks_for_goes_and_can_be_asked_again() {
    let cases: OfGh = toml::from_str(include_str!("forge_read_gh.toml")).expect("cases");
    let judge = judge(RULES);
    assert!(cases.gh.len() >= 25);
    for case in &cases.gh {
        let judged = case.asked(&judge, None).unwrap_or_else(|refusal| panic!("{}: {refusal:?}", case.name));
        let Some(body) = &judged.body else { continue };
        let body: Value = serde_json::from_slice(body).expect("JSON");
        let query = body["query"].as_str().expect("a query");
        graphql_parser::parse_query::<&str>(query).unwrap_or_else(|error| panic!("{}: {query}: {error}", case.name));
        // It is judged as the first one was, but for the door's own names, and is written the same.
        let again = json!({ "query": without_own(query), "variables": body["variables"] }).to_string();
        let again = posted(&judge, &again).unwrap_or_else(|refusal| panic!("{}: {refusal:?}", case.name));
        assert_eq!(written_query(&again), query, "{}", case.name);
        for name in body["variables"].as_object().expect("variables").keys() {
            assert!(query.contains(&format!("${name}: ")), "{}: {name} is not declared in {query}", case.name);
        }
    }
}

#[test]
fn nothing_that_is_deep_or_large_is_followed() {
    let judge = judge(RULES);
    let ask = |query: &str| {
        let body = json!({ "query": query }).to_string();
        let request =
            ForgeRequest { method: "POST", path: "/api/graphql", query: None, accept: None, body: body.as_bytes() };
        judge.request(request).map_err(|refusal| refusal.rule.word())
    };
    assert_eq!(ask(&"{a".repeat(10_000)), Err("cost"));
    assert_eq!(ask(&"[".repeat(60_000)), Err("cost"));
    assert_eq!(ask(&format!("{{ repository(owner: \"o\", name: {}) {{ id }} }}", "[".repeat(60))), Err("cost"));
    let deep = format!("{}{{rateLimit{{cost}}}}{}", "{...".repeat(40), "}".repeat(40));
    assert_eq!(ask(&deep), Err("cost"));
    assert_eq!(ask(&format!("{{ rateLimit {{ cost }} }} #{}", "x".repeat(70_000))), Err("body"));
    assert_eq!(ask(&format!("{{ rateLimit {{ {} }} }}", "cost ".repeat(1200))), Err("cost"));
    assert_eq!(
        judge
            .request(ForgeRequest {
                method: "POST",
                path: "/api/graphql",
                query: None,
                accept: None,
                body: &b"[".repeat(60_000)
            })
            .expect_err("deep")
            .rule
            .word(),
        "body"
    );
}

#[test]
fn a_kind_that_is_not_named_is_not_read_by_any_way() {
    let judge = judge(r#"{"api": "github", "repositories": ["o/r"], "trust": [], "read": ["issues"]}"#);
    let ask = |field: &str| {
        let body = json!({ "query": format!("{{ repository(owner: \"o\", name: \"r\") {{ {field} }} }}") }).to_string();
        let request =
            ForgeRequest { method: "POST", path: "/graphql", query: None, accept: None, body: body.as_bytes() };
        judge.request(request).map(|_| ()).map_err(|refusal| refusal.rule.word())
    };
    assert_eq!(ask("issue(number: 1) { title comments(first: 9) { nodes { body } } }"), Ok(()));
    for field in [
        "pullRequest(number: 1) { title }",
        "pullRequests(first: 1) { nodes { title } }",
        "issueOrPullRequest(number: 1) { ... on PullRequest { title } }",
        "release(tagName: \"v1\") { name }",
        "object(expression: \"HEAD:x\") { ... on Blob { text } }",
        "ref(qualifiedName: \"x\") { target { ... on Commit { message } } }",
    ] {
        assert_eq!(ask(field), Err("kind"), "{field}");
    }
}

#[test]
fn rules_that_name_nothing_or_nobody_are_refused() {
    for (rules, says) in [
        (
            r#"{"api": "github", "repositories": [], "trust": [], "read": ["issues"]}"#,
            "repositories: nothing could be read",
        ),
        (r#"{"api": "github", "repositories": ["o/r"], "trust": [], "read": []}"#, "read: nothing could be read"),
        (
            r#"{"api": "gitea", "base": "/api/v1", "repositories": ["o/r"], "trust": ["write"], "read": ["issues"]}"#,
            "trust: Gitea's answers don't say who is `write`",
        ),
        (
            r#"{"api": "gitea", "base": "/api/v1", "repositories": ["o/r"], "trust": [], "read": ["code_search"]}"#,
            "read: Gitea's API has no search in code",
        ),
        (
            r#"{"api": "github", "base": "/a/../b", "repositories": ["o/r"], "trust": [], "read": ["issues"]}"#,
            "base: `/a/../b` is not a plain path",
        ),
    ] {
        let rules: ForgeReadRules = serde_json::from_str(rules).expect("rules");
        let error = ForgeReadJudge::new(&rules).expect_err(says);
        assert!(error.starts_with(says), "{error}");
    }
    for text in ["o", "o/", "/r", "o/r/x", "../r", "o/..", "o r/x", "o/r%2f"] {
        assert!(bottle_policy::forge_read::RepositoryName::parse(text).is_err(), "{text}");
    }
    for text in ["read", "@", "@a b", "mona", "WRITE", "@x/y"] {
        assert!(bottle_policy::forge_read::TrustedAuthor::try_from(text.to_owned()).is_err(), "{text}");
    }
}

#[test]
fn pages_are_of_the_same_path() {
    let judge = judge(RULES);
    let request =
        ForgeRequest { method: "GET", path: "/api/v3/repos/o/r/issues", query: None, accept: None, body: b"" };
    let judged = judge.request(request).expect("a list");
    let link = r#"<https://api.example/repositories/12/issues?page=2&per_page=30>; rel="next", <https://evil.example/?page=9>; rel="last", <https://x.example/?sudo=a>; rel="prev", <https://x.example/?page=1>; rel="evil""#;
    assert_eq!(
        judged.pages(link, "https://api.example").as_deref(),
        Some(
            r#"<https://api.example/api/v3/repos/o/r/issues?page=2&per_page=30>; rel="next", <https://api.example/api/v3/repos/o/r/issues?page=9>; rel="last""#
        )
    );
    assert_eq!(judged.pages("<broken", "https://api.example"), None);
}
