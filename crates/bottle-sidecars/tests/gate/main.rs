//! git-gate against the real things: git, `git daemon`, gitleaks, and an sshd with the upstream.
#![expect(clippy::disallowed_methods, reason = "tests start the programs they test")]

mod allowlists;
mod apply;
mod approved;
mod canary;
mod claims;
mod commits;
mod evasion;
mod exemptions;
mod git_texts;
mod history;
mod hostile;
mod https;
mod kills;
mod lfs;
mod limited;
mod mirror;
mod patch;
mod policy;
mod processes;
mod proxied;
mod random;
mod reload;
mod rewrite;
mod scanner;
mod seams;
mod signing;
mod upstream;
mod world;
