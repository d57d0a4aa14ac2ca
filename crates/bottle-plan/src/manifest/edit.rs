//! Adds a rule to a manifest's text where it stands, so that comments and layout stay.
//!
//! What comes out is read again, and counts only if it says exactly what the text said before and the rule that was added.

use bottle_policy::gate::RepoName;
use bottle_policy::route::Route;
use bottle_types::host::HostPattern;

use super::position::YamlTree;
use super::positions::offset;
use super::read::tree;
use super::{BottleEntry, Egress, Manifest, Push, parse};
use crate::registry::Preset;

/// Whose ways out a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The agent's, which the setup has, too.
    Agent,
    /// The setup's alone.
    Setup,
}

impl Part {
    /// Where its `egress` stands in a bottle.
    fn keys(self, key: &'static str) -> Vec<&'static str> {
        match self {
            Self::Agent => vec!["egress", key],
            Self::Setup => vec!["setup", "egress", key],
        }
    }

    /// The same, as people write it.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Agent => "egress",
            Self::Setup => "setup.egress",
        }
    }

    fn of(self, bottle: &mut BottleEntry) -> Option<&mut Egress> {
        match self {
            Self::Agent => Some(&mut bottle.egress),
            Self::Setup => bottle.setup.as_mut().map(|setup| &mut setup.egress),
        }
    }
}

/// A rule that can be added to a bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Addition {
    /// The last of the routes.
    Route(Part, Box<Route>),
    /// A package manager's registries.
    Preset(Part, Preset),
    /// A whole host, in a bottle without routes.
    Host(HostPattern),
    /// A ref of this name that may be pushed.
    Ref {
        /// The repository; none: the one that the agent works in.
        upstream: Option<RepoName>,
        /// Its full name.
        name: String,
    },
}

/// The text with the rule; none: it can't be written there, or not without a person.
pub(crate) fn add(text: &str, bottle: &str, addition: &Addition) -> Option<String> {
    let mut wanted = parse(text, "").ok()?;
    let name = wanted.bottles.keys().find(|name| name.as_str() == bottle)?.clone();
    let own = wanted.bottles.get_mut(&name)?;
    let spot = Spot { text, tree: tree(text).ok()?, bottle };
    let edited = match addition {
        Addition::Route(part, route) => {
            part.of(own)?.routes.push((**route).clone());
            spot.insert(&part.keys("routes"), &flow(route, text)?, &[])
        }
        Addition::Preset(part, preset) => {
            part.of(own)?.presets.insert(*preset);
            spot.insert(&part.keys("presets"), &spot.word(preset.name()), &[])
        }
        Addition::Host(host) => {
            own.pipelock.api_allowlist.push(host.clone());
            spot.insert(&["pipelock", "api_allowlist"], &quoted(&host.to_string()), &[])
        }
        Addition::Ref { upstream, name } => {
            let at = position(own, upstream.as_ref())?;
            let pattern = escaped(name);
            let push = &mut own.git.get_mut(at)?.push;
            push.refs.push(pattern.clone());
            push.tags |= name.starts_with("refs/tags/");
            let before: Vec<String> = Push::default().refs.iter().map(|glob| quoted(glob)).collect();
            spot.insert(&["git", &at.to_string(), "push", "refs"], &quoted(&pattern), &before)
        }
    }?;
    (parse(&edited, "").ok()? == wanted).then_some(edited)
}

fn position(bottle: &BottleEntry, upstream: Option<&RepoName>) -> Option<usize> {
    let git = &bottle.git;
    match upstream {
        Some(name) => git.iter().position(|entry| entry.name == *name),
        None if git.len() == 1 => Some(0),
        None => git.iter().position(|entry| entry.name.as_str() == "origin"),
    }
}

/// A ref's name as a glob that is that name alone.
fn escaped(name: &str) -> String {
    name.chars().fold(String::new(), |mut out, c| {
        match c {
            '?' | '*' | '[' | ']' | '{' | '}' => out.extend(['[', c, ']']),
            c => out.push(c),
        }
        out
    })
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// A route on one line; in a JSON manifest as JSON. What a route has without being told is left out.
pub(crate) fn flow(route: &Route, manifest: &str) -> Option<String> {
    let mut value = serde_json::to_value(route).ok()?;
    let keys = value.as_object_mut()?;
    if route.methods == ["GET", "HEAD"] {
        keys.remove("methods");
    }
    if route.paths == ["/**"] {
        keys.remove("paths");
    }
    if is_json(manifest) {
        return Some(value.to_string());
    }
    let part = |value: &serde_json::Value| match value {
        serde_json::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| plain(item.as_str().unwrap_or_default())).collect();
            format!("[{}]", items.join(", "))
        }
        serde_json::Value::String(text) => plain(text),
        other => other.to_string(),
    };
    // In the order in which people write them.
    let first = ["host", "port", "scheme", "methods", "paths"];
    let rest = value.as_object()?.keys().map(String::as_str).filter(|key| !first.contains(key));
    let keys = first.iter().copied().chain(rest).filter_map(|key| Some((key, value.get(key)?)));
    let keys: Vec<String> = keys.map(|(key, value)| format!("{key}: {}", part(value))).collect();
    Some(format!("{{ {} }}", keys.join(", ")))
}

