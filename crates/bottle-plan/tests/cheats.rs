//! Ways to cheat an approval: each case of `cheats.toml` is a comment below a proposal, and counts for nothing. The good
//! ones at its end show that the same comment without the trick does count.

#![expect(clippy::disallowed_methods, reason = "a test reads its cases")]

use std::fs;
use std::path::Path;

use bottle_plan::approval::{Answer, ApprovalCode, Shown, Void, Written, judge};
use bottle_plan::moment::Moment;
use bottle_policy::supervise::Request;
use bottle_wire::proposal::{ProposalId, proposal_hash};
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

/// The code of the proposal that is shown, or of one that differs from it.
fn code(change: impl Fn(&mut (String, ProposalId, String, Request, String))) -> String {
    let request = Request::ask("May I?").expect("a request");
    let id = ProposalId::parse("P2").expect("an id");
    let mut parts = ("issue-7-implementer-1a2b".to_owned(), id, "0f".repeat(16), request, "7d".repeat(32));
    change(&mut parts);
    let (run, id, nonce, request, policy) = parts;
    ApprovalCode::of(&proposal_hash(&run, id, &nonce, &request, &policy)).to_string()
}

fn with_codes(text: &str) -> String {
    let good = code(|_| {});
    let others = [
        ("CODE-run", code(|parts| parts.0 = "issue-7-implementer-9z9z".to_owned())),
        ("CODE-id", code(|parts| parts.1 = ProposalId::FIRST)),
        ("CODE-nonce", code(|parts| parts.2 = "1f".repeat(16))),
        ("CODE-proposal", code(|parts| parts.3 = Request::ask("May I, please?").expect("a request"))),
        ("CODE-policy", code(|parts| parts.4 = "8d".repeat(32))),
    ];
    let mut text = text.to_owned();
    for (name, other) in others {
        assert_ne!(other, good, "{name}");
        text = text.replace(name, &other);
    }
    text.replace("CODEHALF", &good[..6]).replace("CODEUPPER", &good.to_uppercase()).replace("CODE", &good)
}

fn judged(case: &Case) -> Result<Answer, Void> {
    let at = "2026-11-20T10:00:00Z";
    let shown = Shown {
        id: ProposalId::parse("P2").expect("an id"),
        code: ApprovalCode::of(&code(|_| {})),
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
