//! Tools of this machine that are not the system's: the directories that `BOTTLE_HOST_TOOLS` names, and the job's tool cache.
//!
//! Always: the guest can read them and nothing else of the host; a directory that holds more than tools is refused.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bottle_plan::facts::HostTools;

use super::Environment;
use crate::exit::Failure;

/// Directories with `:` between them, each absolute or beginning with `~/`.
const NAMED: &str = "BOTTLE_HOST_TOOLS";
/// Where the actions that set up a language put it.
const TOOL_CACHE: &str = "RUNNER_TOOL_CACHE";
/// Variables that name a tool's own directory. The guest has those whose directory it has.
const TOOL_VARIABLES: [&str; 4] = ["DOTNET_ROOT", "GOROOT", "JAVA_HOME", "RUSTUP_HOME"];
/// What the kernel, the system and the guest have there is not to be covered, and nothing below is a tool.
const TAKEN: [&str; 10] =
    ["/dev", "/etc", "/home/node", "/proc", "/run", "/sys", "/tmp", "/var/tmp", "/workspace", "/opt/claude-bottle"];
/// Names of directories in which people keep credentials, and of files beside tools that have some.
const CREDENTIALS: [&str; 10] =
    [".aws", ".azure", ".config", ".docker", ".gnupg", ".kube", ".ssh", ".netrc", "credentials", "credentials.toml"];

/// Looks for what the guest may have. A directory that a person named and that can't be given is an error; the tool cache, which
/// the job's machine names, is then left out.
pub(crate) fn tools(environment: &Environment) -> Result<HostTools, Failure> {
    tools_by(environment, Lending { root: rustix::process::geteuid().is_root(), taken: &TAKEN })
}

/// What decides whether a directory may be lent.
#[derive(Clone, Copy)]
struct Lending<'a> {
    /// The bottle runs as another user.
    root: bool,
    /// Where nothing can be lent.
    taken: &'a [&'a str],
}

fn tools_by(environment: &Environment, lending: Lending<'_>) -> Result<HostTools, Failure> {
    let mut found = HostTools::default();
    for named in environment.get(NAMED).unwrap_or_default().split(':').filter(|named| !named.is_empty()) {
        let directory = lendable(named, environment, lending).map_err(|why| {
            Failure::input(format_args!("{NAMED} names {named}, which can't be in the bottle: {why}"))
                .hint("name the tool's own directory, such as `rustc --print sysroot` prints it")
        })?;
        let programs = Some(directory.join("bin")).filter(|bin| bin.is_dir());
        found.path.push(text(&programs.unwrap_or_else(|| directory.clone()))?);
        found.directories.push(text(&directory)?);
    }
    if let Some(cache) = environment.get(TOOL_CACHE).filter(|cache| Path::new(cache).is_dir()) {
        match lendable(cache, environment, lending) {
            Ok(directory) => found.directories.push(text(&directory)?),
            Err(why) => found.notes.push(format!("the tools in {cache} are not in the bottle: {why}")),
        }
    }
    let path = environment.get("PATH").unwrap_or_default();
    let shown: Vec<String> = path.split(':').filter_map(|dir| seen(&found, dir)).collect();
    found.path.extend(shown);
    let variables = TOOL_VARIABLES.into_iter().filter_map(|name| Some((name, environment.get(name)?)));
    let variables = variables.filter_map(|(name, value)| Some((name.to_owned(), seen(&found, value)?)));
    found.variables = variables.collect();
    Ok(found)
}

/// A directory of the host, if the guest has it, too.
fn seen(found: &HostTools, dir: &str) -> Option<String> {
    let real = Path::new(dir).canonicalize().ok().filter(|real| real.is_dir())?;
    let shown = std::iter::once("/usr").chain(found.directories.iter().map(String::as_str));
    shown.into_iter().any(|shown| real.starts_with(shown)).then(|| text(&real).ok()).flatten()
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.contains(|c: char| c == ':' || c.is_control()));
    text.map(str::to_owned).ok_or_else(|| Failure::input(format_args!("{} is no path for a PATH", path.display())))
}

