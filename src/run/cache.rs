//! What a setup finds of an earlier one, and what it keeps for a later one.
//!
//! Always: an entry is written by a run whose guest has the base branch's own content, after its setup has succeeded and everything of
//! it was ended, before the agent's first process; other runs only read. The agent has a copy. Nothing that is wrong with a cache ends
//! a run, unless half of an entry may be in the guest: the setup then starts cold.

use std::fs::File;
use std::io::{self, Write as _};
use std::time::Duration;

use bottle_plan::plan::{BottlePlan, CachePlan, SetupPlan};
use bottle_types::backend::Backend;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::LiveRun;
use crate::backend::{Bottle, BottleError, Exec, Output, finish, succeed};
use crate::cache::{
    ArchiveError, Found, Kept, MAX_AGE_DAYS, MAX_STORE_BYTES, NewEntry, Store, Summary, pieces,
};
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
    env: &'a std::collections::BTreeMap<String, String>,
    files: &'a std::collections::BTreeMap<String, String>,
    /// Commands, routes, registries, directories, and the lock files of the base branch.
    setup: &'a SetupPlan,
    /// The hash of the setup's script.
    script: Option<String>,
}

/// The cache of one run's setup.
pub(super) struct SetupCache<'r> {
    plan: &'r CachePlan,
    store: Store,
    key: String,
    repository: String,
    /// None: this run may keep its setup. Some: why not.
    read_only: Option<String>,
    is_hit: bool,
}

/// What happened, for a person: one line.
pub(super) enum CacheLine {
    Note(String),
    Warning(String),
}

impl<'r> SetupCache<'r> {
    /// Opens the store, and makes the key; the error says why there is no cache in this run.
    pub(super) async fn open(run: &LiveRun<'r>, setup: &'r SetupPlan, plan: &'r CachePlan) -> Result<Self, String> {
        let dir = run.context.inputs.cache_dir.as_deref().ok_or("there is no place for it: HOME is not set")?;
        let store = Store::open(dir)?;
        let repository = repository(run.context.plan).ok_or("there is no repository whose it would be")?;
        let system = run.bottle.system_id().await.map_err(|error| error.to_string())?;
        let key = key(run, setup, &repository, &system)?;
        Ok(Self { plan, store, key, repository, read_only: read_only(run), is_hit: false })
    }

