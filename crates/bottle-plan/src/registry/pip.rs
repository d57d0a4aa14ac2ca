//! pip: `pip config list`, the default that its help names, and where a package that it looks up would come from.

use super::{NoAnswer, Registries, RegistryUrl, Role, ToolAnswer};

/// What pip's help says before its default index.
const DEFAULT: &str = "Base URL of the Python Package Index (default ";

/// Reads `pip config list`, `pip download --help`, and `pip install --dry-run --report -` of some package; the last may
/// have failed, with what it said.
pub fn read(list: &str, help: &str, report: Result<&str, &str>) -> ToolAnswer {
    let mut all = Registries::default();
    let Configured { index, extra, links } = configured(list);
    let is_configured = index.is_some();
    let index = index.or_else(|| Some((default(help)?, "pip's default, as its help says".to_owned())));
    let Some((index, from)) = index else {
        return Err(NoAnswer::new(
            "pip on this host names no index: neither its configuration nor its help does",
            "set one: pip config set global.index-url URL",
        ));
    };
    all.add(&index, &from, Role::Main);
    for (url, from) in &extra {
        all.add(url, from, Role::Named(String::new()));
    }
    for (url, from) in &links {
        all.add(url, from, Role::Files);
    }
    match report.map_err(str::to_owned).and_then(file_of) {
        Ok(file) => add_files(&mut all, &file, &index),
        // A company's index may have no such package; its files are beside it then, as far as anybody knows.
        Err(why) if is_configured => {
            let why = why.lines().next_back().unwrap_or_default();
            all.left_out.push(super::without_userinfo(&format!(
                "where the index keeps its files was not to be had from pip ({why}): only what is beside the index can be read"
            )));
        }
        Err(why) => {
            return Err(NoAnswer::new(
                format!(
                    "pip on this host can't say where its index keeps the files: {}",
                    why.lines().next_back().unwrap_or("no answer")
                ),
                "see why `pip install --dry-run --ignore-installed --no-deps --report - pip` fails (pip must be 22.2 or newer)",
            ));
        }
    }
    all.or_nothing("pip", "see what `pip config list` says")
}

/// The addresses of pip's configuration, each with where it stands.
#[derive(Default)]
struct Configured {
    index: Option<(String, String)>,
    extra: Vec<(String, String)>,
    links: Vec<(String, String)>,
}

/// Reads `pip config list`: files first, then what is for one command, then the environment. The last index is in force.
fn configured(list: &str) -> Configured {
    let mut found = Configured::default();
    for line in list.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let (section, name) = key.trim().rsplit_once('.').unwrap_or(("", key.trim()));
        let value = value.trim().trim_matches(['\'', '"']);
        // pip prints a value of several lines with their ends written out.
        let words = || value.split("\\n").flat_map(str::split_whitespace).map(str::to_owned);
        if !matches!(section, "global" | "install" | "download" | ":env:") {
            continue;
        }
        let from = match section {
            ":env:" => format!("PIP_{}", name.to_uppercase().replace('-', "_")),
            _ => format!("pip config `{section}.{name}`"),
        };
        match name {
            "index-url" => found.index = words().next().map(|url| (url, from)),
            "extra-index-url" => found.extra.extend(words().map(|url| (url, from.clone()))),
            "find-links" => {
                found.links.extend(words().filter(|url| url.contains("://")).map(|url| (url, from.clone())));
            }
            _ => {}
        }
    }
    found
}

/// The address of the package's file, from pip's report of an installation.
fn file_of(report: &str) -> Result<String, String> {
    let report: serde_json::Value = serde_json::from_str(report).map_err(|error| error.to_string())?;
    let url = report.pointer("/install/0/download_info/url").and_then(|url| url.as_str()).map(str::to_owned);
    url.ok_or_else(|| "the report names no file".to_owned())
}

/// Adds where the index keeps its files, by the address of one, unless another address covers it.
fn add_files(all: &mut Registries, file: &str, index: &str) {
    let file = file.split('#').next().unwrap_or_default();
    let from = format!("where {} keeps its files", host_of(index));
    match RegistryUrl::parse(file) {
        Ok(url) if all.found.iter().any(|one| one.url.parent_of("/simple").covers(&url)) => {}
        Ok(url) => {
            // Files are sorted by hash below a directory.
            let first = url.path.split('/').nth(1).filter(|_| url.path.matches('/').count() > 1);
            let path = first.map_or_else(|| "/".to_owned(), |first| format!("/{first}/"));
            all.add(&RegistryUrl { path, ..url }.to_string(), &from, Role::Files);
        }
        Err(problem) => all.left_out.push(format!("{from}: {problem}")),
    }
}

fn default(help: &str) -> Option<String> {
    // The help is wrapped at the terminal's width.
    let text: Vec<&str> = help.split_whitespace().collect();
    let text = text.join(" ");
    let (_, rest) = text.split_once(DEFAULT)?;
    Some(rest.split_once(')')?.0.replace(' ', ""))
}

fn host_of(url: &str) -> String {
    RegistryUrl::parse(url).map_or_else(|_| "the index".to_owned(), |url| url.host.to_string())
}
