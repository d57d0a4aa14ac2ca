//! A real sshd on loopback, as the user who runs the tests.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::{Running, sh, until_or};
use crate::random::random_bytes;

/// Longest time in which it starts.
const START: Duration = Duration::from_secs(20);

/// Real sshd on a loopback port; it ends with its test.
#[derive(Debug)]
pub struct Sshd {
    /// Its port.
    pub port: u16,
    dir: PathBuf,
    process: Option<Running>,
}

impl Sshd {
    /// Starts one with a host key of its own (`host`), `config` and `log` in this directory, which is made. Whoever has the key of
    /// the file `authorized` may log in; `path` is the PATH of sessions.
    pub fn start(dir: &Path, authorized: &Path, path: Option<&str>) -> Self {
        fs::create_dir_all(dir).expect("a directory");
        key(&dir.join("host"), "host");
        let port = free_port();
        // With SHLVL, bash reads no profile of the user's at each push, which can take a second.
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}/host\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             AcceptEnv GIT_PROTOCOL\nMaxStartups 200\nSetEnv SHLVL=1{}\n",
            dir.display(),
            authorized.display(),
            path.map(|path| format!(" PATH={path}")).unwrap_or_default(),
        );
        fs::write(dir.join("config"), config).expect("a configuration");
        let mut sshd = Self { port, dir: dir.to_owned(), process: None };
        sshd.up();
        sshd
    }

    /// Starts it, again if it was stopped.
    pub fn up(&mut self) {
        // As root, sshd drops its privileges into this directory.
        let _ = fs::create_dir_all("/run/sshd");
        let log = self.dir.join("log");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(self.dir.join("config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("sshd: the package openssh-server has it");
        self.process = Some(Running::new(child));
        let answers = || TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        until_or(START, "sshd answers", answers, || fs::read_to_string(&log).unwrap_or_default());
    }

    /// Gives the process that listens.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Running::id)
    }

    /// Stops listening, and ends what is connected: a session's process is a child of the one that listens.
    pub fn down(&mut self) {
        if let Some(listener) = self.id() {
            let _ = Command::new("pkill").args(["-KILL", "-P", &listener.to_string()]).status();
        }
        self.process = None;
    }

    /// Gives its public key: type, key and comment.
    pub fn host_key(&self) -> String {
        fs::read_to_string(self.dir.join("host.pub")).expect("a public key").trim().to_owned()
    }
}

/// Makes a key pair, the public part beside it with the ending `.pub`.
pub(crate) fn key(path: &Path, comment: &str) {
    sh(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", &path.display().to_string()]);
}

/// Finds a port for a server that is stopped and started again: below those that Linux gives to outgoing connections (from 32768 up),
/// one of which would otherwise have it meanwhile, now and then.
pub fn free_port() -> u16 {
    let tried = || {
        let bytes = random_bytes(2);
        10_000 + u16::from_le_bytes([bytes[0], bytes[1]]) % 22_768
    };
    let mut ports = std::iter::repeat_with(tried).take(1000);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port that is free")
}
