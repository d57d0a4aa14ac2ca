//! What the bundle's sandbox sees.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bottle_plan::plan::{BottlePlan, GitPlan, TOOLS_DIR};
use bottle_types::door::{CONFIG_DIR, DOORS_DIR, INTERNAL_DIR, SECRETS_DIR, SEED_ALTERNATE, SEED_DIR, STATE_DIR};

use crate::backend::sandbox::{BwrapOptions, RunDir, Tools, etc as host_etc};

/// Where systems keep the certificates that they trust.
const TRUSTED: [&str; 3] = ["/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust"];

/// Makes its directories and its /etc; where that is. On failure what there is stays for whoever removes the run.
pub(super) fn make(run_dir: &RunDir, plan: &BottlePlan, owner: Option<u32>) -> io::Result<PathBuf> {
    run_dir.directory("bundle", 0o755, None)?;
    for (name, mode) in [("state", 0o755), ("tmp", 0o700), ("config", 0o755)] {
        run_dir.directory(&format!("bundle/{name}"), mode, owner)?;
    }
    if let Some(git) = shared_mirror(plan) {
        // Beside its state: what is bound into the guest must not lie where a sidecar could put something else in its place.
        run_dir.directory(MIRROR, 0o755, owner)?;
        run_dir.directory("bundle/state/git", 0o700, owner)?;
        run_dir.directory(&format!("bundle/state/git/{}.git", git.upstream), 0o755, owner)?;
    }
    let id = BUNDLE_ID;
    let hosts: Vec<String> = plan.extra_hosts.iter().map(|(host, address)| format!("{address} {host}\n")).collect();
    let mut own_files = vec![
        ("passwd", format!("root:x:0:0:root:/root:/bin/sh\nbottle:x:{id}:{id}::{STATE_DIR}:/bin/sh\n")),
        ("group", format!("root:x:0:\nbottle:x:{id}:\n")),
        ("hosts", format!("127.0.0.1 localhost\n::1 localhost\n{}", hosts.concat())),
        ("resolv.conf", fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
    ];
    own_files.extend(host_etc::names("files dns"));
    // Certificates of authorities; no private key is among them.
    let mut bound = vec![CONFIG_DIR];
    bound.extend(TRUSTED.into_iter().filter(|dir| Path::new(dir).is_dir()));
    host_etc::shared_etc(run_dir.base(), &host_etc::BUNDLE_ETC, &own_files, &bound)
}

/// Writes its policies: before the supervisor starts, but not before the sandbox does.
pub(super) fn fill(run_dir: &RunDir, plan: &BottlePlan, owner: Option<u32>, kept: bool) -> io::Result<()> {
    // The supervisor makes these too, but what is brought in may come before it has.
    for (name, mode) in [("replay", 0o755), ("git", 0o700)] {
        run_dir.directory(&format!("bundle/state/{name}"), mode, owner)?;
    }
    let git = plan.git.as_ref().filter(|_| kept);
    if let Some((git, at)) = git.and_then(|git| Some((git, git.kept.as_deref()?))) {
        let seed = format!("bundle/state/{SEED_DIR}");
        run_dir.directory(&seed, 0o755, owner)?;
        run_dir.directory(&format!("{seed}/{}", git.upstream), 0o755, owner)?;
        let file = format!("{seed}/{}/{SEED_ALTERNATE}", git.upstream);
        run_dir.write(&file, format!("{at}/objects").as_bytes(), owner)?;
    }
    for (name, content) in bottle_plan::render::policy_files(plan) {
        run_dir.write(&format!("bundle/config/{name}"), content.as_bytes(), owner)?;
    }
    Ok(())
}

/// The mirror that guest and gate share, in the run's directory.
pub(in crate::backend) const MIRROR: &str = "mirror";

/// The repository whose mirror the guest reads.
fn shared_mirror(plan: &BottlePlan) -> Option<&GitPlan> {
    plan.git.as_ref().filter(|git| git.mirror.is_some())
}

/// The user and group that the bundle has inside.
const BUNDLE_ID: u32 = 2000;

/// The sidecars': the host's network, the doors for writing, secrets and their talk among themselves in memory alone.
pub(super) fn bundle(run_dir: &RunDir, plan: &BottlePlan, etc: &Path, tools: &Tools) -> BwrapOptions {
    let mut options = BwrapOptions::default();
    host_etc::add(&mut options, &BUNDLE_ID.to_string(), &host_etc::BUNDLE_ETC);
    options.add(&["--as-pid-1"]);
    options.bind("--ro-bind", etc, "/etc");
    options.bind("--bind", &run_dir.path("bundle/config"), CONFIG_DIR);
    options.bind("--bind", &run_dir.path("bundle/state"), STATE_DIR);
    if let Some(git) = shared_mirror(plan) {
        options.bind("--bind", &run_dir.path(MIRROR), &git.gates_mirror());
    }
    options.bind("--bind", &run_dir.path("bundle/tmp"), "/tmp");
    options.bind("--bind", &run_dir.path("doors"), DOORS_DIR);
    options.lent.extend(TRUSTED.iter().filter(|dir| Path::new(dir).is_dir()).map(|dir| (*dir).to_owned()));
    for dir in [INTERNAL_DIR, SECRETS_DIR] {
        options.add(&["--perms", "0700", "--tmpfs", dir]);
    }
    options.bind("--ro-bind", &tools.sidecars, &format!("{TOOLS_DIR}/bin/bottle-sidecars"));
    options.bind("--ro-bind", &tools.gitleaks, &format!("{TOOLS_DIR}/bin/gitleaks"));
    options.bind("--ro-bind", &tools.link, &format!("{TOOLS_DIR}/bin/bottle-link"));
    options
}
