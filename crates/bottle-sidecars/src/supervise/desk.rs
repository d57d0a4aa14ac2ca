//! The one task that decides, applies and writes: everything comes to it one after the other, so the record has one writer
//! and the policies one owner. What pipelock holds comes in `held`.

mod held;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bottle_policy::control::{Applied, Apply, Decide, Decided, Holding, Listing, Standing, Update};
use bottle_policy::proposal::record::{Cause, Event};
use bottle_policy::proposal::{By, PolicyFile, ProposalId, State, Verdict, check, sha256};
use bottle_policy::supervise::{Approval, Held, Request, SupervisePolicy};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use super::Error;
use super::apply::Supervisor;
use super::book::{Book, moment, rfc3339};
use super::limits::Limits;
use super::view::View;
use super::words;
use crate::confirm::Install;

/// Messages that wait; more callers than that wait themselves.
const QUEUE: usize = 32;

/// What the agent is told.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) text: String,
    /// It was not taken, or there is no such proposal: a mistake of the caller's, not a decision.
    pub(super) mistake: bool,
    /// Where it is still to be decided: the words for each change of its state, the last of them for its end.
    pub(super) waits: Option<Waits>,
}

/// A proposal under way.
#[derive(Debug, Clone)]
pub(super) struct Waits {
    pub(super) told: watch::Receiver<Told>,
    /// How long it may take at most.
    pub(super) most: Duration,
}

/// Words about a proposal, and whether they are the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) text: String,
    pub(super) over: bool,
}

enum Message {
    Ask(Request, oneshot::Sender<Answer>),
    Status(ProposalId, oneshot::Sender<Answer>),
    View(oneshot::Sender<View>),
    Watch(mpsc::UnboundedSender<Update>),
    List(oneshot::Sender<Listing>),
    Decide(Box<Decide>, oneshot::Sender<Decided>),
    Apply(Apply, oneshot::Sender<Applied>),
    Hold(Held, oneshot::Sender<(Holding, Option<watch::Receiver<Told>>)>),
    Held(ProposalId, oneshot::Sender<Holding>),
    Withdraw(ProposalId),
}

/// The way to the task.
#[derive(Debug, Clone)]
pub(super) struct Desk(mpsc::Sender<Message>);

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Desk {
    /// A desk and the work it needs; the work ends when the record can't be gone on with.
    pub(super) fn open(office: Office) -> (Self, impl Future<Output = Result<(), Error>>) {
        let (sender, messages) = mpsc::channel(QUEUE);
        (Self(sender), office.work(messages))
    }

    /// A desk without an office: what is said to it can be looked at.
    #[cfg(test)]
    pub(super) fn deaf() -> (Self, mpsc::Receiver<impl Sized + use<>>) {
        let (sender, messages) = mpsc::channel::<Message>(QUEUE);
        (Self(sender), messages)
    }

    pub(super) async fn ask(&self, request: Request) -> Option<Answer> {
        self.call(|to| Message::Ask(request, to)).await
    }

    pub(super) async fn status(&self, id: ProposalId) -> Option<Answer> {
        self.call(|to| Message::Status(id, to)).await
    }

    pub(super) async fn view(&self) -> Option<View> {
        self.call(Message::View).await
    }

    pub(super) async fn list(&self) -> Option<Listing> {
        self.call(Message::List).await
    }

    pub(super) async fn decide(&self, decide: Box<Decide>) -> Option<Decided> {
        self.call(|to| Message::Decide(decide, to)).await
    }

    pub(super) async fn apply(&self, apply: Apply) -> Option<Applied> {
        self.call(|to| Message::Apply(apply, to)).await
    }

    /// Updates from now on, first every open proposal.
    pub(super) async fn watch(&self) -> Option<mpsc::UnboundedReceiver<Update>> {
        let (to, updates) = mpsc::unbounded_channel();
        self.0.send(Message::Watch(to)).await.ok()?;
        Some(updates)
    }

    /// `None`: the task has ended, and nothing was decided.
    async fn call<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (to, answer) = oneshot::channel();
        self.0.send(message(to)).await.ok()?;
        answer.await.ok()
    }
}

/// Where things are.
pub(super) struct Places {
    /// The policies in force.
    pub(super) config_dir: PathBuf,
    /// What egress says is spent.
    pub(super) spent: PathBuf,
}

/// All that the task owns.
pub(super) struct Office {
    policy: SupervisePolicy,
    book: Book,
    supervisor: Supervisor,
    limits: Limits,
    places: Places,
    waiting: BTreeMap<ProposalId, watch::Sender<Told>>,
    watchers: Vec<mpsc::UnboundedSender<Update>>,
}

