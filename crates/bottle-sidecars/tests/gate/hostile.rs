//! Hostile guests: each thing that one may send is refused or harmless, and the gate serves an honest guest afterwards.
//! `hostile.toml` has what is sent.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use bottle_testkit::until_within;
use serde::Deserialize;

use crate::processes;
use crate::world::{World, said, until};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    raw: Vec<Raw>,
    push: Vec<Push>,
}

/// A connection, byte by byte.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    send: Vec<String>,
    last: Option<(String, usize)>,
    #[serde(default)]
    end: Vec<String>,
    #[serde(default)]
    served: bool,
    #[serde(default)]
    says: String,
}

/// A tree with these entries (mode, id, name), in a commit that git pushes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    name: String,
    tree: Vec<(String, String, String)>,
}

fn suite() -> Suite {
    let mut suite: Suite = toml::from_str(include_str!("hostile.toml")).expect("the suite");
    if let Ok(only) = std::env::var("HOSTILE") {
        suite.raw.retain(|case| case.name.contains(&only));
        suite.push.retain(|case| case.name.contains(&only));
    }
    suite
}

/// Size in MiB of the pack with one blob.
const BLOB: usize = 300;
const ZERO: &str = "0000000000000000000000000000000000000000";
const UNKNOWN: &str = "1234567890123456789012345678901234567890";
/// No object at all, and the sum of that.
const EMPTY_PACK: &str = "5041434b0000000200000000029d08823bd8a8eab510ad6ac75c823cfd3ed31e";

/// What the words in braces stand for.
struct Words(Vec<(&'static str, String)>);

impl Words {
    fn new(world: &World) -> Self {
        let dir = world.dir.path();
        let blob = format!("head -c {BLOB}M /dev/zero | git hash-object --stdin");
        Self(vec![
            ("{zero}", ZERO.to_owned()),
            ("{unknown}", UNKNOWN.to_owned()),
            ("{main}", world.ok(&world.upstream("origin"), "git rev-parse main")),
            ("{blob}", world.ok(dir, &blob)),
            ("{state}", world.path("state").display().to_string()),
            ("{long}", "x".repeat(60_000)),
            ("{combined}", "combine:".repeat(2000)),
        ])
    }

    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (word, meaning)| text.replace(word, meaning))
    }

    /// The bytes of one item.
    fn bytes(&self, item: &str) -> Vec<u8> {
        let text = self.fill(item);
        if let Some(raw) = text.strip_prefix('!') {
            raw.as_bytes().to_vec()
        } else if let Some(hex) = text.strip_prefix("hex:") {
            hex::decode(hex).expect("hex")
        } else if let Some(kind) = text.strip_prefix("pack:") {
            let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gate/hostile.py");
            let made = Command::new("python3").arg(script).args(kind.split(' ')).output().expect("python3");
            assert!(made.status.success(), "{}", said(&made));
            made.stdout
        } else if matches!(&*text, "0000" | "0001") {
            text.into_bytes()
        } else if text == "PACK" {
            hex::decode(EMPTY_PACK).expect("hex")
        } else {
            pkt_line(&text)
        }
    }

    fn all(&self, case: &Raw) -> Vec<u8> {
        let mut out: Vec<u8> = case.send.iter().flat_map(|item| self.bytes(item)).collect();
        if let Some((last, count)) = &case.last {
            let filled = self.fill(last);
            out.extend((1..=*count).flat_map(|n| self.bytes(&filled.replace("{n}", &n.to_string()))));
        }
        out.extend(case.end.iter().flat_map(|item| self.bytes(item)));
        out
    }
}

fn pkt_line(text: &str) -> Vec<u8> {
    let mut line = format!("{:04x}", text.len() + 4).into_bytes();
    line.extend(text.as_bytes());
    line
}

fn connect(world: &World) -> UnixStream {
    let stream = UnixStream::connect(world.path("doors/git-gate.sock")).expect("the gate's socket");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream
}

/// Sends all of it, says that nothing follows, and reads what comes back; an error if that does not end.
fn talk(world: &World, bytes: &[u8]) -> Result<String, String> {
    let mut stream = connect(world);
    let mut writer = stream.try_clone().expect("a stream");
    let bytes = bytes.to_vec();
    let writing = thread::spawn(move || {
        // It may be cut off.
        let _ = writer.write_all(&bytes);
        let _ = writer.shutdown(std::net::Shutdown::Write);
    });
    let mut answer = vec![];
    let read = stream.read_to_end(&mut answer);
    writing.join().expect("written");
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err("it is not answered".to_owned()),
        _ => Ok(shown(&answer)),
    }
}

