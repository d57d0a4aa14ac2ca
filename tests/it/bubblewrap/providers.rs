//! The real Claude Code at each provider of its model, over real TLS to a stand-in (`model_api.py`): in bubblewrap alone, because what
//! differs is above and behind the backend.

use bottle_testkit::{Server, said};
use serde_json::{Value, json};

use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, on};

/// Not in the sources as a whole, so that nobody takes it for a leak.
fn session() -> String {
    ["Vb6fQ1", "+uXe9/", "Ga4tKs8wPz", "Rm5pHy7", "=="].concat()
}

/// A bottle whose model is elsewhere.
struct Elsewhere {
    job: Job,
    api: Server,
    keys: String,
}

impl Elsewhere {
    /// A live run; of `model` the upstream is added, and `path` is what it has behind its host.
    fn new(model: &str, host: &str, path: &str, limits: &str) -> Self {
        let mut job = Job::new("");
        let parts =
            json!({ "AccessKeyId": "KEYOFTHERUN", "SecretAccessKey": job.world.secret(), "SessionToken": session() });
        let known = json!({ "KEYOFTHERUN": [job.world.secret(), session()] }).to_string();
        let api = Server::start(&job.world, "model_api.py", &job.upstream.address, &[host], &[&known]);
        let (address, port) = (&job.upstream.address, &api.port);
        let usual = manifest(&job.upstream);
        let (before, rest) = usual.split_once("    egress:\n").expect("the routes");
        let (_, after) = rest.split_once("    git:\n").expect("their end");
        let model = format!("    model: {{ {model}, upstream: \"https://{host}:{port}{path}\" }}\n");
        let pipelock = format!("    pipelock: {{ allow_private: [\"{address}/32\"] }}\n");
        let text = format!("{before}{model}{pipelock}    git:\n{after}")
            .replace("extra_hosts: { ", &format!("extra_hosts: {{ {host}: {address}, "))
            .replace("turns: 20", &format!("turns: 20, {limits}"))
            .replace("python3 -m unittest", "true");
        let manifest = job.world.write("elsewhere.yml", &text).display().to_string();
        job.without_replay();
        job.args.extend(["--manifest".to_owned(), manifest]);
        Self { job, api, keys: parts.to_string() }
    }

    fn run(&self) -> std::process::Output {
        let mut command = self.job.command();
        command.env("SSL_CERT_FILE", &self.api.authority).env("BOTTLE_TEST_AWS", &self.keys);
        command.env_remove("ANTHROPIC_API_KEY").output().expect("the runner")
    }

