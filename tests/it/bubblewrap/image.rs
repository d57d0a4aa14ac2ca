//! A guest whose system is an image's: a directory, an archive, and what no guest may get by way of one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bottle_testkit::{commands, random, said, sh};
use sha2::{Digest as _, Sha256};

use super::own::{lying_bwrap, on_here};
use crate::job::{Job, ended_with};
use crate::place::sandboxes;

/// Programs of this machine's with all that they load, and nothing else of its system: enough for a bottle.
const MAKE: &str = r#"
set -euo pipefail
root=$1
mkdir -p "$root"/{etc,opt/app,usr/bin,usr/lib,usr/lib64,usr/local/share/ca-certificates,var/lib/app,var/tmp,srv/data,home/other}
for dir in bin lib lib64; do ln -s "usr/$dir" "$root/$dir"; done
ln -s /run "$root/var/run"
ln -s /etc/shadow "$root/srv-link"
ln -s /root "$root/opt/evil"
for name in sh bash tar git ls cat grep id env date true rm mkdir sleep touch kill head tail sed cut tr wc sort; do
  cp -L "/usr/bin/$name" "$root/usr/bin/$name"
done
core=$(git --exec-path)
mkdir -p "$root$core"
cp -a "$core"/. "$root$core"
{ find "$root/usr/bin" "$root$core" "$LINK" -type f -exec ldd {} + 2>/dev/null || true; } | grep -o '/[^ )]*\.so[^ )]*' | sort -u | while read -r file; do
  mkdir -p "$root$(dirname "$file")"
  cp -L "$file" "$root$file"
done
# Claude Code's.
for name in librt.so.1 libdl.so.2 libpthread.so.0 libm.so.6; do
  file=$(/sbin/ldconfig -p | sed -n "s|^\t$name .*=> ||p" | tail -n 1)
  mkdir -p "$root$(dirname "$file")"
  cp -L "$file" "$root$file"
done
printf '#!/bin/sh\necho only in the image\n' >"$root/usr/bin/only-here"
printf '#!/bin/sh\necho taken away >"$1"\n' >"$root/opt/app/tool"
chmod 0755 "$root/usr/bin/only-here" "$root/opt/app/tool"
echo 'ID=bottle-test' >"$root/etc/os-release"
printf 'root:x:0:0:root:/root:/bin/sh\nsomebody:x:77:77::/:/bin/sh\n' >"$root/etc/passwd"
ln -s /etc/shadow "$root/etc/evil"
"#;

/// What a guest says of its system: once for each line that starts with `SAYS`.
const LOOK: &str = "only-here; cat /etc/os-release; echo SAYS $(ls /) OPT $(ls /opt) SRV $(ls /srv) HOME $(ls /home); grep -c . /etc/passwd; \
     cat /srv-link /etc/evil; ls /opt/evil/; git --version; command -v python3 || echo no-python; \
     echo APP $APP; for f in /usr/bin/x /etc/x /opt/app/x /var/lib/app/x /srv/data/x /x; do \
     if echo x 2>/dev/null >>$f; then echo CHANGED $f; fi; done; echo mine >~/mine && echo mine >mine && echo wrote; echo end-of-list";

/// An unpacked system in the job's world.
fn rootfs(job: &Job) -> PathBuf {
    let root = job.world.path("image/rootfs");
    let script = job.world.write("make-rootfs", MAKE);
    let mut make = Command::new("bash");
    // A link that is built for tests is not static.
    let link = Path::new(env!("CARGO_BIN_EXE_bottle-runner")).with_file_name("bottle-link");
    make.arg(&script).arg(&root).env("LINK", link);
    let output = make.output().expect("bash");
    assert!(output.status.success(), "{}", said(&output));
    open(&root);
    root
}

/// As root the sandboxes have other users, who must get at it.
fn open(path: &Path) {
    for dir in path.ancestors().take(3) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
}

fn run(job: &Job, image: &Path) -> std::process::Output {
    job.command().arg("--image").arg(image).output().expect("the runner")
}

/// What the guest printed at [`LOOK`].
fn looked(job: &Job) -> String {
    let transcript = job.world.record_file("transcript.jsonl");
    let found = transcript.lines().find(|line| line.contains("end-of-list") && line.contains("tool_result"));
    found.unwrap_or_else(|| panic!("nothing is said: {transcript}")).to_owned()
}

fn is_the_images(said: &str) {
    for there in ["only in the image", "ID=bottle-test", "no-python", "wrote", "git version", "SRV data", "app"] {
        assert!(said.contains(there), "{there} is missing: {said}");
    }
    for not in ["CHANGED", "root:*", "root:!", "root:$", "HOME node other", "ID=debian"] {
        assert!(!said.contains(not), "{not}: {said}");
    }
}

#[test]
fn a_directory_is_the_guests_system_and_nothing_of_the_hosts_is() {
    on_here(|| ());
    let job = Job::new(&commands(&[LOOK]));
    let image = rootfs(&job);
    let before = sh(&["sh", "-c", &format!("cd '{}' && find . | sort | sha256sum", image.display())]);
    let output = run(&job, &image);
    ended_with(&output, 1);
    is_the_images(&looked(&job));
    let junit = job.world.record_file("junit.xml");
    assert!(junit.contains("fs.mounts") && !junit.contains("<failure message=\"the bottle is not sealed"), "{junit}");
    let after = sh(&["sh", "-c", &format!("cd '{}' && find . | sort | sha256sum", image.display())]);
    assert_eq!(after, before, "the image was changed");
    job.nothing_left();
}