/// Without quotes where YAML needs none.
fn plain(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_' | '-');
    if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && text.chars().all(safe) {
        return text.to_owned();
    }
    quoted(text)
}

/// A text, and where things of one bottle stand in it.
struct Spot<'a> {
    text: &'a str,
    tree: YamlTree,
    bottle: &'a str,
}

impl Spot<'_> {
    /// A word as a value or a key.
    fn word(&self, word: &str) -> String {
        if is_json(self.text) { quoted(word) } else { word.to_owned() }
    }

    /// Adds an item at the end of a list, which is made with the items `before` where it is not there.
    fn insert(&self, rest: &[&str], item: &str, before: &[String]) -> Option<String> {
        let path = [&["bottles", self.bottle], rest].concat();
        match self.tree.items(&path) {
            Some(0) => self.fill(&path, item),
            Some(count) => self.append(&path, count, item),
            None => self.make(&path, &[before, &[item.to_owned()]].concat()),
        }
    }

    /// The first item of a list that is there and empty.
    fn fill(&self, path: &[&str], item: &str) -> Option<String> {
        let at = self.offset(path)?;
        let (before, after) = self.text.split_at(self.text[at..].starts_with('[').then_some(at + 1)?);
        Some(format!("{before}{item}{after}"))
    }

    fn append(&self, path: &[&str], count: usize, item: &str) -> Option<String> {
        let last = count.checked_sub(1)?.to_string();
        let at = self.offset(&[path, &[last.as_str()]].concat())?;
        let line_start = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let indent = self.text[line_start..at].strip_suffix("- ").filter(|indent| indent.trim().is_empty());
        let (end, added) = match indent {
            Some(indent) => (self.block_end(at, indent.len()), format!("\n{indent}- {item}")),
            None => (self.flow_end(at)?, format!(", {item}")),
        };
        Some(format!("{}{added}{}", &self.text[..end], &self.text[end..]))
    }

    /// Makes a list, and the mappings around it, at the end of the innermost mapping that is there.
    fn make(&self, path: &[&str], items: &[String]) -> Option<String> {
        let depth = (1..path.len()).rev().find(|depth| self.tree.written(&path[..*depth]).is_some())?;
        let (there, missing) = path.split_at(depth);
        let at = self.offset(there)?;
        if let Some(inside) = self.text[at..].strip_prefix('{') {
            let (list, keys) = missing.split_last()?;
            let list = format!("{}: [{}]", self.word(list), items.join(", "));
            let made = keys.iter().rev().fold(list, |inner, key| format!("{}: {{ {inner} }}", self.word(key)));
            let (at, is_empty) = (at + 1, inside.trim_start().starts_with('}'));
            // The blank before the next key, or before the brace, is there or not.
            let rest = self.text[at..].trim_start_matches(' ');
            let end = if is_empty { " " } else { ", " };
            return Some(format!("{} {made}{end}{rest}", &self.text[..at]));
        }
        let line_start = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = &self.text[line_start..at];
        if !matches!(before.trim(), "" | "-") {
            return None;
        }
        let end = self.block_end(at, before.len().checked_sub(1)?);
        let mut lines = String::new();
        let mut indent = " ".repeat(before.len());
        for key in missing {
            lines.push_str(&format!("\n{indent}{key}:"));
            indent.push_str("  ");
        }
        match items {
            // A rule on one line reads best below the key, a word beside it.
            [route] if route.starts_with('{') => lines.push_str(&format!("\n{indent}- {route}")),
            words => lines.push_str(&format!(" [{}]", words.join(", "))),
        }
        Some(format!("{}{lines}{}", &self.text[..end], &self.text[end..]))
    }

    /// Where the value at a path begins, in bytes; none where it is not there.
    fn offset(&self, path: &[&str]) -> Option<usize> {
        offset(self.text, self.tree.at(path)?)
    }

    /// The end of what stands over lines: behind its last line that is indented further than this.
    fn block_end(&self, at: usize, indent: usize) -> usize {
        let mut end = self.text[at..].find('\n').map_or(self.text.len(), |end| at + end);
        let mut seen = end;
        while seen < self.text.len() {
            let next = self.text[seen + 1..].find('\n').map_or(self.text.len(), |end| seen + 1 + end);
            let line = &self.text[seen + 1..next];
            let content = line.trim_start();
            seen = next;
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if line.len() - content.len() <= indent {
                break;
            }
            end = next;
        }
        end
    }

    /// The end of an item of a list in brackets.
    fn flow_end(&self, at: usize) -> Option<usize> {
        let (mut depth, mut quote, mut last, mut escaped) = (0_u32, None, at, false);
        for (offset, c) in self.text[at..].char_indices() {
            match (quote, c) {
                (Some(_), _) if escaped => escaped = false,
                (Some('"'), '\\') => escaped = true,
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(c),
                (None, '{' | '[') => depth += 1,
                (None, '}' | ']') if depth > 0 => depth -= 1,
                (None, ',' | ']' | '}') if depth == 0 => return Some(last),
                _ => {}
            }
            if !c.is_whitespace() {
                last = at + offset + c.len_utf8();
            }
        }
        None
    }
}

