//! The guest's `~/.gitconfig`: whatever way an upstream is spelled, git goes to the gate.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bottle_policy::gate::commits::CommitRules;
use bottle_policy::gate::signing::SigningPolicy;
use bottle_policy::gate::{RepoName, Transport, Upstream, UpstreamUrl};
use bottle_types::backend::Backend;
use bottle_types::door::{BUNDLE_ADDRESS, Door};
use bottle_types::text::shell_word;

use crate::plan::TOOLS_DIR;

/// A repository's URL at the gate; `gate_host` is a host, with a port where it is not git's own.
pub fn gate_url(gate_host: &str, name: &RepoName) -> String {
    format!("git://{gate_host}/{name}.git")
}

/// A repository's own address, as the guest's remote has it: git goes to the gate all the same, and an address in `.gitmodules` that
/// is relative (`../lib.git`) starts there. It is one of the [`spellings`].
pub fn own_url(url: &UpstreamUrl) -> String {
    format!("https://{}/{}", url.host, url.repository())
}

/// The guest's git configuration.
///
/// `settings` stand at its end, where the last of a name counts. `insteadOf` replaces a URL's beginning and the longest match wins, so each spelling stands there with and without
/// `.git`: the one with it must not become `….git.git`.
pub fn render_gitconfig(gate_host: &str, upstreams: &[Upstream], settings: &[(&str, String)]) -> String {
    let mut out = String::from(
        "[user]\n\tname = Claude (bottle)\n\temail = claude@bottle.invalid\n\
         [init]\n\tdefaultBranch = main\n\
         [safe]\n\tdirectory = *\n\
         [push]\n\tautoSetupRemote = true\n\
         [advice]\n\tdetachedHead = false\n\
         [lfs]\n\tgitprotocol = http\n",
    );
    for upstream in upstreams {
        out.push_str(&format!("[url \"{}\"]\n", gate_url(gate_host, &upstream.name)));
        for spelling in spellings(&upstream.url) {
            out.push_str(&format!("\tinsteadOf = \"{spelling}\"\n"));
        }
    }
    for (name, value) in settings {
        let (section, key) = name.rsplit_once('.').unwrap_or(("", name));
        let section = section.split_once('.').map_or(section.to_owned(), |(name, of)| format!("{name} \"{of}\""));
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        out.push_str(&format!("[{section}]\n\t{key} = \"{value}\"\n"));
    }
    out
}

/// The settings with which git has the gate sign each commit: git takes the link for ssh-keygen(1), and the gate's address for a key's
/// file, which is all that the link needs to know.
pub fn signing_settings(backend: Backend, policy: &SigningPolicy) -> Vec<(&'static str, String)> {
    let address = match backend {
        Backend::Docker | Backend::Bubblewrap => Ipv4Addr::LOCALHOST,
        Backend::Smolmachines => BUNDLE_ADDRESS,
    };
    vec![
        ("user.name", policy.committer.name.clone()),
        ("user.email", policy.committer.email.clone()),
        ("user.signingKey", format!("{address}:{}", Door::GitGate.port())),
        ("gpg.format", "ssh".to_owned()),
        ("gpg.ssh.program", format!("{TOOLS_DIR}/bin/bottle-link")),
        ("commit.gpgSign", "true".to_owned()),
    ]
}

/// The hook `prepare-commit-msg` of the guest's clone, which adds the trailers that the gate asks for; none: there are none. What names
/// another run is replaced, as in a commit that is rebased.
pub fn commit_hook(rules: &CommitRules) -> Option<String> {
    let trailers = rules.trailers();
    if trailers.is_empty() {
        return None;
    }
    let mut command = "exec git interpret-trailers --in-place --no-divider".to_owned();
    for (key, value) in trailers {
        let again = if key == "Run" { "replace" } else { "addIfDifferent" };
        let trailer = shell_word(&format!("{key}: {value}"));
        command.push_str(&format!(" --if-exists {again} --trailer {trailer}"));
    }
    Some(format!("#!/bin/sh\n# By claude-bottle: push.commits.trailers of the manifest.\n{command} -- \"$1\"\n"))
}

/// Every way to write the address of one repository: by ssh (URL and scp-like) and by https, with and without the port.
///
/// An address at another port may be another server's, but a bottle has no other way to it either.
pub fn spellings(url: &UpstreamUrl) -> BTreeSet<String> {
    let (host, path) = (&url.host, url.repository());
    let ports = |transport: Transport, own: u16| {
        let declared = url.port.filter(|_| url.transport == transport).unwrap_or(own);
        [String::new(), format!(":{own}"), format!(":{declared}")]
    };
    let mut users: BTreeSet<String> = ["git@".to_owned(), String::new()].into();
    users.extend(url.user.iter().map(|user| format!("{user}@")));
    let mut out = BTreeSet::new();
    for end in ["", ".git"] {
        for user in &users {
            out.extend(ports(Transport::Ssh, 22).map(|port| format!("ssh://{user}{host}{port}/{path}{end}")));
            out.extend(["", "/"].map(|slash| format!("{user}{host}:{slash}{path}{end}")));
        }
        out.extend(ports(Transport::Https, 443).map(|port| format!("https://{host}{port}/{path}{end}")));
        if url.transport == Transport::Http {
            out.extend(ports(Transport::Http, 80).map(|port| format!("http://{host}{port}/{path}{end}")));
        }
    }
    out
}
