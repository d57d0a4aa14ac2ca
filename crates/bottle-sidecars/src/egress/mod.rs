//! (being built)

use std::process::ExitCode;

use crate::common::Dirs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The policy file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: std::path::PathBuf,
}

pub(crate) fn main(dirs: &Dirs, args: Args) -> ExitCode {
    tracing::error!(?dirs, ?args, "not there yet");
    ExitCode::FAILURE
}
