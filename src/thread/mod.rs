//! A run in the conversation of its task, an issue or a pull request: what it reads there, and what it writes.
//!
//! Map: `lease` (one run at a time), `asks` (each ask once), `last_push` (what can be undone), `status_comment` (the comment that is kept up to date), `comments` (our own comment, found
//! and written), `context` (what belongs to a task), `attachments` (files that people attached), `picture` (made anew), `watch` (what people say meanwhile), `outputs` (what the agent wanted written), `review` (a review among them), `pull_request` (the work, proposed), `tasks` (an issue divided into issues).
//! Always: only our own comments are believed and changed; what can't be asked counts as no.

mod asks;
mod attachments;
mod comments;
mod context;
mod last_push;
mod lease;
mod outputs;
mod picture;
mod pull_request;
mod review;
mod status_comment;
mod tasks;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use asks::Ask;
pub(crate) use attachments::{AttachedFile, attach};
pub(crate) use context::{earlier_branch, gather};
pub(crate) use last_push::last_push;
pub(crate) use lease::{Claim, Lease, LeaseGuard, holder, last_run, take, take_free, taken_up};
pub(crate) use outputs::{WriteResult, WrittenOutput, output_key, write_output};
pub(crate) use picture::decoder;
pub(crate) use pull_request::{PublishResult, hand_in, is_a_run_s, publish, threads_of, would_propose};
pub(crate) use status_comment::{OnLeaseLost, Sticky};
pub(crate) use tasks::{DividedIssue, TaskIssue, divide, show_tasks};
pub(crate) use watch::{CommentWatch, NewComment, News};
