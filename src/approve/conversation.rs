//! Proposals as comments on the thread, and people's comments as decisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bottle_plan::approval::{Answer, ApprovalCode, Shown, Void, Written, judge};
use bottle_plan::manifest::{Permission, Who};
use bottle_plan::moment::Moment;
use bottle_policy::supervise::Request;
use bottle_wire::control::Decided;
use bottle_wire::proposal::{By, Proposal, ProposalId, State, Verdict};
use bottle_wire::proposal::{Decide, Standing};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

use super::context::ApprovalContext;
use super::control::ControlClient;
use super::post;
use super::words;
use crate::forge::{Comment, Forge, ForgeError};
use crate::permission::{EventActor, may_ask};
use crate::thread::{CommentWatch, NewComment};

/// How long until a comment that could not be written is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(20);
/// Comments that count for nothing are answered up to this many a proposal.
const MOST_VOID: usize = 10;
/// The end of a run waits this long for its comments.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

/// The thread of the run's task.
pub(super) struct Conversation<'a> {
    context: ApprovalContext<'a>,
    forge: Arc<dyn Forge>,
    number: u64,
    url: String,
    watch: CommentWatch,
    /// People's new comments there.
    heard: UnboundedReceiver<NewComment>,
    proposals: BTreeMap<ProposalId, ShownProposal>,
}

/// A proposal here.
struct ShownProposal {
    proposal: Proposal,
    state: State,
    /// Our comment, as people see it; none: not posted yet.
    shown: Option<Shown>,
    void: Vec<String>,
    /// When what people see has to be written; none: they see it as it is.
    due: Option<Instant>,
    /// True if it was said that it can't be written.
    warned: bool,
}

