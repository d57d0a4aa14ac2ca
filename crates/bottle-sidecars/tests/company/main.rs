//! pipelock and git-gate in a network from which a company's proxies alone are reached: the real squid and the real tinyproxy, with a
//! user and a password, and a git host over https beyond them. Cheats of a proxy are in `tests/doors/proxies.toml`.
#![expect(clippy::disallowed_methods, reason = "tests start the programs they test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bottle_testkit::{Company, CompanyProxy, Running, bridge, cache, random_letters, said, sh, until, with_dirs};
use pretty_assertions::assert_eq;
use tempfile::TempDir;

const TOKEN: &str = "a-token-of-the-upstream";
/// Where the git host is.
const PORT: u16 = 443;

/// The company, the git host on the internet, and the doors' directories.
struct World {
    company: Company,
    dir: TempDir,
    password: String,
    _host: Running,
}

/// One door, and the port of its guest.
struct Door {
    _process: Running,
    port: u16,
}

impl World {
    fn start() -> Self {
        let company = Company::start("git.example upstream.example");
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        for name in ["home", "upstream"] {
            fs::create_dir(path(name)).expect("a directory");
        }
        let key = rcgen::generate_simple_self_signed(["git.example".to_owned()]).expect("a certificate");
        fs::write(path("tls.pem"), key.cert.pem()).expect("written");
        fs::write(path("tls.key"), key.signing_key.serialize_pem()).expect("written");
        fs::write(path("token"), TOKEN).expect("written");
        let seed = "git init -q -b main seed; cd seed; echo one >README.md; git add .; git commit -qm one; \
                    git clone -q --bare . ../origin.git; git -C ../origin.git config http.receivepack true";
        let made = git(&path("upstream"), seed);
        assert!(made.status.success(), "{}", said(&made));
        let host = company
            .beyond("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gate/https.py"))
            .args([path("tls.pem"), path("tls.key"), path("upstream"), path("token"), path("https.log")])
            .arg(format!("{}:{PORT}", bottle_testkit::INTERNET))
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut host = Running::new(host);
        assert_eq!(host.first_line(), PORT.to_string());
        Self { company, dir, password: format!("company{}", random_letters(20)), _host: host }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a door in directories of its own, behind a proxy that is said so.
    fn door(&self, name: &str, door: &str, policy: &str, proxy: &str) -> Door {
        let dir = self.path(name);
        for sub in ["doors", "internal", "state/log", "secrets", "home"] {
            fs::create_dir_all(dir.join(sub)).expect("a directory");
        }
        fs::write(dir.join("secrets/GIT_TOKEN"), TOKEN).expect("written");
        fs::write(dir.join("secrets/PROXY_PASSWORD"), &self.password).expect("written");
        fs::write(dir.join("policy.yaml"), format!("version: 1\n{policy}\n{proxy}\n")).expect("written");
        let mut command = self.company.doors(&dir, env!("CARGO_BIN_EXE_bottle-sidecars"));
        let path = std::env::var("PATH").expect("PATH");
        command.env_clear().env("PATH", format!("{}:{path}:/usr/sbin", cache().join("bin").display()));
        command.env("HOME", dir.join("home")).env("SSL_CERT_FILE", self.path("tls.pem")).stdin(Stdio::null());
        with_dirs(&mut command, &dir, &["doors", "internal", "state", "secrets"]);
        command.arg(door).arg("--config").arg(dir.join("policy.yaml"));
        let log = fs::File::create(dir.join("log")).expect("a log");
        let process = Running::new(command.stderr(log).spawn().expect("a door"));
        let socket = dir.join(format!("doors/{door}.sock"));
        until("the door is ready", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        Door { _process: process, port: bridge(&socket) }
    }

    fn gate(&self, name: &str, proxy: &str) -> Door {
        let upstream = "upstreams: [{ name: origin, url: \"https://git.example/origin.git\", token: GIT_TOKEN, \
                        push: { refs: [\"refs/heads/bottle/**\"] } }]";
        self.door(name, "git-gate", upstream, proxy)
    }

    /// What the guest gets of the git host, without its token, through pipelock.
    fn fetched(&self, name: &str, proxy: &str) -> String {
        let policy = "guest_proxy: true\napi_allowlist: [git.example]";
        let pipelock = self.door(name, "pipelock", policy, proxy);
        let ca = self.path(name).join("state/ca/pipelock.crt");
        let output = Command::new("curl")
            .args(["-sS", "-m", "60", "-w", " %{http_code}", "-x", &format!("http://127.0.0.1:{}", pipelock.port)])
            .arg("--cacert")
            .arg(ca)
            .arg("https://git.example/origin.git/HEAD")
            .env_clear()
            .output()
            .expect("curl");
        said(&output)
    }

    /// The `proxy` of a policy.
    fn through(&self, proxy: &CompanyProxy, more: &str) -> String {
        let login = "login: { user: bottle, password: PROXY_PASSWORD }";
        format!("proxy: {{ url: \"http://{}\", {login}{more} }}", proxy.at)
    }
}

fn git(dir: &Path, script: &str) -> Output {
    Command::new("bash")
        .args(["-euc", script])
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var("PATH").expect("PATH"))
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Guest")
        .env("GIT_AUTHOR_EMAIL", "guest@example.org")
        .env("GIT_COMMITTER_NAME", "Guest")
        .env("GIT_COMMITTER_EMAIL", "guest@example.org")
        .stdin(Stdio::null())
        .output()
        .expect("bash")
}

