//! The task list of an issue's text: what is to be done in runs of its own.
//!
//! Only boxes of the text's own lists are tasks: those of lists in lists belong to the task above them, and those in quotes and in
//! code are somebody else's words. The text is made fit to be posted first, so what no reader sees is no task.

use std::collections::BTreeSet;
use std::ops::Range;

use bottle_wire::proposal::sha256;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::prose;

/// The most open tasks of a list.
pub const MAX_TASKS: usize = 20;
/// The longest title, in characters.
const LONGEST_TITLE: usize = 100;

/// The tasks of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskList {
    /// Those that nobody has ticked, in their order.
    pub open: Vec<ListedTask>,
    /// How many are ticked.
    pub done: usize,
    /// A line for each open one that is left out.
    pub left_out: Vec<String>,
}

/// A task of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTask {
    /// Its first line, fit to be posted.
    pub title: String,
    /// All of it, in Markdown that is fit to be posted.
    pub text: String,
    /// Names its text; the same wherever the list has it.
    pub key: String,
}

/// A box of a list.
struct Item {
    /// What follows the box.
    text: String,
    is_done: bool,
}

/// Reads the task list of an issue's text.
pub fn task_list(body: &str) -> TaskList {
    let body = prose::for_posting(body).text;
    let mut list = TaskList::default();
    let mut known = BTreeSet::new();
    for item in items(&body) {
        if item.is_done {
            list.done += 1;
            continue;
        }
        let first = item.text.lines().next().unwrap_or_default();
        let title = prose::name(&prose::line_for_posting(first).text, LONGEST_TITLE);
        let shown = prose::name(&title, 60);
        let key = key(&item.text);
        if title.is_empty() {
            list.left_out.push("a task has no words in its first line".to_owned());
        } else if is_reference(&item.text) {
            list.left_out.push(format!("\"{shown}\" names an issue of its own: ask for that one"));
        } else if !known.insert(key.clone()) {
            list.left_out.push(format!("\"{shown}\" is there twice"));
        } else {
            list.open.push(ListedTask { title, text: item.text, key });
        }
    }
    list
}

/// The boxes of the text's own lists.
fn items(body: &str) -> Vec<Item> {
    let mut items = vec![];
    // How deep it is in lists, and in whatever else can hold one.
    let (mut lists, mut others) = (0_u32, 0_u32);
    let mut item: Option<(Range<usize>, u32)> = None;
    for (event, range) in Parser::new_ext(body, Options::ENABLE_TASKLISTS).into_offset_iter() {
        match event {
            Event::Start(Tag::List(_)) => lists += 1,
            Event::End(TagEnd::List(_)) => lists = lists.saturating_sub(1),
            Event::Start(Tag::BlockQuote(_)) => others += 1,
            Event::End(TagEnd::BlockQuote(_)) => others = others.saturating_sub(1),
            Event::Start(Tag::Item) if others == 0 => item = Some((range, lists)),
            Event::TaskListMarker(is_done) => {
                if let Some((whole, 1)) = item.take() {
                    let indent = body[whole.start..range.start].chars().count();
                    items.push(Item { text: dedented(&body[range.end..whole.end], indent), is_done });
                }
            }
            _ => {}
        }
    }
    items
}

/// The text of an item, without the indentation that made it one.
fn dedented(text: &str, indent: usize) -> String {
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default().trim_end().to_owned();
    lines.fold(first, |mut all, line| {
        let blank = line.chars().take(indent).take_while(|c| *c == ' ').count();
        all.push('\n');
        all.push_str(line[blank..].trim_end());
        all
    })
}

/// True for a task that is the name of another issue, which has a text of its own.
fn is_reference(text: &str) -> bool {
    let text = text.trim();
    let number = text.rsplit(['#', '/']).next().unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let begins = text.contains('#') || text.starts_with("http://") || text.starts_with("https://");
    is_number && begins && !text.contains(char::is_whitespace)
}

/// Names a text however its lines are broken.
fn key(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    sha256(&words.join(" "))[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(body: &str) -> Vec<(String, String)> {
        task_list(body).open.into_iter().map(|task| (task.title, task.text)).collect()
    }

    fn titles(body: &str) -> Vec<String> {
        open(body).into_iter().map(|(title, _)| title).collect()
    }

    #[test]
    fn the_open_boxes_of_the_text_are_tasks() {
        let body = "# Words\n\nCount better.\n\n- [ ] Count **right**\n- [x] Read the file\n* [ ] Count faster\n\n1. [ ] Say `how many`\n\n- no box\n";
        assert_eq!(titles(body), ["Count **right**", "Count faster", "Say `how many`"]);
        assert_eq!(task_list(body).done, 1);
    }

    #[test]
    fn a_task_has_what_is_below_it() {
        let body = "- [ ] Count right\n  with words\n\n  ```sh\n    wc -w\n  ```\n  - [ ] also of none\n  - [x] of one\n- [ ] Next\n";
        let tasks = open(body);
        assert_eq!(tasks.len(), 2, "{tasks:?}");
        assert_eq!(tasks[0].1, "Count right\nwith words\n\n```sh\n  wc -w\n```\n- [ ] also of none\n- [x] of one");
    }

    #[test]
    fn anything_else_is_none() {
        for body in [
            "",
            "- Count right",
            "[ ] Count right",
            "> - [ ] Somebody said",
            "```\n- [ ] In code\n```",
            "- above\n  - [ ] In a list of another",
            "<!--\n- [ ] Hidden\n-->",
            "- [] Count",
            "- [y] Count",
        ] {
            assert_eq!(open(body), [], "{body}");
        }
    }

    #[test]
    fn what_is_left_out_is_named() {
        let body = "- [ ] #12\n- [ ] octo-org/textstats#3\n- [ ] https://git.bottle.test/octo-org/textstats/issues/4\n- [ ] Count\n  right\n- [ ] Count right\n- [ ] Fix #12 first\n";
        let list = task_list(body);
        assert_eq!(
            list.open.iter().map(|task| task.title.as_str()).collect::<Vec<_>>(),
            ["Count", "Fix issue #12 first"]
        );
        assert_eq!(list.left_out.len(), 4, "{list:?}");
        assert!(list.left_out[..3].iter().all(|why| why.contains("names an issue of its own")), "{list:?}");
        assert!(list.left_out[3].contains("is there twice"), "{list:?}");
    }

    #[test]
    fn nothing_of_a_task_acts_in_our_name() {
        let body = "- [ ] @octocat closes #9\u{202e}\n\n  /claude undo\n  <!-- claude-bottle: output x -->\n- [ ] Long "
            .to_owned() + &"word ".repeat(400);
        let tasks = task_list(&body).open;
        assert_eq!(tasks.len(), 2, "{tasks:?}");
        for bad in ["@octocat", "closes #9", "\u{202e}", "\n/claude", "claude-bottle:"] {
            assert!(!tasks[0].text.contains(bad) && !tasks[0].title.contains(bad), "{bad}: {tasks:?}");
        }
        assert_eq!(tasks[1].title.chars().count(), LONGEST_TITLE);
    }
}
