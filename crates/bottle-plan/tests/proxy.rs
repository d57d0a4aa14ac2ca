//! Whose proxy a run goes through: the environment's, else the manifest's; and what neither may do.

use bottle_plan::facts::{HostFacts, ProxyFacts};
use bottle_plan::manifest;
use bottle_plan::plan::{BottlePlan, Options, PlanError, SecretSource, plan};
use bottle_plan::render;
use bottle_plan::task::Task;
use bottle_policy::proxy::UpstreamProxy;
use bottle_types::host::HostName;
use pretty_assertions::assert_eq;

const MANIFEST: &str = include_str!("../../../tests/fixtures/good/manifest/proxy.yml");

fn environment(url: &str, user: Option<&str>, no_proxy: &str) -> ProxyFacts {
    ProxyFacts {
        variable: "HTTPS_PROXY".to_owned(),
        url: url.to_owned(),
        user: user.map(str::to_owned),
        has_password: user.is_some(),
        no_proxy: no_proxy.to_owned(),
    }
}

fn made(text: &str, proxy: Option<ProxyFacts>) -> Result<BottlePlan, PlanError> {
    let manifest = manifest::parse(text, "claude-bottle.yml").expect("a manifest");
    let facts = HostFacts {
        seed: "1a2b3c".to_owned(),
        state_root: "/state".to_owned(),
        variables: ["ANTHROPIC_API_KEY", "GITHUB_TOKEN"].map(str::to_owned).into(),
        hosts: [(HostName::parse("proxy.env.example").expect("a host"), "10.0.0.9".parse().expect("an address"))]
            .into(),
        proxy,
        ..HostFacts::default()
    };
    plan(&Task::text("Fix it"), &manifest, &facts, &Options::default())
}

fn proxy(plan: &BottlePlan) -> Option<&UpstreamProxy> {
    assert_eq!(plan.policies.gate.proxy, plan.policies.pipelock.proxy);
    plan.policies.pipelock.proxy.as_ref()
}

#[test]
fn the_manifests_proxy_is_taken_where_the_environment_names_none() {
    let plan = made(MANIFEST, None).expect("a plan");
    let found = proxy(&plan).expect("a proxy");
    assert_eq!(found.url.to_string(), "http://proxy.corp.example:3128");
    let secret = plan.secrets.iter().find(|secret| secret.name.as_str() == "PROXY_PASSWORD").expect("a secret");
    assert_eq!(secret.source, SecretSource::File("/run/secrets/proxy".to_owned()));
    assert!(plan.policies.pipelock.secrets.contains(&secret.name) && plan.policies.gate.secrets.contains(&secret.name));
    let text = render::text(&plan);
    let wanted = [
        "http://proxy.corp.example:3128 as bottle",
        "not for corp.example, 10.0.0.0/8, 192.0.2.7",
        "/run/secrets/proxy for the proxy",
    ];
    assert!(wanted.iter().all(|line| text.contains(line)), "{text}");
}

#[test]
fn the_environments_proxy_goes_first_and_takes_no_password_of_the_manifests() {
    let plan = made(MANIFEST, Some(environment("http://proxy.env.example:8080", Some("me"), "a.example b_c")));
    let plan = plan.expect("a plan");
    let found = proxy(&plan).expect("a proxy");
    assert_eq!(found.url.to_string(), "http://proxy.env.example:8080");
    let login = found.login.as_ref().expect("a login");
    assert_eq!((login.user.as_str(), login.password.as_str()), ("me", "BOTTLE_PROXY_PASSWORD"));
    assert_eq!(found.no_proxy.len(), 1);
    let sources: Vec<_> = plan.secrets.iter().map(|secret| secret.source.clone()).collect();
    assert!(sources.contains(&SecretSource::ProxyPassword("HTTPS_PROXY".to_owned())));
    assert!(!sources.contains(&SecretSource::File("/run/secrets/proxy".to_owned())));
    assert_eq!(plan.extra_hosts.len(), 1, "this machine's own hosts file has its address");
    let notes = plan.notes.join("\n");
    assert!(notes.contains("proxy.url: HTTPS_PROXY is set on this machine, and goes before it"), "{notes}");
    assert!(notes.contains("NO_PROXY: `b_c` is neither a host"), "{notes}");
}

#[test]
fn names_are_resolved_by_the_proxy_only_where_the_manifest_says_so() {
    let environment = || Some(environment("http://proxy.env.example:8080", None, ""));
    assert!(!proxy(&made(MANIFEST, environment()).expect("a plan")).expect("a proxy").remote_dns);
    let text = "version: 1\nbottles: { default: {} }\nproxy: { remote_dns: true }\n";
    let plan = made(text, environment()).expect("a plan");
    let of_pipelock = plan.policies.pipelock.proxy.as_ref().expect("a proxy");
    assert!(of_pipelock.remote_dns && plan.notes.iter().any(|note| note.contains("judged by the proxy")));
    // Without a proxy there is none who could.
    assert_eq!(made(text, None).expect("a plan").policies.pipelock.proxy, None);
}

#[test]
fn where_everything_is_direct_there_is_no_proxy() {
    let plan = made(MANIFEST, Some(environment("http://proxy.env.example:8080", None, "*"))).expect("a plan");
    assert_eq!(proxy(&plan), None);
}

#[test]
fn what_can_t_be_is_an_error() {
    let http = "version: 1\nplain_http: [git.home]\nbottles: { default: { git: [{ name: origin, upstream: \"http://git.home/a/b\" }] } }\n";
    let user_alone = ProxyFacts { has_password: false, ..environment("http://p.example:1", Some("me"), "") };
    for (text, facts, error) in [
        (
            MANIFEST,
            environment("socks5://p.example:1080", None, ""),
            "HTTPS_PROXY: `socks5://p.example:1080` is no HTTP proxy; the doors speak CONNECT to http and https proxies alone",
        ),
        (MANIFEST, environment("http://p.example", None, ""), "HTTPS_PROXY: `http://p.example` has no port"),
        (MANIFEST, user_alone, "HTTPS_PROXY: there is a user before the host, and no password"),
        (
            http,
            environment("http://p.example:1", None, "other.home"),
            "http://git.home/a/b is plain http, and the gate goes through a proxy by https alone",
        ),
    ] {
        assert_eq!(made(text, Some(facts)).expect_err(error).to_string(), error);
    }
    made(http, Some(environment("http://p.example:1", None, "git.home"))).expect("a host past the proxy");
}
