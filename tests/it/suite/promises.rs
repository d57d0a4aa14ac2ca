//! Promises 1, 3, 10 and 11 in a real bottle.

use base64::Engine as _;
use bottle_testkit::{Running, commands, found_within, said, sh};

use super::services::with_services;
use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, Room, here, inside, is_up, left_behind, patience, run_inside, sandboxes};

/// Waits until the agent's first command has made /tmp/started; the run's slug.
pub(crate) fn wait_for_agent(job: &Job, running: &mut Running) -> String {
    found_within(patience(30), "the agent's start", || {
        if let Some(said) = running.ended() {
            panic!("the runner ended before the agent started: {said}");
        }
        let [slug] = &job.world.slugs()[..] else { return None };
        has_started(slug).then(|| slug.clone())
    })
}

fn has_started(slug: &str) -> bool {
    if here() == Place::Bubblewrap {
        // The guest's /tmp, as the host has it: anybody may look there who owns it, and entering takes root.
        return sandboxes().join(slug).join("guest/tmp/started").exists();
    }
    is_up(slug, Room::Guest)
        && inside(slug, Room::Guest, true, &["test", "-e", "/tmp/started"])
            .output()
            .is_ok_and(|ended| ended.status.success())
}

/// The forms in which a secret is looked for.
fn forms(secret: &str) -> Vec<String> {
    let url: String = secret
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    vec![secret.to_owned(), base64::engine::general_purpose::STANDARD.encode(secret), url]
}

shared!(no_credential_is_in_the_bottle: docker, bubblewrap, smolmachines);
fn no_credential_is_in_the_bottle() {
    let job = Job::new(&commands(&["touch /tmp/started; while [ ! -e /tmp/go ]; do sleep 0.1; done"]));
    let mut running = job.start();
    let slug = wait_for_agent(&job, &mut running);
    let identity = std::fs::read_to_string(&job.upstream.identity).expect("the key");
    let mut patterns = forms(job.world.secret());
    patterns.extend(identity.lines().filter(|line| line.len() > 30 && !line.starts_with("-----")).map(str::to_owned));
    let search = |room| {
        // A sandbox's /usr is the host's, which no bottle has written to, and large.
        let but = if here() == Place::Docker { "" } else { "--exclude-dir=usr" };
        let script = format!(
            "cat > /dev/shm/patterns; for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do grep -laF -f /dev/shm/patterns $f 2>/dev/null; done; \
                  grep -rlaF -f /dev/shm/patterns --exclude-dir=proc --exclude-dir=sys --exclude-dir=shm {but} / 2>/dev/null; rm /dev/shm/patterns; echo searched"
        );
        run_inside(&slug, room, true, &["sh", "-c", &script], patterns.join("\n").as_bytes())
    };
    let found = search(Room::Guest);
    // The control: the same search finds the identity in the bundle, where it belongs.
    let control = search(Room::Bundle);
    run_inside(&slug, Room::Guest, true, &["touch", "/tmp/go"], b"");
    ended_with(&running.wait(), 1);
    assert_eq!(found.trim(), "searched", "a secret is in the guest");
    assert!(control.contains("/run/secrets/"), "the search finds nothing anywhere: {control}");
}

shared!(what_no_route_allows_is_refused_and_says_what_is_missing: docker, bubblewrap, smolmachines);
fn what_no_route_allows_is_refused_and_says_what_is_missing() {
    let job = Job::new(&commands(&[
        "curl -sS -o /tmp/body -w '%{http_code}' https://example.com/a/b; cat /tmp/body",
        "curl -sS -X GET -w ' %{http_code}' https://api.anthropic.com/v1/models",
        "curl -sS -w ' %{http_code}' http://169.254.169.254/latest/meta-data/",
        "curl -sS --connect-timeout 5 https://203.0.113.7/",
    ]));
    ended_with(&job.run(), 1);
    let egress = job.world.record_file("egress.jsonl");
    let denied: Vec<serde_json::Value> = egress
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line"))
        .filter(|line: &serde_json::Value| line["verdict"] == "deny")
        .collect();
    assert!(denied.iter().any(|line| line["host"] == "example.com" && line["path"] == "/a/b"), "{egress}");
    assert!(denied.iter().any(|line| line["host"] == "api.anthropic.com" && line["method"] == "GET"), "{egress}");
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(transcript.contains("request_route") && transcript.contains("403"), "{transcript}");
}

