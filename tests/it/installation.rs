//! The Debian package of a release, made of the programs under test, and `bottle-runner self check` of what it installs: the cases of
//! `installation.toml`.

use std::path::{Path, PathBuf};
use std::process::Command;

use bottle_testkit::{World, judge_all, said, sh};
use serde::Deserialize;
use serde_json::Value;
use xtask::bill::{Bill, Gitleaks};

use crate::RUNNER;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const GITLEAKS: &str = "8.30.1";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// What a shell does in the directory of the programs.
    #[serde(default)]
    change: String,
    bin_dir: Option<String>,
    /// `named`, `cached` or `none` in place of the pinned one.
    claude: Option<String>,
    /// All lines that are not `ok`.
    #[serde(default)]
    says: Vec<String>,
    /// None: 4 where something is said, else 0.
    code: Option<i32>,
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

fn target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The directory of a release's archive: the programs under test without what only a debugger needs, and everything that is packed beside them.
fn archive(world: &World) -> PathBuf {
    let dir = world.path("archive");
    std::fs::create_dir_all(&dir).expect("a directory");
    let built = Path::new(env!("CARGO_BIN_EXE_bottle-runner"));
    for program in ["bottle-runner", "bottle-link", "bottle-sidecars"] {
        sh(&["strip", "-o", &text(&dir.join(program)), &text(&built.with_file_name(program))]);
    }
    let cache = std::env::var("CLAUDE_BOTTLE_CACHE").map(PathBuf::from);
    let cache =
        cache.unwrap_or_else(|_| Path::new(&std::env::var("HOME").expect("a home")).join(".cache/claude-bottle"));
    std::fs::copy(cache.join("bin/gitleaks"), dir.join("gitleaks")).expect("gitleaks");
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        std::fs::copy(format!("{ROOT}/{name}"), dir.join(name)).expect("a licence");
    }
    let licence = std::fs::read_to_string(format!("{ROOT}/scripts/release/gitleaks.LICENSE")).expect("a licence");
    let gitleaks = Gitleaks { version: GITLEAKS, licence: &licence };
    let bill = Bill::read(Path::new(ROOT), &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).expect("the bill");
    std::fs::write(dir.join("sbom.cdx.json"), bill.cyclonedx(&gitleaks, "2026-01-01T00:00:00Z")).expect("written");
    std::fs::write(dir.join("THIRD-PARTY.txt"), bill.licences(&gitleaks).expect("licences")).expect("written");
    sh(&["sh", "-c", &format!("cd {} && sha256sum -- * > ../sums && mv ../sums SHA256SUMS", text(&dir))]);
    dir
}

/// Has `scripts/release/deb` make the package in a directory below the world's.
fn package(world: &World, archive: &Path, out: &str) -> PathBuf {
    let mut command = Command::new(format!("{ROOT}/scripts/release/deb"));
    world.clean(&mut command);
    command.args([&target(), &text(archive), &text(&world.path(out))]);
    let output = command.env("CLAUDE_BOTTLE_CACHE", world.path("cache")).output().expect("the script");
    assert!(output.status.success(), "{}", said(&output));
    world.path(&format!("{out}/claude-bottle-v{VERSION}-{}.deb", std::env::consts::ARCH))
}

/// The archive's directory, the package, and what the package has.
struct Release {
    archive: PathBuf,
    package: PathBuf,
    unpacked: PathBuf,
}

fn check(world: &World, root: &Path) -> Command {
    let mut command = Command::new(root.join("usr/bin/bottle-runner"));
    world.clean(&mut command);
    command.args(["self", "check"]);
    command
}

fn pinned() -> String {
    let pins = std::fs::read_to_string(format!("{ROOT}/scripts/action/claude.sh")).expect("the pins");
    pins.lines().find_map(|line| line.strip_prefix("CLAUDE_VERSION=")).expect("a version").to_owned()
}

