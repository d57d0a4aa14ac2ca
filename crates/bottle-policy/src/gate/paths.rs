//! Which paths no pushed commit may touch.

use globset::GlobMatcher;

use super::{GateError, PushRules, refs};

/// The judge of paths of one upstream.
#[derive(Debug, Clone)]
pub struct ProtectedPaths {
    globs: Vec<(String, GlobMatcher)>,
}

impl ProtectedPaths {
    /// Compiles the globs of `push.protect_paths`.
    pub fn new(rules: &PushRules) -> Result<Self, GateError> {
        let compile = |text: &String| Ok((text.clone(), refs::glob(text, true)?));
        Ok(Self { globs: rules.protect_paths.iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// Whether nothing is protected.
    pub fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }

    /// The glob that protects a file, symlink or submodule at this path. Case does not count, because it does not on every
    /// file system that checks the path out. What is not a directory may not stand where a protected path has one either:
    /// `.github` as a symlink would give `.github/workflows` other content.
    pub fn protects(&self, path: &str) -> Option<&str> {
        let below = format!("{}/", path.to_lowercase());
        self.globs
            .iter()
            .find(|(text, glob)| glob.is_match(path) || text.to_lowercase().starts_with(&below))
            .map(|(text, _)| text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_paths_and_what_they_stand_on() {
        let protect_paths = [".github/workflows/**", "claude-bottle.yml", "**/CODEOWNERS"].map(str::to_owned).to_vec();
        let paths = ProtectedPaths::new(&PushRules { protect_paths, ..PushRules::default() }).expect("globs");
        for path in [
            ".github/workflows/ci.yml",
            ".github/workflows/deep/er.yml",
            ".GitHub/Workflows/ci.yml",
            ".github/workflows",
            ".github",
            "claude-bottle.yml",
            "CODEOWNERS",
            "docs/CODEOWNERS",
        ] {
            assert!(paths.protects(path).is_some(), "{path}");
        }
        for path in
            [".github/dependabot.yml", "github/workflows/ci.yml", "src/claude-bottle.yml", ".githu", "CODEOWNERS.md"]
        {
            assert_eq!(paths.protects(path), None, "{path}");
        }
    }
}
