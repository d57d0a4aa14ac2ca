//! The command in a text that people wrote: a line that begins with the mention.

/// A command: who shall do it, and what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command<'a> {
    /// From `agent=NAME`, unchecked.
    pub(super) agent: Option<&'a str>,
    /// The rest of the line and all that follows it.
    pub(super) text: &'a str,
}

/// The first command of a text. Quoted lines, fenced code and HTML comments have none: they are not what the writer says.
pub(super) fn command<'a>(text: &'a str, mention: &str) -> Option<Command<'a>> {
    let mut fence: Option<&str> = None;
    let mut hidden = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let begins_at = start;
        start += line.len();
        let indent = line.len() - line.trim_start_matches(' ').len();
        let words = line.trim();
        if hidden {
            hidden = !words.contains("-->");
            continue;
        }
        match fence {
            Some(marks) => {
                if words.starts_with(marks) && words.trim_start_matches(&marks[..1]).is_empty() {
                    fence = None;
                }
                continue;
            }
            None if words.starts_with("```") || words.starts_with("~~~") => {
                let mark = &words[..1];
                fence = Some(&words[..words.len() - words.trim_start_matches(mark).len()]);
                continue;
            }
            None => {}
        }
        // Four spaces make code of a line.
        if indent < 4
            && let Some(rest) = after(&text[begins_at + indent..], mention)
        {
            return Some(split(rest));
        }
        hidden = words.rfind("<!--").is_some_and(|open| !words[open..].contains("-->"));
    }
    None
}

/// Whether the mention is one of a line's words.
pub(super) fn is_word_of(line: &str, mention: &str) -> bool {
    line.split_whitespace().any(|word| word.trim_end_matches([':', ',', '.', '!', '?']) == mention)
}

/// What follows the mention, if the text begins with it as a word of its own.
fn after<'a>(text: &'a str, mention: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(mention)?;
    let ends = rest.chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, ':' | ','));
    ends.then(|| rest.trim_start_matches([':', ',']))
}

fn split(rest: &str) -> Command<'_> {
    let rest = rest.trim();
    let (first, others) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match first.strip_prefix("agent=") {
        Some(agent) => Command { agent: Some(agent), text: others.trim() },
        None => Command { agent: None, text: rest },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_begins_with_the_mention_is_a_command() {
        for (text, agent, instruction) in [
            ("/claude", None, ""),
            ("/claude fix this", None, "fix this"),
            ("Hello,\r\n/claude fix this\r\nand that\r\n", None, "fix this\r\nand that"),
            ("/claude: fix", None, "fix"),
            ("/claude agent=rust fix", Some("rust"), "fix"),
            ("/claude agent=rust", Some("rust"), ""),
            ("  /claude fix", None, "fix"),
            ("```\n/claude no\n```\n/claude yes", None, "yes"),
            ("````\n```\n/claude no\n````\n/claude yes", None, "yes"),
            ("<!-- a template\n/claude no\n-->\n/claude yes", None, "yes"),
            ("<!-- a --> b\n/claude yes", None, "yes"),
        ] {
            assert_eq!(command(text, "/claude"), Some(Command { agent, text: instruction }), "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for text in [
            "",
            "please /claude fix",
            "> /claude fix",
            "    /claude fix",
            "\t/claude fix",
            "/claudette fix",
            "/claude-bot fix",
            "/Claude fix",
            "`/claude fix`",
            "```\n/claude fix",
            "~~~ text\n/claude fix\n```\n",
            "<!--\n/claude fix\n-->",
            "/\u{441}laude fix",
        ] {
            assert_eq!(command(text, "/claude"), None, "{text:?}");
        }
    }
}
