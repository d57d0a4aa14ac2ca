//! `docs/guide/actions.md`, followed: its files are written, its commands run, its words set off the job.

use bottle_testkit::{said, sh};
use serde_json::json;

use super::actions::comment;
use super::stage::Stage;

const GUIDE: &str = include_str!("../../../docs/guide/actions.md");

/// The fenced blocks of a section, each with what stands behind its language.
fn blocks(section: &str) -> Vec<(String, String)> {
    let (_, text) = GUIDE.split_once(&format!("\n## {section}\n")).expect("the section");
    let text = text.split("\n## ").next().expect("the section");
    let mut blocks = vec![];
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.trim().strip_prefix("```") else { continue };
        let indent = line.len() - line.trim_start().len();
        let inside = lines.by_ref().take_while(|line| line.trim() != "```");
        let body: Vec<&str> = inside.map(|line| line.get(indent..).unwrap_or_default()).collect();
        blocks.push((kind.to_owned(), body.join("\n") + "\n"));
    }
    blocks
}

fn block(section: &str, kind: &str) -> String {
    let found: Vec<String> = blocks(section).into_iter().filter(|(at, _)| at == kind).map(|(_, body)| body).collect();
    assert_eq!(found.len(), 1, "one `{kind}` in {section}");
    found.into_iter().next().expect("one")
}

fn follow(kind: &'static str, section: &str, workflows: &str) {
    let cassette =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/cassette.yml")).expect("the cassette");
    let stage = Stage::bare(kind, &cassette, json!({}));
    let (job, checkout) = (&stage.job, stage.job.checkout.display().to_string());
    sh(&["ln", "-s", env!("CARGO_MANIFEST_DIR"), &job.world.path("claude-bottle").display().to_string()]);

    // 1. The manifest. Only where the repository is can't be as it says: no forge is here whose https a bottle could reach by name.
    let manifest = block("GitHub", "yaml file=claude-bottle.yml");
    let git = format!("    git:\n{}agents:\n", job.upstream.manifest_entry());
    std::fs::write(job.checkout.join("claude-bottle.yml"), manifest.replacen("agents:\n", &git, 1))
        .expect("the manifest");

    // 2. The commands. The push goes by the road that this test has to its upstream.
    let commands = block(section, "sh");
    let pushed = job.upstream.reach(&job.world);
    let script = format!("set -e\ncd '{checkout}'\n{commands}");
    let output = std::process::Command::new("sh").args(["-c", &script]).envs(pushed).output().expect("sh");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(job.upstream.git(&["log", "-1", "--format=%s", "main"]), "Let claude-bottle work on issues");

    // 4. The comment. Our program stands for the release's, and a cassette for the model.
    let workflow = format!("{workflows}/claude-comment.yml");
    stage.fit(&workflow);
    let words = block(section, "text comment");
    let output = stage.act_on(&workflow, "issue_comment", &comment("octo-maintainer", 5_550_108, &words));
    assert!(output.status.success(), "{}", said(&output));
    let state = stage.double.state();
    assert_eq!(state["pulls"].as_array().map_or(0, Vec::len), 1, "{}", said(&output));
    let status = state["comments"][0]["body"].as_str().expect("a comment");
    assert!(status.contains("- [x] publish") && status.contains("pull request ["), "{status}");
    stage.double.assert_valid();
    let output = stage.act_on(&workflow, "issue_comment", &comment("octo-reader", 5_550_107, &words));
    assert!(output.status.success() && said(&output).contains("write is needed"), "{}", said(&output));
    job.nothing_left();
}

#[test]
fn the_guide_for_github_works_as_it_stands() {
    follow("github", "GitHub", ".github/workflows");
}

#[test]
fn the_guide_for_gitea_works_as_it_stands() {
    follow("gitea", "Gitea and Forgejo", ".gitea/workflows");
}
