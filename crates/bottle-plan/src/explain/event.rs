//! An event of the forge.

use serde_json::Value;

use super::{Explainer, Explanation, RuleRef, Verdict};
use crate::event::{self, Asked, EventError, Order};
use crate::manifest::{DEFAULT_AGENT, Triggers};
use crate::name::Name;
use crate::plan;
use crate::task::Source;

/// In place of the mention where the question is what comes of an event without one: no forge's comment holds a NUL.
const NO_MENTION: &str = "/\u{0}";

/// A rule of `triggers`, and the triggers without it.
type Without = (RuleRef, Triggers);

impl Explainer {
    /// Says what comes of an event's payload; `kind` is the event's name, where it is known.
    pub fn event(&self, payload: &str, kind: Option<&str>) -> Result<Explanation, EventError> {
        let triggers = &self.layered.manifest.triggers;
        let asked = event::parse(payload, kind, triggers)?;
        let (mut verdict, mut why) = verdict(&asked);
        let mut then = vec![];
        if let Asked::Task(task) = &asked {
            match plan::agent_of(task, &self.layered.manifest) {
                Ok(agent) => why = format!("it starts a run of the agent `{agent}`"),
                Err(error) => {
                    verdict = Verdict::Refuse;
                    why = error.to_string();
                    then.extend(error.hint());
                }
            }
        }
        if let Asked::Task(_) | Asked::Command(_) | Asked::Unclear(_) = &asked {
            then.push(self.permission(&asked));
        }
        let mut told = Explanation::new(self.about(payload, kind), verdict);
        told.why.push(why);
        told.then = then;
        let same = |triggers: &Triggers| {
            event::parse(payload, kind, triggers).is_ok_and(|other| outcome(&other) == outcome(&asked))
        };
        let mut deciding = self.less().into_iter().filter(|(_, without)| !same(without)).map(|(rule, _)| rule);
        told.rule = deciding.next();
        told.also = deciding.collect();
        told.change = match verdict {
            Verdict::Start | Verdict::Command | Verdict::Unclear => told
                .rules()
                .map(|rule| format!("take {} out or change it: the event then comes to something else", rule.path))
                .collect(),
            // The event asks for a run, and no agent is there that does it.
            _ if matches!(asked, Asked::Task(_)) => vec!["declare that agent under `agents`".to_owned()],
            _ => self.more(payload, kind),
        };
        if told.change.is_empty() {
            told.change.push("nothing in a manifest".to_owned());
        }
        Ok(told)
    }

    fn about(&self, payload: &str, kind: Option<&str>) -> String {
        let value: Value = serde_json::from_str(payload.trim_start_matches('\u{feff}')).unwrap_or_default();
        let word = |value: &Value| value.as_str().map(|text| crate::prose::name(text, 60));
        let action = word(&value["action"]).map(|action| format!(" {action}")).unwrap_or_default();
        let by = word(&value["sender"]["login"]).map(|by| format!(" by {by}")).unwrap_or_default();
        let kind = kind.map(|kind| format!(" {}", crate::prose::name(kind, 60))).unwrap_or_default();
        format!("event{kind}{action}{by}")
    }

    /// What the forge is asked before anything happens.
    fn permission(&self, asked: &Asked) -> String {
        let who = match asked {
            Asked::Task(task) => task.asked_by.as_ref().map(|actor| actor.login.as_str()),
            Asked::Command(command) => Some(command.asked_by.login.as_str()),
            Asked::Unclear(unclear) => Some(unclear.asked_by.login.as_str()),
            Asked::Nothing(_) | Asked::Refused(_) => None,
        };
        let permission = serde_json::to_value(self.layered.manifest.triggers.who.permission).unwrap_or_default();
        let permission = permission.as_str().unwrap_or_default().to_owned();
        let rule = self.rule(&["triggers", "who", "permission"], permission.clone());
        match who {
            None if matches!(asked, Asked::Task(task) if matches!(task.source, Source::Proposed(_))) => {
                "nobody asked but the base branch, whose manifest has such pull requests reviewed".to_owned()
            }
            Some(who) => {
                let who = crate::prose::name(who, 60);
                format!("the forge is asked whether {who} has at least `{permission}` on the repository: {rule}")
            }
            None => "nobody asked but the base branch, which has the schedule".to_owned(),
        }
    }

