//! Who may ask: the actor's permission, from the forge, by number. What can't be asked is refused.

use bottle_plan::manifest::{Permission, Who};

use crate::exit::{Code, Failure};
use crate::forge::{Forge, ForgeError};

#[cfg(test)]
mod tests;

/// Who asked, as the event has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) login: String,
    pub(crate) id: u64,
}

/// Refuses an actor who may not have a task done; `pull_request` is the one that the task is about.
pub(crate) async fn may_ask(
    forge: &dyn Forge,
    who: &Who,
    asker: &Asker,
    pull_request: Option<u64>,
) -> Result<(), Failure> {
    let mut wanted = who.permission;
    if let Some(number) = pull_request {
        let pull = forge.pull_request(number).await.map_err(|error| cant_ask(&error))?;
        if pull.from_fork {
            // What a fork proposes is anybody's: here a person who could have written it into the repository has to ask.
            wanted = wanted.max(Permission::Write);
            if who.bots.contains(&asker.id) {
                return Err(Failure::new(
                    Code::Refused,
                    format_args!("pull request #{number} is from a fork, and {} is a listed bot", shown(&asker.login)),
                )
                .hint("a person with write permission has to ask for it"));
            }
        }
    }
    if who.bots.contains(&asker.id) {
        return Ok(());
    }
    let user_access = match forge.user_access(&asker.login).await {
        Ok(user_access) => user_access,
        // The forge says this of users that it does not know, as those that are gone.
        Err(error) if error.status() == Some(404) => {
            return Err(Failure::new(
                Code::Refused,
                format_args!("the forge knows no permission of {} (id {})", shown(&asker.login), asker.id),
            )
            .hint(error.hint()));
        }
        Err(error) => return Err(cant_ask(&error)),
    };
    // A login can change hands between the event and now; the number can't.
    if i64::try_from(asker.id).ok() != Some(user_access.user_id) {
        return Err(Failure::new(
            Code::Refused,
            format_args!(
                "{} is now the user with the id {}, and the event came from {}",
                shown(&asker.login),
                user_access.user_id,
                asker.id
            ),
        )
        .hint("the user who has the login now has to ask again"));
    }
    if user_access.permission.is_none_or(|has| has < wanted) {
        let has = user_access.permission.map_or("no permission", name);
        return Err(Failure::new(
            Code::Refused,
            format_args!(
                "{} (id {}) has {has} on this repository, and {} is needed",
                shown(&asker.login),
                asker.id,
                name(wanted)
            ),
        )
        .hint("`triggers.who` in claude-bottle.yml says who may ask"));
    }
    Ok(())
}

fn cant_ask(error: &ForgeError) -> Failure {
    Failure::new(Code::Refused, format_args!("who asked can't be checked: {error}")).hint(error.hint())
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
