//! Signatures: what the gate signs, what it refuses (`signing.toml`), and that a push brings nothing unsigned.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bottle_testkit::{judge_all, needed, sh};
use bottle_wire::push_report::PushVerdict;
use bottle_wire::signing_report::{SigningLine, SigningOutcome};
use serde::Deserialize;

use crate::world::{World, random_hex, said};

const ME: &str = "Guest <guest@example.org>";
const GOOD: &str = "tree {tree}\nparent {main}\nauthor {me} {now} +0000\ncommitter {me} {now} +0000\n\nWork\n";

/// Readies a key, and a gate that signs with it.
fn with_key(world: &mut World, rules: &str) {
    let key = world.path("signing");
    sh(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bot", "-f", &key.display().to_string()]);
    set_key(world, &key);
    let policy = fs::read_to_string(world.path("gate.yaml")).expect("the policy");
    let policy = policy.replace("secrets: [KNOWN]\n", "secrets: [KNOWN, SIGNING_KEY]\n");
    let signing =
        format!("signing:\n  key: SIGNING_KEY\n  committer: {{ name: Guest, email: guest@example.org }}\n{rules}");
    fs::write(world.path("gate.yaml"), policy + &signing).expect("written");
}

fn set_key(world: &World, key: &Path) {
    fs::copy(key, world.path("secrets/SIGNING_KEY")).expect("copied");
    fs::set_permissions(world.path("secrets/SIGNING_KEY"), fs::Permissions::from_mode(0o440)).expect("a mode");
}

fn world(rules: &str) -> World {
    let world = World::with(|world| with_key(world, rules), |policy| policy);
    settings(&world);
    world
}

/// The guest's settings: git takes a script for ssh-keygen, as it takes the link in a bottle.
fn settings(world: &World) {
    let python = needed("BOTTLE_TEST_PYTHON");
    let (program, socket) = (world.path("sign.py"), world.path("doors/git-gate.sock"));
    let script = format!(
        "#!{}\nimport socket, sys\n\
         data = open(sys.argv[-1], 'rb').read()\n\
         door = socket.socket(socket.AF_UNIX)\n\
         door.connect({:?})\n\
         line = b'bottle-sign 1 %s %d\\n' % (sys.argv[sys.argv.index('-n') + 1].encode(), len(data))\n\
         door.sendall(b'%04x' % (len(line) + 4) + line + data)\n\
         door.shutdown(socket.SHUT_WR)\n\
         answer = b''.join(iter(lambda: door.recv(65536), b''))\n\
         if not answer.startswith(b'ok\\n', 4): sys.exit(answer[4:].decode())\n\
         open(sys.argv[-1] + '.sig', 'wb').write(answer[7:])\n",
        python,
        socket.display().to_string()
    );
    fs::write(&program, script).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
    let config = format!(
        "[gpg]\n\tformat = ssh\n[gpg \"ssh\"]\n\tprogram = {}\n[commit]\n\tgpgSign = true\n[user]\n\tsigningKey = 127.0.0.1:9418\n",
        program.display()
    );
    fs::write(world.path("home/.gitconfig"), config).expect("written");
}

/// What the gate answers to a request, without its length.
fn asked(world: &World, head: &str, body: &[u8]) -> String {
    let mut door = UnixStream::connect(world.path("doors/git-gate.sock")).expect("the gate");
    door.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let line = format!("{head}\n");
    door.write_all(format!("{:04x}{line}", line.len() + 4).as_bytes()).expect("sent");
    // A gate that refuses need not read on.
    let _ = door.write_all(body).and_then(|()| door.shutdown(Shutdown::Write));
    let mut answer = vec![];
    door.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8(answer).expect("text");
    assert_eq!(usize::from_str_radix(&answer[..4], 16), Ok(answer.len()), "{answer}");
    answer[4..].to_owned()
}

fn record(world: &World) -> Vec<SigningLine> {
    let text = fs::read_to_string(world.path("state/log/signing.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a line of the record")).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    swap: Vec<(String, String)>,
    commit: Option<String>,
    #[serde(default)]
    more: String,
    head: Option<String>,
    answer: Option<String>,
}

/// The names that the suite has for ids.
fn ids(world: &World) -> Vec<(&'static str, String)> {
    let upstream = "git clone -q origin.git w && cd w && git -c user.name=Up -c user.email=up@example.org tag -am v1 v1 && \
                    git push -q origin v1 && git commit -q --no-gpg-sign --allow-empty -m fork && git push -q origin HEAD:refs/pull/1/head && \
                    git rev-parse v1 HEAD";
    let library = "git clone -q library.git l && cd l && git checkout -q --orphan own && git commit -q --no-gpg-sign -m library && \
                   git push -q -f origin HEAD:main && git rev-parse HEAD";
    let upstream = world.ok(&world.path("upstream"), upstream);
    let (tag, pull) = upstream.split_once('\n').expect("two ids");
    let library = world.ok(&world.path("upstream"), library);
    let clone = world.clone_origin();
    world.ok(&clone, "git ls-remote -q \"$LIBRARY\" && git fetch -q \"$LIBRARY\"");
    let main = world.ok(&clone, "git rev-parse HEAD HEAD~1 HEAD^{tree}");
    let main: Vec<&str> = main.lines().collect();
    // What another run has signed on the same commit, and not pushed.
    let run = self::world("");
    fs::remove_dir_all(run.upstream("origin")).expect("removed");
    run.ok(&run.path("upstream"), &format!("git clone -q --mirror {} origin.git", world.upstream("origin").display()));
    let clone = run.clone_origin();
    let other = run.ok(&clone, "git commit -q --allow-empty -m other && git rev-parse HEAD");
    assert!(run.ok(&clone, "git cat-file commit HEAD").contains("\ngpgsig -----BEGIN SSH SIGNATURE-----\n"));
    vec![
        ("main", main[0].to_owned()),
        ("first", main[1].to_owned()),
        ("tree", main[2].to_owned()),
        ("tag", tag.to_owned()),
        ("pull", pull.to_owned()),
        ("library", library),
        ("other", other),
        ("unknown", random_hex(40)),
        ("sha256", random_hex(64)),
    ]
}

fn filled(text: &str, ids: &[(&str, String)]) -> String {
    let now = now();
    let mut text = text.replace("{me}", ME).replace("{now}", &now.to_string());
    for (name, seconds) in [("{now-660}", now - 660), ("{now+660}", now + 660), ("{now+3600}", now + 3600)] {
        text = text.replace(name, &seconds.to_string());
    }
    for (name, id) in ids {
        text = text.replace(&format!("{{{name}}}"), id).replace(&format!("{{{name}:12}}"), &id[..12]);
    }
    text
}

#[test]
fn each_cheat_is_refused_with_the_exact_reason_and_is_in_the_record() {
    let world = world("");
    let ids = ids(&world);
    let mut suite: Suite = toml::from_str(include_str!("signing.toml")).expect("the suite");
    if let Ok(only) = std::env::var("SIGNING") {
        suite.case.retain(|case| case.name.contains(&only));
    }
    judge_all(&suite.case, 2, |case| {
        let mut text = case.commit.clone().unwrap_or_else(|| GOOD.to_owned());
        for (from, to) in &case.swap {
            let (from, to) = (from.replace("{me}", ME), to.replace("{me}", ME));
            text = text.replace("{me}", ME);
            assert!(text.contains(&from), "{}: nothing to swap", case.name);
            text = text.replacen(&from, &to, 1);
        }
        let body = filled(&(text + &case.more), &ids);
        let size = body.len();
        let head = case.head.clone().unwrap_or_else(|| "bottle-sign 1 git {size}".to_owned());
        let head = head.replace("{size}", &size.to_string()).replace("{size+1}", &(size + 1).to_string());
        let head = head.replace("{size-46}", &(size.saturating_sub(46)).to_string());
        let answer = asked(&world, &head, body.as_bytes());
        match &case.answer {
            None => assert!(answer.starts_with("ok\n-----BEGIN SSH SIGNATURE-----\n"), "{}: {answer}", case.name),
            Some(why) => {
                let why = filled(why, &ids);
                assert_eq!(answer, format!("ERR git-gate: not signed: {why}"), "{}", case.name);
                let refused = SigningOutcome::Refused { reason: why };
                assert!(record(&world).iter().any(|line| line.outcome == refused), "{}", case.name);
            }
        }
    });
    let refused = suite.case.iter().filter(|case| case.answer.is_some()).count();
    let lines = record(&world);
    assert_eq!(lines.len(), suite.case.len(), "a line each");
    let is_refused = |line: &&SigningLine| matches!(line.outcome, SigningOutcome::Refused { .. });
    assert_eq!(lines.iter().filter(is_refused).count(), refused);
}

/// The clone of a world, and a way to verify what is upstream as anybody would.
fn verify(world: &World, what: &str) -> String {
    let signers = format!("guest@example.org {}", fs::read_to_string(world.path("signing.pub")).expect("the key"));
    fs::write(world.path("allowed"), signers).expect("written");
    let allowed = world.path("allowed");
    let script = format!(
        "git -c gpg.ssh.program=ssh-keygen -c gpg.ssh.allowedSignersFile={} verify-commit -v {what} 2>&1",
        allowed.display()
    );
    said(&world.sh(&world.upstream("origin"), &script, &[]))
}

#[test]
fn what_git_commits_is_signed_and_verifies_upstream() {
    let world = world("");
    let clone = world.clone_origin();
    let script = "git checkout -q -b bottle/x; echo a >a; git add a; git commit -qm a; echo b >>a; git commit -qam b; \
                  git commit -q --amend -m c; git checkout -q -b side HEAD~1; echo s >s; git add s; git commit -qm s; \
                  git checkout -q bottle/x; git merge -q -m m side; git push -q origin HEAD:refs/heads/bottle/x";
    world.ok(&clone, script);
    for commit in world.ok(&clone, "git rev-list origin/main..HEAD").lines() {
        let said = verify(&world, commit);
        assert!(said.contains("Good \"git\" signature for guest@example.org"), "{said}");
    }
    // The gate knows each by the id that git gave it.
    let ids = world.ok(&clone, "git rev-list origin/main..HEAD");
    let signed: Vec<String> = record(&world)
        .into_iter()
        .filter_map(|line| match line.outcome {
            SigningOutcome::Signed { commit, .. } => Some(commit.to_string()),
            SigningOutcome::Refused { .. } => None,
        })
        .collect();
    assert!(ids.lines().all(|id| signed.iter().any(|commit| commit == id)), "{ids}\n{signed:?}");
    let key = sh(&["ssh-keygen", "-l", "-f", &world.path("signing.pub").display().to_string()]);
    let line = fs::read_to_string(world.path("state/log/signing.jsonl")).expect("the record");
    let fingerprint = key.split(' ').nth(1).expect("a fingerprint");
    assert!(line.contains(&format!("\"key\":\"{fingerprint}\"")), "{line}");
}

#[test]
fn what_is_not_signed_by_the_runs_key_is_not_pushed() {
    let world = world("");
    let clone = world.clone_origin();
    let other = world.path("other");
    sh(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bot", "-f", &other.display().to_string()]);
    let other = format!("git -c gpg.ssh.program=ssh-keygen -c user.signingKey={} commit", other.display());
    let forged = "git cat-file commit HEAD >signed";
    for (number, (script, why)) in [
        ("git commit -q --no-gpg-sign --allow-empty -m x".to_owned(), "is not signed; commit with"),
        (format!("{other} -q --allow-empty -m x"), "is not signed by this run's key"),
        // A good signature, moved to another message.
        (
            format!("git commit -q --allow-empty -m x; {forged}; sed 's/^x$/y/' signed >forged; \
                     git reset -q --hard $(git hash-object -w -t commit forged)"),
            "is not signed by this run's key",
        ),
        // Another header beside a good signature, which git leaves out where it verifies.
        (
            format!("git commit -q --allow-empty -m x; {forged}; sed '/END SSH/a gpgsig-sha256 words' signed >forged; \
                     git reset -q --hard $(git hash-object -w -t commit forged)"),
            "is not signed; commit with",
        ),
        (
            format!("git commit -q --allow-empty -m x; {forged}; sed '0,/^gpgsig /s//gpgsig-sha256 words\\ngpgsig /' signed >forged; \
                     git reset -q --hard $(git hash-object -w -t commit forged)"),
            "is not one that the gate signs: there is a signature in it already",
        ),
        // One that is signed above one that is not.
        ("git commit -q --no-gpg-sign --allow-empty -m x; git tag unsigned".to_owned(), "is not signed; commit with"),
    ]
    .into_iter()
    .enumerate()
    {
        let script = format!("git checkout -q --detach origin/main; {script}; git push origin HEAD:refs/heads/bottle/{number}");
        let output = world.sh(&clone, &script, &[]);
        assert!(!output.status.success() && said(&output).contains(why), "{script}: {}", said(&output));
    }
    let above = world.sh(&clone, "git checkout -q --detach unsigned; git commit --allow-empty -m y", &[]);
    assert!(said(&above).contains("is neither upstream's nor signed in this run"), "{}", said(&above));
    assert!(!world.upstream_refs().contains("bottle/"));
    assert!(world.record().iter().all(|line| line.verdict == PushVerdict::Refused));
}

#[test]
fn a_fork_s_commits_are_not_the_runs() {
    let head = std::cell::RefCell::new(String::new());
    let prepare = |world: &mut World| {
        let script = "git clone -q origin.git f && cd f && git commit -q --allow-empty -m fork1 && git commit -q --allow-empty -m fork2 && \
                      git push -q origin HEAD:refs/pull/1/head && git rev-parse HEAD";
        head.replace(world.ok(&world.path("upstream"), script));
        with_key(world, &format!("bases: [{}]\n", head.borrow()));
    };
    let world = World::with(prepare, |policy| policy);
    settings(&world);
    let clone = world.clone_origin();
    let head = head.into_inner();
    world.ok(
        &clone,
        &format!("git fetch -q origin refs/pull/1/head; git checkout -q {head}; git commit -q --allow-empty -m w; git push -q origin HEAD:refs/heads/bottle/w"),
    );
    // One between the fork's head and what upstream has is no other run's either.
    world.ok(
        &clone,
        "git checkout -q FETCH_HEAD~1; git commit -q --allow-empty -m v; git push -q origin HEAD:refs/heads/bottle/v",
    );
    let output = world.sh(
        &clone,
        "git commit -q --no-gpg-sign --allow-empty -m u; git push origin HEAD:refs/heads/bottle/u",
        &[],
    );
    assert!(said(&output).contains("is not signed"), "{}", said(&output));
}

#[test]
fn any_author_and_unsigned_commits_go_where_the_policy_says_so() {
    let world = world("  any_author: true\n  required: false\n");
    let clone = world.clone_origin();
    let script = "git commit -q --allow-empty --author 'Ada <ada@example.org>' -m x; git commit -q --no-gpg-sign --allow-empty -m y; \
                  git push -q origin HEAD:refs/heads/bottle/x; git commit -q --allow-empty -m z";
    world.ok(&clone, script);
    assert!(verify(&world, "bottle/x~1").contains("Good \"git\" signature"));
}

#[test]
fn an_empty_repository_of_sha_256_gets_its_first_commit_signed() {
    let prepare = |world: &mut World| {
        with_key(world, "");
        world.ok(
            world.dir.path(),
            "rm -rf upstream/origin.git && git init -q -b main --object-format=sha256 --bare upstream/origin.git",
        );
        let policy = fs::read_to_string(world.path("gate.yaml")).expect("the policy");
        fs::write(world.path("gate.yaml"), policy.replace("bottle/**", "**")).expect("written");
    };
    let world = World::with(prepare, |policy| policy);
    settings(&world);
    let script = "git init -q -b main --object-format=sha256 new; cd new; git remote add origin $ORIGIN; git ls-remote origin; \
                  git commit -q --allow-empty -m one; git commit -q --allow-empty -m two; git push -q origin main; git rev-parse main";
    let head = world.ok(world.dir.path(), script);
    assert_eq!(head.lines().last().map(str::len), Some(64));
    assert!(verify(&world, "main").contains("Good \"git\" signature"));
}

#[test]
fn the_gate_goes_on_after_a_restart_and_with_a_new_key() {
    let mut world = world("");
    let clone = world.clone_origin();
    world.ok(&clone, "git commit -q --allow-empty -m one");
    world.stop_gate();
    let second = world.path("second");
    sh(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bot", "-f", &second.display().to_string()]);
    fs::remove_file(world.path("secrets/SIGNING_KEY")).expect("removed");
    set_key(&world, &second);
    world.start_gate();
    settings(&world);
    world.ok(&clone, "git remote set-url origin \"$ORIGIN\"; git commit -q --allow-empty -m two; git push -q origin HEAD:refs/heads/bottle/x");
    assert!(verify(&world, "bottle/x~1").contains("Good \"git\" signature"));
    assert_eq!(record(&world).len(), 2);
}

#[test]
fn what_is_no_key_ends_the_gate_with_the_reason() {
    for (name, args, why) in [
        ("locked", &["-t", "ed25519", "-N", "hunter22"][..], "it has a passphrase"),
        ("rsa", &["-t", "rsa", "-b", "2048", "-N", ""], "it is no ed25519 key"),
        ("none", &[], "it is no ed25519 key"),
    ] {
        let mut world = world("");
        world.stop_gate();
        let key = world.path(name);
        if args.is_empty() {
            fs::write(&key, "no key at all").expect("written");
        } else {
            sh(&[&["ssh-keygen", "-q", "-f", &key.display().to_string()], args].concat());
        }
        fs::remove_file(world.path("secrets/SIGNING_KEY")).expect("removed");
        set_key(&world, &key);
        let output = world.gate_command().output().expect("the gate");
        let said = said(&output);
        assert!(!output.status.success(), "{name}");
        assert!(said.contains(&format!("commits can't be signed by it: {why}")), "{name}: {said}");
    }
}

#[test]
fn many_at_once_and_slow_ones_are_turned_away_and_an_honest_guest_is_served() {
    let world = world("");
    let clone = world.clone_origin();
    let ids = world.ok(&clone, "git rev-parse HEAD HEAD^{tree}");
    let (main, tree) = ids.split_once('\n').expect("two ids");
    let body =
        GOOD.replace("{main}", main).replace("{tree}", tree).replace("{me}", ME).replace("{now}", &now().to_string());
    let head = format!("bottle-sign 1 git {}", body.len());
    let answers: Vec<String> = thread::scope(|scope| {
        let asking: Vec<_> = (0..24).map(|_| scope.spawn(|| asked(&world, &head, body.as_bytes()))).collect();
        asking.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    let busy = "ERR git-gate: not signed: too many requests at once";
    assert!(answers.iter().any(|answer| answer == busy), "{answers:?}");
    assert!(answers.iter().all(|answer| answer == busy || answer.starts_with("ok\n")), "{answers:?}");
    // The same request has the same signature: asking again gives nothing new.
    let signed: Vec<&String> = answers.iter().filter(|answer| *answer != busy).collect();
    assert!(signed.windows(2).all(|two| two[0] == two[1]));
    world.ok(&clone, "git commit -q --allow-empty -m honest; git push -q origin HEAD:refs/heads/bottle/x");
}

#[test]
fn the_key_is_a_secret_of_the_run() {
    let world = world("");
    let clone = world.clone_origin();
    let key: PathBuf = world.path("signing");
    let output = world.sh(
        &clone,
        &format!("cp {} key.txt; git add .; git commit -qm x; git push origin HEAD:refs/heads/bottle/x", key.display()),
        &[],
    );
    assert!(!output.status.success(), "{}", said(&output));
    let text = fs::read_to_string(&key).expect("the key");
    let inner = text.lines().nth(1).expect("a line");
    for file in ["state/log/gate.jsonl", "state/log/signing.jsonl", "gate.log"] {
        let shown = fs::read_to_string(world.path(file)).unwrap_or_default();
        assert!(!shown.contains(inner), "{file}");
    }
}
