//! `bottle-runner show` and `bottle-runner diff`: a run record on the terminal, and two of them beside each other.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use super::{Context, print, record_dir};
use crate::exit::{Code, Failure};
use crate::report::{Comparison, Page, RunView, Section};
use crate::state::RowError;

/// Show what a run did: one screen, or the parts that are asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The run record's directory, or the slug of a run on this machine.
    record: PathBuf,
    /// What happened when: phases, what the agent said and did, refusals, pushes, proposals.
    #[arg(long)]
    timeline: bool,
    /// What the agent's Edit and Write changed, as diffs.
    #[arg(long)]
    diff: bool,
    /// Every request through the outgoing doors.
    #[arg(long)]
    egress: bool,
    /// Tokens and US dollars by turn and model.
    #[arg(long)]
    cost: bool,
    /// What was refused and why, and the change of the manifest that would allow it.
    #[arg(long)]
    refused: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ShowArgs {
    fn sections(&self) -> Vec<Section> {
        let flags = [
            (self.timeline, Section::Timeline),
            (self.diff, Section::Diff),
            (self.egress, Section::Egress),
            (self.cost, Section::Cost),
            (self.refused, Section::Refused),
        ];
        flags.into_iter().filter_map(|(is_asked, section)| is_asked.then_some(section)).collect()
    }
}

/// Show what is different between two runs; exits with 0 whatever that is.
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// The first run record's directory, or the slug of a run on this machine.
    #[arg(value_name = "RECORD")]
    a: PathBuf,
    /// The second one's.
    #[arg(value_name = "RECORD")]
    b: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn show(args: &ShowArgs, context: &Context) -> Result<Code, Failure> {
    let view = open(&args.record, context)?;
    let asked = args.sections();
    let mut page = page(context);
    if asked.is_empty() {
        let summary = view.summary();
        if args.json {
            return print(&serde_json::to_string_pretty(&summary).map_err(Failure::machine)?);
        }
        summary.print(&mut page);
    } else {
        let sections = view.sections(&asked);
        if args.json {
            return print(&serde_json::to_string_pretty(&sections).map_err(Failure::machine)?);
        }
        sections.print(&mut page);
    }
    print(&page.into_text())
}

pub(super) fn diff(args: &DiffArgs, context: &Context) -> Result<Code, Failure> {
    let (one, other) = (open(&args.a, context)?.summary(), open(&args.b, context)?.summary());
    let comparison = Comparison::new(&one, &other);
    if args.json {
        return print(&serde_json::to_string_pretty(&comparison).map_err(Failure::machine)?);
    }
    let mut page = page(context);
    comparison.print(&mut page);
    print(&page.into_text())
}

/// A page as wide as the terminal that stdout is; one on a pipe cuts no line.
pub(super) fn page(context: &Context) -> Page {
    let columns = std::io::stdout().is_terminal().then(columns).flatten();
    Page::new(context.out, columns)
}

/// Columns of the terminal that stdout is; none: it does not say.
pub(super) fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}

/// The run that a record is about.
pub(super) fn open(record: &Path, context: &Context) -> Result<RunView, Failure> {
    let dir = record_dir(record, context);
    RunView::open(&dir).map_err(|error| unreadable(&dir, error))
}

/// The same without what the agent said and did.
pub(super) fn open_logs(record: &Path, context: &Context) -> Result<RunView, Failure> {
    let dir = record_dir(record, context);
    RunView::open_logs(&dir).map_err(|error| unreadable(&dir, error))
}

pub(super) fn unreadable(dir: &Path, error: RowError) -> Failure {
    match error {
        RowError::File { .. } => Failure::input(format_args!("{} is no run record: {error}", dir.display())).hint(
            "give the directory that the run named at its end; `bottle-runner ps --all --json` has all of this machine",
        ),
        RowError::Line { .. } => Failure::new(Code::Task, format_args!("{}: {error}", dir.display()))
            .hint("`bottle-runner verify-record` says what else is wrong with a record"),
    }
}