/// Clones and pushes through the gate, asks through pipelock, and looks what the proxy wrote about it.
fn all_goes_through(world: &World, name: &str, proxy: &CompanyProxy) {
    let through = world.through(proxy, "");
    let gate = world.gate(&format!("{name}-gate"), &through);
    let work = world.path(name);
    fs::create_dir(&work).expect("a directory");
    let script = format!(
        "git clone -q git://127.0.0.1:{}/origin.git c; cd c; head -c 2000000 /dev/urandom >big; git add .; git commit -qm big; \
         git push -q origin HEAD:refs/heads/bottle/{name}; git rev-parse HEAD",
        gate.port
    );
    let pushed = git(&work, &script);
    assert!(pushed.status.success(), "{name}: {}", said(&pushed));
    let upstream = world.path("upstream/origin.git").display().to_string();
    let there = sh(&["git", "-c", "safe.directory=*", "-C", &upstream, "rev-parse", &format!("bottle/{name}")]);
    assert!(said(&pushed).contains(&there), "{there}");
    // The host answers without its token; that it answers is enough.
    let answer = world.fetched(&format!("{name}-pipelock"), &through);
    assert!(answer.ends_with(" 401"), "{name}: {answer}");
    let log = proxy.log();
    assert!(log.contains("93.184.215.14:443"), "{name}: {log}");
    assert!(!log.contains("git.example"), "{name} was given the name: {log}");
    assert!(!log.contains(TOKEN));
}

#[test]
fn squid_and_tinyproxy_are_ways_out_and_there_is_no_other() {
    let world = World::start();
    let squid = world.company.squid(3128, "bottle", &world.password, "http_access allow CONNECT known");
    let tinyproxy = world.company.tinyproxy(8888, "bottle", &world.password);
    all_goes_through(&world, "squid", &squid);
    all_goes_through(&world, "tinyproxy", &tinyproxy);
    let answer = world.fetched("direct", "");
    assert!(answer.contains("failed to connect to git.example") && answer.ends_with(" 502"), "{answer}");
    let gate = world.gate("direct-gate", "");
    let listed = git(world.dir.path(), &format!("git ls-remote git://127.0.0.1:{}/origin.git", gate.port));
    assert!(!listed.status.success() && said(&listed).contains("can't be fetched"), "{}", said(&listed));
}

#[test]
fn what_they_refuse_is_said_in_our_words() {
    let world = World::start();
    // By names alone: a proxy whose rules know no addresses.
    let by_name = "acl names dstdomain -n .example\nhttp_access allow CONNECT known names";
    let squid = world.company.squid(3128, "bottle", &world.password, by_name);
    let others = world.company.squid(3129, "bottle", "another-password", "http_access allow CONNECT known");
    let tinyproxy = world.company.tinyproxy(8888, "bottle", "another-password");
    for (name, proxy, more, wanted) in [
        ("squid-names", &squid, "", "refused CONNECT 93.184.215.14:443: 403 Forbidden; its rules have to allow"),
        ("squid-remote", &squid, ", remote_dns: true", " 401"),
        ("squid-login", &others, "", "does not take the credential PROXY_PASSWORD (407)"),
        ("tinyproxy-login", &tinyproxy, "", "does not take the credential PROXY_PASSWORD (401)"),
    ] {
        let answer = world.fetched(name, &world.through(proxy, more));
        assert!(answer.contains(wanted), "{name}: {answer}");
    }
    let nobody = format!("proxy: {{ url: \"http://{}\" }}", squid.at);
    let answer = world.fetched("squid-nobody", &nobody);
    assert!(answer.contains("asks for credentials (407)"), "{answer}");
    let gate = world.gate("gate-login", &world.through(&others, ""));
    let listed = git(world.dir.path(), &format!("git ls-remote git://127.0.0.1:{}/origin.git", gate.port));
    assert!(said(&listed).contains("does not take the credential PROXY_PASSWORD (407)"), "{}", said(&listed));
}
