//! People and bots.

use super::payload::User;
use super::{Answer, nothing, refused};
use crate::manifest::Triggers;
use crate::task::Actor;

/// Someone who may ask, as far as an event can show: a person, or a bot that the manifest lists.
pub(super) struct Asker {
    pub(super) actor: Actor,
    is_bot: bool,
}

impl Asker {
    /// Turns bots away whose id is not listed. A bot is what the forge calls one, or what is called like one; a name lets
    /// nobody in.
    pub(super) fn of(user: &User, association: Option<&String>, triggers: &Triggers) -> Answer<Self> {
        let User { login, id, kind } = user;
        let Some(id) = u64::try_from(*id).ok().filter(|id| *id > 0) else {
            return refused(&format!("{login} (id {id}) is one of the forge's own helpers, not a person"));
        };
        let listed = triggers.who.bots.contains(&id);
        let is_bot = listed || kind.as_deref().is_some_and(|kind| kind != "User") || login.ends_with("[bot]");
        if is_bot && !listed {
            return refused(&format!("{login} (id {id}) is not a person, and `triggers.who.bots` does not list it"));
        }
        Ok(Self { actor: Actor { login: login.clone(), id, association: association.cloned() }, is_bot })
    }

    /// Only a person may do this.
    pub(super) fn person(&self, what: &str) -> Answer<()> {
        if !self.is_bot {
            return Ok(());
        }
        refused(&format!("{} (id {}) is a bot, and {what}", self.actor.login, self.actor.id))
    }
}

/// The writer of a text must be who sent the event: else somebody lends another's words their name.
pub(super) fn same(writer: Option<&User>, sender: &User, what: &str) -> Answer<()> {
    match writer {
        Some(writer) if writer.id == sender.id => Ok(()),
        Some(_) => refused(&format!("the {what} is not by the user who sent the event")),
        None => nothing(&format!("the {what} has no writer")),
    }
}
