use serde::Deserialize;

use super::*;

const GOOD: &str = "tree 1111111111111111111111111111111111111111\nparent 2222222222222222222222222222222222222222\n\
    author {me} 1700000000 +0000\ncommitter {me} 1700000000 +0000\n\nfix: x\n\n{trailers}";
const TRAILERS: &str = "Signed-off-by: {me}\nCo-authored-by: {asker}\nRun: {run}\n";
const ID: &str = "0123456789ab";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    swap: Vec<(String, String)>,
    message: Option<String>,
    raw: Option<String>,
    #[serde(default)]
    rules: Vec<String>,
    broken: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

fn identity(name: &str, email: &str) -> GitIdentity {
    GitIdentity { name: name.to_owned(), email: email.to_owned() }
}

fn rules() -> CommitRules {
    CommitRules {
        authors: vec!["*@example.org".to_owned(), "jösé@example.net".to_owned()],
        own: Some(identity("Work Bot", "work@bottle.test")),
        message: Some("conventional".to_owned()),
        sign_off: true,
        co_authored_by: Some(identity("ada", "1+ada@users.noreply.github.com")),
        run: Some("issue-7-sizes-76c0d90e".to_owned()),
    }
}

fn filled(text: &str) -> String {
    let rules = rules();
    let me = rules.own.as_ref().map(ToString::to_string).unwrap_or_default();
    let asker = rules.co_authored_by.as_ref().map(ToString::to_string).unwrap_or_default();
    let text = text.replace("{trailers}", TRAILERS).replace("{me}", &me).replace("{asker}", &asker);
    text.replace("{run}", rules.run.as_deref().unwrap_or_default())
}

impl Case {
    fn commit(&self) -> String {
        let mut commit = filled(self.raw.as_deref().unwrap_or(GOOD));
        if let Some(message) = &self.message {
            let (head, _) = commit.split_once("\n\n").expect("a head");
            commit = format!("{head}\n\n{}", filled(message));
        }
        for (from, to) in &self.swap {
            let (from, to) = (filled(from), filled(to));
            assert!(commit.contains(&from), "{}: there is no {from:?}", self.name);
            commit = commit.replacen(&from, &to, 1);
        }
        commit
    }
}

#[test]
fn each_commit_is_judged_by_the_rules_that_it_breaks() {
    let cases: Cases = toml::from_str(include_str!("../commits.toml")).expect("the cases");
    let rules = rules();
    let judge = CommitJudge::new(&rules).expect("rules");
    for case in &cases.case {
        let (name, said) = (&case.name, judge.commit(ID, case.commit().as_bytes()));
        if let Some(broken) = &case.broken {
            let [one] = &said[..] else { panic!("{name}: {said:?}") };
            assert!(one.rule.is_none() && one.why.contains(broken.as_str()), "{name}: {one:?}");
            continue;
        }
        assert_eq!(said.iter().filter_map(|one| one.rule).collect::<Vec<_>>(), case.rules, "{name}: {said:?}");
        for BrokenRule { rule, why } in &said {
            let key = format!("(`push.commits.{}`)", rule.unwrap_or_default());
            assert!(why.contains(&key) && why.contains(ID) && why.contains("git commit --amend"), "{name}: {why}");
        }
    }
    assert!(cases.case.iter().filter(|case| !case.rules.is_empty() || case.broken.is_some()).count() >= 50);
}

