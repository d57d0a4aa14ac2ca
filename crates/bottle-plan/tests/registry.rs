//! What package managers say, and what becomes of it.

use std::collections::BTreeMap;

use bottle_plan::facts::HostFacts;
use bottle_plan::manifest;
use bottle_plan::plan::{BottlePlan, Options, PlanError, plan};
use bottle_plan::registry::{self, Cargo, NoAnswer, Preset, Role, ToolAnswer};
use bottle_plan::task::Task;
use pretty_assertions::assert_eq;

/// Role, address and source of each place.
fn places(answer: &ToolAnswer) -> Vec<String> {
    let registries = answer.as_ref().unwrap_or_else(|no| panic!("{no:?}"));
    let role = |role: &Role| match role {
        Role::Default => "default".to_owned(),
        Role::Main => "main".to_owned(),
        Role::Named(name) => format!("named `{name}`"),
        Role::Files => "files".to_owned(),
    };
    registries.found.iter().map(|one| format!("{} {} ({})", role(&one.role), one.url, one.from)).collect()
}

fn problem(answer: ToolAnswer) -> String {
    answer.expect_err("no answer").problem
}

#[test]
fn npm_has_a_registry_and_one_for_each_scope() {
    let json = r#"{"registry": "https://npm.example.org/repo/", "@corp:registry": "https://corp.example.org/npm",
                   "audit": false, "userconfig": "/home/me/.npmrc"}"#;
    let list = "; \"user\" config from /home/me/.npmrc\n\n@secret:registry = (protected)\naudit = false\n";
    let project = "registry=${REGISTRY}\n@team:registry = https://team.example.org\n//team.example.org/:_authToken=x\n";
    let answer = registry::npm(json, list, Some(project));
    assert_eq!(
        places(&answer),
        [
            "named `@corp` https://corp.example.org/npm (npm config `@corp:registry`)",
            "main https://npm.example.org/repo/ (npm config `registry`)",
            "named `@team` https://team.example.org (the base branch's .npmrc, `@team:registry`)",
        ]
    );
    let left_out = answer.expect("an answer").left_out;
    assert!(left_out.len() == 1 && left_out[0].contains("`@secret:registry`"), "{left_out:?}");
    assert!(problem(registry::npm("{}", "registry = (protected)\n", None)).contains("does not tell its `registry`"));
    let crossed_out = registry::npm("{}", "registry = \"https://me:***@npm.example.org/\"\n", None);
    assert_eq!(places(&crossed_out), ["main https://npm.example.org/ (npm config `registry`)"]);
    assert!(crossed_out.expect("an answer").left_out[0].contains("stays on the host"));
    assert!(problem(registry::npm("npm error", "", None)).contains("gave no JSON"));
    // As npm 10 and 11 print a login: the key, and no value.
    let logins = "//npm.example.org/repo/:_authToken = (protected)\n//other.example.org/:_authToken = (protected)\n";
    let answer = registry::npm(r#"{"registry": "https://npm.example.org/repo/"}"#, logins, None).expect("an answer");
    assert_eq!(answer.left_out.len(), 1, "{:?}", answer.left_out);
    assert!(
        answer.left_out[0].starts_with("npm's login for npm.example.org/repo stays on the host"),
        "{:?}",
        answer.left_out
    );
}

#[test]
fn pip_s_environment_goes_before_its_files() {
    let list = ":env:.extra-index-url='https://more.example.org/a https://more.example.org/b'\n\
                :env:.index-url='https://me:pw@pypi.example.org/api/pypi/simple'\n\
                global.index-url='https://other.example.org/simple'\nglobal.find-links='/opt/wheels'\n\
                freeze.index-url='https://freeze.example.org/'\n";
    let list = list.lines().rev().collect::<Vec<_>>().join("\n");
    let report =
        r#"{"install": [{"download_info": {"url": "https://files.example.org/packages/ab/cd/pip-26.whl#sha256=1"}}]}"#;
    let answer = registry::pip(&list, "", Ok(report));
    assert_eq!(
        places(&answer),
        [
            "main https://pypi.example.org/api/pypi/simple (PIP_INDEX_URL)",
            "named `` https://more.example.org/a (PIP_EXTRA_INDEX_URL)",
            "named `` https://more.example.org/b (PIP_EXTRA_INDEX_URL)",
            "files https://files.example.org/packages/ (where pypi.example.org keeps its files)",
        ]
    );
    assert!(
        answer.expect("an answer").left_out[0].starts_with("the user name or password in the address of PIP_INDEX_URL")
    );
    let beside = r#"{"install": [{"download_info": {"url": "https://pypi.example.org/api/pypi/packages/pip.whl"}}]}"#;
    assert_eq!(places(&registry::pip(&list, "", Ok(beside))).len(), 3, "files beside the index");
}