/// The text of an answer, without the lengths and channels of its pkt-lines, which may cut words in two.
fn shown(mut answer: &[u8]) -> String {
    let mut text = vec![];
    while let Some(length) = answer.first_chunk::<4>() {
        let length = std::str::from_utf8(length).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(line) = length.and_then(|length| answer.get(4..length.max(4))) else { break };
        text.extend(line.strip_prefix(b"\x01").or(line.strip_prefix(b"\x02")).unwrap_or(line));
        answer = &answer[4 + line.len()..];
    }
    text.extend(answer);
    String::from_utf8_lossy(&text).into_owned()
}

/// An honest guest gets what it wants, quickly.
fn serves(world: &World) {
    let clone = world.clone_origin();
    assert_eq!(world.ok(&clone, "git rev-parse HEAD"), world.ok(&world.upstream("origin"), "git rev-parse main"));
    world.ok(&clone, "git commit -q --allow-empty -m honest; git push -q origin HEAD:refs/heads/bottle/honest-$$");
    assert!(!world.path("state/pwned").exists(), "a command of the guest's was run");
}

#[test]
fn bytes() {
    let world = World::new();
    world.ok(&world.upstream("origin"), "git branch -f bottle/old main");
    let words = Words::new(&world);
    let before = world.upstream_refs();
    let failures = Mutex::new(vec![]);
    let suite = suite();
    let next = Mutex::new(suite.raw.iter());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().expect("a lock").next() else { break };
                    let fail = |what: &str, answer: &str| {
                        let start: String = answer.chars().take(3000).collect();
                        failures.lock().expect("a lock").push(format!("{}: {what}: {start}", case.name));
                    };
                    match talk(&world, &words.all(case)) {
                        Err(what) => fail(&what, ""),
                        Ok(answer) if !case.served && answer.contains("refs/") => fail("it was served", &answer),
                        Ok(answer) if !answer.contains(&case.says) => fail("it was not said", &answer),
                        Ok(_) => {}
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("a lock");
    assert!(failures.is_empty(), "{} failures:\n{}\n{}", failures.len(), failures.join("\n\n"), world.gate_log());
    let (now, main) = (world.upstream_refs(), words.fill("{main}"));
    let may_be_new = |line: &&str| line.starts_with("refs/heads/bottle/") && line.ends_with(&main);
    let changed: Vec<&str> =
        now.lines().filter(|line| !before.contains(line)).filter(|line| !may_be_new(line)).collect();
    assert!(changed.is_empty() && before.lines().all(|line| now.contains(line)), "upstream has changed: {now}");
    until("every process has ended", || processes::of(&world).is_empty());
    serves(&world);
    let log = world.gate_log();
    assert!(!log.contains(['\u{1b}', '\u{7}']), "{log}");
    assert!(log.lines().count() < 1000 && world.record().len() < 1000, "one push fills the log or the record");
}

#[test]
fn trees() {
    let world = World::new();
    let clone = world.clone_origin();
    let before = world.upstream_refs();
    let mut failures = vec![];
    for case in suite().push {
        let entry = |(mode, id, name): &(String, String, String)| {
            format!("printf '%s %s\\0' {mode} '{name}'; printf \"$(echo {id} | sed 's/../\\\\x&/g')\";")
        };
        let tree: String = case.tree.iter().map(entry).collect();
        let tree = tree
            .replace("{zero}", ZERO)
            .replace("{tree}", "$(git rev-parse HEAD^{tree})")
            .replace("{head}", "$(git rev-parse HEAD)")
            .replace("{blob}", "$(echo ../../elsewhere | git hash-object -w --stdin)");
        let script = format!(
            "tree=$(({tree}) | git hash-object -t tree -w --literally --stdin); \
             git push origin $(git commit-tree -p HEAD -m x $tree):refs/heads/bottle/{}",
            case.name
        );
        let output = world.sh(&clone, &script, &[]);
        // By git at the gate or by the gate, not by the guest's own git.
        let refused = ["remote unpack failed", "remote rejected"].iter().any(|words| said(&output).contains(words));
        if output.status.success() || !refused {
            failures.push(format!("{}: {}", case.name, said(&output)));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
    assert_eq!(world.upstream_refs(), before, "upstream has changed");
    serves(&world);
}

/// What the real git can be told to ask for.
#[test]
fn options() {
    let world = World::new();
    let clone = world.clone_origin();
    let before = world.upstream_refs();
    world.ok(&clone, "git commit -q --allow-empty -m x; git commit -q --allow-empty -m y");
    let pwned = world.path("state/pwned").display().to_string();
    for (script, why) in [
        (format!("git push --receive-pack='sh -c \"touch {pwned}\"' origin HEAD:refs/heads/bottle/x"), ""),
        ("git push --receive-pack='git-receive-pack --stateless-rpc' origin HEAD:refs/heads/bottle/x".into(), ""),
        (format!("git fetch --upload-pack='touch {pwned};git-upload-pack' origin"), ""),
        ("git push -o ci.skip origin HEAD:refs/heads/bottle/x".into(), "push options"),
        ("git push --signed=yes origin HEAD:refs/heads/bottle/x".into(), "--signed"),
        ("git push --mirror origin".into(), "only branches"),
        ("git push --delete origin main".into(), "not among the refs"),
        ("git archive --remote=\"$ORIGIN\" HEAD".into(), ""),
        ("git push origin HEAD:refs/heads/bottle/x $(seq -f 'HEAD:refs/heads/bottle/%g' 100)".into(), "at most 64"),
        (
            "git clone -q --depth 1 \"$ORIGIN\" ../shallow; cd ../shallow; git checkout -q --orphan o; git commit -qm x; \
             git rm -qr --cached .; git commit -qm y; git push origin o:refs/heads/bottle/x"
                .into(),
            "protected",
        ),
    ] {
        let output = world.sh(&clone, &script, &[]);
        assert!(!output.status.success(), "{script}");
        assert!(said(&output).contains(why), "{script}: {}", said(&output));
    }
    assert_eq!(world.upstream_refs(), before);
    serves(&world);
}

#[test]
fn a_push_that_is_too_large_is_cut_off() {
    let world = World::with(
        |_| {},
        |policy| policy.replace("      tags: true\n", "      tags: true\n      max_push_bytes: 1MiB\n"),
    );
    let clone = world.clone_origin();
    let push = "head -c 3000000 /dev/urandom >x; git add .; git commit -qm x; git push origin HEAD:refs/heads/bottle/x";
    let output = world.sh(&clone, push, &[]);
    assert!(!output.status.success());
    assert!(said(&output).contains("maximum allowed size"), "{}", said(&output));
    serves(&world);
}

#[test]
fn an_upstream_with_many_refs() {
    let world = World::new();
    let make = "id=$(git rev-parse main); \
                for i in $(seq 10000); do echo create refs/heads/many/$((i % 100))/$i $id; done | git update-ref --stdin";
    world.ok(&world.upstream("origin"), make);
    serves(&world);
    assert_eq!(world.ok(world.dir.path(), "git ls-remote \"$ORIGIN\" 'refs/heads/many/*' | wc -l"), "10000");
}

#[test]
fn many_connections_at_once() {
    let world = World::new();
    thread::scope(|scope| {
        for _ in 0..48 {
            scope.spawn(|| {
                let output = world.sh(world.dir.path(), "git ls-remote \"$ORIGIN\"", &[]);
                let text = said(&output);
                assert!(output.status.success() || text.contains("too many connections"), "{text}");
            });
        }
    });
    serves(&world);
}

/// Who says nothing, or says it letter by letter, is cut off soon; whoever waits for a seat is told so at once.
#[test]
fn those_who_never_finish_their_first_line() {
    let world = World::new();
    let start = Instant::now();
    let mut slow: Vec<UnixStream> = (0..32).map(|_| connect(&world)).collect();
    let told = talk(&world, &pkt_line("git-upload-pack /origin.git\0host=x\0")).expect("an answer");
    assert!(told.contains("too many connections"), "{told}");
    let letters = pkt_line("git-upload-pack /origin.git\0host=x\0");
    let mut letters = letters.iter();
    until_within(Duration::from_secs(45), "all are cut off", || {
        let letter = letters.next().copied().unwrap_or(b'x');
        slow.retain_mut(|stream| stream.write_all(&[letter]).is_ok());
        thread::sleep(Duration::from_millis(1500));
        slow.is_empty()
    });
    assert!(start.elapsed() > Duration::from_secs(5), "an honest guest has a little time: {:?}", start.elapsed());
    serves(&world);
}

/// The largest process of a push's group stays small, whatever its pack would make.
#[test]
fn a_pack_bomb_takes_no_memory() {
    let world = World::new();
    let words = Words::new(&world);
    for kind in ["delta 3000", "chain 2048"] {
        let mut bytes = words.bytes("git-receive-pack /origin.git\0host=x\0");
        bytes.extend(words.bytes("{zero} {main} refs/heads/bottle/x\0 report-status"));
        bytes.extend(words.bytes("0000"));
        bytes.extend(words.bytes(&format!("pack:{kind}")));
        let most = thread::scope(|scope| {
            let talking = scope.spawn(|| talk(&world, &bytes).expect("an answer"));
            let mut most = 0;
            while !talking.is_finished() {
                most = most.max(processes::plainly_of(&world).iter().map(|one| memory_mib(one.id)).max().unwrap_or(0));
            }
            most
        });
        assert!(most < 600, "{kind}: {most} MiB");
    }
    serves(&world);
}

fn memory_mib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
