//! What both outgoing doors share: the forward proxy that ends the guest's TLS, and the ways of HTTP between hops.
//!
//! Map: `server` (connections, CONNECT, TLS), `client_hello` (the first bytes after CONNECT), `target` (whom a request is
//! for), `headers` (what goes no further than one hop), `response` (bodies and refusals), `access` (a line a request),
//! `upgrade` (connections that become something else), `idle` (those that wait), `run` (start, signals).
//!
//! Always: after CONNECT come the bytes of a TLS hello for that very host, or the connection ends; CONNECT host, SNI and
//! Host agree, or the request is refused; headers named `x-bottle-…` are the doors' own. What may go where is not
//! decided here but by the [`server::Handler`] behind.

pub(crate) mod access;
pub(crate) mod client_hello;
pub(crate) mod headers;
mod idle;
pub(crate) mod response;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod target;
pub(crate) mod upgrade;
