//! Three hours with tokens of one hour: a whole run whose clock is turned, in the runner and in the doors as they are shipped, against
//! every kind of token endpoint. In bubblewrap alone: what asks and renews is the runner, whatever the bottle is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bottle_scan::known::KnownSecrets;
use bottle_testkit::{Company, Double, INTERNET, Running, Server, TurnedClock, python, said, sh};
use bottle_types::secret::{Secret, SecretName};
use serde_json::{Value, json};

use super::own::lying_bwrap;
use crate::RUNNER;
use crate::forge::{job as job_variables, labeled};
use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, on};

/// How long a token is good, and how long the agent works, in seconds.
const LIFETIME: u64 = 3600;
const LASTS: u64 = 11_400;
/// The clock goes on by this much, so often.
const STEP: Duration = Duration::from_secs(60);
const STEP_INTERVAL: Duration = Duration::from_millis(100);
/// The clock stands still while a token has less than this, which is when it has to be renewed, but for a step or two: a machine that is slow
/// is not taken for a renewal that is late, and one that does not come at its time lets the clock stand for ever.
const LEFT: u64 = LIFETIME / 6 - 2 * STEP.as_secs();

/// The sites that the agent asks.
const SITES: &str = "storage.googleapis.com files.bottle.test client.bottle.test database.bottle.test bucket.s3.eu-central-1.amazonaws.com";
/// The model, and who gives tokens.
const OTHERS: &str = "api.anthropic.com sts.googleapis.com sts.eu-central-1.amazonaws.com auth.bottle.test vault.bottle.test runner.bottle.test";
/// The sources whose tokens a site or the model takes; the forge's App is one more.
const SOURCES: [&str; 6] = ["anthropic", "google", "exchange", "oauth", "vault", "aws"];

/// What the runner's own environment has for the token endpoints.
const CLIENT_SECRET: &str = "the-clients-own-secret";
const REQUEST_KEY: &str = "the-jobs-request-key";

const CREDENTIALS: &str = r#"credentials:
  CLAUDE_CODE_OAUTH_TOKEN:
    oidc: { audience: "https://api.anthropic.com", anthropic: { rule: fdrl_1, organization: 8f3c, service_account: svac_1 } }
  GOOGLE_TOKEN:
    oidc:
      audience: google
      token_url: "https://sts.googleapis.com/v1/token"
      resource: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/forge"
      scope: "https://www.googleapis.com/auth/cloud-platform"
  FILES_TOKEN: { oidc: { audience: files, token_url: "https://auth.bottle.test/exchange", scope: read } }
  CLIENT_TOKEN: { oauth: { token_url: "https://auth.bottle.test/token", client_id: ci, client_secret_from: CLIENT_SECRET } }
  DATABASE_KEY: { vault: { address: "https://vault.bottle.test", path: database/creds/ci, field: password, role: ci } }
  AWS: { oidc: { audience: sts.amazonaws.com, aws: { role: "arn:aws:iam::123456789012:role/ci", region: eu-central-1 } } }
"#;

const ROUTES: &str = r#"      routes:
        - host: api.anthropic.com
          methods: [POST]
          paths: [/v1/messages, /v1/messages/count_tokens]
          auth: { bearer: CLAUDE_CODE_OAUTH_TOKEN }
        - { host: storage.googleapis.com, methods: [GET], auth: { bearer: GOOGLE_TOKEN } }
        - { host: files.bottle.test, methods: [GET], auth: { bearer: FILES_TOKEN } }
        - { host: client.bottle.test, methods: [GET], auth: { bearer: CLIENT_TOKEN } }
        - { host: database.bottle.test, methods: [GET], auth: { header: x-password, from: DATABASE_KEY } }
        - { host: bucket.s3.eu-central-1.amazonaws.com, methods: [GET, PUT], auth: { aws: { service: s3, region: eu-central-1, from: AWS } } }
"#;

/// A turn of the agent's: what each site answers, and work, and all that the guest knows.
const SCRIPT: &str = "for again in 1 2; do for host in HOSTS; do curl -sS -w ' %{http_code}\\n' https://$host/turn/TURN; done; sleep 0.3; done; \
    curl -sS -w ' %{http_code}\\n' -X PUT --data-binary @README.md https://bucket.s3.eu-central-1.amazonaws.com/turn/TURN; \
    if [ $((TURN % 4)) = 0 ]; then echo turn >> README.md; git commit -qam TURN; git push -q origin HEAD && echo pushed; git fetch -q && echo fetched; env; fi";