/// Whether the manifest's bottle allows whole hosts: one without a route, whose first route would close what that leaves open.
pub(super) fn allows_hosts(manifest: &Manifest, bottle: &str) -> bool {
    let own = manifest.bottles.iter().find(|(name, _)| name.as_str() == bottle);
    own.is_some_and(|(_, own)| own.egress.routes.is_empty() && own.egress.presets.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str, addition: &Addition) -> Option<Vec<String>> {
        let edited = add(text, "default", addition)?;
        let before: Vec<&str> = text.lines().collect();
        Some(edited.lines().filter(|line| !before.contains(line)).map(str::to_owned).collect())
    }

    fn route() -> Addition {
        Addition::Route(
            Part::Agent,
            Box::new(Route::plain(HostPattern::parse("a.example").expect("a host"), &["POST"], &["/x"])),
        )
    }

    #[test]
    fn what_is_not_there_is_made() {
        let line = "- { host: a.example, methods: [POST], paths: [/x] }";
        for (text, lines) in [
            (
                "version: 1\nbottles: { default: {} }\n",
                vec![
                    "bottles: { default: { egress: { routes: [{ host: a.example, methods: [POST], paths: [/x] }] } } }",
                ],
            ),
            (
                "version: 1\nbottles:\n  default: { env: { A: b } }\n",
                vec![
                    "  default: { egress: { routes: [{ host: a.example, methods: [POST], paths: [/x] }] }, env: { A: b } }",
                ],
            ),
            (
                "version: 1\nbottles:\n  default:\n    supervise:\n      approval: deny\n\n# end\nagents: {}\n",
                vec!["    egress:", "      routes:", &*format!("        {line}")],
            ),
            (
                "version: 1\nbottles:\n  default:\n    egress:\n      presets: [npm]\n    env: {}\n",
                vec!["      routes:", &*format!("        {line}")],
            ),
            (
                "version: 1\nbottles:\n  default:\n    egress:\n      routes: []\n",
                vec!["      routes: [{ host: a.example, methods: [POST], paths: [/x] }]"],
            ),
        ] {
            assert_eq!(added(text, &route()).expect(text), lines, "{text}");
        }
        let json = r#"{"version": 1, "bottles": {"default": {}}}"#;
        let edited = add(json, "default", &route()).expect("JSON");
        assert!(serde_json::from_str::<serde_json::Value>(&edited).is_ok(), "{edited}");
    }

    #[test]
    fn presets_and_hosts_are_words() {
        let text = "version: 1\nbottles:\n  default:\n    egress: { presets: [npm] }\n";
        let lines = added(text, &Addition::Preset(Part::Agent, Preset::Cargo)).expect("a list");
        assert_eq!(lines, ["    egress: { presets: [npm, cargo] }"]);
        let text = "version: 1\nbottles:\n  default:\n    env: {}\n";
        assert_eq!(
            added(text, &Addition::Preset(Part::Agent, Preset::Pip)).expect("a mapping"),
            ["    egress:", "      presets: [pip]"]
        );
    }

    #[test]
    fn a_ref_keeps_the_refs_that_go_without_saying() {
        let text = "version: 1\nbottles:\n  default:\n    git:\n      - name: origin\n        upstream: https://git.example/a/b\n        \
                    token_from: T\n      - name: lib\n        upstream: https://git.example/a/c\n        token_from: T\n";
        let name = |name: &str| Some(RepoName::parse(name).expect("a name"));
        let addition = Addition::Ref { upstream: name("origin"), name: "refs/heads/release".to_owned() };
        let edited = add(text, "default", &addition).expect("a list");
        let lines =
            "        push:\n          refs: [\"refs/heads/bottle/**\", \"refs/heads/release\"]\n      - name: lib";
        assert!(edited.contains(lines), "{edited}");
        // Whether any tag may be pushed is a person's to say.
        let addition = Addition::Ref { upstream: name("lib"), name: "refs/tags/v1".to_owned() };
        assert_eq!(add(text, "default", &addition), None);
    }

    #[test]
    fn what_can_t_be_written_there_is_not() {
        for text in [
            // A key without a value, an alias, a bottle that is not there.
            "version: 1\nbottles:\n  default: &a { env: {} }\n  other: *a\nagents: { x: { bottle: other } }\n",
            "version: 1\nbottles:\n  other: {}\n",
        ] {
            let edited = add(text, "default", &route());
            assert_eq!(edited, None, "{text}");
        }
    }
}
