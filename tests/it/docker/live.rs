//! Without a replay: real requests over real TLS to a stand-in for the model's API, with the credential added on the way.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Job, ended_with, manifest};
use crate::world::{Upstream, World, said, sh};

/// The API's stand-in on the engine's bridge address, and the authority that vouches for it.
struct Api {
    server: Child,
    port: String,
    authority: PathBuf,
    log: PathBuf,
}

impl Api {
    fn start(world: &World, upstream: &Upstream) -> Self {
        let file = |name: &str| world.path(name).display().to_string();
        let (authority, authority_key, leaf, leaf_key) =
            (file("ca.pem"), file("ca.key"), file("api.pem"), file("api.key"));
        let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
        let run = |args: &[&str]| sh(&[&["openssl"], args].concat());
        run(&[
            &["req", "-x509"],
            &ec[..],
            &["-subj", "/CN=test authority", "-keyout", &authority_key, "-out", &authority],
        ]
        .concat());
        let request = file("api.csr");
        run(&[&["req"], &ec[..4], &["-nodes", "-subj", "/CN=api", "-keyout", &leaf_key, "-out", &request]].concat());
        let names = world
            .write("api.ext", "subjectAltName=DNS:api.anthropic.com\nbasicConstraints=CA:FALSE\n")
            .display()
            .to_string();
        run(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &authority,
            "-CAkey",
            &authority_key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &names,
            "-out",
            &leaf,
        ]);
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/model_api.py");
        let log = world.path("api.jsonl");
        let mut server = Command::new("python3")
            .arg(script)
            .args([&leaf, &leaf_key])
            .arg(&log)
            .arg(&upstream.address)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut port = String::new();
        BufReader::new(server.stdout.take().expect("a pipe")).read_line(&mut port).expect("a port");
        Self { server, port: port.trim().to_owned(), authority: authority.into(), log }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
pub(crate) fn a_live_run_gets_its_credential_on_the_way_and_can_be_replayed() {
    let mut job = Job::new("");
    let api = Api::start(&job.world, &job.upstream);
    let text = manifest(&job.upstream)
        .replace(
            "env: { PYTHONDONTWRITEBYTECODE: \"1\" }",
            &format!("env: {{ ANTHROPIC_BASE_URL: \"https://api.anthropic.com:{}\" }}", api.port),
        )
        .replace("- host: api.anthropic.com\n", &format!("- host: api.anthropic.com\n          port: {}\n", api.port))
        .replace("from: ANTHROPIC_API_KEY", "from: BOTTLE_TEST_TOKEN")
        .replace("extra_hosts: { ", &format!("extra_hosts: {{ api.anthropic.com: {}, ", job.upstream.address))
        .replace(
            "    git:\n",
            &format!("    pipelock: {{ allow_private: [\"{}/32\"] }}\n    git:\n", job.upstream.address),
        )
        .replace("python3 -m unittest", "true");
    let manifest = job.world.write("live.yml", &text).display().to_string();
    job.args.truncate(job.args.len() - 2);
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

#[test]
pub(crate) fn an_upstream_that_nobody_trusts_gets_no_credential() {
    let mut job = Job::new("");
    let api = Api::start(&job.world, &job.upstream);
    let text = manifest(&job.upstream)
        .replace(
            "env: { PYTHONDONTWRITEBYTECODE: \"1\" }",
            &format!(
                "env: {{ ANTHROPIC_BASE_URL: \"https://api.anthropic.com:{}\", CLAUDE_CODE_MAX_RETRIES: \"0\" }}",
                api.port
            ),
        )
        .replace("- host: api.anthropic.com\n", &format!("- host: api.anthropic.com\n          port: {}\n", api.port))
        .replace("extra_hosts: { ", &format!("extra_hosts: {{ api.anthropic.com: {}, ", job.upstream.address))
        .replace(
            "    git:\n",
            &format!("    pipelock: {{ allow_private: [\"{}/32\"] }}\n    git:\n", job.upstream.address),
        );
    let manifest = job.world.write("live.yml", &text).display().to_string();
    job.args.truncate(job.args.len() - 2);
    job.args.extend(["--manifest".to_owned(), manifest]);
    let output = job.run();
    ended_with(&output, 1);
    assert!(!api.log.exists(), "a request reached a server that was not verified");
    let egress = job.world.record_file("egress.jsonl");
    assert!(egress.contains("\"verdict\":\"error\""), "{egress}");
}
