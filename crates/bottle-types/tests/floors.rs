//! Holds the arrows between the crates: each needs only crates of lower floors, and those that decide have no effects.
//!
//! The check is a function over a description of the crates, so that it is tried on a wrong description, too.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the test reads manifests and runs cargo")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// From the ground up: a crate may need crates of lower floors, none of its own.
const FLOORS: [&[&str]; 8] = [
    &["bottle-testkit"],
    &["bottle-link"],
    &["bottle-types"],
    &["bottle-scan", "xtask"],
    &["bottle-policy"],
    &["bottle-wire"],
    &["bottle-plan", "bottle-sidecars"],
    &["bottle-runner"],
];
/// Programs: no other crate may need one.
const PROGRAMS: [&str; 3] = ["bottle-link", "bottle-runner", "bottle-sidecars"];
/// Crates of tests: another crate's tests may need one, and nothing that is shipped.
const TESTS: [&str; 1] = ["bottle-testkit"];
/// The crates that decide.
const PURE: [&str; 5] = ["bottle-types", "bottle-scan", "bottle-policy", "bottle-wire", "bottle-plan"];
/// Crates that act on the world. A pure crate's tests and benchmarks may have them.
const EFFECTS: &str =
    "bollard futures-util hyper hyper-util libc reqwest rmcp rustix tempfile tokio tokio-rustls tokio-util";

/// One crate of the workspace.
#[derive(Debug, Clone)]
struct Crate {
    name: String,
    /// Its `Cargo.toml`, from the workspace's root.
    path: String,
    /// The text of that file.
    text: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone)]
struct Dependency {
    name: String,
    /// The key in `Cargo.toml`.
    key: String,
    /// `dependencies`, `dev-dependencies` or `build-dependencies`.
    table: String,
}

/// Every wrong arrow, each with the file and the line that draws it.
fn wrong_arrows(crates: &[Crate]) -> Vec<String> {
    let floor = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name));
    let mut wrong = vec![];
    for one in crates {
        let Some(own) = floor(&one.name) else {
            wrong.push(format!("{}: {} stands on no floor: give it one in {}", one.path, one.name, file!()));
            continue;
        };
        for dependency in &one.dependencies {
            let Dependency { name, table, .. } = dependency;
            let at = format!("{}:{}: {}", one.path, line(&one.text, dependency), one.name);
            if PROGRAMS.contains(&name.as_str()) {
                wrong.push(format!("{at} needs {name}, a program: no crate may need one"));
            } else if TESTS.contains(&name.as_str()) && table != "dev-dependencies" {
                wrong.push(format!("{at} needs {name} for more than its tests: that is never shipped"));
            } else if floor(name).is_some_and(|other| other >= own) {
                wrong.push(format!("{at} needs {name}, which does not stand below it"));
            }
            let acts = EFFECTS.split(' ').any(|effect| effect == name);
            if acts && PURE.contains(&one.name.as_str()) && table != "dev-dependencies" {
                wrong.push(format!("{at} decides and needs {name}, which acts: let the caller act"));
            }
        }
    }
    for name in FLOORS.concat() {
        if !crates.iter().any(|one| one.name == name) {
            wrong.push(format!("{}: no crate is called {name}: take it off the floors", file!()));
        }
    }
    wrong
}

/// The line of a manifest that names the dependency; 0 where none does.
fn line(text: &str, dependency: &Dependency) -> usize {
    let mut table = "";
    for (index, line) in text.lines().enumerate() {
        if let Some(header) = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let before = header.strip_suffix(&dependency.key).and_then(|before| before.strip_suffix('.'));
            if before.is_some_and(|before| is_table(before, dependency)) {
                return index + 1;
            }
            table = header;
        } else if is_table(table, dependency)
            && line.trim().strip_prefix(&dependency.key).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
        {
            return index + 1;
        }
    }
    0
}

