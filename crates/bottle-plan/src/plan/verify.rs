//! What is run in the guest when the agent has ended.

use std::fmt;

use bottle_types::units::Seconds;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::types::GuestPlan;
use crate::manifest::{Verify, VerifyCommandRules, VerifyEntry};
use crate::name::ServiceName;
use crate::task::{Task, Work};

/// How long a command may take where the manifest does not say.
pub(crate) const VERIFY_TIMEOUT: Seconds = Seconds(1800);

/// What is run in the guest when the agent has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VerifyPlan {
    /// One after the other; each must end with 0.
    pub commands: Vec<VerifyCommand>,
    /// How often the agent is given what failed and goes on, within the run's limits.
    pub repair: u32,
}

/// A command that shows that the work is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyCommand {
    /// What it is called.
    pub name: String,
    /// A shell command.
    pub run: String,
    /// How long it may take.
    pub timeout: Seconds,
    /// The guest's directory in which it is run; none: the top of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Services that must be ready before it is run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<ServiceName>,
    /// Whether it is run once more where it fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flaky: bool,
}

impl VerifyPlan {
    /// The manifest's commands. What is no change has nothing that an agent could mend.
    pub(super) fn new(verify: &Verify, task: &Task, guest: &GuestPlan, notes: &mut Vec<String>) -> Self {
        let mut repair = verify.repair();
        if repair > 0 && task.work != Work::Change {
            repair = 0;
            notes.push("verify.repair: this run makes no change, so nothing is mended in it".to_owned());
        }
        let in_repository = |directory: Option<String>| {
            directory.or_else(|| guest.directory.clone()).map(|directory| guest.in_repository(&directory))
        };
        let command = |entry: &VerifyEntry| VerifyCommand::new(entry.rules().into_owned(), in_repository);
        Self { commands: verify.commands().iter().map(command).collect(), repair }
    }
}

impl VerifyCommand {
    fn new(rules: VerifyCommandRules, in_repository: impl FnOnce(Option<String>) -> Option<String>) -> Self {
        let VerifyCommandRules { name, run, timeout, directory, needs, flaky } = rules;
        Self {
            name: name.unwrap_or_else(|| run.clone()),
            run,
            timeout: timeout.unwrap_or(VERIFY_TIMEOUT),
            directory: in_repository(directory),
            needs,
            flaky,
        }
    }
}

/// Records of earlier versions have a list of shell commands.
impl<'de> Deserialize<'de> for VerifyPlan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            commands: Vec<VerifyCommand>,
            repair: u32,
        }
        struct ListOrFields;
        impl<'de> Visitor<'de> for ListOrFields {
            type Value = VerifyPlan;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("verify commands")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<VerifyPlan, A::Error> {
                let mut commands = vec![];
                while let Some(run) = list.next_element()? {
                    commands
                        .push(VerifyCommand::new(VerifyCommandRules { run, ..VerifyCommandRules::default() }, |_| {
                            None
                        }));
                }
                Ok(VerifyPlan { commands, repair: 0 })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<VerifyPlan, A::Error> {
                let Fields { commands, repair } = Fields::deserialize(MapAccessDeserializer::new(map))?;
                Ok(VerifyPlan { commands, repair })
            }
        }
        deserializer.deserialize_any(ListOrFields)
    }
}
