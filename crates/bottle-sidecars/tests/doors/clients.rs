//! Clients that people use, with the doors and without: `clients.toml` has them, `clients/` the programs. They and their origin are in a
//! network of the test's own, where a name is known.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bottle_testkit::{Running, bridge};
use pretty_assertions::assert_eq;
use serde::Deserialize;

use crate::pass::inside;
use crate::world::World;

const HOST: &str = "origin.example";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    rows: Vec<[String; 2]>,
    client: Vec<Client>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    name: String,
    /// The program, and what it is told before the rows.
    run: Vec<String>,
    /// Which of the origin's ports.
    origin: String,
    /// It is told no rows, and all that it prints without the doors is wanted.
    #[serde(default)]
    whole: bool,
    /// It fails without the doors, and must fail with them.
    #[serde(default)]
    refused: bool,
}

struct OriginProcess {
    _process: Running,
    ports: BTreeMap<String, u16>,
}

fn dir() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doors/clients"))
}

fn needed(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: run the tests by scripts/test --deep"))
}

impl OriginProcess {
    fn start(world: &World) -> Self {
        let made = ["client-origin", "untrusted"].map(|name| {
            let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).expect("a certificate");
            let (certificate, key) = (world.path(&format!("{name}.pem")), world.path(&format!("{name}.key")));
            std::fs::write(&certificate, made.cert.pem()).expect("a file");
            std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
            [certificate, key]
        });
        let child = Command::new(needed("BOTTLE_TEST_CLIENTS"))
            .arg(dir().join("origin.py"))
            .args(made.as_flattened())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let mut process = Running::new(child);
        let ports = serde_json::from_str(&process.first_line()).expect("ports");
        Self { _process: process, ports }
    }
}

/// Names the programs that `tools.py` starts: this home has none of its own.
fn tools(command: &mut Command) {
    let node = PathBuf::from(needed("BOTTLE_TEST_CLIENTS_NODE"));
    let npm = node.with_file_name("npm").canonicalize().expect("npm");
    let cargo = PathBuf::from(env!("CARGO"));
    command.env("NODE", node).env("NPM", npm).env("NODE_PATH", needed("BOTTLE_TEST_CLIENTS_MODULES"));
    command.env("RUSTC", cargo.with_file_name("rustc")).env("CARGO", cargo).env("PYTHONDONTWRITEBYTECODE", "1");
}

/// What a client prints, by the port of a proxy or without one.
fn printed(world: &World, matrix: &Matrix, client: &Client, port: u16, proxy: Option<u16>) -> String {
    let run = if proxy.is_some() { "through" } else { "direct" };
    let place = |text: &String| text.replace("HOST", HOST).replace("PORT", &port.to_string()).replace("RUN", run);
    let program = match client.run[0].as_str() {
        "python" => needed("BOTTLE_TEST_CLIENTS"),
        "node" => needed("BOTTLE_TEST_CLIENTS_NODE"),
        // Built beforehand: it would be built again and again.
        "go" => world.path("go").join(&client.run[1]).display().to_string(),
        program => program.to_owned(),
    };
    let mut command = Command::new(program);
    let (home, bundle) = (world.path("home"), world.path("clients.pem"));
    std::fs::create_dir_all(&home).expect("a directory");
    command.env_clear().env("PATH", needed("PATH")).env("HOME", &home).env("OUT", &home).current_dir(dir());
    tools(&mut command);
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
        command.env(name, &bundle);
    }
    if let Some(proxy) = proxy {
        command.env("NODE_USE_ENV_PROXY", "1");
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
            command.env(name, format!("http://127.0.0.1:{proxy}"));
        }
    }
    let own = if client.run[0] == "go" { 2 } else { 1 };
    command.args(client.run[own..].iter().map(place));
    if !client.whole {
        let url = |path: &String| format!("https://{HOST}:{port}{path}");
        command.args(matrix.rows.iter().flat_map(|[method, path]| [method.clone(), url(path)]));
    }
    let output = command.output().expect("the client");
    let told = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{} by {proxy:?}: {text}{told}", client.name);
    text
}

/// What the origin's ports may be asked for.
fn routes(port: impl Fn(&str) -> u16) -> String {
    let routes = format!(
        "version: 1\nroutes:\n  - {{ host: {HOST}, port: {}, websocket: true, paths: [/open/socket] }}\n  \
         - {{ host: {HOST}, port: {}, methods: [POST], paths: [\"/open.Echo/*\"] }}\n",
        port("socket"),
        port("grpc")
    );
    let plain = ["h1", "h2", "untrusted"].map(|name| {
        format!(
            "  - {{ host: {HOST}, port: {}, methods: [GET, HEAD, POST, PUT], paths: [\"/open/**\"] }}\n",
            port(name)
        )
    });
    routes + &plain.concat()
}

/// Builds the clients in Go.
fn build_go(world: &World) {
    std::fs::create_dir(world.path("go")).expect("a directory");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(world.path("go"))
        .arg("./...")
        .current_dir(dir().join("go"))
        .envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=readonly -buildvcs=false"), ("GOPROXY", "off")])
        .status();
    assert!(built.expect("go").success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes, and clients of its own; scripts/test --deep"]
async fn clients_get_through_the_doors_what_they_get_without() {
    let hosts = format!("127.0.0.1 localhost {HOST}\n");
    if !inside("clients::clients_get_through_the_doors_what_they_get_without", &hosts) {
        return;
    }
    let matrix: Matrix = toml::from_str(include_str!("clients.toml")).expect("clients");
    let mut world = World::usual().await;
    let origin = OriginProcess::start(&world);
    let port = |name: &str| origin.ports[name];
    std::fs::write(world.path("config/routes.yaml"), routes(port)).expect("a file");
    // Read at the start and at the first connection.
    std::fs::copy(world.path("client-origin.pem"), world.path("origin.pem")).expect("a file");
    world.end(rustix::process::Signal::TERM);
    world.end(rustix::process::Signal::TERM);
    world.daemon("pipelock", "pipelock.yaml", "internal/pipelock.sock").await;
    world.daemon("egress", "routes.yaml", "doors/egress.sock").await;
    let certificates =
        ["client-origin.pem", "state/ca/egress.crt"].map(|path| std::fs::read(world.path(path)).expect("PEM"));
    std::fs::write(world.path("clients.pem"), certificates.concat()).expect("a file");
    build_go(&world);
    let proxy = bridge(&world.path("doors/egress.sock"));
    let mut wrong = vec![];
    for client in &matrix.client {
        let port = port(&client.origin);
        let direct = tokio::task::block_in_place(|| printed(&world, &matrix, client, port, None));
        let through = tokio::task::block_in_place(|| printed(&world, &matrix, client, port, Some(proxy)));
        assert_eq!(direct.lines().count(), through.lines().count(), "{}:\n{direct}\n{through}", client.name);
        if client.whole {
            assert!(direct.lines().count() > 1, "{}: {direct}", client.name);
        }
        for (direct, through) in direct.lines().zip(through.lines()) {
            // Some take an early hint for the answer.
            let failed = direct.ends_with(" failed")
                || direct.contains(" 103 ")
                || direct.contains(" exit ") && !direct.contains(" exit 0 ");
            assert!(failed || !client.refused, "{}: {direct}", client.name);
            if direct != through && (client.refused || !failed) {
                wrong.push(format!("{}:\n  {direct}\n  {through}", client.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
