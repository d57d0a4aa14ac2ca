//! A whole job whose gate logs in at the real sshd with a key that the runner has made for this run. The stand-in forge gives the keys
//! that it has to the sshd as Gitea does, in `authorized_keys`, each with a command that knows its right: no other key logs in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use bottle_scan::known::KnownSecrets;
use bottle_testkit::{Double, Running, Sshd, World, commands, said, sh, until};
use bottle_types::secret::{Secret, SecretName};
use serde_json::{Value, json};

use super::labeled;
use crate::RUNNER;
use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, Room, on, run_inside};
use crate::suite::promises::wait_for_agent;

/// What Gitea's own command does: lets a key in at one repository, and have it push if it may.
const SERVE: &str = r#"#!/bin/sh
set -f
case "$1 $SSH_ORIGINAL_COMMAND" in
  r?" git-upload-pack '"*) program=git-upload-pack ;;
  "rw git-receive-pack '"*) program=git-receive-pack ;;
  *) echo "may not: $1 $SSH_ORIGINAL_COMMAND" >&2; exit 1 ;;
esac
path=${SSH_ORIGINAL_COMMAND#*\'}
path=${path%\'}
[ "${path#/}" = octo-org/textstats.git ] || exit 1
echo "$1 $program" >>LOG
exec "$program" REPOSITORY
"#;
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDX5nMLIB9RkFk8mzuBQmTz4Mo2uSqEZmbJp7xqYkz9D";

/// A job at a forge with an sshd beside it.
struct Setting {
    job: Job,
    double: Double,
    side: World,
    _sshd: Sshd,
}

impl Setting {
    fn new(kind: &'static str, words: &[&str], push: &str) -> Self {
        let side = World::new(RUNNER);
        let authorized = side.write("authorized_keys", "");
        let sshd = Sshd::start(&side.path("sshd"), &authorized, None);
        let host_key = sshd.host_key().split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let user = sh(&["id", "--user", "--name"]);
        let entry = format!(
            "    git:\n      - name: origin\n        upstream: ssh://{user}@git.bottle.test:{}/octo-org/textstats.git\n        \
             deploy_key: true\n        known_host_key: {host_key}\n        extra_hosts: {{ git.bottle.test: 127.0.0.1 }}\n{push}",
            sshd.port
        );
        let job = Job::with_manifest(&commands(words), |upstream| {
            let text = manifest(upstream).replace("python3 -m unittest", "true");
            let (before, rest) = text.split_once("    git:\n").expect("a section");
            let (_, after) = rest.split_once("agents:\n").expect("a section");
            format!("{before}{entry}agents:\n{after}")
        });
        let repository = job.world.path("srv/app.git").display().to_string();
        let serve = SERVE.replace("LOG", &side.path("served").display().to_string()).replace("REPOSITORY", &repository);
        let serve = side.write("serve", &serve);
        fs::set_permissions(&serve, fs::Permissions::from_mode(0o755)).expect("its mode");
        let others =
            json!([{"id": 1, "title": "claude-bottle run issue-7-of-somebody-else", "key": OTHER, "read_only": true}]);
        let more = json!({"deploy_keys": others, "authorized_keys": authorized, "serve": serve});
        let double = Double::start(kind, more);
        Self { job, double, side, _sshd: sshd }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.job.world.runner();
        command.args(args).current_dir(&self.job.checkout);
        super::job(&self.job.world, &self.double, &mut command, "issues", &labeled("octo-maintainer", 5_550_108));
        if self.double.kind == "gitea" {
            command.env("GITEA_ACTIONS", "true");
        }
        command
    }

    fn run(&self) -> Command {
        let mut command = self.command(&["run", "--backend", "bubblewrap", "--replay"]);
        command.arg(self.job.world.path("cassette.yml"));
        command
    }

    fn keys(&self) -> Vec<Value> {
        self.double.state()["deploy_keys"].as_array().expect("keys").clone()
    }

    /// Asserts that the other's key is there, and no other.
    #[track_caller]
    fn only_the_others(&self) {
        let keys = self.keys();
        assert!(keys.len() == 1 && keys[0]["id"] == 1, "{keys:?}");
    }

    fn served(&self) -> String {
        fs::read_to_string(self.side.path("served")).unwrap_or_default()
    }
}

/// Every file below a directory that has a part of a value, in any form that the scanners know.
fn files_with(dir: &Path, known: &KnownSecrets) -> Vec<String> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, known));
        } else if let Ok(bytes) = fs::read(&path)
            && known.mask(&bytes) != bytes
        {
            found.push(path.display().to_string());
        }
    }
    found
}

const WAITS: &str = "touch /tmp/started; while [ ! -e /tmp/go ]; do sleep 0.1; done";

#[test]
fn the_gate_pushes_with_a_key_of_this_run_and_nothing_else_ever_has_it() {
    on(Place::Bubblewrap, || ["gitea", "github"].into_iter().for_each(pushes_with_its_own_key));
}

