//! How an upstream is reached: over ssh with one key and one pinned host key, over https with one token for one host.

use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use bottle_policy::gate::{GatePolicy, GitHost, HostKey, Transport, Upstream, UpstreamUrl};
use bottle_types::secret::SecretName;

use super::dirs::{GateDirs, shell_word, write_file};
use super::process;
use crate::common::{Dirs, Error};
use crate::credentials::CredentialStatus;
use crate::tls::Trust;
use crate::upstream_proxy::ProxyClient;

/// Checks that an ssh upstream has a pinned host key and an identity, and one without TLS no proxy before it.
pub(super) fn check(policy: &GatePolicy) -> Result<(), String> {
    for upstream in &policy.upstreams {
        let name = &upstream.name;
        match upstream.url.transport {
            Transport::Ssh if upstream.known_host_key.is_none() => {
                return Err(format!("{name}: no known_host_key for {}, and no host is trusted unseen", upstream.url));
            }
            Transport::Ssh if upstream.identity.is_none() => {
                return Err(format!("{name}: no identity to log in to {} with", upstream.url));
            }
            Transport::Http if policy.proxy.as_ref().is_some_and(|proxy| !proxy.is_direct_host(&upstream.url.host)) => {
                return Err(format!("{name}: {} is plain http, which does not go through a proxy", upstream.url));
            }
            Transport::Ssh | Transport::Https | Transport::Http => {}
        }
    }
    Ok(())
}

/// Writes what ssh needs for every upstream.
pub(super) fn prepare(gate: &GateDirs) -> Result<(), Error> {
    for upstream in &gate.policy.upstreams {
        let (Some(key), Some(identity)) = (&upstream.known_host_key, &upstream.identity) else { continue };
        let dir = &gate.policy_dir;
        let known_hosts = dir.join(format!("{}.hosts", upstream.name));
        write_file(&known_hosts, known_host(&upstream.url, key).as_bytes(), 0o600)?;
        let identity = usable_key(gate, identity)?;
        write_file(
            &dir.join(format!("{}.conf", upstream.name)),
            ssh_config(&known_hosts, &identity).as_bytes(),
            0o600,
        )?;
    }
    Ok(())
}

/// How long a login is kept when its connection can't end it any more. A refresh, a scan and the push that follows it share
/// one; after a longer scan there is another.
const LOGIN_PERSIST_SECONDS: &str = "10";
/// A socket's path has at most 107 bytes (unix(7)), and ssh puts 17 more behind it while it makes one.
const MAX_SOCKET_PATH_BYTES: usize = 90;

/// The socket through which the processes of one connection of the gate's share one login upstream.
fn shared_login(gate: &GateDirs) -> Option<PathBuf> {
    Some(gate.tmp.join("ssh")).filter(|socket| socket.as_os_str().len() <= MAX_SOCKET_PATH_BYTES)
}

/// Ends the login of a connection.
pub(super) fn close(gate: &GateDirs) {
    let Some(socket) = shared_login(gate).filter(|socket| socket.exists()) else { return };
    let mut command = process::program("ssh", &gate.home());
    command.args(["-F", "/dev/null", "-O", "exit", "-S"]).arg(&socket).arg("upstream");
    // If nobody answers there any more, there is nothing to end.
    let _ = process::run(command, None, process::ProcessLimits::seconds(5, 5));
}

/// A line of a known_hosts file.
fn known_host(url: &UpstreamUrl, key: &HostKey) -> String {
    let host = match &url.host {
        GitHost::Name(name) => name.to_string(),
        GitHost::Address(address) => address.to_string(),
    };
    match url.port {
        Some(port) => format!("[{host}]:{port} {}\n", key.as_str()),
        None => format!("{host} {}\n", key.as_str()),
    }
}

