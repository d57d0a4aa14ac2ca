//! `bottle-runner proposals`: what the agents of local runs ask for, shown and decided.
//!
//! Map: `pick` (which run, which proposal), `decide` (yes, no, answers), `view` (text for people), `watch` (the live view),
//! `keys` (its keys). Everything goes through the bundle of the running bottle; nothing is decided from a file.

mod decide;
pub(super) mod keys;
mod pick;
mod view;
mod watch;

use std::path::PathBuf;

use clap::Subcommand;

use super::{Context, print};
use crate::exit::{Code, Failure};

pub(super) use decide::user;
pub(super) use pick::{dir, one};

/// Show and decide the proposals of agents in this machine's runs.
#[derive(Debug, clap::Args)]
pub(crate) struct ProposalsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the proposals of every live run.
    List {
        #[command(flatten)]
        which: Which,
        /// Print JSON: one object for each run.
        #[arg(long)]
        json: bool,
    },
    /// Show a proposal: the change, the reason, the end of its time, and the code that an approval repeats.
    Show {
        /// The proposal's number, such as P1.
        id: String,
        #[command(flatten)]
        which: Which,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Approve a proposal.
    Approve {
        /// The proposal's number, such as P1.
        id: String,
        /// The code that `show` prints; without it a terminal is asked.
        code: Option<String>,
        #[command(flatten)]
        which: Which,
        /// Grant this request instead: YAML or JSON, as `show --json` has it under `request`.
        #[arg(long, value_name = "FILE", conflicts_with = "edit")]
        request: Option<PathBuf>,
        /// Change the request in $VISUAL or $EDITOR, and grant that.
        #[arg(long)]
        edit: bool,
    },
    /// Deny a proposal, with a reason.
    Deny {
        /// The proposal's number, such as P1.
        id: String,
        /// The reason, for the agent.
        why: Vec<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Answer a question.
    Answer {
        /// The proposal's number, such as P1.
        id: String,
        /// The answer, for the agent.
        #[arg(required = true)]
        text: Vec<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Show proposals as they come, with keys to decide on a terminal; ends with the run.
    Watch {
        #[command(flatten)]
        which: Which,
        /// Print JSON lines, without keys.
        #[arg(long)]
        json: bool,
    },
}

/// The option that names a run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// The run's slug, as `ps` shows it; not needed if there is only one live run.
    #[arg(long = "run", value_name = "SLUG")]
    pub(crate) slug: Option<String>,
}

pub(super) async fn main(args: ProposalsArgs, context: &Context) -> Result<Code, Failure> {
    match args.verb {
        Verb::List { which, json } => list(&which, json, context).await,
        Verb::Show { id, which, json } => {
            let run = pick::one(&which, context).await?;
            let standing = run.proposal(&id).await?;
            if json {
                return print(&serde_json::to_string_pretty(&standing).map_err(Failure::machine)?);
            }
            print(&view::details(&standing, context.out))
        }
        Verb::Approve { id, code, which, request, edit } => {
            let run = pick::one(&which, context).await?;
            let standing = run.proposal(&id).await?;
            let instead = match (request, edit) {
                (Some(path), _) => Some(decide::from_file(&path)?),
                (None, true) => Some(decide::edited(&standing.proposal, context).await?),
                (None, false) => None,
            };
            decide::approve(&run, &standing, code.as_deref(), instead, context).await
        }
        Verb::Deny { id, why, which } => {
            let run = pick::one(&which, context).await?;
            let standing = run.proposal(&id).await?;
            decide::deny(&run, &standing.proposal, &why.join(" "), context).await
        }
        Verb::Answer { id, text, which } => {
            let run = pick::one(&which, context).await?;
            let standing = run.proposal(&id).await?;
            decide::answer(&run, &standing.proposal, &text.join(" "), context).await
        }
        Verb::Watch { which, json } => watch::main(&pick::one(&which, context).await?, json, context).await,
    }
}

async fn list(which: &Which, json: bool, context: &Context) -> Result<Code, Failure> {
    let mut listings = vec![];
    for run in pick::all(which, context).await? {
        listings.push(run.list().await?);
    }
    if json {
        return print(&serde_json::to_string_pretty(&listings).map_err(Failure::machine)?);
    }
    print(&view::list(&listings, context.out))
}
