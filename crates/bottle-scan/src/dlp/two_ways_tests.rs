//! Whole requests are judged with the short cuts and without them: the same verdict, the same place, and the same bytes that go.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use bottle_testkit::SplitMix64;
use bottle_types::secret::{Secret, SecretName};
use serde::Deserialize;

use super::{DataKind, Finding, Head, Mode, Rules, Scope, Search, Stream, head, short_cuts};
use crate::known::KnownSecrets;
use make::{Secrets, render};

#[expect(unreachable_pub, dead_code, reason = "the escape suite makes requests of it, too")]
#[path = "../../tests/escape/make.rs"]
mod make;

/// The forms of the escape suite.
#[derive(Deserialize)]
struct Forms {
    form: Vec<Form>,
}

#[derive(Deserialize)]
struct Form {
    text: String,
}

/// What stands around.
const AROUND: [&str; 16] = [
    "the quick brown fox jumps over the lazy dog\n",
    "    if (limit > items.length) { return null; }\n",
    "{\"title\": \"a list\", \"count\": 3, \"of\": [\"a\", \"b\"]}\n",
    "für jede Größe eine Übung, 日本語の文章です。\n",
    "function a(b,c){var e=b.d(c);return e?e.f:17}",
    "[17, 4, 250, 99, 32, 101, 115, 61, 90, 113]\n",
    "a%20b%2Fc&d=%7B%22e%22%3A1%7D",
    "\\u0041\\n\\\"x\\\": \\\"y\\\"",
    "00000000: 6162 6364 6566 6768  abcdefgh\n",
    "\r\n--part\r\ncontent-type: text/plain\r\n\r\n",
    "    let total = sum(values) * 2.5; // 0x1f, 0b1011\n",
    "begin 644 a\n#0V%T\n`\nend\n",
    "\"one\" + \"two\", 'three' .. 'four'\n",
    "> quoted\n> and again\n",
    "password = ${{ secrets.A }}\n",
    "com.example.a-host.internal/v1/abcdef0123456789abcdef\n",
];

const HEADERS: [&str; 8] =
    ["accept", "user-agent", "content-type", "x-request-id", "cookie", "authorization", "if-none-match", "referer"];

/// What requests are made of, and what is looked for in them.
struct World {
    rules: Rules,
    known: KnownSecrets,
    /// Secrets in every form, things like secrets, and noise.
    parts: Vec<Vec<u8>>,
}

fn below(random: &mut SplitMix64, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).expect("an index")
}

fn letters(random: &mut SplitMix64, length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    (0..length).map(|_| char::from(*random.pick(LETTERS))).collect()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = SplitMix64(seed);
        let forms: Forms = toml::from_str(include_str!("../../tests/escape/forms.toml")).expect("forms");
        let values: Vec<String> = (0..1 + seed % 4)
            .map(|number| {
                let length = [9, 20, 40][below(&mut random, 3)];
                format!("Vq{number}-{}", letters(&mut random, length))
            })
            .collect();
        let named = |(number, value): (usize, &String)| {
            let name = SecretName::parse(&format!("KEY_{number}")).expect("a name");
            (name, Secret::new(value.clone().into_bytes()))
        };
        let known = KnownSecrets::new(&values.iter().enumerate().map(named).collect::<Vec<_>>()).expect("secrets");
        let mut parts: Vec<Vec<u8>> = vec![];
        for form in &forms.form {
            let token = ["ghp", &letters(&mut random, 36)].join("_");
            // One letter too few is no token, and another letter no secret.
            let value = random.pick(&values).clone();
            let near = [&value[..value.len() - 1], "_"].concat();
            for secret in [token.clone(), token[..39].to_owned(), value, near] {
                parts.push(render(
                    &form.text.replace("<<S>>", "<<T>>"),
                    &Secrets { token: secret, ..Secrets::harmless() },
                ));
            }
        }
        parts.retain(|part| part.len() < 20_000);
        let kinds = if seed.is_multiple_of(2) { BTreeSet::new() } else { BTreeSet::from(DataKind::ALL) };
        Self { rules: Rules::with(&[], &kinds, &[]).expect("rules"), known, parts }
    }

    /// Bytes, so many or some more.
    fn bytes(&self, random: &mut SplitMix64, length: usize) -> Vec<u8> {
        let mut out = vec![];
        while out.len() < length {
            match random.below(12) {
                0 => out.extend((0..below(random, 64)).map(|_| random.next().to_le_bytes()[0])),
                1 => {
                    let length = below(random, 200);
                    out.extend(letters(random, length).bytes());
                }
                2 | 3 => {
                    let mut part = random.pick::<Vec<u8>>(&self.parts).clone();
                    match (random.below(4), part.len()) {
                        (0, 1..) => {
                            let at = below(random, part.len());
                            part[at] = random.next().to_le_bytes()[0];
                        }
                        (1, 1..) => part.truncate(below(random, part.len())),
                        _ => {}
                    }
                    out.extend(part);
                }
                _ => out.extend_from_slice(random.pick::<&str>(&AROUND).as_bytes()),
            }
        }
        out
    }

    /// A request's verdict, and what of its body goes, as far as it goes.
    fn verdict(&self, request: &Request) -> Verdict {
        let search = Search { known: &self.known, rules: request.scope.map(|scope| (&self.rules, scope)) };
        let headers: Vec<(&str, &[u8])> =
            request.headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        let found = head(search, Head { target: &request.target, host: &request.host, headers: &headers });
        let (mut stream, mut gone, mut at) = (Stream::default(), vec![], 0);
        let mut cuts = SplitMix64(request.cuts);
        let mut refused = None;
        while at < request.body.len() && refused.is_none() {
            let end = request.body.len().min(at + 1 + below(&mut cuts, request.longest));
            match stream.push(search, &request.body[at..end], request.mode) {
                Ok(bytes) => gone.extend(bytes),
                Err(finding) => refused = Some(finding),
            }
            at = end;
        }
        if refused.is_none() {
            match stream.finish(search, request.mode) {
                Ok(bytes) => gone.extend(bytes),
                Err(finding) => refused = Some(finding),
            }
        }
        Verdict { head: found.map(|(finding, at)| format!("{finding:?} {at:?}")), refused, warned: stream.warned, gone }
    }
}

