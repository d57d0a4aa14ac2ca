//! Where a job says by itself that it was started for the default branch: the cases of `job_start.toml`.

use bottle_plan::facts::JobStart;
use serde::Deserialize;
use serde_json::json;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    r#ref: Option<String>,
    sha: Option<String>,
    /// The event's repository and its default branch.
    repository: Option<String>,
    default: Option<String>,
    /// Whether the commit counts as the default branch's.
    known: bool,
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[test]
fn only_a_job_for_the_default_branch_knows_its_base() {
    let cases: Cases = toml::from_str(include_str!("job_start.toml")).expect("the cases");
    assert!(cases.case.len() >= 15);
    for case in cases.case {
        let sha = case.sha.map(|sha| sha.replace("ID", &"a".repeat(40)));
        let payload = json!({"repository": {"full_name": case.repository, "default_branch": case.default}});
        let start = JobStart {
            repository: "octo-org/textstats",
            reference: case.r#ref.as_deref(),
            commit: sha.as_deref(),
            payload: &payload,
        };
        let found = start.on_the_default_branch();
        assert_eq!(found.is_some(), case.known, "{}: {found:?}", case.name);
        if let Some((branch, commit)) = found {
            assert_eq!((Some(branch), commit.as_str()), (case.default.as_deref(), "a".repeat(40).as_str()));
        }
    }
    let nothing = serde_json::Value::Null;
    let start =
        JobStart { repository: "a/b", reference: Some("refs/heads/main"), commit: Some("x"), payload: &nothing };
    assert_eq!(start.on_the_default_branch(), None);
}
