//! The whole road from inside a container that has only the host's Docker socket, as Gitea's runner gives its jobs.

use std::process::Command;

use bottle_testkit::{World, commands, said, sh};

use crate::RUNNER;
use crate::job::{Job, ended_with};

#[test]
fn the_main_job_runs_where_no_path_is_shared_with_the_engine() {
    let cassette =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cassette.yml"))
            .expect("the cassette");
    let job = Job::new(&cassette);
    let compose = sh(&[
        "sh",
        "-c",
        "docker info --format '{{range .ClientInfo.Plugins}}{{if eq .Name \"compose\"}}{{.Path}}{{end}}{{end}}'",
    ]);
    let docker = sh(&["sh", "-c", "readlink -f $(command -v docker)"]);
    let container = sh(&[
        "docker",
        "create",
        "--user",
        "0:0",
        "--volume",
        "/var/run/docker.sock:/var/run/docker.sock",
        "--env",
        "BOTTLE_STATE_DIR=/state",
        "--env",
        &format!("BOTTLE_TEST_TOKEN={}", job.world.secret()),
        "--env",
        "HOME=/root",
        "--workdir",
        "/job/app",
        "--entrypoint",
        "bottle-runner",
        "ghcr.io/claude-bottle/agent:v1",
        "run",
        "--event",
        "/job/issue.json",
        "--replay",
        "/job/cassette.yml",
        "--cwd",
        "/job/app",
    ]);
    let dir = job.world.path(".");
    let event = format!("{}/examples/issue-labeled.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(job.world.path("tree/job")).expect("a directory");
    sh(&["cp", "-R", &job.checkout.display().to_string(), &format!("{}/tree/job/app", dir.display())]);
    sh(&["cp", &event, &format!("{}/tree/job/issue.json", dir.display())]);
    sh(&["cp", &format!("{}/cassette.yml", dir.display()), &format!("{}/tree/job/cassette.yml", dir.display())]);
    for (from, to) in [
        (docker.as_str(), "/usr/local/bin/docker"),
        (env!("CARGO_BIN_EXE_bottle-runner"), "/usr/local/bin/bottle-runner"),
    ] {
        sh(&["docker", "cp", "--follow-link", from, &format!("{container}:{to}")]);
    }
    // The manifest names the key by its path, which is the same in the container.
    let identity = job.upstream.identity.display().to_string();
    let parents = job.world.write("tree/x", "");
    let inside = format!("{}{}", parents.parent().expect("a parent").display(), identity);
    std::fs::create_dir_all(std::path::Path::new(&inside).parent().expect("a parent")).expect("directories");
    std::fs::copy(&identity, &inside).expect("the key");
    let plugins = job.world.write("tree/usr/local/lib/docker/cli-plugins/x", "");
    std::fs::copy(&compose, plugins.with_file_name("docker-compose")).expect("the Compose plugin");
    sh(&["docker", "cp", &format!("{}/.", parents.parent().expect("a parent").display()), &format!("{container}:/")]);

    let output = Command::new("docker").args(["start", "--attach", &container]).output().expect("docker");
    let record = job.world.path("state-inside");
    let copied =
        Command::new("docker").args(["cp", &format!("{container}:/state"), &record.display().to_string()]).output();
    sh(&["docker", "rm", "--force", "--volumes", &container]);
    assert!(output.status.success(), "{}", said(&output));
    let refs = job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]);
    assert_eq!(refs.lines().count(), 1, "{refs}");
    assert!(copied.expect("docker cp").status.success());
    let slug = std::fs::read_dir(&record).expect("the state").next().expect("a run").expect("an entry").file_name();
    assert!(crate::place::left_behind(&slug.to_string_lossy()).is_empty());
}

/// bubblewrap inside of a container, as a job's container may be: by what the engine gives it, it works, or says what is
/// in the way.
#[test]
fn bubblewrap_in_a_container_works_or_names_what_is_in_its_way() {
    let world = World::new(RUNNER);
    let dir = world.path("in");
    let script = "export PATH=/in:$PATH LD_LIBRARY_PATH=/in HOME=/tmp/h BOTTLE_CLAUDE=/opt/claude-bottle/bin/claude BOTTLE_STATE_DIR=/tmp/s\n\
                  mkdir /tmp/h /tmp/w; cd /tmp/w; cp /in/claude-bottle.yml .\n\
                  bottle-runner run --task x --backend bubblewrap --replay /in/cassette.yml\n";
    world.write("in/run", script);
    world.write("in/claude-bottle.yml", "version: 1\nbottles: { default: {} }\n");
    world.write("in/cassette.yml", &commands(&["echo it runs"]));
    let bins = std::path::Path::new(env!("CARGO_BIN_EXE_bottle-runner")).parent().expect("a directory");
    let mut files = vec![sh(&["sh", "-c", "command -v bwrap"]), sh(&["sh", "-c", "command -v gitleaks"])];
    files.extend(["bottle-runner", "bottle-sidecars", "bottle-link"].map(|name| bins.join(name).display().to_string()));
    let libraries = sh(&["sh", "-c", "ldd $(command -v bwrap) | grep -oE '/[^ ]+/lib(cap|selinux|pcre)[^ ]*'"]);
    files.extend(libraries.lines().map(str::to_owned));
    for file in &files {
        sh(&["cp", "--dereference", file, &dir.display().to_string()]);
    }
    sh(&["chmod", "-R", "a+rX", &world.path(".").display().to_string()]);
    let run = |options: &[&str], user: &str| {
        let mount = format!("{}:/in:ro", dir.display());
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "--user", user, "--volume", &mount]).args(options);
        command.args(["ghcr.io/claude-bottle/agent:v1", "sh", "/in/run"]).output().expect("docker")
    };
    for user in ["1000:1000", "0:0"] {
        let plain = run(&["--security-opt", "seccomp=unconfined"], user);
        ended_with(&plain, 4);
        assert!(said(&plain).contains("systempaths=unconfined"), "{}", said(&plain));
        let allowed = ["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"];
        let allowed = run(&allowed, user);
        ended_with(&allowed, 0);
        assert!(said(&allowed).contains("ways out tried, none works"), "{}", said(&allowed));
    }
}
