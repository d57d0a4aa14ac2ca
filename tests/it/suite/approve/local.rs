//! Decided at the machine of the run, by the commands.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bottle_testkit::{said, sh};
use serde_json::{Value, json};

use super::SAME;
use super::stage::{SITE, Stage};
use crate::collector::{TAKEN, collector, spans};
use crate::job::ended_with;
use crate::suite::MINUTES;

const LOCAL: &str = "{ approval: local, timeout: 5m }";

/// P1 of the one run, as soon as it is asked.
fn open(stage: &Stage) -> Value {
    stage.until("the proposal", || {
        let output = stage.runner(&["proposals", "show", "P1", "--json"]);
        let shown: Value = serde_json::from_slice(&output.stdout).ok()?;
        (shown["state"] == "open").then_some(shown)
    })
}

shared!(the_commands_list_show_and_approve: docker, bubblewrap, smolmachines: MINUTES);
fn the_commands_list_show_and_approve() {
    let stage = Stage::new(LOCAL);
    let run = stage.start_locally();
    let shown = open(&stage);
    let list = stage.prints(&["proposals", "list"]);
    assert!(
        list.contains("(approval: local)")
            && list.contains("P1   asked")
            && list.contains("GET https://files.bottle.test"),
        "{list}"
    );
    assert!(!list.contains('\u{1b}'), "no colours over a pipe");
    let text = stage.prints(&["proposals", "show", "P1"]);
    for wanted in ["+- host: files.bottle.test", "why: The list of words is there, @octocat.", "code: "] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let code = text.lines().find_map(|line| line.trim().strip_prefix("code: ")).expect("a code");
    assert_eq!(&shown["proposal"]["hash"].as_str().expect("a hash")[..12], code);
    for (args, exit, says) in [
        (vec!["proposals", "approve", "P1"], 2, "needs its code"),
        (vec!["proposals", "approve", "P1", "0123456789ab"], 2, "is not the code of P1 as it is now"),
        (vec!["proposals", "approve", "P2", code], 2, "there is no proposal P2"),
        (vec!["proposals", "approve", "P01", code], 2, "is not the id of a proposal"),
        (vec!["proposals", "answer", "P1", "yes"], 3, "it counts for nothing"),
        (vec!["proposals", "show", "P1", "--run", "../x"], 2, "there is no run"),
    ] {
        let output = stage.runner(&args);
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(says), "{args:?}: {}", said(&output));
    }
    let said_yes = stage.prints(&["proposals", "approve", "P1", code]);
    assert!(said_yes.contains("P1 approved"), "{said_yes}");
    let again = stage.runner(&["proposals", "approve", "P1", code]);
    assert!(!again.status.success(), "a second time: {}", said(&again));
    let output = run.wait();
    ended_with(&output, 0);
    assert!(stage.told()[2].contains(SITE), "{:?}", stage.told());
    assert!(stage.holds().contains("1 granted"), "{}", stage.holds());
    assert!(said(&output).contains("P1 asks: GET https://files.bottle.test"), "{}", said(&output));
    let none = stage.runner(&["proposals", "list"]);
    assert_eq!(none.status.code(), Some(2), "{}", said(&none));
    stage.job.nothing_left();
}

