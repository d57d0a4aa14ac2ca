//! The broker: the one task that decides, applies and writes. Everything comes to it one after the other, so the log has one
//! writer and the policies have one owner.
//!
//! Map: `held` (requests that pipelock holds), `outputs` (what the runner is to write at the forge), `pushes` (what the gate has refused or holds), `enforce` (puts a decision in force), `ends` (proposals that end by themselves).
//!
//! Always: an event is written before anybody is told of it. Sockets and MCP do not belong here.

mod ends;
mod enforce;
mod held;
mod outputs;
mod pushes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bottle_policy::outputs::{Output, OutputJudge, OutputKind};
use bottle_policy::supervise::{Approval, Held, HeldPush, Request, SupervisePolicy};
use bottle_types::canary::SELF_TEST_TOOL;
use bottle_types::rule::Rule;
use bottle_wire::control::{Applied, Apply, Decided, Holding, Listing, Update};
use bottle_wire::proposal::record::{Cause, Event};
use bottle_wire::proposal::{By, PolicyFile, ProposalId, State, Verdict, check, sha256};
use bottle_wire::proposal::{Decide, Standing};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use super::apply::Supervisor;
use super::error::BrokerError;
use super::limits::RequestLimits;
use super::log::{ProposalLog, moment, rfc3339};
use super::view::View;
use super::words::{self, StatusText};
use pushes::was_refused;

/// Messages that wait; more callers than that wait themselves.
const QUEUE_LENGTH: usize = 32;

/// The broker's answer to the agent.
#[derive(Debug, Clone)]
pub(super) struct BrokerAnswer {
    pub(super) text: String,
    /// It was not taken, or there is no such proposal: a mistake of the caller's, not a decision.
    pub(super) mistake: bool,
    /// Where it is still to be decided: the words for each change of its state, the last of them for its end.
    pub(super) pending: Option<Pending>,
}

/// A proposal under way.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) status_text: watch::Receiver<StatusText>,
    /// How long it may take at most.
    pub(super) most: Duration,
}

enum BrokerMessage {
    Ask(Request, oneshot::Sender<BrokerAnswer>),
    Output(OutputKind, Result<Output, String>, oneshot::Sender<BrokerAnswer>),
    Secret(String, Rule, oneshot::Sender<()>),
    Status(ProposalId, oneshot::Sender<BrokerAnswer>),
    View(oneshot::Sender<View>),
    Watch(mpsc::UnboundedSender<Update>),
    List(oneshot::Sender<Listing>),
    Decide(Box<Decide>, oneshot::Sender<Decided>),
    Apply(Apply, oneshot::Sender<Applied>),
    Hold(Held, oneshot::Sender<(Holding, Option<watch::Receiver<StatusText>>)>),
    Held(ProposalId, oneshot::Sender<Holding>),
    HoldPush(Box<HeldPush>, oneshot::Sender<Holding>),
    Withdraw(ProposalId),
}

/// A handle of the broker: sends messages to its task.
#[derive(Debug, Clone)]
pub(super) struct BrokerHandle(mpsc::Sender<BrokerMessage>);

impl std::fmt::Debug for BrokerMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl BrokerHandle {
    /// A desk and the work it needs; the work ends when the record can't be gone on with.
    pub(super) fn open(broker: Broker) -> (Self, impl Future<Output = Result<(), BrokerError>>) {
        let (sender, messages) = mpsc::channel(QUEUE_LENGTH);
        (Self(sender), broker.work(messages))
    }

    /// A desk without an office: what is said to it can be looked at.
    #[cfg(test)]
    pub(super) fn without_broker() -> (Self, mpsc::Receiver<impl Sized + use<>>) {
        let (sender, messages) = mpsc::channel::<BrokerMessage>(QUEUE_LENGTH);
        (Self(sender), messages)
    }

    pub(super) async fn ask(&self, request: Request) -> Option<BrokerAnswer> {
        self.call(|to| BrokerMessage::Ask(request, to)).await
    }

    /// Hands in an output, or what is wrong with the call.
    pub(super) async fn output(&self, kind: OutputKind, asked: Result<Output, String>) -> Option<BrokerAnswer> {
        self.call(|to| BrokerMessage::Output(kind, asked, to)).await
    }

    /// Tells of a call that was refused because of a secret in it.
    pub(super) async fn secret(&self, tool: String, rule: Rule) -> Option<()> {
        self.call(|to| BrokerMessage::Secret(tool, rule, to)).await
    }

    pub(super) async fn status(&self, id: ProposalId) -> Option<BrokerAnswer> {
        self.call(|to| BrokerMessage::Status(id, to)).await
    }