#[derive(Debug)]
struct Request {
    target: String,
    host: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
    scope: Option<Scope>,
    mode: Mode,
    longest: usize,
    cuts: u64,
}

#[derive(Debug, PartialEq)]
struct Verdict {
    head: Option<String>,
    refused: Option<Finding>,
    warned: Option<Finding>,
    gone: Vec<u8>,
}

fn request(world: &World, random: &mut SplitMix64) -> Request {
    let text = |bytes: Vec<u8>| -> String { String::from_utf8_lossy(&bytes).split_whitespace().collect() };
    let mut some = |most: usize| {
        let length = below(random, most);
        let mut bytes = world.bytes(random, length);
        bytes.truncate(400);
        bytes
    };
    let (path, query, host) = (text(some(40)), text(some(60)), text(some(12)));
    let headers = (0..some(9).len() % 9).map(|number| (HEADERS[number % HEADERS.len()], some(80))).collect();
    let most = match random.below(2_000) {
        0 => 80_000,
        1..=40 => 6_000,
        _ => 600,
    };
    let length = below(random, most);
    Request {
        target: format!("/v1/{path}?q={query}&page=2"),
        host: format!("{host}.example.org"),
        headers,
        body: world.bytes(random, length),
        scope: [None, Some(Scope::Model), Some(Scope::All), Some(Scope::All)][below(random, 4)],
        mode: [Mode::Block, Mode::Block, Mode::Warn, Mode::Redact][below(random, 4)],
        longest: [1, 30, 1_000, 50_000][below(random, 4)],
        cuts: random.next(),
    }
}

/// Sets of secrets, of rules and of parts.
const WORLDS: u64 = 8;

/// So many requests, in two threads, judged both ways: how many were refused, or had a finding.
fn judged_both_ways(count: u64) -> u64 {
    let worlds: Vec<World> = (0..WORLDS).map(World::new).collect();
    let (next, found) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let Some(world) = worlds.iter().cycle().nth(usize::try_from(seed % WORLDS).expect("an index"))
                    else {
                        break;
                    };
                    if seed >= count {
                        break;
                    }
                    let request = request(world, &mut SplitMix64(seed));
                    let quick = world.verdict(&request);
                    let slow = short_cuts::without(|| world.verdict(&request));
                    assert_eq!(quick, slow, "request {seed}: {request:?}");
                    let is_found = quick.head.is_some() || quick.refused.is_some() || quick.warned.is_some();
                    found.fetch_add(u64::from(is_found), Ordering::Relaxed);
                }
            });
        }
    });
    found.into_inner()
}

#[test]
fn requests_are_judged_the_same_without_short_cuts() {
    let found = judged_both_ways(3_000);
    assert!((500..2_500).contains(&found), "{found} of 3000 were found");
}

/// Two that the million had found: short lines of base64 behind `// `.
#[test]
fn requests_that_were_judged_otherwise_once_are_judged_the_same() {
    for seed in [303_871, 400_877] {
        let world = World::new(seed % WORLDS);
        let request = request(&world, &mut SplitMix64(seed));
        let slow = short_cuts::without(|| world.verdict(&request));
        assert_eq!(world.verdict(&request), slow, "request {seed}: {request:?}");
        assert!(slow.head.is_some(), "request {seed}: its secret is found");
    }
}

#[test]
#[ignore = "minutes: run by scripts/test --deep"]
fn a_million_requests_are_judged_the_same_without_short_cuts() {
    let found = judged_both_ways(1_000_000);
    assert!((170_000..830_000).contains(&found), "{found} of a million were found");
}
