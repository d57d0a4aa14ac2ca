//! The values behind the plan's secret names, kept in memory, shown nowhere, and renewed in one place.
//!
//! Map: `source` (where a value comes from), `deploy_key` (one that is made for the run), `renew` (the one task that asks for new ones),
//! here what there is now.
//!
//! Always: every value that there was in this run is masked in all that it writes, and is given to the doors' scanners; a new
//! one is masked before anybody has it.

mod deploy_key;
mod renew;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bottle_plan::plan::{BottlePlan, SECRET_VARIABLE_PREFIX, SecretPlan, SecretSource};
use bottle_policy::gate::signing::check_private_key;
use bottle_scan::known::KnownSecrets;
use bottle_types::address::without_userinfo;
use bottle_types::secret::{Secret, SecretName};
use bottle_wire::control::CredentialUpdate;
use tokio::sync::watch;

use crate::exit::Failure;
use crate::host::{Checkout, Environment, maskable, run_password};
use crate::workflow_commands;

pub(crate) use deploy_key::public_line;
pub(crate) use renew::Renewed;
use source::ValueSource;
pub(crate) use source::{Exchange, FreshValue, MakeExchange, ValueLife};

/// Every secret of a run, and the mask made of them; all clones are one.
#[derive(Clone)]
pub(crate) struct Secrets(Arc<SecretStore>);

struct SecretStore {
    environment: Environment,
    values: RwLock<Values>,
    /// The passwords of this run's services, by the names of the agent's variables that have them. The agent has them, too, and they
    /// open nothing else, so that they are neither masked nor looked for.
    generated: Mutex<BTreeMap<String, String>>,
    /// Grows with each change.
    version: watch::Sender<u64>,
}

struct Values {
    credentials: Vec<HeldCredential>,
    /// What is masked although the run does not use it.
    others: Vec<(SecretName, Secret<Vec<u8>>)>,
    mask: Arc<KnownSecrets>,
}

/// A credential, as it is now.
struct HeldCredential {
    name: SecretName,
    source: ValueSource,
    is_for_doors: bool,
    value: Secret<Vec<u8>>,
    life: Option<ValueLife>,
    /// Why the last renewal failed.
    failure: Option<String>,
    /// The values before.
    before: Vec<Secret<Vec<u8>>>,
    /// The version with which it changed last.
    changed: u64,
}

/// So many values of one credential are known at once: each makes every scan a little slower.
const MAX_VALUES: usize = 1000;

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(***)")
    }
}

impl Values {
    fn all(&self) -> Vec<(SecretName, Secret<Vec<u8>>)> {
        let own = self.credentials.iter().flat_map(|credential| {
            let values = std::iter::once(&credential.value).chain(&credential.before);
            values.map(|value| (credential.name.clone(), value.clone()))
        });
        own.chain(self.others.iter().cloned()).collect()
    }
}

impl Secrets {
    /// Reads what the plan names; what looks like a credential in the environment is masked too, and so is a password in the
    /// address that the checkout came from.
    pub(crate) async fn read(
        plan: &BottlePlan,
        environment: &Environment,
        checkout: Option<&Checkout>,
        make: MakeExchange,
    ) -> Result<Self, Failure> {
        let origin = checkout.and_then(|checkout| checkout.origin.as_ref());
        let passwords = origin.into_iter().flat_map(|origin| maskable("ORIGIN_PASSWORD", origin.passwords()));
        // Whatever its name, what an exchange is made with is a secret.
        let given = plan.secrets.iter().flat_map(|secret| match &secret.source {
            SecretSource::Exchange(exchange) => exchange.variables().cloned().collect(),
            _ => vec![],
        });
        let given = given.filter_map(|name| {
            let value = environment.get(name.as_str())?.to_owned();
            Some(maskable(name.as_str(), vec![value]))
        });
        let masked = passwords.chain(given.flatten()).collect();
        let secrets = Self::of(&plan.secrets, environment, masked, make).await?;
        if let Some(signing) = &plan.policies.gate.signing
            && let Some((value, _)) = secrets.value(&signing.key)
        {
            check_private_key(value.expose()).map_err(|why| {
                Failure::input(format_args!("{} can't sign commits: {why}", signing.key))
                    .hint("make a key for it alone: `ssh-keygen -t ed25519 -N '' -f signing-key`")
            })?;
        }
        Ok(secrets)
    }

