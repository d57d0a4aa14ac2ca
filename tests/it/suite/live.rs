//! Without a replay: real requests over real TLS to a stand-in for the model's API, with the credential added on the way.

use std::collections::BTreeSet;

use bottle_testkit::{Server, commands, said};

use crate::job::{Job, ended_with, manifest};

/// Why renewal has one backend.
const RUNNER_RENEWS: &str = "what asks and renews is the runner, whatever the bottle is made of";

/// The API's stand-in on the engine's bridge address.
pub(super) fn api(job: &Job) -> Server {
    let address = &job.upstream.address;
    Server::start(&job.world, "model_api.py", address, &["api.anthropic.com"], &[])
}

/// The manifest of a job whose model is the stand-in.
pub(crate) fn live_manifest(job: &Job, api: &Server) -> String {
    let (port, address) = (&api.port, &job.upstream.address);
    manifest(&job.upstream)
        .replace(
            "env: { PYTHONDONTWRITEBYTECODE: \"1\" }",
            &format!("env: {{ ANTHROPIC_BASE_URL: \"https://api.anthropic.com:{port}\" }}"),
        )
        .replace("- host: api.anthropic.com\n", &format!("- host: api.anthropic.com\n          port: {port}\n"))
        .replace("extra_hosts: { ", &format!("extra_hosts: {{ api.anthropic.com: {address}, "))
        .replace("    git:\n", &format!("    pipelock: {{ allow_private: [\"{address}/32\"] }}\n    git:\n"))
        .replace("python3 -m unittest", "true")
}

shared!(a_live_run_gets_its_credential_on_the_way_and_can_be_replayed: docker, bubblewrap, smolmachines);
fn a_live_run_gets_its_credential_on_the_way_and_can_be_replayed() {
    let mut job = Job::new("");
    let api = api(&job);
    let text = live_manifest(&job, &api).replace("from: ANTHROPIC_API_KEY", "from: BOTTLE_TEST_TOKEN");
    let manifest = job.world.write("live.yml", &text).display().to_string();
    job.without_replay();
    job.args.extend(["--manifest".to_owned(), manifest]);

    let output = job.command().env("SSL_CERT_FILE", &api.authority).output().expect("the runner");
    ended_with(&output, 0);
    let seen = std::fs::read_to_string(&api.log).expect("requests");
    assert!(seen.lines().count() >= 2, "{seen}");
    for line in seen.lines() {
        let request: serde_json::Value = serde_json::from_str(line).expect("a request");
        assert_eq!(request["headers"]["x-api-key"], job.world.secret(), "{line}");
        assert!(!line.contains("bottle-placeholder"), "{line}");
    }
    let record = job.world.record();
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(transcript.contains("That is the live end."), "{transcript}");
    for name in ["transcript.jsonl", "egress.jsonl", "cassette.jsonl", "compose.log"] {
        assert!(!job.world.record_file(name).contains(job.world.secret()), "{name} holds the key");
    }
    let egress = job.world.record_file("egress.jsonl");
    assert!(egress.contains("\"credential\":\"BOTTLE_TEST_TOKEN\""), "the credential's name is noted: {egress}");

    // The API is gone, and so is the key: the record answers.
    drop(api);
    let mut again = job.command();
    again.arg("--replay").arg(&record).env_remove("ANTHROPIC_API_KEY");
    let output = again.output().expect("the runner");
    ended_with(&output, 0);
    assert!(said(&output).contains("That is the live end."), "{}", said(&output));
}

