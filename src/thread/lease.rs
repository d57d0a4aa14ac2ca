//! One run at a time for an issue or a pull request, on whatever runner: the comment that is kept up to date says which.
//!
//! The rule. A run claims the conversation before it starts, by a hidden line of our own comment, and renews the line while it
//! goes on. A run that finds another's lease waits until that one has ended, or has not renewed its line for three minutes;
//! after an hour it gives up. Of two that claim at once the one that wrote last has it; should one overwrite the other's
//! unseen, the earlier lease counts, and the other run ends as soon as it finds out. A lease is believed in our own comments
//! alone; where it can't be read or written, there is no run. What another run has taken up already is not done a second time.

use std::sync::Arc;
use std::time::Duration;

use bottle_plan::task::thread_name;
use tokio::time::{Instant, sleep};

use super::asks::{Ask, Asks};
use super::comments::{MARK, ours_of, post};
use super::last_push;
use crate::exit::{Code, Failure};
use crate::forge::{Comment, Forge, ForgeError, Operation};
use crate::report::BranchPush;

const FIND_OURS: Operation = Operation { what: "find our own comment", needs: "to say whose it is" };
/// How often a comment that was just made is looked for.
const MAX_LOOKS: u32 = 4;

/// Begins the line.
const BEGIN: &str = "<!-- claude-bottle: run ";
const END: &str = " -->";

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseTimes {
    /// Between two looks at another's lease.
    pub(super) look: Duration,
    /// From a lease until it is looked whether it stands.
    pub(super) settle: Duration,
    /// A lease that was not renewed for this long is a dead run's.
    pub(super) stale: Duration,
    /// Longer than this nobody waits.
    pub(super) longest: Duration,
}

const LEASE_TIMES: LeaseTimes = LeaseTimes {
    look: Duration::from_secs(10),
    settle: Duration::from_secs(2),
    stale: Duration::from_secs(180),
    longest: Duration::from_secs(3600),
};
/// How often a lease is renewed.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(45);

/// A run's lease to a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The run's name.
    pub(crate) run: String,
    /// When it claimed the conversation, RFC 3339 in UTC.
    pub(crate) since: String,
    /// Its job's page.
    pub(crate) url: String,
}

/// A lease that is written somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredLease {
    pub(crate) lease: Lease,
    /// True if the run goes on, as far as it said.
    pub(crate) live: bool,
    /// Heartbeat counter; changes on every renewal, so a waiter can tell a live holder from a dead one.
    beat: String,
    /// What was taken up in the conversation.
    asks: Asks,
}

/// A conversation that is ours, and the comment that says so.
#[derive(Debug, Clone)]
pub(crate) struct LeaseGuard {
    pub(super) lease: Lease,
    pub(super) comment: u64,
    /// What was taken up here, this run's own last.
    pub(super) asks: Asks,
    /// What the last run that pushed did to its branch.
    pub(crate) last_push: Option<BranchPush>,
}

/// The result of claiming a conversation.
#[derive(Debug, Clone)]
pub(crate) enum Claim {
    /// It is ours.
    Ours(LeaseGuard),
    /// The same was asked for before, and this run has it or had it.
    TakenUp(Lease),
}

impl Lease {
    /// The line of the comment.
    pub(super) fn line(&self, live: bool, beat: u64) -> String {
        // Nothing of it may end the line before its end.
        let word = |text: &str| -> String {
            let plain: String = text.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>')).collect();
            if plain.is_empty() { "?".to_owned() } else { plain.replace("--", "-%2D") }
        };
        let state = if live { "running" } else { "ended" };
        format!("{BEGIN}{} {state} {} {beat} {}{END}", word(&self.run), word(&self.since), word(&self.url))
    }

    /// True if this lease goes before another.
    fn goes_before(&self, other: &Self) -> bool {
        (&self.since, &self.run) < (&other.since, &other.run)
    }
}

