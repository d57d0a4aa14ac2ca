//! Where a value of a manifest stands in its text, for those who speak about a manifest that is fine.

use super::position::{LineColumn, YamlTree};
use super::read::{tree, without_mark};

/// Where the values of a text stand; of a text that is no YAML, nothing is known.
#[derive(Debug)]
pub struct Positions {
    text: String,
    tree: YamlTree,
}

impl Positions {
    /// Reads the places in a text.
    pub fn new(text: &str) -> Self {
        let text = without_mark(text);
        Self { text: text.to_owned(), tree: tree(text).unwrap_or(YamlTree::Leaf) }
    }

    /// Line and column, from 1, of the value at a path of keys and indices; none where it is not written.
    pub fn of(&self, path: &[&str]) -> Option<LineColumn> {
        self.tree.written(path)
    }

    /// Which item of a list, from 0, is this word.
    pub(crate) fn item(&self, list: &[&str], word: &str) -> Option<usize> {
        (0..self.tree.items(list)?).find(|index| {
            let at = self.of(&[list, &[index.to_string().as_str()]].concat());
            at.and_then(|at| offset(&self.text, at)).is_some_and(|at| {
                let rest = self.text[at..].trim_start_matches(['"', '\'']);
                rest.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-'))
            })
        })
    }
}

/// The byte at which a line and a column, from 1, begin.
pub(super) fn offset(text: &str, (line, column): LineColumn) -> Option<usize> {
    let start = text.split_inclusive('\n').take(usize::try_from(line).ok()?.checked_sub(1)?).map(str::len).sum();
    let line = text.get(start..)?.split('\n').next()?;
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    Some(start + line.char_indices().nth(column).map_or(line.len(), |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_has_a_place_and_what_is_not_has_none() {
        let text = "version: 1\nbottles:\n  default:\n    egress: { presets: [\"pip\", npm] }\n";
        let positions = Positions::new(text);
        assert_eq!(positions.of(&["bottles", "default", "egress", "presets", "1"]), Some((4, 32)));
        assert_eq!(positions.of(&["bottles", "default", "egress", "routes"]), None);
        let list = ["bottles", "default", "egress", "presets"];
        assert_eq!((positions.item(&list, "pip"), positions.item(&list, "npm")), (Some(0), Some(1)));
        assert_eq!((positions.item(&list, "np"), Positions::new("a: [").of(&["a"])), (None, None));
        // The mark that some editors begin a file with is none of its characters.
        assert_eq!(Positions::new(&format!("\u{feff}{text}")).of(&["version"]), Some((1, 10)));
    }
}
