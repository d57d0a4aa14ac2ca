//! The action's first step: where it takes bottle-runner from, and what it refuses. What a release would give is copied by a
//! stand-in for curl: there is no release yet, and no network to it.

use std::process::Command;

use crate::world::{World, said, sh};

const RELEASE: &str = "https://github.com/claude-bottle/claude-bottle/releases/download/v0.1.0/";

struct Step {
    world: World,
}

impl Step {
    /// With this program as the release's, and these sums.
    fn new(program: &str, sums: impl Fn(&str) -> String) -> Self {
        let world = World::new();
        let name = format!("bottle-runner-{}-unknown-linux-gnu", std::env::consts::ARCH);
        let path = world.write(&format!("release/{name}"), program);
        let sum = sh(&["sha256sum", &path.display().to_string()]);
        world.write("release/SHA256SUMS", &format!("{}  {name}\n", sums(sum.split(' ').next().expect("a sum"))));
        // The real curl's own parser sees the arguments first: it would end with 2 for one that it does not know.
        let curl = sh(&["sh", "-c", "command -v curl"]);
        world.write(
            "bin/curl",
            &format!(
                "#!/bin/bash\n{curl} \"${{@:1:$#-1}}\" --proto =file file:///dev/null 2>/dev/null; [ $? != 2 ] || exit 2\nwhile [ $# -gt 1 ]; do case $1 in --output) out=$2; shift 2;; *) shift;; esac; done\n\
                 echo \"$1\" >> {0}/asked\ncp \"{0}/release/${{1#{RELEASE}}}\" \"$out\"\n",
                world.path("").display()
            ),
        );
        // Says yes, until a test says otherwise; what it is asked is kept.
        let gh = "#!/bin/sh\nprintf '%s\\n' \"$*\" >> ROOT/verified\n[ ! -e ROOT/unsigned ] || { echo 'no attestations found' >&2; exit 1; }\n";
        world.write("bin/gh", &gh.replace("ROOT", &world.path("").display().to_string()));
        for name in ["bin/curl", "bin/gh"] {
            sh(&["chmod", "0755", &world.path(name).display().to_string()]);
        }
        std::fs::create_dir_all(world.path("temp")).expect("a directory");
        Self { world }
    }

    /// Runs it; the exit code, what it said, and the program that it named.
    fn run(&self, binary: &str, version: &str, sum: &str) -> (Option<i32>, String, Option<String>) {
        let mut command = Command::new("bash");
        self.world.clean(&mut command);
        let _ = std::fs::remove_file(self.world.path("outputs"));
        let path = format!("{}:{}", self.world.path("bin").display(), std::env::var("PATH").expect("a path"));
        let output = command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/action/get"))
            .env("PATH", path)
            .env("GITHUB_OUTPUT", self.world.path("outputs"))
            .env("RUNNER_TEMP", self.world.path("temp"))
            .env("RUNNER_TOOL_CACHE", self.world.path("tools"))
            .env("INPUT_RUNNER_BINARY", binary)
            .env("INPUT_VERSION", version)
            .env("INPUT_SHA256", sum)
            .output()
            .expect("bash");
        let named = std::fs::read_to_string(self.world.path("outputs")).ok();
        let program = named.and_then(|text| Some(text.trim().strip_prefix("program=")?.to_owned()));
        (output.status.code(), said(&output), program)
    }

    fn asked(&self) -> usize {
        self.lines("asked").len()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.world.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_release_s_program_is_the_one_of_its_checksum() {
    let step = Step::new("the program", str::to_owned);
    let (code, said, program) = step.run("", "v0.1.0", "");
    assert_eq!(code, Some(0), "{said}");
    let program = program.expect("a program");
    assert_eq!(std::fs::read_to_string(&program).expect("the program"), "the program");
    assert_eq!(step.asked(), 2);
    let verified = step.lines("verified");
    let ending = " --repo claude-bottle/claude-bottle --deny-self-hosted-runners";
    assert!(
        verified.len() == 1 && verified[0].starts_with("attestation verify /") && verified[0].ends_with(ending),
        "{verified:?}"
    );
    // From the tool cache it is verified as well.
    assert_eq!(step.run("", "v0.1.0", "").0, Some(0));
    assert_eq!(step.lines("verified").get(1), Some(&format!("attestation verify {program}{ending}")));
    assert_eq!(step.asked(), 3);
    std::fs::remove_file(step.world.path("asked")).expect("the list");
    // With a checksum of one's own nothing is asked again: it is in the tool cache.
    let sum = sh(&["sha256sum", &program]);
    let sum = sum.split(' ').next().expect("a sum").to_owned();
    assert_eq!(step.run("", "v0.1.0", &sum).0, Some(0));
    assert_eq!((step.asked(), step.lines("verified").len()), (0, 2), "who pins it has vouched for it");
    // What somebody put there instead is not run.
    std::fs::write(&program, "another").expect("written");
    assert_eq!(step.run("", "v0.1.0", &sum).0, Some(0));
    assert_eq!((step.asked(), std::fs::read_to_string(&program).expect("the program").as_str()), (1, "the program"));
}

#[test]
fn a_program_that_nobody_has_built_is_not_run() {
    let step = Step::new("the program", str::to_owned);
    step.world.write("unsigned", "");
    let (code, said, program) = step.run("", "v0.1.0", "");
    assert_eq!((code, program), (Some(4), None), "{said}");
    assert!(said.contains("has no attestation of its release") && said.contains("no attestations found"), "{said}");
    assert!(!step.world.path("tools").join("claude-bottle/v0.1.0").exists(), "something is in the tool cache");
}

#[test]
fn another_program_is_not_run() {
    let wrong = "0".repeat(64);
    for (step, version, sum, says) in [
        (Step::new("the program", |_| "0".repeat(64)), "v0.1.0", "", "is not what its checksum says"),
        (Step::new("the program", str::to_owned), "v0.1.0", wrong.as_str(), "is not what its checksum says"),
        (Step::new("the program", |_| "x".to_owned()), "v0.1.0", "", "does not name"),
        (Step::new("the program", str::to_owned), "v0.1.0/../../..", "", "version is not one"),
        (Step::new("the program", str::to_owned), "v0.1.0", "$(touch x)", "sha256 is not one"),
        (Step::new("the program", str::to_owned), "v9.9.9", wrong.as_str(), "failed to download"),
    ] {
        let (code, said, program) = step.run("", version, sum);
        assert_eq!((code, program), (Some(4), None), "{said}");
        assert!(said.contains(says) && said.contains("::error title=claude-bottle::"), "{said}");
        assert!(
            !step.world.path("tools").join("claude-bottle/v0.1.0").exists(),
            "{says}: something is in the tool cache"
        );
    }
}

#[test]
fn a_program_of_one_s_own_must_be_there_and_one() {
    let step = Step::new("", str::to_owned);
    let own = step.world.write("own", "#!/bin/sh\n");
    assert!(step.run("nowhere", "v0.1.0", "").1.contains("runner-binary is not there"));
    assert!(step.run(&own.display().to_string(), "v0.1.0", "").1.contains("can't be executed"));
    sh(&["chmod", "0755", &own.display().to_string()]);
    assert_eq!(step.run(&own.display().to_string(), "v0.1.0", "").2, Some(own.display().to_string()));
    assert_eq!(step.asked(), 0);
}
