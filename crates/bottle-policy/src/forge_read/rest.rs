//! Requests of REST: GET and HEAD of known paths, with known parameters.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::answer::{Authors, Expected};
use super::{ForgeReadRules, ForgeRefusal, ForgeRequest, ForgeRule, Judged, ReadKind, search, shown};

/// What a segment and a parameter are written with besides letters and digits.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const JSON: &str = "application/json";

/// One known path below a repository's own.
struct Known {
    /// Segments: a word, `#` (a number), `*` (one segment), `**` (one or more).
    path: &'static str,
    kinds: &'static [ReadKind],
    form: Form,
}

/// What a path's answer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// JSON whose objects name their authors, or have none.
    Json,
    /// JSON that only who may write has written: labels, milestones, releases.
    OfWriters,
    /// JSON; a diff or a patch where `Accept` asks for it.
    JsonOrDiff,
    /// JSON; the file as it is where `Accept` asks for it.
    JsonOrRaw,
    /// JSON; the bytes, or the way to them, where `Accept` asks for them.
    JsonOrAsset,
    /// Bytes.
    Data,
    /// Bytes, or the way to them at another host.
    DataElsewhere,
}

const fn known(path: &'static str, kinds: &'static [ReadKind], form: Form) -> Known {
    Known { path, kinds, form }
}

const ISSUES: &[ReadKind] = &[ReadKind::Issues];
const PULLS: &[ReadKind] = &[ReadKind::PullRequests];
const CHECKS: &[ReadKind] = &[ReadKind::Checks];
const LOGS: &[ReadKind] = &[ReadKind::Logs];
const RELEASES: &[ReadKind] = &[ReadKind::Releases];
const CONTENTS: &[ReadKind] = &[ReadKind::Contents];
const THREADS: &[ReadKind] = &[ReadKind::Issues, ReadKind::PullRequests];
const REFS: &[ReadKind] = &[ReadKind::Contents, ReadKind::Releases];

