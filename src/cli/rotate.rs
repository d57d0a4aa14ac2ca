//! `bottle-runner rotate`: has a run take its credentials anew.

use rustix::process::{Signal, kill_process};

use super::{Context, print};
use crate::exit::{Code, Failure};
use crate::state;

/// Have a run read its credentials again from their files and commands, as SIGHUP does.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    /// The run's slug, as `ps` shows it [default: the only run].
    slug: Option<String>,
}

pub(super) fn main(args: &RotateArgs, context: &Context) -> Result<Code, Failure> {
    let root = context
        .environment
        .state_root()
        .ok_or_else(|| Failure::machine("HOME is not set").hint("set BOTTLE_STATE_DIR"))?;
    let live: Vec<String> = state::list(&root).into_iter().filter(|slug| state::is_live(&root.join(slug))).collect();
    let hint = "`bottle-runner ps` lists the runs";
    let slug = match (&args.slug, &live[..]) {
        (Some(slug), _) if live.contains(slug) => slug,
        (Some(slug), _) => return Err(Failure::input(format_args!("no run {slug} is going on")).hint(hint)),
        (None, [slug]) => slug,
        (None, []) => return Err(Failure::input("no run is going on").hint(hint)),
        (None, _) => {
            return Err(Failure::input(format_args!("there are several runs: {}", live.join(", "))).hint("name one"));
        }
    };
    let gone = || {
        Failure::machine(format_args!("the process of {slug} is not one of this machine's that may be told"))
            .hint("run this where the run was started: on the same machine, in the same container")
    };
    let process = state::process_of(&root.join(slug)).ok_or_else(gone)?;
    kill_process(process, Signal::HUP).map_err(|_| gone())?;
    print(&format!("{slug} takes its credentials anew; what comes of it is among its notes"))
}
