//! What planning needs to know of the outside: the one place that reads the environment, the clock and the checkout.

pub(crate) mod registries;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bottle_policy::address::Address;
use bottle_policy::known::SHORTEST;
use bottle_policy::secret::{Secret, SecretName};

use crate::process::Program;

/// The environment, read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// What this process was given; variables that are not UTF-8 are left out.
    pub(crate) fn read() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Takes a variable out: nobody sees it afterwards.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.trim().is_empty())
    }

    /// Gives a variable another value.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// The names of all variables that are set and not empty.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.as_str())
    }

    /// Variables named as credentials are, and the passwords in any variable's addresses: masked in the record although this
    /// run does not use them.
    pub(crate) fn credentials(&self) -> Vec<(SecretName, Secret<Vec<u8>>)> {
        const ENDINGS: [&str; 6] = ["TOKEN", "_KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS"];
        self.0
            .iter()
            .filter(|(name, value)| {
                ENDINGS.iter().any(|ending| name.to_ascii_uppercase().ends_with(ending))
                    && value.trim().len() >= SHORTEST
            })
            .filter_map(|(name, value)| Some((SecretName::parse(name).ok()?, Secret::new(value.clone().into_bytes()))))
            .chain(self.0.iter().flat_map(|(name, value)| crate::secrets::in_addresses(name, value)))
            .collect()
    }

    /// The user's home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }

    /// Where run records go: `BOTTLE_STATE_DIR`, the job's temporary directory in Actions, else the XDG state directory.
    pub(crate) fn state_root(&self) -> Option<PathBuf> {
        if let Some(dir) = self.get("BOTTLE_STATE_DIR") {
            return Some(dir.into());
        }
        if let Some(dir) = self.get("RUNNER_TEMP") {
            return Some(Path::new(dir).join("claude-bottle"));
        }
        let state = self
            .get("XDG_STATE_HOME")
            .map(PathBuf::from)
            .or_else(|| self.home().map(|home| home.join(".local/state")))?;
        Some(state.join("claude-bottle"))
    }

    /// Where the scripts keep what they fetch.
    pub(crate) fn cache(&self) -> Option<PathBuf> {
        self.get("CLAUDE_BOTTLE_CACHE").map(PathBuf::from).or_else(|| {
            let cache = self.get("XDG_CACHE_HOME").map(PathBuf::from);
            Some(cache.or_else(|| self.home().map(|home| home.join(".cache")))?.join("claude-bottle"))
        })
    }

    /// The host's own list of trusted authorities: what its tools were told to use, else the system's.
    pub(crate) fn ca_bundle(&self) -> Option<PathBuf> {
        let system = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
        self.get("SSL_CERT_FILE")
            .map(PathBuf::from)
            .into_iter()
            .chain(system.map(PathBuf::from))
            .find(|path| path.is_file())
    }
}

/// A git checkout on the host.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    pub(crate) root: PathBuf,
    pub(crate) git_dir: PathBuf,
    pub(crate) origin: Option<Address>,
    pub(crate) branch: Option<String>,
    pub(crate) head: Option<String>,
    /// The revision whose manifest, prompts and skills count: upstream's default branch as last fetched, else HEAD.
    pub(crate) base: Option<String>,
    /// Whether that is upstream's default branch.
    base_is_upstreams: bool,
}

impl Checkout {
    /// The checkout that a directory is in, if it is in one.
    pub(crate) async fn find(dir: &Path) -> Option<Self> {
        // Git looks for the same, and takes its time to start.
        dir.canonicalize().ok()?.ancestors().find(|above| above.join(".git").exists())?;
        let places = git(dir, &["rev-parse", "--path-format=absolute", "--show-toplevel", "--git-common-dir"]).await?;
        // A name that has a line's end in it can't be told from two.
        let (root, git_dir) = places.split_once('\n').filter(|(_, last)| !last.contains('\n'))?;
        let (root, git_dir) = (PathBuf::from(root), PathBuf::from(git_dir));
        let asked = "HEAD^{commit}\nrefs/remotes/origin/HEAD^{commit}\n";
        let (origin, branch, commits) = tokio::join!(
            git(&root, &["config", "--get", "remote.origin.url"]),
            git(&root, &["symbolic-ref", "--quiet", "--short", "HEAD"]),
            Program::git(&root, &["cat-file", "--batch-check=%(objectname)"]).input(asked.into()).run(),
        );
        let commits = commits.map(|ended| String::from_utf8_lossy(&ended.stdout).into_owned()).unwrap_or_default();
        // What is not there comes back as its name and a word.
        let mut commits = commits.lines().map(|line| (!line.contains(' ')).then(|| line.to_owned()));
        let (head, remote_head) = (commits.next().flatten(), commits.next().flatten());
        let base_is_upstreams = remote_head.is_some();
        let base = remote_head.or_else(|| head.clone());
        let origin = origin.map(Address::new);
        Some(Self { root, git_dir, origin, branch, head, base, base_is_upstreams })
    }