/// What both forges have. Events and timelines are not here: they carry what stands in other repositories.
const KNOWN: &[Known] = &[
    known("", &[], Form::Json),
    known("issues", ISSUES, Form::Json),
    known("issues/#", ISSUES, Form::Json),
    known("issues/#/comments", ISSUES, Form::Json),
    known("issues/#/labels", ISSUES, Form::OfWriters),
    known("issues/comments", ISSUES, Form::Json),
    known("issues/comments/#", ISSUES, Form::Json),
    known("labels", THREADS, Form::OfWriters),
    known("labels/*", THREADS, Form::OfWriters),
    known("milestones", THREADS, Form::OfWriters),
    known("milestones/#", THREADS, Form::OfWriters),
    known("pulls", PULLS, Form::Json),
    known("pulls/#", PULLS, Form::JsonOrDiff),
    known("pulls/#.diff", PULLS, Form::Data),
    known("pulls/#.patch", PULLS, Form::Data),
    known("pulls/#/files", PULLS, Form::Json),
    known("pulls/#/commits", PULLS, Form::Json),
    known("pulls/#/comments", PULLS, Form::Json),
    known("pulls/#/reviews", PULLS, Form::Json),
    known("pulls/#/reviews/#", PULLS, Form::Json),
    known("pulls/#/reviews/#/comments", PULLS, Form::Json),
    known("pulls/#/requested_reviewers", PULLS, Form::Json),
    known("pulls/comments", PULLS, Form::Json),
    known("pulls/comments/#", PULLS, Form::Json),
    known("commits/*/check-runs", CHECKS, Form::Json),
    known("commits/*/check-suites", CHECKS, Form::Json),
    known("commits/*/status", CHECKS, Form::Json),
    known("commits/*/statuses", CHECKS, Form::Json),
    known("statuses/*", CHECKS, Form::Json),
    known("check-runs/#", CHECKS, Form::Json),
    known("check-runs/#/annotations", CHECKS, Form::Json),
    known("check-suites/#", CHECKS, Form::Json),
    known("check-suites/#/check-runs", CHECKS, Form::Json),
    known("actions/workflows", CHECKS, Form::Json),
    known("actions/workflows/*", CHECKS, Form::Json),
    known("actions/workflows/*/runs", CHECKS, Form::Json),
    known("actions/runs", CHECKS, Form::Json),
    known("actions/runs/#", CHECKS, Form::Json),
    known("actions/runs/#/jobs", CHECKS, Form::Json),
    known("actions/runs/#/artifacts", CHECKS, Form::Json),
    known("actions/runs/#/attempts/#", CHECKS, Form::Json),
    known("actions/runs/#/attempts/#/jobs", CHECKS, Form::Json),
    known("actions/jobs/#", CHECKS, Form::Json),
    known("actions/tasks", CHECKS, Form::Json),
    known("actions/runs/#/logs", LOGS, Form::DataElsewhere),
    known("actions/runs/#/attempts/#/logs", LOGS, Form::DataElsewhere),
    known("actions/jobs/#/logs", LOGS, Form::DataElsewhere),
    known("releases", RELEASES, Form::OfWriters),
    known("releases/#", RELEASES, Form::OfWriters),
    known("releases/latest", RELEASES, Form::OfWriters),
    known("releases/tags/*", RELEASES, Form::OfWriters),
    known("releases/#/assets", RELEASES, Form::OfWriters),
    known("releases/assets/#", RELEASES, Form::JsonOrAsset),
    known("tags", REFS, Form::Json),
    known("readme", CONTENTS, Form::JsonOrRaw),
    known("contents", CONTENTS, Form::JsonOrRaw),
    known("contents/**", CONTENTS, Form::JsonOrRaw),
    known("raw/**", CONTENTS, Form::Data),
    known("git/trees/*", CONTENTS, Form::Json),
    known("git/blobs/*", CONTENTS, Form::JsonOrRaw),
    known("git/commits/*", CONTENTS, Form::Json),
    known("git/ref/**", CONTENTS, Form::Json),
    known("git/refs/**", CONTENTS, Form::Json),
    known("commits", CONTENTS, Form::Json),
    known("commits/*", CONTENTS, Form::JsonOrDiff),
    known("compare/*", CONTENTS, Form::JsonOrDiff),
    known("branches", CONTENTS, Form::Json),
    known("branches/*", CONTENTS, Form::Json),
    known("languages", CONTENTS, Form::Json),
];
/// What is about no repository, and tells nothing of one.
const GENERAL: [&str; 4] = ["", "rate_limit", "version", "meta"];

/// Parameters that narrow or order a list, or name a commit. None of them acts for somebody else, as Gitea's `sudo` does.
const PARAMETERS: [&str; 48] = [
    "per_page",
    "page",
    "limit",
    "state",
    "sort",
    "direction",
    "order",
    "since",
    "before",
    "after",
    "until",
    "labels",
    "milestone",
    "milestones",
    "assignee",
    "creator",
    "created_by",
    "assigned_by",
    "mentioned",
    "mentioned_by",
    "filter",
    "head",
    "base",
    "ref",
    "sha",
    "path",
    "author",
    "committer",
    "status",
    "event",
    "branch",
    "actor",
    "created",
    "exclude_pull_requests",
    "check_suite_id",
    "check_name",
    "app_id",
    "head_sha",
    "recursive",
    "type",
    "name",
    "draft",
    "pre-release",
    "stat",
    "files",
    "verification",
    "whitespace",
    "q",
];

