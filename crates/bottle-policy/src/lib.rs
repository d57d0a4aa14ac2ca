//! What the doors decide, as types and pure functions: a request or a push and a policy in, a verdict out.
//!
//! Map, by policy file: [`route::RoutesPolicy`] (`routes.yaml`; `matcher`, `conditions`, `budget`, `mcp`),
//! [`pipelock::PipelockPolicy`] (`pipelock.yaml`; `limits`), [`gate::GatePolicy`] (`gate.yaml`),
//! [`supervise::SupervisePolicy`] (`supervise.yaml`; `outputs`), [`bundle::Bundle`] (`bundle.yaml`). The host side writes these files,
//! the bundle obeys them. `artifacts` are files that the runner takes out of the guest; `proxy` is the company's proxy before the outgoing doors; `inclusion` proves that globs take nothing but what others take; `prose` cleans words of strangers for prompts and posts.
//!
//! Always: unknown keys are errors; a rule that is missing means deny. No clock, no file system, no environment, no process,
//! no network, no tokio. What the two sides say to each other belongs in `bottle-wire`.

pub mod artifacts;
pub mod budget;
pub mod bundle;
pub mod conditions;
pub mod forge_read;
pub mod gate;
pub mod inclusion;
pub mod limits;
pub mod matcher;
pub mod mcp;
pub mod outputs;
pub mod pipelock;
pub mod prose;
pub mod proxy;
pub mod route;
mod strict_json;
pub mod supervise;
