//! The command in a text that people wrote: a line of the writer's own that begins with the mention.

use crate::prose;

/// What a line that begins with `/bottle` says is always a command.
pub(crate) const BOTTLE: &str = "/bottle";

/// A command, its parts unchecked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SaidCommand<'a> {
    /// Work: from `agent=NAME` who shall do it, what kind of work, the rest of the line and all that follows it.
    Work { agent: Option<&'a str>, kind: WorkKind, text: &'a str },
    /// End the run that is going on.
    Stop,
    /// Do the last task again.
    Retry,
    /// Put the branch back to where it was before the last run.
    Undo,
    /// Have the forge merge the pull request when its required checks are green, or not any more.
    AutoMerge { on: bool },
    /// Say yes to a proposal, with the code that was shown with it.
    Approve(&'a str, &'a str),
    /// Say no, and why.
    Deny(&'a str, &'a str),
    /// Answer a question: the rest of the line, and all below it up to the next such line.
    Answer(&'a str, &'a str),
    /// Something else behind [`BOTTLE`].
    Unknown(&'a str),
}

/// The kinds of work that have a word of their own, alone on its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkKind {
    /// Any other.
    Words,
    /// A review of a pull request.
    Review,
    /// More of what was begun.
    Continue,
    /// The branch, put onto its base.
    Rebase,
}

/// The first command of a text. Quotes, code, HTML and tables have none: they are not what the writer says.
pub(super) fn command<'a>(text: &'a str, mention: &str) -> Option<SaidCommand<'a>> {
    prose::lines(text).into_iter().find_map(|start| {
        let line = &text[start..];
        after(line, mention).map(work).or_else(|| after(line, BOTTLE).map(answer))
    })
}

/// Every line that begins with [`BOTTLE`]: one comment may answer several proposals.
pub(crate) fn answers(text: &str) -> impl Iterator<Item = SaidCommand<'_>> {
    prose::lines(text).into_iter().filter_map(|start| after(&text[start..], BOTTLE).map(answer))
}

/// Begins everything that a run posts.
const OURS: &str = "<!-- claude-bottle:";

/// How names go on that people make of a command's first words, as in `/claude-fix`.
const VERBS: [&str; 11] =
    ["fix", "review", "stop", "retry", "undo", "continue", "rebase", "auto-merge", "approve", "deny", "answer"];

/// The beginning of the first line that is nearly a command, and the beginning that was meant. A text of a run's own has none.
///
/// Nearly is: the name with one letter too few, too many, changed or swapped, and words behind it; a space before the name; one of
/// [`VERBS`] tied to the name. `@` and `/` may stand for each other only where the name is misspelt: else it is somebody's account.
pub(super) fn nearly<'a>(text: &'a str, mention: &'a str) -> Option<(&'a str, &'a str)> {
    let lines = prose::lines(text).into_iter().filter(|_| !text.starts_with(OURS));
    let mut lines = lines.filter_map(|start| text[start..].lines().next());
    lines.find_map(|line| [mention, BOTTLE].into_iter().find_map(|meant| Some((nearly_begins(line, meant)?, meant))))
}

/// The part of a line that is nearly this mention.
fn nearly_begins<'a>(line: &'a str, mention: &str) -> Option<&'a str> {
    let is_sign = |c: &char| matches!(c, '/' | '@');
    let (sign, given) = (mention.chars().next().filter(is_sign)?, line.chars().next().filter(is_sign)?);
    let (name, rest) = (&mention[1..], &line[1..]);
    let spaced = rest.trim_start();
    let (word, others) = word(spaced);
    let word = word.trim_end_matches(is_pause);
    let written = &line[..line.len() - spaced.len() + word.len()];
    let is_name = word.eq_ignore_ascii_case(name);
    if spaced.len() < rest.len() {
        return (is_name && sign == given && !others.is_empty()).then_some(written);
    }
    let tied = word.get(..name.len()).filter(|head| head.eq_ignore_ascii_case(name) && sign == given);
    let tied = tied.and_then(|_| word[name.len()..].strip_prefix(['-', '_']));
    if tied.is_some_and(|verb| VERBS.iter().any(|known| known.eq_ignore_ascii_case(verb))) {
        return Some(written);
    }
    let misspelt =
        name.len() >= 5 && !others.is_empty() && is_one_off(&word.to_ascii_lowercase(), &name.to_ascii_lowercase());
    misspelt.then_some(written)
}

