//! The directories that a setup may keep for the next run.

use bottle_types::units::ByteSize;

use super::{At, Checked};
use crate::manifest::Setup;
use crate::plan::is_the_agents_own;

/// More is no cache, but a copy of the machine.
const MAX_DIRECTORIES: usize = 32;

pub(super) fn check_cache(setup: &Setup, at: &At) -> Checked {
    let size = at.key("cache_max_size");
    let Some(cache) = &setup.cache else {
        let of_nothing = |at: &At| Err(at.wrong("nothing is kept").hint("add `cache: auto`"));
        return match (setup.cache_max_size, setup.skip_on_hit) {
            (Some(_), _) => of_nothing(&size),
            (None, true) => of_nothing(&at.key("skip_on_hit")),
            (None, false) => Ok(()),
        };
    };
    let at = at.key("cache");
    if cache.entries.is_empty() {
        return Err(at.wrong("no directory is named").hint("write `cache: auto`, or leave it out"));
    }
    if cache.entries.len() > MAX_DIRECTORIES {
        return Err(at.wrong(&format!("more than {MAX_DIRECTORIES} directories")));
    }
    if setup.cache_max_size.is_some_and(|max| !(ByteSize(1 << 20)..=ByteSize(64 << 30)).contains(&max)) {
        return Err(size.wrong("expected between 1MiB and 64GiB"));
    }
    for (index, directory) in cache.named() {
        check_directory(directory, &at.item(index))?;
        let directory = directory.trim_end_matches('/');
        let is_within = |other: &str| directory == other || directory.starts_with(&format!("{other}/"));
        let others = cache.named().filter(|(other, _)| *other != index);
        if let Some((_, other)) =
            others.map(|(at, other)| (at, other.trim_end_matches('/'))).find(|(_, o)| is_within(o))
        {
            return Err(at.item(index).wrong(&format!("`{other}` is kept already, with all that is below it")));
        }
    }
    Ok(())
}

/// A directory below the agent's home or in the repository, by letters that look like what they are, and none of those by which the
/// agent goes.
fn check_directory(directory: &str, at: &At) -> Checked {
    let plain = directory.strip_prefix("~/").unwrap_or(directory).trim_end_matches('/');
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b" _-.+@/".contains(&byte);
    let parts = || plain.split('/');
    if plain.is_empty() || !plain.bytes().all(is_letter) || parts().any(|part| matches!(part, "" | "." | "..")) {
        let hint = "write `~/` and a path for one in the agent's home, or a path in the repository: no `..`, no glob, nothing but ASCII";
        return Err(at.wrong(&format!("`{directory}` is not a directory that can be kept")).hint(hint));
    }
    if let Some(part) = parts().find(|part| is_the_agents_own(part)) {
        let hint = "what the agent goes by comes from the base branch alone, and git's own files from upstream";
        return Err(at.wrong(&format!("`{part}` is never kept")).hint(hint));
    }
    Ok(())
}
