//! `bottle-runner site`: one page of many records.

use std::path::PathBuf;

use super::print;
use crate::exit::{Code, Failure};
use crate::report::Site;

/// The page's file.
const PAGE: &str = "index.html";

/// Make one page of many run records: runs by agent, cost by day, refusals by rule, the slowest phases.
#[derive(Debug, clap::Args)]
pub(crate) struct SiteArgs {
    /// A directory with run records in it, or in the directories below it.
    dir: PathBuf,
    /// Where index.html goes: DIR unless something else is said. A record's own page is linked where it lies beside it.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn main(args: &SiteArgs) -> Result<Code, Failure> {
    let output = args.output.as_ref().unwrap_or(&args.dir);
    let site = Site::read(&args.dir, output).map_err(|error| {
        Failure::input(format_args!("failed to read {}: {error}", args.dir.display()))
            .hint("give the directory that has the records, such as the state root that `bottle-runner ps --all --json` names")
    })?;
    let (runs, broken) = site.counts();
    if runs + broken == 0 {
        return Err(Failure::input(format_args!("{} has no run record", args.dir.display()))
            .hint("a record is a directory with a metadata.json in it; it may be up to three directories below"));
    }
    let page = output.join(PAGE);
    let failed = |error: std::io::Error| Failure::machine(format_args!("failed to write {}: {error}", page.display()));
    std::fs::create_dir_all(output).map_err(failed)?;
    // Beside and renamed, so that whoever serves it never sends half a page.
    let partial = output.join(format!(".{PAGE}.partial"));
    std::fs::write(&partial, site.page()).and_then(|()| std::fs::rename(&partial, &page)).map_err(failed)?;
    let unread = if broken == 0 { String::new() } else { format!(", {broken} could not be read") };
    print(&format!("{}: {runs} runs{unread}\n", page.display()))
}