/// Whether two words differ in one letter: one too few, one too many, another one, or two that are swapped.
fn is_one_off(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let same = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let (a, b) = (&one[same..], &other[same..]);
    match (a, b) {
        ([], []) => false,
        ([_, rest @ ..], b) if rest == b => true,
        (a, [_, rest @ ..]) if rest == a => true,
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([a, b, one @ ..], [c, d, other @ ..]) => a == d && b == c && one == other,
        _ => false,
    }
}

/// Whether the mention is one of a line's words.
pub(super) fn is_word_of(line: &str, mention: &str) -> bool {
    line.split_whitespace().any(|word| word.trim_end_matches(is_stop).eq_ignore_ascii_case(mention))
}

/// The rest of a text that begins with the mention as a word of its own, in any case: people's keyboards begin a line with a capital.
fn after<'a>(text: &'a str, mention: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(mention.len())?;
    let ends = rest.chars().next().is_none_or(|c| c.is_whitespace() || is_pause(c));
    (ends && head.eq_ignore_ascii_case(mention)).then(|| rest.trim_start_matches(is_pause))
}

/// Punctuation between a mention and its command, in the forms that keyboards for Chinese and Japanese have as well.
fn is_pause(c: char) -> bool {
    matches!(c, ':' | ',' | '\u{ff1a}' | '\u{ff0c}' | '\u{3001}')
}

/// Punctuation that may end a word.
fn is_stop(c: char) -> bool {
    is_pause(c) || matches!(c, '.' | '!' | '?' | '\u{3002}' | '\u{ff01}' | '\u{ff1f}')
}

/// A verb that is alone on its line, without the punctuation behind it; of two words with one space between them.
fn verb(line: &str) -> String {
    let words: Vec<&str> = line.trim().trim_end_matches(is_stop).split_whitespace().collect();
    words.join(" ").to_ascii_lowercase()
}

fn work(rest: &str) -> SaidCommand<'_> {
    let rest = rest.trim();
    let (first, others) = word(rest);
    let (agent, text) = match first.strip_prefix("agent=") {
        Some(agent) => (Some(agent), others),
        None => (None, rest),
    };
    // One word alone on its line; a sentence that begins with it is work like any other.
    let (line, below) = text.split_once('\n').unwrap_or((text, ""));
    let kind = match (verb(line).as_str(), agent) {
        ("stop", _) => return SaidCommand::Stop,
        ("retry", None) => return SaidCommand::Retry,
        ("undo", None) => return SaidCommand::Undo,
        ("auto-merge", None) => return SaidCommand::AutoMerge { on: true },
        ("auto-merge off", None) => return SaidCommand::AutoMerge { on: false },
        ("review", _) => WorkKind::Review,
        ("continue", _) => WorkKind::Continue,
        ("rebase", _) => WorkKind::Rebase,
        _ => return SaidCommand::Work { agent, kind: WorkKind::Words, text },
    };
    SaidCommand::Work { agent, kind, text: below.trim() }
}

fn answer(rest: &str) -> SaidCommand<'_> {
    let line = rest.lines().next().unwrap_or_default().trim();
    let (verb, others) = word(line);
    match (verb, word(others)) {
        ("approve", (id, code)) if code.bytes().all(|b| b.is_ascii_hexdigit()) => SaidCommand::Approve(id, code),
        ("deny", (id, why)) => SaidCommand::Deny(id, why),
        ("answer", (id, _)) if !id.is_empty() => SaidCommand::Answer(id, below(rest, id)),
        _ => SaidCommand::Unknown(line),
    }
}

/// What follows an id, on its line and on those below it that are no such command.
fn below<'a>(rest: &'a str, id: &str) -> &'a str {
    let text = rest.split_once(id).map_or("", |(_, text)| text);
    let end =
        text.match_indices('\n').map(|(at, _)| at).find(|at| after(text[at + 1..].trim_start(), BOTTLE).is_some());
    text[..end.unwrap_or(text.len())].trim()
}

