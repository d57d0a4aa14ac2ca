//! The machine's system: a directory with an unpacked one, or an archive of `docker save`. An image of the Docker engine's is
//! unpacked once and kept by its digest, readable for everybody: the monitor reads it as a user of its own, and what it can't
//! read nobody in the machine can, root included.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backend::Progress;
use crate::exit::Failure;
use crate::process::Program;

/// Where unpacked images are, in the directory of all runs.
const IMAGES: &str = ".images";
/// Unpacking a large image on a slow disk.
const UNPACK: Duration = Duration::from_secs(900);

/// What smolvm takes for the image's name: itself, if it is a path; else what the Docker engine has of that name, unpacked.
pub(super) async fn ready(image: &str, base: &Path, progress: Option<&dyn Progress>) -> Result<PathBuf, Failure> {
    if image.starts_with(['/', '.']) {
        let path = Path::new(image).canonicalize().map_err(|error| {
            Failure::machine(format_args!("failed to find the image {image}: {error}"))
                .hint("give a directory with an unpacked system, or an archive of `docker save`")
        })?;
        return Ok(path);
    }
    let hint = "give --image a directory with an unpacked system or an archive of `docker save`; or make the image with \
                ./scripts/images";
    let inspected = Program::new(["docker", "image", "inspect", "--format", "{{.Id}}", image]).run().await;
    let id = match inspected {
        Ok(ended) if ended.code == 0 => String::from_utf8_lossy(&ended.stdout).trim().to_owned(),
        Ok(ended) => {
            let what = format!("the Docker engine does not have the image {image}: {}", ended.complaint());
            return Err(Failure::machine(what).hint(hint));
        }
        Err(error) => {
            let what = format!("the image {image} can only come from a Docker engine: {error}");
            return Err(Failure::machine(what).hint(hint));
        }
    };
    let digest = id.rsplit(':').next().unwrap_or_default().to_owned();
    if digest.len() < 32 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::machine(format_args!("the Docker engine gives the image {image} the odd id `{id}`")));
    }
    let images = base.join(IMAGES);
    let kept = images.join(&digest);
    if kept.is_dir() {
        return Ok(kept);
    }
    if let Some(progress) = progress {
        progress.say(&format!("unpacking {image} to {}", kept.display()));
    }
    unpack(image, &images, &kept).await.map_err(|why| {
        Failure::machine(format_args!("failed to unpack {image} to {}: {why}", kept.display()))
            .hint("is the disk full? BOTTLE_RUNTIME_DIR says where it goes")
    })?;
    Ok(kept)
}

async fn unpack(image: &str, images: &Path, kept: &Path) -> Result<(), String> {
    // The monitor runs as another user, who must get past it.
    DirBuilder::new().recursive(true).mode(0o711).create(images).map_err(|error| error.to_string())?;
    // Beside and renamed: another run may do the same just now, and half a system must not be taken for one.
    let partial = images.join(format!(".{}", std::process::id()));
    let script = "set -e\nrm -rf \"$2\"\nmkdir -m 0755 \"$2\"\nid=$(docker create \"$1\" true)\n\
        docker export \"$id\" >\"$2.tar\" || rc=$?\ndocker rm \"$id\" >/dev/null\n[ -z \"${rc:-}\" ]\n\
        tar -x -p -f \"$2.tar\" -C \"$2\"\nrm \"$2.tar\"\n\
        find \"$2\" -xdev '(' -type d ! -perm -5 -o -type f ! -perm -4 ')' -exec chmod o+rX {} +";
    let mut words: Vec<std::ffi::OsString> = ["sh", "-c", script, "sh", image].map(Into::into).to_vec();
    words.push(partial.clone().into());
    let ended = Program::new(words).limit(UNPACK).run().await.map_err(|error| error.to_string());
    let result = match ended {
        Ok(ended) if ended.code == 0 => match fs::rename(&partial, kept) {
            Err(_) if kept.is_dir() => Ok(()),
            other => other.map_err(|error| error.to_string()),
        },
        Ok(ended) => Err(ended.complaint()),
        Err(error) => Err(error),
    };
    // Nothing of it is left but the whole.
    let _ = fs::remove_dir_all(&partial);
    let _ = fs::remove_file(partial.with_extension("tar"));
    result
}

#[cfg(test)]
mod tests {
    use super::ready;

    #[tokio::test]
    async fn a_path_is_taken_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().canonicalize().expect("a path");
        let found = ready(&path.display().to_string(), &path, None).await.expect("found");
        assert_eq!(found, path);
        let error = ready("/nonexistent/rootfs", &path, None).await.expect_err("not there");
        assert!(error.what.contains("/nonexistent/rootfs") && error.hint.is_some());
    }
}
