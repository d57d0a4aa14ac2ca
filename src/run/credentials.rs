//! New credentials on their way to the doors of the running bottle.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bottle_wire::control::CredentialsTaken;

use crate::approve::ControlClient;
use crate::backend::Bottle;
use crate::exit::Failure;
use crate::report::Events;
use crate::secrets::Secrets;

/// How long the supervisor of a bottle that was just launched may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_millis(200);
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Tells the doors when each credential ends, and what is newer than what the bottle was launched with; gives the version that
/// they have.
pub(super) async fn first(bottle: &dyn Bottle, secrets: &Secrets, launched_with: u64) -> Result<u64, Failure> {
    let until = Instant::now() + bottle.patience(START_TIMEOUT);
    loop {
        let version = secrets.version();
        let why = match tell(bottle, secrets, launched_with, true).await {
            Ok(()) => return Ok(version),
            Err(why) => why,
        };
        if Instant::now() >= until {
            return Err(Failure::machine(format_args!("the doors can't be told when their credentials end: {why}"))
                .hint("compose.log in the run record says more"));
        }
        tokio::time::sleep(START_INTERVAL).await;
    }
}

/// Takes every change to the doors, for ever.
pub(super) async fn deliver(bottle: &dyn Bottle, secrets: &Secrets, events: &Events, mut given: u64) -> Infallible {
    let mut pause = FIRST_PAUSE;
    let mut said = None;
    loop {
        secrets.changed_since(given).await;
        let version = secrets.version();
        match tell(bottle, secrets, given, false).await {
            Ok(()) => {
                (given, pause, said) = (version, FIRST_PAUSE, None);
            }
            Err(why) => {
                if said.as_ref() != Some(&why) {
                    events.warn(format!("the doors did not take a new credential, and go by the one before: {why}"));
                    said = Some(why);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn tell(bottle: &dyn Bottle, secrets: &Secrets, since: u64, ends: bool) -> Result<(), String> {
    let updates = secrets.updates(since, ends);
    if updates.is_empty() {
        return Ok(());
    }
    match ControlClient(bottle).credentials(&updates).await {
        Ok(CredentialsTaken::InForce) => Ok(()),
        Ok(CredentialsTaken::Kept { reason }) => Err(secrets.mask(&reason)),
        Err(error) => Err(secrets.mask(&error.to_string())),
    }
}