    /// The base revision in words.
    pub(crate) fn base_name(&self) -> &'static str {
        match (&self.base, self.base_is_upstreams) {
            (None, _) => "no commit yet",
            (Some(_), true) => "origin's default branch, as last fetched",
            (Some(_), false) => "HEAD",
        }
    }

    /// A file as the base revision has it.
    pub(crate) async fn base_file(&self, path: &str) -> Option<Vec<u8>> {
        let base = self.base.as_deref()?;
        let ended = Program::git(&self.root, &["cat-file", "blob", &format!("{base}:{path}")]).run().await.ok()?;
        (ended.code == 0).then_some(ended.stdout)
    }

    /// The files below a directory as the base revision has them: path, whether executable, content. All or none.
    pub(crate) async fn base_files(&self, dir: &str) -> Vec<(String, bool, Vec<u8>)> {
        let Some(base) = self.base.as_deref() else { return vec![] };
        let list = Program::git(&self.root, &["ls-tree", "-r", "-z", "--full-tree", base, "--", dir]).run().await;
        let Ok(list) = list else { return vec![] };
        let listed = String::from_utf8_lossy(&list.stdout).into_owned();
        // Links and submodules would point at something the base branch does not hold.
        let mut files: Vec<(&str, bool, &str)> = vec![];
        for line in listed.split('\0') {
            let Some((meta, path)) = line.split_once('\t') else { continue };
            let mut meta = meta.split(' ');
            if let (Some(mode @ ("100644" | "100755")), _, Some(id)) = (meta.next(), meta.next(), meta.next()) {
                files.push((path, mode == "100755", id));
            }
        }
        let ids: String = files.iter().flat_map(|(_, _, id)| [id, "\n"]).collect();
        let contents = Program::git(&self.root, &["cat-file", "--batch"]).input(ids.into_bytes()).run().await;
        let Ok(contents) = contents else { return vec![] };
        let mut rest = contents.stdout.as_slice();
        let file = |(path, executable, _): &(&str, bool, &str)| {
            Some(((*path).to_owned(), *executable, next_object(&mut rest)?))
        };
        // One that this checkout lacks makes none of them: a part is not what the base branch says.
        files.iter().map(file).collect::<Option<_>>().unwrap_or_default()
    }
}

/// The next object out of what `git cat-file --batch` prints: `ID blob SIZE`, a line's end, the content, a line's end.
fn next_object(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (head, content) = rest.split_at(end + 1);
    let size: usize = std::str::from_utf8(head).ok()?.trim_end().rsplit(' ').next()?.parse().ok()?;
    let (content, after) = content.split_at_checked(size)?;
    *rest = after.strip_prefix(b"\n")?;
    Some(content.to_vec())
}

async fn git(dir: &Path, args: &[&str]) -> Option<String> {
    let ended = Program::git(dir, args).run().await.ok()?;
    let text = String::from_utf8(ended.stdout).ok()?.trim_end_matches('\n').to_owned();
    (ended.code == 0 && !text.is_empty()).then_some(text)
}

/// Eight random hex digits that make a run's slug its own.
pub(crate) fn seed() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library keys its hasher from the operating system's random numbers.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{:08x}", random & 0xffff_ffff)
}

/// Now, as whole seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    u64::try_from(time::OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0)
}

/// 32 hex digits that nobody else can know.
pub(crate) fn unguessable() -> String {
    let mut bytes = [0_u8; 16];
    let read =
        std::fs::File::open("/dev/urandom").and_then(|mut source| std::io::Read::read_exact(&mut source, &mut bytes));
    if read.is_err() {
        // The seed's source is the operating system too, eight digits at a time.
        return (0..4).map(|_| seed()).collect();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Now, as RFC 3339 in UTC with whole seconds.
pub(crate) fn now() -> String {
    let now = time::OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

/// The addresses of this machine's interfaces, loopback left out.
pub(crate) fn own_addresses() -> Vec<std::net::IpAddr> {
    let mut addresses = vec![];
    // Each entry of the local table is an address of this machine: `/32 host LOCAL` below the address's own line.
    let trie = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut last = None;
    for line in trie.lines() {
        if let Some(address) = line.trim_start().strip_prefix("|-- ") {
            last = address.trim().parse::<std::net::Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(address) = last
            && !address.is_loopback()
        {
            addresses.push(std::net::IpAddr::V4(address));
        }
    }
    let six = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    for line in six.lines() {
        let digits = line.split_whitespace().next().unwrap_or_default();
        if let Ok(number) = u128::from_str_radix(digits, 16) {
            let address = std::net::Ipv6Addr::from(number);
            // A link-local address means nothing without an interface to name.
            if !address.is_loopback() && !address.is_unicast_link_local() {
                addresses.push(address.into());
            }
        }
    }
    addresses.sort();
    addresses.dedup();
    addresses
}
