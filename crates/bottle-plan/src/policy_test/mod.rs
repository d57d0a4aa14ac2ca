//! `claude-bottle.test.yml`: cases that a project holds its manifest against, each a request, a push or an event with the verdict that it
//! shall have.
//!
//! Map: `cases` (the file's types, one to one with its keys), `run` (the cases against a manifest, and the rules that no case touches).
//!
//! Always: a case is judged by [`crate::explain`], so by the code that decides in a run. A file that can't be read is an error with line
//! and column, never a case that is left out.

mod cases;
mod run;

pub use cases::{CaseEntry, EventCase, FILE_NAME, PolicyTests, PushCase, RequestCase, schema};
pub use run::{CaseOutcome, TestReport};
