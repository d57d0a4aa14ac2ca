//! What the doors decide, as types and pure functions: bytes and policy in, verdict out.
//!
//! Shared by the host side (`bottle-plan`, `bottle-runner`), which writes the policy files, and by the bundle
//! (`bottle-sidecars`), which obeys them. Each policy file of the bundle is one type here: [`route::RoutesPolicy`]
//! (`routes.yaml`), [`pipelock::PipelockPolicy`] (`pipelock.yaml`), [`gate::GatePolicy`] (`gate.yaml`),
//! [`supervise::SupervisePolicy`] (`supervise.yaml`), [`bundle::Bundle`] (`bundle.yaml`).
//!
//! Always: no clock, no file system, no environment, no process, no network, no tokio. Unknown keys are errors.
//! A rule that is missing means deny. Nothing here holds a secret's value except [`secret::Secret`].

pub mod access;
pub mod address;
pub mod budget;
pub mod bundle;
pub mod cassette;
pub mod conditions;
pub mod control;
pub mod dlp;
pub mod door;
pub mod gate;
pub mod host;
pub mod known;
pub mod limits;
pub mod matcher;
pub mod messages;
pub mod net;
pub mod path;
pub mod pipelock;
pub mod proposal;
pub mod prose;
pub mod route;
pub mod secret;
pub mod sse;
pub mod supervise;
pub mod text;
pub mod units;
pub mod websocket;
pub mod yaml;