fn ssh_config(known_hosts: &Path, identity: &Path) -> String {
    let mut text = String::new();
    let quoted = |path: &Path| format!("\"{}\"", path.display().to_string().replace('%', "%%"));
    for (key, value) in [
        ("BatchMode", "yes"),
        ("IdentitiesOnly", "yes"),
        ("IdentityAgent", "none"),
        ("IdentityFile", &quoted(identity)),
        ("PreferredAuthentications", "publickey"),
        ("StrictHostKeyChecking", "yes"),
        ("UserKnownHostsFile", &quoted(known_hosts)),
        ("GlobalKnownHostsFile", "/dev/null"),
        ("UpdateHostKeys", "no"),
        ("CheckHostIP", "no"),
        ("VerifyHostKeyDNS", "no"),
        ("ForwardAgent", "no"),
        ("ForwardX11", "no"),
        ("ClearAllForwardings", "yes"),
        ("PermitLocalCommand", "no"),
        ("ControlMaster", "auto"),
        ("ControlPersist", LOGIN_PERSIST_SECONDS),
        ("RequestTTY", "no"),
        ("ConnectTimeout", "10"),
        ("ConnectionAttempts", "1"),
        ("ServerAliveInterval", "5"),
        ("ServerAliveCountMax", "3"),
        ("LogLevel", "ERROR"),
    ] {
        text.push_str(&format!("{key} {value}\n"));
    }
    text
}

/// A private key's text as OpenSSH reads it: with a newline at its end, and none of another system's.
pub(super) fn tidy_key(gate: &GateDirs, name: &SecretName) -> Result<Vec<u8>, Error> {
    let path = gate.dirs.secrets.join(name.as_str());
    let text = std::fs::read(&path).map_err(|error| Error::Read { path, error })?;
    let mut tidy: Vec<u8> = text.into_iter().filter(|byte| *byte != b'\r').collect();
    if !tidy.ends_with(b"\n") {
        tidy.push(b'\n');
    }
    Ok(tidy)
}

/// The key as ssh takes it: ssh refuses a file of its own user that others may read, and one whose last newline is gone.
fn usable_key(gate: &GateDirs, name: &SecretName) -> Result<PathBuf, Error> {
    let path = gate.dirs.secrets.join(name.as_str());
    let read = |error| Error::Read { path: path.clone(), error };
    let about = std::fs::metadata(&path).map_err(read)?;
    let text = std::fs::read(&path).map_err(read)?;
    let owned_and_open = about.uid() == rustix::process::geteuid().as_raw() && about.permissions().mode() & 0o77 != 0;
    if !owned_and_open && text.ends_with(b"\n") && !text.contains(&b'\r') {
        return Ok(path);
    }
    let copy = gate.policy_dir.join(format!("{name}.key"));
    write_file(&copy, &tidy_key(gate, name)?, 0o600)?;
    Ok(copy)
}

/// git in a mirror, able to reach its upstream and nothing else.
pub(super) fn git(gate: &GateDirs, upstream: &Upstream) -> Command {
    let mut command = process::git(&gate.home());
    command.env("GIT_DIR", gate.mirror(&upstream.name)).current_dir(gate.mirror(&upstream.name));
    gate.tell_hooks(&mut command);
    // No other way than the upstream's own, and http nowhere else.
    command.env("GIT_ALLOW_PROTOCOL", upstream.url.transport.scheme());
    match upstream.url.transport {
        Transport::Ssh => {
            let config = gate.policy_dir.join(format!("{}.conf", upstream.name));
            // ssh reads codes behind percent signs in it.
            let socket = shared_login(gate).map(|socket| socket.display().to_string().replace('%', "%%"));
            let socket = shell_word(Path::new(socket.as_deref().unwrap_or("none")));
            let ssh = format!("ssh -F {} -S {socket}", shell_word(&config));
            command.env("GIT_SSH_VARIANT", "ssh").env("GIT_SSH_COMMAND", ssh);
        }
        Transport::Https | Transport::Http => {
            let mut settings = vec![
                // The first, for `through`.
                ("http.proxy".to_owned(), String::new()),
                ("http.proxyAuthMethod".to_owned(), "basic".to_owned()),
                ("credential.helper".to_owned(), String::new()),
                ("http.followRedirects".to_owned(), "false".to_owned()),
                ("http.sslVerify".to_owned(), "true".to_owned()),
                ("http.emptyAuth".to_owned(), "false".to_owned()),
            ];
            if upstream.token.is_some() {
                let helper = shell_word(&gate.private_path("hooks").join("credential"));
                let scope = UpstreamUrl { path: String::new(), ..upstream.url.clone() }.to_string();
                let scope = scope.trim_end_matches('/');
                settings.push((format!("credential.{scope}.helper"), format!("!{helper} {}", upstream.name)));
            }
            command.env("GIT_CONFIG_COUNT", settings.len().to_string());
            for (index, (key, value)) in settings.into_iter().enumerate() {
                command.env(format!("GIT_CONFIG_KEY_{index}"), key).env(format!("GIT_CONFIG_VALUE_{index}"), value);
            }
            if let Some(bundle) = process::variable("GIT_SSL_CAINFO").or_else(|| process::variable("SSL_CERT_FILE")) {
                command.env("GIT_SSL_CAINFO", bundle);
            }
        }
    }
    command
}

