//! Random numbers of the operating system. A source that fails is an error: nothing weaker takes its place.

use crate::exit::Failure;

/// Eight random hex digits that make a run's slug its own.
pub(crate) fn run_id_suffix() -> Result<String, Failure> {
    hex_digits::<4>()
}

/// 32 hex digits that nobody else can know.
pub(crate) fn unguessable() -> Result<String, Failure> {
    hex_digits::<16>()
}

fn hex_digits<const BYTES: usize>() -> Result<String, Failure> {
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::machine(format_args!("the operating system gave no random numbers: {error}"))
            .hint("check that this process may call getrandom(2), or read /dev/urandom")
    })?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_as_many_as_said_and_no_two_alike() {
        for (make, digits) in [(run_id_suffix as fn() -> Result<String, Failure>, 8), (unguessable, 32)] {
            let (one, two) = (make().expect("random numbers"), make().expect("random numbers"));
            assert!(one.len() == digits && one.chars().all(|c| c.is_ascii_hexdigit()), "{one}");
            assert_ne!(one, two);
        }
    }
}
