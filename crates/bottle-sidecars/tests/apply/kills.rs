//! Kill -9 in the middle of an apply: what is in force afterwards is the old policy or the new one, and the record says which.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use bottle_testkit::until_within;
use bottle_types::door::Door;
use bottle_wire::control::{Applied, Apply, Call, SUPERVISE_SOCKET};
use bottle_wire::proposal::PolicyFile;

use crate::load::apply;
use crate::world::{Client, World, routes, sidecars};

/// Which of the two policies the doors go by: every answer has to say the same.
fn in_force(world: &World) -> &'static str {
    let mut client = Client::new(&world.path("doors/egress.sock"));
    let mut get = |path: &str| client.send(world.origin, "GET", path, "").0;
    match (get("/old/x"), get("/new/x"), get("/old/x"), get("/new/x")) {
        (200, 403, 200, 403) => "/old/**",
        (403, 200, 403, 200) => "/new/**",
        other => panic!("neither policy: {other:?}"),
    }
}

/// Waits until a door answers again.
fn wait_for(world: &World, socket: &str) {
    let answers = || std::os::unix::net::UnixStream::connect(world.path(socket)).is_ok();
    until_within(Duration::from_secs(10), &format!("{socket} answers"), answers);
}

fn old_policy(world: &World) {
    let old = apply(&world.path("internal"), Door::Egress, &routes(world.origin, "/old/**"));
    assert!(matches!(old, Some(Applied::InForce { .. })), "{old:?}");
}

/// Kills a door a few times at different moments of an apply.
fn kill_in_the_middle(door: &str) {
    let world = World::start("approval: local\n");
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..6 {
        old_policy(&world);
        let internal = world.path("internal");
        let text = routes(world.origin, "/new/**");
        let applying = thread::spawn(move || apply(&internal, Door::Egress, &text));
        thread::sleep(Duration::from_micros(700 * round));
        world.kill(door, usize::try_from(round).expect("a number") + 1);
        let applied = applying.join().expect("an end");
        world.line(&format!("{door} | started"), usize::try_from(round).expect("a number") + 2);
        for socket in ["doors/egress.sock", "internal/pipelock.sock", "internal/supervise-control.sock"] {
            wait_for(&world, socket);
        }
        // A door that has just been started has the time to be told, and supervise answers when it has put in force what its
        // record says; an answer that came is the truth.
        thread::sleep(Duration::from_millis(300));
        world.list();
        let policy = in_force(&world);
        assert_eq!(world.policy(PolicyFile::Routes), routes(world.origin, policy), "round {round}");
        match applied {
            Some(Applied::InForce { .. }) => assert_eq!(policy, "/new/**", "round {round}"),
            Some(Applied::Kept { reason }) => assert_eq!(policy, "/old/**", "round {round}: {reason}"),
            None => {}
        }
        world.verify().unwrap_or_else(|error| panic!("round {round}: {error}"));
        seen.insert(policy);
        // Five failed starts in a row would be the end of the bundle.
        thread::sleep(Duration::from_millis(2000));
    }
    assert!(!seen.is_empty());
}

#[test]
fn of_egress() {
    kill_in_the_middle("egress");
}

#[test]
fn of_pipelock() {
    kill_in_the_middle("pipelock");
}

#[test]
fn of_supervise() {
    kill_in_the_middle("supervise");
}

#[test]
fn of_whoever_asked_for_it() {
    let world = World::start("approval: local\n");
    for round in 0..8 {
        old_policy(&world);
        let mut command = sidecars(world.dir.path());
        let command =
            command.args(["control", "apply", "--door", "egress"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("control starts");
        let text = routes(world.origin, "/new/**");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), text.as_bytes()).expect("sent");
        thread::sleep(Duration::from_millis(2 * round));
        child.kill().expect("a kill");
        child.wait().expect("an end");
        // What was begun is finished without it.
        thread::sleep(Duration::from_millis(100));
        let policy = in_force(&world);
        assert_eq!(world.policy(PolicyFile::Routes), routes(world.origin, policy), "round {round}");
        world.verify().unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

#[test]
fn of_the_supervisor_leaves_a_whole_file() {
    for round in 0..6 {
        let mut world = World::start("approval: local\n");
        old_policy(&world);
        let (internal, text) = (world.path("internal"), routes(world.origin, "/new/**"));
        let applying = thread::spawn(move || apply(&internal, Door::Egress, &text));
        thread::sleep(Duration::from_micros(500 * round));
        world.end();
        let _ = applying.join();
        let policy = world.policy(PolicyFile::Routes);
        let whole = ["/old/**", "/new/**"].map(|path| routes(world.origin, path));
        assert!(whole.contains(&policy), "round {round}: {policy}");
    }
}

/// One line, and nobody who waits for the answer.
#[test]
fn of_the_connection() {
    let world = World::start("approval: local\n");
    old_policy(&world);
    let mut stream =
        std::os::unix::net::UnixStream::connect(world.path("internal").join(SUPERVISE_SOCKET)).expect("open");
    let text = routes(world.origin, "/new/**");
    let call = Call::Apply(Apply { door: Door::Egress, text, user: "ann".to_owned() });
    let line = format!("{}\n", serde_json::to_string(&call).expect("JSON"));
    std::io::Write::write_all(&mut stream, line.as_bytes()).expect("sent");
    drop(stream);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(in_force(&world), "/new/**");
    assert!(world.verify().is_ok());
}
