//! Rules about the patch itself: how much it may change.

use super::PushRules;

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
#[derive(Debug, Clone, Copy)]
pub struct PatchRules<'a> {
    push: &'a PushRules,
}

impl<'a> PatchRules<'a> {
    /// The rules of an upstream.
    pub fn new(push: &'a PushRules) -> Self {
        Self { push }
    }

    /// Whether a patch's size matters.
    pub fn limits_size(&self) -> bool {
        let PushRules { max_files, max_lines, max_new_binaries, .. } = self.push;
        max_files.is_some() || max_lines.is_some() || max_new_binaries.is_some()
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_is_allowed_is_named() {
        let push =
            PushRules { max_files: Some(2), max_lines: Some(10), max_new_binaries: Some(0), ..PushRules::default() };
        let rules = PatchRules::new(&push);
        assert_eq!(rules.size(PatchSize { files: 2, lines: 10, new_binaries: 0 }), [""; 0]);
        assert_eq!(rules.size(PatchSize { files: 3, lines: 11, new_binaries: 1 }).len(), 3);
        let none = PushRules::default();
        let rules = PatchRules::new(&none);
        assert!(!rules.limits_size());
    }
}
