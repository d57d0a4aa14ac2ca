//! The ways that most bytes, requests and runs go, each as a program whose instructions can be counted: `scripts/bench instructions` holds
//! the counts against what was written down, and `scripts/bench all` draws how they grow.
//!
//! `hotpaths list` names them, with the work of one turn; `hotpaths features` says which of the processor's features code is chosen by;
//! `hotpaths PATH TURNS [SIZE]` makes the input, and goes the way so many times. All input is made here, of fixed seeds, and every outcome is
//! checked: two counts that differ by their turns alone differ by the turns' instructions.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark reads its arguments and prints")]

use std::error::Error;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_policy::conditions::Details;
use bottle_policy::forge_read::{ForgeReadJudge, ForgeReadRules, ForgeRequest};
use bottle_policy::gate::commits::{CommitJudge, CommitRules};
use bottle_policy::gate::signing::GitIdentity;
use bottle_policy::matcher::{Matcher, Target};
use bottle_policy::mcp::{McpJudge, McpRules};
use bottle_policy::route::{Route, RoutesPolicy, Scheme};
use bottle_scan::dlp::{Head, Mode, Rules, Scope, Search, Stream, head};
use bottle_scan::known::KnownSecrets;
use bottle_scan::texts::Unpacker;
use bottle_testkit::SplitMix64;
use bottle_types::host::{HostName, HostPattern};
use bottle_types::secret::{Secret, SecretName};
use bottle_wire::proposal::record::{Chain, Event};
use bottle_wire::proposal::{ProposalId, sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Goes the way once, and gives something of the outcome.
type Turn = Box<dyn FnMut() -> Result<usize>>;

struct HotPath {
    name: &'static str,
    /// What a size counts.
    unit: &'static str,
    size: usize,
    /// Turns to count: so many that what differs from run to run is nothing beside them.
    turns: usize,
    prepare: fn(usize) -> Result<Turn>,
}

const PATHS: [HotPath; 13] = [
    HotPath { name: "scan-source", unit: "bytes", size: 128 << 10, turns: 2, prepare: |size| scan(source(size)) },
    HotPath { name: "scan-json", unit: "bytes", size: 128 << 10, turns: 2, prepare: |size| scan(conversation(size)) },
    HotPath { name: "scan-minified", unit: "bytes", size: 128 << 10, turns: 2, prepare: |size| scan(minified(size)) },
    HotPath { name: "scan-base64", unit: "bytes", size: 128 << 10, turns: 2, prepare: |size| scan(packed(size)) },
    HotPath { name: "known-secrets", unit: "bytes a chunk", size: 4 << 10, turns: 4, prepare: known_secrets },
    HotPath { name: "request-head", unit: "heads", size: 100, turns: 1, prepare: request_heads },
    HotPath { name: "route-100", unit: "routes", size: 100, turns: 200, prepare: routes },
    HotPath { name: "route-10000", unit: "routes", size: 10_000, turns: 10, prepare: routes },
    HotPath { name: "gate-objects", unit: "files", size: 50, turns: 2, prepare: gate_objects },
    HotPath { name: "gate-commits", unit: "commits", size: 1_000, turns: 1, prepare: gate_commits },
    HotPath { name: "record-chain", unit: "events", size: 1_000, turns: 1, prepare: record_chain },
    HotPath { name: "mcp-message", unit: "messages", size: 100, turns: 4, prepare: mcp_messages },
    HotPath { name: "forge-graphql", unit: "documents", size: 20, turns: 4, prepare: forge_graphql },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            for HotPath { name, unit, size, turns, .. } in PATHS {
                println!("{}", serde_json::json!({ "name": name, "unit": unit, "size": size, "turns": turns }));
            }
        }
        ["features"] => println!("{}", features().join(" ")),
        [name, turns] => go(name, turns, None)?,
        [name, turns, size] => go(name, turns, Some(size.parse()?))?,
        _ => return Err("expected `list`, `features`, or a path, its turns and perhaps its size".into()),
    }
    Ok(())
}

fn go(name: &str, turns: &str, size: Option<usize>) -> Result<()> {
    let path = PATHS.iter().find(|path| path.name == name).ok_or_else(|| format!("no path is called {name}"))?;
    let mut turn = (path.prepare)(size.unwrap_or(path.size))?;
    let mut outcome = 0;
    for _ in 0..turns.parse::<usize>()? {
        outcome = std::hint::black_box(turn())?;
    }
    println!("{outcome}");
    Ok(())
}