/// Every name on the internet but the forge's, which is an address.
fn names() -> Vec<&'static str> {
    SITES.split(' ').chain(OTHERS.split(' ')).collect()
}

/// The manifest of such a run.
fn rules(job: &Job, double: &Double) -> String {
    let usual = manifest(&job.upstream).replace("python3 -m unittest", "true").replace("turns: 20", "turns: 500");
    let (before, rest) = usual.split_once("    egress:\n").expect("the routes");
    let (_, after) = rest.split_once("agents:\n").expect("the agents");
    let hosts: Vec<String> = names().iter().map(|host| format!("\"{host}\": {INTERNET}")).collect();
    let git = format!(
        "    git:\n      - name: origin\n        upstream: {}/octo-org/textstats.git\n        token_from: GITHUB_TOKEN\n        \
         extra_hosts: {{ {} }}\n",
        double.server,
        hosts.join(", ")
    );
    let before = before.replace("version: 1\n", &format!("version: 1\n{CREDENTIALS}"));
    format!("{before}    egress:\n{ROUTES}{git}agents:\n{after}")
}

/// Everything of such a run.
struct Hours {
    job: Job,
    clock: TurnedClock,
    internet: Server,
    double: Double,
    company: Company,
    app_key: String,
}

impl Hours {
    fn start() -> Self {
        let mut job = Job::new("");
        let served = job.world.path("served/octo-org");
        fs::create_dir_all(&served).expect("a directory");
        std::os::unix::fs::symlink(job.world.path("srv/app.git"), served.join("textstats.git")).expect("a link");
        let [key, public] = ["app.pem", "app.pub"].map(|name| job.world.path(name).display().to_string());
        sh(&["openssl", "genrsa", "-traditional", "-out", &key, "2048"]);
        sh(&["openssl", "rsa", "-in", &key, "-pubout", "-out", &public]);

        let (clock, company) = (TurnedClock::start(), Company::start(&names().join(" ")));
        let turned = || {
            let mut command = company.beyond(python().get_program());
            clock.rule(&mut command);
            command
        };
        let app = json!({"id": "12", "installation": 345, "public_key": public, "lifetime": LIFETIME});
        let double =
            Double::start_by(turned(), "github", INTERNET, Some(&job.world.path("served")), json!({"app": app}));
        let script = SCRIPT.replace("HOSTS", SITES);
        let more = ["443", &LIFETIME.to_string(), &LASTS.to_string(), &script];
        let internet = Server::start_by(turned(), &job.world, "hour_tokens.py", INTERNET, &names(), &more);
        let app_key = fs::read_to_string(key).expect("the key");
        // The rules are the base branch's, upstream's too.
        let manifest = job.with_file("hours.yml", &rules(&job, &double));
        let [checkout, upstream] =
            [&job.checkout, &job.world.path("srv/app.git")].map(|path| path.display().to_string());
        sh(&["git", "-C", &checkout, "push", "--quiet", &upstream, "main"]);
        job.args = ["run", "--backend", "bubblewrap", "--manifest", &manifest].map(str::to_owned).to_vec();
        Self { job, clock, internet, double, company, app_key }
    }

