//! Whatever way an upstream is spelled, the guest's git goes to the gate.

use bottle_plan::render::{own_url, render_gitconfig, spellings};
use bottle_policy::gate::{PushRules, RepoName, Upstream, UpstreamUrl};
use pretty_assertions::assert_eq;

fn upstream(name: &str, url: &str) -> Upstream {
    Upstream {
        name: RepoName::parse(name).expect("a name"),
        url: UpstreamUrl::parse(url).expect("a URL"),
        identity: None,
        known_host_key: None,
        token: None,
        max_lfs_bytes: Upstream::default_max_lfs(),
        history: None,
        push: PushRules::default(),
    }
}

/// What git does with `url.<base>.insteadOf`: the longest beginning that fits is replaced.
fn rewritten(config: &str, url: &str) -> String {
    let mut base = "";
    let mut best: Option<(&str, &str)> = None;
    for line in config.lines() {
        if let Some(rest) = line.strip_prefix("[url \"") {
            base = rest.trim_end_matches("\"]");
        } else if let Some(beginning) = line.trim().strip_prefix("insteadOf = \"") {
            let beginning = beginning.trim_end_matches('"');
            if url.starts_with(beginning) && best.is_none_or(|(_, other)| beginning.len() > other.len()) {
                best = Some((base, beginning));
            }
        }
    }
    match best {
        Some((base, beginning)) => format!("{base}{}", &url[beginning.len()..]),
        None => url.to_owned(),
    }
}

#[test]
fn every_spelling_goes_to_the_gate() {
    let config = render_gitconfig(
        "git-gate:9418",
        &[
            upstream("origin", "ssh://git@git.example.org:2222/team/app.git"),
            upstream("docs", "https://git.example.org/team/app-docs"),
            upstream("scp", "deploy@code.example.org:team/tool.git"),
        ],
        &[],
    );
    for (url, name) in [
        ("ssh://git@git.example.org:2222/team/app.git", "origin"),
        ("ssh://git@git.example.org:2222/team/app", "origin"),
        ("ssh://git.example.org:2222/team/app.git", "origin"),
        ("git@git.example.org:team/app.git", "origin"),
        ("ssh://git@git.example.org/team/app.git", "origin"),
        ("https://git.example.org/team/app.git", "origin"),
        ("https://git.example.org/team/app", "origin"),
        ("https://git.example.org:443/team/app.git", "origin"),
        ("https://git.example.org/team/app-docs", "docs"),
        ("https://git.example.org/team/app-docs.git", "docs"),
        ("https://git.example.org:443/team/app-docs", "docs"),
        ("git@git.example.org:team/app-docs.git", "docs"),
        ("git@git.example.org:/team/app-docs", "docs"),
        ("ssh://git@git.example.org/team/app-docs", "docs"),
        ("ssh://git@git.example.org:22/team/app-docs.git", "docs"),
        ("deploy@code.example.org:team/tool", "scp"),
        ("git@code.example.org:team/tool.git", "scp"),
        ("code.example.org:team/tool.git", "scp"),
        ("ssh://deploy@code.example.org:22/team/tool.git", "scp"),
        ("https://code.example.org/team/tool", "scp"),
    ] {
        assert_eq!(rewritten(&config, url), format!("git://git-gate:9418/{name}.git"), "{url}");
    }
    for url in ["https://git.example.org/other/app.git", "ssh://git@git.example.org:2200/team/app.git", "/srv/app.git"]
    {
        assert_eq!(rewritten(&config, url), url);
    }
}

#[test]
fn every_spelling_is_read_as_the_same_repository() {
    for url in ["ssh://git@git.example.org:2222/team/app.git", "https://git.example.org/team/app", "u@h.example:~u/x"] {
        let url = UpstreamUrl::parse(url).expect("a URL");
        assert!(spellings(&url).contains(&own_url(&url)), "{url}");
        for spelling in spellings(&url) {
            let again = UpstreamUrl::parse(&spelling).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((&again.host, again.repository()), (&url.host, url.repository()), "{spelling}");
        }
    }
}
