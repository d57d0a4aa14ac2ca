//! Personal numbers, each with the checksum that its country publishes; of a date in one, month and day are looked at.

use super::check::{Number, ends, luhn};

/// The sum of digits, each times its weight.
fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

/// Digits as a number.
fn value(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |all, digit| all * 10 + u64::from(*digit))
}

fn all_same(digits: &[u8]) -> bool {
    digits.iter().all(|digit| Some(digit) == digits.first())
}

/// Numbers that the Social Security Administration has said to be nobody's, for they were printed on samples, and the one that everybody
/// writes for an example.
const NOBODYS_SSN: [u64; 3] = [78_051_120, 219_099_999, 123_456_789];

/// Has no checksum: area, group and serial must be ones that are given.
pub(super) fn us_ssn(bytes: &[u8]) -> Option<usize> {
    let (digits, length) = Number::exactly(bytes, 9)?;
    let (area, group, serial) = (value(&digits[..3]), value(&digits[3..5]), value(&digits[5..]));
    let is_given = !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0;
    (is_given && !NOBODYS_SSN.contains(&value(&digits))).then_some(length)
}

/// A DNI, or an NIE, which begins with a letter: the last letter is the remainder by 23.
pub(super) fn es_dni(bytes: &[u8]) -> Option<usize> {
    let (prefix, first, count) = match bytes {
        [letter @ b'X'..=b'Z', ..] => (1, u64::from(letter - b'X'), 7),
        _ => (0, 0, 8),
    };
    let prefix = prefix + usize::from(prefix == 1 && bytes.get(1) == Some(&b'-'));
    let number = Number::read(&bytes[prefix..], count);
    let end = prefix + number.end(count)?;
    let end = end + usize::from(bytes.get(end).is_some_and(|sign| matches!(sign, b'-' | b' ')));
    let letter = bytes.get(end)?.to_ascii_uppercase();
    let remainder = (first * 10_000_000 + value(&number.digits)) % 23;
    let expected = b"TRWAGMYFPDXBNJZSQVHLCKE"[usize::try_from(remainder).ok()?];
    (letter == expected && value(&number.digits) != 0 && ends(&bytes[end + 1..])).then_some(end + 1)
}

/// Values of the characters at odd places, from `0` and from `A` on.
const ODD: [u32; 26] = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];

pub(super) fn it_codice_fiscale(bytes: &[u8]) -> Option<usize> {
    let code = bytes.get(..16)?.to_ascii_uppercase();
    let digit = |byte: u8| byte.is_ascii_digit() || b"LMNPQRSTUV".contains(&byte);
    let shape = code.iter().enumerate().all(|(place, byte)| match place {
        6 | 7 | 9 | 10 | 12..=14 => digit(*byte),
        8 => b"ABCDEHLMPRST".contains(byte),
        _ => byte.is_ascii_uppercase(),
    });
    let index = |byte: u8| usize::from(if byte.is_ascii_digit() { byte - b'0' } else { byte.wrapping_sub(b'A') });
    if !shape {
        return None;
    }
    let sum = code[..15].iter().enumerate().fold(0, |sum, (place, byte)| {
        let index = index(*byte);
        sum + if place % 2 == 0 { ODD[index] } else { u32::try_from(index).unwrap_or(u32::MAX) }
    });
    (sum % 26 == u32::from(code[15] - b'A') && ends(&bytes[16..])).then_some(16)
}

/// The eleven test.
pub(super) fn nl_bsn(bytes: &[u8]) -> Option<usize> {
    let (digits, length) = Number::exactly(bytes, 9)?;
    let sum = weighted(&digits[..8], &[9, 8, 7, 6, 5, 4, 3, 2]) + 10 * 11 - u32::from(digits[8]);
    (sum.is_multiple_of(11) && !all_same(&digits)).then_some(length)
}

/// ISO 7064, MOD 11,10; and of the first ten digits just one stands there twice or three times.
pub(super) fn de_steuer_id(bytes: &[u8]) -> Option<usize> {
    let (digits, length) = Number::exactly(bytes, 11)?;
    let product = digits[..10].iter().fold(10, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    let times = |digit: u8| digits[..10].iter().filter(|other| **other == digit).count();
    let again: Vec<usize> = (0..10).map(times).filter(|times| *times > 1).collect();
    let is_right = (11 - product) % 10 == u32::from(digits[10]) && digits[0] != 0 && matches!(again[..], [2 | 3]);
    is_right.then_some(length)
}

/// Two digits by 11.
pub(super) fn br_cpf(bytes: &[u8]) -> Option<usize> {
    let (digits, length) = Number::exactly(bytes, 11)?;
    let weights = [11, 10, 9, 8, 7, 6, 5, 4, 3, 2];
    let sum = |count: usize| weighted(&digits[..count], &weights[10 - count..]) * 10 % 11 % 10;
    (sum(9) == u32::from(digits[9]) && sum(10) == u32::from(digits[10]) && !all_same(&digits)).then_some(length)
}

/// The remainder by 11.
pub(super) fn gb_nhs(bytes: &[u8]) -> Option<usize> {
    let (digits, length) = Number::exactly(bytes, 10)?;
    let rest = 11 - weighted(&digits[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    (rest % 11 == u32::from(digits[9]) && rest != 10 && !all_same(&digits)).then_some(length)
}

/// Whether a month and a day are ones.
fn is_date(month: u8, day: u8) -> bool {
    matches!(month, 1..=12) && matches!(day, 1..=31)
}

/// A date, with or without its century, and Luhn's digit; of a coordination number the day is 60 more.
pub(super) fn se_personnummer(bytes: &[u8]) -> Option<usize> {
    [12, 10].into_iter().find_map(|count| {
        let (digits, length) = Number::exactly(bytes, count)?;
        let ten = &digits[count - 10..];
        let day = (ten[4] * 10 + ten[5]) % 60;
        (is_date(ten[2] * 10 + ten[3], day) && luhn(ten)).then_some(length)
    })
}

/// The key is 97 less the remainder by 97.
pub(super) fn fr_nir(bytes: &[u8]) -> Option<usize> {
    let (digits, length) = Number::exactly(bytes, 15)?;
    (97 - value(&digits[..13]) % 97 == value(&digits[13..])).then_some(length)
}

/// A date, whose month also says the century, and a weighted sum.
pub(super) fn pl_pesel(bytes: &[u8]) -> Option<usize> {
    let (digits, length) = Number::exactly(bytes, 11)?;
    let sum = weighted(&digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    let month = (digits[2] * 10 + digits[3]) % 20;
    (is_date(month, digits[4] * 10 + digits[5]) && sum.is_multiple_of(10)).then_some(length)
}

/// Luhn's digit.
pub(super) fn ca_sin(bytes: &[u8]) -> Option<usize> {
    Number::exactly(bytes, 9).filter(|(digits, _)| luhn(digits)).map(|(_, length)| length)
}

/// The digit of EAN-13.
pub(super) fn ch_ahv(bytes: &[u8]) -> Option<usize> {
    let (digits, length) = Number::exactly(bytes, 13)?;
    weighted(&digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]).is_multiple_of(10).then_some(length)
}
