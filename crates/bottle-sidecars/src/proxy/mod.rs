//! The forward proxy that both outgoing doors share: it ends the guest's TLS and passes HTTP from hop to hop.
//!
//! Map: `server` (connections, CONNECT, TLS), `client_hello` (the first bytes after CONNECT), `target` (the host a request is
//! for), `headers` (those of one hop and the doors' own), `trailers`, `response` (bodies and refusals), `unreadable` and `resets` (heads that are none), `access` (the access log),
//! `upgrade` (connections that become something else), `unsent` (answers that come before the request is sent), `idle` (connections that wait), `unix_stream` (sockets that wake nobody in vain), `run` (start, signals).
//!
//! Always: after CONNECT come the bytes of a TLS hello for that very host, or the connection ends; CONNECT host, SNI and
//! Host agree, or the request is refused; headers named `x-bottle-…` are the doors' own.
//! Decisions about what may go where do not belong here: they are the [`server::Handler`]'s.

pub(crate) mod access;
pub(crate) mod client_hello;
pub(crate) mod headers;
mod idle;
mod resets;
pub(crate) mod response;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod target;
pub(crate) mod trailers;
pub(crate) mod unix_stream;
mod unreadable;
pub(crate) mod unsent;
pub(crate) mod upgrade;
