//! What the developers' commands do: `bill` lists what a release is made of, `generate` makes the files that are generated and committed, `source` lists names and
//! long functions. The tests call `generate::stale`, so that a stale file fails them too.

pub mod bill;
pub mod generate;
pub mod source;
