//! The repository without an upstream, to which the self-test of the run pushes the canary: it is received, listed and scanned as any
//! push is, and no push there is ever forwarded.
//!
//! gitleaks is left out: the self-test is about the bottle's own secrets, and a push in which none is found is refused because it
//! could not be scanned.

use std::fs;
use std::io;

use bottle_policy::gate::refs::RefRules;
use bottle_policy::gate::{PushRules, RepoName, Upstream, UpstreamUrl};
use bottle_types::canary::{SELF_TEST_HOST, SELF_TEST_REF, SELF_TEST_REPO};
use bottle_types::units::ByteSize;

use super::changes::Repo;
use super::dirs::{GateDirs, make_dir, write_file};
use super::scan::FoundIn;
use crate::common::Error;

/// Why a push there is refused in which no secret of the bottle's own is.
pub(super) const UNSCANNED: &str = "gitleaks is not asked about what the self-test pushes";

/// More than the self-test pushes.
const MAX_PUSH_BYTES: u64 = 64 << 10;

/// The upstream that stands for none.
pub(super) fn upstream() -> Result<Upstream, String> {
    let url =
        UpstreamUrl::parse(&format!("https://{SELF_TEST_HOST}/nowhere.git")).map_err(|error| error.to_string())?;
    let (refs, most) = (vec![SELF_TEST_REF.to_owned()], ByteSize(MAX_PUSH_BYTES));
    let push = PushRules { refs, max_blob_bytes: most, max_push_bytes: most, ..PushRules::default() };
    RefRules::new(&push).map_err(|error| error.to_string())?;
    Ok(Upstream {
        name: RepoName::parse(SELF_TEST_REPO).map_err(|error| error.to_string())?,
        url,
        identity: None,
        known_host_key: None,
        token: None,
        max_lfs_bytes: Upstream::default_max_lfs(),
        history: None,
        push,
    })
}

/// Tells whether it is that one.
pub(super) fn is(upstream: &Upstream) -> bool {
    upstream.name.as_str() == SELF_TEST_REPO
}

/// Makes its bare repository by hand: git would take a process for each line of its configuration.
pub(super) fn make(gate: &GateDirs) -> Result<(), Error> {
    let at = gate.root().join(format!("{SELF_TEST_REPO}.git"));
    for dir in ["", "objects", "refs"] {
        make_dir(&at.join(dir), 0o700)?;
    }
    let hooks = gate.private_path("hooks");
    let hooks = hooks.to_str().filter(|path| !path.contains(['"', '\\', '\n']));
    let hooks = hooks.ok_or_else(|| Error::Make { path: at.clone(), error: io::Error::other("the path is odd") })?;
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\thooksPath = \"{hooks}\"\n\tlogAllRefUpdates = false\n\
         [gc]\n\tauto = 0\n[receive]\n\tautogc = false\n\tfsckObjects = true\n\tmaxInputSize = {MAX_PUSH_BYTES}\n\
         \tunpackLimit = 1\n\tadvertisePushOptions = false\n\tshallowUpdate = false\n"
    );
    write_file(&at.join("config"), config.as_bytes(), 0o600)?;
    write_file(&at.join("HEAD"), format!("ref: {SELF_TEST_REF}\n").as_bytes(), 0o600)
}

/// Tells whether a refused push is the self-test's, which is once in a run: it is over before the agent starts.
pub(super) fn is_this(repo: &Repo<'_>, findings: &[FoundIn]) -> bool {
    let is_canary = findings.iter().any(|found| found.finding.rule.is_canary());
    is(repo.upstream)
        && is_canary
        && fs::OpenOptions::new().write(true).create_new(true).open(repo.gate.private_path("self-tested")).is_ok()
}
