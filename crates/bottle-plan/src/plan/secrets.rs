//! The list of secrets that a run needs, each with who uses it.

use bottle_types::secret::SecretName;

use super::types::{SecretPlan, SecretSource};
use crate::facts::HostFacts;

/// Adds a variable's secret, or one more user of it.
pub(super) fn add(secrets: &mut Vec<SecretPlan>, name: &SecretName, used_by: &str, facts: &HostFacts) {
    let used_by = used_by.to_owned();
    match secrets.iter_mut().find(|secret| secret.name == *name) {
        Some(secret) if secret.used_by.contains(&used_by) => {}
        Some(secret) => secret.used_by.push(used_by),
        None => secrets.push(SecretPlan {
            source: SecretSource::Env(name.to_string()),
            used_by: vec![used_by],
            present: facts.variables.contains(name.as_str()),
            name: name.clone(),
        }),
    }
}