    pub(super) async fn view(&self) -> Option<View> {
        self.call(BrokerMessage::View).await
    }

    pub(super) async fn list(&self) -> Option<Listing> {
        self.call(BrokerMessage::List).await
    }

    pub(super) async fn decide(&self, decide: Box<Decide>) -> Option<Decided> {
        self.call(|to| BrokerMessage::Decide(decide, to)).await
    }

    pub(super) async fn apply(&self, apply: Apply) -> Option<Applied> {
        self.call(|to| BrokerMessage::Apply(apply, to)).await
    }

    /// Updates from now on, first every open proposal.
    pub(super) async fn watch(&self) -> Option<mpsc::UnboundedReceiver<Update>> {
        let (to, updates) = mpsc::unbounded_channel();
        self.0.send(BrokerMessage::Watch(to)).await.ok()?;
        Some(updates)
    }

    /// `None`: the task has ended, and nothing was decided.
    async fn call<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> BrokerMessage) -> Option<T> {
        let (to, answer) = oneshot::channel();
        self.0.send(message(to)).await.ok()?;
        answer.await.ok()
    }
}

/// Paths that the broker reads.
pub(super) struct BrokerPaths {
    /// The policies in force.
    pub(super) config_dir: PathBuf,
    /// egress' file of what is spent.
    pub(super) spent: PathBuf,
    /// The gate's record of pushes.
    pub(super) pushes: PathBuf,
}

/// The broker: all that its task owns.
pub(super) struct Broker {
    policy: SupervisePolicy,
    log: ProposalLog,
    supervisor: Supervisor,
    limits: RequestLimits,
    paths: BrokerPaths,
    waiting: BTreeMap<ProposalId, watch::Sender<StatusText>>,
    watchers: Vec<mpsc::UnboundedSender<Update>>,
    /// None: nothing is granted.
    outputs: Option<OutputJudge>,
    /// The self-test has been here, or there was a life before this one.
    is_self_tested: bool,
}

impl Broker {
    pub(super) fn new(
        policy: SupervisePolicy,
        log: ProposalLog,
        supervisor: Supervisor,
        paths: BrokerPaths,
        outputs: Option<OutputJudge>,
    ) -> Self {
        let notes = log.ledger().notes();
        let asked = log.ledger().standings().count();
        let limits = RequestLimits::new(asked, notes, Instant::now());
        let (waiting, watchers) = (BTreeMap::new(), vec![]);
        let is_self_tested = log.is_gone_on_with();
        Self { policy, log, supervisor, limits, paths, waiting, watchers, outputs, is_self_tested }
    }

