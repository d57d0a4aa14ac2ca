//! What this machine has for sandboxes: bwrap, the programs that go into them, and whether a sandbox can be made at all.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::exit::Failure;
use crate::host::Environment;
use crate::process::{ProcessError, Program};
use crate::survey::Survey;

/// Programs of the host that go into the sandboxes by name.
#[derive(Debug, Clone)]
pub(in crate::backend) struct Tools {
    pub(in crate::backend) link: PathBuf,
    pub(in crate::backend) sidecars: PathBuf,
    pub(in crate::backend) claude: PathBuf,
    pub(in crate::backend) gitleaks: PathBuf,
}

/// What is found, or why not and how to get it.
pub(crate) type Located = Result<PathBuf, String>;

/// Each thing that a bottle is made of.
struct HostPrograms {
    bwrap: Located,
    link: Located,
    sidecars: Located,
    claude: Located,
    gitleaks: Located,
    /// git, tar and such.
    others: Vec<(&'static str, Located)>,
}

impl HostPrograms {
    fn new(environment: &Environment) -> Self {
        let by_path = |name: &str| on_path(environment, name);
        let beside_runner = |name: &str| {
            // Beside the runner, where the release and cargo put them.
            let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
            let dirs = environment.get("BOTTLE_BIN_DIR").map(PathBuf::from).into_iter().chain(beside);
            dirs.map(|dir| dir.join(name)).find(|path| path.is_file()).ok_or_else(|| {
                format!("{name}: not beside bottle-runner; put it there, or set BOTTLE_BIN_DIR to where it is")
            })
        };
        let needed = |name: &'static str, package: &str| {
            (name, by_path(name).ok_or_else(|| format!("{name}: install the package {package}")))
        };
        let mut others = vec![needed("git", "git"), needed("tar", "tar"), needed("sh", "dash")];
        if super::run_dir::is_root() {
            others.push(needed("setpriv", "util-linux"));
        }
        let cache = environment.cache();
        Self {
            bwrap: by_path("bwrap").ok_or_else(|| "bwrap: install the package bubblewrap".to_owned()),
            link: beside_runner("bottle-link"),
            sidecars: beside_runner("bottle-sidecars"),
            claude: claude(environment, cache.as_deref()),
            gitleaks: beside_runner("gitleaks")
                .ok()
                .or_else(|| by_path("gitleaks"))
                .or_else(|| cache.map(|cache| cache.join("bin/gitleaks")).filter(|path| path.is_file()))
                .ok_or_else(|| {
                    "gitleaks: not beside bottle-runner, where a release has it, and not on the PATH; ./scripts/demo \
                     --setup-only fetches it"
                        .to_owned()
                }),
            others,
        }
    }

    fn all(&self) -> Vec<(&'static str, &Located)> {
        let mut all = vec![
            ("bubblewrap", &self.bwrap),
            ("bottle-link", &self.link),
            ("bottle-sidecars", &self.sidecars),
            ("Claude Code", &self.claude),
            ("gitleaks", &self.gitleaks),
        ];
        all.extend(self.others.iter().map(|(name, found)| (*name, found)));
        all
    }
}

/// Looks for everything; the first thing that is missing is the failure.
pub(in crate::backend) fn tools(environment: &Environment) -> Result<Tools, Failure> {
    let looked = HostPrograms::new(environment);
    if let Some((_, Err(missing))) = looked.all().into_iter().find(|(_, found)| found.is_err()) {
        return Err(Failure::machine(format_args!("bubblewrap can't run a bottle here: {missing}"))
            .hint("`bottle-runner doctor` says what is missing, backend by backend"));
    }
    let real = |found: Located| {
        found.and_then(|path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display())))
    };
    let tools = || {
        Ok(Tools {
            link: real(looked.link)?,
            sidecars: real(looked.sidecars)?,
            claude: real(looked.claude)?,
            gitleaks: real(looked.gitleaks)?,
        })
    };
    tools().map_err(|why: String| Failure::machine(why))
}

/// The programs of a release, and Claude Code, where a run takes them from.
pub(crate) struct HostParts {
    pub(crate) link: Located,
    pub(crate) sidecars: Located,
    pub(crate) gitleaks: Located,
    pub(crate) claude: Located,
}

pub(in crate::backend) fn host_parts(environment: &Environment) -> HostParts {
    let HostPrograms { link, sidecars, gitleaks, claude, .. } = HostPrograms::new(environment);
    HostParts { link, sidecars, gitleaks, claude }
}

pub(in crate::backend) async fn survey(environment: &Environment) -> Survey {
    let mut survey = Survey::default();
    let looked = HostPrograms::new(environment);
    for (name, found) in looked.all() {
        match found {
            Ok(path) => survey.there(format!("{name}: {}", path.display())),
            Err(missing) => survey.missing(missing.clone()),
        }
    }
    if looked.bwrap.is_ok() {
        match trial().await {
            Ok(()) => survey.there("a sandbox with namespaces of its own can be made"),
            Err(failure) => {
                survey.missing(format!("{failure}; {}", failure.hint.as_deref().unwrap_or_default()));
            }
        }
    }
    survey
}

