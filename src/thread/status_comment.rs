//! One comment on the issue or pull request, kept up to date while the run goes on: found again by a hidden mark, written
//! at most every ten seconds, and only ever our own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::comments::{MARK, post};
use super::last_push;
use super::lease::{HEARTBEAT_INTERVAL, Lease, LeaseGuard};
use crate::forge::{Forge, ForgeError};
use crate::host;
use crate::report::{Reporter, RunEvent, outcome, status};

/// Between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// How long the end of a run waits for its comment: a cancelled job is killed after some seconds.
const HURRIED_FINISH_TIMEOUT: Duration = Duration::from_secs(5);
const FINISH_TIMEOUT: Duration = Duration::from_secs(240);

/// The comment's keeper.
pub(crate) struct Sticky {
    keeper: JoinHandle<Result<(), ForgeError>>,
    hurry: CancellationToken,
}

/// Hears of a run that has taken the thread over, once.
pub(crate) type OnLeaseLost = Box<dyn Fn(&Lease) + Send + Sync>;

/// How the comment is kept.
pub(super) struct KeeperConfig {
    /// From the beginning, else only at the end.
    pub(super) live: bool,
    /// Between two writes.
    pub(super) pause: Duration,
    /// The longest time without one while the thread is held.
    pub(super) beat: Duration,
    /// The claim in the comment.
    pub(super) guard: Option<(LeaseGuard, OnLeaseLost)>,
}

/// Passes on what happens.
struct EventForwarder(mpsc::UnboundedSender<RunEvent>);

impl Reporter for EventForwarder {
    fn on(&mut self, event: &RunEvent) {
        // A keeper that gave up says so at the end.
        let _ = self.0.send(event.clone());
    }
}

impl Sticky {
    /// Keeps the comment by which the run holds this thread; `lost` hears of another run that has taken it over.
    pub(crate) fn holding(
        forge: Arc<dyn Forge>,
        number: u64,
        guard: LeaseGuard,
        lost: OnLeaseLost,
    ) -> (Self, Box<dyn Reporter>) {
        Self::start_with(
            forge,
            number,
            KeeperConfig { live: true, pause: WRITE_INTERVAL, beat: HEARTBEAT_INTERVAL, guard: Some((guard, lost)) },
        )
    }

    /// Writes a comment at the end alone: a dry run's, which is kept.
    pub(crate) fn at_the_end(forge: Arc<dyn Forge>, number: u64) -> (Self, Box<dyn Reporter>) {
        Self::start_with(
            forge,
            number,
            KeeperConfig { live: false, pause: WRITE_INTERVAL, beat: HEARTBEAT_INTERVAL, guard: None },
        )
    }

    pub(super) fn start_with(forge: Arc<dyn Forge>, number: u64, mode: KeeperConfig) -> (Self, Box<dyn Reporter>) {
        let (sender, events) = mpsc::unbounded_channel();
        let hurry = CancellationToken::new();
        let keeper = tokio::spawn(keep(forge, number, mode, events, hurry.clone()));
        (Self { keeper, hurry }, Box::new(EventForwarder(sender)))
    }

    /// Waits until the run's end is in the comment; from when there is a `hurry` without the pause, and not for long.
    pub(crate) async fn finish(mut self, hurry: impl Future<Output = ()>) -> Result<(), String> {
        let hurried = async {
            hurry.await;
            self.hurry.cancel();
            tokio::time::sleep(HURRIED_FINISH_TIMEOUT).await;
            HURRIED_FINISH_TIMEOUT
        };
        let limit = async {
            tokio::time::sleep(FINISH_TIMEOUT).await;
            FINISH_TIMEOUT
        };
        let late = tokio::select! {
            ended = &mut self.keeper => {
                return match ended {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(format!("{error}; {}", error.hint())),
                    Err(error) => Err(format!("the comment's keeper ended: {error}")),
                };
            }
            late = hurried => late,
            late = limit => late,
        };
        self.keeper.abort();
        Err(format!("the comment could not be written within {} s", late.as_secs()))
    }
}

/// The lease in the comment and what belongs to it, which the text follows; empty where there is none.
fn lease_lines(mode: &KeeperConfig, seen: &[RunEvent], ended: bool, beats: u64) -> String {
    let lease = mode.guard.as_ref().map(|(guard, _)| {
        let at = ended.then(host::now);
        let pushed = seen.iter().rev().find_map(|event| match event {
            RunEvent::Pushed { push, undone } => Some(Some(push).filter(|_| !undone)),
            _ => None,
        });
        let last_push = pushed.unwrap_or(guard.last_push.as_ref());
        format!("{}\n{}{}", guard.lease.line(!ended, beats), guard.asks.line(at.as_deref()), last_push::line(last_push))
    });
    lease.unwrap_or_default()
}

async fn keep(
    forge: Arc<dyn Forge>,
    number: u64,
    mode: KeeperConfig,
    mut events: mpsc::UnboundedReceiver<RunEvent>,
    hurry: CancellationToken,
) -> Result<(), ForgeError> {
    let mut seen = vec![];
    let mut shown = String::new();
    let mut comment = mode.guard.as_ref().map(|(guard, _)| guard.comment);
    let mut last: Option<Instant> = None;
    let mut trouble = None;
    let mut beats = 0;
    let mut lost = false;
    loop {
        let beat = tokio::select! {
            event = events.recv() => match event {
                Some(event) => {
                    seen.push(event);
                    false
                }
                None => break,
            },
            () = sleep(mode.beat), if mode.guard.is_some() => true,
        };
        if let Some(last) = last.filter(|_| !beat) {
            tokio::select! {
                () = sleep_until(last + mode.pause) => {}
                () = hurry.cancelled() => {}
            }
        }
        while let Ok(event) = events.try_recv() {
            seen.push(event);
        }
        let ended = outcome(&seen).is_some();
        let text = status(&seen);
        if (mode.live || ended) && (beat || text != shown) && !lost {
            beats += 1;
            if let Some((guard, tell)) = &mode.guard
                && let Ok(Some(other)) = guard.lost_to(forge.as_ref()).await
            {
                // From here on it is the other run's comment.
                lost = true;
                tell(&other);
                continue;
            }
            let body = format!("{MARK}\n{}{text}", lease_lines(&mode, &seen, ended, beats));
            trouble = post(forge.as_ref(), number, &mut comment, &body).await.err();
            // What could not be written once is not tried over and over while the run goes on; its end is.
            shown = text;
            last = Some(Instant::now());
        }
        if ended {
            break;
        }
    }
    trouble.map_or(Ok(()), Err)
}
