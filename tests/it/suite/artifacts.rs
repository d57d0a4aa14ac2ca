//! What `artifacts` takes out of the workspace, and what it leaves in the bottle whatever the agent has made there.

use std::path::Path;

use bottle_testkit::{commands, said};

use super::MINUTES;
use crate::job::{Job, ended_with, manifest};

/// Beside what is wanted: links, git's own files, an archive that nobody can look into, secrets, one file too large and one too many.
/// The tokens are made up in the guest, so that nothing else of the run has them.
const MAKING: &str = r#"printf 'out\nelsewhere\nroot\n' >> .git/info/exclude; mkdir -p out/deep out/.git out/zip && cd out
printf 'lines: 80 %%\n' > deep/coverage.txt; printf '\211PNG\r\n\032\n' > picture.png; head -c 2000 /dev/urandom >> picture.png
ln -s /etc/passwd link.txt; ln -s /etc etc; ln -s deep/coverage.txt inside.txt; mkfifo pipe; echo '[core]' > .git/config
printf '7z\274\257\047\034\0\4 and more' > zip/archive.7z
printf 'key = ghp_%s\n' "$(head -c 4000 /dev/urandom | tr -dc A-Za-z0-9 | head -c 36)" > token.txt
gzip -c token.txt > token.gz; base64 token.txt > token.b64
printf 'x' > Picture.PNG; printf 'x' > 'a:b'; printf 'x' > "$(printf 'new\nline')"
head -c 2000000 /dev/zero > large.bin; cd ..; ln -s out elsewhere; ln -s / root; echo x > not-named.txt"#;

fn taken(dir: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    let relative = |path: &std::path::PathBuf| path.strip_prefix(dir).expect("below").display().to_string();
    let mut found: Vec<String> = found.iter().map(relative).collect();
    found.sort();
    found
}

fn job(making: &str, artifacts: &str) -> Job {
    Job::with_manifest(&commands(&[making]), |upstream| {
        let wanted = format!("    artifacts: {artifacts}\n    verify: [\"echo made > out/by-verify.txt\", \"false\"]");
        manifest(upstream).replace("    verify: [\"python3 -m unittest\"]", &wanted)
    })
}

shared!(artifacts_are_taken_and_nothing_else_comes_along: docker, bubblewrap, smolmachines: MINUTES);
fn artifacts_are_taken_and_nothing_else_comes_along() {
    let paths = r#"{ paths: ["out/**", "elsewhere/**", "root/etc/*", "out/deep/coverage.txt", "nothing/**"], max_bytes: 1MiB }"#;
    let job = job(MAKING, paths);
    let output = job.run();
    // What verify found wrong is no reason to have no pictures of it.
    ended_with(&output, 1);
    let kept = job.world.record().join("artifacts");
    let found = taken(&kept);
    assert_eq!(found.iter().filter(|path| path.to_lowercase() == "out/picture.png").count(), 1, "{found:?}");
    let others: Vec<&str> =
        found.iter().map(String::as_str).filter(|path| path.to_lowercase() != "out/picture.png").collect();
    assert_eq!(others, ["out/by-verify.txt", "out/deep/coverage.txt"], "{}", said(&output));
    assert_eq!(std::fs::read(kept.join("out/deep/coverage.txt")).expect("a file"), b"lines: 80 %\n");
    let said = said(&output);
    for (path, why) in [
        ("out/token.txt", "found a secret in it"),
        ("out/token.gz", "found a secret in it"),
        ("out/token.b64", "found a secret in it"),
        ("out/zip/archive.7z", "it is an archive that can't be looked into"),
        ("out/large.bin", "with it the artifacts are larger than `artifacts.max_bytes` (1MiB)"),
        ("out/a:b", "not every file system can have this name"),
    ] {
        let line =
            said.lines().find(|line| line.contains(path)).unwrap_or_else(|| panic!("{path} is not named:\n{said}"));
        assert!(line.contains(why), "{line}");
    }
    assert!(said.contains("artifacts: 3 files"), "{said}");
    job.nothing_left();
}

shared!(so_many_artifacts_are_taken_as_the_manifest_says: docker, bubblewrap, smolmachines: MINUTES);
fn so_many_artifacts_are_taken_as_the_manifest_says() {
    let making = "echo out >> .git/info/exclude && mkdir out && for n in $(seq 100 139); do echo $n > out/$n.txt; done";
    let job = job(making, r#"{ paths: ["out/1*"], max: 7 }"#);
    let output = job.run();
    ended_with(&output, 1);
    let expected: Vec<String> = (100..107).map(|n| format!("out/{n}.txt")).collect();
    assert_eq!(taken(&job.world.record().join("artifacts")), expected);
    assert!(
        said(&output).contains("artifacts: 33 more files are named than `artifacts.max` (7) allows"),
        "{}",
        said(&output)
    );
    job.nothing_left();
}
