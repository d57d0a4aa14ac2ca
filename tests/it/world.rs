//! A clean world for one test: own HOME, scrubbed environment, real upstream, sample repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::place::{self, Place, Sshd};

/// Variables that would change what the runner does, or what it masks.
const SCRUBBED: [&str; 8] =
    ["CI", "NO_COLOR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "ANTHROPIC_API_KEY", "DOCKER_HOST", "BOTTLE_LOG"];

/// One test's world; everything of it goes with it.
pub(crate) struct World {
    dir: TempDir,
    secret: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = TempDir::with_prefix("bottle-it-").expect("a temporary directory");
        fs::create_dir_all(dir.path().join("home")).expect("a home");
        // Made at run time: no key may stand in this repository, and only the bottle's owner knows this one.
        let secret = format!("{}/{}+x", random(30), random(12));
        Self { dir, secret }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The value of BOTTLE_TEST_TOKEN in this world.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, text).expect("a file");
        path
    }

    /// `bottle-runner` in this world.
    pub(crate) fn runner(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bottle-runner"));
        self.clean(&mut command);
        command
    }

    /// Takes the tester's environment away and gives this world's.
    pub(crate) fn clean(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("GITHUB_")
                || name.starts_with("RUNNER_")
                || name.starts_with("GIT_")
                || SCRUBBED.contains(&name.as_str())
            {
                command.env_remove(name);
            }
        }
        command
            .env("CLAUDE_BOTTLE_CACHE", cache())
            .env("HOME", self.path("home"))
            .env("BOTTLE_STATE_DIR", self.path("state"))
            .env("BOTTLE_CACHE_DIR", self.path("setups"))
            .env("ANTHROPIC_API_KEY", "sk-ant-not-needed-in-a-replay")
            .env("BOTTLE_TEST_TOKEN", &self.secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir(self.dir.path());
    }

    /// The slugs of this world's runs.
    pub(crate) fn slugs(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("state")) else { return vec![] };
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a slug")).collect()
    }

    /// The one run's record.
    pub(crate) fn record(&self) -> PathBuf {
        let slugs = self.slugs();
        assert_eq!(slugs.len(), 1, "one run: {slugs:?}");
        self.path("state").join(&slugs[0])
    }

    pub(crate) fn record_file(&self, name: &str) -> String {
        let path = self.record().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// Where scripts/test has put Claude Code and gitleaks.
pub(crate) fn cache() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    variable("CLAUDE_BOTTLE_CACHE").unwrap_or_else(|| {
        let home = || variable("HOME").expect("HOME").join(".cache");
        variable("XDG_CACHE_HOME").unwrap_or_else(home).join("claude-bottle")
    })
}

/// Letters and digits from the operating system.
pub(crate) fn random(length: usize) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    let mut source = fs::File::open("/dev/urandom").expect("random numbers");
    while text.len() < length {
        let mut byte = [0];
        source.read_exact(&mut byte).expect("a random number");
        if byte[0].is_ascii_alphanumeric() {
            text.push(char::from(byte[0]));
        }
    }
    text
}

