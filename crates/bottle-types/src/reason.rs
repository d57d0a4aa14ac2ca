//! The reasons: one word each by which a door says why a request went no further.

use std::fmt;

use serde::{Serialize, Serializer};

/// Declares the reasons, each with its word and its meaning, which is its documentation, too.
macro_rules! reasons {
    ($($name:ident $text:literal: $meaning:literal,)*) => {
        /// Why a door let a request, a tunnel or an answer go no further; serialised as its word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        impl Reason {
            /// All of them, in the order of the documentation: from the guest's connection to upstream's answer.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its word, in answers, in access lines and between the doors.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Its meaning, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

reasons! {
    NotAProxyRequest "not_a_proxy_request": "The request names no whole URL, so it is not one to a proxy.",
    BadScheme "bad_scheme": "The request in absolute form is not for `http`.",
    BadHost "bad_host": "The target is not a host with a port.",
    Gone "gone": "The client disconnected before it had sent anything to judge.",
    NotTls "not_tls": "The tunnel does not begin with a TLS hello.",
    Sni "sni": "The TLS hello does not name the host of CONNECT.",
    Certificate "certificate": "The door failed to make a certificate for the host.",
    Handshake "handshake": "The TLS handshake with the client failed.",
    Deadline "deadline": "The TLS hello or handshake did not come in time.",
    HostMismatch "host_mismatch": "The request names another host than its tunnel or its URL.",
    BadWebsocket "bad_websocket": "The request for a WebSocket is malformed.",
    BadPath "bad_path": "The path can be read in more than one way.",
    NoRoute "no_route": "No route allows the request.",
    GitUpstream "git_upstream": "The request is git over HTTP to a declared upstream, round the gate.",
    Budget "budget": "The budget does not allow the request to the model.",
    Mcp "mcp": "A message to an MCP server, or its answer, is not one that the manifest lets pass.",
    Forge "forge": "A request to the forge, or its answer, is not one that may be read; the rule follows behind a colon.",
    Hop "hop": "The request to pipelock does not come from egress.",
    RouteMismatch "route_mismatch": "egress and pipelock found different routes.",
    Limit "limit": "A limit or a rate is reached.",
    Dlp "dlp": "A secret was found in the request, or a part of it can't be looked into.",
    TooLarge "too_large": "The request's body is larger than it may be.",
    Slow "slow": "The request's body did not go on for a minute.",
    BadBody "bad_body": "The request's body is malformed or broke off.",
    Request "request": "The request can't be read, or can't be sent on.",
    Address "address": "The host's address may not be dialled.",
    Credential "credential": "The route's credential has ended, and there is no newer one.",
    Unsigned "unsigned": "The request can't be signed for AWS.",
    Connect "connect": "There is no connection to upstream; the error follows behind a colon.",
    Upstream "upstream": "The request to upstream failed, or its answer can't be passed on; an error follows behind a colon.",
    Upgrade "upgrade": "The connection did not become a WebSocket.",
    Websocket "websocket": "The WebSocket's bytes are no messages.",
    Answer "answer": "Something was found in the answer, or it can't be looked into.",
    AnswerTooLarge "answer_too_large": "The answer is larger than it may be.",
    Pipelock "pipelock": "pipelock did not answer, or gave a reason that egress does not know.",
    CutOff "cut off": "The answer or the WebSocket broke off; the error follows behind a colon.",
}

impl Reason {
    /// The reason of a word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
