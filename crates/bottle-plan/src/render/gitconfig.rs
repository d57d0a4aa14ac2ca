//! The guest's `~/.gitconfig`: whatever way an upstream is spelled, git goes to the gate.

use std::collections::BTreeSet;

use bottle_policy::gate::{RepoName, Transport, Upstream, UpstreamUrl};

/// A repository's URL at the gate; `gate_host` is a host, with a port where it is not git's own.
pub fn gate_url(gate_host: &str, name: &RepoName) -> String {
    format!("git://{gate_host}/{name}.git")
}

/// The guest's git configuration.
///
/// `insteadOf` replaces a URL's beginning and the longest match wins, so each spelling stands there with and without
/// `.git`: the one with it must not become `….git.git`.
pub fn render_gitconfig(gate_host: &str, upstreams: &[Upstream]) -> String {
    let mut out = String::from(
        "[user]\n\tname = Claude (bottle)\n\temail = claude@bottle.invalid\n\
         [init]\n\tdefaultBranch = main\n\
         [safe]\n\tdirectory = *\n\
         [push]\n\tautoSetupRemote = true\n\
         [advice]\n\tdetachedHead = false\n",
    );
    for upstream in upstreams {
        out.push_str(&format!("[url \"{}\"]\n", gate_url(gate_host, &upstream.name)));
        for spelling in spellings(&upstream.url) {
            out.push_str(&format!("\tinsteadOf = \"{spelling}\"\n"));
        }
    }
    out
}

/// Every way to write the address of one repository, by ssh (URL and scp-like) and by https.
pub fn spellings(url: &UpstreamUrl) -> BTreeSet<String> {
    let (host, path) = (&url.host, url.repository());
    let (ssh_port, https_port) = match url.transport {
        Transport::Ssh => (url.port, None),
        Transport::Https => (None, url.port),
    };
    let mut users: BTreeSet<String> = ["git@".to_owned(), String::new()].into();
    users.extend(url.user.iter().map(|user| format!("{user}@")));
    let mut out = BTreeSet::new();
    for end in ["", ".git"] {
        for user in &users {
            out.insert(match ssh_port {
                Some(port) => format!("ssh://{user}{host}:{port}/{path}{end}"),
                None => format!("ssh://{user}{host}/{path}{end}"),
            });
            if ssh_port.is_none() {
                out.insert(format!("ssh://{user}{host}:22/{path}{end}"));
                out.insert(format!("{user}{host}:{path}{end}"));
                out.insert(format!("{user}{host}:/{path}{end}"));
            }
        }
        out.insert(match https_port {
            Some(port) => format!("https://{host}:{port}/{path}{end}"),
            None => format!("https://{host}/{path}{end}"),
        });
        if https_port.is_none() {
            out.insert(format!("https://{host}:443/{path}{end}"));
        }
    }
    out
}
