//! The list of secrets that a run needs, each with who uses it.

use bottle_types::secret::SecretName;

use super::error::PlanError;
use super::types::{CANARY_FILE, SecretPlan, SecretSource};
use crate::facts::HostFacts;
use crate::manifest::Credentials;

/// What says where a credential's value is: the manifest, else the environment.
#[derive(Clone, Copy)]
pub(super) struct SecretSources<'a> {
    pub(super) declared: &'a Credentials,
    pub(super) facts: &'a HostFacts,
}

impl SecretSources<'_> {
    /// Adds a credential, or one more user of it.
    pub(super) fn add(self, secrets: &mut Vec<SecretPlan>, name: &SecretName, used_by: &str) {
        let used_by = used_by.to_owned();
        match secrets.iter_mut().find(|secret| secret.name == *name) {
            Some(secret) if secret.used_by.contains(&used_by) => {}
            Some(secret) => secret.used_by.push(used_by),
            None => {
                let source = self.source(name);
                let present = match &source {
                    SecretSource::Env(variable) => self.facts.variables.contains(variable),
                    SecretSource::ProxyPassword(_)
                    | SecretSource::File(_)
                    | SecretSource::Command(_)
                    | SecretSource::DeployKey
                    | SecretSource::Canary(_) => true,
                    SecretSource::Exchange(exchange) => {
                        exchange.variables().all(|name| self.facts.variables.contains(name.as_str()))
                    }
                };
                secrets.push(SecretPlan { name: name.clone(), source, used_by: vec![used_by], present });
            }
        }
    }

    /// Adds the canary, which no rule names.
    pub(super) fn add_canary(self, secrets: &mut Vec<SecretPlan>) -> Result<(), PlanError> {
        let name = SecretName::canary();
        if let Some(taken) = secrets.iter().find(|secret| secret.name == name) {
            return Err(PlanError::CanarysName { used_by: taken.used_by.join(", ") });
        }
        let source = SecretSource::Canary(CANARY_FILE.to_owned());
        secrets.push(SecretPlan { name, source, used_by: vec!["the doors to refuse".to_owned()], present: true });
        Ok(())
    }

    /// Whether there is a value for a name, as far as planning knows.
    pub(super) fn has(self, name: &str) -> bool {
        self.facts.variables.contains(name) || self.declared.keys().any(|declared| declared.as_str() == name)
    }

    fn source(self, name: &SecretName) -> SecretSource {
        let declared = self.declared.get(name).and_then(|entry| entry.source(self.facts.home.as_deref()));
        declared.unwrap_or_else(|| SecretSource::Env(name.to_string()))
    }
}
