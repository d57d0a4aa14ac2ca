//! What both outgoing doors share: the forward proxy that ends the guest's TLS, and the ways of HTTP between hops.
//!
//! Map: `front` (connections, CONNECT, TLS), `hello` (the first bytes after CONNECT), `peek` (the same where TLS is not
//! ended), `target` (whom a request is for), `headers` (what goes no further than one hop), `answer` (bodies and
//! refusals), `access` (a line a request), `upgrade` (connections that become something else), `rest` (those that wait),
//! `run` (start, signals).
//!
//! Always: after CONNECT come the bytes of a TLS hello for that very host, or the connection ends; CONNECT host, SNI and
//! Host agree, or the request is refused; headers named `x-bottle-…` are the doors' own. What may go where is not
//! decided here but by the [`front::Back`] behind.

pub(crate) mod access;
pub(crate) mod answer;
pub(crate) mod front;
pub(crate) mod headers;
pub(crate) mod hello;
pub(crate) mod peek;
mod rest;
pub(crate) mod run;
pub(crate) mod target;
pub(crate) mod upgrade;
