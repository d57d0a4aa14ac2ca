//! Whether digits or letters are what a rule of `detect_rules.toml` looks for, and where they end.
//!
//! Each check gets the bytes from where the number begins, with what follows, and gives the number's length.

use iban::Iban;
use serde::Deserialize;

use super::{checksum, ids, phrases};

/// What decides whether a match is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Check {
    /// ISO/IEC 7812: issuer, length, and Luhn's digit.
    Card,
    /// ISO 13616: the country's form, and the remainder by 97.
    Iban,
    UsSsn,
    EsDni,
    ItCodiceFiscale,
    NlBsn,
    DeSteuerId,
    BrCpf,
    GbNhs,
    SePersonnummer,
    FrNir,
    PlPesel,
    CaSin,
    ChAhv,
    /// WIF, and SLIP 132's versions of BIP 32's keys: Base58Check.
    BitcoinKey,
    /// 32 bytes in hex that are a scalar of secp256k1.
    Secp256k1Key,
    /// SEP 23: base32 with a CRC-16.
    StellarSeed,
    /// BIP 39.
    SeedPhrase,
}

impl Check {
    /// Whether a number may begin behind these bytes: the middle of another one is none.
    pub(super) fn may_follow(self, before: &[u8]) -> bool {
        if self != Self::Card {
            return true;
        }
        match before {
            [.., b'.'] => false,
            [.., digit, b'+' | b'-'] => !digit.is_ascii_digit(),
            // A column of numbers.
            [.., a, b, c, d, b' '] => ![a, b, c, d].iter().all(|byte| byte.is_ascii_digit()),
            _ => true,
        }
    }

    /// How many of these bytes are the number, if they begin with one.
    pub(super) fn length(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Card => card(bytes),
            Self::Iban => iban_length(bytes),
            Self::UsSsn => ids::us_ssn(bytes),
            Self::EsDni => ids::es_dni(bytes),
            Self::ItCodiceFiscale => ids::it_codice_fiscale(bytes),
            Self::NlBsn => ids::nl_bsn(bytes),
            Self::DeSteuerId => ids::de_steuer_id(bytes),
            Self::BrCpf => ids::br_cpf(bytes),
            Self::GbNhs => ids::gb_nhs(bytes),
            Self::SePersonnummer => ids::se_personnummer(bytes),
            Self::FrNir => ids::fr_nir(bytes),
            Self::PlPesel => ids::pl_pesel(bytes),
            Self::CaSin => ids::ca_sin(bytes),
            Self::ChAhv => ids::ch_ahv(bytes),
            Self::BitcoinKey => bitcoin_key(bytes),
            Self::Secp256k1Key => secp256k1_key(bytes),
            Self::StellarSeed => stellar_seed(bytes),
            Self::SeedPhrase => phrases::length(bytes),
        }
    }
}

/// Digits with single separators between some of them.
#[derive(Debug, Default)]
pub(super) struct Number {
    /// Their values.
    pub(super) digits: Vec<u8>,
    /// Where in the bytes each of them ends.
    ends: Vec<usize>,
    /// How many digits stand together, group by group.
    groups: Vec<usize>,
    /// What stands between the groups.
    separators: Vec<char>,
}

impl Number {
    /// Reads digits from the beginning on, `most` at most.
    pub(super) fn read(bytes: &[u8], most: usize) -> Self {
        let (mut number, mut at, mut group) = (Self::default(), 0, 0);
        while number.digits.len() < most {
            match bytes.get(at) {
                Some(digit @ b'0'..=b'9') => {
                    number.digits.push(digit - b'0');
                    at += 1;
                    number.ends.push(at);
                    group += 1;
                }
                _ => {
                    let Some((separator, length)) = separator(&bytes[at..]) else { break };
                    if group == 0 || !bytes.get(at + length).is_some_and(u8::is_ascii_digit) {
                        break;
                    }
                    number.groups.push(std::mem::take(&mut group));
                    number.separators.push(separator);
                    at += length;
                }
            }
        }
        number.groups.push(group);
        number
    }