shared!(
    a_person_grants_less_than_was_asked_and_the_agent_hears_the_difference:
    docker, bubblewrap: SAME, smolmachines: MINUTES
);
fn a_person_grants_less_than_was_asked_and_the_agent_hears_the_difference() {
    let stage = Stage::new(LOCAL);
    let run = stage.start_locally();
    let mut request = open(&stage)["proposal"]["request"].clone();
    let code = open(&stage)["proposal"]["hash"].as_str().expect("a hash")[..12].to_owned();
    request["request_route"]["paths"] = serde_json::json!(["/other"]);
    let file = stage.job.world.write("less.json", &request.to_string()).display().to_string();
    request["request_route"]["host"] = serde_json::json!("10.0.0.1");
    let bad = stage.job.world.write("bad.json", &request.to_string()).display().to_string();
    let refused = stage.runner(&["proposals", "approve", "P1", &code, "--request", &bad]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    // An editor that gives up, and one that does what a person would.
    let edit = |editor: &str| {
        let mut command = stage.job.world.runner();
        command.args(["proposals", "approve", "P1", &code, "--edit"]).env("EDITOR", editor);
        command.output().expect("the runner")
    };
    let gave_up = edit("false");
    assert!(gave_up.status.code() == Some(2) && said(&gave_up).contains("nothing was decided"), "{}", said(&gave_up));
    let spoiled = edit("sed -i s/GET/G.T/");
    assert!(spoiled.status.code() == Some(2) && said(&spoiled).contains("is not a method"), "{}", said(&spoiled));
    let said_yes = stage.prints(&["proposals", "approve", "P1", &code, "--request", &file]);
    assert!(said_yes.contains("approved with changes") && said_yes.contains("/other"), "{said_yes}");
    let output = run.wait();
    ended_with(&output, 0);
    let told = stage.told();
    assert!(told[1].contains("/other"), "{told:?}");
    assert!(!told[2].contains(SITE), "another path stays closed: {told:?}");
    assert!(stage.holds().contains("1 granted"), "{}", stage.holds());
}

shared!(the_live_view_decides_by_keys_on_a_terminal_and_tells_over_a_pipe: docker, bubblewrap: SAME, smolmachines: MINUTES);
fn the_live_view_decides_by_keys_on_a_terminal_and_tells_over_a_pipe() {
    let stage = Stage::new(LOCAL);
    let run = stage.start_locally();
    open(&stage);
    let mut piped = stage.job.world.runner();
    let mut piped = piped.args(["proposals", "watch"]).spawn().expect("the runner");
    let mut json = stage.job.world.runner();
    let json = json.args(["proposals", "watch", "--json"]).spawn().expect("the runner");
    // A terminal, in which somebody presses `a` when asked.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/terminal.py");
    let mut typed = Command::new("python3");
    stage.job.world.clean(&mut typed);
    let typed = typed
        .arg(script)
        .args(["[a]pprove", "a", "approved", "q"])
        .arg(env!("CARGO_BIN_EXE_bottle-runner"))
        .args(["proposals", "watch"]);
    let typed = typed.stdin(Stdio::null()).output().expect("python3");
    let screen = String::from_utf8_lossy(&typed.stdout).into_owned();
    assert!(
        typed.status.success() && screen.contains("+- host: files.bottle.test") && screen.contains("approved"),
        "{screen}{}",
        said(&typed)
    );
    assert!(screen.contains("\u{1b}["), "colours on a terminal: {screen}");
    let output = run.wait();
    ended_with(&output, 0);
    assert!(stage.told()[2].contains(SITE), "{:?}", stage.told());

    let mut lines = BufReader::new(piped.stdout.take().expect("a pipe"));
    let mut text = String::new();
    while lines.read_line(&mut text).expect("its text") > 0 {}
    assert!(piped.wait().expect("its end").success(), "{text}");
    assert!(
        text.contains("+- host: files.bottle.test") && text.contains("P1   approved by") && text.ends_with("ended\n"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}') && !text.contains("[a]pprove"), "{text}");
    let json = json.wait_with_output().expect("its end");
    let first: Value =
        serde_json::from_str(String::from_utf8_lossy(&json.stdout).lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["proposal"]["proposal"]["id"], "P1", "{first}");
    let _ = std::io::stderr().flush();
}

shared!(
    a_tool_that_was_granted_is_in_the_image_of_the_run_that_resumes:
    docker,
    bubblewrap: "what is granted is a line of a Dockerfile",
    smolmachines: "what is granted is a line of a Dockerfile"
);
fn a_tool_that_was_granted_is_in_the_image_of_the_run_that_resumes() {
    let stage = Stage::new(LOCAL);
    let uses = |command: &str| json!({"name": "Bash", "input": {"command": command, "description": "use it"}});
    let tool = "RUN printf '#!/bin/sh\\necho counted by wordcount\\n' > /usr/local/bin/wordcount \\\n && chmod 755 /usr/local/bin/wordcount";
    let asks = |dockerfile: &str| json!({"name": "mcp__supervise__request_capability", "input": {"dockerfile": dockerfile, "why": "It counts."}});
    stage.cassette(&[uses("wordcount"), asks("FROM scratch"), asks(tool), uses("wordcount")]);
    let run = stage.start_locally();
    let shown = open(&stage);
    let text = stage.prints(&["proposals", "show", "P1"]);
    assert!(text.contains("+RUN printf") && text.contains("run by root outside of the bottle"), "{text}");
    let code = shown["proposal"]["hash"].as_str().expect("a hash")[..12].to_owned();
    stage.prints(&["proposals", "approve", "P1", &code]);
    let output = run.wait();
    ended_with(&output, 0);
    let told = stage.told();
    assert!(told[0].contains("not found") && told[3].contains("not found"), "{told:?}");
    assert!(told[1].contains("does not begin a line that adds to the image"), "{told:?}");
    assert!(told[2].contains("it changes nothing in this run"), "{told:?}");
    let record = stage.job.world.record();
    assert!(said(&output).contains(&format!("run --resume {}", record.display())), "{}", said(&output));

    // The same task, without an event.
    let commit = "wordcount > counted.txt; git add -A; git commit -qm Counted";
    stage.cassette(&[uses(commit)]);
    let resumed = |record: &Path| {
        let mut command = stage.job.world.runner();
        command.args(["run", "--resume"]).arg(record).args(["--backend", "docker"]).args(&stage.job.args[5..]);
        command.current_dir(&stage.job.checkout).output().expect("the runner")
    };
    let output = resumed(&record);
    ended_with(&output, 0);
    assert!(said(&output).contains("making the image claude-bottle-resumed:"), "{}", said(&output));
    let branch =
        said(&output).lines().find_map(|line| line.split_once("pushed ")?.1.split(' ').next().map(str::to_owned));
    let branch = branch.unwrap_or_else(|| panic!("{}", said(&output)));
    assert_eq!(stage.job.upstream.git(&["show", &format!("{branch}:counted.txt")]), "counted by wordcount");
    stage.job.nothing_left();

    // A record in which somebody has granted more afterwards.
    let proposals = record.join("proposals.jsonl");
    let text = std::fs::read_to_string(&proposals).expect("the record");
    std::fs::write(&proposals, text.replace("counted by wordcount", "counted by somebody")).expect("changed");
    let refused = resumed(&record);
    ended_with(&refused, 2);
    assert!(said(&refused).contains("can't resume"), "{}", said(&refused));
    for image in sh(&["docker", "images", "--quiet", "claude-bottle-resumed"]).lines() {
        sh(&["docker", "rmi", "--force", image]);
    }
}

shared!(a_policy_by_hand_goes_the_same_way_and_a_bad_one_stays_out: docker, bubblewrap: SAME, smolmachines: MINUTES);
fn a_policy_by_hand_goes_the_same_way_and_a_bad_one_stays_out() {
    let stage = Stage::new(LOCAL);
    stage.cassette(&[stage.requests(), stage.fetches()]);
    let run = stage.start_locally();
    open(&stage);
    let routes = stage.job.world.record_file("routes.yaml");
    for (name, text, says) in [
        ("routes.yaml", "version: 1\nroutes: [", "what was in force still is"),
        ("routes.yaml", "version: 2\n", "what was in force still is"),
        ("other.yaml", routes.as_str(), "does not say whose policy it is"),
    ] {
        let file = stage.job.world.write(&format!("by-hand/{name}"), text).display().to_string();
        let output = stage.runner(&["apply", &file]);
        assert!(matches!(output.status.code(), Some(1 | 2)) && said(&output).contains(says), "{}", said(&output));
    }
    let request = open(&stage)["proposal"]["change"]["after"].as_str().expect("a policy").to_owned();
    let file = stage.job.world.write("by-hand/routes.yaml", &request).display().to_string();
    assert!(stage.prints(&["apply", &file]).contains("routes.yaml: in force"));
    // What was asked is there now, so nobody need decide.
    let output = run.wait();
    ended_with(&output, 0);
    assert!(stage.told()[1].contains(SITE), "{:?}", stage.told());
    let names: Vec<String> = stage.story().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"applied".to_owned()), "{names:?}");
    stage.holds();
}

