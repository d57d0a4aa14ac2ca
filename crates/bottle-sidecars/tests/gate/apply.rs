//! New push rules in a running bundle, by the path of an approval: no push is dropped or judged by two policies.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bottle_types::door::Door;
use bottle_wire::control::{Applied, Apply, Call, SUPERVISE_SOCKET};

use crate::world::{World, said, until};

const APPLIES: usize = 300;

/// The gate under a supervisor, with supervise beside it.
fn bundle() -> World {
    bundle_with("run-1", |policy| policy)
}

/// The same for a run of this name, with the gate's policy changed.
pub(crate) fn bundle_with(run: &str, edit: impl FnOnce(String) -> String) -> World {
    let mut world = World::with(|_| {}, edit);
    world.stop_gate();
    fs::create_dir(world.path("internal")).expect("a directory");
    let file = |name: &str, text: &str| fs::write(world.path(name), text).expect("written");
    file("supervise.yaml", &format!("version: 1\nrun: {run}\napproval: local\n"));
    file(
        "bundle.yaml",
        "version: 1\ndaemons:\n  - { door: git-gate, config: gate.yaml }\n  - { door: supervise, config: supervise.yaml }\n",
    );
    let mut command = world.sidecars();
    command.arg("--internal").arg(world.path("internal"));
    command.args(["supervisor", "--config"]).arg(world.path("bundle.yaml"));
    world.start(command);
    until("supervise is ready", || world.gate_log().contains("all doors open"));
    world
}

fn apply(world: &World, policy: &str) -> Applied {
    let mut stream = UnixStream::connect(world.path("internal").join(SUPERVISE_SOCKET)).expect("supervise listens");
    let call = Call::Apply(Apply { door: Door::GitGate, text: policy.to_owned(), user: "ann".to_owned() });
    writeln!(stream, "{}", serde_json::to_string(&call).expect("JSON")).expect("sent");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("an answer");
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn push_rules_change_under_pushes_and_fetches() {
    let world = bundle();
    let own = world.policy();
    let policies = [own.clone(), own.replace("refs/heads/bottle/**", "refs/heads/other/**")];
    let done = AtomicBool::new(false);
    let (pushed, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let clones = [world.clone_origin(), world.clone_origin()];
    let mut times = vec![];
    thread::scope(|scope| {
        for (number, clone) in clones.iter().enumerate() {
            let (world, done, pushed, refused) = (&world, &done, &pushed, &refused);
            scope.spawn(move || {
                let mut count = 0;
                while !done.load(Ordering::Relaxed) {
                    count += 1;
                    let branch = format!("{}/{number}-{count}", if count % 2 == 0 { "bottle" } else { "other" });
                    let push =
                        format!("git commit -q --allow-empty -m x; git push \"$ORIGIN\" HEAD:refs/heads/{branch}");
                    let output = world.sh(clone, &push, &[]);
                    if output.status.success() {
                        pushed.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert!(said(&output).contains("not among the refs that may be pushed"), "{}", said(&output));
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    world.ok(clone, "git fetch -q \"$ORIGIN\"");
                }
            });
        }
        let start = Instant::now();
        let mut round = 0;
        // As long as it takes for every kind of traffic to have met it.
        while round < APPLIES || pushed.load(Ordering::Relaxed) < 6 || refused.load(Ordering::Relaxed) < 6 {
            assert!(start.elapsed() < Duration::from_secs(400), "{pushed:?} {refused:?}");
            let begun = Instant::now();
            let applied = apply(&world, &policies[(round + 1) % 2]);
            assert!(matches!(applied, Applied::InForce { .. }), "round {round}: {applied:?}");
            times.push(begun.elapsed());
            round += 1;
            thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Ordering::Relaxed);
    });
    times.sort_unstable();
    if let Ok(path) = std::env::var("BENCH_APPLY_GATE") {
        let ms = |at: usize| times[at.min(times.len() - 1)].as_secs_f64() * 1000.0;
        let (median, most) = (ms(times.len() / 2), ms(times.len()));
        let line = format!(
            "{{\"gate_applies\": {}, \"gate_median_ms\": {median:.2}, \"gate_max_ms\": {most:.2}}}",
            times.len()
        );
        fs::write(path, line).expect("written");
    }
    // What is in force is so for the next push.
    for (policy, allowed, denied) in [(&policies[0], "bottle", "other"), (&policies[1], "other", "bottle")] {
        let applied = apply(&world, policy);
        assert!(matches!(applied, Applied::InForce { .. }), "{applied:?}");
        let push = |name: &str| {
            let push =
                format!("git commit -q --allow-empty -m x; git push \"$ORIGIN\" HEAD:refs/heads/{name}/last-{allowed}");
            world.sh(&clones[0], &push, &[]).status.success()
        };
        assert!(push(allowed) && !push(denied));
    }
    assert_eq!(
        world.upstream_refs().lines().filter(|line| line.contains("refs/heads/") && !line.contains("/main ")).count(),
        pushed.into_inner() + 2
    );
}

/// The whole answer, if there is one.
fn try_apply(world: &World, policy: &str) -> Option<Applied> {
    let mut stream = UnixStream::connect(world.path("internal").join(SUPERVISE_SOCKET)).ok()?;
    let call = Call::Apply(Apply { door: Door::GitGate, text: policy.to_owned(), user: "ann".to_owned() });
    writeln!(stream, "{}", serde_json::to_string(&call).expect("JSON")).ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    serde_json::from_str(&answer).ok()
}

#[test]
fn a_gate_killed_in_the_middle_goes_by_the_old_rules_or_the_new_ones() {
    let world = bundle();
    let old = world.policy();
    let new = old.replace("refs/heads/bottle/**", "refs/heads/other/**");
    let clone = world.clone_origin();
    let lives = || world.gate_log().lines().filter(|line| line.contains("git-gate | started")).count();
    let push = |name: &str, round: usize| {
        let push = format!("git commit -q --allow-empty -m x; git push \"$ORIGIN\" HEAD:refs/heads/{name}/{round}");
        world.sh(&clone, &push, &[])
    };
    for round in 0..6 {
        assert!(matches!(apply(&world, &old), Applied::InForce { .. }));
        let before = lives();
        let applied = thread::scope(|scope| {
            let applying = scope.spawn(|| try_apply(&world, &new));
            thread::sleep(Duration::from_micros(900 * round as u64));
            let log = world.gate_log();
            let line = log.lines().rfind(|line| line.contains("git-gate | started")).expect("the gate runs");
            let pid = line.rsplit(' ').next().expect("its process");
            assert!(Command::new("kill").args(["-KILL", pid]).status().expect("kill").success());
            applying.join().expect("an end")
        });
        until("the gate is there again", || {
            lives() > before && UnixStream::connect(world.path("doors/git-gate.sock")).is_ok()
        });
        // supervise tells a door that has just been started what its record says.
        thread::sleep(Duration::from_millis(300));
        let (bottle, other) = (push("bottle", round), push("other", round));
        assert_ne!(bottle.status.success(), other.status.success(), "{round}: {}{}", said(&bottle), said(&other));
        let in_force = if other.status.success() { &new } else { &old };
        assert_eq!(fs::read_to_string(world.path("gate.yaml")).expect("rules"), *in_force, "round {round}");
        match applied {
            Some(Applied::InForce { .. }) => assert_eq!(in_force, &new, "round {round}"),
            Some(Applied::Kept { reason }) => assert_eq!(in_force, &old, "round {round}: {reason}"),
            None => {}
        }
        // Five failed starts in a row would be the end of the bundle.
        thread::sleep(Duration::from_millis(2000));
    }
}
