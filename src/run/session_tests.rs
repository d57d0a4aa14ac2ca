//! What becomes of a stored session that is not as a run has left it: the cases of `sessions.toml`.

use std::fs;
use std::path::Path;

use bottle_plan::plan::{MAX_SESSION_BYTES, SessionPlan};
use bottle_wire::proposal::sha256;
use serde::Deserialize;
use serde_json::Value;

use super::{Beginning, beginning};
use crate::cache::{SessionHeader, SessionStore};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    replace: Option<(String, String)>,
    #[serde(default)]
    rehash: bool,
    #[serde(default)]
    file: Option<String>,
    #[serde(default)]
    manifest: Option<String>,
    end: String,
    #[serde(default)]
    says: String,
}

const ID: &str = "a3372ab8-a14c-49c5-aa58-170d97cf9137";
const WORKDIR: &str = "/work/textstats";
const RECORDS: &str = "/var/lib/claude-bottle/state";
const MANIFEST: &str = "version: 1\n";

/// Lines as Claude Code 2.1.330 writes them, without what is not looked at.
fn body() -> String {
    let line = |rest: &str| format!("{{{rest},\"cwd\":\"{WORKDIR}\"}}\n");
    let own = |number: u32| format!("\"sessionId\":\"{ID}\",\"uuid\":\"00000000-0000-0000-0000-00000000000{number}\"");
    [
        format!("{{\"type\":\"queue-operation\",\"sessionId\":\"{ID}\",\"content\":\"not kept\"}}\n"),
        line(&format!(
            "\"type\":\"user\",\"parentUuid\":null,{},\"message\":{{\"role\":\"user\",\"content\":\"Fix the words.\"}}",
            own(1)
        )),
        line(&format!(
            "\"attachment\":{{\"type\":\"date\"}},\"type\":\"attachment\",\"parentUuid\":\"00000000-0000-0000-0000-000000000001\",{}",
            own(2)
        )),
        line(&format!(
            "\"type\":\"assistant\",\"parentUuid\":\"00000000-0000-0000-0000-000000000002\",{},\"message\":{{\"role\":\"assistant\",\"content\":[]}}",
            own(3)
        )),
        format!("{{\"type\":\"cost-state\",\"sessionId\":\"{ID}\",\"totalCostUSD\":0.03}}\n"),
    ]
    .concat()
}

fn session() -> SessionPlan {
    SessionPlan {
        owner: "https://git.bottle.test/octo-org/textstats.git, issue #7, implementer".to_owned(),
        directory: "/home/agent/.claude/projects/-work-textstats".to_owned(),
        prompt: String::new(),
    }
}

fn header() -> SessionHeader {
    SessionHeader {
        version: 1,
        owner: session().owner,
        manifest: sha256(MANIFEST),
        runner: env!("CARGO_PKG_VERSION").to_owned(),
        run: "issue-7-1a2b".to_owned(),
        session: ID.to_owned(),
        lost: String::new(),
        said: "I have mended the words.".to_owned(),
        sha256: String::new(),
    }
}

/// Puts something else in the place of the stored file.
fn put(file: &str, path: &Path, store: &SessionStore) {
    let text = fs::read(path).expect("the file");
    fs::remove_file(path).expect("removed");
    match file {
        "missing" => {}
        "cut" => fs::write(path, &text[..text.len() - 9]).expect("written"),
        "noise" => fs::write(path, "x".repeat(70_000)).expect("written"),
        "link" => {
            let other = path.with_extension("other");
            fs::write(&other, &text).expect("written");
            std::os::unix::fs::symlink(other, path).expect("a link");
        }
        "directory" => fs::create_dir(path).expect("a directory"),
        "pipe" => {
            use rustix::fs::{CWD, FileType, Mode, mknodat};
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        }
        "huge" => {
            let mut whole = text;
            whole.resize(MAX_SESSION_BYTES + (65 << 10), b' ');
            fs::write(path, whole).expect("written");
        }
        "notes" => store.keep(&header(), "{\"type\":\"cost-state\"}\n").expect("kept"),
        other => panic!("{other}"),
    }
}

/// Changes the stored file's text.
fn replace((from, to): &(String, String), rehash: bool, path: &Path) {
    let text = fs::read_to_string(path).expect("the file");
    let to = to.replace("NESTED", &format!("{}{}", "[".repeat(200), "]".repeat(200)));
    assert!(text.contains(from), "{from}: {text}");
    let mut text = text.replacen(from, &to, 1);
    if rehash {
        let (head, body) = text.split_once('\n').expect("a first line");
        let mut head: Value = serde_json::from_str(head).expect("a header");
        head["sha256"] = sha256(body).into();
        text = format!("{head}\n{body}");
    }
    fs::write(path, text).expect("written");
}

#[test]
fn a_stored_session_is_used_as_it_was_left_and_by_those_whose_it_is() {
    let cases: Cases = toml::from_str(include_str!("sessions.toml")).expect("cases");
    assert!(cases.case.len() >= 30, "{}", cases.case.len());
    for case in &cases.case {
        let dir = tempfile::TempDir::new().expect("a directory");
        let store = SessionStore::open(&dir.path().join("sessions")).expect("a store");
        store.keep(&header(), &body()).expect("kept");
        let path = store.path(&session().owner);
        if let Some(file) = &case.file {
            put(file, &path, &store);
        }
        if let Some(change) = &case.replace {
            replace(change, case.rehash, &path);
        }
        let manifest = case.manifest.as_deref().unwrap_or(MANIFEST);
        let (end, says) = match beginning(&store, &session(), (WORKDIR, RECORDS), manifest) {
            Beginning::Anew => ("anew", String::new()),
            Beginning::Told { said, why } => {
                assert_eq!(said, "I have mended the words.", "{}", case.name);
                ("told", why)
            }
            Beginning::In { id, conversation } => {
                assert_eq!(id.as_str(), ID);
                assert_eq!(conversation.lines().count(), 3, "Claude Code's own notes stay behind: {conversation}");
                assert!(!conversation.contains("cost-state") && !conversation.contains("not kept"), "{conversation}");
                ("in", String::new())
            }
            Beginning::Refused(why) => ("refused", why),
        };
        assert!(end == case.end && says.contains(&case.says), "{}: {end}: {says}", case.name);
        if end == "refused"
            && !says.starts_with("line ")
            && says != "it has no message"
            && says != "its id is no session's"
        {
            // What is broken is not looked at a second time; a directory is nobody's session and stays.
            let again = beginning(&store, &session(), (WORKDIR, RECORDS), manifest);
            assert!(again == Beginning::Anew || case.file.as_deref() == Some("directory"), "{}: {again:?}", case.name);
        }
    }
}

#[test]
fn a_directory_that_others_can_read_keeps_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::TempDir::new().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let why = SessionStore::open(dir.path()).expect_err("open to others");
    assert!(why.contains("is open to others"), "{why}");
}
