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

/// 32 bytes from which a key is made.
pub(crate) fn key_seed() -> Result<[u8; 32], Failure> {
    let mut bytes = [0_u8; 32];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// 40 hex digits, as Gitea and Forgejo write their tokens: a secret that looks like one, and opens nothing.
pub(crate) fn canary() -> Result<String, Failure> {
    hex_digits::<20>()
}

/// 32 letters for a password that opens nothing but a service of one run. They are of eight kinds, three bits each, so that no scanner
/// takes it for a secret where the agent writes it into a test's settings: that would need more disorder, and a digit or two.
pub(crate) fn run_password() -> Result<String, Failure> {
    let mut bytes = [0_u8; 32];
    fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(b'a' + byte % 8)).collect())
}

fn hex_digits<const BYTES: usize>() -> Result<String, Failure> {
    let mut bytes = [0_u8; BYTES];
    fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

fn fill(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes).map_err(|error| {
        Failure::machine(format_args!("the operating system gave no random numbers: {error}"))
            .hint("check that this process may call getrandom(2), or read /dev/urandom")
    })
}

#[cfg(test)]
mod tests {
    use bottle_scan::dlp::{Rules, Scope};

    use super::*;

    #[test]
    fn digits_are_as_many_as_said_and_no_two_alike() {
        for (make, digits) in [(run_id_suffix as fn() -> Result<String, Failure>, 8), (unguessable, 32), (canary, 40)] {
            let (one, two) = (make().expect("random numbers"), make().expect("random numbers"));
            assert!(one.len() == digits && one.chars().all(|c| c.is_ascii_hexdigit()), "{one}");
            assert_ne!(one, two);
        }
    }

    #[test]
    fn a_runs_password_is_no_secret_to_a_scanner() {
        let rules = Rules::builtin().expect("rules");
        for _ in 0..50 {
            let password = run_password().expect("random numbers");
            assert!(password.len() == 32 && password.bytes().all(|byte| (b'a'..=b'h').contains(&byte)), "{password}");
            for text in [
                format!("DB_PASSWORD={password}\n"),
                format!("password: \"{password}\"\n"),
                format!("DATABASE_URL=postgres://app:{password}@db:5432/app\n"),
            ] {
                assert!(rules.find(text.as_bytes(), Scope::All).is_none(), "{text}");
            }
        }
    }
}
