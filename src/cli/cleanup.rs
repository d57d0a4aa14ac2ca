//! `bottle-runner cleanup`: what dead runs have left, collected and removed.

use bottle_scan::known::KnownSecrets;

use super::{Context, print};
use crate::backend::{self, is_dead};
use crate::exit::{Code, Failure};

/// Remove the containers, processes and directories of dead runs; never touches a live run.
#[derive(Debug, clap::Args)]
pub(crate) struct CleanupArgs {
    /// Only list what would be removed.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn main(args: &CleanupArgs, context: &Context) -> Result<Code, Failure> {
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
