//! A push that the gate holds: what a person is told of it, and never what was found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RequestError;
use super::held::cut;
use crate::gate::RepoName;
use crate::gate::hold::{ApprovedPush, RefMove};

/// So many refs, and so many lines of each kind, are told; the last line says how many more there are.
const MOST_REFS: usize = 64;
const MOST_WHY: usize = 10;
const MOST_LINES: usize = 100;
/// The longest line, and the longest name of a ref, in characters.
const LONGEST_LINE: usize = 200;
const LONGEST_REF: usize = 1000;

/// One held push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldPush {
    /// The repository at the gate.
    pub upstream: RepoName,
    /// Its refs, sorted.
    pub refs: Vec<RefMove>,
    /// Why it is held, a line each.
    pub why: Vec<String>,
    /// Each path that it changes, with lines added and removed.
    pub files: Vec<String>,
    /// Each finding that holds it: the rule, and the place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

impl HeldPush {
    /// Normalised: sorted, with lines and lists that are too long cut, and without what does something to a terminal.
    pub fn new(mut held: Self) -> Result<Self, RequestError> {
        let bad = |reason: &str| Err(RequestError::Bad { field: "refs", reason: reason.to_owned() });
        if held.refs.is_empty() || held.why.is_empty() {
            return Err(RequestError::Empty("refs"));
        }
        if held.refs.len() > MOST_REFS {
            return Err(RequestError::TooMuch { field: "refs", most: MOST_REFS });
        }
        for one in &held.refs {
            let name = one.r#ref.as_str();
            // git itself minds those of ASCII alone.
            let odd = name.chars().any(|c| c.is_control() || c.is_whitespace());
            if odd || !name.starts_with("refs/") || name.len() > LONGEST_REF {
                return bad("there is no name of a ref");
            }
        }
        held.refs.sort();
        if held.refs.windows(2).any(|two| two[0].r#ref == two[1].r#ref) {
            return bad("one ref is there twice");
        }
        let Self { upstream, refs, why, files, findings } = held;
        let (why, files) = (lines(why, MOST_WHY), lines(files, MOST_LINES));
        Ok(Self { upstream, refs, why, files, findings: lines(findings, MOST_LINES) })
    }

    /// What a yes lets through.
    pub fn approved(&self) -> ApprovedPush {
        ApprovedPush { upstream: self.upstream.clone(), refs: self.refs.clone() }
    }

    /// Its refs, in words.
    pub fn moves(&self) -> String {
        let one = |one: &RefMove| {
            let old = if one.old.is_null() { "new" } else { one.old.short() };
            format!("{} ({old} → {})", one.r#ref, one.new.short())
        };
        self.refs.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

fn lines(lines: Vec<String>, most: usize) -> Vec<String> {
    let more = lines.len().saturating_sub(most);
    let mut lines: Vec<String> = lines.iter().take(most).map(|line| cut(line, LONGEST_LINE)).collect();
    if more > 0 {
        lines.truncate(most - 1);
        lines.push(format!("and {} more", more + 1));
    }
    lines
}

#[cfg(test)]
mod tests {
    use bottle_types::git::{ObjectId, RefName};

    use super::*;

    fn name(text: &str) -> RefName {
        RefName::parse(text).expect("a name")
    }

    fn held() -> HeldPush {
        let id = |digit: &str| ObjectId::parse(&digit.repeat(40)).expect("an id");
        let one = |text: &str| RefMove { r#ref: name(text), old: id("0"), new: id("a") };
        HeldPush {
            upstream: RepoName::parse("origin").expect("a name"),
            refs: vec![one("refs/heads/b"), one("refs/heads/a")],
            why: vec!["deploy/a is held (deploy/**)".to_owned()],
            files: (0..500).map(|n| format!("deploy/{n} | +1 -0\u{1b}[2J")).collect(),
            findings: vec!["x".repeat(1000)],
        }
    }

    #[test]
    fn it_is_normalised_once() {
        let made = HeldPush::new(held()).expect("a held push");
        assert_eq!(made.refs[0].r#ref, name("refs/heads/a"));
        assert_eq!((made.files.len(), made.files[99].as_str()), (100, "and 401 more"));
        assert!(!made.files[0].contains('\u{1b}') && made.findings[0].chars().count() <= 201);
        assert_eq!(HeldPush::new(made.clone()), Ok(made));
    }

    #[test]
    fn what_the_gate_does_not_say_is_refused() {
        let of = |change: &dyn Fn(&mut RefMove)| {
            let mut other = held();
            change(&mut other.refs[0]);
            other
        };
        for wrong in [
            of(&|one| one.r#ref = name("refs/heads/a")),
            of(&|one| one.r#ref = name("heads/b")),
            of(&|one| one.r#ref = name("refs/heads/a\u{2028}b")),
            of(&|one| one.r#ref = name(&format!("refs/{}", "a".repeat(LONGEST_REF)))),
            HeldPush { refs: vec![], ..held() },
            HeldPush { why: vec![], ..held() },
        ] {
            assert!(HeldPush::new(wrong.clone()).is_err(), "{wrong:?}");
        }
        // The rest is refused when it is read.
        let said = serde_json::to_value(held()).expect("JSON");
        assert!(serde_json::from_value::<HeldPush>(said.clone()).is_ok());
        for (key, wrong) in [("new", "main"), ("old", &"A".repeat(40)), ("ref", "HEAD"), ("ref", "refs/heads/a\nb")] {
            let mut said = said.clone();
            said["refs"][0][key] = wrong.into();
            assert!(serde_json::from_value::<HeldPush>(said).is_err(), "{key} {wrong}");
        }
    }
}
