//! The action's first step: where it takes the programs from, and what it refuses; the cases of `action.toml`. The mirror is a real
//! server over https on this machine.

use std::process::{Command, Stdio};

use bottle_testkit::{Certificates, Running, World, judge_all, python, said, sh};
use serde::Deserialize;

use crate::RUNNER;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MEMBERS: [&str; 9] = [
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "SHA256SUMS",
    "THIRD-PARTY.txt",
    "bottle-link",
    "bottle-runner",
    "bottle-sidecars",
    "gitleaks",
    "sbom.cdx.json",
];

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "action")]
    sums: String,
    change: Option<String>,
    after: Option<String>,
    #[serde(default = "release")]
    below: String,
    #[serde(default = "super::yes")]
    trusted: bool,
    #[serde(default = "super::yes")]
    signed: bool,
    #[serde(default = "super::yes")]
    gh: bool,
    /// How often gh is asked where the step succeeds.
    #[serde(default = "one")]
    verified: usize,
    /// None: the step succeeds.
    says: Option<String>,
}

fn action() -> String {
    "action".to_owned()
}

fn release() -> String {
    "release".to_owned()
}

fn one() -> usize {
    1
}

impl Case {
    fn named(name: &str) -> Self {
        let cases: Cases = toml::from_str(include_str!("action.toml")).expect("the cases");
        cases.case.into_iter().find(|case| case.name == name).expect("the case")
    }
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

/// A machine whose job uses the action, and the mirror.
struct Step {
    world: World,
    _server: Running,
    url: String,
    /// The archive's name, without its endings.
    name: String,
    sum: String,
}

impl Step {
    fn new(case: &Case) -> Self {
        let world = World::new(RUNNER);
        let at = |name: &str| world.path(name).display().to_string();
        let name = format!("claude-bottle-v0.1.0-{}", std::env::consts::ARCH);
        std::fs::create_dir_all(world.path("mirror/release")).expect("a directory");
        std::fs::create_dir_all(world.path("temp")).expect("a directory");
        std::fs::create_dir_all(world.path("action/scripts")).expect("a directory");
        sh(&["cp", "-R", &format!("{ROOT}/scripts/action"), &at("action/scripts")]);
        archive(&world, &name, case.change.as_deref().unwrap_or_default());
        let file = format!("mirror/release/{name}.tar.zst");
        let sum = sh(&["sha256sum", &at(&file)]).split(' ').next().expect("a sum").to_owned();
        let line = format!("{sum}  {name}.tar.zst\n");
        world.write("action/scripts/action/SHA256SUMS", if case.sums == "action" { &line } else { "" });
        world.write("mirror/release/SHA256SUMS", &line);
        afterwards(&world, &name, case.after.as_deref().unwrap_or_default());
        // It says yes, until a case says otherwise; what it is asked is kept.
        let gh = "#!/bin/sh\nprintf '%s\\n' \"$*\" >> ROOT/verified\n[ ! -e ROOT/unsigned ] || { echo 'no attestations found' >&2; exit 1; }\n";
        for (tool, there) in [("gh", case.gh), ("docker", true)] {
            if there {
                let text = if tool == "gh" { gh.replace("ROOT", &at(".")) } else { "#!/bin/sh\n".to_owned() };
                world.write(&format!("bin/{tool}"), &text);
                sh(&["chmod", "0755", &at(&format!("bin/{tool}"))]);
            }
        }
        if !case.signed {
            world.write("unsigned", "");
        }
        Certificates::make(&world.path("."), &["IP:127.0.0.1"]);
        let server = python()
            .arg(format!("{ROOT}/tests/fixtures/release/server.py"))
            .args(["mirror", "cert.pem", "key.pem", "asked"].map(at))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the mirror");
        let mut server = Running::new(server);
        let url = format!("https://127.0.0.1:{}/{}", server.first_line(), case.below);
        Self { world, _server: server, url, name, sum }
    }