    fn entry(&self) -> NewEntry<'_> {
        NewEntry {
            key: &self.key,
            repository: &self.repository,
            directories: &self.plan.directories,
            max_bytes: self.plan.max_size,
        }
    }

    /// Puts the entry into the guest, if there is one that is as it was written.
    pub(super) async fn restore(&mut self, bottle: &dyn Bottle, owner: u32) -> Result<CacheLine, Failure> {
        let kept = match self.find().await {
            Found::Kept(kept) => kept,
            Found::Nothing => return Ok(CacheLine::Note(format!("cache: miss, nothing is kept by {}", self.short()))),
            Found::Bad(why) => {
                return Ok(CacheLine::Warning(format!("cache: the entry {} was removed: {why}", self.short())));
            }
        };
        let script = format!("{NO_LINKS}\n{NO_LINKS_BELOW}");
        match self.look(bottle, &script).await {
            Ok(None) => {}
            Ok(Some(why)) => return Ok(CacheLine::Warning(format!("cache: not used, {why}"))),
            Err(error) => return Ok(CacheLine::Warning(format!("cache: not used: {error}"))),
        }
        let (summary, made) = (kept.summary, kept.made.clone());
        unpack(bottle, kept, self.plan, owner).await.map_err(|why| {
            Failure::machine(format_args!("failed to put the setup's cache into the guest: {why}"))
                .hint("is the guest's disk full? leave out `setup.cache`, or remove it with `bottle-runner cleanup --cache --older-than 0`")
        })?;
        self.is_hit = true;
        Ok(CacheLine::Note(format!("cache: hit, {} of {made} by {}", words(summary), self.short())))
    }

    /// Keeps what the setup has left, where this run may and there is nothing of this key yet.
    pub(super) async fn keep(&self, bottle: &dyn Bottle) -> Option<CacheLine> {
        if self.is_hit {
            return None;
        }
        if let Some(why) = &self.read_only {
            return Some(CacheLine::Note(format!("cache: not kept, {why}")));
        }
        let kept = match self.pack(bottle).await {
            Ok(Some(summary)) => summary,
            Ok(None) => {
                let line = "cache: not kept, the setup has made none of its directories";
                return Some(CacheLine::Note(line.to_owned()));
            }
            Err(why) => return Some(CacheLine::Warning(format!("cache: not kept: {why}"))),
        };
        let left_out = match kept.left_out {
            0 => String::new(),
            left_out => format!(", without {left_out} files such as CLAUDE.md and .git"),
        };
        let max_age = Duration::from_secs(MAX_AGE_DAYS * 24 * 3600);
        if let Err(why) = self.store.prune(max_age, MAX_STORE_BYTES, false) {
            return Some(CacheLine::Warning(format!("cache: kept, but older entries could not be removed: {why}")));
        }
        Some(CacheLine::Note(format!("cache: kept {}{left_out} as {}", words(kept), self.short())))
    }

    fn short(&self) -> &str {
        &self.key[..12]
    }

    async fn find(&self) -> Found {
        let (store, key, repository, plan) =
            (self.store.clone(), self.key.clone(), self.repository.clone(), self.plan.clone());
        let found = tokio::task::spawn_blocking(move || {
            store.find(NewEntry {
                key: &key,
                repository: &repository,
                directories: &plan.directories,
                max_bytes: plan.max_size,
            })
        });
        found.await.unwrap_or_else(|error| Found::Bad(error.to_string()))
    }

    /// Runs a look at the directories; why they are not taken.
    async fn look(&self, bottle: &dyn Bottle, script: &str) -> Result<Option<String>, BottleError> {
        let done = finish(bottle, self.exec(script), COPY_TIMEOUT).await?;
        match done.code {
            0 => Ok(None),
            REFUSED => Ok(Some(super::outcome::one_line(done.text().trim()))),
            code => Err(BottleError::new("failed to look at the cache's directories", format_args!("ended with {code}"))),
        }
    }

    fn exec(&self, script: &str) -> Exec {
        let argv = ["sh", "-c", script, "sh"].into_iter().chain(self.plan.directories.iter().map(String::as_str));
        Exec::guest(argv).in_dir("/")
    }

    /// Takes the directories out of the guest, and keeps them; none: they are not there.
    async fn pack(&self, bottle: &dyn Bottle) -> Result<Option<Summary>, String> {
        let mut spool = self.store.spool().map_err(|error| format!("there is no room for it: {error}"))?;
        let exec = self.exec(&format!("{NO_LINKS}\n{PACK}"));
        let limit = bottle.patience(COPY_TIMEOUT);
        let packed = tokio::time::timeout(limit, spool_output(bottle, exec, &mut spool, self.plan.max_size)).await;
        let code = match packed {
            Ok(Ok(Packed::Ended(code, _))) if code == 0 || code == NOTHING => code,
            Ok(Ok(Packed::Ended(code, said))) => {
                return Err(match code {
                    REFUSED => said,
                    code => format!("tar ended with {code}: {said}"),
                });
            }
            Ok(Err(error)) => return Err(error.to_string()),
            Ok(Ok(Packed::TooLarge)) | Err(_) => {
                // It must not write on while the agent works.
                bottle.signal("KILL").await.map_err(|error| error.to_string())?;
                return Err(match packed {
                    Err(_) => format!("it took more than {} s to pack", limit.as_secs()),
                    Ok(_) => ArchiveError::TooLarge(self.plan.max_size).to_string(),
                });
            }
        };
        if code == NOTHING {
            return Ok(None);
        }
        let (store, key, repository, plan) =
            (self.store.clone(), self.key.clone(), self.repository.clone(), self.plan.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let (directories, max_bytes) = (&plan.directories, plan.max_size);
            store.keep(&mut spool, NewEntry { key: &key, repository: &repository, directories, max_bytes })
        });
        kept.await.map_err(|error| error.to_string())?.map(Some)
    }
}

/// How packing came to its end.
enum Packed {
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
) -> Result<Packed, BottleError> {
    let failed = |error: &dyn std::fmt::Display| BottleError::new("failed to take the cache out of the guest", error);
    let (mut running, mut written, mut complaint) = (bottle.exec(exec).await?, 0_u64, vec![]);
    while let Some(output) = running.output.recv().await {
        match output {
            Output::Stdout(bytes) => {
                written = written.saturating_add(bytes.len() as u64);
                // As much again is what a tar of small files has at most.
                if written > max_bytes.saturating_mul(2).saturating_add(64 << 20) {
                    return Ok(Packed::TooLarge);
                }
                spool.write_all(&bytes).map_err(|error| failed(&error))?;
            }
            Output::Stderr(bytes) => {
                complaint.extend_from_slice(&bytes[..bytes.len().min(4096_usize.saturating_sub(complaint.len()))]);
            }
        }
    }
    let code = running.code.await.map_err(|_| failed(&"it went away"))??;
    Ok(Packed::Ended(code, super::outcome::one_line(String::from_utf8_lossy(&complaint).trim())))
}

/// Unpacks an archive in the guest, a piece at a time.
async fn unpack(bottle: &dyn Bottle, kept: Kept, plan: &CachePlan, owner: u32) -> Result<(), String> {
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(1);
    let (directories, max_size) = (plan.directories.clone(), plan.max_size);
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
        return Some("the checkout does not know origin's default branch (`git remote set-head origin --auto`)".to_owned());
    };
    let short = |commit: &str| commit.get(..12).unwrap_or(commit).to_owned();
    match run.progress.starts.last() {
        Some(start) if start.as_str() == base => None,
        Some(start) => Some(format!(
            "only a run on the base branch's own content keeps one: this one starts at {}, and the base is at {}",
            short(start.as_str()),
            short(base)
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
