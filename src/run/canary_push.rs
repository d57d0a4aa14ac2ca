//! The push of the canary that the self-test sends through the gate: one branch with one commit with one file, as git's protocol has it
//! behind the advertisement (gitprotocol-pack(5), gitformat-pack(5)). The guest need have no git for it.

use std::io::Write as _;

use bottle_types::canary::SELF_TEST_REF;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::exit::Failure;

/// git's numbers of the kinds of objects in a pack.
const COMMIT: u8 = 1;
const TREE: u8 = 2;
const BLOB: u8 = 3;

/// Whoever has written the commit; it is nobody.
const NOBODY: &str = "self-test <self-test@self-test.invalid> 0 +0000";

/// The push of a file with this content.
pub(super) fn push(content: &[u8]) -> Result<Vec<u8>, Failure> {
    let blob = id("blob", content);
    let tree = [b"100644 credentials\0".as_slice(), &blob].concat();
    let tree_id = hex::encode(id("tree", &tree));
    let commit = format!("tree {tree_id}\nauthor {NOBODY}\ncommitter {NOBODY}\n\nself-test\n").into_bytes();
    let new = hex::encode(id("commit", &commit));
    let command = format!("{} {new} {SELF_TEST_REF}\0report-status side-band-64k\n", "0".repeat(40));
    let mut push = format!("{:04x}{command}0000", command.len() + 4).into_bytes();
    let pack = pack(&[(COMMIT, &commit), (TREE, &tree), (BLOB, content)])
        .map_err(|error| Failure::machine(format_args!("failed to pack the self-test's push: {error}")))?;
    push.extend(pack);
    Ok(push)
}

/// The id of an object.
fn id(kind: &str, content: &[u8]) -> Vec<u8> {
    let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    sum.update(format!("{kind} {}\0", content.len()).as_bytes());
    sum.update(content);
    sum.finish().as_ref().to_vec()
}

fn pack(objects: &[(u8, &[u8])]) -> std::io::Result<Vec<u8>> {
    let mut pack = b"PACK\0\0\0\x02\0\0\0".to_vec();
    pack.push(u8::try_from(objects.len()).map_err(std::io::Error::other)?);
    for (kind, content) in objects {
        // Four bits of the length beside the kind, then seven a byte.
        let mut left = content.len();
        let mut byte = kind << 4 | low(left, 4);
        left >>= 4;
        while left > 0 {
            pack.push(byte | 0x80);
            byte = low(left, 7);
            left >>= 7;
        }
        pack.push(byte);
        let mut packed = ZlibEncoder::new(&mut pack, Compression::fast());
        packed.write_all(content)?;
        packed.finish()?;
    }
    let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    sum.update(&pack);
    pack.extend(sum.finish().as_ref());
    Ok(pack)
}

/// The lowest bits of a number, as many as a byte has room for.
fn low(number: usize, bits: u32) -> u8 {
    number.to_le_bytes()[0] & (0xff >> (8 - bits))
}

#[cfg(test)]
mod tests {
    use bottle_testkit::sh;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn git_reads_what_is_pushed() {
        let dir = TempDir::new().expect("a directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        for length in [1, 15, 16, 2047, 2048, 5000] {
            let content: Vec<u8> = (0..length).map(|index| b'a' + (index % 23) as u8).collect();
            let push = push(&content).expect("a push");
            let start = push.windows(4).position(|four| four == b"PACK").expect("a pack");
            let command = String::from_utf8_lossy(&push[..start]).into_owned();
            let (old, new) = (&command[4..44], &command[45..85]);
            assert_eq!(old, "0".repeat(40));
            assert_eq!(usize::from_str_radix(&command[..4], 16).expect("a length"), start - 4);
            assert!(command.ends_with("0000") && command.contains(SELF_TEST_REF));
            std::fs::write(at("pack"), &push[start..]).expect("a file");
            let repo = at(&length.to_string());
            sh(&["git", "init", "-q", "--bare", &repo]);
            sh(&["sh", "-c", &format!("git -C {repo} index-pack --stdin --strict < {}", at("pack"))]);
            let file = sh(&["git", "-C", &repo, "cat-file", "blob", &format!("{new}:credentials")]);
            assert_eq!(file.as_bytes(), content);
        }
    }
}