    /// Where the first `count` digits end, if there are so many.
    pub(super) fn end(&self, count: usize) -> Option<usize> {
        self.ends.get(count.checked_sub(1)?).copied()
    }

    /// The first `count` digits with their length in bytes, if the number ends with them.
    pub(super) fn exactly(bytes: &[u8], count: usize) -> Option<(Vec<u8>, usize)> {
        let number = Self::read(bytes, count);
        let end = number.end(count)?;
        ends(&bytes[end..]).then_some((number.digits, end))
    }
}

/// A sign that may stand in a number, and its length: also a blank that does not break, and the hyphen that does not.
fn separator(bytes: &[u8]) -> Option<(char, usize)> {
    match bytes {
        [sign @ (b' ' | b'-' | b'.' | b'+' | b'/'), ..] => Some((char::from(*sign), 1)),
        [0xc2, 0xa0, ..] => Some((' ', 2)),
        [0xe2, 0x80, 0x91 | 0x93, ..] => Some(('-', 3)),
        _ => None,
    }
}

/// Whether a number ends before these bytes.
pub(super) fn ends(after: &[u8]) -> bool {
    match after {
        [b'.' | b'-', next, ..] => !next.is_ascii_digit(),
        [next, ..] => !(next.is_ascii_alphanumeric() || *next == b'_'),
        [] => true,
    }
}

/// Luhn's sum of digits.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits.iter().rev().enumerate().fold(0, |sum, (place, digit)| {
        let doubled = u32::from(*digit) * 2;
        sum + if place % 2 == 0 { u32::from(*digit) } else { doubled / 10 + doubled % 10 }
    });
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

/// The digits of a card, as its groups may be written.
const GROUPS: [&[usize]; 4] = [&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3]];

fn card(bytes: &[u8]) -> Option<usize> {
    // One digit more than the longest, to see that it goes on.
    let number = Number::read(bytes, 28);
    let shapes = GROUPS.iter().filter(|shape| number.groups.starts_with(shape)).map(|shape| shape.len());
    let alone = std::iter::once(1);
    shapes.chain(alone).find_map(|groups| {
        let count = number.groups[..groups].iter().sum();
        let separators = &number.separators[..groups - 1];
        let same = separators.iter().all(|one| Some(one) == separators.first() && *one != '/');
        // A column of numbers goes on.
        let goes_on = groups > 1 && number.groups[groups..].len() > 1 && number.groups[groups] == 4;
        let end = number.end(count)?;
        let follows = |after: &[u8]| if groups == 1 { ends(after) && !matches!(after, [b'+', ..]) } else { !goes_on };
        let digits = &number.digits[..count];
        (same && follows(&bytes[end..]) && is_issued(digits) && luhn(digits)).then_some(end)
    })
}

/// Whether there are cards with such a beginning and length: the ranges that Visa, Mastercard, American Express, Diners Club, Discover,
/// JCB, UnionPay, Maestro and Mir publish. Left out is what is rare and looks like other numbers: Visa's of 13 and 19 digits.
fn is_issued(digits: &[u8]) -> bool {
    let first = |count: usize| digits[..count].iter().fold(0u32, |all, digit| all * 10 + u32::from(*digit));
    match digits.len() {
        14 => matches!(first(3), 300..=305 | 309 | 360..=369 | 380..=399),
        15 => matches!(first(2), 34 | 37),
        16 => {
            let four = first(4);
            matches!(four, 4000..=4999 | 5100..=5599 | 2221..=2720 | 2200..=2204 | 6011 | 6440..=6599 | 3528..=3589)
                || is_long(four)
        }
        17..=19 => is_long(first(4)),
        _ => false,
    }
}

/// Whether cards of 16 to 19 digits begin so: UnionPay's and Maestro's.
fn is_long(four: u32) -> bool {
    matches!(four, 6200..=6299 | 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763)
}

