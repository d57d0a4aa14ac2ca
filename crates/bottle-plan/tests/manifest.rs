//! Good manifests are read; each bad one produces the message that stands beside it.

#![expect(clippy::disallowed_methods, reason = "a test reads its fixtures")]

use std::fs;
use std::path::{Path, PathBuf};

use bottle_plan::manifest::{self, Manifest};
use pretty_assertions::assert_eq;

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "yml" || end == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no fixtures in {}", folder.display());
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn good_manifests_are_read_and_written_back() {
    for path in fixtures("good/manifest") {
        let text = read(&path);
        let manifest =
            manifest::parse(&text, "claude-bottle.yml").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let json = serde_json::to_string(&manifest).expect("JSON");
        let again: Manifest = manifest::parse(&json, "claude-bottle.json").expect("what was written can be read");
        assert_eq!(manifest, again, "{}", path.display());
    }
}

#[test]
fn bad_manifests_get_their_messages() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    for path in fixtures("bad/manifest") {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let error = match manifest::parse(&read(&path), "claude-bottle.yml") {
            Ok(_) => panic!("{name} is accepted"),
            Err(error) => error,
        };
        let mut message = format!("error: {error}\n");
        if let Some(hint) = error.hint() {
            message.push_str(&format!("help: {hint}\n"));
        }
        let expected = path.with_extension("expected");
        if update {
            fs::write(&expected, &message).expect("written");
        }
        assert_eq!(message, read(&expected), "{name}");
    }
}

#[test]
fn a_secret_in_a_manifest_is_refused_unprinted() {
    // Put together here, so that no scanner takes this file for a leak.
    let token = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zC0fLrUiO");
    let text = format!("version: 1\nbottles:\n  default:\n    env:\n      SOME_SETTING: {token}\n");
    let error = manifest::parse(&text, "claude-bottle.yml").expect_err("refused");
    assert_eq!(error.position(), Some((5, 21)));
    assert!(!format!("{error} {:?}", error.hint()).contains(&token));
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/claude-bottle.schema.json");
    let schema = format!("{:#}\n", manifest::schema());
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, &schema).expect("written");
    }
    assert_eq!(schema, read(&path), "run scripts/test with UPDATE_FIXTURES=1 and commit the file");
}

#[test]
fn no_text_is_too_strange() {
    use proptest::prelude::*;
    let good = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/good/manifest/full.yml"));
    proptest!(|(text in "(?s).{0,200}", at in 0..good.len(), cut in 0usize..20)| {
        let _ = manifest::parse(&text, "x");
        // A good one with something else in its middle.
        let start = good.floor_char_boundary(at);
        let end = good.floor_char_boundary((at + cut).min(good.len())).max(start);
        let _ = manifest::parse(&format!("{}{text}{}", &good[..start], &good[end..]), "x");
    });
}
