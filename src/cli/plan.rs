//! `bottle-runner plan`: what a run would do, printed.

use super::task::{self, PlanResult};
use super::task_args::TaskArgs;
use super::{Context, print};
use crate::exit::{Code, Failure};

/// Print what a run would do, and stop; needs no engine.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    task: TaskArgs,
    /// The format of the plan.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Plan a dry run.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// Everything, as in plan.json.
    Json,
    /// The docker-compose.yml.
    Compose,
}

pub(super) async fn main(args: PlanArgs, context: &Context) -> Result<Code, Failure> {
    match task::plan(&args.task, args.dry_run, context).await? {
        PlanResult::Done(what) => print(&what),
        PlanResult::Nothing(why) => print(&format!("nothing to do: {why}")),
        PlanResult::Unclear(unclear, _) => print(&format!("nothing to do: {unclear}")),
        PlanResult::Plan(planned) => match args.format {
            Format::Text => print(&bottle_plan::render::text(&planned.plan)),
            Format::Json => print(&serde_json::to_string_pretty(&planned.plan).map_err(Failure::machine)?),
            Format::Compose => print(&bottle_plan::render::compose(&planned.plan)),
        },
    }
}
