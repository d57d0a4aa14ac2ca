//! git-gate against the real things: git, `git daemon`, gitleaks, and an sshd with the upstream.
#![expect(clippy::disallowed_methods, reason = "tests start the programs they test")]

#[path = "gate/apply.rs"]
mod apply;
#[path = "gate/claims.rs"]
mod claims;
#[path = "gate/evasion.rs"]
mod evasion;
#[path = "gate/history.rs"]
mod history;
#[path = "gate/hostile.rs"]
mod hostile;
#[path = "gate/https.rs"]
mod https;
#[path = "gate/kills.rs"]
mod kills;
#[path = "gate/mirror.rs"]
mod mirror;
#[path = "gate/policy.rs"]
mod policy;
#[path = "gate/processes.rs"]
mod processes;
#[path = "gate/random.rs"]
mod random;
#[path = "gate/reload.rs"]
mod reload;
#[path = "gate/scanner.rs"]
mod scanner;
#[path = "gate/upstream.rs"]
mod upstream;
#[path = "gate/world.rs"]
mod world;
