//! The launch: the backend and its images, then the guest and the bundle.

use super::claimed::Claimed;
use super::{LiveRun, RunProgress, case, credentials, deploy_key};
use crate::backend::{self, Bottle, Tree};
use crate::exit::Failure;
use crate::provision::mirror_seed;
use crate::report::Phase;

/// A bottle that runs. It takes the claim.
pub(super) struct Launched<'r> {
    run: LiveRun<'r>,
    /// The seed of the gate's mirror.
    seed: Option<Tree>,
    /// The version of the credentials that the doors have.
    credentials: u64,
}

/// Makes sure that everything is there which the bottle is made of. No container exists yet.
pub(super) async fn prepare(claimed: &Claimed<'_>) -> Result<Box<dyn Bottle>, Failure> {
    let context = claimed.context();
    let (plan, events) = (context.plan, context.events);
    events.phase(Phase::Prepare);
    let prepared = async {
        let backend = case(events, "image", async {
            let backend = backend::connect(plan.backend).await?;
            backend.prepare(plan, events).await?;
            Ok(backend)
        })
        .await?;
        backend::remove_dead_runs(backend.as_ref(), &context.inputs.secrets.known(), events).await;
        deploy_key::register(claimed).await?;
        Ok(backend)
    };
    let backend = tokio::select! {
        prepared = prepared => prepared?,
        failure = context.cancel.requested() => return Err(failure),
    };
    Ok(backend.bottle(plan, claimed.record().dir()))
}

impl<'r> Launched<'r> {
    /// Starts the bottle; beside it the mirror's seed is packed.
    pub(super) async fn launch(
        claimed: &'r Claimed<'_>,
        bottle: &'r dyn Bottle,
        progress: &'r mut RunProgress,
    ) -> Result<Self, Failure> {
        let run = LiveRun { context: claimed.context(), record: claimed.record(), bottle, progress };
        let events = run.context.events;
        events.phase(Phase::Launch);
        let secrets = &run.context.inputs.secrets;
        let launched_with = secrets.version();
        let seed = case(events, "launch", up(&run)).await?;
        let credentials = tokio::select! {
            biased;
            how = bottle.died() => return Err(super::died(&how)),
            credentials = credentials::first(run.bottle, secrets, launched_with) => credentials?,
        };
        Ok(Self { run, seed, credentials })
    }

    /// The version of the credentials that the doors have.
    pub(super) fn credentials(&self) -> u64 {
        self.credentials
    }

    pub(super) fn into_parts(self) -> (LiveRun<'r>, Option<Tree>) {
        (self.run, self.seed)
    }
}

async fn up(run: &LiveRun<'_>) -> Result<Option<Tree>, Failure> {
    let events = run.context.events;
    let seed = async {
        let git = run.context.plan.git.as_ref().filter(|_| !run.bottle.has_kept_mirror())?;
        let packed = mirror_seed::pack(git, &run.record.dir().join("seed")).await;
        // It only saves time.
        packed.inspect_err(|why| events.note(format!("the mirror starts empty: {why}"))).ok().flatten()
    };
    let (up, seed) = tokio::join!(run.bottle.up(&run.context.inputs.secrets), seed);
    up?.into_iter().for_each(|note| events.note(note));
    Ok(seed)
}
