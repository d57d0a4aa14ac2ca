//! Ways to cheat an approval: each case of `cheats.toml` is a comment below a proposal, and counts for nothing. The good
//! ones at its end show that the same comment without the trick does count.

#![expect(clippy::disallowed_methods, reason = "a test reads its cases")]

use std::fs;
use std::path::Path;

use bottle_plan::approval::{Answer, Bound, Code, Shown, Void, Written, judge};
use bottle_plan::moment::Moment;
use bottle_policy::proposal::ProposalId;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cheat: Vec<Case>,
    good: Vec<Case>,
}

/// What is not given is as in a good comment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// `CODE` is the right code; `CODE-run`, `-id`, `-nonce`, `-proposal` and `-policy` are those of a proposal that differs
    /// there alone.
    text: String,
    comment: Option<u64>,
    by: Option<i64>,
    #[serde(default)]
    bot: bool,
    #[serde(default)]
    reader: bool,
    /// `none` where the forge does not say.
    written: Option<String>,
    changed: Option<String>,
    /// Why it counts for nothing, or what it decides.
    says: String,
}

fn bound<'a>() -> Bound<'a> {
    Bound {
        run: "issue-7-implementer-1a2b",
        id: ProposalId::parse("P2").expect("an id"),
        nonce: "0f0e0d0c0b0a09080706050403020100",
        proposal: "5d41402abc4b2a76b9719d911017c592",
        policy: "7d793037a0760186574b0282f2f435e7",
    }
}

fn with_codes(text: &str) -> String {
    let good = bound();
    let others = [
        ("CODE-run", Bound { run: "issue-7-implementer-9z9z", ..good.clone() }),
        ("CODE-id", Bound { id: ProposalId::FIRST, ..good.clone() }),
        ("CODE-nonce", Bound { nonce: "1f0e0d0c0b0a09080706050403020100", ..good.clone() }),
        ("CODE-proposal", Bound { proposal: "6d41402abc4b2a76b9719d911017c592", ..good.clone() }),
        ("CODE-policy", Bound { policy: "8d793037a0760186574b0282f2f435e7", ..good.clone() }),
        // Where one part ends and the next begins counts too.
        (
            "CODE-shifted",
            Bound { nonce: "0f0e0d0c0b0a090807060504030201005", proposal: &good.proposal[1..], ..good.clone() },
        ),
    ];
    let code = Code::of(&good).to_string();
    let mut text = text.to_owned();
    for (name, bound) in others {
        let other = Code::of(&bound).to_string();
        assert_ne!(other, code, "{name}");
        text = text.replace(name, &other);
    }
    let half = &code[..6];
    text.replace("CODEHALF", half).replace("CODEUPPER", &code.to_uppercase()).replace("CODE", &code)
}

fn judged(case: &Case) -> Result<Answer, Void> {
    let at = "2026-11-20T10:00:00Z";
    let shown = Shown {
        id: bound().id,
        code: Code::of(&bound()),
        comment: 500,
        us: 41_898_282,
        at: Moment::parse(at).expect("a moment"),
    };
    let text = with_codes(&case.text);
    let written = case.written.as_deref().unwrap_or("2026-11-20T10:02:00Z");
    let changed = case.changed.as_deref().unwrap_or(written);
    let given = |text| (text != "none").then_some(text);
    let written = Written {
        comment: case.comment.unwrap_or(501),
        by: case.by.unwrap_or(5_550_108),
        is_bot: case.bot,
        may_write: !case.reader,
        written: given(written),
        changed: given(changed),
        text: &text,
    };
    judge(&written, &shown)
}

fn file() -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cheats.toml");
    toml::from_str(&fs::read_to_string(path).expect("the cases")).expect("cases")
}

#[test]
fn no_cheat_counts() {
    let cheats = file().cheat;
    assert!(cheats.len() >= 40, "{}", cheats.len());
    for case in cheats {
        let judged = judged(&case);
        let why = judged.clone().expect_err(&format!("{} counts as {judged:?}", case.name));
        assert!(why.to_string().contains(&case.says), "{}: {why}", case.name);
    }
}

#[test]
fn an_honest_answer_counts() {
    for case in file().good {
        let answer = judged(&case).unwrap_or_else(|why| panic!("{}: {why}", case.name));
        assert_eq!(format!("{answer:?}"), case.says, "{}", case.name);
    }
}