/// The real path of a directory that the guest may have, or why it may not.
fn lendable(named: &str, environment: &Environment, lending: Lending<'_>) -> Result<PathBuf, String> {
    let home = environment.home();
    let path = match (named.strip_prefix("~/"), &home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(named),
    };
    if !path.is_absolute() {
        return Err("it is no absolute path".to_owned());
    }
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    if !real.is_dir() {
        return Err("it is no directory".to_owned());
    }
    if let Some(taken) =
        lending.taken.iter().find(|taken| real.starts_with(taken) || Path::new(taken).starts_with(&real))
    {
        return Err(format!("{taken} is not this machine's in there"));
    }
    // The runs' own directory has the doors' secrets, and a setup's cache is of all repositories.
    let runs = environment.get("BOTTLE_RUNTIME_DIR").map(PathBuf::from);
    let kept = [environment.setup_cache(), environment.sessions(), environment.mirrors()];
    let own = [home, environment.state_root(), environment.cache(), runs].into_iter().chain(kept);
    let own = own.chain([std::env::current_dir().ok()]).flatten();
    // What is not there yet will be below what is.
    for own in own.filter_map(|own| own.ancestors().find_map(|above| above.canonicalize().ok())) {
        if own.starts_with(&real) {
            return Err(format!("it has {}, which is more than tools", own.display()));
        }
    }
    let own_names = real.components().filter_map(|part| part.as_os_str().to_str());
    if let Some(name) = own_names.into_iter().find(|name| CREDENTIALS.contains(name)) {
        return Err(format!("people keep credentials in {name}"));
    }
    if let Some(name) = CREDENTIALS.iter().find(|name| real.join(name).symlink_metadata().is_ok()) {
        return Err(format!("it has {name}, which is more than tools"));
    }
    if lending.root
        && let Some((dir, mode)) = closed_directory(&real).map_err(|error| error.to_string())?
    {
        return Err(format!(
            "{} is closed to other users (mode {mode:04o}), as whom a root's bottle runs",
            dir.display()
        ));
    }
    Ok(real)
}