/// Those that memchr, aho-corasick, SHA-2 and the scanner itself choose code by.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let all = [
        ("ssse3", std::is_x86_feature_detected!("ssse3")),
        ("sse4.2", std::is_x86_feature_detected!("sse4.2")),
        ("pclmulqdq", std::is_x86_feature_detected!("pclmulqdq")),
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("bmi2", std::is_x86_feature_detected!("bmi2")),
        ("sha", std::is_x86_feature_detected!("sha")),
        ("avx512bw", std::is_x86_feature_detected!("avx512bw")),
    ];
    #[cfg(target_arch = "aarch64")]
    let all = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("crc", std::arch::is_aarch64_feature_detected!("crc")),
        ("sha2", std::arch::is_aarch64_feature_detected!("sha2")),
    ];
    all.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)).collect()
}

const WORDS: [&str; 32] = [
    "alpha", "buffer", "cache", "daemon", "error", "field", "guard", "handle", "index", "joiner", "kernel", "layer",
    "module", "number", "object", "parser", "queue", "reader", "socket", "table", "update", "value", "window", "yield",
    "branch", "commit", "merge", "vector", "string", "result", "option", "config",
];

fn word(random: &mut SplitMix64) -> &'static str {
    random.pick::<&str>(&WORDS)
}

/// Lines as people write code.
fn source(bytes: usize) -> Vec<u8> {
    source_of(&mut SplitMix64(7), bytes)
}

fn source_of(random: &mut SplitMix64, bytes: usize) -> Vec<u8> {
    let mut out = String::new();
    while out.len() < bytes {
        let [one, two, three, four] = std::array::from_fn(|_| word(random));
        let number = random.below(10_000);
        // A text takes what is written; it can't fail.
        let _ = match random.below(6) {
            0 => writeln!(out, "/// Gives the {one} of a {two}, where the {three} has one."),
            1 => writeln!(out, "pub fn {one}_{two}({three}: &str, {four}: usize) -> Option<{number}> {{"),
            2 => writeln!(out, "    let {one} = {two}.{three}(\"{four} {number}\")?;"),
            3 => writeln!(out, "    if {one}.len() > {number} && !{two}.is_{three}() {{ return None; }}"),
            4 => writeln!(out, "    for {one} in &{two}.{three} {{ {four}.push({one}); }}"),
            _ => writeln!(out, "}}\n"),
        };
    }
    out.truncate(bytes);
    out.into_bytes()
}

/// What a session sends to the model: a long JSON with texts in it.
fn conversation(bytes: usize) -> Vec<u8> {
    let text = String::from_utf8_lossy(&source(bytes)).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let messages: Vec<_> =
        lines.chunks(60).map(|lines| serde_json::json!({ "role": "user", "content": lines.join("\n") })).collect();
    let mut all = serde_json::json!({ "model": "a-model", "messages": messages }).to_string().into_bytes();
    all.truncate(bytes);
    all
}

/// One line of JavaScript without a blank.
fn minified(bytes: usize) -> Vec<u8> {
    let mut random = SplitMix64(11);
    let mut out = String::new();
    let letter = |random: &mut SplitMix64| char::from(b"abcdefghijklmnopqrstuvwxyz"[index(random, 26)]);
    while out.len() < bytes {
        let [one, two, three] = std::array::from_fn(|_| letter(&mut random));
        let [name, other] = std::array::from_fn(|_| word(&mut random));
        let number = random.below(1_000);
        let _ = match random.below(4) {
            0 => {
                write!(out, "function {one}({two},{three}){{var e={two}.{name}({three});return e?e.{other}:{number}}}")
            }
            1 => write!(out, "{one}.{name}=function({two}){{return\"{other}\"+{two}.{name}[{number}]}},"),
            2 => write!(out, "!{one}&&({two}={three}(\"{name}-{other}\",{{{name}:!0,{other}:{number}}}));"),
            _ => write!(out, "case {number}:{one}.{name}({two}>>>3&{number}^{three});break;"),
        };
    }
    out.truncate(bytes);
    out.into_bytes()
}

/// Noise in base64, so many characters.
fn packed(bytes: usize) -> Vec<u8> {
    let mut random = SplitMix64(42);
    let noise: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    let mut text = STANDARD.encode(noise).into_bytes();
    text.truncate(bytes);
    text
}

fn index(random: &mut SplitMix64, end: usize) -> usize {
    // The end is an index, so what is below it is one too.
    usize::try_from(random.below(end as u64)).unwrap_or_default()
}

fn secrets() -> Result<KnownSecrets> {
    let secret = |index: usize| {
        let value = sha256(&format!("secret {index}"))[..40].to_owned();
        Ok((SecretName::parse(&format!("KEY_{index}"))?, Secret::new(value.into_bytes())))
    };
    Ok(KnownSecrets::new(&(0..4).map(secret).collect::<Result<Vec<_>>>()?)?)
}

/// A body through the doors: rules, known secrets and all forms.
fn scan(input: Vec<u8>) -> Result<Turn> {
    let (known, rules) = (secrets()?, Rules::builtin()?);
    Ok(Box::new(move || stream(Search { known: &known, rules: Some((&rules, Scope::All)) }, &input, 64 << 10)))
}

