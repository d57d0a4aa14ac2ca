//! Archives of `docker save`, honest and hostile: tests/fixtures/images/layers.yml.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::archive::Archive;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    layers: Vec<Vec<String>>,
    #[serde(default)]
    tree: Vec<String>,
    refused: Option<String>,
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An entry with names as they are: the library would not write most of these.
fn append(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, content: &[u8]) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_mtime(1_000_000_000);
    header.set_size(content.len() as u64);
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    builder.append(&header, content).expect("memory");
}

fn layer(entries: &[String], outside: &str) -> Vec<u8> {
    let mut builder = Builder::new(vec![]);
    for entry in entries {
        let entry = entry.replace("OUTSIDE", outside);
        let mut words = entry.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (kind, name, rest) = (word(), word(), word().trim_matches('"'));
        match kind {
            "dir" => append(&mut builder, EntryType::Directory, name, "", b""),
            "file" => append(&mut builder, EntryType::Regular, name, "", rest.as_bytes()),
            "link" => append(&mut builder, EntryType::Symlink, name, rest, b""),
            "hard" => append(&mut builder, EntryType::Link, name, rest, b""),
            "device" => append(&mut builder, EntryType::Block, name, "", b""),
            "fifo" => append(&mut builder, EntryType::Fifo, name, "", b""),
            other => panic!("{other} is no entry"),
        }
    }
    builder.into_inner().expect("memory")
}

/// What `docker save` would write of these layers. A packed one is packed after its digest was taken, as engines do.
fn save(layers: &[Vec<u8>], pack: bool) -> Vec<u8> {
    let digests: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", hash(layer))).collect();
    let config = serde_json::json!({
        "architecture": "amd64",
        "config": { "Env": ["PATH=/opt/x/bin:/bin", "A=b=c"], "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let config = config.to_string().into_bytes();
    let config_name = format!("{}.json", hash(&config));
    let names: Vec<String> = (0..layers.len()).map(|at| format!("{at}/layer.tar")).collect();
    let manifest = serde_json::json!([{ "Config": config_name, "RepoTags": null, "Layers": names }]);
    let mut builder = Builder::new(vec![]);
    for (name, layer) in names.iter().zip(layers) {
        let bytes = if pack {
            let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
            packed.write_all(layer).expect("memory");
            packed.finish().expect("memory")
        } else {
            layer.clone()
        };
        append(&mut builder, EntryType::Regular, name, "", &bytes);
    }
    append(&mut builder, EntryType::Regular, &config_name, "", &config);
    append(&mut builder, EntryType::Regular, "manifest.json", "", manifest.to_string().as_bytes());
    builder.into_inner().expect("memory")
}

/// Unpacks it as an image is; its digest.
fn unpack(bytes: &[u8], dir: &Path) -> Result<Archive, String> {
    fs::write(dir.join("image.tar"), bytes).expect("a file");
    let archive = Archive::open(&dir.join("image.tar"))?;
    fs::create_dir(dir.join("rootfs")).expect("a directory");
    archive.unpack(&dir.join("rootfs"))?;
    Ok(archive)
}

/// A tree in the words of the cases.
fn tree(dir: &Path, below: &str, listing: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry")).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        let found = entry.metadata().expect("metadata");
        if found.is_symlink() {
            listing.push(format!("link {name} {}", fs::read_link(entry.path()).expect("a link").display()));
            continue;
        }
        assert_eq!(found.mode() & 0o7000, 0, "{name} is a program of another user's");
        if found.is_dir() {
            assert_eq!(found.mode() & 0o755, 0o755, "{name}");
            listing.push(format!("dir {name}"));
            tree(&entry.path(), &format!("{name}/"), listing);
        } else {
            assert!(found.is_file() && found.mode() & 0o444 == 0o444, "{name}");
            listing.push(format!("file {name} {}", fs::read_to_string(entry.path()).expect("text")));
        }
    }
}

#[test]
fn images_come_out_as_their_layers_say_and_nowhere_else() {
    let text = include_str!("../../../tests/fixtures/images/layers.yml");
    let cases: Vec<Case> = serde_saphyr::from_str(text).expect("the cases");
    assert!(cases.len() > 25);
    for case in cases {
        for pack in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let outside = dir.path().join("outside");
            fs::create_dir(&outside).expect("a directory");
            for kept in ["outside/kept", "kept"] {
                fs::write(dir.path().join(kept), "kept").expect("a file");
            }
            let outside = outside.to_str().expect("text");
            let layers: Vec<_> = case.layers.iter().map(|entries| layer(entries, outside)).collect();
            let result = unpack(&save(&layers, pack), dir.path());
            let mut around = vec![];
            fs::remove_file(dir.path().join("image.tar")).expect("removed");
            fs::rename(dir.path().join("rootfs"), dir.path().join("rootfs-moved")).expect("moved");
            tree(&dir.path().join("outside"), "", &mut around);
            assert_eq!(around, ["file kept kept"], "{}", case.name);
            let beside: Vec<_> = fs::read_dir(dir.path()).expect("a directory").collect();
            assert_eq!(beside.len(), 3, "{}: {beside:?}", case.name);
            let found = fs::metadata(dir.path().join("kept")).expect("kept");
            assert_eq!((found.nlink(), found.permissions().mode() & 0o7000), (1, 0), "{}", case.name);
            assert_eq!(fs::metadata(Path::new(outside).join("kept")).expect("kept").nlink(), 1, "{}", case.name);
            match (&case.refused, result) {
                (None, Ok(_)) => {
                    let mut listing = vec![];
                    tree(&dir.path().join("rootfs-moved"), "", &mut listing);
                    let expected: Vec<_> = case.tree.iter().map(|line| line.replace("OUTSIDE", outside)).collect();
                    assert_eq!(listing, expected, "{}", case.name);
                }
                (Some(why), Err(error)) => assert!(error.contains(why), "{}: {error}", case.name),
                (_, result) => panic!("{}: {:?}", case.name, result.map(|_| "unpacked")),
            }
        }
    }
}

#[test]
fn what_the_image_sets_and_when_its_files_changed_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let archive = unpack(&save(&[layer(&["file x x".to_owned()], "")], false), dir.path()).expect("unpacked");
    let env: Vec<_> = archive.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("PATH", "/opt/x/bin:/bin"), ("A", "b=c")]);
    assert_eq!(fs::metadata(dir.path().join("rootfs/x")).expect("a file").mtime(), 1_000_000_000);
}

