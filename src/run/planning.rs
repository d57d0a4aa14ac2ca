//! The making of a plan: at the start, and again where the pull request has moved while the run waited for its lease.

use bottle_plan::facts::HostFacts;
use bottle_plan::manifest::Manifest;
use bottle_plan::plan::{BottlePlan, GitPlan, Options, PlanError, attachment_rules, branch_stem};
use bottle_plan::task::Task;

use crate::exit::Failure;
use crate::forge::Forge;
use crate::host::{Base, Checkout};
use crate::provision::GuestInputs;
use crate::secrets::Secrets;
use crate::thread::{self, AttachedFile};

/// The most names of files in a note.
const MAX_NAMES: usize = 10;

/// Everything that a plan is made of. The same task, facts and options make the same slug.
pub(crate) struct Planning {
    /// The task as it was asked for, without what is gathered.
    pub(crate) task: Task,
    pub(crate) manifest: Manifest,
    pub(crate) facts: HostFacts,
    pub(crate) options: Options,
    pub(crate) checkout: Option<Checkout>,
    /// Where manifest, prompts and skills are read; none outside of a job and of a checkout.
    pub(crate) base: Option<Base>,
}

impl Planning {
    /// Asks the forge for what belongs to the task as it is now, and makes the plan; with the files that people attached.
    pub(crate) async fn plan(&self, forge: Option<&dyn Forge>) -> Result<(BottlePlan, Vec<AttachedFile>), Failure> {
        let (mut task, mut facts, mut attached) = (self.task.clone(), self.facts.clone(), vec![]);
        // Those of an earlier run's task are not here.
        let earlier = std::mem::take(&mut task.attachments).len();
        if earlier > 0 && forge.is_none() {
            task.left_out.push(format!("{earlier} attachments, which only a job of the forge can fetch"));
        }
        if let Some(forge) = forge {
            let gathered = thread::gather(forge, &mut task).await?;
            (facts.diff, facts.remarks) = (gathered.diff, gathered.threads);
            let stem = branch_stem(&task, &self.manifest, &self.options).map_err(unplanned)?;
            facts.earlier_branch = thread::earlier_branch(forge, &task, &stem).await?;
            if let Some(rules) = attachment_rules(&task, &self.manifest, &self.options).map_err(unplanned)? {
                attached = thread::attach(forge, &mut task, rules).await;
            }
        }
        let mut plan = bottle_plan::plan::plan(&task, &self.manifest, &facts, &self.options).map_err(unplanned)?;
        plan.notes.extend(self.moved(&task));
        plan.notes.extend(plan.git.as_ref().and_then(|git| self.starts_from(git)));
        if self.options.bring_checkout
            && let Some(checkout) = &self.checkout
        {
            plan.notes.extend(left_out(&checkout.uncommitted().await));
        }
        Ok((plan, attached))
    }

    /// The host's files for the guest of a plan, and those that people attached.
    pub(crate) async fn guest_inputs(
        &self,
        plan: &BottlePlan,
        attached: Vec<AttachedFile>,
        secrets: &Secrets,
    ) -> Result<GuestInputs, Failure> {
        let mut inputs = GuestInputs::read(plan, self.checkout.as_ref(), self.base.as_ref()).await?;
        let masked = attached.into_iter().map(|file| match file.is_text {
            true => (file.name, secrets.mask_bytes(&file.bytes)),
            false => (file.name, file.bytes),
        });
        inputs.attach(plan, masked);
        inputs.plant(plan, secrets)?;
        Ok(inputs)
    }

    /// Says that the pull request is no longer what the event says.
    fn moved(&self, now: &Task) -> Option<String> {
        let (asked, now) = (self.task.pull_request.as_ref()?, now.pull_request.as_ref()?);
        (asked.head != now.head).then(|| {
            format!(
                "pull request #{} was at {} when this was asked for, and is at {} now: the work starts there",
                now.number,
                asked.head.short(),
                now.head.short()
            )
        })
    }

    /// Says in a job where the work starts: people start jobs for other branches, for tags and for proposals.
    fn starts_from(&self, git: &GitPlan) -> Option<String> {
        let ci = self.facts.ci.as_ref()?;
        let base = git.base.as_ref()?;
        if let Some(start) = &git.start {
            return Some(format!("the base is {base}; the work starts at {}", &start.as_str()[..12]));
        }
        let other =
            ci.started_for.as_deref().filter(|started_for| started_for.strip_prefix("refs/heads/") != Some(base));
        let other = other.map(|other| format!("; the job was started for {other}, which is not used"));
        Some(format!("the base is {base}, and the work starts from it{}", other.unwrap_or_default()))
    }
}

/// The failure that a task can't be planned.
fn unplanned(error: PlanError) -> Failure {
    let failure = Failure::input(&error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Says what of a checkout stays behind.
fn left_out(uncommitted: &[String]) -> Option<String> {
    let (shown, more) = uncommitted.split_at(uncommitted.len().min(MAX_NAMES));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    (!shown.is_empty())
        .then(|| format!("left out of the checkout, because it is not committed: {}{more}", shown.join(", ")))
}
