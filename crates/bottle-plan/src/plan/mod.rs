//! The plan: every name, file, image, command and rule of a run, and no secret value.
//!
//! [`BottlePlan`] is what is printed, stored and compared; [`plan`] makes it of task, manifest and facts. What runs
//! afterwards follows it and decides nothing that could have been decided here.
//!
//! Map: `types`, `make` (what is chosen, and what goes where), `upstreams` (git), `policies` (the outgoing doors),
//! `presets` (package
//! managers), `guest` (the agent's environment), `prompt`, `attachments` (what people attached), `proxy`, `command` (the agent's own), `go_on` (what it is told later), `session` (of an earlier run), `secrets`, `exchange` (credentials that are asked for), `services`, `signing`, `tools` (the owner's), `verify`, `words` (what people wrote, for the prompt).

mod agent_files;
mod attachments;
mod cache;
mod command;
mod commits;
mod error;
mod exchange;
mod forge;
mod go_on;
mod guest;
mod make;
mod outputs;
mod policies;
mod presets;
mod prompt;
mod proposed;
mod proxy;
mod secrets;
mod services;
mod session;
mod setup_steps;
mod signing;
mod tools;
mod types;
mod upstreams;
mod verify;
mod words;

use crate::name::{Name, Slug};

pub use agent_files::{AGENT_FILES, is_the_agents_own};
pub use attachments::{Mention, attached_injection, attachment_rules, attachments_dir, mentions};
pub use cache::{MAX_LOCK_FILES, is_lock_file, lock_file_names, lock_files_for};
pub use command::ClaudeLimits;
pub use error::PlanError;
pub use exchange::{
    ANTHROPIC_TOKEN_URL, AnthropicFederation, AwsRole, OauthSource, OidcSource, TokenExchange, VaultSource,
};
pub use go_on::{FailedCheck, SessionId, ask_for_answer, mend};
pub(crate) use make::agent_of;
pub use make::plan;
pub use policies::MODEL_HOST;
pub(crate) use presets::preset_routes;
pub use session::{MAX_SESSION_BYTES, SessionError, conversation, with_digest};
pub(crate) use tools::{AGENTS_DIRECTORIES, WORKSPACE_VARIABLE, last_name};
pub use types::*;
pub use upstreams::branch_stem;
pub(crate) use verify::VERIFY_TIMEOUT;
pub use verify::{VerifyCommand, VerifyPlan};