/// Runs a program that must succeed; its standard output.
pub(crate) fn sh(argv: &[&str]) -> String {
    let output = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{argv:?}: {error}"));
    assert!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// What a program printed, both streams, for messages.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A real sshd with the sample repository: in a container, or, where the bundle has the host's network, on loopback.
pub(crate) struct Upstream {
    server: Server,
    pub(crate) address: String,
    pub(crate) port: String,
    pub(crate) host_key: String,
    pub(crate) identity: PathBuf,
    /// Who logs in, and where the repository is.
    user: String,
    path: String,
    /// How objects are named in it.
    format: &'static str,
}

enum Server {
    Container(String),
    Process(Option<Sshd>),
}

impl Upstream {
    pub(crate) fn start(world: &World, format: &'static str) -> Self {
        let identity = world.path("id");
        sh(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", &identity.display().to_string()]);
        let upstream = match place::here() {
            Place::Docker => Self::in_a_container(identity, format),
            Place::Bubblewrap | Place::Smolmachines => Self::on_loopback(world, identity, format),
        };
        upstream.at(&["git", "init", "--quiet", "--bare", "-b", "main", "--object-format", format, &upstream.path]);
        upstream
    }

    /// Makes another repository beside this one, with the file `one`; the manifest's entry for it.
    pub(crate) fn beside(&self, name: &str) -> String {
        let path = Path::new(&self.path).with_file_name(format!("{name}.git")).display().to_string();
        let script = r#"git init -q --bare -b main "$1" && cd "$1" && export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@bottle.test &&
            export GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@bottle.test && file=$(echo one | git hash-object -w --stdin) &&
            tree=$(printf '100644 blob %s\tone\n' "$file" | git mktree) &&
            git update-ref refs/heads/main "$(git commit-tree -m one "$tree")""#;
        self.at(&["sh", "-c", script, "sh", &path]);
        self.manifest_entry().replace(&self.path, &path).replace("name: origin", &format!("name: of-{name}"))
    }

    fn on_loopback(world: &World, identity: PathBuf, format: &'static str) -> Self {
        let sshd = Sshd::start(&world.path("."), &identity.with_extension("pub"));
        Self {
            address: "127.0.0.1".to_owned(),
            port: sshd.port.clone(),
            host_key: sshd.host_key.clone(),
            identity,
            user: sh(&["id", "--user", "--name"]),
            path: world.path("srv/app.git").display().to_string(),
            format,
            server: Server::Process(Some(sshd)),
        }
    }

    fn in_a_container(identity: PathBuf, format: &'static str) -> Self {
        let public = fs::read_to_string(identity.with_extension("pub")).expect("a public key");
        // The engine's own address on its bridge; older engines say only the subnet, whose first address it is.
        let subnet = sh(&["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}"]);
        let address = subnet.rsplit_once('.').map(|(front, _)| format!("{front}.1")).expect("a subnet");
        let container = sh(&[
            "docker",
            "run",
            "--detach",
            "--label",
            "io.claude-bottle.test=1",
            "--publish",
            &format!("{address}::22"),
            "--env",
            &format!("AUTHORIZED_KEYS={public}"),
            "claude-bottle-test/upstream:1",
        ]);
        let port = sh(&["docker", "port", &container, "22/tcp"]);
        let port = port.lines().next().and_then(|line| line.rsplit(':').next()).expect("a port").to_owned();
        for attempt in 0.. {
            let logs = Command::new("docker").args(["logs", &container]).output().expect("docker logs");
            if said(&logs).contains("Server listening") {
                break;
            }
            assert!(attempt < 200, "sshd did not start: {}", said(&logs));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let key = "/etc/ssh/keys/ssh_host_ed25519_key.pub";
        let host_key = sh(&["docker", "exec", &container, "cut", "-d", " ", "-f", "1,2", key]);
        let (user, path) = ("git".to_owned(), "/srv/git/app.git".to_owned());
        Self { server: Server::Container(container), address, port, host_key, identity, user, path, format }
    }

    /// Stops answering.
    pub(crate) fn stop(&mut self) {
        match &mut self.server {
            Server::Container(container) => drop(sh(&["docker", "stop", "--time", "0", container])),
            Server::Process(sshd) => drop(sshd.take()),
        }
    }

    /// A program where the repository is.
    fn at(&self, argv: &[&str]) -> String {
        match &self.server {
            Server::Container(container) => sh(&[&["docker", "exec", "--user", "git", container], argv].concat()),
            Server::Process(_) => sh(argv),
        }
    }

    /// git at the upstream.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.at(&[&["git", "--git-dir", &self.path], args].concat())
    }

    fn url(&self, host: &str) -> String {
        format!("ssh://{}@{host}:{}{}", self.user, self.port, self.path)
    }

    /// The manifest's git entry for this upstream.
    pub(crate) fn manifest_entry(&self) -> String {
        format!(
            "      - name: origin\n        upstream: {}\n        identity_file: \"{}\"\n        \
             known_host_key: {}\n        extra_hosts: {{ git.bottle.test: {} }}\n        push: {{ refs: [\"refs/heads/bottle/**\"] }}\n",
            self.url("git.bottle.test"),
            self.identity.display(),
            self.host_key,
            self.address
        )
    }

    /// The variables with which git at hand reaches it under the name that people have for it, and knows who commits.
    pub(crate) fn reach(&self, world: &World) -> Vec<(String, String)> {
        let known = world.path("known").display().to_string();
        let ssh = format!(
            "ssh -F /dev/null -i {} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={known}",
            self.identity.display(),
        );
        let config = [
            (
                format!("url.ssh://git@{}:{}/.insteadOf", self.address, self.port),
                format!("ssh://git@git.bottle.test:{}/", self.port),
            ),
            // As in a clone.
            ("branch.main.remote".to_owned(), "origin".to_owned()),
            ("branch.main.merge".to_owned(), "refs/heads/main".to_owned()),
        ];
        let mut variables: Vec<(String, String)> = [
            ("GIT_SSH_COMMAND", ssh.as_str()),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_AUTHOR_NAME", "Sample"),
            ("GIT_AUTHOR_EMAIL", "sample@bottle.test"),
            ("GIT_COMMITTER_NAME", "Sample"),
            ("GIT_COMMITTER_EMAIL", "sample@bottle.test"),
            ("GIT_CONFIG_COUNT", "3"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        for (number, (key, value)) in config.into_iter().enumerate() {
            variables.push((format!("GIT_CONFIG_KEY_{number}"), key));
            variables.push((format!("GIT_CONFIG_VALUE_{number}"), value));
        }
        variables
    }

    /// A checkout of the sample with this manifest, pushed to the upstream's main.
    pub(crate) fn sample(&self, world: &World, manifest: &str) -> PathBuf {
        let dir = world.path("app");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/sample");
        sh(&["cp", "-R", &source.display().to_string(), &dir.display().to_string()]);
        fs::remove_file(dir.join("claude-bottle.yml.in")).expect("the template");
        fs::write(dir.join("claude-bottle.yml"), manifest).expect("a manifest");
        let known = world.write("known", &format!("[{}]:{} {}\n", self.address, self.port, self.host_key));
        let ssh = format!(
            "ssh -F /dev/null -i {} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={}",
            self.identity.display(),
            known.display()
        );
        let url = self.url(&self.address);
        for args in [
            &["init", "--quiet", "--initial-branch", "main", "--object-format", self.format][..],
            &["add", "--all"],
            &["commit", "--quiet", "-m", "Count words"],
            &["remote", "add", "origin", &url],
            &["push", "--quiet", "origin", "main"],
            &["fetch", "--quiet", "origin"],
            &["remote", "set-head", "origin", "main"],
            // Its address was needed to push from here; people have the name that the manifest has.
            &["remote", "set-url", "origin", &self.url("git.bottle.test")],
        ] {
            let output = Command::new("git")
                .args(args)
                .current_dir(&dir)
                .envs([
                    ("GIT_CONFIG_NOSYSTEM", "1"),
                    ("GIT_CONFIG_GLOBAL", "/dev/null"),
                    ("GIT_AUTHOR_NAME", "Sample"),
                    ("GIT_AUTHOR_EMAIL", "sample@bottle.test"),
                    ("GIT_COMMITTER_NAME", "Sample"),
                    ("GIT_COMMITTER_EMAIL", "sample@bottle.test"),
                    ("GIT_SSH_COMMAND", ssh.as_str()),
                ])
                .output()
                .expect("git");
            assert!(output.status.success(), "git {args:?}: {}", said(&output));
        }
        dir
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Server::Container(container) = &self.server {
            let _ = Command::new("docker").args(["rm", "--force", "--volumes", container]).output();
        }
    }
}

/// A run that is going on; killed with its test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn signal(&self, signal: &str) {
        sh(&["kill", &format!("-{signal}"), &self.0.id().to_string()]);
    }

    /// What it printed, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<String> {
        use std::io::Read as _;
        self.0.try_wait().expect("a state")?;
        let mut bytes = vec![];
        self.0.stdout.take()?.read_to_end(&mut bytes).expect("what it printed");
        self.0.stderr.take()?.read_to_end(&mut bytes).expect("what it printed");
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn wait(mut self) -> Output {
        let mut child = std::mem::replace(&mut self.0, Command::new("true").spawn().expect("true"));
        // Both pipes are drained while it runs, so that a full one can't stop it.
        let mut stdout = child.stdout.take().expect("a pipe");
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![];
            let _ = std::io::Read::read_to_end(&mut stdout, &mut bytes);
            bytes
        });
        let mut output = child.wait_with_output().expect("its end");
        output.stdout = reader.join().expect("what it printed");
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
