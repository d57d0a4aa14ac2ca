//! The values behind the plan's secret names, read once, kept in memory, shown nowhere.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use bottle_plan::plan::{BottlePlan, SecretSource};
use bottle_scan::known::KnownSecrets;
use bottle_types::address::without_userinfo;
use bottle_types::secret::{Secret, SecretName};

use crate::exit::Failure;
use crate::host::{Checkout, Environment, maskable};

/// What the names of the variables begin with by which `docker compose` takes the values (`environment:` in the
/// rendered file).
const VARIABLE_PREFIX: &str = "BOTTLE_SECRET_";

/// Every secret of a run, and the mask made of them.
#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    values: Vec<(SecretName, String, Secret<Vec<u8>>)>,
    mask: KnownSecrets,
}

impl Secrets {
    /// Reads what the plan names; what looks like a credential in the environment is masked too, and so is a password in the
    /// address that the checkout came from.
    pub(crate) fn read(
        plan: &BottlePlan,
        environment: &Environment,
        checkout: Option<&Checkout>,
    ) -> Result<Self, Failure> {
        let mut values = vec![];
        for secret in &plan.secrets {
            let value = match &secret.source {
                SecretSource::Env(variable) => {
                    environment.get(variable).map(|value| value.as_bytes().to_vec()).ok_or_else(|| {
                        Failure::input(format_args!(
                            "the variable {variable} is not set, and {} needs it",
                            secret.used_by.join(", ")
                        ))
                        .hint(format_args!("set {variable}, or give --replay to answer the model from a cassette"))
                    })?
                }
                SecretSource::File(path) => std::fs::read(path).map_err(|error| {
                    Failure::input(format_args!(
                        "failed to read {path}, which {} needs: {error}",
                        secret.used_by.join(", ")
                    ))
                    .hint("give a readable file in claude-bottle.yml")
                })?,
            };
            values.push((secret.name.clone(), format!("{VARIABLE_PREFIX}{}", secret.name), Secret::new(value)));
        }
        let mut known: Vec<(SecretName, Secret<Vec<u8>>)> =
            values.iter().map(|(name, _, value)| (name.clone(), value.clone())).collect();
        // A secret of the plan that is too short to guard stops the run.
        KnownSecrets::new(&known).map_err(|error| Failure::input(error).hint("use a longer credential"))?;
        known.extend(environment.credentials());
        let origin = checkout.and_then(|checkout| checkout.origin.as_ref());
        known.extend(origin.into_iter().flat_map(|origin| maskable("ORIGIN_PASSWORD", origin.passwords())));
        let mask = KnownSecrets::new(&known).map_err(Failure::input)?;
        Ok(Self { values, mask })
    }

    /// For the environment of the one `docker compose up`.
    pub(crate) fn compose_environment(&self) -> impl Iterator<Item = (String, OsString)> + '_ {
        self.values.iter().map(|(_, variable, value)| (variable.clone(), OsString::from_vec(value.expose().clone())))
    }

    /// Each by its name.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&SecretName, &[u8])> {
        self.values.iter().map(|(name, _, value)| (name, value.expose().as_slice()))
    }

    /// The values that the plan names.
    pub(crate) fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.values.iter().map(|(_, _, value)| value.expose().as_slice())
    }

    /// The searcher for all of them.
    pub(crate) fn known(&self) -> &KnownSecrets {
        &self.mask
    }

    /// The text with `***` in place of every secret, and without the passwords of addresses that nobody named as secrets.
    pub(crate) fn mask(&self, text: &str) -> String {
        without_userinfo(&self.mask.mask_str(text))
    }

    /// The same for bytes.
    pub(crate) fn mask_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        self.mask.mask(bytes)
    }
}
