//! Who may ask: the actor's permission, from the forge, by number. What can't be asked is refused.

use bottle_plan::manifest::{Permission, Who};

use crate::exit::{Code, Failure};
use crate::forge::{Forge, ForgeError};

#[cfg(test)]
mod tests;

/// Who asked, as the event has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventActor {
    pub(crate) login: String,
    pub(crate) id: u64,
}

/// Why an actor may not have a task done. The login is fit for a message.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Denial {
    /// A bot's listing is no word for what anybody may have written in a fork.
    #[error("pull request #{number} is from a fork, and {login} is a listed bot")]
    BotOnFork { number: u64, login: String },
    /// The forge says this of users that it does not know, as those that are gone.
    #[error("the forge knows no permission of {login} (id {id})")]
    UnknownUser { login: String, id: u64, error: ForgeError },
    /// A login can change hands between the event and now; the id can't.
    #[error("{login} is now the user with the id {now}, and the event came from {id}")]
    OtherUser { login: String, id: u64, now: i64 },
    #[error("{login} (id {id}) has {} on this repository, and {} is needed", has.map_or("no permission", name), name(*needed))]
    BelowPermission { login: String, id: u64, has: Option<Permission>, needed: Permission },
    /// The forge did not answer; unknown means no.
    #[error("who asked can't be checked: {0}")]
    CannotCheck(ForgeError),
}

impl Denial {
    /// The failure that it is to a command.
    pub(crate) fn into_failure(self) -> Failure {
        let hint = match &self {
            Self::BotOnFork { .. } => "a person with write permission has to ask for it".to_owned(),
            Self::OtherUser { .. } => "the user who has the login now has to ask again".to_owned(),
            Self::BelowPermission { .. } => "`triggers.who` in claude-bottle.yml says who may ask".to_owned(),
            Self::UnknownUser { error, .. } | Self::CannotCheck(error) => error.hint(),
        };
        let failure = Failure::new(Code::Refused, &self).hint(hint);
        match self {
            // It may be this repository's own set-up that is wrong.
            Self::CannotCheck(_) => failure,
            Self::BotOnFork { .. }
            | Self::UnknownUser { .. }
            | Self::OtherUser { .. }
            | Self::BelowPermission { .. } => failure.by_stranger(),
        }
    }
}

/// Refuses an actor who may not have a task done; `pull_request` is the one that the task is about.
pub(crate) async fn may_ask(
    forge: &dyn Forge,
    who: &Who,
    asker: &EventActor,
    pull_request: Option<u64>,
) -> Result<(), Denial> {
    let (login, id) = (shown(&asker.login), asker.id);
    let mut needed = who.permission;
    if let Some(number) = pull_request {
        let pull = forge.pull_request(number).await.map_err(Denial::CannotCheck)?;
        if pull.from_fork {
            // What a fork proposes is anybody's: here a person who could have written it into the repository has to ask.
            needed = needed.max(Permission::Write);
            if who.bots.contains(&id) {
                return Err(Denial::BotOnFork { number, login });
            }
        }
    }
    if who.bots.contains(&id) {
        return Ok(());
    }
    let user_access = match forge.user_access(&asker.login).await {
        Ok(user_access) => user_access,
        Err(error) if error.status() == Some(404) => return Err(Denial::UnknownUser { login, id, error }),
        Err(error) => return Err(Denial::CannotCheck(error)),
    };
    if i64::try_from(id).ok() != Some(user_access.user_id) {
        return Err(Denial::OtherUser { login, id, now: user_access.user_id });
    }
    if user_access.permission.is_none_or(|has| has < needed) {
        return Err(Denial::BelowPermission { login, id, has: user_access.permission, needed });
    }
    Ok(())
}

fn name(permission: Permission) -> &'static str {
    match permission {
        Permission::Read => "read",
        Permission::Triage => "triage",
        Permission::Write => "write",
        Permission::Maintain => "maintain",
        Permission::Admin => "admin",
    }
}

/// A login for a message; it comes from outside.
fn shown(login: &str) -> String {
    login.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect()
}
