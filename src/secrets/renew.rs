//! The one task of a run that asks for new values: each source by itself, never twice at once, before its value ends.

use std::convert::Infallible;
use std::time::Duration;

use bottle_types::secret::{Secret, SecretName};
use futures_util::future::join_all;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::sleep;

use super::source::{FreshValue, ValueLife, ValueSource};
use super::{Secrets, Values};
use crate::host;

/// How often a file is looked at.
const FILE_INTERVAL: Duration = Duration::from_millis(500);
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A source that gives a value which is about to end is not asked more often.
const SHORTEST_PAUSE_MS: u64 = 1000;
/// The clock is looked at so often while a renewal is waited for: a machine that was asleep knows only then how late it is.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// What came of a renewal.
pub(crate) enum Renewed {
    /// There is a new value.
    Value { name: SecretName, value: Secret<Vec<u8>>, life: Option<ValueLife> },
    /// There is none, for another reason than the last time.
    Failed { name: SecretName, why: String },
}

impl Secrets {
    /// Renews every credential before its end, and all of them at a SIGHUP, for ever.
    pub(crate) async fn keep_fresh(&self, mut hangups: Signal, tell: impl Fn(Renewed)) -> Infallible {
        let wake = watch::Sender::new(());
        let count = self.values_now().credentials.len();
        let all = join_all((0..count).map(|index| self.keep(index, wake.subscribe(), &tell)));
        let listen = async {
            while hangups.recv().await.is_some() {
                wake.send_replace(());
            }
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            never = listen => never,
            _ = all => std::future::pending().await,
        }
    }

    /// Keeps one credential fresh.
    async fn keep(&self, index: usize, mut wake: watch::Receiver<()>, tell: &impl Fn(Renewed)) {
        let source = self.values_now().credentials[index].source.clone();
        if !source.is_renewable() {
            return;
        }
        let (mut failures, mut last_read) = (0, host::unix_millis());
        let mut seen = None;
        loop {
            let asked = tokio::select! {
                () = self.due(index, &source, failures, last_read) => false,
                Ok(()) = wake.changed() => true,
            };
            last_read = host::unix_millis();
            let read = source.read(&self.0.environment).await;
            if let (ValueSource::File(_), false, Ok(fresh)) = (&source, asked, &read)
                && self.is_half_written(index, &mut seen, fresh)
            {
                continue;
            }
            match read.and_then(|fresh| self.replace(index, &fresh)) {
                Ok(is_new) => {
                    failures = 0;
                    if is_new {
                        tell(news(&self.values_now(), index));
                    }
                }
                Err(why) => {
                    failures += 1;
                    if self.note_failure(index, &why) {
                        let name = self.values_now().credentials[index].name.clone();
                        tell(Renewed::Failed { name, why: self.mask(&why) });
                    }
                }
            }
        }
    }

    /// Ends when a credential is to be renewed.
    async fn due(&self, index: usize, source: &ValueSource, failures: u32, last_read: u64) {
        if matches!(source, ValueSource::File(_)) {
            return sleep(FILE_INTERVAL).await;
        }
        let life = self.values_now().credentials[index].life;
        let at = match failures {
            0 => life.map(|life| life.renew_at().max(last_read + SHORTEST_PAUSE_MS)),
            failures => Some(last_read + u64::try_from(pause(failures).as_millis()).unwrap_or(u64::MAX)),
        };
        let Some(at) = at else { return std::future::pending().await };
        loop {
            let left = at.saturating_sub(host::unix_millis());
            if left == 0 {
                return;
            }
            sleep(Duration::from_millis(left).min(CLOCK_INTERVAL)).await;
        }
    }

    /// Whether a file has another value than the one in use, seen for the first time: it may still be being written.
    fn is_half_written(&self, index: usize, seen: &mut Option<Secret<Vec<u8>>>, fresh: &FreshValue) -> bool {
        let is_new = self.values_now().credentials[index].value != fresh.value;
        let again = seen.replace(fresh.value.clone()).is_some_and(|before| before == fresh.value);
        is_new && !again
    }
}

fn news(values: &Values, index: usize) -> Renewed {
    let credential = &values.credentials[index];
    Renewed::Value { name: credential.name.clone(), value: credential.value.clone(), life: credential.life }
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<u64> = [1, 2, 3, 6, 7, 8, 40].map(|failures| pause(failures).as_secs()).to_vec();
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60, 60]);
    }
}
