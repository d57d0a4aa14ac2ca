//! An upstream for a run: a real sshd with a repository, and the sample in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::in_repository;
use crate::process::{said, sh};
use crate::sshd::{self, Sshd};
use crate::world::World;

/// Where the sshd runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// In a container of `claude-bottle-test/upstream:1`.
    Container,
    /// On this machine's loopback, for backends whose bundle has the host's network.
    Loopback,
}

/// Real sshd with a bare repository; it ends with its test.
#[derive(Debug)]
pub struct Upstream {
    server: Server,
    /// Its address, as the bundle reaches it.
    pub address: String,
    /// Its port.
    pub port: String,
    /// Its public key: type and key.
    pub host_key: String,
    /// File with the private key of who may log in.
    pub identity: PathBuf,
    /// Who logs in, and where the repository is.
    user: String,
    path: String,
    /// How objects are named in it.
    format: &'static str,
}

#[derive(Debug)]
enum Server {
    Container(String),
    Process(Option<Sshd>),
}

impl Upstream {
    /// Starts one with an empty repository whose objects are named by this format: `sha1` or `sha256`.
    pub fn start(world: &World, host: Host, format: &'static str) -> Self {
        let identity = world.path("id");
        sshd::key(&identity, "test");
        let upstream = match host {
            Host::Container => Self::in_a_container(identity, format),
            Host::Loopback => Self::on_loopback(world, identity, format),
        };
        upstream.at(&["git", "init", "--quiet", "--bare", "-b", "main", "--object-format", format, &upstream.path]);
        upstream
    }

    /// Makes another repository beside this one, with the file `one`; the manifest's entry for it.
    pub fn beside(&self, name: &str) -> String {
        let path = Path::new(&self.path).with_file_name(format!("{name}.git")).display().to_string();
        let script = r#"git init -q --bare -b main "$1" && cd "$1" && export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@bottle.test &&
            export GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@bottle.test && file=$(echo one | git hash-object -w --stdin) &&
            tree=$(printf '100644 blob %s\tone\n' "$file" | git mktree) &&
            git update-ref refs/heads/main "$(git commit-tree -m one "$tree")""#;
        self.at(&["sh", "-c", script, "sh", &path]);
        self.manifest_entry().replace(&self.path, &path).replace("name: origin", &format!("name: of-{name}"))
    }

    fn on_loopback(world: &World, identity: PathBuf, format: &'static str) -> Self {
        let sshd = Sshd::start(&world.path("sshd"), &identity.with_extension("pub"), None);
        let key = sshd.host_key();
        Self {
            address: "127.0.0.1".to_owned(),
            port: sshd.port.to_string(),
            host_key: key.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
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
            std::thread::sleep(Duration::from_millis(50));
        }
        let key = "/etc/ssh/keys/ssh_host_ed25519_key.pub";
        let host_key = sh(&["docker", "exec", &container, "cut", "-d", " ", "-f", "1,2", key]);
        let (user, path) = ("git".to_owned(), "/srv/git/app.git".to_owned());
        Self { server: Server::Container(container), address, port, host_key, identity, user, path, format }
    }

    /// Stops answering.
    pub fn stop(&mut self) {
        match &mut self.server {
            Server::Container(container) => drop(sh(&["docker", "stop", "--time", "0", container])),
            Server::Process(sshd) => drop(sshd.take()),
        }
    }

    /// Runs a program where the repository is.
    fn at(&self, argv: &[&str]) -> String {
        match &self.server {
            Server::Container(container) => sh(&[&["docker", "exec", "--user", "git", container], argv].concat()),
            Server::Process(_) => sh(argv),
        }
    }

    /// Runs git at the upstream; what it printed.
    pub fn git(&self, args: &[&str]) -> String {
        self.at(&[&["git", "--git-dir", &self.path], args].concat())
    }

    /// Gives its address below a name of its server.
    pub fn url(&self, host: &str) -> String {
        format!("ssh://{}@{host}:{}{}", self.user, self.port, self.path)
    }

    /// Writes the manifest's git entry for this upstream.
    pub fn manifest_entry(&self) -> String {
        format!(
            "      - name: origin\n        upstream: {}\n        identity_file: \"{}\"\n        \
             known_host_key: {}\n        extra_hosts: {{ git.bottle.test: {} }}\n        push: {{ refs: [\"refs/heads/bottle/**\"] }}\n",
            self.url("git.bottle.test"),
            self.identity.display(),
            self.host_key,
            self.address
        )
    }

    /// Lists the variables with which git at hand reaches it under the name that people have for it, and knows who commits.
    pub fn reach(&self, world: &World) -> Vec<(String, String)> {
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

    /// Makes a checkout of the sample with this manifest, pushed to the upstream's main.
    pub fn sample(&self, world: &World, manifest: &str) -> PathBuf {
        let dir = world.path("app");
        let source = in_repository("examples/sample");
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
