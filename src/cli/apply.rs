//! `bottle-runner apply`: a policy file by hand, put in force in a running bottle.

use std::path::PathBuf;

use bottle_types::door::Door;
use bottle_wire::control::Applied;
use bottle_wire::proposal::PolicyFile;

use super::proposals::{self, Which};
use super::{Context, print};
use crate::exit::{Code, Failure};

/// Apply a policy file to a running bottle, as an approved proposal is applied.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// The complete file: routes.yaml, pipelock.yaml or gate.yaml, in the format of the run record.
    file: PathBuf,
    /// The door that takes the policy, if the file's name does not show it.
    #[arg(long, value_enum)]
    door: Option<DoorArg>,
    #[command(flatten)]
    which: Which,
}

/// The doors whose policy can change in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DoorArg {
    /// routes.yaml
    Egress,
    /// pipelock.yaml
    Pipelock,
    /// gate.yaml
    GitGate,
}

pub(super) async fn main(args: ApplyArgs, context: &Context) -> Result<Code, Failure> {
    let name = args.file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let door = match args.door {
        Some(DoorArg::Egress) => Door::Egress,
        Some(DoorArg::Pipelock) => Door::Pipelock,
        Some(DoorArg::GitGate) => Door::GitGate,
        None => [Door::Egress, Door::Pipelock, Door::GitGate]
            .into_iter()
            .find(|door| PolicyFile::of(*door).is_some_and(|file| file.name() == name))
            .ok_or_else(|| {
                Failure::input(format_args!("`{name}` does not say whose policy it is"))
                    .hint("name it routes.yaml, pipelock.yaml or gate.yaml, or give --door")
            })?,
    };
    let policy = std::fs::read(&args.file)
        .map_err(|error| Failure::input(format_args!("failed to read {}: {error}", args.file.display())))?;
    let run = proposals::one(&args.which, context).await?;
    match run.control().apply(door, &proposals::user(context), policy).await.map_err(Failure::machine)? {
        Applied::InForce { file, before, after } if before == after => {
            print(&format!("{file}: nothing to change, {after} is in force already"))
        }
        Applied::InForce { file, before, after } => print(&format!("{file}: in force, {before} became {after}")),
        Applied::Kept { reason } => {
            Err(Failure::new(Code::Task, format_args!("{}: {reason}; what was in force still is", run.slug)))
        }
    }
}
