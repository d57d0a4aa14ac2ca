//! The state directory: one run record a run, written through one mask, locked while the run lives.
//!
//! Map: `record` (files of one run), `attestation` (a signed record), `files` (what stays of it), `check` (is a record complete and consistent), `credential_uses` (where its credentials went), `rows` (files of JSON, read whole). Always: the
//! directory is 0700, no secret value is in any file of it, and the lock is held exactly as long as the process that runs.

mod attestation;
#[cfg(test)]
mod attestation_tests;
mod check;
mod credential_uses;
mod files;
mod record;
mod rows;

pub(crate) use attestation::{PublicKey, SigningKey, check as check_attestation, sign};
pub(crate) use check::check;
pub(crate) use credential_uses::{AuditError, AuditedCredential, CredentialUse, credential_uses};
pub(crate) use files::{PASSING, files};
pub(crate) use record::{ARTIFACTS, HANDED_IN, LineFile, RunRecord, is_live, list, process_of};
pub(crate) use rows::{RowError, rows, value};