/// The next thing to do.
pub(super) enum NextStep {
    /// Somebody said something.
    Comment(NewComment),
    /// A comment has to be written.
    Write(ProposalId),
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        context: ApprovalContext<'a>,
        forge: Arc<dyn Forge>,
        heard: UnboundedReceiver<NewComment>,
    ) -> Option<Self> {
        let thread = context.plan.task.thread()?;
        let watch = CommentWatch::from_plan(context.plan, forge.clone())?;
        Some(Self {
            context,
            forge,
            number: thread.number,
            url: thread.url.clone(),
            watch,
            heard,
            proposals: BTreeMap::new(),
        })
    }

    /// A proposal is new, or has changed.
    pub(super) async fn take(&mut self, standing: Standing) {
        let Standing { proposal, state } = standing;
        // One that was decided before anybody was shown it (by a rule, or asked before) needs no comment.
        if !self.proposals.contains_key(&proposal.id) && !state.is_open() {
            return;
        }
        if matches!(state, State::Applying { .. }) {
            return;
        }
        if !proposal.is_whole() {
            let id = proposal.id;
            return self.context.events.warn(format!("{id} is not what its hash says; it is not shown, and times out"));
        }
        let same = |entry: &ShownProposal| entry.state == state && entry.proposal == proposal;
        if self.proposals.get(&proposal.id).is_some_and(same) {
            return;
        }
        let entry = self.proposals.entry(proposal.id).or_insert_with(|| ShownProposal {
            proposal: proposal.clone(),
            state: State::Open,
            shown: None,
            void: vec![],
            due: None,
            warned: false,
        });
        entry.proposal = proposal;
        entry.state = state;
        entry.due = Some(Instant::now());
        // What was shown before can't be approved from here on; the code is another.
        if let Some(shown) = &mut entry.shown {
            shown.code = ApprovalCode::of(&entry.proposal.hash);
        }
    }

    /// Waits for what is to be done; nothing is lost where this is given up.
    pub(super) async fn next(&mut self) -> NextStep {
        let due = self.proposals.iter().filter_map(|(&id, entry)| Some((entry.due?, id))).min();
        let write = async {
            match due {
                Some((at, id)) => {
                    sleep_until(at).await;
                    id
                }
                None => std::future::pending().await,
            }
        };
        let heard = async {
            match self.heard.recv().await {
                Some(heard) => heard,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            id = write => NextStep::Write(id),
            heard = heard => NextStep::Comment(heard),
        }
    }

    pub(super) async fn act(&mut self, next: NextStep) {
        match next {
            NextStep::Write(id) => self.write(id).await,
            NextStep::Comment(heard) => self.hear(&heard).await,
        }
    }

    /// Writes a proposal's comment as it stands now.
    async fn write(&mut self, id: ProposalId) {
        let Some(entry) = self.proposals.get_mut(&id) else { return };
        let Some(outcome) = words::outcome(&entry.state) else { return };
        let text = self.context.secrets.mask(&post::comment(&entry.proposal, &outcome, &entry.void));
        let written = match &entry.shown {
            Some(shown) => self.forge.edit_comment(shown.comment, &text).await.map(|()| None),
            None => post(self.forge.as_ref(), self.number, &text, entry.warned).await.map(Some),
        };
        match written {
            Ok(None) => entry.due = None,
            Ok(Some(comment)) => {
                entry.due = None;
                let at = comment.written.as_deref().and_then(Moment::parse);
                match at.filter(|_| comment.id > 0) {
                    Some(at) => {
                        let code = ApprovalCode::of(&entry.proposal.hash);
                        entry.shown = Some(Shown { id, code, comment: comment.id, us: comment.author.id, at });
                    }
                    None => self
                        .context
                        .events
                        .warn(format!("{id} can't be approved: the forge does not say when it was posted")),
                }
            }
            Err(error) => {
                let hint = error.hint();
                // Said once: from then on it is tried again without a word.
                if !std::mem::replace(&mut entry.warned, true) {
                    self.context.events.warn(format!("{id} can't be shown to anybody for now: {error}; {hint}"));
                }
                entry.due = Some(Instant::now() + RETRY_INTERVAL);
            }
        }
    }

    /// Judges a comment about each proposal that is open.
    async fn hear(&mut self, heard: &NewComment) {
        let open: Vec<ProposalId> =
            self.proposals.iter().filter(|(_, entry)| entry.state.is_open()).map(|(&id, _)| id).collect();
        for id in open {
            let Some(entry) = self.proposals.get(&id) else { continue };
            let Some(shown) = entry.shown.clone() else { continue };
            match self.judge(heard, &shown).await {
                Ok(answer) => self.decide(id, heard, answer).await,
                Err(Void::Silent | Void::Ours) => {}
                Err(why) => self.void(id, heard, &why.to_string()),
            }
        }
    }

    async fn judge(&self, heard: &NewComment, shown: &Shown) -> Result<Answer, Void> {
        let listed = u64::try_from(heard.author.id).is_ok_and(|id| self.context.plan.who.bots.contains(&id));
        let mut written = Written {
            comment: heard.id,
            by: heard.author.id,
            is_bot: heard.author.is_bot || listed,
            may_write: true,
            written: heard.written.as_deref(),
            changed: heard.changed.as_deref(),
            text: &heard.body,
        };
        // The forge is asked about the writer only where the words would count.
        judge(&written, shown)?;
        written.may_write = self.may_write(heard).await;
        let answer = judge(&written, shown)?;
        // As it is now, not as it was when it was read.
        if self.watch.stands(heard).await { Ok(answer) } else { Err(Void::Edited) }
    }

    /// True if the writer could have written the change into the repository; what can't be asked is a no.
    async fn may_write(&self, heard: &NewComment) -> bool {
        let Ok(id) = u64::try_from(heard.author.id) else { return false };
        let who = Who { permission: self.context.plan.who.permission.max(Permission::Write), bots: vec![] };
        let asker = EventActor { login: heard.author.login.clone(), id };
        match may_ask(self.forge.as_ref(), &who, &asker, None).await {
            Ok(()) => true,
            Err(denial) => {
                self.context.events.note(format!("a comment decides nothing: {}", denial.into_failure()));
                false
            }
        }
    }

    async fn decide(&mut self, id: ProposalId, heard: &NewComment, answer: Answer) {
        let Some(entry) = self.proposals.get_mut(&id) else { return };
        let proposal = &entry.proposal;
        let question = matches!(proposal.request, Request::Ask { .. });
        let verdict = match answer {
            Answer::Approve if question => return self.void(id, heard, "a question takes an answer"),
            Answer::Approve => Verdict::Approve,
            Answer::Answer(_) if !question => return self.void(id, heard, "only a question takes an answer"),
            Answer::Answer(text) => Verdict::Answer { text },
            Answer::Deny(why) => Verdict::Deny { why },
        };
        let by = By::Comment {
            login: heard.author.login.clone(),
            user_id: u64::try_from(heard.author.id).unwrap_or(0),
            url: format!("{}#issuecomment-{}", self.url, heard.id),
            comment_id: heard.id,
        };
        let decide = Decide::on(proposal, verdict, by);
        match ControlClient(self.context.bottle).decide(&decide).await {
            // `watch` says so too, but the next comment may come before.
            Ok(Decided::Taken(state)) => {
                entry.state = *state;
                entry.due = Some(Instant::now());
            }
            Ok(Decided::Refused { reason }) => self.void(id, heard, &reason),
            Err(error) => {
                self.context.events.warn(format!("a decision on {id} did not get through: {error}"));
                self.void(id, heard, "it did not get through to the bottle; write it once more");
            }
        }
    }

    /// Notes what counted for nothing, where people look.
    fn void(&mut self, id: ProposalId, heard: &NewComment, why: &str) {
        let who = post::code(&heard.author.login);
        self.context.events.note(format!("{id}: the comment {} by {who} decides nothing: {why}", heard.id));
        if let Some(entry) = self.proposals.get_mut(&id).filter(|entry| entry.void.len() < MOST_VOID) {
            entry.void.push(format!(
                "[a comment]({}#issuecomment-{}) by `{who}`: {}",
                self.url,
                heard.id,
                post::code(why)
            ));
            entry.due = Some(Instant::now());
        }
    }

    /// The run goes on without what is still open: its comments say so.
    pub(super) async fn close(&mut self, why: &str) {
        let work = async {
            let ids: Vec<ProposalId> = self.proposals.keys().copied().collect();
            for id in ids {
                let Some(entry) = self.proposals.get_mut(&id) else { continue };
                if entry.state.is_open() {
                    entry.state = State::Denied { why: why.to_owned(), by: By::Timeout };
                    entry.due = Some(Instant::now());
                }
                if entry.due.is_some() && entry.shown.is_some() {
                    self.write(id).await;
                }
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, work).await.is_err() {
            self.context.events.warn("the comments about what was asked are not up to date: the forge is slow");
        }
    }
}

/// Posts it; where an earlier try may have done so, only if it is not there. Nobody else knows the text before it is.
async fn post(forge: &dyn Forge, number: u64, text: &str, again: bool) -> Result<Comment, ForgeError> {
    if again {
        let there = forge.comments(number).await?;
        if let Some(found) = there.into_iter().find(|comment| comment.body.trim() == text.trim()) {
            return Ok(found);
        }
    }
    forge.comment(number, text).await
}