shared!(an_upstream_that_nobody_trusts_gets_no_credential: docker, bubblewrap, smolmachines);
fn an_upstream_that_nobody_trusts_gets_no_credential() {
    let mut job = Job::new("");
    let api = api(&job);
    let text = live_manifest(&job, &api)
        .replace("env: { ANTHROPIC_BASE_URL", "env: { CLAUDE_CODE_MAX_RETRIES: \"0\", ANTHROPIC_BASE_URL");
    let manifest = job.world.write("live.yml", &text).display().to_string();
    job.without_replay();
    job.args.extend(["--manifest".to_owned(), manifest]);
    let output = job.run();
    ended_with(&output, 1);
    assert!(!api.log.exists(), "a request reached a server that was not verified");
    let egress = job.world.record_file("egress.jsonl");
    assert!(egress.contains("\"verdict\":\"error\""), "{egress}");
}

shared!(
    a_credential_that_is_asked_for_is_renewed_in_the_running_bottle:
    docker: RUNNER_RENEWS, bubblewrap, smolmachines: RUNNER_RENEWS
);
/// Tokens of four seconds in a run of a quarter
/// of a minute, as those of an hour in one of three.
fn a_credential_that_is_asked_for_is_renewed_in_the_running_bottle() {
    let ask = "for i in $(seq 20); do curl -sS -o /dev/null -w '%{http_code}\\n' https://files.bottle.test:PORT/; sleep 0.5; done | sort | uniq -c";
    let mut job = Job::new("");
    let names = ["files.bottle.test", "localhost"];
    let site = Server::start(&job.world, "token_site.py", &job.upstream.address, &names, &["4"]);
    job.world.write("cassette.yml", &commands(&[&ask.replace("PORT", &site.port), "env | grep -c granted-"]));
    let (port, address) = (&site.port, &job.upstream.address);
    let source =
        format!("{{ oidc: {{ audience: site, token_url: \"https://localhost:{port}/token\", scope: read }} }}");
    let route =
        format!("- {{ host: files.bottle.test, port: {port}, methods: [GET], auth: {{ bearer: SITE_TOKEN }} }}");
    let text = manifest(&job.upstream)
        .replace("bottles:\n", &format!("credentials: {{ SITE_TOKEN: {source} }}\nbottles:\n"))
        .replace("      routes:\n", &format!("      routes:\n        {route}\n"))
        .replace("extra_hosts: { ", &format!("extra_hosts: {{ files.bottle.test: {address}, "))
        .replace("    git:\n", &format!("    pipelock: {{ allow_private: [\"{address}/32\"] }}\n    git:\n"))
        .replace("python3 -m unittest", "true");
    let manifest = job.world.write("asked.yml", &text).display().to_string();
    job.args.extend(["--manifest".to_owned(), manifest]);
    let mut command = job.command();
    command.env("SSL_CERT_FILE", &site.authority);
    command.env("ACTIONS_ID_TOKEN_REQUEST_URL", format!("https://localhost:{port}/identity?api-version=2"));
    command.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "the-jobs-request-key");
    ended_with(&command.output().expect("the runner"), 0);

    let transcript = job.world.record_file("transcript.jsonl");
    // Where a machine is too slow for such tokens, the door refuses; nothing goes with one that has ended.
    assert!(!transcript.contains(" 401") && transcript.contains(" 200"), "{transcript}");
    let log = std::fs::read_to_string(&site.log).expect("requests");
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    assert!(lines.iter().all(|line| line["wrong"].is_null()), "{log}");
    let tokens = |path: &str| {
        let of_path = lines.iter().filter(|line| line["path"] == path);
        of_path.filter_map(|line| line["token"].as_str()).collect::<BTreeSet<_>>()
    };
    assert!(tokens("/").len() >= 3 && tokens("/").is_subset(&tokens("/token")), "{log}");
    for entry in std::fs::read_dir(job.world.record()).expect("the record") {
        let path = entry.expect("a file").path();
        let bytes = std::fs::read(&path).expect("a file");
        for secret in tokens("/token").into_iter().chain(["the.jobs.jwt", "the-jobs-request-key"]) {
            assert!(!bytes.windows(secret.len()).any(|at| at == secret.as_bytes()), "{} has {secret}", path.display());
        }
    }
    job.nothing_left();
}