/// Judges a request of REST.
pub(super) fn judge(rules: &ForgeReadRules, request: ForgeRequest<'_>) -> Result<Judged, ForgeRefusal> {
    let refuse = |rule, message: &str| Err(ForgeRefusal::new(rule, message));
    if !matches!(request.method, "GET" | "HEAD") {
        return refuse(ForgeRule::Method, "the forge is read here: GET and HEAD alone");
    }
    if !request.body.is_empty() {
        return refuse(ForgeRule::Body, "a request that reads has no body");
    }
    let mut segments = segments(rules, request.path)?;
    let is_repository = segments.first().is_some_and(|first| first == "repos");
    if !is_repository {
        return general(rules, request, &segments.join("/"));
    }
    let [_, owner, name, rest @ ..] = segments.as_mut_slice() else {
        return refuse(ForgeRule::Repository, "the path names no repository: `repos/OWNER/NAME`");
    };
    let repository = rules.repository(owner, name).ok_or_else(|| rules.not_named(&format!("{owner}/{name}")))?;
    let path = rest.join("/");
    let Some(found) = KNOWN.iter().find(|known| matches(known.path, rest)) else {
        return refuse(ForgeRule::Path, &format!("{} is no path that is read here", shown(&path)));
    };
    rules.check_kind(found.kinds, &path)?;
    if found.path.starts_with("compare") && path.contains(':') {
        return refuse(ForgeRule::Repository, "a comparison is between commits of the one repository");
    }
    let (accept, answer, may_lead_elsewhere) = form(found.form, request.accept)?;
    let written: String = rest.iter().map(|segment| format!("/{}", utf8_percent_encode(segment, KEPT))).collect();
    let query = query(request.query)?;
    Ok(Judged {
        target: target(&format!("{}/repos/{repository}{written}", rules.base), &query),
        accept,
        body: None,
        may_lead_elsewhere,
        answer,
    })
}

/// A search in code, or what is about no repository.
fn general(rules: &ForgeReadRules, request: ForgeRequest<'_>, path: &str) -> Result<Judged, ForgeRefusal> {
    let mut query = query(request.query)?;
    let answer = if path == "search/code" {
        rules.check_kind(&[ReadKind::CodeSearch], path)?;
        let text = query.iter_mut().find(|(name, _)| name == "q");
        let (_, text) = text.ok_or_else(|| ForgeRefusal::new(ForgeRule::Search, "the search has no `q`"))?;
        *text = search::judge(rules, text)?;
        Expected::CodeSearch
    } else if GENERAL.contains(&path) {
        Expected::Json(Authors::TheForge)
    } else {
        let message = format!("{} is no path that is read here: `repos/OWNER/NAME/…`", shown(path));
        return Err(ForgeRefusal::new(ForgeRule::Path, message));
    };
    let path = if path.is_empty() { format!("{}/", rules.base) } else { format!("{}/{path}", rules.base) };
    Ok(Judged { target: target(&path, &query), accept: JSON, body: None, may_lead_elsewhere: false, answer })
}

/// The segments below the API's base, each decoded once.
fn segments(rules: &ForgeReadRules, path: &str) -> Result<Vec<String>, ForgeRefusal> {
    let odd = |message: &str| ForgeRefusal::new(ForgeRule::Path, message);
    let rest = path.strip_prefix(&rules.base).and_then(|rest| rest.strip_prefix('/'));
    let rest = rest.ok_or_else(|| odd("the path is not below the API's own"))?;
    if rest.is_empty() {
        return Ok(vec![]);
    }
    let decode = |segment: &str| {
        let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| odd("the path is not UTF-8"))?;
        let is_broken = segment.matches('%').count() != escapes(segment);
        let is_odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | '%' | '?' | '#' | ';');
        if is_broken || decoded.is_empty() || matches!(decoded.as_ref(), "." | "..") || decoded.contains(is_odd) {
            return Err(odd("the path can be read in two ways: no empty or dot segment, no encoded slash, `;` or `%`"));
        }
        Ok(decoded.into_owned())
    };
    rest.split('/').map(decode).collect()
}

/// How many escapes of two hexadecimal digits there are.
fn escapes(segment: &str) -> usize {
    let bytes = segment.as_bytes();
    bytes.windows(3).filter(|part| part[0] == b'%' && part[1..].iter().all(u8::is_ascii_hexdigit)).count()
}