    /// Runs it with a clock that is turned from the agent's first word on.
    fn run(&self) -> Output {
        let mut command = self.company.internet(&self.job.checkout, RUNNER);
        self.job.world.clean(&mut command);
        command.args(&self.job.args).current_dir(&self.job.checkout);
        job_variables(&self.job.world, &self.double, &mut command, "issues", &labeled("octo-maintainer", 5_550_108));
        let authorities = [self.double.ca(), self.internet.authority.clone()]
            .map(|path| fs::read_to_string(path).expect("a certificate"));
        self.clock.rule(&mut command);
        let words = format!(
            "[ \"$word\" != --proc ] || [[ \"$*\" != */bundle/state* ]] || args+=({})",
            self.clock.bwrap_words()
        );
        command
            .env("SSL_CERT_FILE", self.job.world.write("authorities.pem", &authorities.concat()))
            .env("PATH", lying_bwrap(&self.job, &words))
            .env("BOTTLE_APP_ID", "12")
            .env("BOTTLE_APP_KEY", &self.app_key)
            .env("CLIENT_SECRET", CLIENT_SECRET)
            .env("ACTIONS_ID_TOKEN_REQUEST_URL", "https://runner.bottle.test/identity?api-version=2")
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_KEY)
            .env_remove("ANTHROPIC_API_KEY")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let running = Running::new(command.spawn().expect("the runner"));
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| self.turn(&ended));
            let output = running.wait();
            ended.store(true, Ordering::Relaxed);
            output
        })
    }

    /// Turns the clock until the agent has worked for its time, and while every source's newest token has some time left.
    fn turn(&self, ended: &AtomicBool) {
        while !ended.load(Ordering::Relaxed) {
            thread::sleep(STEP_INTERVAL);
            let lines = self.lines();
            let first_word = lines.iter().find(|line| line["path"] == "/v1/messages");
            let Some(begun) = first_word.and_then(|line| line["time"].as_f64()) else { continue };
            // Then it goes on by itself: nothing is renewed while the run ends.
            let limit = begun + Duration::from_secs(LASTS).as_secs_f64();
            let ends = self.ends(&lines);
            assert_eq!(ends.len(), SOURCES.len() + 1, "{ends:?}");
            let is_fresh = ends.values().all(|end| self.clock.now() + STEP.as_secs() + LEFT < *end);
            if is_fresh && Duration::from_secs(self.clock.now()).as_secs_f64() < limit {
                self.clock.turn(STEP);
            }
        }
    }

    /// What the internet saw.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.internet.log).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
    }

    /// When the newest token of each source ends.
    fn ends(&self, lines: &[Value]) -> BTreeMap<String, u64> {
        let mut ends = BTreeMap::new();
        for line in lines.iter().filter(|line| line["granted"].is_string()) {
            let source = line["source"].as_str().expect("a source");
            if SOURCES.contains(&source) {
                ends.insert(source.to_owned(), line["end"].as_u64().expect("an end"));
            }
        }
        let state = self.double.state();
        let minted =
            state["minted"].as_object().into_iter().flat_map(|minted| minted.values().filter_map(Value::as_u64));
        // After the run they are taken back.
        ends.insert("app".to_owned(), minted.max().unwrap_or(u64::MAX));
        ends
    }

    /// Every secret that there was in this run.
    fn secrets(&self, lines: &[Value]) -> BTreeSet<String> {
        let mut secrets: BTreeSet<String> = [CLIENT_SECRET, REQUEST_KEY].map(str::to_owned).into();
        for line in lines.iter().filter(|line| line["granted"].is_string()) {
            secrets.extend(["granted", "secret"].iter().filter_map(|key| line[*key].as_str().map(str::to_owned)));
        }
        let state = self.double.state();
        let minted = state["ever_minted"].as_array().expect("tokens");
        secrets.extend(minted.iter().filter_map(|token| token.as_str().map(str::to_owned)));
        secrets.insert(self.app_key.clone());
        secrets
    }
}

#[test]
fn three_hours_with_tokens_of_one_hour() {
    on(Place::Bubblewrap, three_hours);
}

fn three_hours() {
    let hours = Hours::start();
    let begun = hours.clock.now();
    let output = hours.run();
    let lines = hours.lines();
    ended_with(&output, 0);
    assert!(hours.clock.now() - begun > LASTS, "the clock stood still");
    no_dead_token_came(&hours, &lines);
    each_was_renewed(&hours, &lines);
    the_apps_tokens_were_taken_back(&hours);
    let transcript = hours.job.world.record_file("transcript.jsonl");
    for said in ["Three hours have gone by.", "pushed\\nfetched"] {
        assert!(transcript.contains(said), "{said}: {transcript}");
    }
    assert!(
        !transcript.contains(" 401") && !transcript.contains(" 503") && transcript.contains(" 200"),
        "{transcript}"
    );
    nothing_shows(&hours, &lines, &output);
    hours.job.nothing_left();
}

