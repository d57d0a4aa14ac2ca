//! `bottle-runner cleanup`: what dead runs have left, collected and removed.

use std::path::Path;
use std::time::Duration;

use bottle_scan::known::KnownSecrets;
use bottle_types::units::ByteSize;

use super::{Context, print};
use crate::backend::{self, is_dead};
use crate::cache::{MAX_AGE_DAYS, MAX_MIRRORS_BYTES, MAX_STORE_BYTES, MirrorStore, Pruned, Store};
use crate::exit::{Code, Failure};
use crate::run::RegisteredKey;
use crate::{forge, state};

/// Remove the containers, processes, directories and deploy keys of dead runs; never touches a live run.
#[derive(Debug, clap::Args)]
pub(crate) struct CleanupArgs {
    /// Only list what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Remove what setups and mirrors keep for later runs instead, as far as it is old or too much; never what a run holds.
    #[arg(long)]
    cache: bool,
    /// With --cache: remove what was not used for so many days; 0 removes all.
    #[arg(long, value_name = "DAYS", requires = "cache", default_value_t = MAX_AGE_DAYS)]
    older_than: u64,
    /// With --cache: keep so much at most, such as 10GiB; what was not used for longest goes first.
    #[arg(long, value_name = "SIZE", requires = "cache", value_parser = ByteSize::parse, default_value_t = ByteSize(MAX_STORE_BYTES))]
    max_size: ByteSize,
}

pub(super) async fn main(args: &CleanupArgs, context: &Context) -> Result<Code, Failure> {
    if args.cache {
        return cache(args, context);
    }
    let mask = KnownSecrets::new(&context.environment.credentials()).map_err(Failure::input)?;
    let mut text = String::new();
    // Before anything that may fail: a key opens a repository, and a directory does not.
    let left = deploy_keys(args.dry_run, context, &mut text).await;
    let mut first = None;
    let mut looked = false;
    for name in bottle_types::backend::Backend::ALL {
        let backend = match backend::connect(name).await {
            Ok(backend) => backend,
            Err(failure) => {
                first.get_or_insert(failure);
                continue;
            }
        };
        looked = true;
        for leftover in backend.leftovers().await? {
            if !is_dead(&leftover) {
                text.push_str(&format!("{}: alive, left alone\n", leftover.slug));
                continue;
            }
            if !args.dry_run {
                backend.remove(&leftover, &mask).await?;
            }
            let verb = if args.dry_run { "would remove" } else { "removed" };
            text.push_str(&format!("{}: {verb} {}\n", leftover.slug, leftover.describe()));
        }
    }
    if let Some(failure) = first.filter(|_| !looked) {
        print(&text)?;
        return Err(failure);
    }
    if text.is_empty() && left.is_none() {
        text.push_str("nothing is left of any run\n");
    }
    let printed = print(&text);
    left.map_or(printed, Err)
}

/// Removes the deploy keys of dead runs whose records are here; the first failure, after all of them were tried.
async fn deploy_keys(dry_run: bool, context: &Context, text: &mut String) -> Option<Failure> {
    let root = context.environment.state_root()?;
    let mut first = None;
    for slug in state::list(&root) {
        let record = root.join(&slug);
        if state::is_live(&record) {
            continue;
        }
        match deploy_key(&record, dry_run, context).await {
            Ok(None) => {}
            Ok(Some(at)) => {
                let verb = if dry_run { "would remove" } else { "removed" };
                text.push_str(&format!("{slug}: {verb} its deploy key at {at}\n"));
            }
            Err(failure) => {
                text.push_str(&format!("{slug}: its deploy key is left: {failure}\n"));
                first.get_or_insert(failure);
            }
        }
    }
    first
}

/// Removes the deploy key of a dead run, and tells of which repository it was; none: it has none.
async fn deploy_key(record: &Path, dry_run: bool, context: &Context) -> Result<Option<String>, Failure> {
    let Some(key) = RegisteredKey::read(record)? else { return Ok(None) };
    let (environment, server) = (&context.environment, key.server_url());
    let at = format!("{server}/{}", key.ci().repository);
    if dry_run {
        return Ok(Some(at));
    }
    // A token says for no server by itself: it goes to the one that the variable names, else to github.com alone.
    let named = environment.get("GITHUB_SERVER_URL").unwrap_or("https://github.com").trim_end_matches('/');
    if server != named {
        let why = format!("it is at {server}, and the token of the environment is {named}'s");
        return Err(
            Failure::input(why).hint(format_args!("if the token is for that server, set GITHUB_SERVER_URL={server}"))
        );
    }
    let forge = forge::connect(environment, &key.ci())?;
    key.remove(forge.as_ref(), record).await?;
    Ok(Some(at))
}

/// Removes entries of the setups' cache, and mirrors that are kept.
fn cache(args: &CleanupArgs, context: &Context) -> Result<Code, Failure> {
    let dir = context.environment.setup_cache();
    let dir = dir.ok_or_else(|| Failure::machine("there is no place for a cache: HOME is not set"))?;
    let failed = |why: String| Failure::machine(format_args!("failed to clean up the cache: {why}"));
    let max_age = Duration::from_secs(args.older_than.saturating_mul(24 * 3600));
    let max_size = if args.older_than == 0 { 0 } else { args.max_size.0 };
    let mut all = vec![];
    if dir.exists() {
        let store = Store::open(&dir).map_err(failed)?;
        all.extend(store.prune(max_age, max_size, args.dry_run).map_err(failed)?);
    }
    if let Some(mirrors) = context.environment.mirrors().filter(|mirrors| mirrors.exists()) {
        let store = MirrorStore::open(&mirrors).map_err(failed)?;
        all.extend(store.prune(max_age, max_size.min(MAX_MIRRORS_BYTES), args.dry_run).map_err(failed)?);
    }
    let mut text = String::new();
    for pruned in all {
        let verb = if args.dry_run { "would remove" } else { "removed" };
        match pruned {
            Pruned::Removed { key, size, why } => {
                let mib = size.div_ceil(1 << 20);
                text.push_str(&format!("{}: {verb} {mib} MiB, {why}\n", short(&key)));
            }
            Pruned::InUse { key } => text.push_str(&format!("{}: in use, left alone\n", short(&key))),
        }
    }
    if text.is_empty() {
        text.push_str("nothing in the cache is old or too much\n");
    }
    print(&text)
}

fn short(key: &str) -> &str {
    key.get(..12).unwrap_or(key)
}