fn stream(search: Search<'_>, input: &[u8], chunk: usize) -> Result<usize> {
    let found = |finding| format!("found what is not there: {finding:?}");
    let mut stream = Stream::default();
    let mut out = 0;
    for chunk in input.chunks(chunk) {
        out += stream.push(search, chunk, Mode::Block).map_err(found)?.len();
    }
    out += stream.finish(search, Mode::Block).map_err(found)?.len();
    if out == input.len() { Ok(out) } else { Err(format!("{out} bytes came of {}", input.len()).into()) }
}

/// The known secrets alone, in a body that comes in chunks of this size.
fn known_secrets(chunk: usize) -> Result<Turn> {
    let (known, input) = (secrets()?, source(128 << 10));
    Ok(Box::new(move || stream(Search { known: &known, rules: None }, &input, chunk)))
}

/// A request's line and headers, searched as pipelock does.
fn request_heads(count: usize) -> Result<Turn> {
    let (known, rules) = (secrets()?, Rules::builtin()?);
    Ok(Box::new(move || {
        let search = Search { known: &known, rules: Some((&rules, Scope::All)) };
        for number in 0..count {
            let target = format!("/v1/repos/octo-org/app/pulls/{number}/comments?per_page=100&sort=created");
            let length = number.to_string();
            let headers: [(&str, &[u8]); 9] = [
                ("accept", b"application/json, text/plain;q=0.9, */*;q=0.8"),
                ("accept-encoding", b"gzip, deflate, br"),
                ("accept-language", b"en-US,en;q=0.9"),
                ("user-agent", b"example-client/2.3.1 (linux; x86_64) node/22.4.0"),
                ("content-type", b"application/json"),
                ("content-length", length.as_bytes()),
                ("x-request-id", b"req-000-example"),
                ("cache-control", b"no-cache"),
                ("if-none-match", b"\"W/an-etag\""),
            ];
            if let Some(found) = head(search, Head { target: &target, host: "api.example.org", headers: &headers }) {
                return Err(format!("found what is not there: {found:?}").into());
            }
        }
        Ok(count)
    }))
}

/// Two requests: one that the last of so many routes allows, and one that none does.
fn routes(count: usize) -> Result<Turn> {
    let route = |number: usize| {
        let host = HostPattern::parse(&format!("h{number}.example.org"))?;
        Ok(Route::plain(host, &["GET", "POST"], &["/v1/**"]))
    };
    let routes = (0..count).map(route).collect::<Result<Vec<_>>>()?;
    let matcher = Matcher::new(&RoutesPolicy { version: 1, routes, ..RoutesPolicy::default() })?;
    let (last, none) = (HostName::parse(&format!("h{}.example.org", count - 1))?, HostName::parse("h.example.net")?);
    Ok(Box::new(move || {
        let ask = |host| {
            let details = Details { query: "page=2", headers: &[("accept", b"*/*")], websocket: false };
            let path = "/v1/projects/42/issues";
            matcher.decide(Target { scheme: Scheme::Https, host, port: 443, method: "GET", path, details })
        };
        match (ask(&last), ask(&none)) {
            (Ok(index), Err(_)) if index == count - 1 => Ok(index),
            other => Err(format!("judged otherwise: {other:?}").into()),
        }
    }))
}

/// The files of a push, as the gate looks at each and at what it says in other forms.
fn gate_objects(count: usize) -> Result<Turn> {
    let (known, rules) = (secrets()?, Rules::builtin()?);
    let mut random = SplitMix64(3);
    let files: Vec<Vec<u8>> = (0..count)
        .map(|number| match number % 16 {
            7 => packed(1 << 10),
            11 => conversation(2 << 10),
            15 => minified(2 << 10),
            _ => source_of(&mut random, 2 << 10),
        })
        .collect();
    Ok(Box::new(move || {
        let mut looks = 0;
        let mut look = |bytes: &[u8]| {
            looks += 1;
            known.find(bytes).is_some() || !rules.find_all(bytes, Scope::All, 1_000).is_empty()
        };
        let mut unpacker = Unpacker::new(512 << 20);
        for file in &files {
            let mut found = look(file);
            unpacker.unpack(file, &mut |derived| found |= look(&derived.bytes))?;
            if found {
                return Err("found what is not there".into());
            }
        }
        Ok(looks)
    }))
}

