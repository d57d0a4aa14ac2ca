//! Lists made from the sources as rustfmt writes them: a function or type begins at a line of its own, and a function ends at
//! the first `}` that is indented as its `fn` is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Lists the type names that exist twice or more in the workspace, tests left out, with crate, file and line of each.
///
/// # Errors
/// Says which file could not be read.
pub fn names(root: &Path, with_private: bool) -> Result<String, String> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in sources(root)? {
        for (line, kind, name) in types(&text, with_private) {
            found.entry(name.to_owned()).or_default().push(format!("{kind} in {path}:{line}"));
        }
    }
    let all = found.len();
    found.retain(|_, places| places.len() > 1);
    let mut report = String::new();
    for (name, places) in &found {
        _ = writeln!(report, "{name} ×{}", places.len());
        for place in places {
            _ = writeln!(report, "    {place}");
        }
    }
    let types = if with_private { "type names" } else { "names of pub types" };
    _ = writeln!(report, "{} of {all} {types} exist twice or more", found.len());
    Ok(report)
}

/// Lists the functions above a number of lines, the longest first, tests left out.
///
/// # Errors
/// Says which file could not be read.
pub fn long(root: &Path, above: usize) -> Result<String, String> {
    let mut found = vec![];
    let mut all = 0;
    for (path, text) in sources(root)? {
        for (line, name, lines) in functions(&text) {
            all += 1;
            if lines > above {
                found.push((lines, format!("{path}:{line} {name}")));
            }
        }
    }
    found.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
    let mut report: String = found.iter().map(|(lines, place)| format!("{lines:4} {place}\n")).collect();
    _ = writeln!(report, "{} of {all} functions have more than {above} lines", found.len());
    Ok(report)
}

/// The product's sources by path below the root: `src` and `crates/*/src`, without modules of tests.
fn sources(root: &Path) -> Result<Vec<(String, String)>, String> {
    let mut dirs = vec![root.join("src")];
    for member in entries(&root.join("crates"))? {
        dirs.push(member.join("src"));
    }
    let mut found = vec![];
    while let Some(dir) = dirs.pop() {
        if !dir.is_dir() {
            continue;
        }
        for path in entries(&dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                dirs.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" && !name.ends_with("_tests.rs") {
                let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                let below = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                // A module of tests is the last thing in its file.
                let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
                found.push((below, text));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    fs::read_dir(dir).map_err(failed)?.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}

/// The words of an item's first line behind its visibility and qualifiers, and whether it has a visibility.
fn item(line: &str) -> (bool, Vec<&str>) {
    let mut words = line.split_whitespace().peekable();
    let is_pub = words.next_if(|word| word.starts_with("pub")).is_some();
    while words.next_if(|word| word.ends_with(')') || word.starts_with('"')).is_some() {}
    while words.next_if(|word| ["const", "async", "unsafe", "extern", "\"C\""].contains(word)).is_some() {}
    (is_pub, words.take(2).collect())
}

fn identifier(word: &str) -> &str {
    &word[..word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len())]
}

fn types(text: &str, with_private: bool) -> Vec<(usize, &str, &str)> {
    let mut found = vec![];
    for (index, line) in text.lines().enumerate() {
        let (is_pub, words) = item(line);
        if let [kind, name] = words[..]
            && (is_pub || with_private)
            && ["struct", "enum", "trait", "union", "type"].contains(&kind)
            // An associated type is no name of its own.
            && !(kind == "type" && line.starts_with(' '))
        {
            found.push((index + 1, kind, identifier(name)));
        }
    }
    found
}

fn functions(text: &str) -> Vec<(usize, &str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = vec![];
    for (index, line) in lines.iter().enumerate() {
        let [kind, name] = item(line).1[..] else { continue };
        if kind != "fn" || line.ends_with(';') || line.ends_with('}') {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let Some(length) = lines[index..].iter().position(|line| *line == end) else { continue };
        found.push((index + 1, identifier(name), length + 1));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
pub struct One<T> {
    field: T,
}

enum Two {}

impl Iterator for One<u8> {
    type Item = u8;

    pub(crate) async fn next(
        &mut self,
    ) -> Option<u8> {
        if true {
        }
        None
    }
}

pub(in crate::a) trait Three {
    fn declared(&self);
}

fn one_line() {}
";

    #[test]
    fn types_are_found_by_visibility() {
        let names = |all| types(TEXT, all).into_iter().map(|(_, _, name)| name).collect::<Vec<_>>();
        assert_eq!(names(false), ["One", "Three"]);
        assert_eq!(names(true), ["One", "Two", "Three"]);
    }

    #[test]
    fn functions_are_counted_from_fn_to_their_brace() {
        assert_eq!(functions(TEXT), [(10, "next", 7)]);
    }
}