shared!(a_run_is_watched_on_a_terminal_and_over_a_pipe_and_goes_on: docker: SAME, bubblewrap, smolmachines: MINUTES);
fn a_run_is_watched_on_a_terminal_and_over_a_pipe_and_goes_on() {
    let stage = Stage::new(LOCAL);
    let run = stage.start_locally();
    let code = open(&stage)["proposal"]["hash"].as_str().expect("a hash")[..12].to_owned();
    let mut piped = stage.job.world.runner();
    let piped = piped.arg("watch").stdout(Stdio::piped()).spawn().expect("the runner");
    let mut json = stage.job.world.runner();
    let json = json.args(["watch", "--json"]).stdout(Stdio::piped()).spawn().expect("the runner");
    let slug = stage.job.world.slugs()[0].clone();
    let (address, taken) = collector(TAKEN);
    let mut sender = stage.job.world.runner();
    sender.args(["export", "--otlp", "--send", "--follow", &slug]).env("OTEL_EXPORTER_OTLP_ENDPOINT", &address);
    let sender =
        sender.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json").stdout(Stdio::piped()).spawn().expect("the runner");
    // A terminal, in which somebody leaves as soon as the command is there.
    let on_a_terminal = |no_color: bool| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/terminal.py");
        let mut typed = Command::new("python3");
        stage.job.world.clean(&mut typed);
        let command = format!("bottle-runner proposals approve P1 {code} \\");
        typed.arg(script).args([&command, "q"]).arg(env!("CARGO_BIN_EXE_bottle-runner")).arg("watch");
        typed.env("TERM", "xterm").stdin(Stdio::null());
        if no_color {
            typed.env("NO_COLOR", "1");
        }
        let typed = typed.output().expect("python3");
        let screen = String::from_utf8_lossy(&typed.stdout).into_owned();
        assert!(typed.status.success(), "{screen}{}", said(&typed));
        assert!(screen.starts_with("\u{1b}[?1049h") && screen.ends_with("\u{1b}[?1049l"), "{screen:?}");
        assert!(screen.contains("agent, for") && screen.contains("GET https://files.bottle.test"), "{screen}");
        screen
    };
    assert!(on_a_terminal(false).contains("\u{1b}[1m"));
    assert!(!on_a_terminal(true).contains("\u{1b}[1m"));
    let shown = stage.prints(&["show", &stage.job.world.slugs()[0]]);
    assert!(shown.contains("  outcome    it goes on\n") && !shown.contains('\u{1b}'), "{shown}");
    let names = || -> Vec<String> {
        let taken = taken.lock().expect("no thread has panicked");
        taken.iter().map(|span| span["name"].as_str().expect("a name").to_owned()).collect()
    };
    let soon = Instant::now() + Duration::from_secs(60);
    while !names().iter().any(|name| name == "phase seal") {
        assert!(Instant::now() < soon, "nothing is sent while the run waits: {:?}", names());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(!names().iter().any(|name| name == "run"), "{:?}", names());
    stage.prints(&["proposals", "approve", "P1", &code]);
    let output = run.wait();
    ended_with(&output, 0);
    let sender = sender.wait_with_output().expect("its end");
    assert!(sender.status.success(), "{}", said(&sender));
    let exported: Value = serde_json::from_str(&stage.prints(&["export", "--otlp", &slug])).expect("JSON");
    let by_id = |spans: &[Value]| -> BTreeMap<String, Value> {
        spans.iter().map(|span| (span["spanId"].as_str().expect("an id").to_owned(), span.clone())).collect()
    };
    let sent = by_id(&taken.lock().expect("no thread has panicked"));
    assert_eq!(sent, by_id(&spans(&exported)), "the last word about each span is the record's");
    assert!(
        names().iter().any(|name| name.starts_with("chat ")) && names().iter().any(|name| name == "run"),
        "{:?}",
        names()
    );
    let piped = piped.wait_with_output().expect("its end");
    let text = String::from_utf8_lossy(&piped.stdout).into_owned();
    assert!(piped.status.success() && !text.contains('\u{1b}'), "{text}");
    for wanted in
        ["? P1 asks: GET https://files.bottle.test", "? P1 approved by", "\nAsked for (1)\n", "(exit code 0)\n"]
    {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    // For programs: what the record has, line by line.
    let json = json.wait_with_output().expect("its end");
    let lines = |text: &str| text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>();
    let events = lines(&stage.job.world.record_file("events.jsonl"));
    assert_eq!(lines(&String::from_utf8_lossy(&json.stdout)), events);
    let slug = &stage.job.world.slugs()[0];
    let json: Value = serde_json::from_str(&stage.prints(&["show", "--json", slug])).expect("JSON");
    assert_eq!((&json["state"], &json["outcome"]["code"]), (&json!("ended"), &json!(0)), "{json}");
    assert_eq!(json["left_out"], json!([]), "{json}");
    assert!(json["phases"].as_array().is_some_and(|phases| phases.len() >= 8), "{json}");
    let same = stage.prints(&["diff", slug, slug]);
    assert!(same.contains("turns") && !same.contains("Refused in"), "{same}");
    let none = stage.runner(&["watch"]);
    assert!(none.status.code() == Some(2) && said(&none).contains("no run is going on"), "{}", said(&none));
}