    /// Runs it with these inputs more; the exit code, what it said, and the program that it named.
    fn run(&self, case: &Case, inputs: &[(&str, &str)]) -> (Option<i32>, String, Option<String>) {
        let mut command = Command::new("bash");
        self.world.clean(&mut command);
        let _ = std::fs::remove_file(self.world.path("outputs"));
        // Only this machine's own gh would be another answer.
        let path = std::env::var("PATH").expect("a path");
        let path: Vec<&str> = path.split(':').filter(|dir| !std::path::Path::new(dir).join("gh").exists()).collect();
        let output = command
            .arg(self.world.path("action/scripts/action/get"))
            .env("PATH", format!("{}:{}", self.world.path("bin").display(), path.join(":")))
            .env("GITHUB_OUTPUT", self.world.path("outputs"))
            .env("RUNNER_TEMP", self.world.path("temp"))
            .env("RUNNER_TOOL_CACHE", self.world.path("tools"))
            .env("GH_TOKEN", "not-needed")
            .env("CURL_CA_BUNDLE", if case.trusted { self.world.path("ca.pem") } else { "/dev/null".into() })
            .env("INPUT_RUNNER_BINARY", "")
            .env("INPUT_VERSION", "v0.1.0")
            .env("INPUT_SHA256", if case.sums == "workflow" { &self.sum } else { "" })
            .env("INPUT_BACKEND", "docker")
            .env("INPUT_DOWNLOAD_URL", &self.url)
            .env("INPUT_IMAGES", "")
            .envs(inputs.iter().copied())
            .output()
            .expect("bash");
        let outputs = std::fs::read_to_string(self.world.path("outputs")).unwrap_or_default();
        let program = outputs.lines().find_map(|line| line.strip_prefix("program=")).map(str::to_owned);
        (output.status.code(), said(&output), program)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.world.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn cached(&self) -> std::path::PathBuf {
        self.world.path(&format!("tools/claude-bottle/v0.1.0/{}.tar.zst", self.name))
    }
}

/// The archive, changed.
fn archive(world: &World, name: &str, change: &str) {
    let inside = match change {
        "architecture" => "claude-bottle-v0.1.0-riscv64".to_owned(),
        "older" => name.replace("v0.1.0", "v0.0.9"),
        _ => name.to_owned(),
    };
    let version = if matches!(change, "version" | "older") { "0.0.9" } else { "0.1.0" };
    for member in MEMBERS.iter().filter(|member| change != "less" || **member != "gitleaks") {
        let path = world.write(&format!("stage/{inside}/{member}"), "text\n");
        if member.starts_with("bottle-") {
            let ran = world.path("ran");
            let text = format!("#!/bin/sh\necho $0 \"$@\" >> {}\necho {member} {version}\n", ran.display());
            let text = if change == "garbage" { "\u{7f}ELF\u{1}\u{1}\u{1}".to_owned() } else { text };
            std::fs::write(&path, text).expect("a program");
            sh(&["chmod", "0755", &path.display().to_string()]);
        }
    }
    let stage = world.path("stage").display().to_string();
    let (dir, tar) = (format!("{stage}/{inside}"), world.path("tar").display().to_string());
    world.write("stage/more", "text\n");
    match change {
        "symlink" => drop(sh(&["ln", "-sf", "/etc/passwd", &format!("{dir}/gitleaks")])),
        "hardlink" => drop(sh(&["ln", "-f", &format!("{dir}/bottle-link"), &format!("{dir}/gitleaks")])),
        "pipe" => drop(sh(&["sh", "-c", &format!("rm {dir}/gitleaks; mkfifo {dir}/gitleaks")])),
        "more" => drop(sh(&["cp", &format!("{dir}/gitleaks"), &format!("{dir}/.bash_profile")])),
        "directory" => drop(sh(&["mkdir", &format!("{dir}/gitleaks.d")])),
        _ => {}
    }
    sh(&["tar", "--sort=name", "-C", &stage, "-cf", &tar, &inside]);
    let append = |transform: &str, what: &str| {
        drop(sh(&["tar", "-C", &stage, "-P", "--transform", transform, "-rf", &tar, what]));
    };
    match change {
        "climb" => append("s,^more$,../more,", "more"),
        "root" => append("s,^more$,/tmp/more,", "more"),
        "twice" => append("s,^x$,x,", &format!("{inside}/gitleaks")),
        "text" => drop(world.write("tar", &"no archive ".repeat(200))),
        _ => {}
    }
    let file = world.path(&format!("mirror/release/{name}.tar.zst")).display().to_string();
    match change {
        "plain" => sh(&["cp", &tar, &file]),
        _ => sh(&["zstd", "--quiet", "--force", &tar, "-o", &file]),
    };
}

/// What happens to the release when its sums are known.
fn afterwards(world: &World, name: &str, change: &str) {
    let (file, sums) = (world.path(&format!("mirror/release/{name}.tar.zst")), world.path("mirror/release/SHA256SUMS"));
    let mut bytes = std::fs::read(&file).expect("the archive");
    let line = std::fs::read_to_string(&sums).expect("the sums");
    let half = bytes.len() / 2;
    match change {
        "flip" => bytes[half] ^= 1,
        "truncate" => bytes.truncate(half),
        "empty" => bytes.clear(),
        "program" => {
            let path = world.path(&format!("stage/{name}/bottle-runner"));
            let text = std::fs::read_to_string(&path).expect("a program").replace("echo", "ech0");
            std::fs::write(path, text).expect("a program");
            let pack = format!("tar --sort=name -C \"$1\" -c {name} | zstd -q");
            let stage = world.path("stage").display().to_string();
            let output = Command::new("sh").args(["-c", &pack, "pack", &stage]).output().expect("sh");
            bytes = output.stdout;
        }
        "remove-sums" => std::fs::remove_file(&sums).expect("removed"),
        "spoil-sums" => std::fs::write(&sums, line.replacen(|c: char| c.is_ascii_hexdigit(), "x", 1)).expect("written"),
        "double-sums" => std::fs::write(&sums, line.repeat(2)).expect("written"),
        _ => {}
    }
    std::fs::write(&file, bytes).expect("the archive");
    if change == "remove" {
        std::fs::remove_file(&file).expect("removed");
    }
}

fn judge(case: &Case) {
    let step = Step::new(case);
    let (code, said, program) = step.run(case, &[]);
    let Some(says) = &case.says else {
        assert_eq!(code, Some(0), "{}: {said}", case.name);
        let program = program.expect("a program");
        assert!(program.ends_with(&format!("/{}/bottle-runner", step.name)), "{}: {program}", case.name);
        let beside = |name: &&str| std::path::Path::new(&program).with_file_name(name).is_file();
        assert!(MEMBERS.iter().all(beside), "{}: {program}", case.name);
        assert_eq!(step.lines("verified").len(), case.verified, "{}", case.name);
        return;
    };
    let file = format!("{}.tar.zst", step.name);
    let says = says.replace("FILE", &file).replace("NAME", &step.name).replace("URL", &step.url);
    assert_eq!((code, program), (Some(4), None), "{}: {said}", case.name);
    assert!(said.contains(&says), "{}: no `{says}` in {said}", case.name);
    assert!(said.contains("::error title=claude-bottle::") && said.contains("%0Ahelp: "), "{}: {said}", case.name);
    // Nothing of it is run but to ask for the version of what is known.
    let ran = step.lines("ran");
    let may = matches!(case.change.as_deref(), Some("version"));
    assert!(
        ran.len() == usize::from(may) && ran.iter().all(|line| line.ends_with("--version")),
        "{}: {ran:?}",
        case.name
    );
    // Nor is anything of it left.
    assert_eq!(std::fs::read_dir(step.world.path("temp")).expect("a directory").count(), 0, "{}", case.name);
    if case.after.is_some() || !case.signed {
        assert!(!step.cached().exists(), "{}: it is in the tool cache", case.name);
    }
    assert!(!std::path::Path::new("/tmp/more").exists(), "{}: it has left its directory", case.name);
}

#[test]
fn a_changed_byte_is_refused_and_named() {
    let cases: Cases = toml::from_str(include_str!("action.toml")).expect("the cases");
    assert!(cases.case.iter().filter(|case| case.says.is_some()).count() >= 20);
    judge_all(&cases.case, 4, judge);
}

#[test]
fn the_tool_cache_saves_the_download_and_is_not_believed() {
    let case = Case::named("the release as it is");
    let step = Step::new(&case);
    let (code, said, _) = step.run(&case, &[]);
    assert_eq!(code, Some(0), "{said}");
    let whole = std::fs::read(step.cached()).expect("the cached archive");
    assert_eq!(step.run(&case, &[]).0, Some(0));
    assert_eq!(step.lines("asked").len(), 1, "it is in the tool cache");
    let verified = step.lines("verified");
    let ending = " --repo claude-bottle/claude-bottle --deny-self-hosted-runners";
    assert!(verified.len() == 2 && verified.iter().all(|line| line.ends_with(ending)), "{verified:?}");
    // What somebody put there instead is not run, and goes.
    let mut changed = whole.clone();
    changed[9] ^= 1;
    std::fs::write(step.cached(), changed).expect("written");
    assert_eq!(step.run(&case, &[]).0, Some(0));
    assert_eq!(step.lines("asked").len(), 2);
    assert_eq!(std::fs::read(step.cached()).expect("the cached archive"), whole);
}

#[test]
fn an_input_that_is_none_is_refused_before_anything_is_asked() {
    let case = Case::named("the release as it is");
    let step = Step::new(&case);
    for (input, value, says) in [
        ("INPUT_VERSION", "v0.1.0/../../..", "version is not one"),
        ("INPUT_SHA256", "$(touch x)", "sha256 is not one"),
        ("INPUT_BACKEND", "lxc", "backend is not one"),
        ("INPUT_DOWNLOAD_URL", "http://127.0.0.1/release", "download-url is not an https address"),
        ("INPUT_DOWNLOAD_URL", "file:///srv/release", "download-url is not an https address"),
        ("INPUT_RUNNER_BINARY", "nowhere", "runner-binary is not there"),
    ] {
        let (code, said, program) = step.run(&case, &[(input, value)]);
        assert_eq!((code, program), (Some(4), None), "{input}={value}: {said}");
        assert!(said.contains(says), "{input}={value}: {said}");
    }
    assert!(step.lines("asked").is_empty());
    let (code, said, _) = step.run(&case, &[("INPUT_VERSION", "v9.9.9")]);
    assert!(code == Some(4) && said.contains("SHA256SUMS of v9.9.9 does not name"), "{said}");
    let (code, said, _) = step.run(&case, &[("INPUT_IMAGES", "nowhere.tar")]);
    assert!(code == Some(4) && said.contains("images is not a file on this machine"), "{said}");
}

#[test]
fn a_program_of_one_s_own_must_be_there_and_one() {
    let case = Case::named("the release as it is");
    let step = Step::new(&case);
    let own = step.world.write("own", "#!/bin/sh\n").display().to_string();
    assert!(step.run(&case, &[("INPUT_RUNNER_BINARY", &own)]).1.contains("can't be executed"));
    sh(&["chmod", "0755", &own]);
    assert_eq!(step.run(&case, &[("INPUT_RUNNER_BINARY", &own)]).2, Some(own));
    assert!(step.lines("asked").is_empty());
}

/// npm's package is pinned by the sum of the program in it.
#[test]
fn another_claude_code_is_not_taken() {
    let case = Case::named("the release as it is");
    let step = Step::new(&case);
    let at = |name: &str| step.world.path(name).display().to_string();
    step.world.write("npm/package/claude", "another program\n");
    let npm = format!("#!/bin/sh\necho \"$@\" >> {}\ntar -czf x.tgz -C {} package\n", at("fetched"), at("npm"));
    step.world.write("bin/npm", &npm);
    sh(&["chmod", "0755", &at("bin/npm")]);
    let (code, said, program) = step.run(&case, &[("INPUT_BACKEND", "bubblewrap")]);
    assert_eq!((code, program), (Some(4), None), "{said}");
    assert!(
        said.contains("is not the one that is pinned") && said.contains("@anthropic-ai/claude-code-linux-"),
        "{said}"
    );
    assert_eq!(step.lines("fetched").len(), 1);
    // One that the machine has is the machine's own choice, and Docker's guest brings one.
    for inputs in
        [[("INPUT_BACKEND", "bubblewrap"), ("BOTTLE_CLAUDE", "/opt/claude")], [("INPUT_BACKEND", "auto"), ("A", "b")]]
    {
        assert_eq!(step.run(&case, &inputs).0, Some(0));
    }
    assert_eq!(step.lines("fetched").len(), 1);
}

/// `cargo binstall` looks for the archive that the release has.
#[test]
fn cargo_binstall_finds_the_archive() {
    let name = format!("claude-bottle-v0.1.0-{}", std::env::consts::ARCH);
    for path in ["Cargo.toml", "crates/bottle-link/Cargo.toml", "crates/bottle-sidecars/Cargo.toml"] {
        let text = std::fs::read_to_string(format!("{ROOT}/{path}")).expect("a manifest");
        let manifest: toml::Table = toml::from_str(&text).expect("TOML");
        let binstall = &manifest["package"]["metadata"]["binstall"];
        let filled = |key: &str| {
            let text = binstall[key].as_str().expect("a text");
            text.replace("{ version }", "0.1.0").replace("{ target-arch }", std::env::consts::ARCH)
        };
        assert!(filled("pkg-url").ends_with(&format!("/download/v0.1.0/{name}.tar.zst")), "{path}");
        assert_eq!(filled("bin-dir"), format!("{name}/{{ bin }}{{ binary-ext }}"), "{path}");
        let program = manifest["package"]["name"].as_str().expect("a name");
        assert!(MEMBERS.contains(&program) && filled("pkg-fmt") == "tzstd", "{path}");
    }
}

/// Only what the commit names is published.
#[test]
fn a_build_that_gives_other_bytes_is_no_release() {
    let world = World::new(RUNNER);
    let run = |script: &str, args: &[&str]| {
        let mut command = Command::new(format!("{ROOT}/scripts/release/{script}"));
        world.clean(&mut command);
        command.args(args).env("RELEASE_SUMS", world.path("pinned")).env("CLAUDE_BOTTLE_CACHE", world.path("cache"));
        let output = command.output().expect("the script");
        (output.status.success(), said(&output))
    };
    let version = env!("CARGO_PKG_VERSION");
    for name in ["x86_64.tar.zst", "aarch64.tar.zst", "x86_64.deb", "x86_64.cdx.json"] {
        world.write(&format!("packed/claude-bottle-v{version}-{name}"), name);
    }
    let packed = world.path("packed").display().to_string();
    let (done, text) = run("sums", &["write", &packed]);
    assert!(done, "{text}");
    let names = |path: &str| std::fs::read_to_string(world.path(path)).expect("sums").lines().count();
    assert_eq!((names("pinned"), names("packed/SHA256SUMS")), (3, 4));
    assert!(run("sums", &["check", &packed]).0);
    world.write(&format!("packed/claude-bottle-v{version}-x86_64.deb"), "other bytes");
    assert!(!run("sums", &["check", &packed]).0);
    world.write(&format!("packed/claude-bottle-v{version}-x86_64.deb"), "x86_64.deb");
    world.write(&format!("packed/claude-bottle-v{version}-aarch64.tar.zst"), "other bytes");
    let (done, text) = run("sums", &["check", &packed]);
    assert!(!done && text.contains("these archives are not those of scripts/action/SHA256SUMS"), "{text}");
    world.write("empty/claude-bottle-v9.9.9-x86_64.tar.zst", "another version");
    let (done, text) = run("sums", &["write", &world.path("empty").display().to_string()]);
    assert!(!done && text.contains(&format!("has no file of version {version}")), "{text}");
    let (done, text) = run("check", &["v9.9.9"]);
    assert!(
        !done && text.contains(&format!("the tag is v9.9.9, and the version in Cargo.toml is {version}")),
        "{text}"
    );
}

/// Another compiler gives other bytes, and the release would be refused by its own sums.
#[test]
fn the_release_is_built_by_one_compiler() {
    let read = |name: &str| std::fs::read_to_string(format!("{ROOT}/{name}")).expect("a file");
    let scripts = read("scripts/lib/release.sh");
    let rust = scripts.lines().find_map(|line| line.strip_prefix("RELEASE_RUST=")).expect("a version");
    for workflow in [".github/workflows/ci.yml", ".github/workflows/release.yml", ".gitea/workflows/release.yml"] {
        let text = read(workflow);
        let named: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("RUSTUP_TOOLCHAIN: ")).collect();
        assert!(!named.is_empty() && named.iter().all(|name| *name == rust), "{workflow}: {named:?}");
    }
    // Another compiler needs other instructions, too.
    let counts: toml::Table = toml::from_str(&read("scripts/bench.d/instructions.toml")).expect("TOML");
    let counted_with = counts["toolchain"]["rustc"].as_str().expect("a version");
    assert_eq!(counted_with.split(' ').next(), Some(rust), "scripts/bench instructions --update");
}

/// Owner of action, release and images: one name, which `Cargo.toml` has.
#[test]
fn the_release_is_where_the_manifest_says() {
    let read = |name: &str| std::fs::read_to_string(format!("{ROOT}/{name}")).expect("a file");
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).expect("TOML");
    let repository = manifest["workspace"]["package"]["repository"].as_str().expect("an address").to_owned();
    let place = repository.strip_prefix("https://github.com/").expect("a place at GitHub");
    assert!(read("scripts/action/get").contains(&format!("\nOWNER={place}\n")));
    let version = manifest["workspace"]["package"]["version"].as_str().expect("a version");
    assert!(read("action.yml").contains(&format!("    default: v{version}\n")));
    let owner = place.split_once('/').expect("an owner").0;
    let images = read("scripts/lib/images.sh");
    assert!(images.contains(&format!("echo \"ghcr.io/{owner}/$1:v1\"")), "{images}");
    assert!(read("crates/bottle-plan/src/plan/types.rs").contains(&format!("\"ghcr.io/{owner}/agent:v1\"")));
}
