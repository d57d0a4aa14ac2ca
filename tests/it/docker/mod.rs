//! Real bottles on a real engine, the real Claude Code answered by cassettes, a real sshd as upstream.

mod actions;
pub(crate) mod approve;
pub(crate) mod bad_world;
mod clients;
pub(crate) mod deaths;
mod engine_image;
mod guide;
mod in_container;
pub(crate) mod live;
pub(crate) mod main_job;
pub(crate) mod promises;
pub(crate) mod seal;
pub(crate) mod services;
pub(crate) mod setup;
pub(crate) mod signals;
mod stage;
mod thread;
pub(crate) mod toolchains;
