//! What people wrote about a task, cleaned, in blocks that the prompt marks as data.

use crate::prose::{self, Clean, Removed};

use crate::task::{Piece, Place, Source, Task};

/// Something that people wrote.
pub(super) struct Block {
    pub(super) kind: &'static str,
    /// The writer's login.
    pub(super) by: Option<String>,
    /// When, as the forge wrote it.
    pub(super) at: Option<String>,
    pub(super) text: String,
    /// Whether it is Markdown, in which there are links.
    pub(super) is_prose: bool,
}

/// All of it, cleaned.
#[derive(Default)]
pub(super) struct Words {
    pub(super) blocks: Vec<Block>,
    pub(super) removed: Removed,
}

impl Words {
    pub(super) fn of(task: &Task) -> Self {
        let mut words = Self::default();
        let asker = task.asked_by.as_ref().map(|actor| actor.login.as_str());
        if !task.instruction.is_empty() {
            words.add_prose("instruction", asker, &task.instruction);
        }
        if let Source::Comment { comment, place, .. } = &task.source {
            words.add_prose("what stands before the instruction", asker, before(comment, &task.instruction));
            if let Some(place) = place {
                let text = format!("{}\n{}", where_it_is(place), place.hunk);
                words.add("place in the change", None, prose::code_for_prompt(&text));
            }
        }
        if let Some(thread) = task.thread() {
            let author = thread.author.as_deref();
            let (title, body) = match task.is_about_a_pull_request() {
                true => ("title of the pull request", "text of the pull request"),
                false => ("title of the issue", "text of the issue"),
            };
            words.add(title, author, prose::line_for_prompt(&thread.title));
            words.add_prose(body, author, &thread.body);
        }
        if let Some(pull) = &task.pull_request {
            let from = match (&pull.head_repository, pull.from_fork) {
                (Some(repository), true) => format!(" of another repository, {}", prose::name(repository, 200)),
                (None, _) => " of a repository that is gone".to_owned(),
                (Some(_), false) => String::new(),
            };
            let branch = prose::name(&pull.head_branch, 250);
            let text = format!("{branch}{from}, at {}, to {}", pull.head.as_str(), pull.base_branch);
            words.add("branch of the pull request", None, prose::line_for_prompt(&text));
        }
        if let Source::FailedRun(run) = &task.source {
            words.add("name of the failed run", None, prose::line_for_prompt(&format!("{} {}", run.name, run.url)));
        }
        task.context.iter().for_each(|piece| words.piece(piece));
        words.blocks.extend(super::attachments::block(&task.attachments));
        words
    }

    fn piece(&mut self, piece: &Piece) {
        match piece {
            Piece::Said { by, written, place, thread, text, .. } => {
                let by = Some(by.as_deref().unwrap_or("somebody who is gone"));
                let mut clean = prose::for_prompt(text);
                if let Some(place) = place {
                    clean.text = format!("on {}:\n{}", where_it_is(place), clean.text);
                }
                let kind = match thread {
                    Some(thread) => {
                        let state = if thread.resolved { "resolved" } else { "open" };
                        clean.text = format!("thread {}, {state}, {}", thread.number, clean.text);
                        "remark of an earlier review"
                    }
                    None => "earlier comment",
                };
                if let Some(block) = self.add(kind, by, clean) {
                    block.at = written.as_ref().map(|written| prose::name(written, 40));
                    block.is_prose = true;
                }
            }
            Piece::Diff { text } => {
                self.add("diff of the pull request", None, prose::code_for_prompt(text));
            }
            Piece::Log { name, text } => {
                let text = format!("{}:\n{text}", prose::name(name, 200));
                self.add("end of a failed check's log", None, prose::code_for_prompt(&text));
            }
        }
    }

    /// Adds Markdown.
    fn add_prose(&mut self, kind: &'static str, by: Option<&str>, text: &str) {
        if let Some(block) = self.add(kind, by, prose::for_prompt(text)) {
            block.is_prose = true;
        }
    }

    /// Adds a block; none of nothing.
    fn add(&mut self, kind: &'static str, by: Option<&str>, clean: Clean) -> Option<&mut Block> {
        self.removed.add(&clean.removed);
        let text = clean.text.trim_matches('\n');
        if text.trim().is_empty() {
            return None;
        }
        let by = by.map(|login| prose::name(login, 60));
        self.blocks.push(Block { kind, by, at: None, text: text.to_owned(), is_prose: false });
        self.blocks.last_mut()
    }

    /// What no block contains, and nobody could know when they wrote.
    pub(super) fn mark(&self, seed: &str) -> String {
        let mut mark = format!("====={seed}");
        while self.blocks.iter().any(|block| block.text.contains(&mark)) {
            mark.push('=');
        }
        mark
    }
}

/// `size.py, line 2`.
fn where_it_is(place: &Place) -> String {
    let before = if place.before { " of the file before the change" } else { "" };
    let line = match (place.first, place.line) {
        (Some(first), Some(last)) => format!(", lines {first} to {last}{before}"),
        (None, Some(line)) => format!(", line {line}{before}"),
        (_, None) => String::new(),
    };
    format!("{}{line}", prose::name(&place.path, 300))
}

/// What a comment says above the line of its command.
fn before<'a>(comment: &'a str, instruction: &str) -> &'a str {
    let head = comment.trim_end().strip_suffix(instruction).unwrap_or_default();
    head.trim_end().rsplit_once('\n').map_or("", |(before, _)| before).trim()
}
