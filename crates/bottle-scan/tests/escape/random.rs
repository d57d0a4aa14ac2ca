//! What is refused when it stands plain is refused in each form, behind and before other text of any length, and at each cut: by
//! chance, with a seed that a failure says. `ESCAPE_SEED` takes it again.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bottle_scan::dlp::{Mode, Rules, Scope, Search, Stream};
use bottle_scan::known::KnownSecrets;
use bottle_testkit::SplitMix64;
use bottle_types::secret::{Secret, SecretName};

use super::forms::{Form, Forms, Readers, made};

/// Letters and digits that can't be taken for each other. Of a list with hardly a digit nobody makes a secret, so there are some.
fn text(random: &mut SplitMix64, length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let text: String = (0..length).map(|_| char::from(*random.pick(LETTERS))).collect();
    if text.bytes().filter(u8::is_ascii_digit).count() < 3 { self::text(random, length) } else { text }
}

fn below(random: &mut SplitMix64, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).expect("an index")
}

/// What a text around a secret is made of: prose, code, a table, JSON, marks, other scripts.
const AROUND: &[&str] = &[
    "the quick brown fox jumps over the lazy dog",
    "    if (limit > items.length) { return null; }",
    "| name | since | what it is |",
    "{\"title\": \"a list\", \"count\": 3, \"of\": [\"a\", \"b\"]}",
    "# ---------------------------------------------------------",
    "für jede Größe eine Übung, 日本語の文章です。",
    "> quoted, and quoted again",
    "\tlet total = sum(values) * 2.5;",
    "<p class=\"note\">See <a href=\"/docs\">the docs</a>.</p>",
    "",
    "- one, two; three: four",
    "2026-05-04 12:00:01 INFO started in 35 ms",
];

/// Lines of text, so many bytes or a few more.
fn lines(random: &mut SplitMix64, length: usize) -> String {
    let mut out = String::new();
    while out.len() < length {
        let line = *random.pick(AROUND);
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// A length that is mostly short, and at times longer than what a scanner looks at in one go.
fn length(random: &mut SplitMix64) -> usize {
    let most = match random.below(24) {
        0 => 0,
        1..=4 => 60,
        5..=18 => 600,
        19..=22 => 6_000,
        _ => 70_000,
    };
    below(random, most + 1)
}

/// What a body in pieces of any size is refused for.
fn in_pieces(search: Search<'_>, body: &[u8], random: &mut SplitMix64) -> Option<String> {
    let (mut stream, mut at) = (Stream::packed(&[]), 0);
    let most = 1 + [8, 100, 5_000, 50_000][below(random, 4)].max(body.len() / 200);
    while at < body.len() {
        let end = body.len().min(at + 1 + below(random, most));
        if let Err(finding) = stream.push(search, &body[at..end], Mode::Block) {
            return Some(finding.rule.to_string());
        }
        at = end;
    }
    stream.finish(search, Mode::Block).err().map(|finding| finding.rule.to_string())
}

/// One body: what is wrong with it, if something is.
fn attempt(seed: u64, forms: &[&Form], rules: &Rules) -> Result<(), String> {
    let mut random = SplitMix64(seed);
    let form = *random.pick(forms);
    let (token, known) = (["ghp", &text(&mut random, 36)].join("_"), format!("Vq7-{}", text(&mut random, 20)));
    let is_token = random.below(2) == 0;
    let secret = if is_token { &token } else { &known };
    let name = SecretName::parse("ESCAPE_KEY").expect("a name");
    let known = KnownSecrets::new(&[(name, Secret::new(known.clone().into_bytes()))]).expect("a secret");
    let (before, behind) = (length(&mut random), length(&mut random));
    let (before, behind) = (lines(&mut random, before), lines(&mut random, behind));
    let around = |said: &[u8]| [before.as_bytes(), said, b"\n", behind.as_bytes()].concat();
    let readers = Readers::with(rules, &known);
    let expected = readers.door(&around(secret.as_bytes()));
    if expected.is_none() {
        return Err(format!("{seed}: {secret} isn't refused as it stands"));
    }
    let body = around(&made(form, secret));
    let search = Search { known: &known, rules: Some((rules, Scope::All)) };
    let wrong = |who: &str, found: Option<String>| {
        format!("{}, {who}: {found:?}, not {expected:?}, behind {} bytes: ESCAPE_SEED={seed}", form.name, before.len())
    };
    let found = [("gate", readers.gate(&body)), ("door", in_pieces(search, &body, &mut random))];
    let missed: Vec<String> =
        found.into_iter().filter(|(_, found)| found.is_none()).map(|(who, found)| wrong(who, found)).collect();
    if missed.is_empty() { Ok(()) } else { Err(missed.join("\n")) }
}

/// Tries so many, in two threads.
#[expect(clippy::disallowed_methods, reason = "a test takes its seed from the environment")]
fn attempts(count: u64) -> Vec<String> {
    let rules = Rules::builtin().expect("rules");
    let all: Forms = toml::from_str(include_str!("forms.toml")).expect("forms");
    // What has no mark of its own is read where a body begins, and nowhere else; escapes in UTF-16, in a file that is so as a whole.
    let is_of_all = |form: &Form| form.name.ends_with("-at-the-beginning") || form.name == "escapes-in-utf-16";
    let stands_anywhere = |form: &&Form| form.left_out.is_none() && !is_of_all(form);
    let forms: Vec<&Form> = all.form.iter().filter(stands_anywhere).collect();
    if let Ok(seed) = std::env::var("ESCAPE_SEED") {
        return attempt(seed.parse().expect("a number"), &forms, &rules).err().into_iter().collect();
    }
    let first = RandomState::new().build_hasher().finish();
    let (next, wrong) = (AtomicU64::new(0), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    wrong.lock().expect("a lock").extend(attempt(first.wrapping_add(number), &forms, &rules).err());
                }
            });
        }
    });
    wrong.into_inner().expect("a lock")
}

#[test]
fn what_is_refused_plain_is_refused_in_any_form() {
    let wrong = attempts(1_000);
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// A million texts through both decoders: half an hour.
#[test]
#[ignore = "minutes: run by scripts/test --deep"]
fn what_is_refused_plain_is_refused_in_any_form_a_million_times() {
    let wrong = attempts(1_000_000);
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
