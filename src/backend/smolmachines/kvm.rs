//! `/dev/kvm`: whether a machine can be tried at all. Whether it can boot shows when it is started.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use crate::exit::Failure;

const KVM: &str = "/dev/kvm";
/// The monitor of root's machine is not root: whoever may not open it in there is said to be (libkrun, by errno).
const CLOSED: &str = "KvmOpen(Error(13))";

/// What to do about a start that failed with these words.
pub(super) fn hint(message: &str) -> &'static str {
    if message.contains(CLOSED) {
        "smolvm runs the machines of root as a user of its own, who may not open /dev/kvm: `chgrp kvm /dev/kvm && chmod 0660 \
         /dev/kvm`, as udev does where it runs"
    } else {
        CAN_NOT_BOOT
    }
}

/// What a start that fails on an open /dev/kvm means, most of the time.
const CAN_NOT_BOOT: &str = "where this machine is itself a virtual one, its /dev/kvm may be there and not able to \
    run a kernel: switch nested virtualization on in its host, or use --backend docker";

/// True if it is there and this user may use it.
pub(super) fn usable() -> Result<(), Failure> {
    check(Path::new(KVM))
}

fn check(path: &Path) -> Result<(), Failure> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Failure::machine(format_args!("there is no {}, so no machine can be started", path.display())).hint(
                "switch virtualization on in the firmware and load kvm_intel or kvm_amd; in a virtual machine switch \
                 nested virtualization on in its host; or use --backend docker",
            ))
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(Failure::machine(format_args!("this user may not use {}: {error}", path.display())).hint(
                "add the user to the group kvm (`usermod -aG kvm USER`) and log in again, or use --backend docker",
            ))
        }
        Err(error) => Err(Failure::machine(format_args!("{} can't be opened: {error}", path.display()))
            .hint("the module kvm_intel or kvm_amd must be loaded and able to work here; or use --backend docker")),
    }
}

#[cfg(test)]
mod tests {
    use super::{check, hint};
    use crate::exit::Code;

    #[test]
    fn what_the_monitor_may_not_open_is_told_from_what_does_not_boot() {
        assert!(hint("build microVM: KvmContext(KvmOpen(Error(13))) (boot process exited").contains("chgrp kvm"));
        assert!(hint("agent did not become ready within 35 seconds").contains("nested virtualization"));
    }

    #[test]
    fn each_way_to_be_without_it_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = check(&dir.path().join("kvm")).expect_err("not there");
        assert!(missing.code == Code::Machine && missing.what.contains("there is no"));
        assert!(missing.hint.is_some_and(|hint| hint.contains("kvm_intel")));
        // A directory can't be opened for writing, whoever asks.
        let odd = check(dir.path()).expect_err("no device");
        assert!(odd.what.contains("can't be opened") && odd.hint.is_some());
    }
}
