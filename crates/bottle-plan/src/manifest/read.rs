//! From text to manifest, and the reader's errors in words.

use bottle_policy::gate::PASSWORD_IN_ADDRESS;
use serde::de::DeserializeOwned;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error, SnippetMode};

use super::position::{YamlTree, place};
use super::{Manifest, ManifestError, ManifestSource};

/// Longer files are refused unread.
const LONGEST: usize = 1 << 20;

/// Reads a manifest, YAML or JSON, for which no policy holds, and checks it; `file` is what messages call it. One that has a policy is read
/// by [`ManifestSource::parse`].
pub fn parse(text: &str, file: &str) -> Result<Manifest, ManifestError> {
    ManifestSource::new(file, text).parse()
}

/// Some editors begin a file with a byte order mark.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Reads a file of the manifest's kind, YAML or JSON, with the manifest's limits and in its words.
pub(crate) fn read<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, ManifestError> {
    let fail = |at, (problem, hint)| ManifestError::new(file, at, problem, hint);
    if text.len() > LONGEST {
        return Err(fail(None, ("a manifest of more than 1 MiB is not read".to_owned(), None)));
    }
    let text = without_mark(text);
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let (error, tree) = match tree(text) {
            Ok(tree) => (error, Some(tree)),
            // Not even YAML: what that reader says is nearer to the cause.
            Err(syntax) => (syntax, None),
        };
        let at = error.location().and_then(place);
        let path = at.zip(tree).and_then(|(at, tree)| tree.path_at(at));
        fail(at, words(error.without_snippet(), path.as_deref()))
    })
}

/// Where everything stands, also in a text with a key twice.
pub(super) fn tree(text: &str) -> Result<YamlTree, Error> {
    let mut lenient = options();
    lenient.duplicate_keys = DuplicateKeyPolicy::FirstWins;
    serde_saphyr::from_str_with_options::<YamlTree>(text, lenient)
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 24,
            max_nodes: 20_000,
            max_events: 50_000,
            max_aliases: 100,
            max_anchors: 100,
            max_documents: 1,
            max_total_scalar_bytes: LONGEST,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
        },
        strict_booleans: true,
    }
}

/// What the reader found, in the words of the manifest's writer, and what to try. `path` is where.
fn words(error: &Error, path: Option<&str>) -> (String, Option<String>) {
    let place = path.filter(|path| !path.is_empty());
    let within = |text: String| match place {
        Some(path) => format!("{path}: {text}"),
        None => text,
    };
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let at = place.map(|path| format!(" in {path}")).unwrap_or_default();
            let known: Vec<&str> =
                expected.iter().copied().filter(|key| !key.starts_with(|c: char| c.is_ascii_uppercase())).collect();
            let nearest = nearest(field, &known).map(|key| format!("; did you mean `{key}`?")).unwrap_or_default();
            (format!("unknown key `{field}`{at}{nearest}"), Some(format!("the keys there are {}", known.join(", "))))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            let nearest = nearest(variant, expected).map(|key| format!("; did you mean `{key}`?")).unwrap_or_default();
            (
                within(format!("unknown value `{variant}`{nearest}")),
                Some(format!("it is one of {}", expected.join(", "))),
            )
        }
        Error::SerdeMissingField { field, .. } => (within(format!("the key `{field}` is missing")), None),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map(|key| format!(" `{key}`")).unwrap_or_default();
            (within(format!("the key{key} is there twice")), None)
        }
        Error::Unexpected { expected, .. } => (within(format!("expected {}", node(expected))), None),
        Error::InvalidScalar { ty, .. } => (within(format!("expected {}", scalar(ty))), None),
        Error::InvalidBooleanStrict { .. } => (within("expected true or false".to_owned()), None),
        Error::NullIntoString { .. } => {
            (within("expected a text".to_owned()), Some("quote it if null is meant".to_owned()))
        }
        Error::Eof { .. } => ("the file is empty".to_owned(), Some("it begins with `version: 1`".to_owned())),
        Error::Message { msg, .. } => match msg.strip_prefix("duplicate field ") {
            Some(field) => (within(format!("the key {field} is there twice, under two names")), None),
            None if msg.ends_with(PASSWORD_IN_ADDRESS) => {
                let hint = "remove it, revoke it, and name the host's variable that holds the new one: `token_from: NAME`; \
                            for ssh, `identity_file`";
                (within(msg.clone()), Some(hint.to_owned()))
            }
            None => (within(msg.clone()), None),
        },
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => (
            "more documents, levels, values or aliases than a manifest needs".to_owned(),
            Some("a manifest is one YAML document without deep nesting".to_owned()),
        ),
        Error::AliasError { error, .. } => words(error, path),
        other => {
            let text = other.render_with_options(serde_saphyr::render_options! { snippets: SnippetMode::Off });
            let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
            (within(text.to_owned()), None)
        }
    }
}

/// The kind of node that the reader expected, in words.
fn node(expected: &str) -> &str {
    match expected {
        "mapping start" => "a mapping (`key: value`)",
        "sequence start" => "a list (`[…]` or lines that begin with `- `)",
        "string scalar" => "a text",
        other => other,
    }
}

/// The type of a scalar, in words.
fn scalar(ty: &str) -> &'static str {
    match ty {
        "f32" | "f64" | "floating point" | "floating point number" => "a number",
        "bool" => "true or false",
        "u16" => "a whole number up to 65535",
        _ => "a whole number that is not negative",
    }
}

/// The known key that was probably meant.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = given.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|key| (strsim::damerau_levenshtein(&given, key), *key))
        .filter(|(distance, key)| *distance <= (key.len().max(given.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}