/// Whether segments are those of a known path.
fn matches(known: &str, segments: &[String]) -> bool {
    let is_number = |text: &str| (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is = |part: &str, segment: &str| match part {
        "*" => true,
        "#" => is_number(segment),
        part => match part.strip_prefix('#') {
            Some(ending) => segment.strip_suffix(ending).is_some_and(is_number),
            None => part == segment,
        },
    };
    if known.is_empty() {
        return segments.is_empty();
    }
    let parts: Vec<&str> = known.split('/').collect();
    match parts.split_last() {
        Some((&"**", before)) => {
            segments.len() > before.len() && before.iter().zip(segments).all(|(part, segment)| is(part, segment))
        }
        _ => segments.len() == parts.len() && parts.iter().zip(segments).all(|(part, segment)| is(part, segment)),
    }
}

/// What goes as `Accept`, what the answer is, and whether it may lead elsewhere.
fn form(form: Form, accept: Option<&str>) -> Result<(&'static str, Expected, bool), ForgeRefusal> {
    let kind = accept.unwrap_or_default().to_ascii_lowercase();
    let names = |word: &str| {
        let kinds = kind.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
        kinds.filter_map(|kind| kind.strip_prefix("application/vnd.github.")).any(|kind| {
            let kind = kind.strip_prefix("v3.").unwrap_or(kind);
            kind == word || kind.strip_suffix("+json") == Some(word)
        })
    };
    let json = |authors| (JSON, Expected::Json(authors), false);
    let data = |accept| (accept, Expected::Data, false);
    Ok(match form {
        Form::JsonOrDiff if names("diff") => data("application/vnd.github.diff"),
        Form::JsonOrDiff if names("patch") => data("application/vnd.github.patch"),
        Form::JsonOrRaw if names("raw") => data("application/vnd.github.raw+json"),
        Form::JsonOrAsset if kind.trim() == "application/octet-stream" => {
            ("application/octet-stream", Expected::Data, true)
        }
        Form::Data => data("*/*"),
        Form::DataElsewhere => ("*/*", Expected::Data, true),
        Form::OfWriters | Form::JsonOrAsset => json(Authors::Writers),
        Form::Json | Form::JsonOrDiff | Form::JsonOrRaw => json(Authors::Named),
    })
}

/// The parameters, decoded.
fn query(query: Option<&str>) -> Result<Vec<(String, String)>, ForgeRefusal> {
    let refuse = |message: String| ForgeRefusal::new(ForgeRule::Parameter, message);
    let mut names = BTreeSet::new();
    let mut pairs = vec![];
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            let decoded = percent_decode_str(&text).decode_utf8().map(std::borrow::Cow::into_owned);
            decoded.ok().filter(|_| text.matches('%').count() == escapes(&text))
        };
        let (Some(name), Some(value)) = (decode(name), decode(value)) else {
            return Err(refuse("a parameter is not UTF-8 with whole escapes".to_owned()));
        };
        if !PARAMETERS.contains(&name.as_str()) {
            return Err(refuse(format!("{} is no parameter that is known here", shown(&name))));
        }
        if value.chars().any(char::is_control) {
            return Err(refuse(format!("the value of {} has a control character", shown(&name))));
        }
        if !names.insert(name.clone()) {
            return Err(refuse(format!("{} is there twice", shown(&name))));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

fn target(path: &str, query: &[(String, String)]) -> String {
    let pairs: Vec<String> =
        query.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, KEPT))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// The parameters of an address that an answer gives for the next part of a list, for the same path; none where one is not known.
pub(super) fn page(address: &str) -> Option<String> {
    let (_, after) = address.split_once('?')?;
    let pairs = query(Some(after.split('#').next().unwrap_or(after))).ok()?;
    (!pairs.is_empty()).then(|| target("", &pairs))
}
