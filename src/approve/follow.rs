//! Beside the agent's phase: what is asked and decided becomes events, and in `comment` mode comments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bottle_plan::manifest;
use bottle_policy::supervise::{Approval, Request};
use bottle_wire::control::{Listing, Update};
use bottle_wire::proposal::{self, ProposalId, State};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::context::ApprovalContext;
use super::control::{ControlClient, Updates};
use super::conversation::Conversation;
use super::words::{self, ProposalOutcome};
use crate::exit::Failure;
use crate::report::{Case, ProposalStatus, RunEvent, Suite};
use crate::thread::NewComment;

/// Follows what the agent asks for, while it works; it may work more than once.
pub(crate) struct Follower<'a> {
    context: ApprovalContext<'a>,
    updates: Option<Updates>,
    conversation: Option<Conversation<'a>>,
    /// The last report of each; an update may come again.
    told: BTreeMap<ProposalId, ReportedProposal>,
}

/// A proposal as it was told.
struct ReportedProposal {
    name: String,
    hash: String,
    outcome: ProposalOutcome,
    since: Instant,
    /// From the question to the decision.
    waited: Option<Duration>,
    /// True if the run has a case that says so.
    is_reported: bool,
}

impl ReportedProposal {
    /// A denial is no failure of the run; a yes that could not be applied is.
    fn case(&self) -> Case {
        let ProposalOutcome { standing, by, detail } = &self.outcome;
        let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let waited = self.waited.unwrap_or_else(|| self.since.elapsed());
        Case {
            failure: (*standing == ProposalStatus::Failed).then(|| detail.clone()),
            output: format!("{}{by}: {detail}", standing.name()),
            ..Case::passed(Suite::Supervise, self.name.clone(), waited)
        }
    }
}

/// How long the end of the agent waits to hear what was decided last.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

impl<'a> Follower<'a> {
    /// Follows nothing yet; `heard` is what people say on the thread.
    pub(crate) fn new(context: ApprovalContext<'a>, heard: UnboundedReceiver<NewComment>) -> Self {
        let comment = context.plan.policies.supervise.approval == Approval::Comment;
        let conversation =
            context.forge.filter(|_| comment).and_then(|forge| Conversation::new(context, forge.clone(), heard));
        Self { context, updates: None, conversation, told: BTreeMap::new() }
    }