    /// The same of these, and of what else is to be masked.
    async fn of(
        plans: &[SecretPlan],
        environment: &Environment,
        masked: Vec<(SecretName, Secret<Vec<u8>>)>,
        make: MakeExchange,
    ) -> Result<Self, Failure> {
        let mut credentials = vec![];
        for secret in plans {
            credentials.push(Self::first(secret, environment, make).await?);
        }
        let known: Vec<_> = credentials.iter().map(|one| (one.name.clone(), one.value.clone())).collect();
        // A secret of the plan that is too short to guard stops the run.
        let mask = KnownSecrets::new(&known).map_err(|error| Failure::input(error).hint("use a longer credential"))?;
        let mut others = environment.credentials();
        others.extend(masked);
        let mut values = Values { credentials, others, mask: Arc::new(mask) };
        values.mask = Arc::new(KnownSecrets::new(&values.all()).map_err(Failure::input)?);
        let environment = environment.clone();
        Ok(Self(Arc::new(SecretStore {
            environment,
            values: RwLock::new(values),
            generated: Mutex::default(),
            version: watch::Sender::new(0),
        })))
    }

    async fn first(
        secret: &SecretPlan,
        environment: &Environment,
        make: MakeExchange,
    ) -> Result<HeldCredential, Failure> {
        let source = ValueSource::new(&secret.source, environment, make);
        let fresh = source.read(environment).await.map_err(|why| {
            Failure::input(format_args!("{why}, and {} needs it", secret.used_by.join(", "))).hint(source.hint())
        })?;
        Ok(HeldCredential {
            name: secret.name.clone(),
            source,
            is_for_doors: true,
            value: fresh.value,
            life: fresh.life,
            failure: None,
            before: vec![],
            changed: 0,
        })
    }

    fn values_now(&self) -> std::sync::RwLockReadGuard<'_, Values> {
        self.0.values.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the environment of the one `docker compose up`.
    pub(crate) fn compose_environment(&self) -> Vec<(String, OsString)> {
        let variable = |name: &SecretName| format!("{SECRET_VARIABLE_PREFIX}{name}");
        self.files().into_iter().map(|(name, value)| (variable(&name), OsString::from_vec(value))).collect()
    }

    /// The password that the agent has in this variable; it is made when it is first asked for.
    pub(crate) fn generated(&self, variable: &str) -> Result<String, Failure> {
        let mut generated = self.0.generated.lock().unwrap_or_else(PoisonError::into_inner);
        match generated.get(variable) {
            Some(password) => Ok(password.clone()),
            None => {
                let password = run_password()?;
                generated.insert(variable.to_owned(), password.clone());
                Ok(password)
            }
        }
    }

    /// Each by its name.
    pub(crate) fn files(&self) -> Vec<(SecretName, Vec<u8>)> {
        let values = self.values_now();
        let given = values.credentials.iter().filter(|one| one.is_for_doors);
        given.map(|one| (one.name.clone(), one.value.expose().clone())).collect()
    }

    /// The values that the plan names.
    pub(crate) fn values(&self) -> Vec<Vec<u8>> {
        self.files().into_iter().map(|(_, value)| value).collect()
    }

    /// The value of a name, and how long it is good.
    pub(crate) fn value(&self, name: &SecretName) -> Option<(Secret<Vec<u8>>, Option<ValueLife>)> {
        let values = self.values_now();
        let credential = values.credentials.iter().find(|one| one.name == *name)?;
        Some((credential.value.clone(), credential.life))
    }

    /// The searcher for all of them.
    pub(crate) fn known(&self) -> Arc<KnownSecrets> {
        Arc::clone(&self.values_now().mask)
    }

    /// The text with `***` in place of every secret, and without the passwords of addresses that nobody named as secrets.
    pub(crate) fn mask(&self, text: &str) -> String {
        without_userinfo(&self.known().mask_str(text))
    }

