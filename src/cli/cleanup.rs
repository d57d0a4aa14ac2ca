//! `bottle-runner cleanup`: what dead runs have left, collected and removed.

use std::time::Duration;

use bottle_scan::known::KnownSecrets;
use bottle_types::units::ByteSize;

use super::{Context, print};
use crate::backend::{self, is_dead};
use crate::cache::{MAX_AGE_DAYS, MAX_STORE_BYTES, Pruned, Store};
use crate::exit::{Code, Failure};

/// Remove the containers, processes and directories of dead runs; never touches a live run.
#[derive(Debug, clap::Args)]
pub(crate) struct CleanupArgs {
    /// Only list what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Remove what setups keep for later runs instead, as far as it is old or too much; never what a run holds.
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
        return Err(failure);
    }
    if text.is_empty() {
        text.push_str("nothing is left of any run\n");
    }
    print(&text)
}

/// Removes entries of the setups' cache.
fn cache(args: &CleanupArgs, context: &Context) -> Result<Code, Failure> {
    let dir = context.environment.setup_cache();
    let dir = dir.ok_or_else(|| Failure::machine("there is no place for a cache: HOME is not set"))?;
    let mut text = String::new();
    if dir.exists() {
        let failed = |why: String| Failure::machine(format_args!("failed to clean up the cache: {why}"));
        let store = Store::open(&dir).map_err(failed)?;
        let max_age = Duration::from_secs(args.older_than.saturating_mul(24 * 3600));
        let max_size = if args.older_than == 0 { 0 } else { args.max_size.0 };
        for pruned in store.prune(max_age, max_size, args.dry_run).map_err(failed)? {
            let verb = if args.dry_run { "would remove" } else { "removed" };
            match pruned {
                Pruned::Removed { key, size, why } => {
                    let mib = size.div_ceil(1 << 20);
                    text.push_str(&format!("{}: {verb} {mib} MiB, {why}\n", short(&key)));
                }
                Pruned::InUse { key } => text.push_str(&format!("{}: in use, left alone\n", short(&key))),
            }
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
