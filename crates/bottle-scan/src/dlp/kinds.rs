//! Data that is no token and that a project may keep from leaving: `pipelock.detect` names the kinds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of data that is looked for in what leaves, if the manifest says so; each by its own checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
    /// Payment card numbers: published issuer prefixes and lengths, and Luhn's digit.
    Cards,
    /// International bank account numbers: each country's own form, and the remainder by 97.
    Iban,
    /// Personal numbers of twelve countries, most of them behind a word that says so.
    NationalIds,
    /// Private keys of wallets: Bitcoin's, Stellar's, and Ethereum's behind a word that says so.
    WalletKeys,
    /// English recovery phrases of BIP 39, of 12 to 24 words.
    SeedPhrases,
}

impl DataKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Cards, Self::Iban, Self::NationalIds, Self::WalletKeys, Self::SeedPhrases];

    /// What the manifest calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cards => "cards",
            Self::Iban => "iban",
            Self::NationalIds => "national-ids",
            Self::WalletKeys => "wallet-keys",
            Self::SeedPhrases => "seed-phrases",
        }
    }
}
