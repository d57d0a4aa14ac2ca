//! A clean world for the gate's tests: a real sshd with a bare repository, the gate before it, and a guest with stock git.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) use bottle_testkit::{Running, free_port, random_hex, random_letters, said, until};
use bottle_testkit::{Sshd, bridge, cache, sh, with_dirs};
use bottle_wire::push_report::PushedRef;
use tempfile::TempDir;

/// What may be pushed in most tests.
pub(crate) const PUSH: &str = r#"    push:
      refs: ["refs/heads/bottle/**"]
      protect_paths: [".github/workflows/**", "claude-bottle.yml"]
      tags: true
"#;

/// Forty hex digits that gitleaks takes for a key beside such a word: of any forty it leaves out one in twenty, which have too
/// little entropy (3.5 bits a digit), and those with a word in them.
pub(crate) fn hex_token() -> String {
    loop {
        let token = random_hex(40);
        let count = |digit: u8| token.bytes().filter(|byte| *byte == digit).count();
        let shares = b"0123456789abcdef".iter().map(|digit| count(*digit) as f64 / 40.0).filter(|share| *share > 0.0);
        let entropy: f64 = shares.map(|share| -share * share.log2()).sum();
        if entropy > 3.6 && !token.as_bytes().windows(3).any(|three| three.iter().all(u8::is_ascii_alphabetic)) {
            return token;
        }
    }
}

/// A key id as AWS makes them, with the entropy that gitleaks asks for; never the same twice.
pub(crate) fn aws_key() -> String {
    loop {
        let letters = random_letters(16);
        let distinct: std::collections::BTreeSet<char> = letters.chars().collect();
        if distinct.len() >= 11 {
            return format!("AK{}{letters}", "IA");
        }
    }
}

fn clean(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", path_with_gitleaks())
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Guest")
        .env("GIT_AUTHOR_EMAIL", "guest@example.org")
        .env("GIT_COMMITTER_NAME", "Guest")
        .env("GIT_COMMITTER_EMAIL", "guest@example.org")
        .stdin(Stdio::null());
    command
}

/// PATH, with the directory in which scripts/test keeps its pinned tools in front.
fn path_with_gitleaks() -> String {
    let path = std::env::var("PATH").expect("PATH");
    format!("{}:{path}:/usr/sbin:/sbin", cache().join("bin").display())
}

/// The gate, its upstream, and a place for guests to work in.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) sshd: Sshd,
    pub(crate) gate: Option<Running>,
    gate_port: u16,
    clones: AtomicU32,
    /// A secret that the bottle knows.
    pub(crate) known: String,
    /// Whether the gate finds only the programs in `bin`.
    pub(crate) path_is_bin: bool,
    /// The certificates that the gate trusts, where they are not the system's.
    pub(crate) ca: Option<PathBuf>,
}

impl World {
    /// An upstream with two commits and the gate before it.
    pub(crate) fn new() -> Self {
        Self::with(|_| {}, |policy| policy)
    }

