//! The bundle's one binary: everything is in the library.

use std::process::ExitCode;

/// musl's own allocator asks the kernel for each of the large blocks in which a head is read, and gives them back at once: five
/// mappings for a request.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    bottle_sidecars::run()
}
