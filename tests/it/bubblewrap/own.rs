//! What only this backend can get wrong: the sandboxes' walls, their users, their limits, and machines that have none.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, Instant};

use bottle_testkit::{Running, cache, commands, random, said, sh};

use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, Room, on, processes, run_inside};
use crate::suite::promises::wait_for_agent;
use crate::suite::services::with_services;

/// A bwrap that is told to, and changes a word or more on the way.
pub(super) fn lying_bwrap(job: &Job, change: &str) -> String {
    other_bwrap(job, change, "exec /usr/bin/bwrap \"${args[@]}\"")
}

/// A program in bwrap's place, which changes a word or more of what it is told and then starts the real one in its own way.
fn other_bwrap(job: &Job, change: &str, start: &str) -> String {
    let script = format!("#!/bin/bash\nargs=(); for word; do {change}; args+=(\"$word\"); done\n{start}\n");
    let path = job.world.write("lying/bwrap", &script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let dir = path.parent().expect("a parent");
    for above in dir.ancestors().take(2) {
        // As root the sandboxes have other users, who must get at it.
        std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    format!("{}:{}", dir.display(), std::env::var("PATH").expect("PATH"))
}

fn stops(change: &str, case: &str) {
    on_here(|| ());
    let job = Job::new(&commands(&["echo the agent started"]));
    let path = lying_bwrap(&job, change);
    let output = job.command().env("PATH", path).output().expect("the runner");
    ended_with(&output, 4);
    assert!(said(&output).contains("the bottle is not sealed"), "{}", said(&output));
    assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
    let junit = job.world.record_file("junit.xml");
    let at = junit.find(&format!("name=\"{case}")).unwrap_or_else(|| panic!("no case {case}: {junit}"));
    assert!(junit[at..].split("<testcase").next().is_some_and(|case| case.contains("<failure")), "{case} passed");
    job.nothing_left();
}

#[test]
fn a_sandbox_that_is_cut_short_while_it_is_made_is_not_left_behind() {
    on_here(|| ());
    // What is killed leaves its child behind, as the real one does in the moment before it has tied the child to itself.
    let job = Job::new(&commands(&["true"]));
    let start = "/usr/bin/bwrap \"${args[@]}\" <&0 & wait";
    let path = other_bwrap(&job, "[ \"$word\" != --die-with-parent ] || continue", start);
    let running = Running::new(job.command().env("PATH", path).spawn().expect("the runner"));
    let made = || job.world.slugs().iter().any(|slug| !processes(slug).is_empty());
    let since = Instant::now();
    while !made() {
        assert!(since.elapsed() < Duration::from_secs(30), "no bwrap is started");
        std::thread::sleep(Duration::from_millis(1));
    }
    running.signal("INT");
    let output = running.wait();
    ended_with(&output, 130);
    job.nothing_left();
}

/// Says for the rest of this test where it runs.
pub(super) fn on_here(test: fn()) {
    on(Place::Bubblewrap, test);
}

#[test]
fn a_guest_with_the_hosts_network_stops_the_run() {
    stops("[ \"$word\" != --unshare-net ] || continue", "net.interfaces");
}

/// Runs a job whose doors are not what the runner has planned: the self-test sends the canary, and the run ends before the agent.
fn stops_at_the_canary(change: &str, start: &str, door: &str) {
    on_here(|| ());
    let job = Job::new(&commands(&["echo the agent started"]));
    let path = other_bwrap(&job, change, &format!("{start}\nexec /usr/bin/bwrap \"${{args[@]}}\""));
    let output = job.command().env("PATH", path).output().expect("the runner");
    ended_with(&output, 4);
    let words = format!("a door does not refuse a known secret: {door}: ");
    assert!(said(&output).contains(&words), "{door}: {}", said(&output));
    assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
    let junit = job.world.record_file("junit.xml");
    let at = junit.find(&format!("name=\"canary.{door}\"")).unwrap_or_else(|| panic!("no case of {door}: {junit}"));
    assert!(junit[at..].split("<testcase").next().is_some_and(|case| case.contains("<failure")), "{door} passed");
    // A record whose doors went by another policy than the plan's does not hold.
    job.gone();
}

#[test]
fn a_door_that_does_not_know_the_canary_stops_the_run() {
    for (file, door) in [("pipelock.yaml", "egress"), ("gate.yaml", "git-gate"), ("supervise.yaml", "supervise")] {
        // The policy files are written beside the sandbox's start, and read when it has started.
        let start = format!(
            "for word in \"${{args[@]}}\"; do case $word in */bundle/config) file=$word/{file};; esac; done\n\
             if [ -n \"$file\" ]; then until [ -s \"$file\" ]; do sleep 0.01; done; sleep 0.1\n\
             sed -i 's/- BOTTLE_CANARY$/- BOTTLE_TEST_TOKEN/' \"$file\"; fi"
        );
        stops_at_the_canary("true", &start, door);
    }
}

#[test]
fn a_door_that_answers_wrongly_stops_the_run() {
    // Nothing is cloned through another door than the gate, so that the gate's case is in bottle-link's own tests.
    for (port, socket, door) in [(8889, "supervise.sock", "egress"), (9100, "egress.sock", "supervise")] {
        stops_at_the_canary(&format!("[[ \"$word\" != {port}=*.sock ]] || word={port}={socket}"), "", door);
    }
}

#[test]
fn a_service_with_the_hosts_network_stops_the_run() {
    on_here(|| ());
    let services = [("cache", 6379, "exec redis-server --save ''", "time: 30s")];
    let job = Job::with_manifest(&commands(&["true"]), |upstream| with_services(upstream, &services));
    let path = lying_bwrap(&job, "[[ \"$*\" != */service-cache/* || \"$word\" != --unshare-net ]] || continue");
    let output = job.command().env("PATH", path).output().expect("the runner");
    ended_with(&output, 4);
    assert!(said(&output).contains("a service would have a network: "), "{}", said(&output));
    assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
    job.nothing_left();
}

#[test]
fn a_guest_without_its_seccomp_programs_stops_the_run() {
    stops(
        "if [ -n \"$skip\" ]; then skip=; continue; fi; if [ \"$word\" = --add-seccomp-fd ]; then skip=1; continue; fi",
        "proc.seccomp",
    );
}

#[test]
fn a_guest_with_a_directory_of_the_host_stops_the_run() {
    stops("[ \"$word\" != --proc ] || args+=(--ro-bind /var /mnt)", "fs.mounts");
}

#[test]
fn a_guest_that_may_write_the_system_stops_the_run() {
    stops("[ \"$word\" != --proc ] || args+=(--bind /usr /usr)", "fs.mounts");
}

#[test]
fn nothing_of_the_hosts_is_in_the_guest() {
    on_here(|| ());
    let home = std::env::var("HOME").expect("HOME");
    let secret = std::path::Path::new(&home).join(format!("bottle-test-{}", random(12)));
    std::fs::write(&secret, "only the host's").expect("a file");
    let script = format!(
        "ls -a / /home /root /run /srv /mnt /var/run /sys 2>&1; cat {} /etc/shadow /proc/1/environ 2>&1; \
         echo mine > /workspace/mine && echo mine > ~/mine && echo wrote; \
         for f in /usr/x /etc/x /etc/hosts /x /run/x /run/bottle/x /opt/claude-bottle/bin/x /dev/x; do \
         if echo x 2>/dev/null >>$f; then echo CHANGED $f; fi; done; \
         unshare -Ur true 2>&1; mount -t tmpfs x /mnt 2>&1; ls /proc | grep -c '^[0-9]'; echo end-of-list",
        secret.display()
    );
    let job = Job::new(&commands(&[&script]));
    let output = job.run();
    std::fs::remove_file(&secret).expect("removed");
    ended_with(&output, 1);
    let transcript = job.world.record_file("transcript.jsonl");
    let result =
        transcript.lines().find(|line| line.contains("end-of-list") && line.contains("tool_result")).expect("a result");
    assert!(result.contains("wrote"), "{result}");
    assert!(
        !result.contains("only the host's")
            && !result.contains("CHANGED")
            && !result.contains("root:x")
            && !result.contains("root:*")
            && !result.contains("root:!"),
        "{result}"
    );
    assert!(result.contains("No such file") && result.contains("Operation not permitted"), "{result}");
    assert!(!result.contains(job.world.secret()));
}

#[test]
fn the_sandboxes_are_no_user_who_owns_anything() {
    on_here(|| ());
    let job = Job::new(&commands(&["touch /tmp/started; while [ ! -e /tmp/go ]; do sleep 0.1; done"]));
    let mut running = job.start();
    let slug = wait_for_agent(&job, &mut running);
    let own = sh(&["id", "--user"]);
    let mut users = vec![];
    for entry in std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        // The link and the sidecars, inside.
        if line.starts_with("/opt/claude-bottle/bin/")
            && let Ok(found) = entry.metadata()
        {
            users.push(found.uid().to_string());
        }
    }
    run_inside(&slug, Room::Guest, true, &["touch", "/tmp/go"], b"");
    ended_with(&running.wait(), 1);
    assert!(users.len() >= 5, "the search finds nothing: {users:?}");
    if own == "0" {
        // Those that hide from each other belong to root in /proc; none of the others does.
        assert!(users.iter().filter(|user| *user != "0").count() >= 4, "{users:?}");
    }
    job.nothing_left();
}

#[test]
fn a_killed_runner_takes_its_sandboxes_along() {
    on_here(|| ());
    // A run of another test that begins in between may see to the rest first: then once more.
    let mut said = String::new();
    assert!((0..3).any(|_| killed_and_cleaned(&mut said)), "{said}");
}

/// Kills a runner and cleans up, and tells whether that found something to do.
fn killed_and_cleaned(printed: &mut String) -> bool {
    // Not what the same test of another user has, beside this one.
    let sleep = format!("sleep {}", 1_000_000 + std::process::id());
    let job = Job::new(&commands(&[&format!("touch /tmp/started; setsid {sleep}")]));
    let mut running = job.start();
    let slug = wait_for_agent(&job, &mut running);
    assert!(!processes(&slug).is_empty());
    running.signal("KILL");
    running.wait();
    for attempt in 0.. {
        let sleeps = sh(&["sh", "-c", &format!("ps -eo args | grep '^{sleep}$' || true")]);
        if processes(&slug).is_empty() && sleeps.is_empty() {
            break;
        }
        assert!(attempt < 40, "still there a second later: {:?} {sleeps}", processes(&slug));
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    // And the rest goes when somebody asks.
    let cleanup = job.world.runner().arg("cleanup").output().expect("the runner");
    ended_with(&cleanup, 0);
    job.nothing_left();
    *printed = said(&cleanup);
    printed.lines().any(|line| line.starts_with(&format!("{slug}: removed ")) && line.contains("1 directory"))
}

#[test]
fn limits_hold_and_the_record_says_by_what() {
    on_here(|| ());
    let bomb = "python3 - <<'END'\nimport os, signal, time\nchildren = []\ntry:\n    while len(children) < 300:\n        \
                pid = os.fork()\n        if pid == 0:\n            time.sleep(60)\n            os._exit(0)\n        children.append(pid)\n\
                except OSError:\n    pass\nfor pid in children:\n    os.kill(pid, signal.SIGKILL)\nprint('FORKED', len(children), 'OF')\nEND";
    let hog = "python3 -c \"x = bytearray(3 << 30); print('GOT', len(x))\"";
    let job = Job::with_manifest(&commands(&[bomb, hog]), |upstream| {
        manifest(upstream).replace("    env:", "    resources: { cpus: 1, memory: 1GiB, pids: 128 }\n    env:")
    });
    let output = job.run();
    assert!(said(&output).contains("limits of the guest: memory by"), "{}", said(&output));
    let transcript = job.world.record_file("transcript.jsonl");
    let forked = transcript.split("FORKED ").filter_map(|rest| rest.split_once(" OF")?.0.parse::<u32>().ok()).next();
    assert!(forked.is_some_and(|forked| forked < 128), "300 processes in a bottle for 128: {forked:?} {transcript}");
    assert!(!transcript.contains("GOT 3"), "3 GiB in a bottle of 1: {transcript}");
    job.nothing_left();
}

#[test]
fn programs_trust_the_door_by_the_systems_own_store() {
    on_here(|| ());
    // No variable names a file of authorities: what is left is the system's store, as a file and as a directory of hashes.
    let ask = "env -i PATH=/usr/bin:/bin https_proxy=$https_proxy";
    let curl = format!("{ask} curl -s -o /dev/null -w 'CURL %{{http_code}}' https://nowhere.bottle.test/");
    let openssl = format!(
        "{ask} openssl s_client -proxy 127.0.0.1:8889 -connect nowhere.bottle.test:443 -CApath /etc/ssl/certs \
         -verify_return_error </dev/null 2>&1 | grep -a 'Verify return code'"
    );
    let job = Job::new(&commands(&[&curl, &openssl]));
    let output = job.run();
    assert!(job.world.record_file("junit.xml").contains("in the system's trust store"), "{}", said(&output));
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(transcript.contains("CURL 403"), "{transcript}");
    assert!(transcript.contains("Verify return code: 0 (ok)"), "{transcript}");
    job.nothing_left();
}

#[test]
fn a_machine_that_forbids_namespaces_is_told_so() {
    on_here(|| ());
    let job = Job::new(&commands(&[]));
    // The words of the real one where user namespaces are off.
    let path = lying_bwrap(&job, "echo 'bwrap: No permissions to create new namespace' >&2; exit 1");
    let output = job.command().env("PATH", path).output().expect("the runner");
    ended_with(&output, 4);
    assert!(said(&output).contains("bubblewrap can't make a sandbox here"), "{}", said(&output));
    assert!(said(&output).contains("seccomp=unconfined") || said(&output).contains("sysctl"), "{}", said(&output));
    job.nothing_left();
}

#[test]
fn without_an_engine_auto_is_bubblewrap() {
    on_here(|| ());
    let job = Job::new(&commands(&["true"]));
    let mut command = job.world.runner();
    command.args(job.args.iter().filter(|arg| !["--backend", "bubblewrap"].contains(&arg.as_str())));
    command.current_dir(&job.checkout).env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let output = command.output().expect("the runner");
    ended_with(&output, 1);
    let metadata: serde_json::Value = serde_json::from_str(&job.world.record_file("metadata.json")).expect("metadata");
    assert_eq!(metadata["backend"], "bubblewrap");
    job.nothing_left();
}

/// A run that ends with 4 before its agent starts, says this once, and leaves nothing.
fn refused(job: &Job, output: &std::process::Output, words: &[&str]) {
    ended_with(output, 4);
    let text = said(output);
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
    let error = text.lines().find(|line| line.starts_with("error: ") || line.contains(words[0])).expect("a line");
    assert!(error.len() < 500, "{} bytes: {error}", error.len());
    let started =
        job.world.slugs().iter().any(|slug| job.world.path("state").join(slug).join("transcript.jsonl").exists());
    assert!(!started, "the agent was started: {text}");
    job.nothing_left();
}

#[test]
fn a_directory_of_runs_that_the_sandboxes_cant_reach_is_named() {
    on_here(|| ());
    if sh(&["id", "--user"]) != "0" {
        // There the sandboxes are the runner's own user.
        return;
    }
    let job = Job::new(&commands(&["true"]));
    let closed = job.world.path("closed");
    std::fs::create_dir_all(&closed).expect("a directory");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("closed");
    let output = job.command().env("BOTTLE_RUNTIME_DIR", closed.join("b")).output().expect("the runner");
    refused(&job, &output, &["is closed to other users (mode 0700)", "set BOTTLE_RUNTIME_DIR", "chmod o+x"]);
}

#[test]
fn the_guest_has_the_hosts_tools_that_were_named_and_nothing_beside_them() {
    on_here(|| ());
    // Not below /tmp, which is the guest's own; as root the sandboxes have other users, who must get there.
    let root = sh(&["id", "--user"]) == "0";
    let tools = tempfile::tempdir_in(if root { "/opt" } else { env!("CARGO_TARGET_TMPDIR") }).expect("a directory");
    let place = tools.path().canonicalize().expect("real");
    for (name, text) in [("tool/bin/greet", "#!/bin/sh\necho hello from a tool\n"), ("beside/secret", "nobody's\n")] {
        let file = place.join(name);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
        std::fs::write(&file, text).expect("a file");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let (tool, place) = (place.join("tool").display().to_string(), place.display().to_string());
    let look = format!("greet; ls {place}; touch {tool}/x {place}/x; echo \"java: $JAVA_HOME\"; echo \"path: $PATH\"");
    let job = Job::new(&commands(&[&look]));
    let mut command = job.command();
    command.env("BOTTLE_HOST_TOOLS", &tool).env("JAVA_HOME", format!("{place}/beside"));
    let output = command.output().expect("the runner");
    // Nothing was mended.
    ended_with(&output, 1);
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(transcript.contains("hello from a tool\\ntool\\n"), "{transcript}");
    for dir in [&tool, &place] {
        assert!(transcript.contains(&format!("'{dir}/x': Read-only file system")), "{transcript}");
    }
    assert!(transcript.contains("java: \\n"), "a variable names what the guest does not have: {transcript}");
    assert!(transcript.contains(&format!("path: /opt/claude-bottle/bin:{tool}/bin:")), "{transcript}");
    job.nothing_left();

    let job = Job::new(&commands(&["true"]));
    let output = job.command().env("BOTTLE_HOST_TOOLS", "/etc").output().expect("the runner");
    ended_with(&output, 2);
    assert!(said(&output).contains("BOTTLE_HOST_TOOLS names /etc, which can't be in the bottle"), "{}", said(&output));
}

#[test]
fn what_the_host_has_mounted_among_the_kernels_settings_is_covered() {
    on_here(|| ());
    // As most hosts have binfmt_misc, which not every kernel has.
    let seen = "ls /proc/sys/fs/binfmt_misc | wc -l; touch /proc/sys/fs/binfmt_misc/x 2>&1; echo end-of-list";
    let job = Job::new(&commands(&[seen]));
    let output = beside_a_mount(&job, "ramfs", "/proc/sys/fs/binfmt_misc").output().expect("unshare");
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(transcript.contains("0\\ntouch: cannot touch"), "{}\n{transcript}", said(&output));
    assert!(transcript.contains("Read-only file system\\nend-of-list"), "{transcript}");
    job.nothing_left();
}

/// The run with a variable that names a new file system of this size.
fn on_a_disk_of(job: &Job, variable: &str, (size, mode): (&str, &str)) -> std::process::Output {
    let disk = job.world.path("disk");
    std::fs::create_dir_all(&disk).expect("a directory");
    for above in disk.ancestors().take(2) {
        std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let mut command = beside_a_mount(job, &format!("tmpfs -o mode={mode},size={size}"), &disk.display().to_string());
    command.env(variable, &disk).output().expect("unshare")
}

/// The job in a mount namespace of its own, where this kind of file system is mounted there.
fn beside_a_mount(job: &Job, kind: &str, place: &str) -> std::process::Command {
    let runner = job.command();
    let mut command = std::process::Command::new("unshare");
    job.world.clean(&mut command);
    if sh(&["id", "--user"]) != "0" {
        command.args(["--user", "--map-root-user"]);
    }
    let script = format!("mount -t {kind} none \"$0\" && exec \"$@\"");
    command.args(["--mount", "sh", "-c", &script, place]).arg(runner.get_program()).args(runner.get_args());
    command.current_dir(&job.checkout);
    command
}

#[test]
fn a_full_disk_is_named_before_the_agent_starts() {
    on_here(|| ());
    for variable in ["BOTTLE_STATE_DIR", "BOTTLE_RUNTIME_DIR"] {
        let job = Job::new(&commands(&["true"]));
        let output = on_a_disk_of(&job, variable, ("4m", "0755"));
        let words = ["is full: ", "MiB are free, and a run needs 64", "make room on it", variable];
        refused(&job, &output, &words);
    }
}

#[test]
fn a_state_directory_that_cant_be_written_is_named() {
    on_here(|| ());
    let job = Job::new(&commands(&["true"]));
    let output = job.command().env("BOTTLE_STATE_DIR", "/proc/bottle").output().expect("the runner");
    refused(
        &job,
        &output,
        &["failed to make the run record /proc/bottle", "set BOTTLE_STATE_DIR to a directory that can be written"],
    );
}

/// A store without room keeps nothing, and the run goes on.
#[test]
fn a_full_disk_keeps_no_setup() {
    on_here(|| ());
    let mut job = crate::suite::setup::large_job();
    job.args.extend(["--cwd".to_owned(), job.checkout.display().to_string()]);
    let output = on_a_disk_of(&job, "BOTTLE_CACHE_DIR", ("2m", "0700"));
    ended_with(&output, 0);
    let log = job.world.record_file("setup.log");
    assert!(log.contains("cache: not kept: ") && log.contains("No space left on device"), "{log}");
    job.nothing_left();
}

/// What the runner writes for `claude mcp add` is what the real one writes, as far as it is about servers, and the real one reads it.
#[test]
fn claude_is_told_about_its_server_as_it_would_tell_itself() {
    on_here(|| ());
    let job = Job::new(&commands(&["true"]));
    let mut plan = job.world.runner();
    plan.args(["plan", "--format", "json", "--task", "Fix it", "--backend", "bubblewrap"]).current_dir(&job.checkout);
    let planned = plan.output().expect("the runner");
    let planned: serde_json::Value = serde_json::from_slice(&planned.stdout).expect("a plan");
    let (mcp, name) = (&planned["mcp"], planned["mcp"]["name"].as_str().expect("a name"));
    let ours: serde_json::Value =
        serde_json::from_str(mcp["settings"]["text"].as_str().expect("a text")).expect("JSON");
    assert_eq!(ours.as_object().map(serde_json::Map::len), Some(1), "{ours}");

    let versions = std::fs::read_dir(cache().join("claude")).expect("Claude Code: scripts/demo --setup-only");
    let programs = versions.map(|version| version.expect("a version").path().join("claude"));
    let claude = programs.filter(|program| program.is_file()).max().expect("Claude Code: scripts/demo --setup-only");
    let register: Vec<&str> =
        mcp["register"].as_array().expect("a command").iter().filter_map(|word| word.as_str()).collect();
    let run = |home: &str, args: &[&str]| {
        let mut command = std::process::Command::new(&claude);
        job.world.clean(&mut command);
        std::fs::create_dir_all(job.world.path(home)).expect("a home");
        let output = command.args(args).env("HOME", job.world.path(home)).output().expect("claude");
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        said(&output)
    };
    run("real", &register[1..]);
    let real = std::fs::read_to_string(job.world.path("real/.claude.json")).expect("its settings");
    let real: serde_json::Value = serde_json::from_str(&real).expect("JSON");
    assert_eq!(real["mcpServers"], ours["mcpServers"]);

    job.world.write("ours/.claude.json", mcp["settings"]["text"].as_str().expect("a text"));
    let url = mcp["url"].as_str().expect("a url");
    let told = run("ours", &["mcp", "get", name]);
    assert!(told.contains(url), "{told}");
    let read = std::fs::read_to_string(job.world.path("ours/.claude.json")).expect("its settings");
    let read: serde_json::Value = serde_json::from_str(&read).expect("JSON");
    assert_eq!(read["mcpServers"], ours["mcpServers"]);
}

#[test]
fn a_run_goes_on_where_another_version_of_its_programs_takes_their_place() {
    on_here(|| ());
    let dir = tempfile::TempDir::new_in("/var/tmp").expect("a directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let base = dir.path().join("b");
    let wait = "touch /tmp/ready; while [ ! -e /tmp/go ]; do sleep 0.1; done";
    let push = "git commit --allow-empty -qm Work && git push -q origin HEAD && echo went there";
    let job = Job::with_manifest(&commands(&[wait, push]), |upstream| {
        manifest(upstream).replace("python3 -m unittest", "true")
    });
    let run = Running::new(job.command().env("BOTTLE_RUNTIME_DIR", &base).spawn().expect("the runner"));
    let since = Instant::now();
    let temporary = || job.world.slugs().first().map(|slug| base.join(slug).join("guest/tmp"));
    while !temporary().is_some_and(|dir| dir.join("ready").exists()) {
        assert!(since.elapsed() < Duration::from_secs(60), "the agent does not wait");
        std::thread::sleep(Duration::from_millis(20));
    }
    // What the start of that other version does to files that root's sandboxes can't reach where they are.
    for entry in std::fs::read_dir(base.join(".tools")).into_iter().flatten() {
        std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    // The gate writes its hooks anew.
    let gate = job.world.write("gate.yaml", &job.world.record_file("gate.yaml")).display().to_string();
    let applied =
        job.world.runner().args(["apply", &gate]).env("BOTTLE_RUNTIME_DIR", &base).output().expect("the runner");
    assert!(said(&applied).contains("in force"), "{}", said(&applied));
    std::fs::write(temporary().expect("a run").join("go"), "").expect("a file");
    let output = run.wait();
    ended_with(&output, 0);
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(transcript.contains("went there"), "{transcript}");
}
