//! The plan: every name, file, image, command and rule of a run, and no secret value.
//!
//! [`BottlePlan`] is what is printed, stored and compared; [`plan`] makes it of task, manifest and facts. What runs
//! afterwards follows it and decides nothing that could have been decided here.

mod error;
mod make;
mod types;

pub use error::PlanError;
pub use make::plan;
pub use types::*;
