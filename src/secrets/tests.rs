//! Values of several lifetimes, and sources that misbehave.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bottle_plan::plan::{CommandSource, SecretPlan, SecretSource};
use bottle_types::units::Seconds;
use tokio::signal::unix::{SignalKind, signal};

use super::*;
use crate::host;

/// What a stand-in prints is a token; letters that stand for nothing else.
const TOKEN: &str = "standin-token";

fn environment() -> Environment {
    let mut environment = Environment::default();
    environment.set("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned());
    environment.set("OTHER_TOKEN", "the-runners-other-token".to_owned());
    environment.set("PLAIN", "plain".to_owned());
    environment
}

fn plan(source: SecretSource) -> SecretPlan {
    let name = SecretName::parse("SOME_KEY").expect("a name");
    SecretPlan { name, source, used_by: vec!["route api.example.org".to_owned()], present: true }
}

fn shell(script: &str, time: u64, lifetime: Option<u64>) -> SecretSource {
    SecretSource::Command(CommandSource {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        pass: vec![],
        time: Seconds(time),
        lifetime: lifetime.map(Seconds),
    })
}

async fn secrets(source: SecretSource) -> Result<Secrets, Failure> {
    Secrets::of(&[plan(source)], &environment(), vec![], |_, _| unreachable!("no exchange")).await
}

fn now(secrets: &Secrets) -> (String, Option<ValueLife>) {
    let (value, life) = secrets.value(&SecretName::parse("SOME_KEY").expect("a name")).expect("a value");
    (String::from_utf8(value.expose().clone()).expect("text"), life)
}

/// Keeps them fresh until `until` has ended; what was told.
async fn keep_fresh(secrets: &Secrets, until: impl Future<Output = ()>) -> Vec<String> {
    let told = Mutex::new(vec![]);
    let tell = |renewed: Renewed| {
        let line = match renewed {
            Renewed::Value { value, .. } => String::from_utf8_lossy(value.expose()).into_owned(),
            Renewed::Failed { why, .. } => format!("failed: {why}"),
        };
        told.lock().expect("lines").push(line);
    };
    let hangups = signal(SignalKind::hangup()).expect("a handler");
    tokio::select! {
        never = secrets.keep_fresh(hangups, tell) => match never {},
        () = until => {}
    }
    told.into_inner().expect("lines")
}

async fn seconds(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// A command that counts its own calls, and notes where two of them overlap.
fn counting(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "mkdir {dir}/busy || echo overlap >>{dir}/overlaps; echo call >>{dir}/calls; sleep 0.1; rmdir {dir}/busy; \
         echo {TOKEN}-$(wc -l <{dir}/calls)-of-many"
    )
}

#[tokio::test]
async fn a_value_is_renewed_again_and_again_before_its_end_one_exchange_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let secrets = secrets(shell(&counting(dir.path()), 5, Some(6))).await.expect("a value");
    let first = now(&secrets).0;
    // Eighteen seconds are three lifetimes: whenever it is looked at, the value is good.
    let watch = async {
        let until = Instant::now() + Duration::from_secs(18);
        while Instant::now() < until {
            let life = now(&secrets).1.expect("a life");
            assert!(host::unix_millis() < life.last_use(), "a dead value is in use");
            seconds(0.02).await;
        }
    };
    let told = keep_fresh(&secrets, watch).await;
    assert!(told.len() >= 3 && told.iter().all(|line| line.starts_with(TOKEN)), "{told:?}");
    assert!(!dir.path().join("overlaps").exists());
    // All of them are masked, the first one too.
    for value in told.iter().chain([&first]) {
        assert_eq!(secrets.mask(&format!("x {value} y")), "x *** y");
        assert!(secrets.known().find(hex::encode(value).as_bytes()).is_some());
    }
    // The doors are told the last one alone, and when it ends.
    let updates = secrets.updates(0, false);
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].value.as_ref().map(|value| value.expose().clone()), told.last().cloned());
    assert!(updates[0].ends_at.is_some());
    assert!(secrets.updates(secrets.version(), false).is_empty());
}

#[tokio::test]
async fn a_renewal_that_fails_is_tried_again_and_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path().display().to_string();
    let script =
        format!("test ! -e {at}/broken || {{ echo {TOKEN}-leak-in-a-failure; exit 7; }}; echo {TOKEN}-$(date +%s%N)");
    let secrets = secrets(shell(&script, 5, Some(2))).await.expect("a value");
    let first = now(&secrets);
    fs::write(dir.path().join("broken"), "").expect("a file");
    let mend = async {
        seconds(2.2).await;
        // It has ended, and is said to have.
        let update = secrets.updates(0, false).pop().expect("an update");
        assert!(update.ends_at.is_some_and(|ends_at| ends_at < host::unix_millis()));
        assert_eq!(update.failure.as_deref(), Some("`sh` ended with 7"));
        assert_eq!(now(&secrets).0, first.0);
        fs::remove_file(dir.path().join("broken")).expect("gone");
        seconds(3.0).await;
    };
    let told = keep_fresh(&secrets, mend).await;
    // The same failure is told once.
    assert_eq!(told.iter().filter(|line| *line == "failed: `sh` ended with 7").count(), 1, "{told:?}");
    assert!(told.len() > 1 && !told.concat().contains("leak"), "{told:?}");
    assert!(secrets.updates(0, false).pop().is_some_and(|update| update.failure.is_none()));
}

