//! Facts of this machine for planning: the one room that reads the environment, the clock and the checkout.
//!
//! Map: `env`, `checkout` (git), `base` (the revision whose rules hold), `clock`, `disk`, `hash` (of a file), `random`, `net` (addresses of this machine, its hosts file), `policy_file` (of the machine's owner), `registries` (where package managers
//! fetch from), `tools` (of this machine, beside its system's).

mod base;
mod checkout;
mod clock;
mod disk;
mod env;
mod hash;
mod net;
mod policy_file;
mod random;
pub(crate) mod registries;
mod tools;

pub(crate) use base::{Base, BaseFile};
pub(crate) use checkout::Checkout;
pub(crate) use clock::{now, unix_millis, unix_seconds};
pub(crate) use disk::check_space;
pub(crate) use env::{Environment, POLICY, maskable};
pub(crate) use hash::sha256;
pub(crate) use net::{hosts_file, own_addresses};
pub(crate) use policy_file::read_policy_file;
pub(crate) use random::{canary, key_seed, run_id_suffix, run_password, unguessable};
pub(crate) use tools::{closed_directory, tools};
