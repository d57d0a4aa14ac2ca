//! What the agent asks, what a person decides, and what the doors then do: a whole bundle, as its supervisor starts it.
#![expect(clippy::disallowed_methods, reason = "a test starts the real binary")]
#![expect(clippy::print_stderr, reason = "a test that fails shows what the bundle said")]

mod cheats;
mod clients;
mod credentials;
mod decide;
mod kills;
mod load;
mod slow;
mod tools;
mod world;
