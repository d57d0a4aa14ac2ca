//! The guest is set up, and the bundle gets the files that it starts without.

use bottle_plan::plan::HOST_CA_FILE;
use bottle_types::door;

use super::launched::Launched;
use super::mode::RunMode;
use super::{LiveRun, commit_files, project_config, services};
use crate::backend::{Side, Tree};
use crate::exit::Failure;
use crate::provision::{self, GuestEnv};
use crate::report::Phase;

/// A bottle in which everything is that the agent finds. It takes the launched one.
pub(super) struct Provisioned<'r> {
    run: LiveRun<'r>,
    env: GuestEnv,
}

impl<'r> Provisioned<'r> {
    /// Runs all provisioners, and keeps the commits that the agent starts from.
    pub(super) async fn provision(launched: Launched<'r>) -> Result<Self, Failure> {
        let (run, seed) = launched.into_parts();
        let context = run.context;
        context.events.phase(Phase::Provision);
        let bundle = bring_in(&run, seed);
        let guest = provision::all(run.bottle, context.plan, &context.inputs.guest_inputs, bundle, context.events);
        let ready = async { tokio::try_join!(guest, services::ready(&run)) };
        let (ready, of_base) = tokio::join!(ready, project_config::read(&context));
        let (guest, ()) = ready?;
        run.progress.starts = guest.starts;
        run.progress.commit_files = commit_files::list(&run).await;
        run.progress.project_config = project_config::bring(&run, of_base).await?;
        let mut env = guest.env;
        let generated = context.plan.services.iter().flat_map(|service| service.generated.values());
        for variable in generated {
            env.0.push((variable.clone(), context.inputs.secrets.generated(variable)?));
        }
        Ok(Self { run, env })
    }

    pub(super) fn into_parts(self) -> (LiveRun<'r>, GuestEnv) {
        (self.run, self.env)
    }
}

/// Brings into the bundle the files that a Compose file can't carry.
async fn bring_in(run: &LiveRun<'_>, seed: Option<Tree>) -> Result<(), Failure> {
    let mut tree = seed.unwrap_or_default();
    if let Some(path) = &run.context.plan.host_ca_bundle {
        let bytes =
            std::fs::read(path).map_err(|error| Failure::machine(format_args!("failed to read {path}: {error}")))?;
        tree = tree.file(HOST_CA_FILE, 0, 0o644, bytes);
    }
    match &run.context.inputs.mode {
        RunMode::Replay(cassette) => {
            tree = tree.file(format!("{}/{}", door::STATE_DIR, door::REPLAY_FILE), 0, 0o644, cassette.clone());
        }
        RunMode::Live | RunMode::Publish(_) | RunMode::Undo(_) => {}
    }
    if tree.nodes.is_empty() {
        return Ok(());
    }
    run.bottle.copy_in(Side::Bundle, tree).await.map_err(Failure::machine)
}