fn pushes_with_its_own_key(kind: &'static str) {
    let work = "echo more >> README.md; git commit -qam more && git push -q origin HEAD";
    let setting = Setting::new(kind, &[WAITS, work], "");
    let mut running = Running::new(setting.run().spawn().expect("the runner"));
    let slug = wait_for_agent(&setting.job, &mut running);
    let keys = setting.keys();
    let title = format!("claude-bottle run {slug}");
    assert!(keys.len() == 2 && keys[1]["title"] == title.as_str() && keys[1]["read_only"] == false, "{keys:?}");
    let cat = ["cat", "/run/secrets/BOTTLE_GIT_ORIGIN_IDENTITY"];
    let private = run_inside(&slug, Room::Bundle, true, &cat, b"");
    let lines: Vec<&str> = private.lines().filter(|line| !line.starts_with("-----")).collect();
    assert!(lines.len() >= 4, "the gate has no key");
    let search = "cat > /dev/shm/patterns; for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do grep -laF -f /dev/shm/patterns $f; done; \
                  grep -rlaF -f /dev/shm/patterns --exclude-dir=proc --exclude-dir=sys --exclude-dir=shm --exclude-dir=usr / 2>/dev/null; \
                  rm /dev/shm/patterns; echo searched";
    let in_guest = run_inside(&slug, Room::Guest, true, &["sh", "-c", search], lines[1..].join("\n").as_bytes());
    assert_eq!(in_guest.trim(), "searched", "the key is in the guest");
    run_inside(&slug, Room::Guest, true, &["touch", "/tmp/go"], b"");
    let output = running.wait();
    ended_with(&output, 0);

    setting.only_the_others();
    setting.double.assert_valid();
    let added = setting
        .double
        .log()
        .into_iter()
        .find(|line| line["method"] == "POST" && line["path"].as_str().is_some_and(|path| path.ends_with("/keys")));
    let body = added.expect("a key")["body"].clone();
    assert_eq!((&body["title"], &body["read_only"]), (&json!(title), &json!(false)));
    assert!(setting.served().contains("rw git-receive-pack"), "{}", setting.served());
    let branches = setting.job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]);
    assert_eq!(branches.lines().count(), 1, "{branches}");
    assert!(!setting.job.world.record().join("deploy-key.json").exists());

    let name = SecretName::parse("BOTTLE_GIT_ORIGIN_IDENTITY").expect("a name");
    let known = KnownSecrets::new(&[(name, Secret::new(private.clone().into_bytes()))]).expect("a searcher");
    assert_eq!(files_with(&setting.job.world.path("state"), &known), Vec::<String>::new());
    assert_eq!(files_with(&setting.job.world.path("home"), &known), Vec::<String>::new());
    // The control, and what was printed: the job's runner is told the lines, to mask them.
    assert_ne!(known.mask(private.as_bytes()), private.as_bytes());
    let told = said(&output);
    let shown: Vec<&str> = told.lines().filter(|line| !line.starts_with("::add-mask::")).collect();
    assert!(lines[1..].iter().all(|line| shown.iter().all(|shown| !shown.contains(line))), "{told}");
    let asked = fs::read_to_string(setting.double.ca().with_file_name("log.jsonl")).expect("the log");
    assert!(lines[1..].iter().all(|line| !asked.contains(line)), "the forge was told the key");
    setting.job.nothing_left();
}

#[test]
fn a_key_that_pushes_nothing_may_only_read() {
    on(Place::Bubblewrap, || {
        let setting = Setting::new("gitea", &["true"], "        push: { refs: [] }\n");
        let output = setting.run().output().expect("the runner");
        let log = setting.double.log();
        let added = log.iter().find(|line| line["method"] == "POST" && line["body"]["key"].is_string()).expect("a key");
        assert_eq!(added["body"]["read_only"], true, "{}", said(&output));
        assert!(setting.served().contains("ro git-upload-pack"), "{}", said(&output));
        setting.only_the_others();
        setting.job.nothing_left();
    });
}

#[test]
fn a_killed_run_s_key_is_removed_by_cleanup_and_another_s_is_not() {
    on(Place::Bubblewrap, || {
        let setting = Setting::new("gitea", &["touch /tmp/started; sleep 600"], "");
        let mut running = Running::new(setting.run().spawn().expect("the runner"));
        let slug = wait_for_agent(&setting.job, &mut running);
        let clean = |more: &[&str]| setting.command(&[&["cleanup"], more].concat()).output().expect("the runner");
        // While it lives nothing is done to it.
        ended_with(&clean(&[]), 0);
        assert_eq!(setting.keys().len(), 2, "the key of a run that lives");
        running.signal("KILL");
        running.wait();
        let would = format!("{slug}: would remove its deploy key");
        until("the runner is gone", || said(&clean(&["--dry-run"])).contains(&would));
        assert_eq!(setting.keys().len(), 2, "a dry run removes nothing");
        // A token of another server's is not sent there.
        let elsewhere = setting.command(&["cleanup"]).env_remove("GITHUB_SERVER_URL").output().expect("the runner");
        ended_with(&elsewhere, 2);
        assert!(
            said(&elsewhere).contains("the token of the environment is https://github.com's"),
            "{}",
            said(&elsewhere)
        );
        assert_eq!(setting.keys().len(), 2);
        let cleaned = clean(&[]);
        ended_with(&cleaned, 0);
        let says = format!("{slug}: removed its deploy key at {}/octo-org/textstats", setting.double.server);
        assert!(said(&cleaned).contains(&says), "{}", said(&cleaned));
        setting.only_the_others();
        assert!(!said(&clean(&[])).contains("deploy key"), "there is none any more");
        setting.double.assert_valid();
        setting.job.gone();
    });
}

#[test]
fn what_can_not_be_registered_stops_the_run_before_the_bottle() {
    on(Place::Bubblewrap, || {
        let setting = Setting::new("gitea", &["touch /tmp/started"], "");
        let dry = setting.run().arg("--dry-run").output().expect("the runner");
        ended_with(&dry, 2);
        assert!(said(&dry).contains("a dry run changes nothing at the forge"), "{}", said(&dry));
        let fault =
            json!({"method": "POST", "path": "/keys$", "status": 403, "body": {"message": "user should be an owner"}});
        setting.double.say(&json!({"fault": fault}));
        let refused = setting.run().output().expect("the runner");
        ended_with(&refused, 4);
        assert!(said(&refused).contains("failed to register the deploy key: "), "{}", said(&refused));
        setting.only_the_others();
        setting.job.gone();
    });
}
