//! apt: its own list of what it fetches from, whatever form its sources have.

use super::{Registries, Role, ToolAnswer};

/// Reads `apt-get indextargets --no-release-info --format '$(REPO_URI) $(SOURCESENTRY)'`.
pub fn read(targets: &str) -> ToolAnswer {
    let mut all = Registries::default();
    for line in targets.lines() {
        let (url, from) = line.trim().split_once(' ').unwrap_or((line.trim(), "apt's sources"));
        // The entry's number in its file helps nobody who looks for the line.
        let file = from.trim().rsplit_once(':').map_or(from.trim(), |(file, _)| file);
        let other = |one: &super::Registry| format!("{}", one.url) == url && one.from == file;
        if !url.is_empty() && !all.found.iter().any(other) {
            all.add(url, file, Role::Main);
        }
    }
    all.left_out.dedup();
    all.or_nothing("apt", "see what `apt-get indextargets` says; apt needs a source that is not a file")
}