impl StoredLease {
    /// The lease in a comment of ours.
    pub(super) fn read(body: &str) -> Option<Self> {
        let line = body.strip_prefix(MARK)?.lines().nth(1)?.trim();
        let mut words = line.strip_prefix(BEGIN)?.strip_suffix(END)?.split(' ').map(str::to_owned);
        let (run, state, since, beat, url) =
            (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
        let live = state == "running";
        (words.next().is_none() && (live || state == "ended")).then_some(Self {
            lease: Lease { run, since, url },
            live,
            beat,
            asks: Asks::read(body),
        })
    }
}

/// Claims a conversation; returns when it is ours, or when another run has taken up the same.
pub(crate) async fn take(
    forge: &Arc<dyn Forge>,
    number: u64,
    lease: &Lease,
    ask: Option<&Ask>,
    say: &(dyn Fn(String) + Sync),
) -> Result<Claim, Failure> {
    take_within(forge.as_ref(), number, lease, ask, say, LEASE_TIMES).await
}

pub(super) async fn take_within(
    forge: &dyn Forge,
    number: u64,
    lease: &Lease,
    ask: Option<&Ask>,
    say: &(dyn Fn(String) + Sync),
    times: LeaseTimes,
) -> Result<Claim, Failure> {
    if forge.myself().await.map_err(|error| cant(&error))?.is_none() {
        let why =
            "that one run alone is at work on this can't be made sure: the forge does not say whose token this is";
        return Err(Failure::machine(why).hint("give the token read:user"));
    }
    let started = Instant::now();
    let mut watched: Option<(StoredLease, Instant)> = None;
    loop {
        let there = last(forge, number).await.map_err(|error| cant(&error))?;
        let theirs = there.filter(|found| found.lease.run != lease.run);
        let is_dead = |found: &StoredLease| {
            watched.as_ref().is_some_and(|(seen, since)| seen == found && since.elapsed() > times.stale)
        };
        let has_it = |found: &&StoredLease| ask.is_some_and(|ask| found.asks.have(ask, found.live && !is_dead(found)));
        if let Some(found) = theirs.as_ref().filter(has_it) {
            return Ok(Claim::TakenUp(found.lease.clone()));
        }
        let Some(found) = theirs.filter(|found| found.live && !is_dead(found)) else {
            match try_it(forge, number, lease, ask, times).await.map_err(|error| cant(&error))? {
                Some(guard) => return Ok(Claim::Ours(guard)),
                None if started.elapsed() > times.longest => {
                    return Err(Failure::machine(format_args!(
                        "{} could not be locked for this run",
                        name(forge, number).await
                    ))
                    .hint("look at our comment there, and run it again"));
                }
                None => continue,
            }
        };
        if started.elapsed() > times.longest {
            let Lease { run, url, .. } = &found.lease;
            let name = name(forge, number).await;
            return Err(Failure::new(Code::Machine, format_args!("{name} is locked by run {run}: {url}"))
                .hint("write `/claude stop` there to end that one, or ask again when it has ended"));
        }
        if watched.as_ref().is_none_or(|(seen, _)| *seen != found) {
            if watched.as_ref().is_none_or(|(seen, _)| seen.lease != found.lease) {
                let Lease { run, url, .. } = &found.lease;
                say(format!("waiting: {} is locked by run {run}: {url}", name(forge, number).await));
            }
            watched = Some((found, Instant::now()));
        }
        sleep(times.look).await;
    }
}

/// Claims a conversation that no run has; of one that a run has says by which. Only a holder that is silent is waited for: it may be dead.
pub(crate) async fn take_free(
    forge: &dyn Forge,
    number: u64,
    lease: &Lease,
) -> Result<Result<LeaseGuard, Lease>, ForgeError> {
    take_free_within(forge, number, lease, LEASE_TIMES).await
}

pub(super) async fn take_free_within(
    forge: &dyn Forge,
    number: u64,
    lease: &Lease,
    times: LeaseTimes,
) -> Result<Result<LeaseGuard, Lease>, ForgeError> {
    let started = Instant::now();
    let mut first: Option<StoredLease> = None;
    loop {
        let there = holder(forge, number).await?.filter(|found| found.lease.run != lease.run);
        let Some(found) = there.filter(|_| started.elapsed() <= times.stale) else { break };
        if first.as_ref().is_some_and(|first| *first != found) {
            return Ok(Err(found.lease));
        }
        first = Some(found);
        sleep(times.look).await;
    }
    match try_it(forge, number, lease, None, times).await? {
        Some(guard) => Ok(Ok(guard)),
        // Somebody else was quicker.
        None => Ok(Err(last(forge, number).await?.map_or_else(|| lease.clone(), |found| found.lease))),
    }
}

/// Writes the lease, and looks whether it stands. The oldest comment of ours is the one that counts.
async fn try_it(
    forge: &dyn Forge,
    number: u64,
    lease: &Lease,
    ask: Option<&Ask>,
    times: LeaseTimes,
) -> Result<Option<LeaseGuard>, ForgeError> {
    if ours_of(forge, number).await?.is_empty() {
        let mut made = None;
        post(forge, number, &mut made, &format!("{MARK}\nA run is about to start.")).await?;
        let there = found_again(forge, number, made, times).await?;
        // Of two runs that come at once each may have made one.
        let first = there.first().map(|comment| comment.id);
        if let Some(made) = made.filter(|made| first.is_some_and(|first| first < *made)) {
            forge.delete_comment(made).await?;
        }
    }
    let Some(ours) = ours_of(forge, number).await?.into_iter().next() else { return Ok(None) };
    let (comment, asks, last_push) = (ours.id, Asks::read(&ours.body).with(ask), last_push::read(&ours.body));
    let lines = format!("{}\n{}{}", lease.line(true, 0), asks.line(None), last_push::line(last_push.as_ref()));
    let body = format!("{MARK}\n{lines}A run is about to start.");
    match forge.edit_comment(comment, &body).await {
        Err(error) if matches!(error.status(), Some(404 | 410)) => return Ok(None),
        ended => ended?,
    }
    sleep(times.settle).await;
    let stands = holder(forge, number).await?.is_some_and(|found| found.lease.run == lease.run);
    Ok(stands.then(|| LeaseGuard { lease: lease.clone(), comment, asks, last_push }))
}

/// Our comments, with the one that was just made among them: who does not know his own would make one after the other.
async fn found_again(
    forge: &dyn Forge,
    number: u64,
    made: Option<u64>,
    times: LeaseTimes,
) -> Result<Vec<Comment>, ForgeError> {
    for _ in 0..MAX_LOOKS {
        sleep(times.settle).await;
        let there = ours_of(forge, number).await?;
        if there.iter().any(|comment| Some(comment.id) == made) {
            return Ok(there);
        }
    }
    let problem = "the comment that was just written there is not known for our own".to_owned();
    Err(ForgeError::Nonsense { operation: FIND_OURS, place: format!("#{number}"), problem })
}

/// The run that has a conversation now, as far as it says.
pub(crate) async fn holder(forge: &dyn Forge, number: u64) -> Result<Option<StoredLease>, ForgeError> {
    Ok(last(forge, number).await?.filter(|found| found.live))
}

/// The run that has a conversation or had it last.
async fn last(forge: &dyn Forge, number: u64) -> Result<Option<StoredLease>, ForgeError> {
    let there = ours_of(forge, number).await?;
    Ok(there.first().and_then(|comment| StoredLease::read(&comment.body)))
}

/// The last run that had a conversation.
pub(crate) async fn last_run(forge: &dyn Forge, number: u64) -> Result<Option<Lease>, ForgeError> {
    Ok(last(forge, number).await?.map(|found| found.lease))
}

/// The run that has taken up the same, for one that claims nothing.
pub(crate) async fn taken_up(forge: &dyn Forge, number: u64, ask: &Ask) -> Result<Option<Lease>, ForgeError> {
    Ok(last(forge, number).await?.filter(|found| found.asks.have(ask, found.live)).map(|found| found.lease))
}

impl LeaseGuard {
    /// Ends the lease, and leaves this text in its place.
    pub(crate) async fn end(self, forge: &dyn Forge, text: &str) -> Result<(), ForgeError> {
        let lines = format!(
            "{}\n{}{}",
            self.lease.line(false, 1),
            self.asks.line(None),
            last_push::line(self.last_push.as_ref())
        );
        forge.edit_comment(self.comment, &format!("{MARK}\n{lines}{text}")).await
    }

