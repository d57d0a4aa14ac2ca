//! The door to a forge in a plan: where it leads, with which token, and what gh is told.

use std::collections::BTreeMap;

use bottle_plan::facts::{CheckoutFacts, Ci, ForgeKind, HostFacts};
use bottle_plan::manifest;
use bottle_plan::plan::{BottlePlan, Options, PlanError, plan};
use bottle_plan::render::text;
use bottle_plan::task::Task;
use bottle_policy::route::Route;
use pretty_assertions::assert_eq;

fn job(forge: ForgeKind, server: &str) -> HostFacts {
    let ci = Ci {
        forge,
        server_url: server.to_owned(),
        repository: "octo-org/app".to_owned(),
        run_id: "1".to_owned(),
        run_url: format!("{server}/octo-org/app/actions/runs/1"),
        started_for: None,
        base: None,
    };
    HostFacts { ci: Some(ci), ..machine() }
}

fn machine() -> HostFacts {
    HostFacts { seed: "1a2b3c".to_owned(), ..HostFacts::default() }
}

fn checkout(origin: &str) -> HostFacts {
    let checkout =
        CheckoutFacts { path: "/work".to_owned(), origin: Some(origin.to_owned()), branch: None, head: None };
    HostFacts { checkout: Some(checkout), ..machine() }
}

fn plan_of(bottle: &str, facts: &HostFacts) -> Result<BottlePlan, PlanError> {
    let text = format!("version: 1\nbottles:\n  default:\n{bottle}");
    let manifest = manifest::parse(&text, "claude-bottle.yml").unwrap_or_else(|error| panic!("{error}"));
    plan(&Task::text("Look."), &manifest, facts, &Options::default())
}

fn door(plan: &BottlePlan) -> Option<&Route> {
    plan.policies.routes.routes.iter().find(|route| route.forge.is_some())
}