/// Whether a table of a manifest, perhaps one for some targets alone, is the one that the dependency is in.
fn is_table(header: &str, dependency: &Dependency) -> bool {
    let last = header.rsplit('.').next().unwrap_or_default();
    last == dependency.table && (header == last || header.starts_with("target."))
}

/// The crates of this workspace, as cargo sees them.
fn workspace() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let root = text(&metadata["workspace_root"]);
    let dependency = |value: &Value| Dependency {
        name: text(&value["name"]),
        key: value["rename"].as_str().map_or_else(|| text(&value["name"]), str::to_owned),
        table: value["kind"].as_str().map_or("dependencies".to_owned(), |kind| format!("{kind}-dependencies")),
    };
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let crates = packages.map(|package| {
        let path = text(&package["manifest_path"]);
        Crate {
            name: text(&package["name"]),
            text: std::fs::read_to_string(&path).expect("a manifest"),
            path: Path::new(&path).strip_prefix(&root).expect("a path in the workspace").display().to_string(),
            dependencies: package["dependencies"].as_array().expect("dependencies").iter().map(dependency).collect(),
        }
    });
    crates.collect()
}

#[test]
fn each_crate_needs_only_crates_of_lower_floors() {
    let wrong = wrong_arrows(&workspace());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_arrow_is_found_with_its_file_and_line() {
    for (from, table, to, why) in [
        ("bottle-scan", "dependencies", "bottle-plan", "which does not stand below it"),
        ("bottle-policy", "dev-dependencies", "bottle-wire", "which does not stand below it"),
        ("bottle-link", "dependencies", "bottle-types", "which does not stand below it"),
        ("bottle-sidecars", "dependencies", "bottle-plan", "which does not stand below it"),
        ("bottle-runner", "dependencies", "bottle-sidecars", "a program"),
        ("bottle-runner", "dependencies", "bottle-testkit", "for more than its tests"),
        ("bottle-sidecars", "target.'cfg(unix)'.dependencies", "bottle-testkit", "for more than its tests"),
        ("bottle-types", "build-dependencies", "bottle-testkit", "for more than its tests"),
        ("bottle-testkit", "dependencies", "bottle-types", "which does not stand below it"),
        ("bottle-types", "dependencies", "tokio", "which acts"),
        ("bottle-plan", "target.'cfg(unix)'.build-dependencies", "tempfile", "which acts"),
    ] {
        let mut crates = workspace();
        let one = crates.iter_mut().find(|one| one.name == from).expect(from);
        let at = format!("{}:{}: {from}", one.path, one.text.lines().count() + 2);
        one.text.push_str(&format!("[{table}]\n{to}.workspace = true\n"));
        let table = table.rsplit('.').next().expect("a table").to_owned();
        one.dependencies.push(Dependency { name: to.to_owned(), key: to.to_owned(), table });
        let wrong = wrong_arrows(&crates);
        assert!(wrong.len() == 1 && wrong[0].starts_with(&at) && wrong[0].contains(why), "{at}, {why}: {wrong:?}");
    }
}

#[test]
fn a_crate_on_no_floor_is_found() {
    let mut crates = workspace();
    let one = crates.iter_mut().find(|one| one.name == "bottle-link").expect("the link");
    one.name = "bottle-new".to_owned();
    let wrong = wrong_arrows(&crates);
    assert!(wrong.len() == 2 && wrong[0].contains("bottle-new stands on no floor"), "{wrong:?}");
}

#[test]
fn the_crates_that_decide_have_the_same_bans() {
    let bans = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("clippy.toml");
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let first = bans(PURE[0]);
    for banned in ["std::fs::read", "std::env::var", "std::process::Command", "std::time::SystemTime::now"] {
        assert!(first.contains(&format!("\"{banned}\"")), "{} does not ban {banned}", PURE[0]);
    }
    for name in PURE {
        assert!(bans(name) == first, "crates/{name}/clippy.toml differs from crates/{}/clippy.toml", PURE[0]);
    }
}