    /// Who has taken the conversation over; none where it is ours still. A comment that somebody removed is nobody's lease.
    pub(crate) async fn lost_to(&self, forge: &dyn Forge) -> Result<Option<Lease>, ForgeError> {
        let body = match forge.read_comment(self.comment).await {
            Ok(comment) => comment.body,
            Err(error) if matches!(error.status(), Some(404 | 410)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let other = StoredLease::read(&body).filter(|found| found.live && found.lease.run != self.lease.run);
        Ok(other.map(|found| found.lease).filter(|other| other.goes_before(&self.lease)))
    }
}

/// The conversation in a message; the forge says whether it is an issue or a pull request.
async fn name(forge: &dyn Forge, number: u64) -> String {
    match forge.issue(number).await {
        Ok(issue) => thread_name(issue.is_pull_request, number),
        Err(_) => format!("#{number}"),
    }
}

fn cant(error: &ForgeError) -> Failure {
    Failure::machine(format_args!("that one run alone is at work on this can't be made sure: {error}"))
        .hint(error.hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(run: &str) -> Lease {
        Lease {
            run: run.to_owned(),
            since: "2026-03-02T09:14:11Z".to_owned(),
            url: "https://git.bottle.test/octo-org/textstats/actions/runs/1".to_owned(),
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let found =
            StoredLease::read(&format!("{MARK}\n{}\n### x", lease("issue-7-1a2b3c").line(true, 3))).expect("a lease");
        assert_eq!((found.lease, found.live, found.beat.as_str()), (lease("issue-7-1a2b3c"), true, "3"));
        let ended = StoredLease::read(&format!("{MARK}\n{}", lease("a").line(false, 0))).expect("a lease");
        assert!(!ended.live);
    }

    #[test]
    fn anything_else_is_no_claim() {
        let line = lease("a").line(true, 0);
        for body in [
            String::new(),
            MARK.to_owned(),
            format!("{MARK}\n### x"),
            format!("{MARK}\n\n{line}"),
            format!("x\n{MARK}\n{line}"),
            format!("{MARK}\n{BEGIN}a running b{END}"),
            format!("{MARK}\n{BEGIN}a running b 1 c d{END}"),
            format!("{MARK}\n{BEGIN}a waiting b 1 c{END}"),
        ] {
            assert_eq!(StoredLease::read(&body), None, "{body}");
        }
    }

    #[test]
    fn nothing_gets_out_of_the_line() {
        let hostile = Lease { url: "https://x/--> <b>\n/claude".to_owned(), ..lease("a") };
        let line = hostile.line(true, 0);
        assert!(line.lines().count() == 1 && line.matches("-->").count() == 1 && line.ends_with(END), "{line}");
    }

    #[test]
    fn the_earlier_claim_counts() {
        let early = Lease { since: "2026-03-02T09:14:10Z".to_owned(), ..lease("z") };
        assert!(early.goes_before(&lease("a")) && !lease("a").goes_before(&early));
        assert!(lease("a").goes_before(&lease("b")) && !lease("b").goes_before(&lease("a")));
    }
}
