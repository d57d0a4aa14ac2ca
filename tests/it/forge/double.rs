//! The stand-in forge (`tests/fixtures/forge/double.py`): a real server over https whose every request is held against the
//! forge's own API description. Shared by the tests here and by those in `src/thread/`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A running stand-in; it goes with its test.
pub(crate) struct Double {
    process: Child,
    dir: TempDir,
    /// The forge's description that it is held against.
    pub(crate) spec: PathBuf,
    /// `127.0.0.1:PORT`, or another address of this machine.
    pub(crate) authority: String,
    /// Its address as the job's runner has it.
    pub(crate) server: String,
    pub(crate) kind: &'static str,
    pub(crate) token: String,
}

fn needed(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable}: run the tests by scripts/test"))
}

fn run(argv: &[&str]) {
    let output = Command::new(argv[0]).args(&argv[1..]).output().unwrap_or_else(|error| panic!("{argv:?}: {error}"));
    assert!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Double {
    /// A forge with one issue, a maintainer and a reader; `more` goes into its state.
    pub(crate) fn start(kind: &'static str, more: Value) -> Self {
        Self::start_at(kind, "127.0.0.1", None, more)
    }

    /// The same at this address, with the repositories below a directory over git.
    pub(crate) fn start_at(kind: &'static str, address: &str, git: Option<&Path>, more: Value) -> Self {
        let dir = TempDir::with_prefix("bottle-forge-").expect("a temporary directory");
        let file = |name: &str| dir.path().join(name).display().to_string();
        certificates(dir.path(), address);
        let mut bytes = [0; 16];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut source| std::io::Read::read_exact(&mut source, &mut bytes))
            .expect("random numbers");
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
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
        std::fs::write(dir.path().join("state.json"), state.to_string()).expect("the state");
        let specs = PathBuf::from(needed("BOTTLE_TEST_SPECS"));
        // Gitea's own description where this machine has it, else what a client generated from it knows.
        let spec = ["gitea-swagger.json", "gitea-client.json"]
            .map(|name| specs.join(name))
            .into_iter()
            .find(|path| path.exists());
        let spec = if kind == "github" { specs.join("github.json") } else { spec.expect("Gitea's description") };
        let mut command = Command::new(needed("BOTTLE_TEST_PYTHON"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/forge/double.py"));
        command.args(["--kind", kind, "--address", address, "--spec"]).arg(&spec);
        for name in ["state.json", "log.jsonl", "cert.pem", "key.pem"] {
            command.arg(format!("--{}", name.split('.').next().expect("a name"))).arg(file(name));
        }
        if let Some(git) = git {
            command.arg("--git").arg(git);
        }
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the stand-in");
        let mut port = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut port).expect("a port");
        assert!(!port.trim().is_empty(), "the stand-in did not start");
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let authority = format!("{host}:{}", port.trim());
        let scheme = if state["plain"] == true { "http" } else { "https" };
        let server = format!("{scheme}://{authority}{}", state["below"].as_str().unwrap_or_default());
        Self { process, dir, spec, authority, server, kind, token }
    }

    /// The authority that vouches for it.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The address of its API.
    pub(crate) fn api(&self) -> String {
        format!("{}/api/{}", self.server, if self.kind == "github" { "v3" } else { "v1" })
    }

    /// Every request so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("log.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect()
    }

    /// What it holds now.
    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.dir.path().join("state.json")).expect("the state"))
            .expect("JSON")
    }

    /// Somebody's comment, from the next request on: `id`, `number`, `author`, `body`; in place of the one with this id. Or a
    /// `fault` from then on.
    pub(crate) fn say(&self, comment: &Value) {
        let path = self.dir.path().join("state.json.add");
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(self.dir.path().join("say"), format!("{said}{comment}\n")).expect("a file");
        std::fs::rename(self.dir.path().join("say"), path).expect("a file");
    }

    /// The requests that write, as `METHOD path`.
    pub(crate) fn writes(&self) -> Vec<String> {
        let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let log = self.log();
        let writes = log.iter().filter(|line| line["git"].is_null() && line["method"] != "GET");
        writes.map(|line| format!("{} {}", text(line, "method"), text(line, "path"))).collect()
    }

    /// Asserts that every request was one that the forge's description knows, and every answer one as it sends them.
    #[track_caller]
    pub(crate) fn assert_valid(&self) {
        let log = self.log();
        assert!(!log.is_empty(), "nothing was asked");
        for line in &log {
            assert!(line["invalid"].is_null() && line["bad_answer"].is_null(), "{line}, by {}", self.spec.display());
        }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An authority and a certificate of it for this address.
pub(super) fn certificates(dir: &Path, address: &str) {
    let file = |name: &str| dir.join(name).display().to_string();
    let (ca, ca_key, cert, key, request, names) =
        (file("ca.pem"), file("ca.key"), file("cert.pem"), file("key.pem"), file("request"), file("names"));
    std::fs::write(&names, format!("subjectAltName=IP:{address},DNS:git.bottle.test\nbasicConstraints=CA:FALSE\n"))
        .expect("a file");
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    // Each has a name of its own, as two authorities have: of two with one name, the wrong one is tried and its signature doubted.
    let authority = format!("/CN=test authority {}", dir.display().to_string().replace('/', " "));
    let subject = ["-days", "2", "-subj", &authority, "-keyout", &ca_key, "-out", &ca];
    run(&[&["openssl", "req", "-x509"], &ec[..], &subject].concat());
    run(&[&["openssl", "req"], &ec[..], &["-subj", "/CN=forge", "-keyout", &key, "-out", &request]].concat());
    run(&[
        "openssl",
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        &names,
        "-out",
        &cert,
    ]);
}