/// The longest of any country.
const LONGEST_IBAN: usize = 34;
const SHORTEST_IBAN: usize = 15;

fn iban_length(bytes: &[u8]) -> Option<usize> {
    let (mut letters, mut ends_at, mut at) = (String::new(), vec![], 0);
    while letters.len() < LONGEST_IBAN {
        match bytes.get(at) {
            Some(byte) if byte.is_ascii_alphanumeric() => {
                letters.push(char::from(*byte));
                at += 1;
                ends_at.push(at);
            }
            _ => match separator(&bytes[at..]) {
                Some((sign, length)) if sign != '/' && ends_at.last() == Some(&at) => at += length,
                _ => break,
            },
        }
    }
    (SHORTEST_IBAN..=letters.len()).rev().find_map(|count| {
        let (end, number) = (ends_at[count - 1], &letters[..count]);
        let mixed = number.bytes().any(|byte| byte.is_ascii_lowercase())
            && number.bytes().any(|byte| byte.is_ascii_uppercase());
        let is_one = || number.to_ascii_uppercase().parse::<Iban>().is_ok();
        (!mixed && ends(&bytes[end..]) && is_one()).then_some(end)
    })
}

/// Versions of private keys: WIF's, and SLIP 132's yprv, zprv, Yprv and Zprv.
const WIF: u8 = 0x80;
const EXTENDED: [[u8; 4]; 4] =
    [[0x04, 0x9d, 0x78, 0x78], [0x04, 0xb2, 0x43, 0x0c], [0x02, 0x95, 0xb0, 0x05], [0x02, 0xaa, 0x7a, 0x99]];

fn bitcoin_key(bytes: &[u8]) -> Option<usize> {
    let length = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let payload = matches!(length, 51 | 52 | 111).then(|| checksum::base58_check(&bytes[..length])).flatten()?;
    let is_key = match payload.as_slice() {
        [WIF, key @ ..] => key.len() == 32 || key.len() == 33 && key.ends_with(&[1]),
        extended => extended.len() == 78 && EXTENDED.iter().any(|version| extended.starts_with(version)),
    };
    (is_key && ends(&bytes[length..])).then_some(length)
}

/// The order of secp256k1's group; a private key is less, and not 0.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae, 0xdc,
    0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

fn secp256k1_key(bytes: &[u8]) -> Option<usize> {
    let prefix = if bytes.starts_with(b"0x") { 2 } else { 0 };
    let mut key = [0; 32];
    hex::decode_to_slice(bytes.get(prefix..prefix + 64)?, &mut key).ok()?;
    (key != [0; 32] && key < ORDER && ends(&bytes[prefix + 64..])).then_some(prefix + 64)
}

/// SEP 23: the version of an account's secret seed.
const STELLAR_SEED: u8 = 18 << 3;
const STELLAR_LENGTH: usize = 56;

fn stellar_seed(bytes: &[u8]) -> Option<usize> {
    let digit = |byte: &u8| match byte {
        b'A'..=b'Z' => Some(u64::from(byte - b'A')),
        b'2'..=b'7' => Some(u64::from(byte - b'2' + 26)),
        _ => None,
    };
    let digits: Vec<u64> = bytes.get(..STELLAR_LENGTH)?.iter().map(digit).collect::<Option<_>>()?;
    let five = |eight: &[u64]| eight.iter().fold(0, |all, digit| all << 5 | digit).to_be_bytes();
    let decoded: Vec<u8> = digits.chunks(8).flat_map(|eight| five(eight)[3..].to_vec()).collect();
    let (payload, sum) = decoded.split_last_chunk::<2>()?;
    let is_seed = payload[0] == STELLAR_SEED && crc16(payload).to_le_bytes() == *sum;
    (is_seed && ends(&bytes[STELLAR_LENGTH..])).then_some(STELLAR_LENGTH)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| if sum >> 15 == 1 { sum << 1 ^ 0x1021 } else { sum << 1 })
    })
}
