//! Random numbers of the operating system.

/// Eight random hex digits that make a run's slug its own.
pub(crate) fn run_id_suffix() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library keys its hasher from the operating system's random numbers.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{:08x}", random & 0xffff_ffff)
}

/// 32 hex digits that nobody else can know.
pub(crate) fn unguessable() -> String {
    let mut bytes = [0_u8; 16];
    let read =
        std::fs::File::open("/dev/urandom").and_then(|mut source| std::io::Read::read_exact(&mut source, &mut bytes));
    if read.is_err() {
        // The suffix's source is the operating system too, eight digits at a time.
        return (0..4).map(|_| run_id_suffix()).collect();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
