//! Real clients in the guest, through both doors: each is let in by its route's credential and has seen only the placeholder.
//! npm, pip and cargo find their way by presets, from a company's configuration on the host.

use std::collections::BTreeMap;

use bottle_testkit::{Server, commands, said};

use crate::job::{Job, MODEL_ROUTE, ended_with};

const ORIGIN: &str = "origin.bottle.test";
const MIRROR: &str = "mirror.bottle.test";

/// A client's name, what it does, and what it then prints.
fn clients(port: &str, socket: &str) -> Vec<(&'static str, String, &'static str)> {
    let origin = format!("https://{ORIGIN}:{port}");
    let bearer = "Authorization: Bearer $BOTTLE_TEST_TOKEN";
    let curl = |version: &str| {
        format!(
            "curl -fsS --{version} -H \"{bearer}\" -o /dev/null -w 'spoke %{{http_version}}' {origin}/echo/curl-{version}"
        )
    };
    let python =
        |program: String| format!("cat > /tmp/client.py <<'END'\nimport os\n{program}\nEND\npython3 /tmp/client.py");
    let headers = "{'authorization': 'Bearer ' + os.environ['BOTTLE_TEST_TOKEN']}";
    vec![
        ("placeholder", "echo token=$BOTTLE_TEST_TOKEN".to_owned(), "token=bottle-placeholder-bottle-test-token"),
        ("curl over HTTP/1.1", curl("http1.1"), "spoke 1.1"),
        ("curl over HTTP/2", curl("http2"), "spoke 2"),
        (
            "git over https",
            format!("git -c http.extraHeader=\"{bearer}\" clone -q {origin}/git/app.git /tmp/app && cat /tmp/app/README"),
            "git said",
        ),
        (
            "npm",
            "mkdir /tmp/npm && cd /tmp/npm && npm install --no-progress tiny @corp/tiny \
             && node -e 'console.log(\"npm\", require(\"tiny\"), require(\"@corp/tiny\"))'"
                .to_owned(),
            "npm tiny @corp/tiny",
        ),
        (
            "pip",
            "pip install -q --no-deps --target /tmp/pip tiny corp-tiny && ls /tmp/pip/tiny.py /tmp/pip/corp_tiny.py".to_owned(),
            "/tmp/pip/tiny.py",
        ),
        (
            "cargo",
            "mkdir -p /tmp/cargo/src && cd /tmp/cargo && touch src/lib.rs && printf '[package]\\nname=\"a\"\\nversion=\"0.1.0\"\\n\
             edition=\"2021\"\\n[dependencies]\\ntiny=\"1\"\\ncorp-tiny={version=\"1\",registry=\"corp\"}\\n' > Cargo.toml \
             && cargo vendor -q --respect-source-config /tmp/crates && ls -d /tmp/crates/*"
                .to_owned(),
            "/tmp/crates/corp-tiny\\n/tmp/crates/tiny",
        ),
        (
            "Node's fetch",
            format!(
                "node -e 'fetch(\"{origin}/echo/node\", {{ headers: {{ authorization: \"Bearer \" + process.env.BOTTLE_TEST_TOKEN }} }})\
                 .then(answer => console.log(\"fetched\", answer.status))'"
            ),
            "fetched 200",
        ),
        (
            "Python's requests",
            python(format!("import requests\nprint('requested', requests.get('{origin}/echo/requests', headers={headers}).status_code)")),
            "requested 200",
        ),
        (
            "a WebSocket client",
            python(format!(
                "from websockets.sync.client import connect\nwith connect('wss://{ORIGIN}:{socket}/socket', additional_headers={headers}) as \
                 line:\n    line.send('a word')\n    print('it', line.recv())"
            )),
            "it heard a word",
        ),
        (
            "Python's httpx over HTTP/2",
            python(format!(
                "import httpx\nanswer = httpx.Client(http2=True).get('{origin}/echo/httpx', headers={headers})\n\
                 print('got', answer.status_code, 'by', answer.http_version)"
            )),
            "got 200 by HTTP/2",
        ),
    ]
}

/// What of a company's configuration is on the host: the mirror for all, its own registries by name.
fn configure(job: &Job, port: &str) {
    let (mirror, origin) = (format!("https://{MIRROR}:{port}"), format!("https://{ORIGIN}:{port}"));
    let world = &job.world;
    world.write("home/.npmrc", &format!("registry={mirror}/npm/\n@corp:registry={origin}/npm/\n"));
    let index = format!("[global]\nindex-url = {mirror}/pypi/simple\nextra-index-url = {origin}/pypi/simple\n");
    world.write("home/.config/pip/pip.conf", &index);
    world.write(
        "cargo/config.toml",
        &format!(
            "[source.crates-io]\nreplace-with = \"mirror\"\n[source.mirror]\nregistry = \"sparse+{mirror}/crates/\"\n\
             [registries.corp]\nindex = \"sparse+{origin}/crates/\"\n"
        ),
    );
    // As cargo keeps it from the first time that it reads an index.
    for (host, url) in [(MIRROR, &mirror), (ORIGIN, &origin)] {
        world.write(
            &format!("cargo/registry/index/{host}-0123456789abcdef/config.json"),
            &format!("{{\"dl\": \"{url}/dl\"}}"),
        );
    }
}

