//! Run records that earlier versions wrote: they still verify and print. `tests/fixtures/records` has them.

use std::path::Path;

use bottle_testkit::{World, said, sh};

use crate::RUNNER;

const SLUG: &str = "issue-7-words-followed-by-653db91b";

#[test]
fn a_record_of_version_1_verifies_and_prints() {
    let world = World::new(RUNNER);
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records/v1");
    let state = world.path("state");
    std::fs::create_dir_all(&state).expect("a state root");
    sh(&["cp", "-R", &record.display().to_string(), &state.join(SLUG).display().to_string()]);
    let prints = |args: &[&str]| {
        let output = world.runner().args(args).output().expect("the runner");
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(
        prints(&["verify-record", SLUG]),
        format!(
            "{SLUG}: the record holds: 13 files looked into\n\
             proposals: 2 asked, 1 granted, 1 denied, 0 open; 1 policies applied, and those at the end are what they lead to\n"
        )
    );
    assert_eq!(
        prints(&["ps", "--all"]),
        format!(
            "{SLUG}         ended with 0   2026-11-28T06:32:50Z  Words followed by punctuation are counted wrong\n"
        )
    );
    assert_eq!(prints(&["audit-credentials", SLUG]), AUDITED);
    assert_eq!(prints(&["logs", SLUG]), std::fs::read_to_string(record.join("compose.log")).expect("compose.log"));
    assert_eq!(prints(&["logs", "--egress", SLUG]), ROWS);
    let shown = prints(&["show", SLUG]);
    assert!(
        shown.starts_with("✓ Words followed by punctuation are counted wrong\n") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    assert!(shown.contains("Phases, checks and proposals are left out: report.html has them."), "{shown}");
    assert!(
        prints(&["show", "--cost", "--egress", SLUG]).contains("deny     403     0      GET example.com/: no_route")
    );
    let none = world.runner().args(["show", "no-such-run"]).output().expect("the runner");
    assert!(none.status.code() == Some(2) && said(&none).contains("no-such-run is no run record"), "{}", said(&none));
}

/// The model was replayed, so no key was sent anywhere.
const AUDITED: &str = "\
BOTTLE_GIT_ORIGIN_IDENTITY from /tmp/bottle/demo/id, for git upstream origin
  2026-11-28T06:33:11.298469448Z  push refs/heads/bottle/issue-7-words-followed-by-punctuation-are to origin: accepted
  each fetch from origin and each question to it uses it too
";

const ROWS: &str = "\
TIME          METHOD   WHERE                                            STATUS  VERDICT    OUT    IN  MS  NOTES
06:32:52.582  CONNECT  api.anthropic.com                                -       error        0     0   0  gone
06:32:52.582  CONNECT  api.anthropic.com                                -       error        0     0   0  gone
06:32:54.670  GET      api.anthropic.com/api/claude_code/settings       403     deny         0   398   0  no_route
06:32:54.670  GET      api.anthropic.com/api/claude_code/policy_limits  403     deny         0   413   0  no_route
06:32:57.355  POST     api.anthropic.com/v1/messages                    200     replay   53293  1457   3
06:32:58.204  GET      example.com/                                     403     deny         0   308   0  no_route
06:32:58.285  POST     api.anthropic.com/v1/messages                    200     replay   54018  1452   8
06:32:58.716  POST     api.anthropic.com/v1/messages                    200     replay   54531  1431  10
06:33:04.244  POST     api.anthropic.com/v1/messages                    200     replay   54997  1341   0
06:33:07.550  POST     api.anthropic.com/v1/messages                    200     replay   56006  1557   1
06:33:11.444  POST     api.anthropic.com/v1/messages                    200     replay   56761   992   1
";