/// Has a command of [`git`] go through this proxy; the address may have a password, which is in the process's environment alone.
pub(super) fn through(command: &mut Command, proxy: &str) {
    command.env("GIT_CONFIG_VALUE_0", proxy);
}

/// The company's proxy, if there is one, with its password.
pub(super) fn proxy(gate: &GateDirs) -> Result<Option<ProxyClient>, Error> {
    let Some(proxy) = &gate.policy.proxy else { return Ok(None) };
    let status = CredentialStatus::read(&gate.dirs)?;
    ProxyClient::new(&gate.dirs, &status, proxy, &Trust::default()).map(Some)
}

/// ssh to an ssh upstream, to run these words of a shell there.
pub(super) fn ssh(gate: &GateDirs, upstream: &Upstream, words: &str) -> Command {
    let url = &upstream.url;
    let mut command = process::program("ssh", &gate.home());
    command.arg("-F").arg(gate.policy_dir.join(format!("{}.conf", upstream.name)));
    if let Some(socket) = shared_login(gate) {
        command.arg("-S").arg(socket);
    }
    if let Some(port) = url.port {
        command.args(["-p", &port.to_string()]);
    }
    let host = match &url.host {
        GitHost::Name(name) => name.to_string(),
        GitHost::Address(address) => address.to_string(),
    };
    let destination = url.user.as_ref().map_or(host.clone(), |user| format!("{user}@{host}"));
    command.args(["--", &destination, words]);
    command
}

/// Refuses to go to an upstream whose credential has ended: what git would say of it explains nothing.
pub(super) fn usable(dirs: &Dirs, upstream: &Upstream) -> Result<(), String> {
    let status = CredentialStatus::read(dirs).map_err(|error| error.to_string())?;
    let names = upstream.token.iter().chain(&upstream.identity);
    names.into_iter().find_map(|name| status.end(name).why_ended(name)).map_or(Ok(()), Err)
}

/// git's credential helper: answers `get` for the one host that the token is for, and for nothing else.
pub(super) fn credential(gate: &GateDirs, dirs: &Dirs, name: &str, action: &str) -> Result<(), String> {
    if action != "get" {
        return Ok(());
    }
    let upstream = gate.policy.upstreams.iter().find(|upstream| upstream.name.as_str() == name);
    let Some((upstream, token)) = upstream.and_then(|one| Some((one, one.token.as_ref()?))) else {
        return Err(format!("no token for {name}"));
    };
    usable(dirs, upstream)?;
    let host = upstream.url.authority();
    let protocol = format!("protocol={}", upstream.url.transport.scheme());
    let (mut right_protocol, mut right_host) = (false, false);
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        right_protocol |= line == protocol;
        right_host |= line.strip_prefix("host=") == Some(&host);
    }
    if !(right_protocol && right_host) {
        return Err(format!("the token of {name} is for {host} alone"));
    }
    let value = dirs.secret(token).map_err(|error| error.to_string())?;
    if value.expose().iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        return Err(format!("the token of {name} is more than one line"));
    }
    let mut out = std::io::stdout().lock();
    out.write_all(b"username=x-access-token\npassword=")
        .and_then(|()| out.write_all(value.expose()))
        .and_then(|()| out.write_all(b"\n"))
        .map_err(|error| error.to_string())
}