#[test]
fn real_clients_are_let_in_by_what_they_have_not_seen() {
    let job = Job::new("");
    let server =
        Server::start(&job.world, "registries.py", &job.upstream.address, &[ORIGIN, MIRROR], &[job.world.secret()]);
    let (port, address) = (&server.port, &job.upstream.address);
    configure(&job, port);
    let socket = server.other.as_deref().expect("a second port");
    let routes = format!(
        "{MODEL_ROUTE}        - {{ host: {ORIGIN}, port: {socket}, websocket: true, paths: [/socket], auth: {{ bearer: BOTTLE_TEST_TOKEN }} }}\n\
         \u{20}       - {{ host: {ORIGIN}, port: {port}, methods: [GET, HEAD, POST], auth: {{ bearer: BOTTLE_TEST_TOKEN }} }}\n      \
         presets: [npm, pip, cargo]\n    pipelock: {{ allow_private: [\"{address}/32\"] }}\n"
    );
    let manifest = format!(
        "version: 1\nbottles:\n  default:\n    image: claude-bottle-test/clients:1\n    egress:\n{routes}    git:\n{}\
         agents:\n  implementer:\n    bottle: default\n    limits: {{ time: 8m }}\ntriggers:\n  labels: {{ claude: implementer }}\n",
        job.upstream.manifest_entry()
    )
    .replace("extra_hosts: { ", &format!("extra_hosts: {{ {ORIGIN}: {address}, {MIRROR}: {address}, "));
    let manifest = job.world.write("clients.yml", &manifest);
    let clients = clients(port, socket);
    let steps: Vec<&str> = clients.iter().map(|(_, command, _)| command.as_str()).collect();
    job.world.write("cassette.yml", &commands(&steps));
    let home = std::env::var("HOME").expect("a home");
    let rustup = std::env::var("RUSTUP_HOME").unwrap_or_else(|_| format!("{home}/.rustup"));
    let mut command = job.command();
    command
        .arg("--manifest")
        .arg(manifest)
        .env("SSL_CERT_FILE", &server.authority)
        // The company's hosts are known in the bundle alone: pip on this host must not go on asking for them.
        .env("PIP_RETRIES", "0")
        .env("CARGO_HOME", job.world.path("cargo"))
        .env("RUSTUP_HOME", rustup);
    let output = command.output().expect("the runner");
    ended_with(&output, 0);

    let transcript = job.world.record_file("transcript.jsonl");
    let log = std::fs::read_to_string(&server.log).expect("requests");
    for (client, _, printed) in &clients {
        let doors = || ["egress.jsonl", "compose.log"].map(|file| job.world.record_file(file)).join("\n");
        assert!(
            transcript.contains(printed),
            "{client} did not print `{printed}`:\n{transcript}\nthe doors:\n{}\nthe server:\n{log}",
            doors()
        );
    }
    let mut asked: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for line in log.lines() {
        let request: serde_json::Value = serde_json::from_str(line).expect("a request");
        let word = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
        let known = word("authorization") == format!("Bearer {}", job.world.secret());
        assert!(!line.contains("bottle-placeholder"), "{line}");
        assert_eq!(known, word("host") == ORIGIN, "the credential goes to its route and nowhere else: {line}");
        let first = [
            "echo/curl-http1.1",
            "echo/curl-http2",
            "echo/node",
            "echo/requests",
            "echo/httpx",
            "git",
            "socket",
            "npm",
            "pypi",
            "crates",
            "dl",
        ]
        .into_iter()
        .find(|first| word("path").starts_with(&format!("/{first}")));
        *asked.entry((word("host"), first.expect("a path that was meant"))).or_default() += 1;
        assert!(
            request["status"] == 200 || request["status"] == 101 || word("path").starts_with("/pypi/simple/"),
            "{line}"
        );
    }
    for (host, firsts) in [
        (ORIGIN, &["echo/curl-http1.1", "echo/curl-http2", "echo/node", "echo/requests", "echo/httpx", "git"][..]),
        (ORIGIN, &["npm", "pypi", "crates", "dl"][..]),
        (MIRROR, &["npm", "pypi", "crates", "dl"][..]),
    ] {
        for first in firsts {
            assert!(asked.contains_key(&(host.to_owned(), first)), "nobody asked {host} for {first}: {asked:?}");
        }
    }
    let plan = job.world.record_file("plan.json");
    assert!(plan.contains(&format!("https://{MIRROR}:{port}/npm/")) && !plan.contains(job.world.secret()));
    assert!(said(&output).contains("run record: "));
    job.nothing_left();
}