    /// Does a work of the bottle's, and follows what is asked meanwhile; ends with the work.
    pub(crate) async fn beside<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let cancel = self.context.cancel;
        // Nobody shall answer what nobody reads any more.
        let held = match self.conversation {
            Some(_) => Some(cancel.hold().await),
            None => None,
        };
        let (end, ended) = oneshot::channel();
        let mut follow = Box::pin(self.follow(ended));
        let done = tokio::select! {
            done = work => Ok(done),
            () = &mut follow => unreachable!("it follows as long as the work goes on"),
            failure = cancel.requested(), if held.is_some() => Err(failure),
        };
        // A comment that is on its way would stand there for ever, asking, if nobody heard its number.
        drop(end);
        if tokio::time::timeout(CLOSE_TIMEOUT, follow).await.is_err() {
            self.context.events.warn("what was last said of the agent's requests is not known: the forge is slow");
        }
        match done {
            Ok(done) => {
                self.close().await;
                done
            }
            Err(failure) => {
                self.stop().await;
                Err(failure)
            }
        }
    }

    /// Goes on until `ended`, and to the end of the step that it is in: the agent goes on without a door that ended, and
    /// everything open times out there.
    async fn follow(&mut self, mut ended: oneshot::Receiver<()>) {
        let events = self.context.events;
        let watched = tokio::select! {
            watched = ControlClient(self.context.bottle).watch() => watched,
            _ = &mut ended => return,
        };
        match watched {
            Ok(updates) => self.updates = Some(updates),
            Err(error) => events.warn(format!("what the agent asks for can't be seen, so nothing is granted: {error}")),
        }
        loop {
            let update = async {
                match &mut self.updates {
                    Some(updates) => updates.next().await,
                    None => std::future::pending().await,
                }
            };
            let heard = async {
                match &mut self.conversation {
                    Some(conversation) => conversation.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What is asked comes before what is said of it.
                biased;
                _ = &mut ended => return,
                update = update => match update {
                    Ok(Some(update)) => self.take(update).await,
                    Ok(None) => self.updates = None,
                    Err(error) => {
                        events.warn(format!("{error}; nothing more is granted in this run"));
                        self.updates = None;
                    }
                },
                next = heard => {
                    if let Some(conversation) = &mut self.conversation {
                        conversation.act(next).await;
                    }
                }
            }
        }
    }

    async fn take(&mut self, update: Update) {
        let standing = match update {
            Update::Progress { id: _, time: _, line } => {
                return self.context.events.emit(RunEvent::Progress { text: words::one_line(&line) });
            }
            Update::Proposal(standing) => standing,
        };
        self.tell(&standing);
        if let Some(conversation) = &mut self.conversation {
            conversation.take(*standing).await;
        }
    }

    /// Each change once, as an event.
    fn tell(&mut self, standing: &proposal::Standing) {
        let proposal = &standing.proposal;
        let Some(outcome) = words::outcome(&standing.state) else { return };
        // An open one that comes again is shown anew, with another hash.
        let told = self.told.entry(proposal.id).or_insert_with(|| ReportedProposal {
            name: format!("{} {}", proposal.id, words::what(&proposal.request)),
            hash: String::new(),
            outcome: outcome.clone(),
            since: Instant::now(),
            waited: None,
            is_reported: false,
        });
        if told.hash == proposal.hash && told.outcome == outcome {
            return;
        }
        told.hash.clone_from(&proposal.hash);
        told.outcome = outcome.clone();
        told.is_reported = false;
        if outcome.standing != ProposalStatus::Asked {
            told.waited.get_or_insert_with(|| told.since.elapsed());
        }
        let mut detail = outcome.detail;
        if outcome.standing == ProposalStatus::Asked {
            detail = match &proposal.request {
                Request::Ask { .. } => String::new(),
                request => words::one_line(request.why()),
            };
            if self.context.plan.policies.supervise.approval == Approval::Local {
                let (run, id) = (&proposal.run, proposal.id);
                self.context.events.note(format!(
                    "{id} waits until {}: bottle-runner proposals show {id} --run {run}",
                    proposal.expires_at
                ));
            }
        }
        self.context.events.emit(RunEvent::Proposal {
            id: proposal.id.to_string(),
            what: words::what(&proposal.request),
            standing: outcome.standing,
            by: outcome.by,
            detail,
        });
    }

    /// Offers the change of the manifest with which the next run need not ask.
    fn offer(&self, listing: &Listing) {
        let wanted = listing.proposals.iter().filter(|standing| !matches!(standing.state, State::Failed { .. }));
        let requests: Vec<&Request> = wanted.map(|standing| &standing.proposal.request).collect();
        let (name, text) = (self.context.manifest.name(), self.context.manifest.text());
        let edited = manifest::offer(text, self.context.plan.agent.bottle.as_str(), &requests);
        // What a policy does not allow can't be put into the manifest.
        let is_allowed = |edited: &String| self.context.manifest.with_text(edited.clone()).parse().is_ok();
        if let Some(edited) = edited.filter(is_allowed) {
            self.context.events.emit(RunEvent::Offer { diff: words::file_diff(name, text, &edited) });
        }
    }

    /// The work has ended: what is decided already is still told, and nothing waits any more.
    async fn close(&mut self) {
        // What was decided in the last moment may not have been heard of.
        match tokio::time::timeout(CLOSE_TIMEOUT, ControlClient(self.context.bottle).list()).await {
            Ok(Ok(listing)) => {
                self.offer(&listing);
                for standing in listing.proposals {
                    self.take(Update::Proposal(Box::new(standing))).await;
                }
            }
            Ok(Err(error)) => self.context.events.warn(format!("what the agent asked for last is not known: {error}")),
            Err(_) => self.context.events.warn("what the agent asked for last is not known: supervise does not answer"),
        }
        for told in self.told.values_mut().filter(|told| !told.is_reported) {
            self.context.events.case(told.case());
            told.is_reported = true;
        }
        if let Some(conversation) = &mut self.conversation {
            conversation.close("the agent has ended before anybody decided").await;
        }
        self.updates = None;
    }

    /// The run is to end at once: those who were asked are told.
    async fn stop(&mut self) {
        if let Some(conversation) = &mut self.conversation {
            conversation.close("the run was stopped before anybody decided").await;
        }
    }
}
