//! Sandboxes on the host by bwrap: the kit of which the backends without an engine make their bundle and their guest.
//!
//! Map: `bwrap` (a sandbox is started, and runs commands), `cgroup` (control groups, or limits that each process inherits),
//! `users` (who a sandbox is on the host), `run_dir` (the run's own directory), `etc` (the host's programs and a small /etc),
//! `host` (what this machine has for it), `process_id` (a process, told from later ones), `system_id` (a system, told from others).
//! Always: a sandbox ends with the runner; nothing of the host but programs and the run's own directories is in it.

mod bwrap;
pub(super) mod cgroup;
pub(super) mod etc;
mod host;
mod process_id;
mod run_dir;
mod system_id;
mod users;

pub(super) use bwrap::{BwrapOptions, Sandbox};
pub(super) use cgroup::CgroupLimits;
pub(crate) use host::HostParts;
pub(super) use host::{Tools, host_parts, survey, tools, trial};
pub(super) use process_id::ProcessId;
pub(super) use run_dir::{RunDir, RunNotes, SERVICE, base, is_root, make_base};
pub(super) use system_id::system_id;
pub(super) use users::Users;
