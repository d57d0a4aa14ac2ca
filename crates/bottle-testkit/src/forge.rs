//! The stand-in forge (`tests/fixtures/forge/double.py`): a real server over https whose every request is held against the
//! forge's own API description.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::company::{Company, INTERNET};
use crate::in_repository;
use crate::process::{Running, needed, python};
use crate::random::random_hex;
use crate::tls::Certificates;

/// Running stand-in; it ends with its test.
#[derive(Debug)]
pub struct Double {
    _process: Running,
    dir: TempDir,
    /// Description of the forge that it is held against.
    pub spec: PathBuf,
    /// `127.0.0.1:PORT`, or another address of this machine.
    pub authority: String,
    /// Its address as the job's runner has it.
    pub server: String,
    /// `github` or `gitea`.
    pub kind: &'static str,
    /// The job's token.
    pub token: String,
}

impl Double {
    /// Starts a forge with one issue, a maintainer and a reader; `more` goes into its state.
    pub fn start(kind: &'static str, more: Value) -> Self {
        Self::start_at(kind, "127.0.0.1", None, more)
    }

    /// Starts the same at this address, with the repositories below a directory over git.
    pub fn start_at(kind: &'static str, address: &str, git: Option<&Path>, more: Value) -> Self {
        Self::start_by(python(), kind, address, git, more)
    }

    /// Starts the same on the internet of a company's network.
    pub fn start_beyond(company: &Company, kind: &'static str, git: &Path, more: Value) -> Self {
        Self::start_by(company.beyond(python().get_program()), kind, INTERNET, Some(git), more)
    }

    /// Starts the same by this Python.
    pub fn start_by(mut command: Command, kind: &'static str, address: &str, git: Option<&Path>, more: Value) -> Self {
        let dir = TempDir::with_prefix("bottle-forge-").expect("a temporary directory");
        let file = |name: &str| dir.path().join(name).display().to_string();
        Certificates::make(dir.path(), &[&format!("IP:{address}"), "DNS:git.bottle.test"]);
        let token = random_hex(32);
        let me = match kind {
            "github" => json!({"login": "github-actions[bot]", "id": 41_898_282, "type": "Bot"}),
            _ => json!({"login": "bottle", "id": 77}),
        };
        let mut state = json!({
            "owner": "octo-org", "name": "textstats", "default_branch": "main", "token": token, "me": me,
            "me_readable": kind == "gitea",
            "users": {
                "octo-maintainer": {"id": 5_550_108, "permission": "write"},
                "octo-reader": {"id": 5_550_107, "permission": "read"},
                "octo-admin": {"id": 5_550_109, "permission": if kind == "github" { "admin" } else { "owner" }},
            },
            "issues": [{"number": 7, "title": "Words followed by punctuation are counted wrong"}],
        });
        for (key, value) in more.as_object().expect("an object") {
            state[key] = value.clone();
        }
        fs::write(dir.path().join("state.json"), state.to_string()).expect("the state");
        let specs = PathBuf::from(needed("BOTTLE_TEST_SPECS"));
        // Gitea's own description where this machine has it, else what a client generated from it knows.
        let spec = ["gitea-swagger.json", "gitea-client.json"]
            .map(|name| specs.join(name))
            .into_iter()
            .find(|path| path.exists());
        let spec = if kind == "github" { specs.join("github.json") } else { spec.expect("Gitea's description") };
        command.arg(in_repository("tests/fixtures/forge/double.py"));
        command.args(["--kind", kind, "--address", address, "--spec"]).arg(&spec);
        for name in ["state.json", "log.jsonl", "cert.pem", "key.pem"] {
            command.arg(format!("--{}", name.split('.').next().expect("a name"))).arg(file(name));
        }
        if let Some(git) = git {
            command.arg("--git").arg(git);
        }
        let mut process = Running::new(command.stdout(Stdio::piped()).spawn().expect("the stand-in"));
        let port = process.first_line();
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let authority = format!("{host}:{port}");
        let scheme = if state["plain"] == true { "http" } else { "https" };
        let server = format!("{scheme}://{authority}{}", state["below"].as_str().unwrap_or_default());
        Self { _process: process, dir, spec, authority, server, kind, token }
    }

    /// Names the certificate of the authority that vouches for it.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Gives the address of its API.
    pub fn api(&self) -> String {
        format!("{}/api/{}", self.server, if self.kind == "github" { "v3" } else { "v1" })
    }

    /// Lists every request so far.
    pub fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("log.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect()
    }

    /// Reads what it holds now.
    pub fn state(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.dir.path().join("state.json")).expect("the state")).expect("JSON")
    }

    /// Adds somebody's comment, from the next request on: `id`, `number`, `author`, `body`; in place of the one with this id. Or a
    /// `fault` from then on.
    pub fn say(&self, comment: &Value) {
        let path = self.dir.path().join("state.json.add");
        let said = fs::read_to_string(&path).unwrap_or_default();
        fs::write(self.dir.path().join("say"), format!("{said}{comment}\n")).expect("a file");
        fs::rename(self.dir.path().join("say"), path).expect("a file");
    }

    /// Lists the requests that write, as `METHOD path`.
    pub fn writes(&self) -> Vec<String> {
        let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let log = self.log();
        let writes = log.iter().filter(|line| line["git"].is_null() && line["method"] != "GET");
        writes.map(|line| format!("{} {}", text(line, "method"), text(line, "path"))).collect()
    }

    /// Asserts that every request was one that the forge's description knows, and every answer one as it sends them.
    #[track_caller]
    pub fn assert_valid(&self) {
        let log = self.log();
        assert!(!log.is_empty(), "nothing was asked");
        for line in &log {
            assert!(line["invalid"].is_null() && line["bad_answer"].is_null(), "{line}, by {}", self.spec.display());
        }
    }
}
