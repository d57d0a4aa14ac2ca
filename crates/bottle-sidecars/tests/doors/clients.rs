//! Programs as an agent runs them, through the doors: each holds the placeholder, and the origin sees the credential.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use bytes::Bytes;
use pretty_assertions::assert_eq;
use sha2::{Digest as _, Sha256, Sha512};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};

use crate::world::{KEY, PLACEHOLDER, Setup, World};

const ROUTES: &str = r#"
  - host: localhost
    port: PORT
    methods: [GET, HEAD, POST]
    paths: ["/key/**"]
    websocket: true
    auth: { header: x-api-key, from: ANTHROPIC_API_KEY }
"#;

fn tool(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run the tests by ./scripts/test"))
        .into()
}

/// The world, its egress at a port as the link in a guest has it, and a directory to work in.
struct Guest {
    world: World,
    port: u16,
    dir: tempfile::TempDir,
}

impl Guest {
    async fn start() -> Self {
        let world = World::start(Setup { routes: ROUTES, ..Setup::default() }).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let socket = world.path("doors/egress.sock");
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let socket = socket.clone();
                tokio::spawn(async move {
                    let mut door = UnixStream::connect(socket).await.expect("egress");
                    let _ = copy_bidirectional(&mut tcp, &mut door).await;
                });
            }
        });
        Self { world, port, dir: tempfile::tempdir().expect("a directory") }
    }

    /// Below what has the credential.
    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/key/{path}", self.world.origin.port)
    }

    fn serve(&self, path: &str, bytes: impl Into<Bytes>) {
        let path = format!("/key/{path}");
        self.world.origin.state.files.lock().expect("a lock").insert(path, bytes.into());
    }

    /// Runs a program as a guest would: with the proxy, the door's CA and the placeholder, and nothing of ours.
    async fn run(&self, program: impl AsRef<Path>, args: &[&str], more: &[(&str, &str)]) -> Output {
        let mut command = Command::new(program.as_ref());
        let proxy = format!("http://127.0.0.1:{}", self.port);
        let ca = self.world.path("state/ca/egress.crt");
        command.args(args).env_clear().current_dir(self.dir.path()).env("HOME", self.dir.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("ANTHROPIC_API_KEY", PLACEHOLDER);
        for name in ["HTTPS_PROXY", "https_proxy", "CARGO_HTTP_PROXY"] {
            command.env(name, &proxy);
        }
        for name in [
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "NODE_EXTRA_CA_CERTS",
            "REQUESTS_CA_BUNDLE",
            "PIP_CERT",
            "CARGO_HTTP_CAINFO",
            "npm_config_cafile",
        ] {
            command.env(name, &ca);
        }
        command.envs(more.iter().copied());
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("a program");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {out}{err}", program.as_ref().display());
        assert!(!out.contains(KEY) && !err.contains(KEY), "the guest saw the credential");
        output
    }

    /// What of these paths the origin has seen, each with the credential; the version of HTTP does not matter.
    fn seen(&self, begins: &str) -> Vec<String> {
        let seen = self.world.origin.state.seen.lock().expect("a lock");
        let begins = format!("/key/{begins}");
        let own = seen.iter().filter(|seen| seen.target.starts_with(&begins));
        own.map(|seen| {
            assert_eq!(seen.headers.get("x-api-key").map(http::HeaderValue::as_bytes), Some(KEY.as_bytes()));
            assert!(!format!("{:?}", seen.headers).contains(PLACEHOLDER), "{:?}", seen.headers);
            seen.target.clone()
        })
        .collect()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }

    fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(path)).expect("a file")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_over_both_versions_of_http() {
    let guest = Guest::start().await;
    for version in ["--http1.1", "--http2"] {
        let header = format!("x-api-key: {PLACEHOLDER}");
        let url = guest.url(&format!("curl/{version}"));
        let args = ["-sS", "--fail", version, "-H", header.as_str(), "-w", " %{http_version}", url.as_str()];
        let output = guest.run("curl", &args, &[]).await;
        let wanted = if version == "--http2" { "fine 2" } else { "fine 1.1" };
        assert_eq!(String::from_utf8_lossy(&output.stdout), wanted);
    }
    assert_eq!(guest.seen("curl/").len(), 2);
    let log = guest.world.log("egress.jsonl", 2).await;
    assert!(log.iter().all(|line| line.credential.as_deref() == Some("ANTHROPIC_API_KEY")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_over_https() {
    let guest = Guest::start().await;
    let git = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"];
    let with = |more: &[&'static str]| [&git[..], more].concat();
    guest.run("git", &with(&["init", "-q", "there"]), &[]).await;
    guest.write("there/a.txt", "of the origin\n");
    guest.run("git", &with(&["-C", "there", "add", "."]), &[]).await;
    guest.run("git", &with(&["-C", "there", "commit", "-qm", "one"]), &[]).await;
    guest.run("git", &["-C", "there", "update-server-info"], &[]).await;
    let top = guest.dir.path().join("there/.git");
    let mut dirs = vec![top.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(&top).expect("below").to_str().expect("text").to_owned();
                guest.serve(&format!("git/app.git/{name}"), std::fs::read(&path).expect("a file"));
            }
        }
    }
    guest.run("git", &["clone", "-q", &guest.url("git/app.git"), "here"], &[("GIT_CONFIG_NOSYSTEM", "1")]).await;
    assert_eq!(guest.read("here/a.txt"), b"of the origin\n");
    assert!(guest.seen("git/").len() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_installs_from_a_registry() {
    let guest = Guest::start().await;
    guest.write("made/package.json", r#"{"name": "bottle-sample", "version": "1.0.0", "main": "index.js"}"#);
    guest.write("made/index.js", "module.exports = 'of the registry';\n");
    let quiet = [("npm_config_update_notifier", "false"), ("npm_config_audit", "false"), ("npm_config_fund", "false")];
    // With a cache of its own: npm would find what it has packed in its cache, and fetch nothing.
    let packs = [&quiet[..], &[("npm_config_cache", "packs")]].concat();
    guest.run("npm", &["pack", "--loglevel=error", "./made"], &packs).await;
    let packed = guest.read("bottle-sample-1.0.0.tgz");
    let integrity = base64::engine::general_purpose::STANDARD.encode(Sha512::digest(&packed));
    guest.serve("npm/bottle-sample/-/bottle-sample-1.0.0.tgz", packed);
    let about = serde_json::json!({ "name": "bottle-sample", "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": {
        "name": "bottle-sample", "version": "1.0.0", "dist": {
            "tarball": guest.url("npm/bottle-sample/-/bottle-sample-1.0.0.tgz"), "integrity": format!("sha512-{integrity}"),
        },
    } } });
    guest.serve("npm/bottle-sample", about.to_string());
    let registry = guest.url("npm/");
    let more = [&quiet[..], &[("npm_config_registry", registry.as_str())]].concat();
    guest.write("app/package.json", r#"{"name": "app", "version": "1.0.0"}"#);
    guest.run("npm", &["install", "--prefix", "app", "--loglevel=error", "bottle-sample"], &more).await;
    assert_eq!(guest.read("app/node_modules/bottle-sample/index.js"), b"module.exports = 'of the registry';\n");
    assert_eq!(guest.seen("npm/").len(), 2);
}

const WHEEL: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    info = "bottle_sample-1.0.0.dist-info/"
    wheel.writestr("bottle_sample/__init__.py", "where = 'of the index'\n")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: bottle-sample\nVersion: 1.0.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "bottle_sample/__init__.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn pip_installs_from_an_index() {
    let guest = Guest::start().await;
    let python = tool("BOTTLE_TEST_CLIENTS").join("bin/python");
    let name = "bottle_sample-1.0.0-py3-none-any.whl";
    guest.run(&python, &["-c", WHEEL, name], &[]).await;
    let wheel = guest.read(name);
    let hash = hex::encode(Sha256::digest(&wheel));
    guest.serve(&format!("pip/files/{name}"), wheel);
    guest.serve("pip/simple/bottle-sample/", format!("<a href=\"../../files/{name}#sha256={hash}\">{name}</a>"));
    let index = guest.url("pip/simple/");
    let args =
        ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--target", "got", "bottle-sample"];
    guest.run(&python, &args, &[("PIP_INDEX_URL", &index), ("PIP_CONFIG_FILE", "/dev/null")]).await;
    assert_eq!(guest.read("got/bottle_sample/__init__.py"), b"where = 'of the index'\n");
    assert_eq!(guest.seen("pip/").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn cargo_fetches_from_a_registry() {
    let guest = Guest::start().await;
    let manifest = "[package]\nname = \"bottle-sample\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    guest.write("bottle-sample-1.0.0/Cargo.toml", manifest);
    guest.write("bottle-sample-1.0.0/src/lib.rs", "// of the registry\n");
    guest.run("tar", &["-czf", "sample.crate", "bottle-sample-1.0.0"], &[]).await;
    let packed = guest.read("sample.crate");
    let line = serde_json::json!({ "name": "bottle-sample", "vers": "1.0.0", "deps": [], "features": {}, "yanked": false,
        "cksum": hex::encode(Sha256::digest(&packed)) });
    guest.serve("crates/bo/tt/bottle-sample", format!("{line}\n"));
    guest.serve("crates/dl/bottle-sample/1.0.0.crate", packed);
    let dl = guest.url("crates/dl/{crate}/{version}.crate");
    guest.serve("crates/config.json", serde_json::json!({ "dl": dl }).to_string());
    let index = format!("sparse+{}", guest.url("crates/"));
    let app = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nbottle-sample = { version = \"1\", registry = \"sample\" }\n";
    guest.write("app/Cargo.toml", app);
    guest.write("app/src/lib.rs", "");
    let home = guest.dir.path().join("cargo-home");
    let home = home.to_str().expect("text");
    // Beside it, and not a front that first asks which one is meant.
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let rustc = rustc.to_str().expect("text");
    let more = [("CARGO_HOME", home), ("CARGO_REGISTRIES_SAMPLE_INDEX", index.as_str()), ("RUSTC", rustc)];
    guest.run(env!("CARGO"), &["fetch", "--quiet", "--manifest-path", "app/Cargo.toml"], &more).await;
    assert!(String::from_utf8_lossy(&guest.read("app/Cargo.lock")).contains("name = \"bottle-sample\""));
    assert_eq!(guest.seen("crates/").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn python_s_requests_httpx_and_websockets() {
    let guest = Guest::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doors/clients.py");
    let output = guest.run(tool("BOTTLE_TEST_CLIENTS").join("bin/python"), &[script, &guest.url("")], &[]).await;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let wanted = serde_json::json!({ "requests": "fine", "httpx": "HTTP/1.1 fine", "httpx2": "HTTP/2 fine", "websockets": "hello" });
    assert_eq!(told, wanted);
    assert_eq!(guest.seen("python/").len(), 4);
    // Its only message, masked as it came.
    let said = guest.world.origin.state.said.lock().expect("a lock").clone();
    let text: Vec<u8> = said[6..23].iter().zip(said[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    assert_eq!((said[0], text.as_slice()), (0x81, &b"an honest message"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn node_s_fetch() {
    let guest = Guest::start().await;
    let script = "fetch(process.argv[1], { headers: { 'x-api-key': process.env.ANTHROPIC_API_KEY } })\
                  .then((answer) => answer.text()).then((text) => process.stdout.write(text))";
    let url = guest.url("node/fetch");
    let output = guest
        .run(tool("BOTTLE_TEST_CLIENTS").join("node"), &["-e", script, &url], &[("NODE_USE_ENV_PROXY", "1")])
        .await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "fine");
    assert_eq!(guest.seen("node/").len(), 1);
}
