//! A guest's system that is not this machine's: a directory with an unpacked one, or an archive of `docker save`, or an image of
//! the Docker engine's. What has to be unpacked is unpacked once and kept by its digest, readable for everybody: whoever
//! runs it does so as a user of its own, and what it can't read nobody inside can, root included. No program in it has the
//! right to become another user: any user of this machine could run it.
//!
//! Map: `archive` (what `docker save` writes), `root` (unpacking below a directory, and nowhere else).

mod archive;
mod root;
#[cfg(test)]
mod unpack_tests;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Progress;
use crate::exit::Failure;
use crate::process::Program;
use archive::Archive;

/// Where unpacked images are, in the directory of all runs.
const IMAGES: &str = ".images";
/// Unpacking a large image on a slow disk.
const UNPACK: Duration = Duration::from_secs(900);
/// What to give where there is no engine.
const HINT: &str = "give --image a directory with an unpacked system or an archive of `docker save`; or make the image with \
                    ./scripts/images";
const DISK: &str = "is the disk full? BOTTLE_RUNTIME_DIR says where it goes";

/// A system as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnpackedImage {
    pub(super) dir: PathBuf,
    /// What the image sets for every program.
    pub(super) env: Vec<(String, String)>,
}

/// What is asked for by a path: itself; else what the Docker engine has of that name, unpacked.
pub(super) async fn ready(image: &str, base: &Path, progress: Option<&dyn Progress>) -> Result<PathBuf, Failure> {
    match path(image)? {
        Some(path) => Ok(path),
        None => Ok(from_engine(image, base, progress).await?.dir),
    }
}

/// The same as a directory in any case.
pub(super) async fn unpacked(
    image: &str,
    base: &Path,
    progress: Option<&dyn Progress>,
) -> Result<UnpackedImage, Failure> {
    let Some(path) = path(image)? else { return from_engine(image, base, progress).await };
    if path.is_dir() {
        return Ok(UnpackedImage { dir: path, env: vec![] });
    }
    let failed = |why: String| {
        Failure::machine(format_args!("failed to unpack the image {}: {why}", path.display()))
            .hint("give a directory with an unpacked system, or an archive of `docker save` with one image")
    };
    let archive = Archive::open(&path).map_err(failed)?;
    let (env, digest) = (archive.env.clone(), archive.digest.clone());
    let kept = keep(&digest, base, image, progress, async |partial: PathBuf| {
        let done = tokio::task::spawn_blocking(move || archive.unpack(&partial)).await;
        done.unwrap_or_else(|error| Err(error.to_string()))
    });
    Ok(UnpackedImage { dir: kept.await.map_err(failed)?, env })
}

/// The image's path on this machine, if it is one.
fn path(image: &str) -> Result<Option<PathBuf>, Failure> {
    if !image.starts_with(['/', '.']) {
        return Ok(None);
    }
    let path = Path::new(image).canonicalize().map_err(|error| {
        Failure::machine(format_args!("failed to find the image {image}: {error}"))
            .hint("give a directory with an unpacked system, or an archive of `docker save`")
    })?;
    Ok(Some(path))
}

