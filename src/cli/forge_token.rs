//! The token with which the job's forge is asked, where the manifest says where it comes from or it is an App's: the newest one.

use std::sync::Arc;

use bottle_plan::plan::{BottlePlan, FORGE_USER};
use bottle_types::secret::{Secret, SecretName};

use crate::exit::Failure;
use crate::forge::{Forge, app};
use crate::report::Events;
use crate::secrets::{Renewed, Secrets, ValueLife};

/// The forge, and the name of its token; none where the token is the environment's, which never changes.
pub(super) struct ForgeToken(Option<(SecretName, Arc<dyn Forge>)>);

impl ForgeToken {
    pub(super) fn of(plan: &BottlePlan, is_app: bool, forge: Option<&Arc<dyn Forge>>) -> Self {
        let used = plan.secrets.iter().find(|secret| secret.used_by.iter().any(|user| user == FORGE_USER));
        let of_app = || SecretName::parse(app::TOKEN).ok().filter(|_| is_app);
        let name = used.map(|secret| secret.name.clone()).or_else(of_app);
        Self(name.zip(forge.cloned()))
    }

    /// Gives the forge the first token.
    pub(super) fn start(&self, secrets: &Secrets) -> Result<(), Failure> {
        let Some((name, forge)) = &self.0 else { return Ok(()) };
        let Some((value, life)) = secrets.value(name) else { return Ok(()) };
        give(forge.as_ref(), &value, life).map_err(Failure::input)
    }

    /// Says what came of a renewal, and gives the forge its new token.
    pub(super) fn take(&self, renewed: Renewed, events: &Events) {
        let (name, value, life) = match renewed {
            Renewed::Failed { name, why } => {
                return events.warn(format!("the credential {name} was not renewed: {why}; it is tried again"));
            }
            Renewed::Value { name, value, life } => (name, value, life),
        };
        events.note(format!("the credential {name} was renewed"));
        if let Some((_, forge)) = self.0.as_ref().filter(|(of_forge, _)| *of_forge == name)
            && let Err(why) = give(forge.as_ref(), &value, life)
        {
            events.warn(format!("the forge is asked with the token before: {why}"));
        }
    }
}

fn give(forge: &dyn Forge, value: &Secret<Vec<u8>>, life: Option<ValueLife>) -> Result<(), String> {
    let text = String::from_utf8(value.expose().clone()).map_err(|_| "the forge's token is no text".to_owned())?;
    forge.set_token(&Secret::new(text), life.map(ValueLife::last_use))
}
