//! `bottle-runner verify-record`: whether a run record is complete and tells one story.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Context, print, record_dir};
use crate::backend;
use crate::exit::{Code, Failure};
use crate::state;

/// Check that a run record is complete and consistent, and its chain of hashes unbroken.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyRecordArgs {
    /// The run record's directory, or the slug of a run on this machine.
    record: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &VerifyRecordArgs, context: &Context) -> Result<Code, Failure> {
    let dir = record_dir(&args.record, context);
    let checked = state::check(&dir, backend::record_files).ok_or_else(|| {
        Failure::input(format_args!("{} is no run record: it has no metadata.json", dir.display())).hint(
            "give the directory that the run named at its end; `bottle-runner ps --all --json` has all of this machine",
        )
    })?;
    let proposals = &checked.proposals;
    if args.json {
        let value = serde_json::json!({
            "record": dir, "slug": checked.slug, "holds": checked.problems.is_empty(), "files": checked.files,
            "proposals": {"asked": proposals.asked, "granted": proposals.granted, "denied": proposals.denied, "open": proposals.open, "applied": proposals.applied},
            "problems": checked.problems,
        });
        print(&serde_json::to_string_pretty(&value).map_err(Failure::machine)?)?;
    } else {
        let mut text = String::new();
        for problem in &checked.problems {
            let _ = writeln!(text, "{problem}");
        }
        if checked.problems.is_empty() {
            let _ = writeln!(text, "{}: the record holds: {} files looked into", checked.slug, checked.files);
            let _ = writeln!(
                text,
                "proposals: {} asked, {} granted, {} denied, {} open; {} policies applied, and those at the end are what they lead to",
                proposals.asked, proposals.granted, proposals.denied, proposals.open, proposals.applied
            );
        }
        print(&text)?;
    }
    match checked.problems.len() {
        0 => Ok(Code::Done),
        n => Err(Failure::new(
            Code::Task,
            format_args!("{} does not hold: {n} problem{}", dir.display(), if n == 1 { "" } else { "s" }),
        )
        .hint("each line above names the file; docs/reference/run-record.md says what belongs in it")),
    }
}
