//! Everything that is decided before anything starts: a forge's event becomes a [`task::Task`], `claude-bottle.yml` a
//! [`manifest::Manifest`], both with the [`facts::HostFacts`] a [`plan::BottlePlan`], and that the files a run starts
//! from.
//!
//! Map: `manifest/` (types, reading, checks, schema), `event/` (payload to task), `task`, `context` (what is gathered beyond the event), `facts` (what the runner looked
//! up), `compare` (what a change of a manifest allows), `explain/` (which rule decides, and where it stands), `policy_test/` (cases that a project's rules are held against), `suggest/` (rules that would have let pass what runs were refused), `approval` (whether a comment decides a proposal), `plan/` (the plan and how it is made), `render/` (compose file, gitconfig, seccomp profile, text for people),
//! `task_list` (an issue's boxes), `name` (checked names), `tokens` (a secret in a text), `registry/` (where package managers fetch from),
//! `starter/` (a first manifest for a repository), `moment` (times as forges write them), `period_ledger` (what all runs of a repository have spent in a period).
//!
//! Always: no clock, no environment, no file system, no network, no process (`clippy.toml` says so to the compiler); no
//! secret value, only where each comes from. What acts on the plan is not here.

pub mod approval;
pub mod compare;
pub mod context;
pub mod event;
pub mod explain;
pub mod facts;
pub mod manifest;
pub mod moment;
pub mod name;
pub mod period_ledger;
pub mod plan;
pub mod policy_test;
pub mod registry;
pub mod render;
pub mod starter;
pub mod suggest;
pub mod task;
pub mod task_list;
mod tokens;

pub use bottle_policy::prose;