#[test]
fn what_is_wrong_is_said_with_the_line_and_the_command() {
    let rules = rules();
    let judge = CommitJudge::new(&rules).expect("rules");
    let commit = filled(GOOD).replace("Run: issue-7-sizes-76c0d90e\n", "");
    let said: Vec<String> = judge.commit(ID, commit.as_bytes()).into_iter().map(|one| one.why).collect();
    assert_eq!(
        said,
        ["commit 0123456789ab has no line `Run: issue-7-sizes-76c0d90e` in its last paragraph, as git reads trailers \
          (`push.commits.trailers`): `git commit --amend --no-edit --trailer 'Run: issue-7-sizes-76c0d90e'`; if it is not \
          the last: `git rebase --exec \"git commit --amend --no-edit --trailer 'Run: issue-7-sizes-76c0d90e'\" 0123456789ab^`"]
    );
    let commit = filled(GOOD).replace("fix: x", "words");
    let said = judge.commit(ID, commit.as_bytes());
    assert!(
        said[0].why.ends_with("`GIT_SEQUENCE_EDITOR=\"sed -i '1s/pick/edit/'\" git rebase -i 0123456789ab^`"),
        "{said:?}"
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let rules = rules();
    let judge = CommitJudge::new(&rules).expect("rules");
    for (from, broken) in [("fix: x", "is not UTF-8"), ("author Work", "has no author as git writes it")] {
        let commit = filled(GOOD).into_bytes();
        let at = commit.windows(from.len()).position(|bytes| bytes == from.as_bytes()).expect("it is there");
        let commit = [&commit[..at + from.len()], b"\xff", &commit[at + from.len()..]].concat();
        let said = judge.commit(ID, &commit);
        assert!(said.len() == 1 && said[0].why.contains(broken), "{said:?}");
    }
}

#[test]
fn a_tags_tagger_is_judged_as_an_author() {
    let rules = rules();
    let judge = CommitJudge::new(&rules).expect("rules");
    let head = "object 1111111111111111111111111111111111111111\ntype commit\ntag v1\n";
    let of = |tagger: &str| judge.tag(ID, format!("{head}{tagger}\n\nv1\n").as_bytes());
    assert_eq!(of(&filled("tagger {me} 1700000000 +0000")), None);
    for tagger in ["tagger Eve <eve@evil.test> 1700000000 +0000", "", "tagger Work Bot work@bottle.test"] {
        assert!(of(tagger).is_some_and(|why| why.contains("`push.commits.authors`")), "{tagger}");
    }
    let anybody = CommitRules { authors: vec![], own: None, ..rules.clone() };
    assert_eq!(CommitJudge::new(&anybody).expect("rules").tag(ID, b"no tag"), None);
}

#[test]
fn a_pattern_is_for_all_of_the_first_line_and_bounded() {
    let judge = |pattern: &str, first: &str| {
        let rules = CommitRules { message: Some(pattern.to_owned()), ..CommitRules::default() };
        let said =
            CommitJudge::new(&rules).expect("a pattern").commit(ID, filled(GOOD).replace("fix: x", first).as_bytes());
        said.is_empty()
    };
    assert!(judge(r"[A-Z]+-\d+ .+", "APP-12 read sizes") && judge("a|b", "b") && judge("fix: x", "fix: x"));
    for (pattern, first) in [(r"[A-Z]+-\d+ .+", "see APP-12 read sizes"), ("a|b", "bc"), ("(?m)a$", "b"), ("a", "a\r")]
    {
        assert!(!judge(pattern, first), "{pattern} {first:?}");
    }
    for pattern in ["", "(", "a)(b", r"(?:\w{100}){500}", &"a".repeat(MAX_PATTERN_BYTES + 1)] {
        let rules = CommitRules { message: Some(pattern.to_owned()), ..CommitRules::default() };
        let error = CommitJudge::new(&rules).expect_err("no pattern").to_string();
        assert!(error.starts_with("`commits`, `message`: ") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn the_runners_own_message_keeps_the_rules() {
    let rules = rules();
    let me = rules.own.clone().expect("an identity");
    let message = rules.own_message("keep work that was left uncommitted", &me);
    let commit = filled(GOOD).replace(&filled("fix: x\n\n{trailers}"), &message);
    assert_eq!(CommitJudge::new(&rules).expect("rules").commit(ID, commit.as_bytes()), []);
    assert_eq!(CommitRules::default().own_message("words", &me), "words");
}
