//! System calls that would loosen the seal: each is really tried, with arguments that get past its checks of permission.
//! None of them leaves anything behind where it is allowed: what they make ends with this process.

use super::{Case, Finding, case};
use crate::sys;

/// `KEY_SPEC_PROCESS_KEYRING` and `KEY_SPEC_SESSION_KEYRING`, from linux/keyctl.h.
const PROCESS_KEYRING: usize = -2_isize as usize;
const SESSION_KEYRING: usize = -3_isize as usize;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const PERF_COUNT_SW_CPU_CLOCK_TYPE: u32 = 1;
/// Size of the first published `struct perf_event_attr`; the bits exclude_kernel and exclude_hv of its flags word.
const PERF_ATTR_SIZE: u32 = 64;
const PERF_EXCLUDE: u64 = 1 << 5 | 1 << 6;
const UFFD_USER_MODE_ONLY: usize = 1;

pub(super) fn cases() -> Vec<Case<'static>> {
    vec![
        case("sys.mount", mount),
        case("sys.keys", keys),
        case("sys.bpf", bpf),
        case("sys.io_uring", io_uring),
        case("sys.perf", perf),
        case("sys.userfaultfd", userfaultfd),
        // The last one: if it is not refused, this process is in another user namespace from here on.
        case("ns.user", user_namespace),
    ]
}

fn mount() -> Finding {
    // A kind of file system that does not exist: whoever may mount is told so, and nothing is mounted.
    let (none, at, kind) = (c"none", c"/", c"bottle-selftest");
    let args = [none.as_ptr() as usize, at.as_ptr() as usize, kind.as_ptr() as usize, 0, 0, 0];
    // SAFETY: three C strings that live across the call; no data.
    refused("mount", unsafe { sys::syscall(libc::SYS_mount, args) })
}

fn keys() -> Finding {
    let (kind, name, value) = (c"user", c"bottle-selftest", c"x");
    let args = [kind.as_ptr() as usize, name.as_ptr() as usize, value.as_ptr() as usize, 1, PROCESS_KEYRING, 0];
    // SAFETY: two C strings and one byte of payload that live across the call.
    let add = refused("add_key", unsafe { sys::syscall(libc::SYS_add_key, args) })?;
    // SAFETY: KEYCTL_GET_KEYRING_ID takes numbers alone.
    let get = refused("keyctl", unsafe { sys::syscall(libc::SYS_keyctl, [0, SESSION_KEYRING, 0, 0, 0, 0]) })?;
    Ok(format!("{add}; {get}"))
}

fn bpf() -> Finding {
    let mut attr = [0_u32; 32];
    attr[..4].copy_from_slice(&[BPF_MAP_TYPE_ARRAY, 4, 4, 1]);
    let args = [0, attr.as_ptr() as usize, size_of_val(&attr), 0, 0, 0];
    // SAFETY: BPF_MAP_CREATE reads the attribute, whose size is given.
    refused("bpf", unsafe { sys::syscall(libc::SYS_bpf, args) })
}

fn io_uring() -> Finding {
    let mut params = [0_u8; 256];
    let args = [1, params.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: reads and writes one io_uring_params (120 bytes) in a larger buffer of zeros.
    refused("io_uring_setup", unsafe { sys::syscall(libc::SYS_io_uring_setup, args) })
}

fn perf() -> Finding {
    let mut attr = [0_u64; 16];
    attr[0] = u64::from(PERF_COUNT_SW_CPU_CLOCK_TYPE) | u64::from(PERF_ATTR_SIZE) << 32;
    attr[5] = PERF_EXCLUDE;
    let none = usize::MAX;
    let args = [attr.as_ptr() as usize, 0, none, none, 0, 0];
    // SAFETY: reads the attribute, whose size is inside it.
    refused("perf_event_open", unsafe { sys::syscall(libc::SYS_perf_event_open, args) })
}

fn userfaultfd() -> Finding {
    let args = [libc::O_CLOEXEC as usize | UFFD_USER_MODE_ONLY, 0, 0, 0, 0, 0];
    // SAFETY: takes one number.
    refused("userfaultfd", unsafe { sys::syscall(libc::SYS_userfaultfd, args) })
}

fn user_namespace() -> Finding {
    let user = libc::CLONE_NEWUSER as usize;
    let flags = user | libc::SIGCHLD as usize;
    // SAFETY: without a stack and without shared memory, clone is fork.
    let clone = refused("clone", unsafe { sys::fork_by(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]) })?;
    let args3: [u64; 8] = [user as u64, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    let size = size_of_val(&args3);
    // SAFETY: reads one clone_args of that size; without a stack and without shared memory it is fork.
    let clone3 =
        refused("clone3", unsafe { sys::fork_by(libc::SYS_clone3, [args3.as_ptr() as usize, size, 0, 0, 0, 0]) })?;
    // SAFETY: takes one number.
    let unshare = refused("unshare", unsafe { sys::syscall(libc::SYS_unshare, [user, 0, 0, 0, 0, 0]) })?;
    Ok(format!("{clone}; {clone3}; {unshare}"))
}

/// Any other error means that the kernel looked at the arguments.
fn refused<T>(what: &str, result: std::io::Result<T>) -> Finding {
    match result {
        Ok(_) => Err(format!("{what} works")),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS)) => {
            Ok(format!("{what}: {error}"))
        }
        Err(error) => Err(format!("{what}: {error}, which decides nothing")),
    }
}
