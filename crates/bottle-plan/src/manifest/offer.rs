//! What to write into the manifest so that the next run need not ask: the same file with what was asked for in it.
//!
//! The text is edited where it stands, so comments and layout stay; what comes out is read again, and is offered only if it
//! says exactly what it said before and what was asked for.

use bottle_policy::gate::RepoName;
use bottle_policy::route::Route;
use bottle_policy::supervise::Request;

use super::position::YamlTree;
use super::read::tree;
use super::{Manifest, Push, parse};

/// The manifest's text with what was asked for; none: nothing of it can be written there, or not without a person.
pub fn offer(text: &str, bottle: &str, requests: &[&Request]) -> Option<String> {
    let mut edited = text.to_owned();
    for request in requests {
        if let Some(next) = with(&edited, bottle, request) {
            edited = next;
        }
    }
    (edited != text).then_some(edited)
}

/// With one request more.
fn with(text: &str, bottle: &str, request: &Request) -> Option<String> {
    let before = parse(text, "").ok()?;
    let name = before.bottles.keys().find(|name| name.as_str() == bottle)?.clone();
    let mut wanted = before;
    let own = wanted.bottles.get_mut(&name)?;
    let spot = Spot { text, tree: tree(text).ok()?, bottle };
    let edited = match request {
        Request::RequestRoute { host, .. } if own.egress.routes.is_empty() && own.egress.presets.is_empty() => {
            // A first route would close what the other way leaves open.
            own.pipelock.api_allowlist.push(host.clone());
            spot.add(&["pipelock", "api_allowlist"], &quoted(&host.to_string()))
        }
        Request::RequestRoute { host, port, scheme, methods, paths, .. } => {
            let route = Route {
                port: *port,
                scheme: *scheme,
                methods: methods.clone(),
                paths: paths.clone(),
                ..Route::plain(host.clone(), &[], &[])
            };
            let item = flow(&route, text);
            own.egress.routes.push(route);
            spot.add(&["egress", "routes"], &item?)
        }
        Request::RequestPush { upstream, r#ref, .. } => {
            let at = position(&wanted, bottle, upstream.as_ref())?;
            let entry = wanted.bottles.get_mut(&name)?.git.get_mut(at)?;
            let pattern = globset_escape(r#ref.as_str());
            entry.push.refs.push(pattern.clone());
            entry.push.tags |= r#ref.tag().is_some();
            let at = at.to_string();
            spot.add(&["git", &at, "push", "refs"], &quoted(&pattern)).or_else(|| {
                let refs: Vec<String> = Push::default().refs.iter().chain([&pattern]).map(|one| quoted(one)).collect();
                spot.add_key(&["git", &at], &format!("push: {{ refs: [{}] }}", refs.join(", ")))
            })
        }
        // The manifest has no place for these, or a person has to weigh them.
        _ => None,
    }?;
    (parse(&edited, "").ok()? == wanted).then_some(edited)
}

fn position(manifest: &Manifest, bottle: &str, upstream: Option<&RepoName>) -> Option<usize> {
    let git = &manifest.bottles.iter().find(|(name, _)| name.as_str() == bottle)?.1.git;
    match upstream {
        Some(name) => git.iter().position(|entry| entry.name == *name),
        None if git.len() == 1 => Some(0),
        None => git.iter().position(|entry| entry.name.as_str() == "origin"),
    }
}

/// A ref's name as a glob that is that name alone.
fn globset_escape(name: &str) -> String {
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

/// A route on one line; in a JSON manifest as JSON. What a route has without being told is left out.
fn flow(route: &Route, manifest: &str) -> Option<String> {
    let mut value = serde_json::to_value(route).ok()?;
    let keys = value.as_object_mut()?;
    if route.methods == ["GET", "HEAD"] {
        keys.remove("methods");
    }
    if route.paths == ["/**"] {
        keys.remove("paths");
    }
    if manifest.trim_start().starts_with('{') {
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
    let keys = ["host", "port", "scheme", "methods", "paths"].iter().filter_map(|key| Some((key, value.get(key)?)));
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
    fn path<'b>(&'b self, rest: &[&'b str]) -> Vec<&'b str> {
        [&["bottles", self.bottle], rest].concat()
    }

    /// Adds an item at the end of a list that has one already.
    fn add(&self, rest: &[&str], item: &str) -> Option<String> {
        let path = self.path(rest);
        let count = self.tree.items(&path)?;
        let last = count.checked_sub(1)?.to_string();
        let at = self.offset(&[&path[..], &[last.as_str()]].concat())?;
        let line_start = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let indent = self.text[line_start..at].strip_suffix("- ").filter(|indent| indent.trim().is_empty());
        let (end, added) = match indent {
            Some(indent) => (self.block_end(at, indent.len()), format!("\n{indent}- {item}")),
            None => (self.flow_end(at)?, format!(", {item}")),
        };
        Some(format!("{}{added}{}", &self.text[..end], &self.text[end..]))
    }

    /// Adds a key in front of the first one of a mapping that is written over lines.
    fn add_key(&self, rest: &[&str], line: &str) -> Option<String> {
        let path = self.path(rest);
        let at = self.offset(&path)?;
        let line_start = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = &self.text[line_start..at];
        if !before.trim().is_empty() && before.trim() != "-" || self.text[at..].starts_with(['{', '[']) {
            return None;
        }
        let indent = " ".repeat(before.len());
        let end = self.text[at..].find('\n').map_or(self.text.len(), |end| at + end);
        Some(format!("{}\n{indent}{line}{}", &self.text[..end], &self.text[end..]))
    }

    /// Where the value at a path begins, in bytes; none where it is not there.
    fn offset(&self, path: &[&str]) -> Option<usize> {
        let (line, column) = self.tree.at(path)?;
        let start = self.text.split_inclusive('\n').take(usize::try_from(line).ok()? - 1).map(str::len).sum::<usize>();
        let column = usize::try_from(column).ok()? - 1;
        let line = self.text[start..].split('\n').next()?;
        Some(start + line.char_indices().nth(column).map_or(line.len(), |(at, _)| at))
    }

    /// The end of an item of a list over lines: behind its last line that is indented further than its dash.
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

#[cfg(test)]
mod tests {
    use super::*;
    use bottle_policy::route::Scheme;
    use bottle_policy::supervise::RouteWords;

    fn route(host: &str, methods: &[&str], paths: &[&str]) -> Request {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let (methods, paths) = (own(methods), own(paths));
        let words = RouteWords {
            host,
            port: None,
            scheme: Scheme::Https,
            methods: &methods,
            paths: &paths,
            why: "x",
            duration: None,
        };
        Request::route(&words).expect("a request")
    }

    /// The lines that an offer adds.
    fn added(text: &str, requests: &[&Request]) -> Vec<String> {
        let edited = offer(text, "default", requests).unwrap_or_default();
        let before: Vec<&str> = text.lines().collect();
        edited.lines().filter(|line| !before.contains(line)).map(str::to_owned).collect()
    }

    const BLOCK: &str = "# ours\nversion: 1\nbottles:\n  default:\n    egress:\n      routes:\n        - host: a.example\n          \
                         paths: [/v1/*]  # all\n\n        # more\n    supervise: { approval: deny }\n";

    #[test]
    fn a_route_goes_behind_the_last_one() {
        let all = route("*.b.example", &[], &[]);
        let some = route("c.example", &["POST"], &["/v1/**", "/x"]);
        assert_eq!(
            added(BLOCK, &[&all, &some]),
            [
                "        - { host: \"*.b.example\" }",
                "        - { host: c.example, methods: [POST], paths: [\"/v1/**\", /x] }"
            ]
        );
        let flow =
            "version: 1\nbottles: { default: { egress: { routes: [ { host: a.example, paths: [\"/]\"] } ] } } }\n";
        assert_eq!(
            added(flow, &[&some]),
            ["bottles: { default: { egress: { routes: [ { host: a.example, paths: [\"/]\"] }, { host: c.example, \
              methods: [POST], paths: [\"/v1/**\", /x] } ] } } }"]
        );
        let json = r#"{"version": 1, "bottles": {"default": {"egress": {"routes": [{"host": "a.example"}]}}}}"#;
        let edited = offer(json, "default", &[&all]).expect("an offer");
        assert!(edited.contains(r#"[{"host": "a.example"}, {"host":"*.b.example"}]"#), "{edited}");
        assert!(serde_json::from_str::<serde_json::Value>(&edited).is_ok(), "{edited}");
    }

    #[test]
    fn a_bottle_without_routes_gets_a_host() {
        let text = "version: 1\nbottles:\n  default:\n    pipelock:\n      api_allowlist:\n      - a.example\n";
        assert_eq!(added(text, &[&route("b.example", &[], &[])]), ["      - \"b.example\""]);
    }

    #[test]
    fn a_ref_goes_to_its_repository() {
        let push = Request::push(None, "refs/heads/release", "x", None).expect("a request");
        let git = "  default:\n    git:\n      - name: origin\n        upstream: https://git.example/a/b\n        token_from: T\n";
        let text = format!("version: 1\nbottles:\n{git}        push: {{ refs: [\"refs/heads/bottle/**\"] }}\n");
        assert_eq!(
            added(&text, &[&push]),
            ["        push: { refs: [\"refs/heads/bottle/**\", \"refs/heads/release\"] }"]
        );
        let text = format!("version: 1\nbottles:\n{git}");
        assert_eq!(
            added(&text, &[&push]),
            ["        push: { refs: [\"refs/heads/bottle/**\", \"refs/heads/release\"] }"]
        );
    }

    #[test]
    fn what_can_t_be_written_there_is_not_offered() {
        let question = Request::ask("May I?").expect("a request");
        assert_eq!(offer(BLOCK, "default", &[&question]), None);
        assert_eq!(offer(BLOCK, "other", &[&route("b.example", &[], &[])]), None);
        assert_eq!(offer("version: 1\nbottles:\n  default: {}\n", "default", &[&route("b.example", &[], &[])]), None);
    }
}
