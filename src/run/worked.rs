//! The work: the agent's, or another job's. Nothing else starts the agent.

use tokio::sync::mpsc::UnboundedReceiver;

use super::LiveRun;
use super::mode::RunMode;
use super::setup::SetUp;
use crate::agent;
use crate::approve;
use crate::exit::{Code, Failure};
use crate::provision::GuestEnv;
use crate::report::Phase;
use crate::thread::NewComment;

/// A bottle in which the work was done. It takes the one that is set up: there is no agent before the seal is proved, nor while the
/// setup's ways out are open.
pub(super) struct Worked<'r> {
    run: LiveRun<'r>,
    env: GuestEnv,
}

impl<'r> Worked<'r> {
    /// Runs the agent to its end, or brings in the other job's work. `heard` is what people say meanwhile.
    pub(super) async fn work(set_up: SetUp<'r>, heard: UnboundedReceiver<NewComment>) -> Result<Self, Failure> {
        let (run, env) = set_up.into_parts();
        let (inputs, plan, events, cancel) =
            (run.context.inputs, run.context.plan, run.context.events, run.context.cancel);
        let bottle = run.bottle;
        events.phase(Phase::Agent);
        match &inputs.mode {
            RunMode::Publish(handoff) => {
                if let Some(why) = handoff.bring(bottle, plan, events).await? {
                    run.progress.fail(Code::Task, why);
                }
                return Ok(Self { run, env });
            }
            RunMode::Live | RunMode::Replay(_) => {}
        }
        let (manifest, forge, secrets) = (&inputs.manifest, inputs.forge.as_ref(), &inputs.secrets);
        let context = approve::ApprovalContext { bottle, plan, manifest, forge, secrets, events, cancel };
        let agent = approve::beside(&context, heard, agent::run(bottle, plan, &env, run.record, events)).await?;
        if let Some((code, why)) = agent.failure.clone() {
            run.progress.fail(code, why);
        }
        run.progress.agent = Some(agent);
        Ok(Self { run, env })
    }

    pub(super) fn into_parts(self) -> (LiveRun<'r>, GuestEnv) {
        (self.run, self.env)
    }
}