impl Office {
    pub(super) fn new(policy: SupervisePolicy, book: Book, supervisor: Supervisor, places: Places) -> Self {
        let notes = book.ledger().notes();
        let asked = book.ledger().standings().count();
        let limits = Limits::new(asked, notes, Instant::now());
        Self { policy, book, supervisor, limits, places, waiting: BTreeMap::new(), watchers: vec![] }
    }

    async fn work(mut self, mut messages: mpsc::Receiver<Message>) -> Result<(), Error> {
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

    async fn handle(&mut self, message: Message) -> Result<(), Error> {
        // A caller that has gone needs no answer.
        match message {
            Message::Ask(request, to) => drop(to.send(self.ask(request).await?)),
            Message::Status(id, to) => drop(to.send(self.status(id))),
            Message::View(to) => drop(to.send(View::new(self.book.ledger(), &self.policy, &self.places.spent))),
            Message::List(to) => drop(to.send(self.list())),
            Message::Watch(to) => {
                let open = self.book.ledger().standings().filter(|standing| standing.state.is_open());
                let sent = open.map(|standing| to.send(Update::Proposal(Box::new(standing.clone()))));
                if sent.into_iter().all(|sent| sent.is_ok()) {
                    self.watchers.push(to);
                }
            }
            Message::Decide(decide, to) => drop(to.send(self.decide(&decide).await?)),
            Message::Apply(apply, to) => drop(to.send(self.apply_by_hand(apply).await?)),
            Message::Hold(held, to) => {
                // Who has gone before it was asked has nothing to take back.
                if !to.is_closed() {
                    drop(to.send(self.hold(held).await?));
                }
            }
            Message::Held(id, to) => drop(to.send(self.holding(id))),
            Message::Withdraw(id) => self.withdraw(id, "whoever sent it has gone").await?,
        }
        Ok(())
    }

    // What the agent wants.

    async fn ask(&mut self, request: Request) -> Result<Answer, Error> {
        let mistake = |text: String| Answer { text, mistake: true, waits: None };
        let now = Instant::now();
        if let Request::Progress { line } = &request {
            if let Err(reason) = self.limits.note(now) {
                return Ok(mistake(format!("refused: {reason}; it is not noted")));
            }
            let id = self.book.ledger().next_id();
            let record = self.book.add(Event::Noted { id, line: line.clone() })?;
            self.publish(&Update::Progress { id, time: record.time, line: line.clone() });
            let text = format!("noted as {id}");
            return Ok(Answer { text, mistake: false, waits: None });
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
    async fn enter(&mut self, request: Request, now: Instant) -> Result<Result<ProposalId, String>, Error> {
        let open = self.book.ledger().standings().filter(|standing| standing.state.is_open()).count();
        if let Err(reason) = self.limits.ask(open, now) {
            tracing::warn!("refused a {}: {reason}", request.tool());
            return Ok(Err(format!("refused: {reason}; it is not noted")));
        }
        let expires = OffsetDateTime::now_utc() + Duration::from_secs(self.policy.timeout.0);
        let nonce = super::nonce()?;
        let event = match self.book.ledger().ask(nonce, request, stamp(expires)) {
            Ok(event) => event,
            Err(error) => return Ok(Err(format!("not asked: {error}"))),
        };
        let id = self.book.ledger().next_id();
        self.book.add(event)?;
        let Some(standing) = self.book.ledger().get(id).cloned() else { return Ok(Ok(id)) };
        tracing::info!("{id}: {}", standing.proposal.request.tool());
        self.told(id);
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
        self.book.ledger().standings().filter(same).last().map(|standing| standing.proposal.id)
    }

    fn status(&self, id: ProposalId) -> Answer {
        let Some(standing) = self.book.ledger().get(id) else {
            let text = format!("there is no proposal {id} in this run");
            return Answer { text, mistake: true, waits: None };
        };
        let told = words::told(standing);
        let waits = self.waiting.get(&id).filter(|_| !told.over).map(|told| {
            let left = moment(&standing.proposal.expires_at) - OffsetDateTime::now_utc();
            Waits { told: told.subscribe(), most: Duration::try_from(left).unwrap_or_default() }
        });
        Answer { text: told.text, mistake: false, waits }
    }

    // What people want.

    fn list(&self) -> Listing {
        let ledger = self.book.ledger();
        Listing {
            run: self.policy.run.clone(),
            approval: self.policy.approval,
            policies: ledger.in_force().texts().iter().map(|(file, text)| (file.to_string(), sha256(text))).collect(),
            proposals: ledger.standings().cloned().collect(),
        }
    }

    async fn decide(&mut self, decide: &Decide) -> Result<Decided, Error> {
        self.end_what_is_late().await?;
        let refused = |reason: String| Ok(Decided::Refused { reason });
        let Some(standing) = self.book.ledger().get(decide.id) else {
            let own = &self.policy.run;
            if decide.run != *own {
                return refused(format!("it is for the run {}, and this is {own}", decide.run));
            }
            return refused(format!("there is no proposal {} in this run", decide.id));
        };
        if let Err(mismatch) = check(&standing.proposal, &standing.state, decide, self.policy.approval) {
            tracing::warn!("a decision on {} counts for nothing: {mismatch}", decide.id);
            return refused(mismatch.to_string());
        }
        if let Verdict::Modified { request } = &decide.verdict {
            let changes = bottle_policy::proposal::Change::of(self.book.ledger().in_force().texts(), request);
            if let Err(error) = changes {
                return refused(format!("the changed proposal can't be granted: {error}"));
            }
        }
        self.settle(decide.id, decide.verdict.clone(), decide.by.clone()).await?;
        let state = self.book.ledger().get(decide.id).map(|standing| standing.state.clone());
        Ok(state.map_or_else(
            || Decided::Refused { reason: "it is lost".to_owned() },
            |state| Decided::Taken(Box::new(state)),
        ))
    }

    async fn apply_by_hand(&mut self, apply: Apply) -> Result<Applied, Error> {
        let kept = |reason: String| Ok(Applied::Kept { reason });
        let Some(file) = PolicyFile::of(apply.door) else {
            return kept(format!("{} has no policy that could change in a run", apply.door.name()));
        };
        if !self.book.ledger().in_force().texts().contains_key(&file) {
            return kept(format!("this bottle has no {file}"));
        }
        let cause = Cause::Hand { user: apply.user, text: apply.text.clone() };
        self.install(file, apply.text, cause, None).await
    }

    // What follows.

    /// Takes a decision that counts, and puts in force what it grants.
    async fn settle(&mut self, id: ProposalId, verdict: Verdict, by: By) -> Result<(), Error> {
        let Some(Standing { proposal, .. }) = self.book.ledger().get(id) else { return Ok(()) };
        let (hash, policy_hash) = (proposal.hash.clone(), proposal.policy_hash.clone());
        tracing::info!("{id}: decided by {by}");
        self.book.add(Event::Decided { id, hash, policy_hash, verdict, by })?;
        self.told(id);
        self.put_in_force(id).await
    }

    /// Applies what was approved and not applied yet.
    async fn put_in_force(&mut self, id: ProposalId) -> Result<(), Error> {
        let ledger = self.book.ledger();
        let Some(standing) = ledger.get(id).filter(|standing| matches!(standing.state, State::Applying { .. })) else {
            return Ok(());
        };
        let Some(change) = &standing.proposal.change else { return Ok(()) };
        let file = change.file;
        let cause = Cause::Granted(id);
        let text = match ledger.with(id) {
            Ok(next) => next.texts().get(&file).cloned().unwrap_or_default(),
            Err(error) => {
                let event = Event::RolledBack { cause, file, kept: ledger.hash(file), reason: error.to_string() };
                self.book.add(event)?;
                self.told(id);
                return Ok(());
            }
        };
        let time = ledger.granted(id).and_then(Request::duration);
        let until = time.map(|time| stamp(OffsetDateTime::now_utc() + Duration::from_secs(time.0)));
        self.install(file, text, cause, until).await?;
        self.told(id);
        Ok(())
    }

    /// Has a file put in force, and writes down what came of it.
    async fn install(
        &mut self,
        file: PolicyFile,
        text: String,
        cause: Cause,
        until: Option<String>,
    ) -> Result<Applied, Error> {
        let before = self.book.ledger().hash(file);
        let (on_disk, after) = (self.on_disk(file).unwrap_or_else(|| before.clone()), sha256(&text));
        let applied = if before == after {
            Applied::InForce { file, before: before.clone(), after: after.clone() }
        } else {
            self.supervisor.install(Install { file, before: on_disk, text }).await
        };
        let event = match &applied {
            Applied::InForce { .. } => Event::Applied { cause, file, before, after, until },
            Applied::Kept { reason } => {
                tracing::error!("{file} stays as it was: {reason}");
                Event::RolledBack { cause, file, kept: before, reason: reason.clone() }
            }
        };
        self.book.add(event)?;
        self.renew().await?;
        Ok(applied)
    }

    /// Open proposals are shown with the policy in force; what has become pointless is closed.
    async fn renew(&mut self) -> Result<(), Error> {
        for (id, renewed) in self.book.ledger().outdated() {
            match renewed {
                Ok(event) => {
                    self.book.add(event)?;
                    self.told(id);
                }
                Err(error) => {
                    let why = format!("since the policy has changed, {error}");
                    let Some(Standing { proposal, .. }) = self.book.ledger().get(id) else { continue };
                    let (hash, policy_hash) = (proposal.hash.clone(), proposal.policy_hash.clone());
                    let verdict = Verdict::Deny { why };
                    self.book.add(Event::Decided { id, hash, policy_hash, verdict, by: By::Nobody })?;
                    self.told(id);
                }
            }
        }
        Ok(())
    }

    // Time, and a life before this one.

    /// When something ends by itself.
    fn due(&self) -> Option<OffsetDateTime> {
        self.book.ledger().standings().filter_map(ends).min()
    }

    async fn time_is_up(&mut self) -> Result<(), Error> {
        self.end_what_is_late().await?;
        let now = OffsetDateTime::now_utc();
        let late = |standing: &&Standing| !standing.state.is_open() && ends(standing).is_some_and(|end| end <= now);
        let ended: Vec<(ProposalId, PolicyFile)> = self
            .book
            .ledger()
            .standings()
            .filter(late)
            .filter_map(|standing| Some((standing.proposal.id, standing.proposal.change.as_ref()?.file)))
            .collect();
        for (id, file) in ended {
            let without = self.book.ledger().in_force().without(id);
            let text = without.ok().and_then(|without| without.texts().get(&file).cloned());
            let Some(text) = text else {
                tracing::error!("{id}: its time is up, and the policy without it can't be told");
                return Err(Error::Record { path: "the policy".into(), reason: format!("without {id} it is none") });
            };
            tracing::info!("{id}: its time is up");
            let applied = self.install(file, text, Cause::Ended(id), None).await?;
            if let Applied::Kept { reason } = applied {
                // Whatever is wrong with the doors: a policy whose time is up may not stay, so nothing goes on.
                return Err(Error::Late { id, reason });
            }
            self.told(id);
        }
        Ok(())
    }

    /// Refuses what nobody has decided in time.
    async fn end_what_is_late(&mut self) -> Result<(), Error> {
        let now = OffsetDateTime::now_utc();
        let open = self.book.ledger().standings().filter(|standing| standing.state.is_open());
        let late: Vec<ProposalId> = open
            .filter(|standing| moment(&standing.proposal.expires_at) <= now)
            .map(|standing| standing.proposal.id)
            .collect();
        for id in late {
            let why = format!("nobody decided within {}", self.policy.timeout);
            self.settle(id, Verdict::Deny { why }, By::Timeout).await?;
        }
        Ok(())
    }

    /// After a start: finishes what was approved and not applied, and has the doors go by what the record says.
    async fn take_up(&mut self) -> Result<(), Error> {
        let ids: Vec<ProposalId> = self.book.ledger().standings().map(|standing| standing.proposal.id).collect();
        for id in ids {
            self.told(id);
            self.withdraw(id, "supervise was started anew, and what pipelock held for it is refused").await?;
            self.put_in_force(id).await?;
        }
        for file in PolicyFile::ALL {
            let Some(text) = self.book.ledger().in_force().texts().get(&file).cloned() else { continue };
            let Some(before) = self.on_disk(file).filter(|found| *found != sha256(&text)) else { continue };
            tracing::warn!("{file} is not what the record leads to: putting that in force");
            if let Applied::Kept { reason } = self.supervisor.install(Install { file, before, text }).await {
                return Err(Error::Record { path: file.name().into(), reason });
            }
        }
        Ok(())
    }

    /// SHA-256 of a policy file as it is.
    fn on_disk(&self, file: PolicyFile) -> Option<String> {
        std::fs::read_to_string(self.places.config_dir.join(file.name())).ok().map(|text| sha256(&text))
    }

    /// Tells all who wait or watch how a proposal stands now.
    fn told(&mut self, id: ProposalId) {
        let Some(standing) = self.book.ledger().get(id).cloned() else { return };
        let told = words::told(&standing);
        if told.over {
            if let Some(waiting) = self.waiting.remove(&id) {
                waiting.send_replace(told);
            }
        } else {
            match self.waiting.get(&id) {
                Some(waiting) => drop(waiting.send_replace(told)),
                None => drop(self.waiting.insert(id, watch::Sender::new(told))),
            }
        }
        self.publish(&Update::Proposal(Box::new(standing)));
    }

    fn publish(&mut self, update: &Update) {
        self.watchers.retain(|watcher| watcher.send(update.clone()).is_ok());
    }
}

/// When a proposal changes by itself.
fn ends(standing: &Standing) -> Option<OffsetDateTime> {
    match &standing.state {
        State::Open => Some(moment(&standing.proposal.expires_at)),
        State::InForce { until: Some(until), .. } => Some(moment(until)),
        _ => None,
    }
}

/// A time as a text; one that can't be written has passed.
fn stamp(time: OffsetDateTime) -> String {
    rfc3339(time).unwrap_or_default()
}