    /// The same for bytes.
    pub(crate) fn mask_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        self.known().mask(bytes)
    }

    /// Counts the changes so far.
    pub(crate) fn version(&self) -> u64 {
        *self.0.version.borrow()
    }

    /// Waits for a change after this one.
    pub(crate) async fn changed_since(&self, version: u64) {
        // The sender is beside the receiver.
        let _ = self.0.version.subscribe().wait_for(|now| *now > version).await;
    }

    /// What the doors have to be told: what has changed since, and with `ends` when each value ends.
    pub(crate) fn updates(&self, since: u64, ends: bool) -> Vec<CredentialUpdate> {
        let values = self.values_now();
        let given = values.credentials.iter().filter(|one| one.is_for_doors);
        let due = given.filter(|one| one.changed > since || (ends && one.life.is_some()));
        due.map(|one| CredentialUpdate {
            name: one.name.clone(),
            // A value that is no text never changes: a new one is refused.
            value: String::from_utf8(one.value.expose().clone()).ok().map(Secret::new),
            ends_at: one.life.map(ValueLife::last_use),
            failure: one.failure.clone(),
        })
        .collect()
    }

    /// Puts a new value in place, and knows the one before as well; tells whether it is another one. The mask has it before
    /// anybody else.
    fn replace(&self, index: usize, fresh: &FreshValue) -> Result<bool, String> {
        if std::str::from_utf8(fresh.value.expose()).is_err() {
            return Err("the new value is not UTF-8 text".to_owned());
        }
        let mut values = self.0.values.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = values.all();
        let credential = &mut values.credentials[index];
        let is_new = credential.value != fresh.value;
        // The same end said again is the same life.
        let said = |life: Option<ValueLife>| life.map(|life| life.to);
        let same_life = !is_new && said(credential.life) == said(fresh.life);
        let life = if same_life { credential.life } else { fresh.life };
        if is_new {
            if credential.before.len() >= MAX_VALUES {
                return Err(format!("there were {MAX_VALUES} values of {} in this run already", credential.name));
            }
            all.push((credential.name.clone(), fresh.value.clone()));
            let mask = Arc::new(KnownSecrets::new(&all).map_err(|error| error.to_string())?);
            let before = std::mem::replace(&mut credential.value, fresh.value.clone());
            credential.before.retain(|other| *other != fresh.value);
            credential.before.push(before);
            values.mask = mask;
            if self.0.environment.get("GITHUB_ACTIONS").is_some() {
                workflow_commands::mask(fresh.value.expose());
            }
        }
        if !same_life || values.credentials[index].failure.is_some() {
            self.changed(&mut values, index, life, None);
        }
        Ok(is_new)
    }

    /// Renews from here on what comes from this variable by the exchange that has put it there. Where the doors have no use for it, the
    /// runner keeps it for itself.
    pub(crate) fn exchanged(&self, variable: &str, life: Option<ValueLife>, exchange: &Arc<dyn Exchange>) {
        let mut values = self.0.values.write().unwrap_or_else(PoisonError::into_inner);
        let is_it = |one: &HeldCredential| matches!(&one.source, ValueSource::Env(name) if name == variable);
        if !values.credentials.iter().any(is_it)
            && let (Ok(name), Some(value)) = (SecretName::parse(variable), self.0.environment.get(variable))
        {
            values.credentials.push(HeldCredential {
                name,
                source: ValueSource::Env(variable.to_owned()),
                is_for_doors: false,
                value: Secret::new(value.as_bytes().to_vec()),
                life,
                failure: None,
                before: vec![],
                changed: 0,
            });
        }
        for credential in values.credentials.iter_mut().filter(|one| is_it(one)) {
            credential.source = ValueSource::Exchange(Arc::clone(exchange));
            credential.life = life;
        }
    }

    /// Notes why a renewal failed; tells whether that is news.
    fn note_failure(&self, index: usize, why: &str) -> bool {
        let why = self.mask(why);
        let mut values = self.0.values.write().unwrap_or_else(PoisonError::into_inner);
        let credential = &values.credentials[index];
        if credential.failure.as_deref() == Some(&why) {
            return false;
        }
        let life = credential.life;
        self.changed(&mut values, index, life, Some(why));
        true
    }

    /// Gives a credential its life and its failure, and counts that as a change.
    fn changed(&self, values: &mut Values, index: usize, life: Option<ValueLife>, failure: Option<String>) {
        let credential = &mut values.credentials[index];
        (credential.life, credential.failure) = (life, failure);
        self.0.version.send_modify(|version| {
            *version += 1;
            credential.changed = *version;
        });
    }
}