#[test]
fn an_archive_is_unpacked_once_and_brings_its_variables() {
    on_here(|| ());
    let job = Job::new(&commands(&[&format!("tool 2>&1; {LOOK}")]));
    let (archive, digest) = save(&job, &rootfs(&job));
    let kept = sandboxes().join(".images").join(&digest);
    let output = run(&job, &archive);
    let there = fs::metadata(kept.join("usr/bin/only-here")).map(|found| found.permissions().mode() & 0o7777);
    let gone = fs::symlink_metadata(kept.join("opt/app/tool")).is_err();
    let first = said(&output);
    let again = Job::new(&commands(&[LOOK]));
    let second = run(&again, &archive);
    let _ = fs::remove_dir_all(&kept);
    ended_with(&output, 1);
    assert!(first.contains("unpacking"), "{first}");
    let said_inside = looked(&job);
    is_the_images(&said_inside);
    assert!(
        said_inside.contains("APP of the image") && said_inside.contains("tool: command not found"),
        "{said_inside}"
    );
    assert_eq!(there.expect("it was unpacked"), 0o755, "nobody becomes another user by it");
    assert!(gone, "a later layer took it away");
    ended_with(&second, 1);
    assert!(!said(&second).contains("unpacking"), "{}", said(&second));
    is_the_images(&looked(&again));
    job.nothing_left();
    again.nothing_left();
}

/// An archive as `docker save` writes it, of a system and of a layer that takes away and adds; and its digest.
fn save(job: &Job, root: &Path) -> (PathBuf, String) {
    let only = root.join("usr/bin/only-here");
    fs::set_permissions(&only, fs::Permissions::from_mode(0o4755)).expect("a mode");
    let pack = |dir: &Path| {
        let output = Command::new("tar").args(["-c", "-f", "-", "-C"]).arg(dir).arg(".").output().expect("tar");
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    };
    let upper = job.world.path("image/upper/opt/app");
    fs::create_dir_all(&upper).expect("a directory");
    fs::write(upper.join(".wh.tool"), "").expect("a file");
    let layers = [pack(root), pack(&job.world.path("image/upper"))];
    let hash = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let digests: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", hash(layer))).collect();
    let config = serde_json::json!({
        "config": { "Env": ["PATH=/opt/app:/usr/bin:/bin", "APP=of the image", "HTTPS_PROXY=http://elsewhere.test"] },
        "rootfs": { "type": "layers", "diff_ids": digests },
        "made": random(12),
    });
    let config = config.to_string().into_bytes();
    let digest = hash(&config);
    let names = ["0/layer.tar", "1/layer.tar"];
    let manifest = serde_json::json!([{ "Config": format!("{digest}.json"), "RepoTags": ["x:y"], "Layers": names }]);
    let path = job.world.path("image.tar");
    let mut builder = tar::Builder::new(fs::File::create(&path).expect("a file"));
    let manifest = manifest.to_string().into_bytes();
    let config_name = format!("{digest}.json");
    let members =
        [(names[0], &layers[0]), (names[1], &layers[1]), (&*config_name, &config), ("manifest.json", &manifest)];
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).expect("written");
    }
    builder.finish().expect("written");
    (path, digest)
}

#[test]
fn the_hosts_own_system_beside_an_images_stops_the_run() {
    on_here(|| ());
    let job = Job::new(&commands(&["echo the agent started"]));
    let image = rootfs(&job);
    // Where the host's system is the guest's, this is one of its parts.
    let path = lying_bwrap(&job, "[ \"$word\" != --proc ] || args+=(--ro-bind /usr/share /usr/local/share)");
    let output = job.command().arg("--image").arg(&image).env("PATH", path).output().expect("the runner");
    ended_with(&output, 4);
    assert!(said(&output).contains("the bottle is not sealed: fs.mounts"), "{}", said(&output));
    assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
    job.nothing_left();
}

#[test]
fn what_is_no_image_is_refused() {
    on_here(|| ());
    let job = Job::new(&commands(&[]));
    let empty = job.world.path("empty");
    fs::create_dir(&empty).expect("a directory");
    let text = job.world.write("text", "no archive");
    let hostile = job.world.path("hostile.tar");
    let mut builder = tar::Builder::new(fs::File::create(&hostile).expect("a file"));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "manifest.json", "/etc/passwd").expect("written");
    builder.finish().expect("written");
    for (image, why) in [
        ("/", "this machine's own"),
        ("/usr", "this machine's own"),
        ("/nonexistent/image.tar", "failed to find the image"),
        (empty.to_str().expect("text"), "no unpacked system"),
        (text.to_str().expect("text"), "no archive of `docker save`"),
        (hostile.to_str().expect("text"), "manifest.json is not in it"),
        ("debian:trixie", "image debian:trixie"),
    ] {
        let mut command = job.command();
        command.args(["--image", image]).env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
        let output = command.output().expect("the runner");
        ended_with(&output, 4);
        assert!(said(&output).contains(why) && said(&output).contains("--image"), "{image}: {}", said(&output));
    }
    job.nothing_left();
}