/// The first word, and the rest.
fn word(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (first, rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(agent: Option<&'static str>, text: &'static str) -> SaidCommand<'static> {
        SaidCommand::Work { agent, kind: WorkKind::Words, text }
    }

    fn verb_of(agent: Option<&'static str>, kind: WorkKind, text: &'static str) -> SaidCommand<'static> {
        SaidCommand::Work { agent, kind, text }
    }

    #[test]
    fn a_line_that_begins_with_the_mention_is_a_command() {
        for (given, expected) in [
            ("/claude", text(None, "")),
            ("/claude fix this", text(None, "fix this")),
            ("Hello,\r\n/claude fix this\r\nand that\r\n", text(None, "fix this\r\nand that")),
            ("/claude: fix", text(None, "fix")),
            ("/claude agent=rust fix", text(Some("rust"), "fix")),
            ("/claude agent=rust", text(Some("rust"), "")),
            ("  /claude fix", text(None, "fix")),
            ("```\n/claude no\n```\n/claude yes", text(None, "yes")),
            ("````\n```\n/claude no\n````\n/claude yes", text(None, "yes")),
            ("<!-- a template\n/claude no\n-->\n/claude yes", text(None, "yes")),
            ("> /claude no\n\n/claude yes", text(None, "yes")),
            ("- a list\n/claude fix", text(None, "fix")),
            ("/claude fix\n===", text(None, "fix\n===")),
            ("/claude review", verb_of(None, WorkKind::Review, "")),
            ("/claude agent=r review \n\nthe tests", verb_of(Some("r"), WorkKind::Review, "the tests")),
            ("/claude continue", verb_of(None, WorkKind::Continue, "")),
            ("/claude agent=r Continue.\nthe tests first", verb_of(Some("r"), WorkKind::Continue, "the tests first")),
            ("/claude continue with the tests", text(None, "continue with the tests")),
            ("/claude rebase", verb_of(None, WorkKind::Rebase, "")),
            ("/claude rebase!\nkeep both entries", verb_of(None, WorkKind::Rebase, "keep both entries")),
            ("/claude rebase onto main", text(None, "rebase onto main")),
            ("/claude undo", SaidCommand::Undo),
            ("/claude, Undo.\nplease", SaidCommand::Undo),
            ("/claude undo the last commit", text(None, "undo the last commit")),
            ("/claude agent=x undo", text(Some("x"), "undo")),
            ("/claude auto-merge", SaidCommand::AutoMerge { on: true }),
            ("/claude Auto-merge.\nthanks", SaidCommand::AutoMerge { on: true }),
            ("/claude auto-merge  off", SaidCommand::AutoMerge { on: false }),
            ("/claude auto-merge when it is green", text(None, "auto-merge when it is green")),
            ("/claude auto-merge on", text(None, "auto-merge on")),
            ("/claude agent=x auto-merge", text(Some("x"), "auto-merge")),
            ("> /claude auto-merge\n\n/claude auto-merge off", SaidCommand::AutoMerge { on: false }),
            ("/claude review the tests", text(None, "review the tests")),
            ("/claude stop", SaidCommand::Stop),
            ("/claude agent=x stop", SaidCommand::Stop),
            ("/claude stop it", text(None, "stop it")),
            ("/claude retry\nplease", SaidCommand::Retry),
            ("/bottle approve P1", SaidCommand::Approve("P1", "")),
            ("/bottle approve P1 0a1b2c", SaidCommand::Approve("P1", "0a1b2c")),
            ("/bottle deny P2  too wide\nx", SaidCommand::Deny("P2", "too wide")),
            ("/bottle deny P2", SaidCommand::Deny("P2", "")),
            ("/bottle answer P3  Use P3.\r\nNot P4.\n/bottle deny P4", SaidCommand::Answer("P3", "Use P3.\r\nNot P4.")),
            ("/bottle answer P3\n\nYes.", SaidCommand::Answer("P3", "Yes.")),
            ("/bottle answer P3", SaidCommand::Answer("P3", "")),
            ("/bottle approve P1 P2 P3", SaidCommand::Unknown("approve P1 P2 P3")),
            ("/bottle", SaidCommand::Unknown("")),
            ("/Claude fix", text(None, "fix")),
            ("/CLAUDE: fix", text(None, "fix")),
            ("/claude\u{ff0c}\u{4fee}\u{590d}", text(None, "\u{4fee}\u{590d}")),
            ("/claude\u{ff1a} \u{4fee}\u{590d}", text(None, "\u{4fee}\u{590d}")),
            ("/claude stop.", SaidCommand::Stop),
            ("/claude Stop!", SaidCommand::Stop),
            ("/claude, stop\u{3002}", SaidCommand::Stop),
            ("/claude retry.", SaidCommand::Retry),
            ("/claude Review.", verb_of(None, WorkKind::Review, "")),
            ("/claude stop the flaky test", text(None, "stop the flaky test")),
            ("/claude stop. Then fix it", text(None, "stop. Then fix it")),
            ("/Bottle approve P1", SaidCommand::Approve("P1", "")),
            ("<img width=\"10\" src=\"https://example.org/a.png\">\n/claude fix", text(None, "fix")),
            (
                "see:\n\n<img alt=\"x\" src=\"https://example.org/a.png\" />\n<img src=b>\n/claude fix\nit",
                text(None, "fix\nit"),
            ),
        ] {
            assert_eq!(command(given, "/claude"), Some(expected), "{given:?}");
        }
    }

    #[test]
    fn a_line_that_is_nearly_a_command_is_known() {
        for (text, written) in [
            ("/claud fix", "/claud"),
            ("/cluade fix this", "/cluade"),
            ("/clauude fix", "/clauude"),
            ("/clsude: fix", "/clsude"),
            ("Hello,\n\n/Claud fix", "/Claud"),
            ("/\u{441}laude fix", "/\u{441}laude"),
            ("/claude-fix", "/claude-fix"),
            ("/claude_review", "/claude_review"),
            ("/claude-undo", "/claude-undo"),
            ("/claude-auto-merge", "/claude-auto-merge"),
            (" / claude fix", "/ claude"),
            ("@claud fix", "@claud"),
            ("/botle approve P1 0a1b2c", "/botle"),
            ("/bottle-approve P1", "/bottle-approve"),
        ] {
            assert_eq!(command(text, "/claude"), None, "{text:?}");
            assert_eq!(nearly(text, "/claude").map(|(written, _)| written), Some(written), "{text:?}");
        }
        assert_eq!(nearly("@claud fix", "@claude"), Some(("@claud", "@claude")));
        assert_eq!(nearly("/botle deny P1", "/claude"), Some(("/botle", BOTTLE)));
    }

    #[test]
    fn ordinary_talk_is_not_nearly_a_command() {
        for text in [
            "",
            "claud fix",
            "/claud",
            "/ claude",
            "/claudette fix",
            "/claude-bot fix",
            "/claude-code review",
            "/clad fix",
            "/cloud fix",
            "@claude fix this",
            "@claudia look at this",
            "@claude-fix",
            "/usr/bin/claude fix",
            "/cc @somebody",
            "/label bug",
            "see /claud fix",
            "> /claud fix",
            "`/claud fix`",
            "```\n/claud fix\n```",
            "    /claud fix",
            "<!-- claude-bottle: status -->\n\n/claud fix",
        ] {
            assert_eq!(nearly(text, "/claude"), None, "{text:?}");
        }
        assert_eq!(nearly("/ai fix", "/ab"), None, "a short name is nearly every name");
        assert_eq!(nearly("!claud fix", "!claude"), None);
    }

    #[test]
    fn anything_else_is_not() {
        for text in [
            "",
            "please /claude fix",
            "> /claude fix",
            "> quoted\n/claude fix",
            "- /claude fix",
            "    /claude fix",
            "\t/claude fix",
            "/claudette fix",
            "/claude-bot fix",
            "`/claude fix`",
            "> /claude auto-merge",
            "```\n/claude auto-merge\n```",
            "    /claude auto-merge",
            "<!--\n/claude auto-merge\n-->",
            "`\n/claude fix\n`",
            "**/claude** fix",
            "\\/claude fix",
            "&sol;claude fix",
            "```\n/claude fix",
            "~~~ text\n/claude fix\n```\n",
            "- x\n  ```\n  /claude fix\n  ```",
            "<!--\n/claude fix\n-->",
            "a <!--\n/claude fix\n-->",
            "<div hidden>\n/claude fix\n</div>",
            "<style>\n/claude fix\n</style>",
            "<img src=a>\n<div hidden>\n/claude fix\n</div>",
            "<img src=a>\n<!--\n/claude fix\n-->",
            "<img src=a title='\n/claude fix\n'>",
            "<img src=a>\n<b>/claude fix</b>",
            "<svg><img src=a>\n/claude fix\n</svg>",
            "<hr>\n<template>\n/claude fix\n</template>",
            "<!-- x -->/claude fix",
            "[a]: x '\n/claude fix\n'",
            "/claude fix | b\n---|---",
            "[^1]: x\n    /claude fix",
            "/\u{441}laude fix",
            "\u{2215}claude fix",
            "\u{ff0f}claude fix",
            "/\u{200b}claude fix",
            "\u{200b}/claude fix",
            "/claude\u{200b} fix",
            "\u{202e}/claude fix",
            "/cl\u{ad}aude fix",
            "/bottles approve P1",
        ] {
            assert_eq!(command(text, "/claude"), None, "{text:?}");
        }
    }
}
