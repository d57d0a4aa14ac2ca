//! The files that people attached: where they are mentioned, where they are in the guest, and what the prompt says of them.

use bottle_types::rule::Rule;

use super::make::choose_agent;
use super::types::HOME;
use super::words::{Block, Words};
use super::{Options, PlanError};
use crate::manifest::{AttachmentRules, Manifest};
use crate::prose::{self, Link};
use crate::task::{Attachment, Given, Source, Task};

/// More addresses than so many in all words are not looked at.
const MOST_LINKS: usize = 1000;
/// So many attachments that are not given are named one by one.
const MOST_NAMED: usize = 20;

/// An address in words that the agent is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// The address, as it is written.
    pub link: Link,
    /// The login of whoever wrote it.
    pub by: Option<String>,
    /// The kind of the words.
    pub attached_to: &'static str,
}

/// Gives the addresses in what people wrote, each once, in the order of the prompt. What is cleaned away has none, and so have a
/// text of the command line and a schedule.
pub fn mentions(task: &Task) -> Vec<Mention> {
    if matches!(task.source, Source::Text | Source::Schedule { .. }) {
        return vec![];
    }
    let mut found: Vec<Mention> = vec![];
    for block in Words::of(task).blocks.into_iter().filter(|block| block.is_prose) {
        for link in prose::links(&block.text) {
            if found.len() < MOST_LINKS && found.iter().all(|other| other.link.address != link.address) {
                found.push(Mention { link, by: block.by.clone(), attached_to: block.kind });
            }
        }
    }
    found
}

/// The rules of the agent that does a task; none where no agent does it, or it gets no attachment.
pub fn attachment_rules(
    task: &Task,
    manifest: &Manifest,
    options: &Options,
) -> Result<Option<AttachmentRules>, PlanError> {
    if options.publish.is_some() || task.course.undo().is_some() {
        return Ok(None);
    }
    let (_, agent) = choose_agent(task, manifest, options)?;
    Ok(Some(agent.attachments).filter(|rules| rules.max > 0))
}

/// The guest's directory of attachments.
pub fn attachments_dir() -> String {
    format!("{HOME}/.claude-bottle-attachments")
}

/// The rule by which an attached text has words that talk an agent into something.
pub fn attached_injection(text: &str) -> Option<Rule> {
    crate::tokens::injection(text)
}

/// What the prompt says of the attachments, for a block of its own.
pub(super) fn block(attachments: &[Attachment]) -> Option<Block> {
    if attachments.is_empty() {
        return None;
    }
    let (given, others): (Vec<_>, Vec<_>) = attachments.iter().partition(|one| one.given.name().is_some());
    let more = others.len().saturating_sub(MOST_NAMED);
    let mut lines: Vec<String> = given.into_iter().chain(others.into_iter().take(MOST_NAMED)).map(line).collect();
    if more > 0 {
        lines.push(format!("- {more} more are not given"));
    }
    Some(Block { kind: "attachments", by: None, at: None, text: lines.join("\n"), is_prose: false })
}

fn line(attachment: &Attachment) -> String {
    let Attachment { url, by, attached_to, given } = attachment;
    let by = by.as_ref().map_or_else(String::new, |by| format!(", attached by {by}"));
    let of = format!("{by} to the {attached_to}; {}", prose::name(url, 200));
    match given {
        Given::Picture { name, width, height, from } => {
            let from = from.map_or_else(String::new, |from| format!(" (was {} x {})", from.width, from.height));
            format!("- {}/{name}: a picture, {width} x {height}{from}{of}", attachments_dir())
        }
        Given::Text { name, bytes, .. } => format!("- {}/{name}: a text, {bytes} bytes{of}", attachments_dir()),
        Given::Nothing { why } => format!("- not given, because {}{of}", prose::name(why, 200)),
    }
}

/// Says what is not given, and what talks an agent into something.
pub(super) fn note(task: &Task, notes: &mut Vec<String>) {
    let given = task.attachments.iter().filter(|one| one.given.name().is_some()).count();
    if given > 0 {
        notes.push(format!("attachments: {given} given to the agent, in {}", attachments_dir()));
    }
    let mut left_out = 0;
    for Attachment { url, by, given, .. } in &task.attachments {
        let by = by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
        let url = prose::name(url, 200);
        match given {
            Given::Text { injection: Some(rule), .. } => {
                notes.push(format!("attachment {url}{by}: has words that talk an agent into something ({rule})"));
            }
            Given::Nothing { why } if left_out < MOST_NAMED => {
                left_out += 1;
                notes.push(format!("attachment {url}{by} is not given: {}", prose::name(why, 200)));
            }
            _ => {}
        }
    }
}
