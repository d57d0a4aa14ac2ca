//! What `docker save` writes: a tar archive with `manifest.json`, the image's configuration, and its layers, tar archives
//! themselves (Docker Image Specification v1.2; in newer engines the same files lie in an OCI layout).
//!
//! The configuration's name is its SHA-256, and it has the SHA-256 of each layer: both are checked, so that what is kept under
//! a digest is what has it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::root::Root;

/// The manifest and the configuration are small.
const MOST_JSON: u64 = 8 << 20;
/// A name in the archive may be a link to another, but not for ever.
const MOST_LINKS: usize = 4;

/// An image in an archive; its digest is its configuration's.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    pub(super) digest: String,
    pub(super) env: Vec<(String, String)>,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    name: String,
    at: u64,
    size: u64,
    /// SHA-256 of what it unpacks to.
    digest: String,
}

/// A member of the archive.
#[derive(Debug)]
enum Member {
    File { at: u64, size: u64 },
    Link(PathBuf),
}

/// An image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    layers: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Image {
    #[serde(default)]
    config: Option<Config>,
    rootfs: LayerIds,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    env: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct LayerIds {
    diff_ids: Vec<String>,
}

impl Archive {
    /// Reads what is in it, but for the layers.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let members = members(&file).map_err(|error| format!("it is no archive of `docker save`: {error}"))?;
        let read = |name: &str| read(&file, &members, name);
        let manifest = read("manifest.json").map_err(|why| format!("it is no archive of `docker save`: {why}"))?;
        let images: Vec<SavedImage> =
            serde_json::from_slice(&manifest).map_err(|error| format!("its manifest.json: {error}"))?;
        let [saved] = images.as_slice() else { return Err(format!("it holds {} images", images.len())) };
        let config = read(&saved.config)?;
        let digest = hex::encode(Sha256::digest(&config));
        if Path::new(&saved.config).file_stem().is_none_or(|name| *name != *digest) {
            return Err(format!("its configuration {} has the SHA-256 {digest}", saved.config));
        }
        let image: Image = serde_json::from_slice(&config).map_err(|error| format!("{}: {error}", saved.config))?;
        let digests = image.rootfs.diff_ids;
        if digests.len() != saved.layers.len() {
            return Err(format!("it has {} layers, and names {}", saved.layers.len(), digests.len()));
        }
        let layer = |(name, digest): (&String, String)| {
            let (at, size) = find(&members, name)?;
            let digest = digest.strip_prefix("sha256:").ok_or_else(|| format!("`{digest}` is no SHA-256"))?.to_owned();
            Ok(Layer { name: name.clone(), at, size, digest })
        };
        let layers = saved.layers.iter().zip(digests).map(layer).collect::<Result<_, String>>()?;
        let env = super::variables(&image.config.unwrap_or_default().env.unwrap_or_default());
        Ok(Self { path: path.to_owned(), digest, env, layers })
    }

    /// Unpacks all layers into an empty directory.
    pub(super) fn unpack(&self, into: &Path) -> Result<(), String> {
        let root = Root::open(into).map_err(|error| format!("{}: {error}", into.display()))?;
        for layer in &self.layers {
            let within = |why: String| format!("layer {}: {why}", layer.name);
            // Looked through to its end before anything of it is done.
            let mut hashed_layer = Hashing { from: self.read(layer).map_err(within)?, hash: Sha256::new() };
            io::copy(&mut hashed_layer, &mut io::sink()).map_err(|error| within(error.to_string()))?;
            let digest = hex::encode(hashed_layer.hash.finalize());
            if digest != layer.digest {
                return Err(within(format!("it has the SHA-256 {digest}, not {}", layer.digest)));
            }
            root.take_away(self.read(layer).map_err(within)?).map_err(within)?;
            root.put(self.read(layer).map_err(within)?).map_err(within)?;
        }
        Ok(())
    }

    /// A layer's tar archive.
    fn read(&self, layer: &Layer) -> Result<Box<dyn Read>, String> {
        let io = |error: io::Error| error.to_string();
        let mut file = File::open(&self.path).map_err(io)?;
        file.seek(SeekFrom::Start(layer.at)).map_err(io)?;
        let mut start = [0; 4];
        let length = layer.size.min(4);
        file.read_exact(&mut start[..usize::try_from(length).unwrap_or(0)]).map_err(io)?;
        file.seek(SeekFrom::Start(layer.at)).map_err(io)?;
        let bytes = BufReader::with_capacity(1 << 18, file).take(layer.size);
        match start {
            [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(bytes))),
            [0x28, 0xb5, 0x2f, 0xfd] => Err("it is compressed with zstd, which `docker save` does not do".to_owned()),
            _ => Ok(Box::new(bytes)),
        }
    }
}

/// Where each member is.
fn members(file: &File) -> io::Result<BTreeMap<PathBuf, Member>> {
    let mut members = BTreeMap::new();
    for entry in tar::Archive::new(file).entries_with_seek()? {
        let entry = entry?;
        let path: PathBuf = entry.path()?.components().filter(|part| part.as_os_str() != ".").collect();
        let member = match entry.header().entry_type() {
            tar::EntryType::Regular => Member::File { at: entry.raw_file_position(), size: entry.size() },
            tar::EntryType::Symlink => Member::Link(entry.link_name()?.unwrap_or_default().into_owned()),
            _ => continue,
        };
        members.insert(path, member);
    }
    Ok(members)
}

/// Where a file is in the archive, by way of the links in it: a layer that comes twice is one.
fn find(members: &BTreeMap<PathBuf, Member>, name: &str) -> Result<(u64, u64), String> {
    let mut path = PathBuf::from(name);
    for _ in 0..MOST_LINKS {
        match members.get(&path) {
            Some(Member::File { at, size }) => return Ok((*at, *size)),
            Some(Member::Link(target)) => {
                let mut to = path.parent().unwrap_or(Path::new("")).to_owned();
                for part in target.components() {
                    match part {
                        std::path::Component::ParentDir => drop(to.pop()),
                        other => to.push(other),
                    }
                }
                path = to;
            }
            None => break,
        }
    }
    Err(format!("{name} is not in it"))
}

fn read(mut file: &File, members: &BTreeMap<PathBuf, Member>, name: &str) -> Result<Vec<u8>, String> {
    let (at, size) = find(members, name)?;
    if size > MOST_JSON {
        return Err(format!("{name} has {size} bytes"));
    }
    let mut bytes = vec![];
    let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.take(size).read_to_end(&mut bytes));
    read.map_err(|error| format!("failed to read {name}: {error}"))?;
    Ok(bytes)
}

/// Hashes what is read.
struct Hashing<R> {
    from: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