#[test]
fn pip_s_default_is_what_its_help_says() {
    let help = "  -i, --index-url <url>       Base URL of the Python Package Index (default\n                              https://pypi.example.org/simple). This should";
    let report = r#"{"install": [{"download_info": {"url": "https://files.example.org/packages/ab/pip-26.whl"}}]}"#;
    assert_eq!(
        places(&registry::pip("", help, Ok(report))),
        [
            "main https://pypi.example.org/simple (pip's default, as its help says)",
            "files https://files.example.org/packages/ (where pypi.example.org keeps its files)",
        ]
    );
    assert_eq!(
        problem(registry::pip("", help, Err("WARNING: Retrying\nERROR: no route to https://me:pw@pypi.example.org"))),
        "pip on this host can't say where its index keeps the files: ERROR: no route to https://pypi.example.org"
    );
    let own = "global.index-url='https://pypi.example.org/simple'";
    let answer = registry::pip(own, help, Err("ERROR: No matching distribution found for pip"));
    assert!(answer.expect("an answer").left_out[0].contains("only what is beside the index"));
    assert!(problem(registry::pip("", "", Ok(report))).contains("names no index"));
}

fn file(path: &str, text: &str) -> (String, String) {
    (path.to_owned(), text.to_owned())
}

#[test]
fn cargo_s_default_index_is_replaced_by_whom_its_configuration_names() {
    let config = "[source.crates-io]\nreplace-with = 'a'\n[source.a]\nreplace-with = 'b'\n[source.b]\n\
                  registry = 'sparse+https://crates.example.org/index/'\n[registries.corp]\nindex = 'sparse+https://corp.example.org/'\n\
                  [registries.old]\nindex = 'https://git.example.org/index.git'\n";
    let variables = [("CARGO_REGISTRIES_MY_OWN_INDEX".to_owned(), "sparse+https://own.example.org/".to_owned())];
    let cargo = Cargo::parse(&[file("/home/me/.cargo/config.toml", config)], &variables).expect("a configuration");
    let config = |dl: &str| vec![format!(r#"{{"dl": "{dl}", "api": "https://api.example.org"}}"#)];
    let of_indexes = BTreeMap::from([
        ("https://crates.example.org/index/".to_owned(), config("https://files.example.org/crates")),
        ("https://corp.example.org/".to_owned(), config("https://corp.example.org/dl/{crate}/{version}")),
        ("https://own.example.org/".to_owned(), config("https://own.example.org/dl")),
    ]);
    let answer = registry::cargo(&cargo, None, &of_indexes);
    assert_eq!(
        places(&answer)[..5],
        [
            "main https://crates.example.org/index/ (/home/me/.cargo/config.toml, source.b)",
            "files https://files.example.org/crates (`dl` of the index at crates.example.org)",
            "files https://api.example.org/api/v1 (`api` of the index at crates.example.org)",
            "named `corp` https://corp.example.org/ (/home/me/.cargo/config.toml, registries.corp)",
            "files https://corp.example.org/dl/ (`dl` of the index at corp.example.org)",
        ]
    );
    assert!(answer.expect("an answer").left_out[0].contains("registries.old: the index is a git repository"));
    assert!(problem(registry::cargo(&cargo, None, &BTreeMap::new())).contains("the index at crates.example.org"));

    let circle = "[source.crates-io]\nreplace-with = 'a'\n[source.a]\nreplace-with = 'crates-io'\n";
    let cargo = Cargo::parse(&[file("c", circle)], &[]).expect("a configuration");
    assert!(cargo.replaced.is_none() && cargo.left_out[0].contains("in a circle"));
    let vendored = "[source.crates-io]\nreplace-with = 'v'\n[source.v]\ndirectory = 'vendor'\n";
    let cargo = Cargo::parse(&[file("c", vendored)], &[]).expect("a configuration");
    assert!(problem(registry::cargo(&cargo, None, &BTreeMap::new())).contains("a directory can't be read"));
    assert!(Cargo::parse(&[file("c", "[source")], &[]).is_err());
}

#[test]
fn cargo_names_its_default_when_it_can_t_reach_it() {
    let said = "    Updating crates.io index\nerror: failed to get `x`\n\nCaused by:\n  download of config.json failed\n\nCaused by:\n  \
                failed to download from `https://index.example.org/config.json`\n";
    assert_eq!(registry::cargo_default_index(said).as_deref(), Some("sparse+https://index.example.org/"));
    assert_eq!(registry::cargo_default_index("error: no such subcommand"), None);
    let of_indexes = BTreeMap::from([(
        "https://index.example.org/".to_owned(),
        vec![r#"{"dl": "https://index.example.org:443/api/v1/crates"}"#.to_owned()],
    )]);
    let answer = registry::cargo(&Cargo::default(), Some("sparse+https://index.example.org/"), &of_indexes);
    assert_eq!(
        places(&answer),
        [
            "default https://index.example.org/ (cargo's default index, as it says itself)",
            "files https://index.example.org/api/v1/crates (`dl` of the index at index.example.org)",
        ]
    );
}

#[test]
fn go_s_proxies_are_kept_and_direct_is_not() {
    let json = r#"{"GOPROXY": "https://me:pw@goproxy.example.org|https://proxy.example.org/x,direct", "GOSUMDB": "sum.example.org+1f+Aa",
                   "GONOSUMDB": "corp.example.org/*", "GONOPROXY": "corp.example.org/*"}"#;
    let answer = registry::go(json);
    assert_eq!(
        places(&answer),
        [
            "main https://goproxy.example.org (GOPROXY)",
            "main https://proxy.example.org/x (GOPROXY)",
            "files https://sum.example.org (GOSUMDB)",
        ]
    );
    let answer = answer.expect("an answer");
    assert_eq!(answer.env["GOPROXY"], "https://goproxy.example.org|https://proxy.example.org/x");
    assert_eq!(answer.env["GONOSUMDB"], "corp.example.org/*");
    assert_eq!(answer.left_out.len(), 3, "{:?}", answer.left_out);
    let named = registry::go(
        r#"{"GOPROXY": "https://p.example.org", "GOSUMDB": "sum.example.org https://sum.example.net/db"}"#,
    );
    assert_eq!(places(&named)[1], "files https://sum.example.net/db (GOSUMDB)");
    assert!(problem(registry::go(r#"{"GOPROXY": "direct", "GOSUMDB": "sum.example.org"}"#)).contains("no registry"));
}

#[test]
fn apt_s_sources_are_what_apt_makes_of_them() {
    let targets = "http://deb.example.org/debian/ /etc/apt/sources.list.d/debian.sources:1\n\
                   http://deb.example.org/debian/ /etc/apt/sources.list.d/debian.sources:1\n\
                   https://me:pw@mirror.example.org/x/ /etc/apt/sources.list:3\ncdrom:[Debian]/ /etc/apt/sources.list:1\n";
    let answer = registry::apt(targets);
    assert_eq!(
        places(&answer),
        [
            "main http://deb.example.org/debian/ (/etc/apt/sources.list.d/debian.sources)",
            "main https://mirror.example.org/x/ (/etc/apt/sources.list)",
        ]
    );
    assert_eq!(answer.expect("an answer").left_out.len(), 2);
    assert!(problem(registry::apt("")).contains("apt on this host is configured for no registry"));
}

#[test]
fn maven_s_mirrors_and_what_it_would_have_asked() {
    let said = "[ERROR] No plugin found for prefix 'help' in the current project and in the plugin groups [a.b] available from the \
                repositories [local (/tmp/x), corp (https://maven.example.org/all), central (https://central.example.org/maven2)] -> [Help 1]";
    let settings = "<settings><!-- <mirror><id>no</id><url>https://no.example.org</url></mirror> --><servers><server><id>corp</id>\
                    <password>pw</password></server></servers><mirrors><mirror><id>corp</id><mirrorOf>external:*</mirrorOf>\
                    <url>https://maven.example.org/all</url></mirror><mirror><id>blocker</id><url>http://0.0.0.0/</url>\
                    <blocked>true</blocked></mirror></mirrors><profiles><profile><repositories><repository>\
                    <id>extra</id><url>https://extra.example.org/m2</url></repository></repositories></profile></profiles></settings>";
    let answer = registry::maven(said, &[file("/home/me/.m2/settings.xml", settings)]);
    assert_eq!(
        places(&answer),
        [
            "main https://maven.example.org/all (/home/me/.m2/settings.xml, mirror `corp`)",
            "named `extra` https://extra.example.org/m2 (/home/me/.m2/settings.xml, repository `extra`)",
            "default https://central.example.org/maven2 (mvn's own list of repositories, `central`)",
        ]
    );
    assert_eq!(
        problem(registry::maven("[ERROR] JAVA_HOME is not set", &[])),
        "mvn on this host names no repository: [ERROR] JAVA_HOME is not set"
    );
}

fn planned(presets: &str, registries: &[(Preset, ToolAnswer)]) -> Result<BottlePlan, PlanError> {
    let text = format!("version: 1\nbottles: {{ default: {{ egress: {{ presets: [{presets}] }} }} }}\n");
    let manifest = manifest::parse(&text, "claude-bottle.yml").unwrap_or_else(|error| panic!("{error}"));
    let facts = HostFacts {
        seed: "1a2b3c".to_owned(),
        registries: registries.iter().cloned().collect(),
        ..HostFacts::default()
    };
    plan(&Task::text("x"), &manifest, &facts, &Options::default())
}

#[test]
fn a_tool_without_an_answer_stops_the_plan() {
    let error = planned("go", &[(Preset::Go, Err(NoAnswer::missing("go")))]).expect_err("no go");
    assert_eq!(error.to_string(), "the preset `go`: there is no `go` on this host to ask where it fetches from");
    assert_eq!(
        error.hint().as_deref(),
        Some("install it and configure it as your project needs it, or declare the registries under egress.routes")
    );
    assert!(planned("go, npm", &[(Preset::Npm, Err(NoAnswer::missing("npm")))]).is_err());
    // What another bottle's preset needs is not this one's trouble.
    let npm = registry::npm(r#"{"registry": "https://npm.example.org/"}"#, "", None);
    let plan = planned("npm", &[(Preset::Npm, npm), (Preset::Go, Err(NoAnswer::missing("go")))]).expect("a plan");
    assert_eq!(plan.policies.routes.routes.len(), 1);
}

#[test]
fn no_credential_of_an_address_is_in_a_plan() {
    let password = "hunter2-but-longer";
    let with = |rest: &str| format!("https://me:{password}@{rest}");
    let npm = registry::npm(&format!(r#"{{"registry": "{}"}}"#, with("npm.example.org")), "", None);
    let pip = registry::pip(&format!("global.index-url='{}'", with("pypi.example.org/simple")), "", Err(&with("x")));
    let go = registry::go(&format!(
        r#"{{"GOPROXY": "{}", "GOSUMDB": "s {}"}}"#,
        with("go.example.org"),
        with("s.example.org")
    ));
    let apt = registry::apt(&format!("{} /etc/apt/sources.list:1", with("deb.example.org/debian")));
    let config = format!(
        "[source.crates-io]\nreplace-with = 'a'\n[source.a]\nregistry = 'sparse+{}'\n",
        with("crates.example.org/")
    );
    let cargo = Cargo::parse(&[file("c", &config)], &[]).expect("a configuration");
    let of_indexes =
        BTreeMap::from([(with("crates.example.org/"), vec![format!(r#"{{"dl": "{}"}}"#, with("dl.example.org"))])]);
    let cargo = registry::cargo(&cargo, None, &of_indexes);
    let settings = format!(
        "<settings><mirrors><mirror><id>m</id><url>{}</url></mirror></mirrors></settings>",
        with("m.example.org")
    );
    let maven = registry::maven("", &[file("s", &settings)]);
    let all = [
        (Preset::Npm, npm),
        (Preset::Pip, pip),
        (Preset::Go, go),
        (Preset::Apt, apt),
        (Preset::Cargo, cargo),
        (Preset::Maven, maven),
    ];
    for (preset, answer) in &all {
        let left_out = &answer.as_ref().unwrap_or_else(|no| panic!("{preset:?}: {no:?}")).left_out;
        assert!(left_out.iter().any(|note| note.contains("stays on the host")), "{preset:?}: {left_out:?}");
    }
    let plan = planned("npm, pip, go, apt, cargo, maven", &all).expect("a plan");
    let json = serde_json::to_string(&plan).expect("JSON");
    for part in [password, "me:", "me%", "hunter2"] {
        assert!(!json.contains(part), "{part} is in the plan: {json}");
    }
    let failed = registry::pip(
        "",
        "Base URL of the Python Package Index (default https://x.example)",
        Err(&with("x.example/y")),
    );
    assert!(!format!("{failed:?}").contains(password));
}
