//! What a setup finds of an earlier one, and what it keeps for a later one.
//!
//! Always: an entry is written by a run whose guest has the base branch's own content, after its setup has succeeded and everything of
//! it was ended, before the agent's first process; other runs only read. The agent has a copy. Nothing that is wrong with a cache ends
//! a run, unless half of an entry may be in the guest: the setup then starts cold.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::time::Duration;

use bottle_plan::plan::{BottlePlan, CachePlan, SetupPlan, is_lock_file, lock_file_names, lock_files_for};
use bottle_types::backend::Backend;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::LiveRun;
use super::outcome::one_line;
use crate::backend::{Bottle, BottleError, Exec, OutputChunk, finish, succeed};
use crate::cache::{ArchiveError, CacheEntry, Kept, MAX_AGE_DAYS, MAX_STORE_BYTES, NewEntry, Store, Summary, pieces};
use crate::exit::Failure;
use crate::provision;

/// Another format of archives, of the index or of the key makes other keys.
const FORMAT: u32 = 1;
/// To pack or unpack all of an archive.
const COPY_TIMEOUT: Duration = Duration::from_secs(600);
/// The codes by which the scripts in the guest say that there is nothing to do, and why not.
const NOTHING: i64 = 44;
const REFUSED: i64 = 43;

/// Refuses a directory that is a link, or is below one.
const NO_LINKS: &str = r#"set -e; set -f
refuse() { echo "$1" >&2; exit 43; }
command -v tar >/dev/null || refuse "the guest has no tar"
for dir; do
  path=; rest=${dir#/}/
  while [ -n "$rest" ]; do
    path=$path/${rest%%/*}; rest=${rest#*/}
    [ ! -L "$path" ] || refuse "$path is a link"
  done
done"#;

/// Refuses directories in which a link is already: an archive could be unpacked through it. The checkout has what a pull request says.
const NO_LINKS_BELOW: &str = r#"for dir; do
  if [ -e "$dir" ]; then
    [ -d "$dir" ] || refuse "$dir is no directory"
    [ -z "$(find "$dir" -type l -print | head -n 1)" ] || refuse "there are links in $dir already"
  fi
done"#;

/// Packs the directories that are there. A file with several names is packed as several.
const PACK: &str = r#"for dir; do
  shift
  if [ -d "$dir" ]; then set -- "$@" "${dir#/}"; fi
done
[ $# -gt 0 ] || exit 44
exec tar -c --hard-dereference -f - -C / -- "$@""#;

/// Prints the entries of a commit's tree that have one of these names; the arguments are the commit and a pattern of paths.
const LOCK_FILES: &str = r#"git ls-tree -r -z --full-tree "$1" | grep -z -E "$2""#;

/// Unpacks an archive; what is there already stays as it is.
const UNPACK: [&str; 9] = ["tar", "-x", "-p", "-o", "--skip-old-files", "-f", "-", "-C", "/"];

/// Everything that an entry depends on. Field by field it is the text of which the key is the hash.
#[derive(Serialize)]
struct KeyParts<'a> {
    format: u32,
    repository: &'a str,
    backend: Backend,
    /// The image's digest, or what stands for it.
    system: &'a str,
    user: u32,
    env: &'a BTreeMap<String, String>,
    files: &'a BTreeMap<String, String>,
    /// Commands, routes, registries, directories, and the lock files of the base branch.
    setup: &'a SetupPlan,
    /// The hash of the setup's script.
    script: Option<String>,
}

/// The cache of one run's setup.
pub(super) struct SetupCache {
    store: Store,
    entry: NewEntry,
    /// None: this run may keep its setup. Some: why not.
    read_only: Option<String>,
    is_hit: bool,
}

/// What a setup has left, on this side of the wall.
pub(super) enum Packed {
    Archive(File),
    /// It is not kept; the text says why, if a person has to know.
    Not(Option<CacheLine>),
}

/// What happened, for a person: one line.
pub(super) enum CacheLine {
    Note(String),
    Warning(String),
}

impl SetupCache {
    /// Opens the store, and makes the key; the error says why there is no cache in this run.
    pub(super) async fn open(run: &LiveRun<'_>, setup: &SetupPlan, plan: &CachePlan) -> Result<Self, String> {
        let dir = run.context.inputs.cache_dir.as_deref().ok_or("there is no place for it: HOME is not set")?;
        let store = Store::open(dir)?;
        let repository = repository(run.context.plan).ok_or("there is no repository whose it would be")?;
        let system = run.bottle.system_id().await.map_err(|error| error.to_string())?;
        let key = key(run, setup, &repository, &system)?;
        let entry = NewEntry { key, repository, directories: plan.directories.clone(), max_bytes: plan.max_size };
        Ok(Self { store, entry, read_only: read_only(run), is_hit: false })
    }

    /// Puts the entry into the guest, if there is one that is as it was written.
    pub(super) async fn restore(&mut self, bottle: &dyn Bottle, owner: u32) -> Result<CacheLine, Failure> {
        let (store, entry) = (self.store.clone(), self.entry.clone());
        let found = tokio::task::spawn_blocking(move || store.find(&entry)).await;
        let kept = match found.unwrap_or_else(|error| CacheEntry::Bad(error.to_string())) {
            CacheEntry::Kept(kept) => kept,
            CacheEntry::Nothing => {
                return Ok(CacheLine::Note(format!("cache: miss, nothing is kept as {}", self.short())));
            }
            CacheEntry::Bad(why) => {
                return Ok(CacheLine::Warning(format!("cache: the entry {} was removed: {why}", self.short())));
            }
        };
        if let Err(why) = self.look(bottle).await {
            return Ok(CacheLine::Warning(format!("cache: not used, {why}")));
        }
        let (summary, made) = (kept.summary, kept.made.clone());
        unpack(bottle, kept, &self.entry, owner).await.map_err(|why| {
            Failure::machine(format_args!("failed to put the setup's cache into the guest: {why}"))
                .hint("is the disk full? `bottle-runner cleanup --cache --older-than 0` removes what is kept")
        })?;
        self.is_hit = true;
        Ok(CacheLine::Note(format!("cache: hit, {} of {made} as {}", words(summary), self.short())))
    }

    /// Says why the commands have to run though they may be skipped; the guest has the checkout, and nothing of it has run yet.
    pub(super) async fn needs_commands(&self, run: &LiveRun<'_>, plan: &CachePlan) -> Option<String> {
        if !self.is_hit {
            return Some("nothing was restored".to_owned());
        }
        let Some(start) = run.progress.starts.last() else { return Some("the guest has no repository".to_owned()) };
        let names: Vec<String> = lock_file_names().map(|name| name.replace('.', "[.]")).collect();
        let pattern = format!("(/|\t)({})$", names.join("|"));
        let argv = ["sh", "-c", LOCK_FILES, "sh", start.as_str(), &pattern];
        let exec = Exec::guest(argv).in_dir(&run.context.plan.guest.workdir);
        let of_directory = |all| lock_files_for(run.context.plan.guest.directory.as_deref(), all);
        match finish(run.bottle, exec, COPY_TIMEOUT).await {
            Err(error) => Some(error.to_string()),
            Ok(done) if done.code != 0 => Some(format!("no lock files were found in {}", start.as_str())),
            Ok(done) if lock_files(&done.stdout).map(of_directory).as_ref() == Some(&plan.lock_files) => None,
            Ok(_) => Some("the lock files are others than the base branch's".to_owned()),
        }
    }

    /// Takes what the setup has left out of the guest, where this run may keep it and nothing is kept yet.
    pub(super) async fn pack(&self, bottle: &dyn Bottle) -> Packed {
        if self.is_hit {
            return Packed::Not(None);
        }
        let not = |line| Packed::Not(Some(line));
        if let Some(why) = &self.read_only {
            return not(CacheLine::Note(format!("cache: not kept, {why}")));
        }
        let mut spool = match self.store.spool() {
            Ok(spool) => spool,
            Err(error) => return not(CacheLine::Warning(format!("cache: not kept: no file can be made: {error}"))),
        };
        let exec = self.exec(&format!("{NO_LINKS}\n{PACK}"));
        let limit = bottle.patience(COPY_TIMEOUT);
        let packed = tokio::time::timeout(limit, spool_output(bottle, exec, &mut spool, self.entry.max_bytes)).await;
        let why = match packed {
            Ok(Ok(Spooled::Ended(0, _))) => return Packed::Archive(spool),
            Ok(Ok(Spooled::Ended(NOTHING, _))) => {
                let line = "cache: not kept, the setup has made none of its directories";
                return not(CacheLine::Note(line.to_owned()));
            }
            Ok(Ok(Spooled::Ended(REFUSED, said))) => said,
            Ok(Ok(Spooled::Ended(code, said))) => format!("tar ended with {code}: {said}"),
            Ok(Ok(Spooled::TooLarge)) => ArchiveError::TooLarge(self.entry.max_bytes).to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("to pack it took more than {} s", limit.as_secs()),
        };
        not(CacheLine::Warning(format!("cache: not kept: {why}")))
    }

    /// Keeps what was taken out.
    pub(super) async fn keep(&self, packed: Packed) -> Option<CacheLine> {
        let mut spool = match packed {
            Packed::Archive(spool) => spool,
            Packed::Not(line) => return line,
        };
        let (store, entry) = (self.store.clone(), self.entry.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let kept = store.keep(&mut spool, &entry)?;
            let max_age = Duration::from_secs(MAX_AGE_DAYS * 24 * 3600);
            let pruned = store.prune(max_age, MAX_STORE_BYTES, false);
            pruned.map(|_| kept).map_err(|why| format!("{why}, so what is old is still there"))
        });
        let kept = kept.await.map_err(|error| error.to_string()).and_then(|kept| kept);
        Some(match kept {
            Err(why) => CacheLine::Warning(format!("cache: not kept: {why}")),
            Ok(kept) => {
                let left_out = match kept.left_out {
                    0 => String::new(),
                    left_out => format!(", without {left_out} such as CLAUDE.md and .git"),
                };
                CacheLine::Note(format!("cache: kept {}{left_out} as {}", words(kept), self.short()))
            }
        })
    }

    fn short(&self) -> &str {
        &self.entry.key[..12]
    }

    /// Looks whether the directories can be filled; the error says why not.
    async fn look(&self, bottle: &dyn Bottle) -> Result<(), String> {
        let exec = self.exec(&format!("{NO_LINKS}\n{NO_LINKS_BELOW}"));
        let done = finish(bottle, exec, COPY_TIMEOUT).await.map_err(|error| error.to_string())?;
        match done.code {
            0 => Ok(()),
            REFUSED => Err(one_line(done.text().trim())),
            code => Err(format!("the look at its directories ended with {code}: {}", one_line(done.text().trim()))),
        }
    }

    fn exec(&self, script: &str) -> Exec {
        let argv = ["sh", "-c", script, "sh"].into_iter().chain(self.entry.directories.iter().map(String::as_str));
        Exec::guest(argv).in_dir("/")
    }
}

