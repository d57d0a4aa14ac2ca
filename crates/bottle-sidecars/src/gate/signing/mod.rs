//! Signatures: the guest's git has each commit signed here, with a key that the guest never has.
//!
//! Map: `serve` (a request on the gate's one socket), `signer` (what is signed, the parents, the record), `key` (ssh-keygen), `pushed`
//! (the rule that pushed commits are signed).
//!
//! Always: a signature is in the record before the guest has it; what is signed is a commit object in git's own form, by this run's
//! committer, of now, on commits that upstream or this run has. The form is judged in `bottle_policy::gate::signing`; what the tree
//! holds is judged when it is pushed, as any push.

mod key;
mod pushed;
mod serve;
mod signer;

pub(super) use key::prepare;
pub(super) use pushed::judge;
pub(super) use serve::{REQUEST, serve};
pub(super) use signer::Signer;
