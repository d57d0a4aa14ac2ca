//! The files of a run record.

use std::fmt;
use std::path::Path;

/// Declares the files, each with its name and its content, which is its documentation, too.
macro_rules! record_files {
    ($($variant:ident $name:literal: $content:literal,)*) => {
        /// A file of a run record that has one name in every run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RecordFile {
            $(#[doc = $content] $variant,)*
        }

        impl RecordFile {
            /// All of them, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in the directory of the run.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Its content, as the documentation has it.
            pub const fn content(self) -> &'static str {
                match self {
                    $(Self::$variant => $content,)*
                }
            }
        }
    };
}

record_files! {
    Summary "summary.md": "the outcome, each part with its time, the doors' refusals, warnings",
    Report "report.html": "the whole run on one page that needs no network: a timeline, turns, pushes, requests, costs, checks and the record's hash, see [below](#reporthtml)",
    Metadata "metadata.json": "slug, title, backend, times, Compose project, runner's version; `outcome` with exit code, summary, branch, commit, session, turns, cost, pull request; `proposals_sha256` of `proposals.jsonl`",
    Junit "junit.xml": "the suites below, with durations and failure texts",
    Attachments "attachments.jsonl": "one line per file that people attached to their words: address without its query, writer, the words, and what the agent got (`picture`, `text`) with the given file's bytes and SHA-256, or `nothing` and why; missing if there was none",
    Setup "setup.log": "the commands of the setup and what they printed, and what became of its cache; missing if the bottle has none",
    Events "events.jsonl": "each event of the run as `run --json` prints it, in `data`, with its `time`, written as it happens, see [below](#eventsjsonl); missing in records of earlier versions",
    Transcript "transcript.jsonl": "Claude Code's event stream, line by line; missing if the agent was not started",
    Egress "egress.jsonl": "one line per request at egress and at pipelock, by time; both lines of one request have the same `id`",
    Pushes "gate.jsonl": "one line per pushed ref: ids, commits, objects, bytes, findings (rule, commit, path, line, SHA-256 of the bytes), verdict (`accepted`, `refused`, `held`, `would-push`), reasons, times",
    Signatures "signing.jsonl": "one line per commit that was to be signed: its id, tree, parents, repositories and the key's fingerprint, or why it was refused; missing if nothing was to be signed",
    Proposals "proposals.jsonl": "the agent's requests, who decided them, and the policies that came into force; each line holds the SHA-256 of the line before",
    Outputs "outputs.jsonl": "what became of each output: a line before each write at the forge (`begun`) and a line behind it (`done`, `failed`), or why it was not written (`refused`); missing if the agent asked for none",
    Answer "answer.json": "the agent's answer in one line of JSON, as its `outputs.json` asks for it; missing if it gave none that may go out",
    Findings "findings.sarif": "the agent's findings about the code as SARIF 2.1.0; missing if it reported none that may go out",
    Budget "budget.jsonl": "one line per request to the model, paid or replayed, in the order of the calls: model, tokens, US dollars if the model has a price; `estimated` if the reply was cut off",
    Cassette "cassette.jsonl": "the model's replies, see [cassettes](cassettes.md)",
    DoorLog "compose.log": "the output of the containers, or sandboxes, with times, each line with the name of its door or its service",
    Plan "plan.json": "everything that was decided before the start; no secret value",
    Compose "docker-compose.yml": "on Docker: the file that Compose ran",
    Seccomp "seccomp.json": "the guest's system calls",
    Routes "routes.yaml": "the policy of egress at the end, see [policy files](policy-files.md); the first policy is in `plan.json`",
    Pipelock "pipelock.yaml": "the policy of pipelock at the end, see [policy files](policy-files.md); the first policy is in `plan.json`",
    Gate "gate.yaml": "the policy of git-gate at the end, see [policy files](policy-files.md); the first policy is in `plan.json`",
    DeployKey "deploy-key.json": "only while the run's [deploy key](../guide/credentials.md#a-deploy-key-for-each-run) may be at the forge: its title, its public half and the repository",
    WouldDo "would-do.jsonl": "dry run: the push, the pull request with its text, and in a job the comment",
    Work "work.bundle": "the work that was not pushed, as a git bundle, of a run that was stopped or whose pull request has moved; the gate has not seen it",
    Attestation "attestation.dsse.json": "an in-toto statement about the pushed commit and all other files, in a signed envelope, see [below](#a-signed-record); missing unless `sign-record` has written it",
    Lock "lock": "only while the run lives; has the number of its process",
}

impl fmt::Display for RecordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl AsRef<Path> for RecordFile {
    fn as_ref(&self) -> &Path {
        Path::new(self.name())
    }
}