    /// What the stand-in was sent.
    fn seen(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.api.log).expect("requests");
        text.lines().map(|line| serde_json::from_str(line).expect("a request")).collect()
    }

    fn spent(&self) -> Vec<Value> {
        let text = self.job.world.record_file("budget.jsonl");
        text.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect()
    }

    /// Runs it, looks at what came of it, ends the API and replays the record; what Claude Code's shell has seen of its environment.
    fn runs_and_replays(self, check: impl Fn(&Value)) -> String {
        let output = self.run();
        ended_with(&output, 0);
        let seen = self.seen();
        assert!(seen.len() >= 2, "{seen:?}");
        for request in &seen {
            assert!(request["wrong"].is_null() && !request.to_string().contains("bottle-placeholder"), "{request}");
            check(request);
        }
        let spent = self.spent();
        assert_eq!(spent.len(), seen.len(), "{spent:?}");
        assert!(
            spent.iter().all(|entry| entry["tokens"]["input"] == 10 && entry["tokens"]["output"] == 7),
            "{spent:?}"
        );
        assert!(spent.iter().all(|entry| entry["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0)), "{spent:?}");
        let transcript = self.job.world.record_file("transcript.jsonl");
        assert!(transcript.contains("That is the live end."), "{transcript}");
        let record = self.job.world.record();
        for entry in std::fs::read_dir(&record).expect("the record") {
            let path = entry.expect("a file").path();
            let bytes = std::fs::read(&path).unwrap_or_default();
            for secret in [self.job.world.secret(), session().as_str()] {
                assert!(!bytes.windows(secret.len()).any(|at| at == secret.as_bytes()), "{}", path.display());
            }
        }
        let Self { job, api, .. } = self;
        drop(api);
        let mut again = job.command();
        again.arg("--replay").arg(&record).env_remove("ANTHROPIC_API_KEY").env_remove("BOTTLE_TEST_TOKEN");
        let output = again.output().expect("the runner");
        ended_with(&output, 0);
        assert!(said(&output).contains("That is the live end."), "{}", said(&output));
        job.nothing_left();
        transcript
    }
}

const BEDROCK: &str = "provider: bedrock, region: eu-central-1, from: BOTTLE_TEST_AWS";
const BEDROCKS_HOST: &str = "bedrock-runtime.eu-central-1.amazonaws.com";

#[test]
fn on_bedrock_each_request_is_signed_and_a_record_replays_without_keys() {
    on(Place::Bubblewrap, || {
        let bottle = Elsewhere::new(BEDROCK, BEDROCKS_HOST, "", "cost_usd: 5");
        let transcript = bottle.runs_and_replays(|request| {
            let path = request["path"].as_str().expect("a path");
            let is_stream =
                path.starts_with("/model/eu.anthropic.claude-") && path.ends_with("/invoke-with-response-stream");
            assert!(is_stream, "{path}");
            let signed = request["headers"]["authorization"].as_str().expect("a signature");
            assert!(signed.contains("/eu-central-1/bedrock/aws4_request"), "{signed}");
        });
        assert!(transcript.contains("CLAUDE_CODE_USE_BEDROCK=1") && transcript.contains("AWS_REGION=eu-central-1"));
        for name in [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_BEARER_TOKEN",
            "ANTHROPIC_API_KEY=",
        ] {
            assert!(!transcript.contains(name), "{name} is in the guest's environment");
        }
    });
}

#[test]
fn on_bedrock_a_limit_ends_the_run_and_is_said() {
    on(Place::Bubblewrap, || {
        // The first reply has 17 tokens.
        let bottle = Elsewhere::new(BEDROCK, BEDROCKS_HOST, "", "tokens: 17");
        let output = bottle.run();
        ended_with(&output, 6);
        assert!(said(&output).contains("17 of 17 tokens"), "{}", said(&output));
        assert_eq!((bottle.seen().len(), bottle.spent().len()), (1, 1));
    });
}

#[test]
fn by_a_gateway_its_token_is_sent_and_a_record_replays_without_it() {
    on(Place::Bubblewrap, || {
        let model = "provider: anthropic, bearer: BOTTLE_TEST_TOKEN";
        let bottle = Elsewhere::new(model, "gateway.bottle.test", "/team/claude", "cost_usd: 5");
        let bearer = format!("Bearer {}", bottle.job.world.secret());
        let transcript = bottle.runs_and_replays(|request| {
            assert!(
                request["path"].as_str().is_some_and(|path| path.starts_with("/team/claude/v1/messages")),
                "{request}"
            );
            assert_eq!(
                (&request["headers"]["authorization"], &request["headers"]["x-api-key"]),
                (&json!(bearer), &Value::Null)
            );
        });
        assert!(transcript.contains("ANTHROPIC_AUTH_TOKEN=bottle-placeholder-"), "{transcript}");
    });
}

#[test]
fn on_vertex_the_token_is_sent_and_a_record_replays_without_it() {
    on(Place::Bubblewrap, || {
        let model = "provider: vertex, project: team-app, region: europe-west1, bearer: BOTTLE_TEST_TOKEN";
        let bottle = Elsewhere::new(model, "europe-west1-aiplatform.googleapis.com", "", "cost_usd: 5");
        let bearer = format!("Bearer {}", bottle.job.world.secret());
        let transcript = bottle.runs_and_replays(|request| {
            let path = request["path"].as_str().expect("a path");
            let models = "/v1/projects/team-app/locations/europe-west1/publishers/anthropic/models/claude-";
            assert!(path.starts_with(models) && path.ends_with(":streamRawPredict"), "{path}");
            assert_eq!(request["headers"]["authorization"], json!(bearer));
        });
        assert!(transcript.contains("CLOUD_ML_REGION=europe-west1"), "{transcript}");
    });
}

#[test]
fn on_foundry_the_key_is_sent_and_a_record_replays_without_it() {
    on(Place::Bubblewrap, || {
        let model = "provider: foundry, from: BOTTLE_TEST_TOKEN";
        let bottle = Elsewhere::new(model, "team-app.services.ai.azure.com", "", "cost_usd: 5");
        let key = bottle.job.world.secret().to_owned();
        let transcript = bottle.runs_and_replays(|request| {
            assert!(
                request["path"].as_str().is_some_and(|path| path.starts_with("/anthropic/v1/messages")),
                "{request}"
            );
            assert_eq!(
                (&request["headers"]["api-key"], &request["headers"]["authorization"]),
                (&json!(key), &Value::Null)
            );
        });
        assert!(transcript.contains("ANTHROPIC_FOUNDRY_BASE_URL="), "{transcript}");
    });
}
