//! Rules about the patch itself: how much it may change, who may have written it, and whether each commit is signed off.

use globset::GlobMatcher;

use super::{GateError, PushRules, refs};

/// What a push changes, all its new commits together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PatchSize {
    /// Paths of files.
    pub files: u64,
    /// Lines added and removed.
    pub lines: u64,
    /// Files that were not there, or were text, and are binary now.
    pub new_binaries: u64,
}

/// The judge of patches to one upstream.
#[derive(Debug, Clone)]
pub struct PatchRules<'a> {
    push: &'a PushRules,
    authors: Vec<GlobMatcher>,
}

impl<'a> PatchRules<'a> {
    /// Compiles the globs of `push.authors`.
    pub fn new(push: &'a PushRules) -> Result<Self, GateError> {
        let authors = push.authors.iter().map(|text| refs::glob(text, true)).collect::<Result<_, _>>()?;
        Ok(Self { push, authors })
    }

    /// Whether a patch's size matters.
    pub fn limits_size(&self) -> bool {
        let PushRules { max_files, max_lines, max_new_binaries, .. } = self.push;
        max_files.is_some() || max_lines.is_some() || max_new_binaries.is_some()
    }

    /// Whether it matters who wrote a commit and what its message says.
    pub fn reads_commits(&self) -> bool {
        self.push.sign_off || !self.authors.is_empty()
    }

    /// What is too much about a patch, a line each.
    pub fn size(&self, size: PatchSize) -> Vec<String> {
        let PushRules { max_files, max_lines, max_new_binaries, .. } = self.push;
        let of = [
            (size.files, max_files, "files are changed", "change fewer, or push the change in parts"),
            (size.lines, max_lines, "lines are added or removed", "change fewer, or push the change in parts"),
            (size.new_binaries, max_new_binaries, "files are binary and were not", "leave them out of the commits"),
        ];
        let over = of.into_iter().filter_map(|(count, most, what, advice)| {
            let most = (*most).filter(|most| count > *most)?;
            Some(format!("{count} {what} by the commits of this push, and {most} are allowed: {advice}"))
        });
        over.collect()
    }

    /// What is wrong with a commit, as git has it raw.
    pub fn commit(&self, commit: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(commit);
        let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
        let author = head.lines().find_map(|line| line.strip_prefix("author "));
        let email = author.and_then(|author| author.rsplit_once('<')?.1.split_once('>').map(|(email, _)| email));
        let Some(email) = email else { return Some("has no author that can be read".to_owned()) };
        if !self.authors.is_empty() && !self.authors.iter().any(|glob| glob.is_match(email)) {
            let authors = self.push.authors.join(", ");
            return Some(format!(
                "is by an author that may not push here; set `git config user.email` to {authors}, and amend it"
            ));
        }
        let signed = |line: &str| {
            let by = line.strip_prefix("Signed-off-by: ").and_then(|by| by.trim_end().strip_suffix('>'));
            by.and_then(|by| by.rsplit_once('<')).is_some_and(|(_, by)| by.eq_ignore_ascii_case(email))
        };
        if self.push.sign_off && !message.lines().any(signed) {
            let advice = "amend it with `git commit --amend --signoff`, or rebase with `git rebase --signoff`";
            return Some(format!("has no `Signed-off-by` line of its author; {advice}"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_judged_by_its_own_author() {
        let push = PushRules { authors: vec!["*@example.org".to_owned()], sign_off: true, ..PushRules::default() };
        let rules = PatchRules::new(&push).expect("globs");
        let commit = |author: &str, message: &str| {
            format!(
                "tree {}\nauthor {author} 1 +0000\ncommitter C <c@example.org> 1 +0000\n\n{message}",
                "0".repeat(40)
            )
        };
        let signed = "x\n\nSigned-off-by: A <a@example.org>\n";
        assert_eq!(rules.commit(commit("A <a@example.org>", signed).as_bytes()), None);
        assert_eq!(rules.commit(commit("A <A@Example.org>", signed).as_bytes()), None);
        for (author, message) in [
            ("A <a@other.example>", signed),
            ("A <a@example.org.evil.test>", signed),
            ("a@example.org", signed),
            ("A <a@example.org>", "x"),
            ("A <b@example.org>", signed),
            ("A <a@example.org>", "x\n\nNot-Signed-off-by: A <a@example.org>\n"),
            ("c@example.org <x@evil.test>", "Signed-off-by: A <x@evil.test>"),
        ] {
            assert!(rules.commit(commit(author, message).as_bytes()).is_some(), "{author} {message}");
        }
        // The author's line of the header counts, not one in the message.
        let in_message = format!("tree x\n\nauthor A <a@example.org> 1 +0000\n{signed}");
        assert!(rules.commit(in_message.as_bytes()).is_some());
    }

    #[test]
    fn more_than_is_allowed_is_named() {
        let push =
            PushRules { max_files: Some(2), max_lines: Some(10), max_new_binaries: Some(0), ..PushRules::default() };
        let rules = PatchRules::new(&push).expect("no globs");
        assert_eq!(rules.size(PatchSize { files: 2, lines: 10, new_binaries: 0 }), [""; 0]);
        assert_eq!(rules.size(PatchSize { files: 3, lines: 11, new_binaries: 1 }).len(), 3);
        let none = PushRules::default();
        let rules = PatchRules::new(&none).expect("no globs");
        assert!(!rules.limits_size() && !rules.reads_commits());
    }
}