fn told(plan: &BottlePlan) -> BTreeMap<&str, &str> {
    let env = plan.guest.env.iter().filter(|(name, _)| name.starts_with("GH_"));
    env.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

const ISSUES: &str = "    forge: { read: [issues, checks], trust: [write] }\n";

#[test]
fn a_job_reads_its_own_forge_with_its_own_token() {
    let plan = plan_of(ISSUES, &job(ForgeKind::Github, "https://github.com")).unwrap_or_else(|error| panic!("{error}"));
    let route = door(&plan).expect("a door");
    let rules = route.forge.as_ref().expect("rules");
    assert_eq!((route.host.to_string().as_str(), route.paths.clone()), ("api.github.com", vec!["/**".to_owned()]));
    assert_eq!(rules.repositories.iter().map(ToString::to_string).collect::<Vec<_>>(), ["octo-org/app"]);
    let token = route.auth.as_ref().and_then(|auth| auth.bearer.as_ref()).expect("a token");
    assert_eq!(token.as_str(), "GITHUB_TOKEN");
    assert!(
        plan.secrets
            .iter()
            .any(|secret| secret.name == *token && secret.used_by.contains(&"route api.github.com".to_owned()))
    );
    let wanted = BTreeMap::from([
        ("GH_TOKEN", "bottle-placeholder-gh-token"),
        ("GH_HOST", "github.com"),
        ("GH_REPO", "github.com/octo-org/app"),
        ("GH_NO_UPDATE_NOTIFIER", "1"),
        ("GH_PROMPT_DISABLED", "1"),
    ]);
    assert_eq!(told(&plan), wanted);
    assert!(
        plan.prompt.text.contains("reads at github.com what the manifest names, without a login"),
        "{}",
        plan.prompt.text
    );
    let page = text(&plan);
    let line = "(reads issues, checks of octo-org/app with the token GITHUB_TOKEN; words of write come unmarked)";
    assert!(page.contains(line), "{page}");
}

#[test]
fn a_server_of_ones_own_has_its_api_below_its_address() {
    let facts = job(ForgeKind::Github, "https://ghe.example.org:8443");
    let plan = plan_of(ISSUES, &facts).unwrap_or_else(|error| panic!("{error}"));
    let route = door(&plan).expect("a door");
    assert_eq!((route.host.to_string().as_str(), route.port), ("ghe.example.org", Some(8443)));
    assert_eq!(route.paths, ["/api/graphql", "/api/v3/**"]);
    assert_eq!(told(&plan)["GH_REPO"], "ghe.example.org:8443/octo-org/app");
    assert_eq!(told(&plan)["GH_ENTERPRISE_TOKEN"], "bottle-placeholder-gh-enterprise-token");
    let gitea = "    forge: { read: [issues], trust: [\"@mona\"] }\n";
    let facts = HostFacts {
        variables: ["GITEA_TOKEN".to_owned()].into(),
        ..job(ForgeKind::Gitea, "https://git.example.org/gitea/")
    };
    let plan = plan_of(gitea, &facts).unwrap_or_else(|error| panic!("{error}"));
    let route = door(&plan).expect("a door");
    assert_eq!(route.paths, ["/gitea/api/v1/**"]);
    let token = route.auth.as_ref().and_then(|auth| auth.bearer.as_ref()).expect("a token");
    assert_eq!((token.as_str(), told(&plan).len()), ("GITEA_TOKEN", 0));
    let error = plan_of(ISSUES, &facts).expect_err("no plan");
    assert!(error.to_string().contains("Gitea's answers don't say who is `write`"), "{error}");
}

#[test]
fn outside_of_a_job_the_checkout_says_which_forge() {
    for origin in ["https://github.com/octo-org/app.git", "https://github.com/octo-org/app"] {
        let plan = plan_of(ISSUES, &checkout(origin)).unwrap_or_else(|error| panic!("{error}"));
        let rules = door(&plan).and_then(|route| route.forge.as_ref()).expect("rules");
        assert_eq!(rules.repositories.iter().map(ToString::to_string).collect::<Vec<_>>(), ["octo-org/app"]);
    }
    let plan =
        plan_of(ISSUES, &checkout("https://git.example.org/team/app.git")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(door(&plan), None);
    assert!(plan.notes.iter().any(|note| note.starts_with("forge: this is no job of a forge")), "{:?}", plan.notes);
    assert!(told(&plan).is_empty());
    let named = "    forge: { repositories: [this, team/lib], read: [issues], url: \"https://github.com\", token: READ_TOKEN }\n";
    let plan =
        plan_of(named, &checkout("https://git.example.org/team/app.git")).unwrap_or_else(|error| panic!("{error}"));
    let route = door(&plan).expect("a door");
    let rules = route.forge.as_ref().expect("rules");
    assert_eq!(rules.repositories.iter().map(ToString::to_string).collect::<Vec<_>>(), ["team/lib"]);
    assert!(plan.notes.iter().any(|note| note.contains("so `this` is none")), "{:?}", plan.notes);
    assert_eq!(told(&plan).get("GH_REPO"), None);
}

#[test]
fn nothing_else_leads_to_the_forge() {
    let facts = job(ForgeKind::Github, "https://github.com");
    for (other, says) in [
        ("    egress: { routes: [{ host: api.github.com }] }\n", "the route api.github.com is about api.github.com"),
        ("    egress: { routes: [{ host: \"*.github.com\" }] }\n", "the route *.github.com is about api.github.com"),
        ("    setup: { run: [x], egress: { routes: [{ host: api.github.com }] } }\n", "the route api.github.com"),
        ("    pipelock: { passthrough: [api.github.com] }\n", "`pipelock.passthrough` api.github.com"),
    ] {
        let error = plan_of(&format!("{ISSUES}{other}"), &facts).expect_err(says);
        assert!(error.to_string().starts_with("forge: ") && error.to_string().contains(says), "{error}");
    }
    let facts = job(ForgeKind::Gitea, "http://git.home:3000");
    let error =
        plan_of("    forge: { read: [issues] }\nplain_http: [\"git.home:3000\"]\n", &facts).expect_err("no plan");
    assert_eq!(error.to_string(), "forge: http://git.home:3000 is reached without TLS, and no token goes there");
}

#[test]
fn a_setup_reads_nothing_at_the_forge() {
    let facts = job(ForgeKind::Github, "https://github.com");
    let plan =
        plan_of(&format!("{ISSUES}    setup: {{ run: [make] }}\n"), &facts).unwrap_or_else(|error| panic!("{error}"));
    let setup = plan.setup.as_ref().expect("a setup");
    assert!(door(&plan).is_some() && setup.routes.routes.iter().all(|route| route.forge.is_none()));
}
