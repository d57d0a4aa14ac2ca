//! The places of findings in what the outgoing doors look through.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where in a request or its answer something was found; written and read as its text, such as `header x-api-key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Where {
    /// Path and query.
    Url,
    /// The host that it is for.
    Host,
    /// The name of a header, or the value of one that is called `name`.
    HeaderName,
    /// The value of the header with this name.
    Header(String),
    /// Several parts of the head together, the URL perhaps among them.
    Headers,
    /// The body.
    Body,
    /// A trailer behind the body.
    Trailer,
    /// A message of the guest's over a WebSocket.
    Websocket,
    /// The answer: its body, or a message over a WebSocket.
    Answer,
    /// The request as a whole.
    Request,
}

/// A text that names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no place of a finding", .0.escape_debug())]
pub struct WhereError(String);

impl Where {
    /// All whose text has no other name in it.
    const PLAIN: [(Self, &'static str); 9] = [
        (Self::Url, "url"),
        (Self::Host, "host"),
        (Self::HeaderName, "header name"),
        (Self::Headers, "headers"),
        (Self::Body, "body"),
        (Self::Trailer, "trailer"),
        (Self::Websocket, "websocket"),
        (Self::Answer, "answer"),
        (Self::Request, "request"),
    ];

    /// The value of the header with this name.
    pub fn header(name: &str) -> Self {
        if name == "name" { Self::HeaderName } else { Self::Header(name.to_owned()) }
    }

    /// Reads its text.
    pub fn parse(text: &str) -> Result<Self, WhereError> {
        let plain = Self::PLAIN.into_iter().find(|(_, known)| *known == text).map(|(place, _)| place);
        let header = || text.strip_prefix("header ").filter(|name| !name.is_empty()).map(Self::header);
        plain.or_else(header).ok_or_else(|| WhereError(text.chars().take(70).collect()))
    }

    /// Tells whether it is in the headers, in one or in several together.
    pub fn is_in_headers(&self) -> bool {
        match self {
            Self::HeaderName | Self::Header(_) | Self::Headers => true,
            Self::Url | Self::Host | Self::Body | Self::Trailer | Self::Websocket | Self::Answer | Self::Request => {
                false
            }
        }
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Header(name) = self {
            return write!(f, "header {name}");
        }
        let text = Self::PLAIN.iter().find(|(place, _)| place == self).map(|(_, text)| *text);
        f.write_str(text.unwrap_or_default())
    }
}

impl TryFrom<String> for Where {
    type Error = WhereError;

    fn try_from(text: String) -> Result<Self, WhereError> {
        Self::parse(&text)
    }
}

impl From<Where> for String {
    fn from(place: Where) -> Self {
        place.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let header = ["x-api-key", "name", "names", "x y"].map(Where::header);
        for place in Where::PLAIN.into_iter().map(|(place, _)| place).chain(header) {
            let text = serde_json::to_value(&place).expect("JSON");
            assert_eq!(text, place.to_string(), "{place:?}");
            assert!(!place.to_string().is_empty(), "{place:?}");
            assert_eq!(serde_json::from_value::<Where>(text).expect("a place"), place);
        }
        for text in ["", "header", "header ", "Body", "url ", "\u{1b}"] {
            let error = Where::parse(text).expect_err(text);
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
    }
}
