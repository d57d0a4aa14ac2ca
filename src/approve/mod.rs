//! The agent's requests while it works: shown to people, decided by people, told as the run's events.
//!
//! Map: `context` (the run around it), `control` (the bundle's end), `follow` (beside the agent's phase), `conversation`
//! (proposals as comments, and comments as decisions), `post` (the comment's text), `words` (a proposal in words).
//! `bottle-runner proposals` is in `cli/proposals`.
//!
//! Always: nothing is decided here but what a person said; what can't be asked, shown or understood is no yes; the bundle
//! checks every decision once more. The agent's words are data.

mod context;
mod control;
mod conversation;
mod follow;
mod post;
mod words;

pub(crate) use context::ApprovalContext;
pub(crate) use control::ControlClient;
pub(crate) use follow::Follower;
#[cfg(test)]
pub(crate) use post::sample_comment;
pub(crate) use words::{ProposalOutcome, diff, one_line, outcome, visible, what};
