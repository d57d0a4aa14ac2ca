//! The pages as a whole: each is in the book, each link leads somewhere, each whole manifest is read, and each message that a page explains
//! is one that the program has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a directory with this ending, as paths from the repository's top.
fn below(dir: &str, ending: &str) -> BTreeSet<PathBuf> {
    let (mut found, mut left) = (BTreeSet::new(), vec![root().join(dir)]);
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|end| end == ending) {
                found.insert(path.strip_prefix(root()).expect("below the top").to_owned());
            }
        }
    }
    found
}

/// What a page has: its headings' anchors, where it leads, and its blocks of code with their language.
#[derive(Default)]
struct Page {
    anchors: BTreeSet<String>,
    links: Vec<String>,
    code: Vec<(String, String)>,
}

/// A heading's anchor, as forges and mdbook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn page(path: &Path) -> Page {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut page, mut heading, mut code) = (Page::default(), None::<String>, None::<(String, String)>);
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                let name = anchor(&heading.take().unwrap_or_default());
                let again = times.entry(name.clone()).or_default();
                page.anchors.insert(if *again == 0 { name } else { format!("{name}-{again}") });
                *again += 1;
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                page.links.push(dest_url.to_string())
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                code = Some((language.to_string(), String::new()))
            }
            Event::End(TagEnd::CodeBlock) => page.code.extend(code.take()),
            Event::Text(text) | Event::Code(text) => {
                heading.iter_mut().for_each(|heading| heading.push_str(&text));
                code.iter_mut().for_each(|(_, code)| code.push_str(&text));
            }
            _ => {}
        }
    }
    page
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => assert!(plain.pop(), "{} leads out of the repository", path.display()),
            part => plain.push(part),
        }
    }
    plain
}

fn pages() -> BTreeMap<PathBuf, Page> {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(PathBuf::from);
    let more = ["docs", "examples", "workflows", "crates"].into_iter().flat_map(|dir| below(dir, "md"));
    top.into_iter().chain(more).map(|path| (path.clone(), page(&path))).collect()
}

#[test]
fn each_page_is_in_the_book_once() {
    let summary = page(Path::new("docs/SUMMARY.md"));
    let listed: Vec<PathBuf> = summary.links.iter().map(|link| Path::new("docs").join(link)).collect();
    let mut there = below("docs", "md");
    there.remove(Path::new("docs/SUMMARY.md"));
    let missing: Vec<_> = there.iter().filter(|path| !listed.contains(path)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {missing:?}");
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "a page is listed twice");
    assert_eq!(listed.len(), there.len(), "a page is listed that is not there");
}

#[test]
fn each_picture_of_a_page_is_made_and_each_that_is_made_is_on_a_page() {
    let text = std::fs::read_to_string(root().join("src/cli/pictures.toml")).expect("the pictures");
    let list: toml::Table = toml::from_str(&text).expect("TOML");
    let list = list["picture"].as_array().expect("a list");
    let made: BTreeSet<&str> = list.iter().map(|picture| picture["name"].as_str().expect("a name")).collect();
    let mut named = BTreeSet::new();
    for path in below("docs", "md") {
        let text = std::fs::read_to_string(root().join(&path)).expect("a page");
        for line in text.lines().filter(|line| line.contains("<!-- picture")) {
            let parts =
                line.strip_prefix("<!-- picture: ").and_then(|line| line.strip_suffix(" -->")?.split_once(": "));
            let (name, shows) = parts.unwrap_or_else(|| panic!("{}: {line}", path.display()));
            assert!(made.contains(name), "{}: nobody makes the picture {name}", path.display());
            assert!(shows.len() > 20, "{}: {name} has no words for those who don't see it", path.display());
            assert!(named.insert(name.to_owned()), "{name} is on two pages");
        }
    }
    assert_eq!(named.iter().map(String::as_str).collect::<BTreeSet<_>>(), made);
}

#[test]
fn each_link_of_a_page_leads_somewhere() {
    let pages = pages();
    let (mut followed, mut wrong) = (0, vec![]);
    for (path, page) in &pages {
        for link in &page.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            let (file, heading) = link.split_once('#').map_or((link.as_str(), None), |(file, at)| (file, Some(at)));
            let target = match file {
                "" => path.clone(),
                file => plain(&path.parent().expect("a directory").join(file)),
            };
            if !root().join(&target).exists() {
                wrong.push(format!("{}: {link} leads to nothing", path.display()));
            } else if let (Some(heading), Some(other)) = (heading, pages.get(&target))
                && !other.anchors.contains(heading)
            {
                wrong.push(format!("{}: {link} leads to no heading", path.display()));
            }
        }
    }
    assert!(wrong.is_empty() && followed > 200, "{followed} links\n{}", wrong.join("\n"));
}

#[test]
fn each_whole_manifest_of_the_book_is_read() {
    let mut read = 0;
    for (path, page) in pages() {
        for (_, text) in page.code.iter().filter(|(language, _)| language == "yaml") {
            if text.starts_with("version: 1\nbottles:") && !text.contains('…') {
                read += 1;
                bottle_plan::manifest::parse(text, "claude-bottle.yml")
                    .unwrap_or_else(|error| panic!("{}: {error}\n{text}", path.display()));
            }
        }
    }
    assert!(read >= 5, "{read} manifests");
}

#[test]
fn each_message_that_is_explained_is_one_of_the_program() {
    let text = std::fs::read_to_string(root().join("docs/guide/what-can-go-wrong.md")).expect("the page");
    let sources: Vec<String> = ["src", "crates"]
        .into_iter()
        .flat_map(|dir| below(dir, "rs"))
        .map(|path| std::fs::read_to_string(root().join(path)).expect("a source"))
        .collect();
    let messages: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(message, _)| message)
        .collect();
    // What stands for `…` is put in by the program.
    let is_there = |message: &str| {
        let parts: Vec<&str> =
            message.split('…').map(|part| part.trim_end_matches(": ")).filter(|part| part.trim().len() > 3).collect();
        !parts.is_empty() && sources.iter().any(|source| parts.iter().all(|part| source.contains(part.trim())))
    };
    let wrong: Vec<_> = messages.iter().filter(|message| !is_there(message)).collect();
    assert!(wrong.is_empty() && messages.len() >= 25, "{} messages, not there: {wrong:#?}", messages.len());
}
