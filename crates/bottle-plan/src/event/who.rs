//! People and bots.

use super::payload::{UserPayload, Writer};
use super::{Answer, nothing, refused};
use crate::manifest::Triggers;
use crate::task::Actor;

/// Someone who may ask, as far as an event can show: a person, or a bot that the manifest lists.
pub(super) struct Asker {
    pub(super) actor: Actor,
    is_bot: bool,
}

/// GitHub's account for the texts of deleted users; anybody may have written them.
const GHOST: (&str, u64) = ("ghost", 10137);

impl Asker {
    /// Turns bots away whose id is not listed. A bot is what the forge calls one, or what is called like one; a name lets
    /// nobody in.
    pub(super) fn of(user: &UserPayload, association: Option<&String>, triggers: &Triggers) -> Answer<Self> {
        let UserPayload { login, id, kind } = user;
        let Some(id) = u64::try_from(*id).ok().filter(|id| *id > 0) else {
            return refused(&format!("{login} (id {id}) is one of the forge's own helpers, not a person"));
        };
        if (login.as_str(), id) == GHOST {
            return refused("the user was deleted, and nobody knows who it was");
        }
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
pub(super) fn same(writer: Writer<'_>, sender: &UserPayload, what: &str, triggers: &Triggers) -> Answer<()> {
    if let Some(name) = writer.original {
        let by = if name.is_empty() { "somebody" } else { name };
        return refused(&format!("the {what} was imported from elsewhere, where {by} wrote it"));
    }
    match writer.user {
        Some(user) if user.id == sender.id => {}
        Some(_) => return refused(&format!("the {what} is not by the user who sent the event")),
        None => return nothing(&format!("the {what} has no writer")),
    }
    // An app writes in the name of a bot of its own, or of a person who need not have said any of it.
    let listed = u64::try_from(sender.id).is_ok_and(|id| triggers.who.bots.contains(&id));
    match writer.app {
        Some(app) if !listed => {
            let name = app.slug.as_deref().unwrap_or("without a name");
            let login = &sender.login;
            refused(&format!("the {what} was written in the name of {login} by the app {name}, not by a person"))
        }
        _ => Ok(()),
    }
}
