//! egress and pipelock as the guest and the internet see them: the real binary, real TLS on both sides.
//!
//! Map: `world` (directories, daemons, the guest's side), `origin` (an upstream that remembers what reached it), then
//! the cases: `front`, `exit`, `model`.

#![expect(clippy::disallowed_methods, reason = "tests start the real program")]

mod exit;
mod front;
mod model;
mod origin;
mod world;
