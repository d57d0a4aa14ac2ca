//! The trailers of a commit's message, read as git-interpret-trailers(1) reads them with its own settings.
//!
//! A port of `trailer.c`: the trailers are the last paragraph, which is not the first, if each of its lines is one, or if git wrote one of
//! them itself (a sign-off, a note of a cherry-pick) and at least a quarter are trailers. Lines of comments do not count. A test holds it against git.

/// What git's `isspace` takes for white space.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];
/// Beginnings of lines that git writes by itself.
const WRITTEN_BY_GIT: [&str; 2] = ["Signed-off-by: ", "(cherry picked from commit "];
/// The line behind which git leaves out all that an editor has shown.
const SCISSORS: &str = "# ------------------------ >8 ------------------------\n";

/// One trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer<'a> {
    /// All of it, with the lines that it goes on in, without the white space at its end.
    pub text: &'a str,
    /// What stands before the colon, without white space around.
    pub key: &'a str,
    /// The rest, without white space around.
    pub value: &'a str,
}

/// The trailers of a message, in their order.
pub fn trailers(message: &str) -> Vec<Trailer<'_>> {
    let end = end_of_log(message);
    let lines: Vec<(usize, &str)> = with_starts(&message[..end]).collect();
    let Some(start) = first_trailer_line(&lines) else { return vec![] };
    let mut found: Vec<(usize, usize)> = vec![];
    let mut goes_on = false;
    for (at, line) in &lines[start..] {
        let to = at + line.len();
        match found.last_mut().filter(|_| goes_on && line.starts_with(SPACE)) {
            Some(last) => last.1 = to,
            None => {
                goes_on = separator(line).is_some();
                found.extend(goes_on.then_some((*at, to)));
            }
        }
    }
    let trailer = |(from, to): (usize, usize)| {
        let text = message[from..to].trim_end_matches(SPACE);
        let (key, value) = text.split_at(separator(text)?);
        Some(Trailer { text, key: key.trim_matches(SPACE), value: value[1..].trim_matches(SPACE) })
    };
    found.into_iter().filter_map(trailer).collect()
}

/// Each line, its end included, and where it begins.
fn with_starts(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        (start, line)
    })
}

fn is_blank(line: &str) -> bool {
    line.trim_start_matches(SPACE).is_empty()
}

fn is_comment(line: &str) -> bool {
    line.starts_with('#')
}

/// Where the colon of a trailer stands: behind letters, digits and dashes, and perhaps white space.
fn separator(line: &str) -> Option<usize> {
    let mut has_space = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b':' => return (at > 0).then_some(at),
            b' ' | b'\t' if at > 0 => has_space = true,
            _ if !has_space && (byte.is_ascii_alphanumeric() || byte == b'-') => {}
            _ => return None,
        }
    }
    None
}

/// Where the message ends: before the scissors, and before comments, empty lines and an old list of conflicts at its end.
fn end_of_log(message: &str) -> usize {
    let cut = with_starts(message).find(|(_, line)| *line == SCISSORS).map_or(message.len(), |(at, _)| at);
    // As in git, 0 stands for none.
    let (mut end, mut in_conflicts) = (0, false);
    for (at, line) in with_starts(message).take_while(|(at, _)| *at < cut) {
        let is_old_list = line == "Conflicts:\n";
        if is_old_list || is_comment(line) || line.starts_with('\n') {
            in_conflicts |= is_old_list;
            end = if end == 0 { at } else { end };
        } else if end != 0 && !(in_conflicts && line.starts_with('\t')) {
            (end, in_conflicts) = (0, false);
        }
    }
    if end == 0 { cut } else { end }
}

/// The first line of the paragraph of trailers.
fn first_trailer_line(lines: &[(usize, &str)]) -> Option<usize> {
    let title = lines.iter().position(|(_, line)| !is_comment(line) && is_blank(line))?;
    let (mut trailers, mut others, mut perhaps) = (0, 0, 0);
    let (mut by_git, mut only_space) = (false, true);
    for at in (title..lines.len()).rev() {
        let line = lines[at].1;
        if is_comment(line) {
            others += std::mem::take(&mut perhaps);
        } else if is_blank(line) {
            if only_space {
                continue;
            }
            others += perhaps;
            let are_trailers = (by_git && trailers * 3 >= others) || (trailers > 0 && others == 0);
            return are_trailers.then_some(at + 1);
        } else {
            only_space = false;
            let written = WRITTEN_BY_GIT.iter().any(|start| line.starts_with(start));
            by_git |= written;
            if written || separator(line).is_some() {
                trailers += 1;
                perhaps = 0;
            } else if line.starts_with(SPACE) {
                perhaps += 1;
            } else {
                others += 1 + std::mem::take(&mut perhaps);
            }
        }
    }
    None
}