    /// `prepare` may change the world before the gate starts; `edit` its policy.
    pub(crate) fn with(prepare: impl FnOnce(&mut Self), edit: impl FnOnce(String) -> String) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["home", "state", "secrets", "doors", "upstream", "bin"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let path = format!("{}:{}", dir.path().join("bin").display(), path_with_gitleaks());
        let guest = dir.path().join("sshd/guest");
        fs::create_dir(dir.path().join("sshd")).expect("a directory");
        sh(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "guest", "-f", &guest.display().to_string()]);
        let sshd = Sshd::start(&dir.path().join("sshd"), &guest.with_extension("pub"), Some(&path));
        let known = format!("known{}", random_letters(20).to_lowercase());
        let mut world = Self {
            dir,
            sshd,
            gate: None,
            gate_port: 0,
            clones: AtomicU32::new(0),
            known,
            path_is_bin: false,
            ca: None,
        };
        fs::copy(world.path("sshd/guest"), world.path("secrets/GIT_KEY")).expect("copied");
        fs::set_permissions(world.path("secrets/GIT_KEY"), fs::Permissions::from_mode(0o440)).expect("a mode");
        fs::write(world.path("secrets/KNOWN"), &world.known).expect("written");
        for name in ["origin", "library"] {
            world.make_upstream(name);
        }
        let policy = edit(world.policy());
        fs::write(world.path("gate.yaml"), policy).expect("written");
        prepare(&mut world);
        world.start_gate();
        world
    }

    /// The policy that most tests use.
    pub(crate) fn policy(&self) -> String {
        let mut text = "version: 1\nsecrets: [KNOWN]\nupstreams:\n".to_owned();
        for name in ["origin", "library"] {
            text.push_str(&format!(
                "  - name: {name}\n    url: {}\n    identity: GIT_KEY\n    known_host_key: {}\n{PUSH}",
                self.url(name),
                self.sshd.host_key()
            ));
        }
        text
    }

    pub(crate) fn url(&self, name: &str) -> String {
        let user = sh(&["id", "-un"]);
        format!("ssh://{user}@localhost:{}{}", self.sshd.port, self.upstream(name).display())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn upstream(&self, name: &str) -> PathBuf {
        self.path(&format!("upstream/{name}.git"))
    }

    fn make_upstream(&self, name: &str) {
        let seed = "git init -q -b main seed && cd seed && printf 'one\\n' >README.md && git add . && git commit -qm one \
                    && mkdir -p .github/workflows && printf 'on: push\\n' >.github/workflows/ci.yml && git add . \
                    && git commit -qm two && cd .. && git clone -q --bare seed \"$NAME.git\" && rm -rf seed";
        let output = clean("sh", &self.path("home"))
            .args(["-ec", seed])
            .env("NAME", name)
            .current_dir(self.path("upstream"))
            .output()
            .expect("sh");
        assert!(output.status.success(), "{}", said(&output));
    }

    /// The gate's command line.
    pub(crate) fn gate_command(&self) -> Command {
        let mut command = self.sidecars();
        command.args(["git-gate", "--config"]).arg(self.path("gate.yaml"));
        command
    }

    /// The sidecars' program with this world's directories, and its `hosts` in place of this machine's where it has one; a program in
    /// `bin` comes before one of the system.
    pub(crate) fn sidecars(&self) -> Command {
        let hosts = self.path("hosts");
        let mut command = if hosts.exists() {
            let mut command = clean("bwrap", &self.path("home"));
            command.args(["--die-with-parent", "--dev-bind", "/", "/", "--ro-bind"]).arg(hosts).arg("/etc/hosts");
            command.arg(env!("CARGO_BIN_EXE_bottle-sidecars"));
            command
        } else {
            clean(env!("CARGO_BIN_EXE_bottle-sidecars"), &self.path("home"))
        };
        let bin = self.path("bin").display().to_string();
        command.env("PATH", if self.path_is_bin { bin } else { format!("{bin}:{}", path_with_gitleaks()) });
        if let Some(ca) = &self.ca {
            command.env("SSL_CERT_FILE", ca);
        }
        with_dirs(&mut command, self.dir.path(), &["state", "secrets", "doors"]);
        command
    }

    /// Starts the gate, and a bridge from a TCP port to its socket, as git:// needs one.
    pub(crate) fn start_gate(&mut self) {
        self.start(self.gate_command());
    }

    /// The same by a command of one's own.
    pub(crate) fn start(&mut self, mut command: Command) {
        let log = fs::File::create(self.path("gate.log")).expect("a log");
        let child = command.stderr(log).spawn().expect("the gate starts");
        self.gate = Some(Running::new(child));
        until("the gate is ready", || self.gate_log().contains("git-gate ready"));
        self.gate_port = bridge(&self.path("doors/git-gate.sock"));
    }

    pub(crate) fn gate_log(&self) -> String {
        fs::read_to_string(self.path("gate.log")).unwrap_or_default()
    }

    /// Sends the gate SIGTERM and waits for its end.
    pub(crate) fn stop_gate(&mut self) -> std::process::ExitStatus {
        let mut gate = self.gate.take().expect("the gate runs");
        gate.signal("TERM");
        let start = Instant::now();
        let status = gate.exit();
        assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
        status
    }

    /// The guest's URL of a repository.
    pub(crate) fn guest_url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}.git", self.gate_port)
    }

    /// Runs a script as the guest, in a directory of the world.
    pub(crate) fn sh(&self, dir: &Path, script: &str, env: &[(&str, &str)]) -> Output {
        clean("bash", &self.path("home"))
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(dir)
            .env("ORIGIN", self.guest_url("origin"))
            .env("LIBRARY", self.guest_url("library"))
            .env("LIBRARY_URL", self.url("library"))
            .env("UPSTREAM", self.upstream("origin"))
            .envs(env.iter().copied())
            .output()
            .expect("bash")
    }

    /// The same, which must succeed; its stdout.
    pub(crate) fn ok(&self, dir: &Path, script: &str) -> String {
        let output = self.sh(dir, script, &[]);
        assert!(output.status.success(), "{script}: {}\n{}", said(&output), self.gate_log());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A fresh clone through the gate.
    pub(crate) fn clone_origin(&self) -> PathBuf {
        let dir = self.path(&format!("clone-{}", self.clones.fetch_add(1, Ordering::Relaxed)));
        let dir_text = dir.display();
        self.ok(self.dir.path(), &format!("git clone -q \"$ORIGIN\" {dir_text}"));
        dir
    }

    /// All refs of the upstream and where they point.
    pub(crate) fn upstream_refs(&self) -> String {
        self.ok(&self.upstream("origin"), "git for-each-ref --format='%(refname) %(objectname)'")
    }

    /// The record so far.
    pub(crate) fn record(&self) -> Vec<PushedRef> {
        let text = fs::read_to_string(self.path("state/log/gate.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of the record")).collect()
    }

    /// Puts a program before the system's own.
    pub(crate) fn replace_program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
}
