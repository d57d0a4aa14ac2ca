//! `bottle-runner proposals`: what the agents of local runs ask for, shown and decided.
//!
//! Map: `pick` (which run, which proposal), `decide` (yes, no, answers), `view` (text for people), `watch` (the live view),
//! `keys` (its keys). Everything goes through the bundle of the running bottle; nothing is decided from a file.

mod decide;
mod keys;
mod pick;
mod view;
mod watch;

use std::path::PathBuf;

use clap::Subcommand;

use super::{Context, print};
use crate::exit::{Code, Failure};

pub(super) use decide::user;
pub(super) use pick::one;

/// Decide what an agent asked for in a run on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct ProposalsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List what was asked, in every run that is going on.
    List {
        #[command(flatten)]
        which: Which,
        /// As JSON: an object a run.
        #[arg(long)]
        json: bool,
    },
    /// Show one: what would change, why, until when, and the code that a yes repeats.
    Show {
        /// Its number, such as P1.
        id: String,
        #[command(flatten)]
        which: Which,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say yes.
    Approve {
        /// Its number, such as P1.
        id: String,
        /// The code that `show` prints; asked for on a terminal, needed elsewhere.
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
    /// Say no, and why.
    Deny {
        /// Its number, such as P1.
        id: String,
        /// Why, for the agent.
        why: Vec<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Answer a question.
    Answer {
        /// Its number, such as P1.
        id: String,
        /// The answer, for the agent.
        #[arg(required = true)]
        text: Vec<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Show what is asked as it happens, with keys to decide on a terminal; ends with the run.
    Watch {
        #[command(flatten)]
        which: Which,
        /// As JSON lines, without keys.
        #[arg(long)]
        json: bool,
    },
}

/// Which run is meant.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// The run's slug, as `ps` shows it; not needed where one run alone is going on.
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
