//! A company's network: the doors' side, from which the proxies alone are reached, and the side beyond, with the proxies and the
//! internet's servers. Real network namespaces (unshare(1), ip-netns(8)) without root, and the real squid and tinyproxy.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{Running, sh, until};

/// Where the proxies are.
const PROXIES: &str = "10.77.0.1";
/// Where every name of the internet is.
pub const INTERNET: &str = "93.184.215.14";

/// Both sides: their hosts file is one, and says where each name is.
const SETUP: &str = r#"
set -eu
mount --bind "$1/hosts" /etc/hosts
setpriv --pdeathsig KILL unshare -n sleep infinity & beyond=$!
until [ "$(readlink /proc/$beyond/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.02; done
beyond() { nsenter -t $beyond -n "$@"; }
ip link add proxies type veth peer name doors netns $beyond
ip addr add 10.77.0.2/30 dev proxies
ip link set proxies up
ip link set lo up
beyond ip addr add 10.77.0.1/30 dev doors
beyond ip link set doors up
beyond ip link set lo up
beyond ip addr add 93.184.215.14/32 dev lo
echo $beyond
exec sleep infinity
"#;

/// The two sides; gone when dropped.
pub struct Company {
    dir: TempDir,
    doors: Running,
    beyond: u32,
    root: bool,
}

/// A proxy of the company's.
pub struct CompanyProxy {
    _process: Running,
    /// Its address and port.
    pub at: String,
    log: PathBuf,
}

impl CompanyProxy {
    /// What it has written about its requests.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Company {
    /// Makes both sides; these names are on the internet.
    pub fn start(names: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let hosts = format!("127.0.0.1 localhost\n{PROXIES} proxy.example\n{INTERNET} {names}\n");
        fs::write(dir.path().join("hosts"), hosts).expect("written");
        // Root stays who it is: its sandboxes have users of their own.
        let root = sh(&["id", "-u"]) == "0";
        let setup = Command::new("unshare")
            .args([if root { "-mn" } else { "-rmn" }, "bash", "-c", SETUP, "setup"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut doors = Running::new(setup);
        let beyond = doors.first_line().parse().expect("a process id");
        Self { dir, doors, beyond, root }
    }

    /// A program on the doors' side, in this directory, by the user whose test it is.
    pub fn doors(&self, dir: &Path, program: impl AsRef<OsStr>) -> Command {
        self.by_the_user(self.doors.id(), dir, program)
    }

    /// A program on the internet's own side, where no proxy is needed, in this directory, by the user whose test it is.
    pub fn internet(&self, dir: &Path, program: impl AsRef<OsStr>) -> Command {
        self.by_the_user(self.beyond, dir, program)
    }

    fn by_the_user(&self, net: u32, dir: &Path, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.in_namespaces(net, dir);
        command.current_dir(dir);
        if !self.root {
            let user = sh(&["id", "-u"]);
            command.args(["unshare", "-U", &format!("--map-user={user}"), &format!("--map-group={user}")]);
        }
        command.arg(program);
        command
    }

    /// A program beyond the proxies.
    pub fn beyond(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.in_namespaces(self.beyond, self.dir.path());
        command.arg(program);
        command
    }

    /// nsenter(1) becomes the program: whoever kills the one kills the other.
    fn in_namespaces(&self, net: u32, dir: &Path) -> Command {
        let doors = self.doors.id();
        let mut command = Command::new("nsenter");
        if !self.root {
            command.args(["--preserve-credentials", &format!("--user=/proc/{doors}/ns/user")]);
        }
        command.args([format!("--mount=/proc/{doors}/ns/mnt"), format!("--net=/proc/{net}/ns/net")]);
        // Entering another mount namespace leaves the directory.
        command.arg(format!("--wdns={}", dir.display())).arg("--");
        command
    }

    /// squid, for this user alone, with these lines of configuration before the last word, which denies.
    pub fn squid(&self, port: u16, user: &str, password: &str, rules: &str) -> CompanyProxy {
        let dir = self.dir.path().join(format!("squid-{port}"));
        fs::create_dir(&dir).expect("a directory");
        let at = format!("{PROXIES}:{port}");
        let digest = sh(&["openssl", "passwd", "-apr1", password]);
        fs::write(dir.join("passwd"), format!("{user}:{digest}\n")).expect("written");
        let conf = dir.join("conf");
        let shown = dir.display();
        let text = format!(
            "http_port {at}\nauth_param basic program /usr/lib/squid/basic_ncsa_auth {shown}/passwd\n\
             auth_param basic realm company\nacl known proxy_auth REQUIRED\n{rules}\nhttp_access deny all\ncache deny all\n\
             pid_filename none\naccess_log stdio:{shown}/log\ncache_log {shown}/cache.log\ncoredump_dir {shown}\n\
             pinger_enable off\nshutdown_lifetime 0 seconds\n"
        );
        fs::write(&conf, text).expect("written");
        // squid does not serve as root, who we are in there.
        let mut command = self.beyond("unshare");
        command.args(["-U", "--map-user=13", "--map-group=13", "/usr/sbin/squid", "-N", "-f"]).arg(conf);
        self.proxy(command, at, dir.join("log"))
    }

    /// tinyproxy, for this user alone.
    pub fn tinyproxy(&self, port: u16, user: &str, password: &str) -> CompanyProxy {
        let dir = self.dir.path();
        let (conf, log) = (dir.join(format!("tinyproxy-{port}")), dir.join(format!("tinyproxy-{port}.log")));
        let text = format!(
            "Port {port}\nListen {PROXIES}\nTimeout 60\nBasicAuth {user} {password}\nLogFile \"{}\"\nMaxClients 50\n",
            log.display()
        );
        fs::write(&conf, text).expect("written");
        let mut command = self.beyond("/usr/bin/tinyproxy");
        command.args([Path::new("-d"), Path::new("-c"), &conf]);
        self.proxy(command, format!("{PROXIES}:{port}"), log)
    }

    fn proxy(&self, mut command: Command, at: String, log: PathBuf) -> CompanyProxy {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a proxy");
        let process = Running::new(child);
        let (host, port) = at.split_once(':').expect("a port");
        until("the proxy listens", || {
            let mut ask = self.doors(self.dir.path(), "bash");
            ask.args(["-c", &format!("exec 3<>/dev/tcp/{host}/{port}")]);
            ask.stderr(Stdio::null()).status().expect("bash").success()
        });
        CompanyProxy { _process: process, at, log }
    }
}