/// Makes a sandbox as a bottle's is, runs nothing in it, and says which switch is off where that fails.
pub(in crate::backend) async fn trial() -> Result<(), Failure> {
    let mut argv: Vec<String> = vec![];
    if super::run_dir::is_root() {
        let id = super::users::Users::for_run("").guest.unwrap_or(super::users::NOBODY);
        argv.extend(super::users::become_user(id));
    }
    let options = [
        "bwrap",
        "--unshare-all",
        "--unshare-user",
        "--uid",
        "1000",
        "--gid",
        "1000",
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "bottle",
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "true",
    ];
    argv.extend(options.map(str::to_owned));
    let ended = Program::new(argv).limit(Duration::from_secs(20)).run().await.map_err(|error| match &error {
        ProcessError::Start { .. } => Failure::machine(&error).hint("install the package bubblewrap"),
        ProcessError::Slow { .. } => Failure::machine(&error),
    })?;
    if ended.code == 0 {
        return Ok(());
    }
    let stderr = ended.complaint();
    let switch = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    Err(Failure::machine(format_args!("bubblewrap can't make a sandbox here: {stderr}")).hint(hint(&stderr, &switch)))
}

/// Which switch it is, from bwrap's words and the kernel's settings.
fn hint(stderr: &str, switch: &dyn Fn(&str) -> Option<String>) -> String {
    let is = |path: &str, value: &str| switch(path).as_deref() == Some(value);
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return "user namespaces are switched off: `sysctl kernel.unprivileged_userns_clone=1`".to_owned();
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return "user namespaces are switched off: `sysctl user.max_user_namespaces=10000`".to_owned();
    }
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "AppArmor restricts user namespaces: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or load \
                a profile for /usr/bin/bwrap that has `userns,`"
            .to_owned();
    }
    if stderr.contains("mount proc") {
        return "something is mounted over parts of this container's /proc, so that the kernel allows no new one: start \
                it with `--security-opt systempaths=unconfined`, or run where there is no such container"
            .to_owned();
    }
    if stderr.contains("namespace") || stderr.contains("Operation not permitted") {
        return "this container's seccomp profile or AppArmor forbids user namespaces: start it with `--security-opt \
                seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`, or run \
                where there is no such container"
            .to_owned();
    }
    "`bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev true` must work".to_owned()
}

/// Claude Code's one program: what is named, what the scripts fetched, or what is on the PATH.
fn claude(environment: &Environment, cache: Option<&Path>) -> Located {
    let named = environment.get("BOTTLE_CLAUDE").map(PathBuf::from);
    let fetched = cache.and_then(|cache| {
        let versions = fs::read_dir(cache.join("claude")).ok()?;
        versions.filter_map(Result::ok).map(|entry| entry.path().join("claude")).filter(|path| path.is_file()).max()
    });
    let found = named.or(fetched).or_else(|| on_path(environment, "claude")).ok_or_else(|| {
        "Claude Code: not found; `./scripts/demo --setup-only` fetches it, or set BOTTLE_CLAUDE to its program"
            .to_owned()
    })?;
    let mut start = [0; 4];
    match fs::File::open(&found).and_then(|mut file| file.read_exact(&mut start)) {
        Ok(()) if start == *b"\x7fELF" => Ok(found),
        Ok(()) => Err(format!(
            "Claude Code: {} is a script, which needs more than itself; set BOTTLE_CLAUDE to the one-file program",
            found.display()
        )),
        Err(error) => Err(format!("Claude Code: failed to read {}: {error}", found.display())),
    }
}

fn on_path(environment: &Environment, name: &str) -> Option<PathBuf> {
    let path = environment.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn the_switch_is_named() {
        let cases = [
            ("/proc/sys/kernel/unprivileged_userns_clone", "0", "No permissions", "kernel.unprivileged_userns_clone=1"),
            ("/proc/sys/user/max_user_namespaces", "0", "x", "user.max_user_namespaces"),
            (
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1",
                "setting up uid map: Permission denied",
                "apparmor_restrict_unprivileged_userns=0",
            ),
            (
                "/none",
                "",
                "bwrap: Can't mount proc on /newroot/proc: Operation not permitted",
                "systempaths=unconfined",
            ),
            ("/none", "", "bwrap: No permissions to creating new namespace", "seccomp=unconfined"),
        ];
        for (path, value, stderr, expected) in cases {
            let found = hint(stderr, &|asked| (asked == path).then(|| value.to_owned()));
            assert!(found.contains(expected), "{stderr}: {found}");
        }
    }
}