/// The lock files of a listing by `git ls-tree -z`, each with its id; none if one line is no entry.
fn lock_files(listing: &[u8]) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    // What was cut off does not end so.
    for entry in std::str::from_utf8(listing).ok()?.strip_suffix('\0')?.split('\0') {
        let (about, path) = entry.split_once('\t')?;
        if is_lock_file(path) {
            found.insert(path.to_owned(), about.rsplit(' ').next()?.to_owned());
        }
    }
    Some(found)
}

/// How packing came to its end.
enum Spooled {
    /// With this code, and what was said.
    Ended(i64, String),
    TooLarge,
}

/// Writes what a command prints to a file, up to what a whole archive may have.
async fn spool_output(
    bottle: &dyn Bottle,
    exec: Exec,
    spool: &mut File,
    max_bytes: u64,
) -> Result<Spooled, BottleError> {
    let failed = |error: &dyn std::fmt::Display| BottleError::new("failed to take the cache out of the guest", error);
    let (mut running, mut written, mut complaint) = (bottle.exec(exec).await?, 0_u64, vec![]);
    while let Some(output) = running.output.recv().await {
        match output {
            OutputChunk::Stdout(bytes) => {
                written = written.saturating_add(bytes.len() as u64);
                // As much again is what a tar of small files has at most.
                if written > max_bytes.saturating_mul(2).saturating_add(64 << 20) {
                    return Ok(Spooled::TooLarge);
                }
                spool.write_all(&bytes).map_err(|error| failed(&error))?;
            }
            OutputChunk::Stderr(bytes) => {
                complaint.extend_from_slice(&bytes[..bytes.len().min(4096_usize.saturating_sub(complaint.len()))]);
            }
        }
    }
    let code = running.code.await.map_err(|_| failed(&"it went away"))??;
    Ok(Spooled::Ended(code, one_line(String::from_utf8_lossy(&complaint).trim())))
}

