//! Files that an agent hands in: those of the workspace, and nothing else.

use serde_json::{Value, json};

use super::asks::{MAINTAINER, command, comment, job_with};
use crate::job::ended_with;
use crate::place::{Place, on};

const MAKING: &str = "mkdir -p out/deep && printf 'lines: 80 %%\\n' >out/deep/coverage.txt && head -c 3000 /dev/urandom >out/data.bin \
    && ln -s /etc/passwd out/link.txt && ln -s /etc out/etc && mkfifo out/pipe && mkdir out/dir \
    && head -c 2000000 /dev/zero >out/large.bin && : >out/empty";

fn cassette() -> String {
    let hand_in = |path: &str| json!({"name": "mcp__supervise__hand_in_file", "input": {"path": path}});
    let mut turns = vec![json!({"tools": [{"name": "Bash", "input": {"command": MAKING}}]})];
    turns.extend(
        [
            "out/deep/coverage.txt",
            "out/data.bin",
            "out/empty",
            "out/link.txt",
            "out/etc/hosts",
            "out/pipe",
            "out/dir",
            "out/nothing",
            "out/large.bin",
            "../../etc/passwd",
            "textstats.py",
        ]
        .map(|path| json!({"tools": [hand_in(path)]})),
    );
    turns.push(json!({"text": "That is all."}));
    json!({"version": 1, "turns": turns}).to_string()
}

fn files() {
    let (job, double) = job_with("github", &cassette(), json!({}), |rules| {
        let granted = "    bottle: default\n    outputs: { file: { paths: [\"out/**\"], max: 20, max_bytes: 1MiB } }\n";
        rules.replace("    bottle: default\n", granted)
    });
    let event = comment(MAINTAINER, "/claude report", None);
    ended_with(&command(&job, &double, "91", "issue_comment", &event).output().expect("the runner"), 0);
    let slug = job.world.slugs().into_iter().next().expect("a record");
    let kept = job.world.path("state").join(slug).join("files");
    let read = |path: &str| std::fs::read(kept.join(path)).expect(path);
    assert_eq!(read("out/deep/coverage.txt"), b"lines: 80 %\n");
    assert_eq!((read("out/data.bin").len(), read("out/empty").len()), (3000, 0));
    let mut names: Vec<String> = std::fs::read_dir(kept.join("out"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["data.bin", "deep", "empty"]);
    // What the door takes and the runner does not, each with its reason.
    let receipts = job.world.record_file("outputs.jsonl");
    let refused: Vec<String> = receipts
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter_map(|line| line["step"]["refused"]["reason"].as_str().map(str::to_owned))
        .collect();
    let (link, missing) = ("it is a link, or behind one", "there is no such file");
    let large = "with it the files are larger than `outputs.file.max_bytes`";
    assert_eq!(refused, [link, link, missing, missing, missing, large], "{receipts}");
    assert_eq!(job.world.record_file("proposals.jsonl").matches("output_refused").count(), 2);
    double.assert_valid();
    job.nothing_left();
}

#[test]
fn files_of_the_workspace_are_in_the_record_and_no_others() {
    on(Place::Bubblewrap, files);
}
