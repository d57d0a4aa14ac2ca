//! Sums that issuers put at the end of their tokens.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// How a token's last characters follow from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Checksum {
    /// The last six are the CRC-32 of what stands between the prefix (up to the last `_`) and them, in base62: GitHub's
    /// and npm's tokens.
    Crc32Base62,
    /// BIP 173.
    Bech32,
    /// The last four bytes of what base58 gives are the first of the others' double SHA-256.
    Base58Check,
}

impl Checksum {
    /// Whether the token's own sum is right.
    pub(super) fn holds(self, token: &[u8]) -> bool {
        match self {
            Self::Crc32Base62 => {
                let random = token.rsplit(|byte| *byte == b'_').next().unwrap_or_default();
                random.split_last_chunk::<6>().is_some_and(|(random, sum)| crc32_base62(random) == *sum)
            }
            Self::Bech32 => bech32(token),
            Self::Base58Check => base58_check(token).is_some(),
        }
    }
}

/// The six characters that end a token with this random part.
pub(super) fn crc32_base62(random: &[u8]) -> [u8; 6] {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = usize::try_from(crc32fast::hash(random)).unwrap_or_default();
    let mut out = [b'0'; 6];
    for place in out.iter_mut().rev() {
        *place = DIGITS[rest % 62];
        rest /= 62;
    }
    out
}

const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// The remainder of BIP 173's polynomial.
pub(super) fn polymod(values: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(1u32, |sum, value| {
        let top = sum >> 25;
        let next = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        GENERATOR.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1).fold(next, |sum, (_, add)| sum ^ add)
    })
}

/// What the sum is over: the prefix's high and low bits, then the data.
pub(super) fn expanded(prefix: &[u8], data: &[u8]) -> Vec<u8> {
    let high = prefix.iter().map(|byte| byte >> 5);
    let low = prefix.iter().map(|byte| byte & 31);
    high.chain([0]).chain(low).chain(data.iter().copied()).collect()
}

fn bech32(token: &[u8]) -> bool {
    let token = token.to_ascii_lowercase();
    let Some(one) = token.iter().rposition(|byte| *byte == b'1') else { return false };
    let digit = |byte: &u8| BECH32.iter().position(|other| other == byte).and_then(|digit| u8::try_from(digit).ok());
    let data: Option<Vec<u8>> = token[one + 1..].iter().map(digit).collect();
    data.is_some_and(|data| polymod(expanded(&token[..one], &data).into_iter()) == 1)
}

/// What base58 gives, without its sum; none where the sum is wrong.
pub(super) fn base58_check(token: &[u8]) -> Option<Vec<u8>> {
    const DIGITS: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    // Each leading `1` is a zero byte.
    let zeros = token.iter().take_while(|byte| **byte == b'1').count();
    let mut bytes: Vec<u8> = vec![];
    for byte in &token[zeros..] {
        let mut carry = DIGITS.iter().position(|digit| digit == byte)?;
        for byte in bytes.iter_mut().rev() {
            carry += usize::from(*byte) * 58;
            *byte = u8::try_from(carry & 0xff).unwrap_or_default();
            carry >>= 8;
        }
        while carry > 0 {
            bytes.insert(0, u8::try_from(carry & 0xff).unwrap_or_default());
            carry >>= 8;
        }
    }
    bytes.splice(0..0, std::iter::repeat_n(0, zeros));
    let (payload, sum) = bytes.split_last_chunk::<4>()?;
    Sha256::digest(Sha256::digest(payload)).starts_with(sum).then(|| payload.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_published_examples() {
        // The example of a token's parts in a public description of the format; no token of anyone's.
        let parts = ["zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ", "0mLq17"];
        assert!(Checksum::Crc32Base62.holds(format!("{}{}", "ghp_", parts.concat()).as_bytes()));
        assert!(!Checksum::Crc32Base62.holds(format!("{}{}x", "ghp_", parts.concat()).as_bytes()));
        // BIP 173's own.
        for (text, fine) in [
            ("A12UEL5L", true),
            ("split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w", true),
            ("A12UEL5M", false),
        ] {
            assert_eq!(Checksum::Bech32.holds(text.as_bytes()), fine, "{text}");
        }
        // The address of Bitcoin's first block, which everyone knows.
        assert!(Checksum::Base58Check.holds(b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"));
        assert!(!Checksum::Base58Check.holds(b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"));
    }
}