#[test]
fn what_is_not_what_its_digest_says_is_not_unpacked() {
    let good = save(&[layer(&["file x content-of-x".to_owned()], "")], false);
    // As long as before: a layer that is another one, and a configuration that is.
    for (from, to, why) in
        [("content-of-x", "content-of-y", "it has the SHA-256"), ("A=b=c", "A=b=d", "has the SHA-256")]
    {
        let at = good.windows(from.len()).position(|window| window == from.as_bytes()).expect("it is in there");
        let mut bad = good.clone();
        bad[at..at + to.len()].copy_from_slice(to.as_bytes());
        let dir = tempfile::tempdir().expect("a directory");
        let error = unpack(&bad, dir.path()).expect_err("it is another one");
        assert!(error.contains(why), "{error}");
        assert!(!dir.path().join("rootfs/x").exists());
    }
}

#[test]
fn a_layer_that_comes_twice_may_be_a_link_and_one_that_is_not_there_is_missed() {
    let bytes = layer(&["file x x".to_owned()], "");
    for (target, good) in
        [("../0/layer.tar", true), ("../9/layer.tar", false), ("/etc/passwd", false), ("layer.tar", false)]
    {
        let config = serde_json::json!({ "rootfs": { "diff_ids": vec![format!("sha256:{}", hash(&bytes)); 2] } });
        let config = config.to_string().into_bytes();
        let name = format!("blobs/sha256/{}", hash(&config));
        let manifest = serde_json::json!([{ "Config": name, "Layers": ["0/layer.tar", "1/layer.tar"] }]);
        let mut builder = Builder::new(vec![]);
        append(&mut builder, EntryType::Regular, "0/layer.tar", "", &bytes);
        append(&mut builder, EntryType::Symlink, "1/layer.tar", target, b"");
        append(&mut builder, EntryType::Regular, &name, "", &config);
        append(&mut builder, EntryType::Regular, "manifest.json", "", manifest.to_string().as_bytes());
        let dir = tempfile::tempdir().expect("a directory");
        let result = unpack(&builder.into_inner().expect("memory"), dir.path());
        assert_eq!(result.is_ok(), good, "{target}: {:?}", result.map(|_| ()));
    }
}