/// The first directory on the way up from a directory, itself included, that other users may not pass, with its mode.
pub(crate) fn closed_directory(path: &Path) -> io::Result<Option<(&Path, u32)>> {
    for dir in path.ancestors() {
        let mode = fs::metadata(dir)?.mode() & 0o7777;
        if mode & 0o001 == 0 {
            return Ok(Some((dir, mode)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// The same but for `/tmp`, where these tests' directories are.
    const TAKEN_HERE: [&str; 3] = ["/dev", "/etc", "/proc"];

    fn tools_as(environment: &Environment, root: bool) -> Result<HostTools, Failure> {
        tools_by(environment, Lending { root, taken: &TAKEN_HERE })
    }

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        for inner in ["home/.cargo/bin", "home/.ssh", "rust/bin", "rust/lib", "cache/node/22/bin", "elsewhere"] {
            fs::create_dir_all(dir.path().join(inner)).expect("a directory");
        }
        dir
    }

    fn environment(dir: &Path, variables: &[(&str, &str)]) -> Environment {
        let mut environment = Environment::default();
        environment.set("HOME", dir.join("home").display().to_string());
        for (name, value) in variables {
            environment.set(name, value.replace('@', &dir.display().to_string()));
        }
        environment
    }

    #[test]
    fn tools_come_with_their_programs_in_the_order_of_the_hosts_path() {
        let dir = directory();
        let at = |inner: &str| dir.path().canonicalize().expect("real").join(inner).display().to_string();
        let variables = [
            ("BOTTLE_HOST_TOOLS", "@/rust:~/.cargo/bin"),
            ("RUNNER_TOOL_CACHE", "@/cache"),
            ("PATH", "@/elsewhere:@/cache/node/22/bin:/usr/bin:relative"),
            ("JAVA_HOME", "@/cache/node/22"),
            ("GOROOT", "@/elsewhere"),
        ];
        let found = tools_as(&environment(dir.path(), &variables), false).expect("found");
        assert_eq!(found.directories, [at("rust"), at("home/.cargo/bin"), at("cache")]);
        assert_eq!(found.path, [at("rust/bin"), at("home/.cargo/bin"), at("cache/node/22/bin"), "/usr/bin".to_owned()]);
        assert_eq!(found.variables, [("JAVA_HOME".to_owned(), at("cache/node/22"))].into());
        assert_eq!(tools_as(&environment(dir.path(), &[]), false).expect("none"), HostTools::default());
    }

    #[test]
    fn what_is_more_than_tools_is_refused() {
        let dir = directory();
        symlink("home", dir.path().join("link")).expect("a link");
        symlink("/proc", dir.path().join("kernel")).expect("a link");
        fs::write(dir.path().join("elsewhere/credentials.toml"), "").expect("a file");
        for (named, why) in [
            ("/", "/dev is not this machine's in there"),
            ("/etc", "/etc is not this machine's in there"),
            ("@/kernel", "/proc is not this machine's in there"),
            ("@/home", "which is more than tools"),
            ("@/link", "which is more than tools"),
            ("@", "which is more than tools"),
            ("@/home/.ssh", "people keep credentials in .ssh"),
            ("~/.ssh", "people keep credentials in .ssh"),
            ("@/elsewhere", "it has credentials.toml"),
            ("rust", "it is no absolute path"),
            ("@/none", "No such file"),
            ("@/rust:@/elsewhere/credentials.toml", "it is no directory"),
        ] {
            let failed = tools_as(&environment(dir.path(), &[(NAMED, named)]), false);
            let failure = failed.expect_err(named);
            assert!(failure.what.contains(why), "{named}: {failure}");
            assert!(failure.what.starts_with("BOTTLE_HOST_TOOLS names "), "{failure}");
        }
        for (named, why) in [
            ("/var", "/var/tmp is not this machine's in there"),
            ("/tmp", "/tmp is not this machine's in there"),
            ("@/rust", "is not this machine's in there"),
        ] {
            let taken = ["/var/tmp", "/tmp", dir.path().to_str().expect("text")];
            let failed = tools_by(&environment(dir.path(), &[(NAMED, named)]), Lending { root: false, taken: &taken });
            let failure = failed.expect_err(named);
            assert!(failure.what.contains(why), "{named}: {failure}");
        }
        for variable in [
            "BOTTLE_RUNTIME_DIR",
            "BOTTLE_STATE_DIR",
            "BOTTLE_CACHE_DIR",
            "BOTTLE_SESSION_DIR",
            "BOTTLE_MIRROR_DIR",
            "CLAUDE_BOTTLE_CACHE",
        ] {
            for below in ["@/rust", "@/rust/lib", "@/rust/not/yet"] {
                let variables = [(NAMED, "@/rust"), (variable, below)];
                let failure = tools_as(&environment(dir.path(), &variables), false).expect_err(variable);
                assert!(failure.what.contains("which is more than tools"), "{variable}: {failure}");
            }
        }
        // The job's machine names this one.
        let found = tools_as(&environment(dir.path(), &[(TOOL_CACHE, "@/home")]), false).expect("left out");
        assert_eq!(found.directories, [] as [String; 0]);
        assert!(found.notes[0].contains("are not in the bottle: "), "{found:?}");
    }

    #[test]
    fn a_roots_bottle_gets_no_directory_that_its_user_cannot_reach() {
        let dir = directory();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("a mode");
        let failed = tools_as(&environment(dir.path(), &[(NAMED, "@/rust")]), true);
        let failure = failed.expect_err("closed");
        assert!(failure.what.contains("is closed to other users (mode 0700)"), "{failure}");
    }
}