/// The servers judge by the turned clock.
fn no_dead_token_came(hours: &Hours, lines: &[Value]) {
    for line in lines {
        assert!(line["wrong"].is_null(), "{line}");
    }
    let log = hours.double.log();
    let (first, last) = (log.first().expect("a request"), log.last().expect("a request"));
    let went_by = last["time"].as_f64().expect("a time") - first["time"].as_f64().expect("a time");
    assert!(went_by > 10_800.0, "to the forge it took {went_by} s");
    // git asks without one first.
    assert!(
        log.iter().all(|line| line["token"] == "good" || (line["token"] == "none" && line["git"].is_string())),
        "{log:?}"
    );
    hours.double.assert_valid();
}

/// Each source was asked at least three times more, and every token was of use.
fn each_was_renewed(hours: &Hours, lines: &[Value]) {
    for source in SOURCES {
        let of = |key: &str| -> BTreeSet<&str> {
            lines.iter().filter(|line| line["source"] == source).filter_map(|line| line[key].as_str()).collect()
        };
        assert!(of("granted").len() >= 4, "{source}: {:?}", of("granted"));
        assert!(of("used").len() >= 4 && of("used").is_subset(&of("granted")), "{source}: {:?}", of("used"));
    }
    let log = hours.double.log();
    let asked = |line: &Value| {
        line["path"].as_str().is_some_and(|path| path.ends_with("/installation") || path.ends_with("/access_tokens"))
    };
    let exchanges: Vec<&str> =
        log.iter().filter(|line| asked(line)).filter_map(|line| line["method"].as_str()).collect();
    assert!(
        exchanges.len() >= 8 && exchanges.chunks(2).all(|pair| pair == ["GET", "POST"]),
        "one at a time: {exchanges:?}"
    );
}

fn the_apps_tokens_were_taken_back(hours: &Hours) {
    let (state, now) = (hours.double.state(), hours.clock.now());
    let left = state["minted"].as_object().expect("tokens");
    assert!(left.values().all(|end| end.as_u64().is_some_and(|end| end <= now)), "{left:?} at {now}");
    assert!(
        hours.double.writes().iter().any(|write| write == "DELETE /installation/token"),
        "{:?}",
        hours.double.writes()
    );
}

/// No token is anywhere, in any form that the scanners know.
fn nothing_shows(hours: &Hours, lines: &[Value], output: &Output) {
    let secrets = hours.secrets(lines);
    let named: Vec<_> = secrets
        .iter()
        .enumerate()
        .map(|(number, secret)| {
            (SecretName::parse(&format!("SECRET_{number}")).expect("a name"), Secret::new(secret.clone().into_bytes()))
        })
        .collect();
    let known = KnownSecrets::new(&named).expect("a searcher");
    let one = secrets.iter().find(|secret| secret.starts_with("google-")).expect("a token");
    assert!(known.find(format!("x{one}y").as_bytes()).is_some(), "nothing is found at all");
    let clean = |what: &str, bytes: &[u8]| {
        if let Some((name, at)) = known.find(bytes) {
            panic!(
                "{what} has {name} at {at:?}: {}",
                String::from_utf8_lossy(&bytes[at.start.saturating_sub(60)..at.end])
            );
        }
    };
    let world = &hours.job.world;
    let mut dirs: Vec<_> = ["state", "home", "setups", "sessions", "app"].map(|name| world.path(name)).into();
    let mut files = 0;
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                dirs.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                clean(&path.display().to_string(), &bytes);
                files += 1;
            }
        }
    }
    assert!(files > 20 && world.record().join("cassette.jsonl").exists(), "{files} files");
    clean("upstream", hours.job.upstream.git(&["log", "--all", "-p"]).as_bytes());
    // What the model was sent, and what the forge was: comments, the pull request, its branch.
    clean("the model", &fs::read(format!("{}.bodies", hours.internet.log.display())).expect("bodies"));
    clean("the forge", json!(hours.double.log()).to_string().as_bytes());
    let told = said(output);
    let masked: BTreeSet<&str> = told.lines().filter_map(|line| line.strip_prefix("::add-mask::")).collect();
    let shown: Vec<&str> = told.lines().filter(|line| !line.starts_with("::add-mask::")).collect();
    clean("the job's log", shown.join("\n").as_bytes());
    for source in SOURCES.iter().filter(|source| **source != "aws") {
        let mut granted =
            lines.iter().filter(|line| line["source"] == *source).filter_map(|line| line["granted"].as_str());
        assert!(granted.all(|token| masked.contains(token)), "{source}: the job's runner is not told to mask it");
    }
}