async fn from_engine(image: &str, base: &Path, progress: Option<&dyn Progress>) -> Result<UnpackedImage, Failure> {
    let format = "{{.Id}}\n{{json .Config.Env}}";
    let inspected = Program::new(["docker", "image", "inspect", "--format", format, image]).run().await;
    let stdout = match inspected {
        Ok(ended) if ended.code == 0 => String::from_utf8_lossy(&ended.stdout).into_owned(),
        Ok(ended) => {
            let what = format!("the Docker engine does not have the image {image}: {}", ended.complaint());
            return Err(Failure::machine(what).hint(HINT));
        }
        Err(error) => {
            let what = format!("the image {image} can only come from a Docker engine: {error}");
            return Err(Failure::machine(what).hint(HINT));
        }
    };
    let (id, env) = stdout.split_once('\n').unwrap_or((&stdout, ""));
    let Some(digest) = id.trim().rsplit(':').next().filter(|digest| is_digest(digest)) else {
        return Err(Failure::machine(format_args!(
            "the Docker engine gives the image {image} the odd id `{}`",
            id.trim()
        )));
    };
    // No variables are `null`.
    let env: Option<Vec<String>> = serde_json::from_str(env).ok().flatten();
    let env = variables(&env.unwrap_or_default());
    let export = async |partial: PathBuf| {
        let script = "set -e\nid=$(docker create \"$1\" true)\n\
            docker export \"$id\" >\"$2.tar\" || rc=$?\ndocker rm \"$id\" >/dev/null\n[ -z \"${rc:-}\" ]\n\
            tar -x -p -f \"$2.tar\" -C \"$2\"\nrm \"$2.tar\"\n\
            find \"$2\" -xdev '(' -type d ! -perm -5 -o -type f ! -perm -4 ')' -exec chmod o+rX {} +\n\
            find \"$2\" -xdev -type f -perm /6000 -exec chmod ug-s {} +";
        let mut words: Vec<std::ffi::OsString> = ["sh", "-c", script, "sh", image].map(Into::into).to_vec();
        words.push(partial.into());
        match Program::new(words).limit(UNPACK).run().await {
            Ok(ended) if ended.code == 0 => Ok(()),
            Ok(ended) => Err(ended.complaint()),
            Err(error) => Err(error.to_string()),
        }
    };
    let dir = keep(digest, base, image, progress, export).await.map_err(|why| {
        Failure::machine(format_args!("failed to unpack {image} to {}: {why}", base.join(IMAGES).display())).hint(DISK)
    })?;
    Ok(UnpackedImage { dir, env })
}

/// True if it can be a file's name, and says what is in it.
fn is_digest(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `NAME=VALUE` as the image has it.
fn variables(lines: &[String]) -> Vec<(String, String)> {
    lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Where an image of that digest is kept; it is unpacked there if it is not.
async fn keep(
    digest: &str,
    base: &Path,
    image: &str,
    progress: Option<&dyn Progress>,
    unpack: impl AsyncFnOnce(PathBuf) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let images = base.join(IMAGES);
    let kept = images.join(digest);
    if kept.is_dir() {
        return Ok(kept);
    }
    if let Some(progress) = progress {
        progress.say(&format!("unpacking {image} to {}", kept.display()));
    }
    // Others than the runner's user must get past it.
    DirBuilder::new().recursive(true).mode(0o711).create(&images).map_err(|error| error.to_string())?;
    // Beside and renamed: another run may do the same just now, and half a system must not be taken for one.
    let partial = images.join(format!(".{digest}.{}", std::process::id()));
    let _ = fs::remove_dir_all(&partial);
    let made = DirBuilder::new().mode(0o755).create(&partial).map_err(|error| error.to_string());
    let result = match made {
        Ok(()) => unpack(partial.clone()).await,
        Err(why) => Err(why),
    };
    let result = result.and_then(|()| match fs::rename(&partial, &kept) {
        Err(_) if kept.is_dir() => Ok(()),
        other => other.map_err(|error| error.to_string()),
    });
    // Nothing of it is left but the whole.
    let _ = fs::remove_dir_all(&partial);
    let _ = fs::remove_file(images.join(format!(".{digest}.{}.tar", std::process::id())));
    result.map(|()| kept)
}

#[cfg(test)]
mod tests {
    use super::{ready, unpacked};

    #[tokio::test]
    async fn a_path_is_taken_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().canonicalize().expect("a path");
        let found = ready(&path.display().to_string(), &path, None).await.expect("found");
        assert_eq!(found, path);
        let error = ready("/nonexistent/rootfs", &path, None).await.expect_err("not there");
        assert!(error.what.contains("/nonexistent/rootfs") && error.hint.is_some());
    }

    #[tokio::test]
    async fn what_is_no_archive_is_said_to_be_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("image.tar");
        std::fs::write(&path, "no archive").expect("a file");
        let error = unpacked(&path.display().to_string(), dir.path(), None).await.expect_err("no archive");
        assert!(error.what.contains("image.tar") && error.hint.is_some(), "{}", error.what);
        assert!(!dir.path().join(".images").exists());
    }
}
