//! Pointer files: what stands in the repository for an object. They are read as leniently as git-lfs reads them (its
//! `lfs/pointer.go`): what the client takes for a pointer must be one here.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::changes::{Changes, Object, ObjectKind, Repo, kinds, read_all};
use bottle_types::git::ObjectId;

/// git-lfs takes no file from this size on for a pointer.
const MAX_POINTER_BYTES: u64 = 1024;
/// No pointer is shorter: a version, 64 digits and a size.
const MIN_POINTER_BYTES: u64 = 100;
/// The spec's first address, and those before it.
const VERSIONS: [&str; 3] =
    ["https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2"];
/// The keys, in their order; extensions may stand between them.
const KEYS: [&str; 3] = ["version", "oid", "size"];
/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The name of an object: its SHA-256, as 64 small hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(in super::super) struct LfsOid(String);

impl LfsOid {
    /// Reads 64 small hex digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 64 && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// As much of it as a message needs.
    pub(super) fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl TryFrom<String> for LfsOid {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not the SHA-256 of an object")
    }
}

impl From<LfsOid> for String {
    fn from(oid: LfsOid) -> Self {
        oid.0
    }
}

impl fmt::Display for LfsOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a pointer file says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in super::super) struct LfsPointer {
    pub(super) oid: LfsOid,
    pub(super) size: u64,
}

impl LfsPointer {
    /// Reads a pointer file; `None`: it is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if u64::try_from(bytes.len()).ok()? >= MAX_POINTER_BYTES {
            return None;
        }
        let text = String::from_utf8_lossy(bytes);
        let (mut values, mut found) = ([""; KEYS.len()], 0);
        for line in text.trim().lines().filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once(' ')?;
            let expected = KEYS.get(found)?;
            if key == *expected {
                values[found] = value;
                found += 1;
            } else if !is_extension(key) {
                return None;
            }
        }
        let [version, oid, size] = values;
        let size: i64 = size.parse().ok()?;
        let oid = LfsOid::parse(oid.strip_prefix("sha256:")?)?;
        VERSIONS.contains(&version).then_some(Self { oid, size: size.try_into().ok()? })
    }

    /// Tells whether it stands for nothing, which no server is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.size == 0 && self.oid.as_str() == EMPTY
    }
}

/// Tells whether a line's key is an extension's, as `ext-0-name`.
fn is_extension(key: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let rest = key.strip_prefix("ext-").and_then(|rest| rest.strip_prefix(|c: char| c.is_ascii_digit()));
    rest.and_then(|rest| rest.strip_prefix('-')).is_some_and(|name| name.starts_with(word))
}

/// The pointers among these objects, each with its index.
pub(super) fn among(repo: &Repo<'_>, objects: &[Object]) -> Result<Vec<(usize, LfsPointer)>, String> {
    let may_be = |object: &Object| {
        object.kind == ObjectKind::Blob && (MIN_POINTER_BYTES..MAX_POINTER_BYTES).contains(&object.size)
    };
    let (indices, small): (Vec<usize>, Vec<Object>) =
        objects.iter().enumerate().filter(|(_, object)| may_be(object)).map(|(at, one)| (at, one.clone())).unzip();
    let mut pointers = vec![];
    if !small.is_empty() {
        read_all(repo, &small, |at, bytes| {
            pointers.extend(LfsPointer::parse(bytes).map(|pointer| (indices[at], pointer)));
            Ok(())
        })?;
    }
    Ok(pointers)
}

/// Those of some blobs that are pointers.
pub(in super::super) fn ids_among(repo: &Repo<'_>, ids: &BTreeSet<&ObjectId>) -> Result<BTreeSet<ObjectId>, String> {
    let ids: Vec<ObjectId> = ids.iter().map(|id| (*id).clone()).collect();
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let objects = kinds(repo, &ids)?;
    Ok(among(repo, &objects)?.into_iter().map(|(index, _)| objects[index].id.clone()).collect())
}

/// Every pointer that the mirror has, in whatever commit.
pub(super) fn of_mirror(repo: &Repo<'_>) -> Result<BTreeSet<LfsPointer>, String> {
    let listed = repo.ok(&["cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname)"], None)?;
    let ids = String::from_utf8_lossy(&listed).lines().map(ObjectId::parse).collect::<Result<Vec<_>, _>>();
    let objects = kinds(repo, &ids.map_err(|error| format!("git lists what is no object: {error}"))?)?;
    Ok(among(repo, &objects)?.into_iter().map(|(_, pointer)| pointer).collect())
}

/// Where a push puts an object: a path, else the object's id.
pub(super) fn position(changes: &Changes, index: usize) -> String {
    let id = &changes.objects[index].id;
    let positions = changes.positions();
    let path = positions.get(id).and_then(|(_, paths)| paths.first());
    path.map_or_else(|| format!("object {}", id.short()), |path| String::from_utf8_lossy(path).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_what_git_lfs_takes_for_one() {
        let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
        let v1 = "version https://git-lfs.github.com/spec/v1\n";
        let good = |text: String| LfsPointer::parse(text.as_bytes()).map(|pointer| pointer.size);
        for text in [
            format!("{v1}oid sha256:{oid}\nsize 12345\n"),
            format!("{v1}oid sha256:{oid}\nsize 12345"),
            format!("\n {v1}\r\noid sha256:{oid}\r\n\nsize 12345\r\n \n"),
            format!("version https://hawser.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n"),
            format!("version http://git-media.io/v/2\noid sha256:{oid}\nsize +12345\n"),
            format!("{v1}ext-0-foo sha256:{oid}\next-1-bar sha256:{oid}\noid sha256:{oid}\nsize 12345\n"),
        ] {
            assert_eq!(good(text.clone()), Some(12345), "{text:?}");
        }
        for text in [
            String::new(),
            format!("{v1}oid sha256:{oid}\n"),
            format!("{v1}size 1\noid sha256:{oid}\n"),
            format!("{v1}oid sha256:{oid}\nsize 1\nmore 1\n"),
            format!("{v1}oid sha256:{}\nsize 1\n", oid.to_uppercase()),
            format!("{v1}oid sha512:{oid}\nsize 1\n"),
            format!("{v1}oid sha256:{oid}\nsize -1\n"),
            format!("{v1}oid sha256:{oid}\nsize 1\n{}", "\n".repeat(1024)),
            format!("version https://git-lfs.example.org/spec/v1\noid sha256:{oid}\nsize 1\n"),
        ] {
            assert_eq!(good(text.clone()), None, "{text:?}");
        }
    }
}
