//! What is run in the bottle when the agent has ended: the words of `verify`.

use std::borrow::Cow;
use std::fmt;

use bottle_types::units::Seconds;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::name::ServiceName;

/// The commands that show that the work is good: a list of them, or the list and what is done when one fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Verify {
    /// The commands.
    List(Vec<VerifyEntry>),
    /// The commands, and more.
    Rules(VerifyRules),
}

impl Default for Verify {
    fn default() -> Self {
        Self::List(vec![])
    }
}

impl Verify {
    /// The commands, in their order.
    pub fn commands(&self) -> &[VerifyEntry] {
        match self {
            Self::List(commands) | Self::Rules(VerifyRules { commands, .. }) => commands,
        }
    }

    /// How often the agent may mend what fails.
    pub fn repair(&self) -> u32 {
        match self {
            Self::List(_) => 0,
            Self::Rules(rules) => rules.repair,
        }
    }

    /// The globs of test reports.
    pub fn reports(&self) -> &[String] {
        match self {
            Self::List(_) => &[],
            Self::Rules(rules) => &rules.reports,
        }
    }

    /// Whether nothing is run.
    pub fn is_empty(&self) -> bool {
        self.commands().is_empty()
    }
}

/// The commands, and what is done when one fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRules {
    /// The commands, in their order.
    pub commands: Vec<VerifyEntry>,
    /// How often the agent is given what failed and goes on, within the limits of the run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repair: u32,
    /// Globs of the test reports that the commands write, from the top of the workspace: JUnit's XML, TRX or TAP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A command: its text, or the text and more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum VerifyEntry {
    /// A shell command.
    Command(String),
    /// A shell command, and more.
    Rules(VerifyCommandRules),
}

impl VerifyEntry {
    /// The entry with all its keys.
    pub fn rules(&self) -> Cow<'_, VerifyCommandRules> {
        match self {
            Self::Command(run) => Cow::Owned(VerifyCommandRules { run: run.clone(), ..VerifyCommandRules::default() }),
            Self::Rules(rules) => Cow::Borrowed(rules),
        }
    }
}

/// A command, and how it is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyCommandRules {
    /// What it is called; none: by its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A shell command; it must end with 0.
    pub run: String,
    /// How long it may take; 30 minutes where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Seconds>,
    /// The directory of the repository in which it is run; its top where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Services of the bottle that must be ready before it is run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<ServiceName>,
    /// Whether it is run once more where it fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flaky: bool,
}

impl<'de> Deserialize<'de> for Verify {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrRules;
        impl<'de> Visitor<'de> for ListOrRules {
            type Value = Verify;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of commands, or a mapping with `commands`")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Verify, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Verify::List)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Verify, A::Error> {
                VerifyRules::deserialize(MapAccessDeserializer::new(map)).map(Verify::Rules)
            }
        }
        deserializer.deserialize_any(ListOrRules)
    }
}

impl<'de> Deserialize<'de> for VerifyEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrRules;
        impl<'de> Visitor<'de> for TextOrRules {
            type Value = VerifyEntry;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a shell command, or a mapping with `run`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<VerifyEntry, E> {
                Ok(VerifyEntry::Command(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<VerifyEntry, A::Error> {
                VerifyCommandRules::deserialize(MapAccessDeserializer::new(map)).map(VerifyEntry::Rules)
            }
        }
        deserializer.deserialize_any(TextOrRules)
    }
}

impl JsonSchema for Verify {
    fn schema_name() -> Cow<'static, str> {
        "Verify".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (entry, rules) = (generator.subschema_for::<VerifyEntry>(), generator.subschema_for::<VerifyRules>());
        json_schema!({
            "description": "The commands that show that the work is good: a list of them, or the list and what is done when one fails.",
            "anyOf": [{ "type": "array", "items": entry }, rules],
        })
    }
}

impl JsonSchema for VerifyEntry {
    fn schema_name() -> Cow<'static, str> {
        "VerifyEntry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rules = generator.subschema_for::<VerifyCommandRules>();
        json_schema!({
            "description": "A shell command, or the command and how it is run.",
            "anyOf": [{ "type": "string" }, rules],
        })
    }
}
