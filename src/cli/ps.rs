//! `bottle-runner ps`: which runs there are.

use std::fmt::Write as _;
use std::path::Path;

use bottle_types::record_file::RecordFile;
use bottle_wire::run_record::Metadata;

use super::{Context, print};
use crate::exit::{Code, Failure};
use crate::report::refusals;
use crate::state;

/// List the live runs; with --all the ended ones too, each with how much its doors refused.
#[derive(Debug, clap::Args)]
pub(crate) struct PsArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// List the ended runs too.
    #[arg(long, short)]
    all: bool,
}

pub(super) fn main(args: &PsArgs, context: &Context) -> Result<Code, Failure> {
    let root = context
        .environment
        .state_root()
        .ok_or_else(|| Failure::machine("HOME is not set").hint("set BOTTLE_STATE_DIR"))?;
    let mut rows = vec![];
    for slug in state::list(&root) {
        let dir = root.join(&slug);
        let Ok(bytes) = std::fs::read(dir.join(RecordFile::Metadata)) else { continue };
        let Ok(metadata) = serde_json::from_slice::<Metadata>(&bytes) else { continue };
        let state = match &metadata.outcome {
            Some(outcome) => format!("ended with {}", outcome.code),
            None if state::is_live(&dir) => "running".to_owned(),
            None => "dead".to_owned(),
        };
        if args.all || metadata.outcome.is_none() {
            rows.push((metadata, state, dir));
        }
    }
    rows.sort_by(|one, other| one.0.started.cmp(&other.0.started));
    if args.json {
        let values: Vec<_> = rows
            .iter()
            .map(|(metadata, state, dir)| serde_json::json!({"slug": metadata.slug, "title": metadata.title, "started": metadata.started, "state": state, "backend": metadata.backend, "refused": refused(metadata, dir), "record": dir}))
            .collect();
        return print(&serde_json::to_string_pretty(&values).map_err(Failure::machine)?);
    }
    let mut text = String::new();
    for (metadata, state, dir) in &rows {
        let Metadata { slug, started, title, .. } = metadata;
        let _ = match args.all {
            false => writeln!(text, "{slug:<42} {state:<14} {started}  {title}"),
            true => {
                let refused = refused(metadata, dir).map_or_else(|| "-".to_owned(), |count| count.to_string());
                writeln!(text, "{slug:<42} {state:<14} {refused:>4} refused  {started}  {title}")
            }
        };
    }
    if rows.is_empty() {
        text.push_str(if args.all { "no runs\n" } else { "no run is going on (--all shows ended ones)\n" });
    }
    print(&text)
}

/// How much the doors refused, as `show` counts it. None: it is not known, as what they refuse is collected at a run's end.
fn refused(metadata: &Metadata, dir: &Path) -> Option<usize> {
    metadata.outcome.as_ref()?;
    // A record whose lines can't be read is still listed; `verify-record` says what is wrong with it.
    refusals(dir).ok()
}