    async fn work(mut self, mut messages: mpsc::Receiver<BrokerMessage>) -> Result<(), BrokerError> {
        self.take_up().await?;
        loop {
            let due = self.due().map(|due| due - OffsetDateTime::now_utc());
            let pause = due.map(|due| Duration::try_from(due).unwrap_or_default());
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.handle(message).await?,
                    None => return Ok(()),
                },
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => self.time_is_up().await?,
            }
        }
    }

    async fn handle(&mut self, message: BrokerMessage) -> Result<(), BrokerError> {
        // A caller that has gone needs no answer.
        match message {
            BrokerMessage::Ask(request, to) => drop(to.send(self.ask(request).await?)),
            BrokerMessage::Output(kind, asked, to) => drop(to.send(self.output(kind, asked)?)),
            BrokerMessage::Secret(tool, rule, to) => drop(to.send(self.secret(&tool, rule)?)),
            BrokerMessage::Status(id, to) => drop(to.send(self.status(id))),
            BrokerMessage::View(to) => drop(to.send(View::new(self.log.ledger(), &self.policy, &self.paths.spent))),
            BrokerMessage::List(to) => drop(to.send(self.list())),
            BrokerMessage::Watch(to) => {
                let open = self.log.ledger().standings().filter(|standing| standing.state.is_open());
                let sent = open.map(|standing| to.send(Update::Proposal(Box::new(standing.clone()))));
                if sent.into_iter().all(|sent| sent.is_ok()) {
                    self.watchers.push(to);
                }
            }
            BrokerMessage::Decide(decide, to) => drop(to.send(self.decide(&decide).await?)),
            BrokerMessage::Apply(apply, to) => drop(to.send(self.apply_by_hand(apply).await?)),
            BrokerMessage::Hold(held, to) => {
                // Who has gone before it was asked has nothing to take back.
                if !to.is_closed() {
                    drop(to.send(self.hold(held).await?));
                }
            }
            BrokerMessage::HoldPush(held, to) => drop(to.send(self.hold_push(*held).await?)),
            BrokerMessage::Held(id, to) => drop(to.send(self.holding(id))),
            BrokerMessage::Withdraw(id) => self.withdraw(id, "whoever sent it has gone").await?,
        }
        Ok(())
    }

    // Calls of the agent.

    /// Writes down that a call had a secret in it; the self-test's, once in a run and before the agent starts, is among the run's cases.
    fn secret(&mut self, tool: &str, rule: Rule) -> Result<(), BrokerError> {
        if tool == SELF_TEST_TOOL && rule.is_canary() && !std::mem::replace(&mut self.is_self_tested, true) {
            return Ok(());
        }
        // A secret may be in the name itself.
        let known = super::tools::names().into_iter().find(|known| known == tool);
        let tool = known.unwrap_or_else(|| "an unknown tool".to_owned());
        tracing::warn!("refused a call of {tool}: {rule}");
        // Whoever calls on and on is told no less, and fills no record.
        if self.limits.note(Instant::now()).is_ok() {
            self.log.add(Event::SecretRefused { tool, rule })?;
        }
        Ok(())
    }

    async fn ask(&mut self, request: Request) -> Result<BrokerAnswer, BrokerError> {
        let mistake = |text: String| BrokerAnswer { text, mistake: true, pending: None };
        let now = Instant::now();
        if let Request::Progress { line } = &request {
            if let Err(reason) = self.limits.note(now) {
                return Ok(mistake(format!("refused: {reason}; it is not noted")));
            }
            let id = self.log.ledger().next_id();
            let record = self.log.add(Event::Noted { id, line: line.clone() })?;
            self.publish(&Update::Progress { id, time: record.time, line: line.clone() });
            let text = format!("noted as {id}");
            return Ok(BrokerAnswer { text, mistake: false, pending: None });
        }
        if let Request::FindingExemption { rule, path, sha256, .. } = &request
            && !was_refused(&self.paths.pushes, rule, path, sha256)
        {
            return Ok(mistake(
                "refused: the gate has found no such thing in this run; take rule, path and sha256 from its refusal; it is not \
                 noted"
                    .to_owned(),
            ));
        }
        if let Some(id) = self.asked_before(&request) {
            let mut answer = self.status(id);
            answer.text.push_str(" (asked before)");
            return Ok(answer);
        }
        match self.enter(request, now).await? {
            Ok(id) => Ok(self.status(id)),
            Err(reason) => Ok(mistake(reason)),
        }
    }

    /// Writes a proposal down, and decides it where no person has to; or says why it is not taken.
    async fn enter(&mut self, request: Request, now: Instant) -> Result<Result<ProposalId, String>, BrokerError> {
        let open = self.log.ledger().standings().filter(|standing| standing.state.is_open()).count();
        if let Err(reason) = self.limits.ask(open, now) {
            tracing::warn!("refused a {}: {reason}", request.tool());
            return Ok(Err(format!("refused: {reason}; it is not noted")));
        }
        let expires = OffsetDateTime::now_utc() + Duration::from_secs(self.policy.timeout.0);
        let nonce = nonce()?;
        let event = match self.log.ledger().ask(nonce, request, stamp(expires)) {
            Ok(event) => event,
            Err(error) => return Ok(Err(format!("not asked: {error}"))),
        };
        let id = self.log.ledger().next_id();
        self.log.add(event)?;
        let Some(standing) = self.log.ledger().get(id).cloned() else { return Ok(Ok(id)) };
        tracing::info!("{id}: {}", standing.proposal.request.tool());
        self.status_text(id);
        if let Some(rule) = self.rule_for(&standing) {
            self.settle(id, Verdict::Approve, By::Auto { rule }).await?;
        } else if self.policy.approval == Approval::Deny {
            let why = words::nobody(&standing.proposal);
            self.settle(id, Verdict::Deny { why }, By::Nobody).await?;
        }
        Ok(Ok(id))
    }

    /// The rule of `supervise.auto` that grants a proposal. A bottle without routes allows whole hosts, which is more than
    /// a rule says.
    fn rule_for(&self, standing: &Standing) -> Option<String> {
        standing.proposal.change.as_ref().filter(|change| change.file == PolicyFile::Routes)?;
        let rule = self.policy.auto.iter().find(|rule| rule.grants(&standing.proposal.request))?;
        Some(rule.to_string())
    }

    /// The proposal that asked for the same, unless another look could end otherwise.
    fn asked_before(&self, request: &Request) -> Option<ProposalId> {
        let same = |standing: &&Standing| {
            let again = match &standing.state {
                State::Denied { by, .. } => matches!(by, By::Timeout),
                State::Failed { .. } | State::Ended { .. } => true,
                State::InForce { .. } => matches!(request, Request::RequestBudget { .. }),
                State::Open | State::Applying { .. } | State::Granted { .. } => false,
            };
            !again && standing.proposal.request.is_like(request)
        };
        self.log.ledger().standings().filter(same).last().map(|standing| standing.proposal.id)
    }

    fn status(&self, id: ProposalId) -> BrokerAnswer {
        let Some(standing) = self.log.ledger().get(id) else {
            let text = format!("there is no proposal {id} in this run");
            return BrokerAnswer { text, mistake: true, pending: None };
        };
        let status_text = words::status(standing);
        let pending = self.waiting.get(&id).filter(|_| !status_text.is_final).map(|status_text| {
            let left = moment(&standing.proposal.expires_at) - OffsetDateTime::now_utc();
            Pending { status_text: status_text.subscribe(), most: Duration::try_from(left).unwrap_or_default() }
        });
        BrokerAnswer { text: status_text.text, mistake: false, pending }
    }

    // Calls of people.

    fn list(&self) -> Listing {
        let ledger = self.log.ledger();
        Listing {
            run: self.policy.run.clone(),
            approval: self.policy.approval,
            policies: ledger.in_force().texts().iter().map(|(file, text)| (file.to_string(), sha256(text))).collect(),
            proposals: ledger.standings().cloned().collect(),
        }
    }

    async fn decide(&mut self, decide: &Decide) -> Result<Decided, BrokerError> {
        self.end_what_is_late().await?;
        let refused = |reason: String| Ok(Decided::Refused { reason });
        let Some(standing) = self.log.ledger().get(decide.id) else {
            let this_run = &self.policy.run;
            if decide.run != *this_run {
                return refused(format!("it is for the run {}, and this is {this_run}", decide.run));
            }
            return refused(format!("there is no proposal {} in this run", decide.id));
        };
        if let Err(mismatch) = check(&standing.proposal, &standing.state, decide, self.policy.approval) {
            tracing::warn!("a decision on {} counts for nothing: {mismatch}", decide.id);
            return refused(mismatch.to_string());
        }
        if let Verdict::Modified { request } = &decide.verdict {
            let changes = bottle_wire::proposal::Change::of(self.log.ledger().in_force().texts(), request);
            if let Err(error) = changes {
                return refused(format!("the changed proposal can't be granted: {error}"));
            }
        }
        self.settle(decide.id, decide.verdict.clone(), decide.by.clone()).await?;
        let state = self.log.ledger().get(decide.id).map(|standing| standing.state.clone());
        Ok(state.map_or_else(
            || Decided::Refused { reason: "it is lost".to_owned() },
            |state| Decided::Taken(Box::new(state)),
        ))
    }

    async fn apply_by_hand(&mut self, apply: Apply) -> Result<Applied, BrokerError> {
        let kept = |reason: String| Ok(Applied::Kept { reason });
        let Some(file) = PolicyFile::of(apply.door) else {
            return kept(format!("{} has no policy that could change in a run", apply.door.name()));
        };
        if !self.log.ledger().in_force().texts().contains_key(&file) {
            return kept(format!("this bottle has no {file}"));
        }
        let cause = Cause::Hand { user: apply.user, text: apply.text.clone() };
        self.install(file, apply.text, cause, None).await
    }

    /// Tells all who wait or watch how a proposal stands now.
    fn status_text(&mut self, id: ProposalId) {
        let Some(standing) = self.log.ledger().get(id).cloned() else { return };
        let status_text = words::status(&standing);
        if status_text.is_final {
            if let Some(waiting) = self.waiting.remove(&id) {
                waiting.send_replace(status_text);
            }
        } else {
            match self.waiting.get(&id) {
                Some(waiting) => drop(waiting.send_replace(status_text)),
                None => drop(self.waiting.insert(id, watch::Sender::new(status_text))),
            }
        }
        self.publish(&Update::Proposal(Box::new(standing)));
    }

    fn publish(&mut self, update: &Update) {
        self.watchers.retain(|watcher| watcher.send(update.clone()).is_ok());
    }
}

/// A time as a text; one that can't be written has passed.
fn stamp(time: OffsetDateTime) -> String {
    rfc3339(time).unwrap_or_default()
}

/// 32 hex digits that nobody can guess.
fn nonce() -> Result<String, BrokerError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(BrokerError::Random)?;
    Ok(hex::encode(bytes))
}