    /// Each rule of the triggers, and the triggers without it.
    fn less(&self) -> Vec<Without> {
        let triggers = &self.layered.manifest.triggers;
        let mut less = vec![];
        for (label, agent) in &triggers.labels {
            let mut without = triggers.clone();
            without.labels.remove(label);
            less.push((self.rule(&["triggers", "labels", label], format!("{label}: {agent}")), without));
        }
        for (login, agent) in &triggers.assignees {
            let mut without = triggers.clone();
            without.assignees.remove(login);
            less.push((self.rule(&["triggers", "assignees", login], format!("{login}: {agent}")), without));
        }
        if let Some(reviews) = &triggers.pull_requests {
            let without = Triggers { pull_requests: None, ..triggers.clone() };
            less.push((self.rule(&["triggers", "pull_requests"], format!("agent: {}", reviews.agent)), without));
        }
        let without = Triggers { mention: NO_MENTION.to_owned(), ..triggers.clone() };
        less.push((self.rule(&["triggers", "mention"], triggers.mention.clone()), without));
        for (index, bot) in triggers.who.bots.iter().enumerate() {
            let mut without = triggers.clone();
            without.who.bots.remove(index);
            less.push((self.rule(&["triggers", "who", "bots", &index.to_string()], bot.to_string()), without));
        }
        less
    }

    /// Which one rule more would make the event start a run.
    fn more(&self, payload: &str, kind: Option<&str>) -> Vec<String> {
        let value: Value = serde_json::from_str(payload.trim_start_matches('\u{feff}')).unwrap_or_default();
        let triggers = &self.layered.manifest.triggers;
        let agent = self.layered.manifest.agents.keys().next().cloned().or_else(|| Name::parse(DEFAULT_AGENT).ok());
        let Some(agent) = agent else { return vec![] };
        let mut tries = vec![];
        let texts = |values: Vec<&Value>| -> Vec<String> {
            values.into_iter().filter_map(|value| value.as_str().map(str::to_owned)).take(MOST_TRIES).collect()
        };
        let added = value["changes"]["added_labels"].as_array().into_iter().flatten().map(|label| &label["name"]);
        for label in texts(std::iter::once(&value["label"]["name"]).chain(added).collect()) {
            let mut with = triggers.clone();
            with.labels.insert(label.clone(), agent.clone());
            tries.push((format!("add to triggers.labels: {}: {agent}", quoted(&label)), with));
        }
        let all = value["issue"]["assignees"].as_array().into_iter().flatten().map(|user| &user["login"]);
        for login in texts(std::iter::once(&value["assignee"]["login"]).chain(all).collect()) {
            let mut with = triggers.clone();
            with.assignees.insert(login.clone(), agent.clone());
            tries.push((format!("add to triggers.assignees: {}: {agent}", quoted(&login)), with));
        }
        if let Some(id) = value["sender"]["id"].as_u64() {
            let mut with = triggers.clone();
            with.who.bots.push(id);
            tries.push((format!("add {id} to triggers.who.bots"), with));
        }
        let starts =
            |with: &Triggers| matches!(event::parse(payload, kind, with), Ok(Asked::Task(_) | Asked::Command(_)));
        let mut found: Vec<String> = tries.into_iter().filter(|(_, with)| starts(with)).map(|(text, _)| text).collect();
        found.dedup();
        found
    }
}

/// The most labels, or users, of one event that are tried.
const MOST_TRIES: usize = 20;

fn quoted(text: &str) -> String {
    Value::from(crate::prose::name(text, 100)).to_string()
}

/// What tells two answers apart: not their words.
fn outcome(asked: &Asked) -> (Verdict, Option<&Name>) {
    let agent = match asked {
        Asked::Task(task) => task.agent.as_ref(),
        _ => None,
    };
    (verdict(asked).0, agent)
}

/// The verdict, and why.
fn verdict(asked: &Asked) -> (Verdict, String) {
    match asked {
        Asked::Task(task) => {
            let agent = task.agent.as_ref().map(|agent| format!(" of `{agent}`")).unwrap_or_default();
            (Verdict::Start, format!("it starts a run{agent}"))
        }
        Asked::Command(command) => {
            let what = match &command.order {
                Order::Stop => "stops the run",
                Order::Retry => "does the last run's task again",
                Order::Undo => "puts the branch back to where it was before the last run",
                Order::AutoMerge { on: true } => {
                    "has the forge merge the pull request when its required checks are green"
                }
                Order::AutoMerge { on: false } => "turns auto-merge off",
                Order::Approve(_) => "grants a proposal",
                Order::Deny { .. } => "turns a proposal down",
                Order::Answer { .. } => "answers the agent's question",
            };
            (Verdict::Command, format!("it is a command that {what}"))
        }
        Asked::Nothing(why) => (Verdict::Nothing, why.clone()),
        Asked::Unclear(unclear) => (Verdict::Unclear, unclear.to_string()),
        Asked::Refused(why) => (Verdict::Refuse, why.clone()),
    }
}
