//! What the runner gathers about a task beyond its event: what else was said, the diff, the ends of failed checks' logs.
//!
//! [`add`] takes what the forge has and keeps what belongs into the prompt: nothing that was written or changed after the
//! task was asked for, and no more than the budgets below, newest first. What is left out is said in the task.

use crate::task::{Piece, Task};

/// All that people said, in bytes.
pub const WORDS: usize = 48 << 10;
/// One thing that somebody said, in bytes; its end is cut off.
pub const ONE: usize = 12 << 10;
/// The diff, in bytes; its end is cut off.
pub const DIFF: usize = 48 << 10;
/// All logs, in bytes; each keeps its end.
pub const LOGS: usize = 32 << 10;

/// Adds to a task what was gathered, in any order.
pub fn add(task: &mut Task, gathered: Vec<Piece>) {
    let (mut words, mut logs, mut diff) = (vec![], vec![], None);
    let mut late = 0_usize;
    for piece in gathered {
        match piece {
            Piece::Said { ref written, ref changed, .. } => {
                if task.was_there(written.as_deref(), changed.as_deref()) {
                    words.push(piece);
                } else {
                    late += 1;
                }
            }
            Piece::Log { name, text } => logs.push((name, text)),
            Piece::Diff { text } => diff = Some(text),
        }
    }
    if late > 0 {
        task.left_out
            .push(format!("{late} comments that were written or changed after this was asked for, or may have been"));
    }
    said(task, words);
    if let Some(text) = diff {
        let (kept, cut) = beginning(text, DIFF);
        if cut > 0 {
            task.left_out.push(format!("the end of the diff, {cut} bytes"));
        }
        task.context.push(Piece::Diff { text: kept });
    }
    let each = LOGS / logs.len().max(1);
    for (name, text) in logs {
        task.context.push(Piece::Log { name, text: end(text, each) });
    }
}

/// The newest that fit, in the order in which they were said.
fn said(task: &mut Task, mut words: Vec<Piece>) {
    let when = |piece: &Piece| match piece {
        Piece::Said { written, .. } => written.as_deref().and_then(crate::moment::Moment::parse),
        Piece::Diff { .. } | Piece::Log { .. } => None,
    };
    words.sort_by_key(when);
    let mut room = WORDS;
    let mut kept = vec![];
    let mut shortened = 0_usize;
    while let Some(mut piece) = words.pop() {
        let Piece::Said { text, place, .. } = &mut piece else { continue };
        let (short, cut) = beginning(std::mem::take(text), ONE);
        *text = short;
        let size = text.len() + place.as_ref().map_or(0, |place| place.hunk.len().min(ONE));
        if size > room {
            task.left_out.push(format!("the {} oldest comments, for want of room", words.len() + 1));
            break;
        }
        room -= size;
        shortened += usize::from(cut > 0);
        kept.push(piece);
    }
    if shortened > 0 {
        task.left_out.push(format!("the ends of {shortened} long comments"));
    }
    kept.reverse();
    task.context.append(&mut kept);
}

/// At most this many bytes from the beginning, and how many are missing.
fn beginning(mut text: String, most: usize) -> (String, usize) {
    let whole = text.len();
    let mut at = whole.min(most);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.truncate(at);
    (text, whole - at)
}

/// At most this many bytes at the end, from the beginning of a line where there is one.
fn end(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let mut at = text.len() - most;
    while !text.is_char_boundary(at) {
        at += 1;
    }
    let tail = &text[at..];
    let line = tail.find('\n').filter(|at| *at + 1 < tail.len()).map_or(0, |at| at + 1);
    tail[line..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        Task { asked_at: Some("2026-11-20T11:00:00Z".to_owned()), ..Task::text("x") }
    }

    fn piece(written: &str, changed: Option<&str>, text: &str) -> Piece {
        Piece::Said {
            by: Some("mona".to_owned()),
            written: Some(written.to_owned()),
            changed: changed.map(str::to_owned),
            place: None,
            thread: None,
            text: text.to_owned(),
        }
    }

    fn texts(task: &Task) -> Vec<&str> {
        let text = |piece: &'_ Piece| match piece {
            Piece::Said { text, .. } | Piece::Diff { text } | Piece::Log { text, .. } => text.len(),
        };
        let all = task.context.iter().filter(|piece| text(piece) < 100);
        all.map(|piece| match piece {
            Piece::Said { text, .. } | Piece::Diff { text } | Piece::Log { text, .. } => text.as_str(),
        })
        .collect()
    }

    #[test]
    fn what_came_or_changed_later_stays_out() {
        let mut task = task();
        let early = "2026-11-20T10:00:00Z";
        add(
            &mut task,
            vec![
                piece("2026-11-20T11:30:00+01:00", Some("2026-11-20T10:45:00Z"), "second"),
                piece(early, Some(early), "first"),
                piece("2026-11-20T11:00:01Z", Some("2026-11-20T11:00:01Z"), "late"),
                piece(early, Some("2026-11-20T11:00:01Z"), "changed later"),
                piece(early, None, "no time"),
                piece("yesterday", Some(early), "no time"),
                Piece::Log { name: "CI".to_owned(), text: "log".to_owned() },
                Piece::Diff { text: "diff".to_owned() },
            ],
        );
        assert_eq!(texts(&task), ["first", "second", "diff", "log"]);
        assert_eq!(
            task.left_out,
            ["4 comments that were written or changed after this was asked for, or may have been"]
        );
        let mut never = Task { asked_at: None, ..task };
        never.context.clear();
        add(&mut never, vec![piece(early, Some(early), "x")]);
        assert!(never.context.is_empty(), "an event without a time");
    }

    #[test]
    fn the_newest_fit() {
        let mut task = task();
        let at = |minute: usize| format!("2026-11-20T10:{minute:02}:00Z");
        let long = "é".repeat(ONE);
        let pieces = (0..10).map(|minute| piece(&at(minute), Some(&at(minute)), &long)).collect();
        add(&mut task, pieces);
        assert_eq!(task.context.len(), WORDS / ONE);
        let Some(Piece::Said { written, text, .. }) = task.context.last() else { panic!("said") };
        assert_eq!((written.as_deref(), text.len()), (Some(at(9).as_str()), ONE));
        assert_eq!(task.left_out, ["the 6 oldest comments, for want of room", "the ends of 4 long comments"]);
    }

    #[test]
    fn a_log_keeps_its_end_and_a_diff_its_beginning() {
        let mut task = task();
        let lines: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
        let log = |name: &str| Piece::Log { name: name.to_owned(), text: lines.clone() };
        add(&mut task, vec![log("a"), log("b"), Piece::Diff { text: lines.clone() }]);
        let [Piece::Diff { text: diff }, Piece::Log { text: a, .. }, Piece::Log { text: b, .. }] = &task.context[..]
        else {
            panic!("{:?}", task.context.len())
        };
        assert!(diff.starts_with("line 0\n") && diff.len() == DIFF);
        assert!(a.ends_with("line 19999\n") && a.starts_with("line ") && a.len() + b.len() <= LOGS && a == b);
        assert_eq!(task.left_out, [format!("the end of the diff, {} bytes", lines.len() - DIFF)]);
    }
}
