//! What is Docker's alone: an engine that is not there, is another or answers with a page, other images, and containers that several
//! runs remove at once.

use std::process::Stdio;

use bottle_plan::plan::AGENT_IMAGE;
use bottle_testkit::{World, commands, random, said, sh};

use crate::RUNNER;
use crate::job::{Job, ended_with, manifest};
use crate::place::left_behind;
use crate::suite::bad_world::fails;

#[test]
fn the_engine_is_down() {
    let job = Job::new(&commands(&[]));
    fails(
        &job,
        &[],
        &[("DOCKER_HOST", "unix:///nonexistent/docker.sock")],
        4,
        &["no Docker engine answers", "start it"],
    );
}

#[test]
fn the_image_is_missing() {
    let job = Job::new(&commands(&[]));
    let says = ["the image bottle.invalid/none:1 is not here and can't be pulled", "name another `image:`"];
    fails(&job, &["--image", "bottle.invalid/none:1"], &[], 4, &says);
}

/// podman 4.3.1's own answer to /version, but for parts that say nothing here.
const PODMAN: &str = r#"{"Platform":{"Name":"linux/amd64/debian-12"},"Version":"4.3.1","ApiVersion":"1.41","MinAPIVersion":"1.24",
"Os":"linux","Arch":"amd64","Components":[{"Name":"Podman Engine","Version":"4.3.1","Details":{"APIVersion":"4.3.1"}}]}"#;

/// An engine's socket that answers everything with this.
fn socket_that_says(world: &World, status: &'static str, body: String) -> String {
    use std::io::{Read as _, Write as _};
    let path = world.path("engine.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
            let _ = stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    format!("unix://{}", path.display())
}

/// The runner's words about an engine that answers so.
fn with_an_engine_that_says(status: &'static str, body: String) -> String {
    let world = World::new(RUNNER);
    world.write("claude-bottle.yml", "version: 1\nbottles:\n  default: {}\n");
    let mut command = world.runner();
    command
        .args(["run", "--task", "x", "--backend", "docker"])
        .env("DOCKER_HOST", socket_that_says(&world, status, body));
    let output = command.output().expect("the runner");
    ended_with(&output, 4);
    said(&output)
}

#[test]
fn podman_as_the_engine_is_told_what_it_lacks_in_one_sentence() {
    let text = with_an_engine_that_says("200 OK", PODMAN.to_owned());
    let words = "the engine is podman 4.3.1, whose Docker API takes no seccomp profile with a container";
    assert!(text.contains(words) && text.contains("--backend bubblewrap"), "{text}");
    assert!(text.len() < 2000, "{} bytes: {text}", text.len());
}

/// What runs have left has to go from an engine that has become unfit for new ones, too.
#[test]
fn cleanup_looks_at_an_engine_that_can_t_run_a_bottle() {
    use std::io::{Read as _, Write as _};
    let world = World::new(RUNNER);
    let listener = std::os::unix::net::UnixListener::bind(world.path("engine.sock")).expect("a socket");
    let (said, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or_default();
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let body = match &path {
                path if path.contains("/containers/json") || path.contains("/networks") => "[]",
                path if path.contains("/volumes") => r#"{"Volumes":[]}"#,
                path if path.contains("/_ping") => "OK",
                _ => PODMAN,
            };
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let _ = stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
            let _ = said.send(path);
        }
    });
    let engine = format!("unix://{}", world.path("engine.sock").display());
    let output = world.runner().arg("cleanup").env("DOCKER_HOST", engine).output().expect("the runner");
    ended_with(&output, 0);
    let asked: Vec<String> = asked.try_iter().collect();
    for kind in ["/containers/json", "/networks", "/volumes"] {
        assert!(asked.iter().any(|path| path.contains(kind)), "{kind} in {asked:?}");
    }
}

#[test]
fn an_engine_that_answers_with_a_page_is_quoted_in_a_line() {
    let page = format!("{{\"message\": \"opening seccomp profile failed: {}\"}}", "names ".repeat(2000));
    let text = with_an_engine_that_says("500 Internal Server Error", page);
    assert!(text.contains("opening seccomp profile failed: names names"), "{text}");
    assert!(text.len() < 2500, "{} bytes: {text}", text.len());
}

/// Runs that start at the same time find the same dead run.
#[test]
fn a_dead_run_that_several_remove_at_once_is_removed() {
    let world = World::new(RUNNER);
    let slug = format!("dead-{}", random(6).to_lowercase());
    let record = world.path("state").join(&slug);
    std::fs::create_dir_all(&record).expect("a directory");
    let labels = [format!("io.claude-bottle.slug={slug}"), format!("io.claude-bottle.state={}", record.display())];
    let [of, at] = &labels;
    sh(&["docker", "run", "--detach", "--label", of, "--label", at, "--entrypoint", "sleep", AGENT_IMAGE, "600"]);
    let cleanup = || {
        let mut command = world.runner();
        command.arg("cleanup").stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the runner")
    };
    let several: Vec<_> = (0..4).map(|_| cleanup()).collect();
    for one in several {
        ended_with(&one.wait_with_output().expect("an end"), 0);
    }
    assert!(left_behind(&slug).is_empty(), "{:?}", left_behind(&slug));
}

#[test]
fn any_glibc_image_with_git_and_sh_will_do() {
    let job = Job::with_manifest(
        &commands(&[
            "id; claude --version; printf 'x\\n' > new.txt; git add -A; git commit -qm new; git push origin HEAD",
        ]),
        |upstream| {
            manifest(upstream)
                .replace("    egress:\n", "    image: claude-bottle-test/foreign:1\n    egress:\n")
                .replace("    verify: [\"python3 -m unittest\"]\n", "    verify: [\"test -f new.txt\"]\n")
        },
    );
    let output = job.run();
    ended_with(&output, 0);
    assert!(job.world.record_file("transcript.jsonl").contains("uid=1000"));
    assert!(
        job.world.record_file("junit.xml").contains("named by variables"),
        "the image has no update-ca-certificates"
    );
}
