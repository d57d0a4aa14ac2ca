//! Which run, and which of its proposals.

use std::path::PathBuf;

use bottle_wire::control::Listing;
use bottle_wire::proposal::ProposalId;
use bottle_wire::proposal::Standing;

use super::Which;
use crate::approve::ControlClient;
use crate::backend::{self, Bottle};
use crate::cli::Context;
use crate::exit::Failure;
use crate::state;

/// A run that is going on, and its bottle.
pub(crate) struct AttachedRun {
    pub(crate) slug: String,
    bottle: Box<dyn Bottle>,
}

impl AttachedRun {
    async fn attach(slug: String, dir: PathBuf) -> Result<Self, Failure> {
        let bottle = backend::attach(&dir).await?;
        Ok(Self { slug, bottle })
    }

    pub(crate) fn control(&self) -> ControlClient<'_> {
        ControlClient(self.bottle.as_ref())
    }

    pub(super) async fn list(&self) -> Result<Listing, Failure> {
        self.control().list().await.map_err(|error| {
            Failure::machine(format_args!("{}: {error}", self.slug))
                .hint("a run that is just starting or ending has no bottle to ask; `bottle-runner ps` lists the runs")
        })
    }

    pub(super) async fn proposal(&self, id: &str) -> Result<Standing, Failure> {
        let id = ProposalId::parse(id).map_err(Failure::input)?;
        let listing = self.list().await?;
        listing.proposals.into_iter().find(|standing| standing.proposal.id == id).ok_or_else(|| {
            Failure::input(format_args!("there is no proposal {id} in {}", self.slug))
                .hint("`bottle-runner proposals list` shows all of them")
        })
    }
}

/// The one run that is meant.
pub(crate) async fn one(which: &Which, context: &Context) -> Result<AttachedRun, Failure> {
    let (slug, dir) = dir(which, "say which one with --run SLUG", context)?;
    AttachedRun::attach(slug, dir).await
}

/// The slug and the record of the one run that is meant; `how` says how one of several is named.
pub(crate) fn dir(which: &Which, how: &'static str, context: &Context) -> Result<(String, PathBuf), Failure> {
    let mut live = live(which, context)?;
    match live.pop() {
        Some(one) if live.is_empty() => Ok(one),
        Some(last) => {
            live.push(last);
            let slugs: Vec<&str> = live.iter().map(|(slug, _)| slug.as_str()).collect();
            Err(Failure::input(format_args!("{} runs are going on: {}", slugs.len(), slugs.join(", "))).hint(how))
        }
        None => Err(nothing()),
    }
}

/// Every run that is meant.
pub(super) async fn all(which: &Which, context: &Context) -> Result<Vec<AttachedRun>, Failure> {
    let mut runs = vec![];
    for (slug, dir) in live(which, context)? {
        runs.push(AttachedRun::attach(slug, dir).await?);
    }
    if runs.is_empty() { Err(nothing()) } else { Ok(runs) }
}

fn nothing() -> Failure {
    Failure::input("no run is going on").hint("`bottle-runner ps --all` lists the ended ones")
}

fn live(which: &Which, context: &Context) -> Result<Vec<(String, PathBuf)>, Failure> {
    let root = context
        .environment
        .state_root()
        .ok_or_else(|| Failure::machine("HOME is not set").hint("set BOTTLE_STATE_DIR"))?;
    if let Some(slug) = &which.slug {
        if slug.contains(['/', '\\']) || slug.starts_with('.') || !root.join(slug).is_dir() {
            return Err(Failure::input(format_args!("there is no run `{slug}`"))
                .hint("`bottle-runner ps` lists the runs that are going on"));
        }
        return Ok(vec![(slug.clone(), root.join(slug))]);
    }
    let dirs = state::list(&root).into_iter().map(|slug| (slug.clone(), root.join(slug)));
    Ok(dirs.filter(|(_, dir)| state::is_live(dir)).collect())
}