#[tokio::test]
async fn commands_that_misbehave_give_no_value() {
    let dir = tempfile::tempdir().expect("a directory");
    let pid = dir.path().join("pid").display().to_string();
    let started = Instant::now();
    for (script, says) in [
        (format!("sleep 300 & echo $! >{pid}; sleep 300"), "did not end within 1 s"),
        ("echo one-line-of-it; echo another-line".to_owned(), "`sh` gave no usable value: it has more than one line"),
        ("true".to_owned(), "`sh` gave no usable value: it is empty"),
        ("echo a-long-enough-value; exit 1".to_owned(), "`sh` ended with 1"),
        ("kill -9 $$".to_owned(), "`sh` ended with 137"),
        ("head -c 10000000 /dev/zero | tr '\\0' x".to_owned(), "`sh` printed more than 65536 bytes"),
        ("echo short".to_owned(), "too short to be told from ordinary text"),
        ("cat; echo; printf ''".to_owned(), "it is empty"),
    ] {
        let failure = secrets(shell(&script, 1, None)).await.expect_err("no value");
        assert!(failure.what.contains(says), "{script}: {failure}");
        assert!(!failure.what.contains("one-line-of-it") && !failure.what.contains("long-enough"), "{failure}");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    // What the first one started has ended with it.
    let sleeper = fs::read_to_string(&pid).expect("a process");
    let state = fs::read_to_string(format!("/proc/{}/stat", sleeper.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z"), "{state}");
    let missing = SecretSource::Command(CommandSource {
        argv: vec!["no-such-program-of-ours".to_owned()],
        pass: vec![],
        time: Seconds(1),
        lifetime: None,
    });
    let failure = secrets(missing).await.expect_err("no value");
    assert!(failure.what.contains("failed to run `no-such-program-of-ours`"), "{failure}");
}

#[tokio::test]
async fn a_command_gets_no_credential_but_what_it_was_promised() {
    let script = "echo value-of-${OTHER_TOKEN:-nothing}-and-$PLAIN-in-$PWD";
    let SecretSource::Command(mut source) = shell(script, 5, None) else { unreachable!("a command") };
    let bare = secrets(SecretSource::Command(source.clone())).await.expect("a value");
    assert_eq!(now(&bare).0, "value-of-nothing-and-plain-in-/");
    source.pass = vec!["OTHER_TOKEN".to_owned()];
    let given = secrets(SecretSource::Command(source)).await.expect("a value");
    assert_eq!(now(&given).0, "value-of-the-runners-other-token-and-plain-in-/");
}

fn file(dir: &Path) -> PathBuf {
    dir.join("token")
}

#[tokio::test]
async fn files_that_are_none_give_no_value() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(dir.path());
    let read = || secrets(SecretSource::File(path.display().to_string()));
    let failure = read().await.expect_err("no file");
    assert!(failure.what.contains("failed to read") && failure.what.contains("route api.example.org"), "{failure}");
    fs::create_dir(&path).expect("a directory");
    assert!(read().await.expect_err("a directory").what.contains("it is no regular file"));
    fs::remove_dir(&path).expect("gone");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("a FIFO");
    let read_fifo = tokio::time::timeout(Duration::from_secs(2), read()).await.expect("nobody waits for a writer");
    assert!(read_fifo.expect_err("a FIFO").what.contains("it is no regular file"));
    fs::remove_file(&path).expect("gone");
    fs::write(&path, "x".repeat(70_000)).expect("a file");
    assert!(read().await.expect_err("too long").what.contains("longer than 65536 bytes"));
    fs::write(&path, "a-value-nobody-may-read").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("a mode");
    // Root may read everything.
    if !rustix::process::geteuid().is_root() {
        assert!(read().await.expect_err("a mode").what.contains("ermission denied"));
    }
}

#[tokio::test]
async fn a_file_that_changes_is_read_again_and_one_that_is_gone_leaves_its_value() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(dir.path());
    fs::write(&path, "the-first-value\n").expect("a file");
    let secrets = secrets(SecretSource::File(path.display().to_string())).await.expect("a value");
    let change = async {
        fs::write(&path, "the-second-value\n").expect("a file");
        seconds(1.6).await;
        assert_eq!(now(&secrets).0, "the-second-value");
        fs::remove_file(&path).expect("gone");
        seconds(1.1).await;
        assert_eq!(now(&secrets).0, "the-second-value");
        assert!(secrets.updates(0, false)[0].failure.as_deref().is_some_and(|why| why.contains("failed to read")));
        fs::write(&path, "the-third-value").expect("a file");
        seconds(1.6).await;
    };
    let told = keep_fresh(&secrets, change).await;
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!((told[0].as_str(), told[2].as_str()), ("the-second-value", "the-third-value"));
    assert!(told[1].starts_with("failed: failed to read"), "{told:?}");
    for value in ["the-first-value", "the-second-value", "the-third-value"] {
        assert_eq!(secrets.mask(value), "***");
    }
}

#[tokio::test]
async fn a_hangup_reads_all_of_them_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let secrets = secrets(shell(&counting(dir.path()), 5, None)).await.expect("a value");
    let ask = async {
        seconds(0.3).await;
        assert_eq!(now(&secrets).0, format!("{TOKEN}-1-of-many"), "without a lifetime nothing is renewed by itself");
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::HUP).expect("told");
        seconds(1.0).await;
    };
    let told = keep_fresh(&secrets, ask).await;
    // The other tests of this process may hear it, too; this one has, once.
    assert_eq!(told, [format!("{TOKEN}-2-of-many")]);
}
