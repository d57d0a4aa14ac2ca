//! `bottle-runner logs`: what a run's containers printed.

use super::{Context, print};
use bottle_types::record_file::RecordFile;

use crate::backend;
use crate::exit::{Code, Failure};
use crate::state;

/// Print a run's logs.
#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// The run's slug, as `ps --all` shows it.
    slug: String,
    /// Print the requests through the outgoing doors instead, one a row.
    #[arg(long)]
    egress: bool,
}

pub(super) async fn main(args: &LogsArgs, context: &Context) -> Result<Code, Failure> {
    let root = context
        .environment
        .state_root()
        .ok_or_else(|| Failure::machine("HOME is not set").hint("set BOTTLE_STATE_DIR"))?;
    if args.slug.contains(['/', '\\']) || args.slug.starts_with('.') {
        return Err(Failure::input(format_args!("`{}` is not the name of a run", args.slug)));
    }
    let record = root.join(&args.slug);
    if !args.egress && state::is_live(&record) && record.join(RecordFile::Plan).is_file() {
        let printed = backend::attach(&record).await?.logs().await.map_err(Failure::machine)?;
        return print(&String::from_utf8_lossy(&printed));
    }
    let path = record.join(if args.egress { RecordFile::Egress } else { RecordFile::DoorLog });
    let bytes = std::fs::read(&path).map_err(|error| {
        Failure::input(format_args!("failed to read {}: {error}", path.display()))
            .hint("`bottle-runner ps --all` lists the runs; egress.jsonl is there once a run has ended")
    })?;
    let text = String::from_utf8_lossy(&bytes);
    print(&if args.egress { bottle_wire::access::table(&text) } else { text.into_owned() })
}
