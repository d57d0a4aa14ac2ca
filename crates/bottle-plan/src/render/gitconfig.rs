//! The guest's `~/.gitconfig`: whatever way an upstream is spelled, git goes to the gate.

use std::collections::BTreeSet;

use bottle_policy::gate::{RepoName, Transport, Upstream, UpstreamUrl};

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
/// `insteadOf` replaces a URL's beginning and the longest match wins, so each spelling stands there with and without
/// `.git`: the one with it must not become `….git.git`.
pub fn render_gitconfig(gate_host: &str, upstreams: &[Upstream]) -> String {
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
    out
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
