//! A run's side of a conversation against a stand-in of the forges.

mod app;
mod context;
mod lease;
mod pull_request;
mod review;
mod status_comment;
mod threads;
mod watch;