fn judge(case: &Case, release: &Release) {
    let world = World::new(RUNNER);
    let root = world.path("root");
    sh(&["cp", "-a", &text(&release.unpacked), &text(&root)]);
    let dir = root.join("usr/lib/claude-bottle");
    sh(&[
        "sh",
        "-c",
        &format!("cd {} && {}", text(&dir), format!("true; {}", case.change).replace("VERSION", VERSION)),
    ]);
    let mut command = check(&world, &root);
    let mut claude = PathBuf::new();
    if let Some(kind) = &case.claude {
        claude = world.path(&match kind.as_str() {
            "cached" => format!("cache/claude/{}/claude", pinned()),
            _ => "other/claude".to_owned(),
        });
        std::fs::create_dir_all(claude.parent().expect("a parent")).expect("a directory");
        std::fs::copy("/bin/true", &claude).expect("a program");
        command.env("CLAUDE_BOTTLE_CACHE", world.path("cache"));
        command.env("PATH", "/usr/bin:/bin");
        if kind == "named" {
            command.env("BOTTLE_CLAUDE", &claude);
        }
    }
    if let Some(other) = &case.bin_dir {
        command.env("BOTTLE_BIN_DIR", dir.join(other).canonicalize().expect("a directory"));
    }
    let output = command.output().expect("the runner");
    let other = dir.with_file_name("other");
    let shown = |line: &str| {
        let line = line.trim_start().replace(&text(&other), "OTHER").replace(&text(&dir), "DIR");
        if claude.as_os_str().is_empty() { line } else { line.replace(&text(&claude), "CLAUDE") }
    };
    let said = said(&output);
    let lines: Vec<String> = said.lines().skip(1).map(shown).filter(|line| !line.starts_with("ok ")).collect();
    let says = case.says.iter().map(|line| line.replace("VERSION", VERSION).replace("PINNED", &pinned()));
    assert_eq!(lines, says.collect::<Vec<_>>(), "{}", case.name);
    let code = case.code.unwrap_or(if case.says.is_empty() { 0 } else { 4 });
    assert_eq!(output.status.code(), Some(code), "{}: {said}", case.name);
}

fn a_changed_installation_is_told_with_the_file(release: &Release) {
    let cases: Cases = toml::from_str(include_str!("installation.toml")).expect("the cases");
    judge_all(&cases.case, 3, |case| judge(case, release));
}

fn the_checks_are_there_as_json(release: &Release) {
    let world = World::new(RUNNER);
    let output = check(&world, &release.unpacked).arg("--json").output().expect("the runner");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert_eq!((&value["schema_version"], &value["usable"]), (&1.into(), &true.into()), "{value}");
    let checks: Vec<&str> =
        value["checks"].as_array().expect("checks").iter().filter_map(|one| one["what"].as_str()).collect();
    for (start, end) in [
        (format!("bottle-runner {VERSION}: "), "/usr/lib/claude-bottle/bottle-runner"),
        (format!("bottle-link {VERSION}: "), "/usr/lib/claude-bottle/bottle-link"),
        (format!("bottle-sidecars {VERSION}: "), "/usr/lib/claude-bottle/bottle-sidecars"),
        (format!("gitleaks {GITLEAKS}: "), "/usr/lib/claude-bottle/gitleaks"),
        ("the 8 files of the release are as ".to_owned(), "/usr/lib/claude-bottle/SHA256SUMS says"),
        (format!("bill of materials of {VERSION}: "), "/usr/lib/claude-bottle/sbom.cdx.json"),
        (format!("Claude Code {}: ", pinned()), "/claude"),
    ] {
        assert!(
            checks.iter().any(|one| one.starts_with(&start) && one.ends_with(end)),
            "no `{start}…{end}` in {checks:#?}"
        );
    }
}