/// So many commits of a push, each against all rules.
fn gate_commits(count: usize) -> Result<Turn> {
    let identity = |name: &str, email: &str| GitIdentity { name: name.to_owned(), email: email.to_owned() };
    let rules = CommitRules {
        authors: vec!["*@example.org".to_owned()],
        own: Some(identity("Work Bot", "work@bottle.test")),
        message: Some("conventional".to_owned()),
        sign_off: true,
        co_authored_by: Some(identity("ada", "ada@users.example.org")),
        run: Some("issue-7-sizes".to_owned()),
    };
    let mut random = SplitMix64(5);
    let commits: Vec<(String, Vec<u8>)> = (0..count)
        .map(|number| {
            let id = sha256(&number.to_string())[..40].to_owned();
            let text = format!(
                "tree {id}\nparent {id}\nauthor Work Bot <work@bottle.test> {time} +0000\n\
                 committer Work Bot <work@bottle.test> {time} +0000\n\nfix({}): change the {} of {number}\n\n\
                 The {} had none.\n\nSigned-off-by: Work Bot <work@bottle.test>\n\
                 Co-authored-by: ada <ada@users.example.org>\nRun: issue-7-sizes\n",
                word(&mut random),
                word(&mut random),
                word(&mut random),
                time = 1_700_000_000 + number,
            );
            (id, text.into_bytes())
        })
        .collect();
    Ok(Box::new(move || {
        let judge = CommitJudge::new(&rules)?;
        for (id, raw) in &commits {
            let broken = judge.commit(id, raw);
            if !broken.is_empty() {
                return Err(format!("judged otherwise: {broken:?}").into());
            }
        }
        Ok(commits.len())
    }))
}

/// The proposals' file of so many events, written and read again with each line's hash.
fn record_chain(events: usize) -> Result<Turn> {
    Ok(Box::new(move || {
        let (mut chain, mut file, mut id) = (Chain::new("run-1"), String::new(), ProposalId::FIRST);
        for number in 0..events {
            let said = format!("Step {number}: the tests of `parser` pass, the module is \"done\".");
            let (_, line, next) = chain.append("2026-11-23T10:00:00Z".to_owned(), Event::Noted { id, line: said });
            file.push_str(&line);
            (chain, id) = (next, id.next());
        }
        let (records, end) = Chain::read("run-1", &file)?;
        if end == chain { Ok(records.len()) } else { Err("another end".into()) }
    }))
}

/// Calls of a tool, judged and written anew.
fn mcp_messages(count: usize) -> Result<Turn> {
    let rules: McpRules = serde_json::from_value(serde_json::json!({
        "server": "notes",
        "tools": { "allow": ["read_note", "find"], "arguments": { "find": { "repo": "team/*", "text": "*", "limit?": "*" } } },
    }))?;
    let judge = McpJudge::new(&rules)?;
    let text = String::from_utf8_lossy(&source(600)).into_owned();
    let body = |id: usize| {
        let arguments = serde_json::json!({ "repo": "team/app", "text": text, "limit": id });
        let params = serde_json::json!({ "name": "find", "arguments": arguments });
        serde_json::json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string()
    };
    let bodies: Vec<String> = (0..count).map(body).collect();
    Ok(Box::new(move || {
        let sizes = bodies.iter().map(|body| Ok(judge.request(body.as_bytes())?.body.len()));
        Ok(sizes.collect::<Result<Vec<_>>>()?.iter().sum())
    }))
}

/// `gh pr list`, as gh 2.60 asks.
const QUERY: &str = "fragment pr on PullRequest{number,title,state,url,headRefName,headRepositoryOwner{id,login,...on User{name}},\
isCrossRepository,isDraft,createdAt}\nquery PullRequestList($owner: String!,$repo: String!,$limit: Int!,$endCursor: String,\
$baseBranch: String,$headBranch: String,$state: [PullRequestState!] = OPEN) {\nrepository(owner: $owner, name: $repo) {\n\
pullRequests(states: $state,baseRefName: $baseBranch,headRefName: $headBranch,first: $limit,after: $endCursor,\
orderBy: {field: CREATED_AT, direction: DESC}) {\ntotalCount\nnodes {\n...pr\n}\npageInfo {\nhasNextPage\nendCursor\n}\n}\n}\n}";

/// Queries of gh's at the door to a forge.
fn forge_graphql(count: usize) -> Result<Turn> {
    let rules: ForgeReadRules = serde_json::from_value(serde_json::json!({
        "api": "github", "repositories": ["o/r"], "read": ["issues", "pull_requests", "checks"], "trust": ["write"],
    }))?;
    let judge = ForgeReadJudge::new(&rules)?;
    let variables = serde_json::json!({ "owner": "o", "repo": "r", "limit": 30, "state": ["OPEN"] });
    let body = serde_json::json!({ "query": QUERY, "variables": variables }).to_string();
    Ok(Box::new(move || {
        let mut bytes = 0;
        for _ in 0..count {
            let request = ForgeRequest {
                method: "POST",
                path: "/graphql",
                query: None,
                accept: Some("application/json"),
                body: body.as_bytes(),
            };
            bytes += judge.request(request)?.body.ok_or("a query without a body")?.len();
        }
        Ok(bytes)
    }))
}
