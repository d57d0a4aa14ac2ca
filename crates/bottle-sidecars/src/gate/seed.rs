//! What the host's checkout has of an upstream, so that the first fetch brings only the rest.
//!
//! The runner puts it into `<state>/seed/<name>/` before anybody fetches: `pack-ID.pack` and `pack-ID.idx` with all that the
//! checkout's remote-tracking branches reach, and `tips`, the commits that they point to, an id a line. The objects are
//! no refs: what a push brings counts as new unless upstream's own refs reach it, wherever the bytes came from.

use std::fs;
use std::io;
use std::path::Path;

use bottle_policy::gate::Upstream;

use super::changes::object_id;
use super::place::Place;

/// Upstream is told about no more commits than these.
const MOST_TIPS: usize = 64;

/// Takes the objects into the mirror and gives the tips; none where there is no seed.
pub(super) fn take(place: &Place, upstream: &Upstream) -> Result<Vec<String>, String> {
    let seed = place.dirs.state.join("seed").join(upstream.name.as_str());
    let say = |error: io::Error| format!("failed to take in {}: {error}", seed.display());
    let tips = match fs::read(seed.join("tips")) {
        Ok(tips) => tips,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(say(error)),
    };
    let lines = tips.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let tips = lines.take(MOST_TIPS).map(object_id).collect::<Result<_, _>>()?;
    let packs = place.mirror(&upstream.name).join("objects/pack");
    let entries: Vec<_> = fs::read_dir(&seed).and_then(Iterator::collect).map_err(say)?;
    // git takes a pack for whole when its index is there.
    for ending in ["pack", "idx"] {
        for entry in &entries {
            let name = entry.file_name();
            if Path::new(&name).extension().is_some_and(|found| found == ending) {
                copy(&entry.path(), &packs, &name).map_err(say)?;
            }
        }
    }
    Ok(tips)
}

fn copy(from: &Path, into: &Path, name: &std::ffi::OsStr) -> io::Result<()> {
    let target = into.join(name);
    if target.exists() {
        return Ok(());
    }
    fs::create_dir_all(into)?;
    let new = tempfile::Builder::new().prefix("tmp_pack_").tempfile_in(into)?;
    fs::copy(from, new.path())?;
    new.persist(target).map(drop).map_err(|error| error.error)
}
