//! The plan: every name, file, image, command and rule of a run, and no secret value.
//!
//! [`BottlePlan`] is what is printed, stored and compared; [`plan`] makes it of task, manifest and facts. What runs
//! afterwards follows it and decides nothing that could have been decided here.
//!
//! Map: `types`, `make` (what is chosen, and what goes where), `upstreams` (git), `policies` (the outgoing doors),
//! `presets` (package
//! managers), `guest` (the agent's environment), `prompt`, `proxy`, `secrets`, `exchange` (credentials that are asked for), `services`, `words` (what people wrote, for the prompt).

mod agent_files;
mod cache;
mod error;
mod exchange;
mod guest;
mod make;
mod outputs;
mod policies;
mod presets;
mod prompt;
mod proxy;
mod secrets;
mod services;
mod types;
mod upstreams;
mod words;

use crate::name::{Name, Slug};

pub use agent_files::{AGENT_FILES, is_the_agents_own};
pub use cache::{MAX_LOCK_FILES, is_lock_file, lock_file_names};
pub use error::PlanError;
pub use exchange::{
    ANTHROPIC_TOKEN_URL, AnthropicFederation, AwsRole, OauthSource, OidcSource, TokenExchange, VaultSource,
};
pub use make::plan;
pub use policies::MODEL_HOST;
pub use types::*;