shared!(nothing_secret_is_in_the_record: docker, bubblewrap, smolmachines);
fn nothing_secret_is_in_the_record() {
    let job = Job::new("");
    let [raw, base64, url] = &forms(job.world.secret())[..] else { panic!("three forms") };
    // The model says the secret, the agent's command prints it, a commit message and a file name carry it.
    let cassette = serde_json::json!({"version": 1, "turns": [
        {"text": format!("raw {raw} base64 {base64} url {url}"),
         "tools": [{"name": "Bash", "input": {"command": format!("echo raw {raw} base64 {base64} url {url}; git commit -q --allow-empty -m '{raw}'; git push origin HEAD")}}]},
        {"text": format!("again {raw}")},
    ]});
    job.world.write("cassette.yml", &cassette.to_string());
    let output = job.run();
    ended_with(&output, 5);
    let mut files = 0;
    for entry in std::fs::read_dir(job.world.record()).expect("the record") {
        let path = entry.expect("an entry").path();
        let text = String::from_utf8_lossy(&std::fs::read(&path).expect("a file")).into_owned();
        files += 1;
        for form in [raw, base64, url] {
            assert!(!text.contains(form.as_str()), "{} holds a secret", path.display());
        }
    }
    assert!(files >= 12, "{files} files");
    for form in [raw, base64, url] {
        assert!(!said(&output).contains(form.as_str()), "a secret was printed");
    }
    assert!(
        job.world.record_file("transcript.jsonl").contains("raw *** base64 *** url ***"),
        "the control: it was there to be masked"
    );
    assert!(job.world.record_file("cassette.jsonl").contains("***"));
}

shared!(nothing_is_left_after_success_failure_and_crash: docker, bubblewrap, smolmachines);
fn nothing_is_left_after_success_failure_and_crash() {
    // A run of another test that begins in between may see to the dead one first: then once more.
    let mut printed = String::new();
    assert!((0..3).any(|_| crashed_and_cleaned(&mut printed)), "{printed}");
}

/// A crash, and a run after it; tells whether this one has removed what the crash had left.
fn crashed_and_cleaned(printed: &mut String) -> bool {
    let volumes = || match here() {
        Place::Docker => sh(&["docker", "volume", "ls", "--quiet"]),
        Place::Bubblewrap | Place::Smolmachines => String::new(),
    };
    let before = volumes();
    let service = "exec redis-server --save '' --appendonly no";
    let job = Job::with_manifest(&commands(&["touch /tmp/started; sleep 60"]), |upstream| match here() {
        Place::Smolmachines => manifest(upstream),
        _ => with_services(upstream, &[("cache", 6379, service, "time: 60s")]),
    });
    let mut running = job.start();
    wait_for_agent(&job, &mut running);
    // A crash: nothing of the runner's own code runs any more.
    running.signal("KILL");
    running.wait();
    let [slug] = &job.world.slugs()[..] else { panic!("one run") };
    let left = left_behind(slug);

    // The next run cleans up, and does not touch what lives.
    job.world.write("cassette.yml", &commands(&["true"]));
    let output = job.run();
    ended_with(&output, 1);
    job.nothing_left();
    // Whoever removes something collects this first.
    assert!(
        job.world.path("state").join(slug).join("compose.log").exists(),
        "no dead run was found: {}",
        said(&output)
    );
    let keys = sh(&["sh", "-c", &format!("grep -rl 'PRIVATE KEY' {} || true", job.world.path("state").display())]);
    assert!(keys.is_empty(), "{keys}");
    let after = volumes();
    let new: Vec<&str> = after
        .lines()
        .filter(|volume| !before.contains(*volume) && !volume.starts_with("claude-bottle-tools"))
        .collect();
    assert!(new.iter().all(|volume| volume.starts_with("claude-bottle-")), "anonymous volumes are left: {new:?}");
    *printed = said(&output);
    !left.is_empty() && printed.contains(&format!("removed what the dead run {slug} had left"))
}