/// With small programs: to pack large ones is minutes of work, and the rehearsal of a release does it.
#[test]
fn a_package_is_the_same_in_every_directory_and_at_every_time() {
    let world = World::new(RUNNER);
    let packages = [("one", "2001-02-03"), ("elsewhere/other", "2011-12-13")].map(|(name, day)| {
        let dir = world.path(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        for program in ["bottle-runner", "bottle-link", "bottle-sidecars", "gitleaks", "SHA256SUMS"] {
            std::fs::write(dir.join(program), "#!/bin/sh\necho \"$@\"\n").expect("a file");
        }
        sh(&["chmod", "755", &text(&dir.join("bottle-runner"))]);
        sh(&["sh", "-c", &format!("touch -d {day} {}/*", text(&dir))]);
        package(&world, &dir, &format!("{name}.packed"))
    });
    sh(&["cmp", &text(&packages[0]), &text(&packages[1])]);
    assert!(sh(&["dpkg-deb", "-c", &text(&packages[0])]).contains("usr/lib/claude-bottle/bottle-sidecars"));
}

fn the_package_installs_and_is_as_the_archive(release: &Release) {
    let world = World::new(RUNNER);
    let listed = sh(&["dpkg-deb", "-c", &text(&release.package)]);
    for line in listed.lines() {
        assert!(line.contains(" root/root "), "{line}");
        assert!(
            ["drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x", "lrwxrwxrwx"].iter().any(|mode| line.starts_with(mode)),
            "{line}"
        );
    }
    for path in [
        "./usr/share/man/man1/bottle-runner.1.gz",
        "./usr/share/bash-completion/completions/bottle-runner",
        "./usr/share/zsh/vendor-completions/_bottle-runner",
        "./usr/share/fish/vendor_completions.d/bottle-runner.fish",
        "./usr/share/doc/claude-bottle/copyright",
        "./usr/share/doc/claude-bottle/changelog.gz",
        "./usr/bin/bottle-runner -> ../lib/claude-bottle/bottle-runner",
    ] {
        assert!(listed.lines().any(|line| line.ends_with(path)), "no {path} in\n{listed}");
    }
    let field = |name: &str| sh(&["dpkg-deb", "-f", &text(&release.package), name]);
    assert_eq!((field("Package"), field("Version")), ("claude-bottle".to_owned(), VERSION.to_owned()));
    assert_eq!(field("Depends"), "git, tar, util-linux");
    // Debian's own tool puts it into another root, and knows its files there.
    let root = world.path("root");
    std::fs::create_dir_all(root.join("var/lib/dpkg/info")).expect("a directory");
    std::fs::create_dir_all(root.join("var/lib/dpkg/updates")).expect("a directory");
    for name in ["status", "available"] {
        std::fs::write(root.join("var/lib/dpkg").join(name), "").expect("a file");
    }
    let dpkg = |args: &[&str]| {
        let root = format!("--root={}", text(&root));
        sh(&[&["dpkg", &root, "--log=/dev/null", "--force-not-root", "--force-depends"], args].concat())
    };
    dpkg(&["--install", &text(&release.package)]);
    assert_eq!(dpkg(&["--verify", "claude-bottle"]), "");
    sh(&["diff", "-r", &text(&release.archive), &text(&root.join("usr/lib/claude-bottle"))]);
    let output = check(&world, &root).output().expect("the runner");
    assert!(output.status.success(), "{}", said(&output));
    std::fs::write(root.join("usr/lib/claude-bottle/gitleaks"), "another").expect("written");
    assert_ne!(check(&world, &root).output().expect("the runner").status.code(), Some(0));
}

/// One test, because the package is made once.
#[test]
fn a_package_installs_and_is_checked() {
    let world = World::new(RUNNER);
    let archive = archive(&world);
    let package = package(&world, &archive, "packed");
    let unpacked = world.path("unpacked");
    sh(&["dpkg-deb", "-x", &text(&package), &text(&unpacked)]);
    let release = Release { archive, package, unpacked };
    the_package_installs_and_is_as_the_archive(&release);
    the_checks_are_there_as_json(&release);
    a_changed_installation_is_told_with_the_file(&release);
}
