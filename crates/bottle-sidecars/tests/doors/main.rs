//! egress and pipelock as the guest and the internet see them: the real binary, real TLS on both sides.
//!
//! Map: `world` (directories, daemons, the guest's side), `origin` (an upstream that remembers what reached it), then
//! the cases: `clients` (those that people use, `clients.toml`), `front`, `exit`, `ask` (a person decides), `aws` (signatures, `aws.toml`), `model`, `switch` (WebSockets, tunnels), `heard` (what comes in over a
//! WebSocket, `heard.toml`), `pass` (TLS that is not ended), `providers` (models elsewhere, `providers.toml`), `proxies` (a company's proxy, `proxies.toml`), `rules`, `many` (connections), `messages` (gRPC's, and trailers), `odd` (upstreams that misbehave, `odd.toml`), `tls` (their certificates), and the escape suite: `escape` (the library's cases, and `wire.toml`).

#![expect(clippy::disallowed_methods, reason = "tests start the real program")]

mod ask;
mod aws;
mod canary;
mod clients;
mod escape;
mod exit;
mod forge;
mod front;
mod heard;
#[expect(unreachable_pub, dead_code, reason = "the library's tests have it first")]
#[path = "../../../bottle-scan/tests/escape/make.rs"]
mod make;
mod many;
mod mcp;
mod messages;
mod model;
mod odd;
mod origin;
mod pass;
mod providers;
mod proxies;
mod rules;
mod switch;
mod tls;
mod world;