/// Unpacks an archive in the guest, a piece at a time.
async fn unpack(bottle: &dyn Bottle, kept: Kept, entry: &NewEntry, owner: u32) -> Result<(), String> {
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(1);
    let (directories, max_size) = (entry.directories.clone(), entry.max_bytes);
    let read = tokio::task::spawn_blocking(move || {
        let archive = io::BufReader::with_capacity(1 << 20, &kept.archive);
        pieces(archive, &directories, max_size, owner, |piece| {
            sender.blocking_send(piece).map_err(|_| io::Error::other("the guest takes no more"))
        })
    });
    while let Some(piece) = receiver.recv().await {
        let mut exec = Exec::guest(UNPACK).in_dir("/");
        exec.stdin = Some(piece);
        succeed(bottle, exec, COPY_TIMEOUT).await.map_err(|error| error.to_string())?;
    }
    read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Why this run may not keep what its setup has made; none: it may.
fn read_only(run: &LiveRun<'_>) -> Option<String> {
    let base = run.context.inputs.planning.base.as_ref().and_then(|base| base.commit_of_branch());
    let Some(base) = base else {
        return Some(
            "the checkout does not know origin's default branch (`git remote set-head origin --auto`)".to_owned(),
        );
    };
    match run.progress.starts.last() {
        Some(start) if start == base => None,
        Some(start) => Some(format!(
            "only a run on the base branch's own content keeps one: this one starts at {}, and the base is at {}",
            start.short(),
            base.short()
        )),
        None => Some("the guest has no repository".to_owned()),
    }
}

/// The repository's address: what one has built is for no other.
fn repository(plan: &BottlePlan) -> Option<String> {
    plan.git.as_ref().map(|git| provision::origin(plan, git))
}

fn key(run: &LiveRun<'_>, setup: &SetupPlan, repository: &str, system: &str) -> Result<String, String> {
    let plan = run.context.plan;
    let script = setup.script.as_ref().map(|script| {
        let mut files = run.context.inputs.guest_inputs.files.files();
        files.find(|(path, _)| *path == script.to).map(|(_, bytes)| hex::encode(Sha256::digest(bytes)))
    });
    let script = script.map(|hash| hash.ok_or("the setup's script is not there")).transpose()?;
    let parts = KeyParts {
        format: FORMAT,
        repository,
        backend: plan.backend,
        system,
        user: plan.guest.uid,
        env: &plan.guest.env,
        files: &plan.guest.files,
        setup,
        script,
    };
    let text = serde_json::to_vec(&parts).map_err(|error| error.to_string())?;
    Ok(hex::encode(Sha256::digest(text)))
}

fn words(summary: Summary) -> String {
    format!("{} files with {} MiB", summary.files, summary.bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::lock_files;

    #[test]
    fn only_a_whole_listing_tells_the_lock_files() {
        let entry = |id: &str, path: &str| format!("100644 blob {id}\t{path}\0");
        let all = entry("aa", "go.sum") + &entry("bb", "web/package-lock.json") + &entry("cc", "vendor/go.sum");
        let found = lock_files(all.as_bytes()).expect("a listing");
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("go.sum".to_owned(), "aa".to_owned()), ("web/package-lock.json".to_owned(), "bb".to_owned())]
        );
        for bad in ["", "100644 blob aa go.sum\0", &all[..all.len() - 1]] {
            assert_eq!(lock_files(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
