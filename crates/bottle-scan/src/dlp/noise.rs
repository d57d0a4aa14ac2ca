//! Where a match of a format that has little fixed is chance: in the middle of base64 that says no text, every few megabytes there is
//! one. Of all other formats a match counts wherever it stands: noise is easily made.

use super::alphabet::is_digit;
use super::coded::BEFORE;
use super::entropy;

/// Digits of base64 that say noise have so many bits each; words and paths have fewer.
const NOISE_BITS: f64 = 4.6;
/// A line of base64 is at least so long.
const LINE: usize = 60;

/// Whether these are as many digits of base64 as tell, and they say noise.
pub(super) fn is_noise(before: &[u8]) -> bool {
    let Some(before) = before.len().checked_sub(BEFORE).map(|from| &before[from..]) else { return false };
    before.iter().all(|byte| is_digit(*byte))
        && [u8::is_ascii_uppercase, u8::is_ascii_lowercase, u8::is_ascii_digit].iter().all(|is| before.iter().any(is))
        && entropy(before) >= NOISE_BITS
}

/// Behind a match, so many digits tell that it stands in the middle of others.
pub(super) const BEHIND: usize = 64;

/// Whether digits of base64 go on behind a match.
pub(super) fn follows(behind: &[u8]) -> bool {
    behind.get(..BEHIND).is_some_and(|behind| behind.iter().all(|byte| is_digit(*byte)))
}

/// Whether a match has noise on both sides: in the middle of a line behind a sign of base64's, or with a line that is as long as
/// the one before.
pub(super) fn goes_on(bytes: &[u8], at: usize, end: usize) -> bool {
    let before = &bytes[..at];
    match before {
        [.., b'+' | b'/' | b'-'] => is_noise(before) && follows(&bytes[end..]),
        [.., b'\n'] => {
            let before = before.strip_suffix(b"\r\n").or_else(|| before.strip_suffix(b"\n")).unwrap_or(before);
            let line = |digits: &mut dyn Iterator<Item = &u8>| digits.take_while(|byte| is_digit(**byte)).count();
            let (above, here) = (line(&mut before.iter().rev()), line(&mut bytes[at..].iter()));
            above >= LINE && above == here && is_noise(before)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_noise_goes_on() {
        let noise = "q7Zc0mWx4TgB1uPdK9sLr2YhN5vAeJ8oFi3GtXkQw6ECbDzRnUyHlMfSjOaVpI7+/zR9k2";
        let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
        for (text, goes) in [
            (format!("{noise}/{token}{noise}"), true),
            (format!("{noise}+{token}/{noise}"), true),
            (format!("{noise}\n{noise}"), true),
            (format!("{noise}/{token}"), false),
            (format!("{noise}/{token}/x?{noise}"), false),
            (format!("{noise}\n{token}\n"), false),
            (format!("{noise}={token}{noise}"), false),
            (format!("/a/path/of/lower/case/letters/that/goes/on/and/on/and/is/longer/than/64/{token}{noise}"), false),
            (format!("/A1/path/{token}{noise}"), false),
            (token.clone(), false),
        ] {
            let at = text.find(&token).unwrap_or(noise.len() + 1);
            let end = text.len().min(at + token.len());
            assert_eq!(goes_on(text.as_bytes(), at, end), goes, "{text}");
        }
    }
}
