//! Requests out of the suite's cases: the same shape with a secret in it and with a harmless text in its place.

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    pub case: Vec<Case>,
    /// Requests that go through as they are.
    pub honest: Vec<Case>,
}

/// One shape of a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    #[serde(default = "Case::post")]
    pub method: String,
    #[serde(default = "Case::open")]
    pub target: String,
    #[serde(default = "Case::example")]
    pub host: String,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    #[serde(default)]
    pub body: String,
    /// Goes before the body, so many bytes.
    #[serde(default)]
    pub filler: usize,
    /// The body is sent in chunks of this size.
    #[serde(default)]
    pub chunks: usize,
    /// What the finding's rule begins with; empty: one of the two secrets.
    #[serde(default)]
    pub expect: String,
    /// The honest body, where it is another one.
    pub honest_body: Option<String>,
    /// The honest headers, where they are others.
    pub honest_headers: Option<Vec<(String, String)>>,
    /// Whether it is a matter of the library alone, and why.
    pub library_only: Option<String>,
    /// On the model's own route.
    #[serde(default)]
    pub model: bool,
}

/// A request as it is sent.
#[derive(Debug, Clone)]
pub struct Made {
    pub method: String,
    pub target: String,
    pub host: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// What stands for `K` and `T`.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// The value of a secret that the bottle knows.
    pub known: String,
    /// A token of a public format.
    pub token: String,
}

impl Secrets {
    /// Made at run time, so that no scanner finds one in this repository.
    pub fn real() -> Self {
        Self { known: "Vq7-kT2xL9mW4pZs8RbN3hY6".to_owned(), token: ["ghp", &"a1B2c3D4e5F6".repeat(3)].join("_") }
    }

    /// Texts of the same length that are nobody's secret.
    pub fn harmless() -> Self {
        Self { known: "Some-longer-text-of-ours".to_owned(), token: ["txt", &"a1B2c3D4e5F6".repeat(3)].join("_") }
    }
}

impl Case {
    fn post() -> String {
        "POST".to_owned()
    }

    fn open() -> String {
        "/open/x".to_owned()
    }

    fn example() -> String {
        "open.example".to_owned()
    }

    /// The request with these texts in it.
    pub fn make(&self, secrets: &Secrets, honest: bool) -> Made {
        let text = |template: &str| render(template, secrets);
        let string = |template: &str| String::from_utf8(text(template)).expect("text");
        let headers = if honest { self.honest_headers.as_ref().unwrap_or(&self.headers) } else { &self.headers };
        let template = if honest { self.honest_body.as_ref().unwrap_or(&self.body) } else { &self.body };
        let mut body = b"The quick brown fox jumps over the lazy dog; 0123.\n".repeat(self.filler / 51);
        body.extend(text(template));
        Made {
            method: self.method.clone(),
            target: string(&self.target),
            host: string(&self.host),
            headers: headers.iter().map(|(name, value)| (string(name).to_lowercase(), text(value))).collect(),
            body,
        }
    }
}

/// `<<K>>` and `<<T>>` are the secrets, `<<K[2:9]>>` a part; `<<hex|b64:TEXT>>` is a text with forms put on it in turn.
pub fn render(template: &str, secrets: &Secrets) -> Vec<u8> {
    let Some(start) = template.find("<<") else { return template.as_bytes().to_vec() };
    let (mut depth, mut end) = (0, start);
    while end < template.len() {
        if template[end..].starts_with("<<") {
            (depth, end) = (depth + 1, end + 2);
        } else if template[end..].starts_with(">>") {
            (depth, end) = (depth - 1, end + 2);
            if depth == 0 {
                break;
            }
        } else {
            end += template[end..].chars().next().expect("a character").len_utf8();
        }
    }
    assert_eq!(depth, 0, "unbalanced: {template}");
    let inner = &template[start + 2..end - 2];
    let mut out = template.as_bytes()[..start].to_vec();
    out.extend(expand(inner, secrets));
    out.extend(render(&template[end..], secrets));
    out
}

fn expand(inner: &str, secrets: &Secrets) -> Vec<u8> {
    let (name, slice) = inner.split_once('[').unwrap_or((inner, ""));
    let value = match name {
        "K" => &secrets.known,
        "T" => &secrets.token,
        _ => {
            let (forms, text) = inner.split_once(':').expect("forms");
            return forms.split('|').fold(render(text, secrets), |bytes, form| put(form, &bytes));
        }
    };
    if slice.is_empty() {
        return value.clone().into_bytes();
    }
    let (from, to) = slice.trim_end_matches(']').split_once(':').expect("a slice");
    let to = if to.is_empty() { value.len() } else { to.parse().expect("a number") };
    value.as_bytes()[if from.is_empty() { 0 } else { from.parse().expect("a number") }..to].to_vec()
}

fn each(bytes: &[u8], form: impl Fn(u8) -> String) -> Vec<u8> {
    bytes.iter().map(|byte| form(*byte)).collect::<String>().into_bytes()
}

fn wrapped(bytes: &[u8], width: usize, end: &str) -> Vec<u8> {
    bytes
        .chunks(width)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect::<Vec<_>>()
        .join(end)
        .into_bytes()
}

fn list(bytes: &[u8], between: &str, form: impl Fn(u8) -> String) -> Vec<u8> {
    list_of(bytes, 1, between, |one| form(one[0]))
}

fn list_of(bytes: &[u8], size: usize, between: &str, form: impl Fn(&[u8]) -> String) -> Vec<u8> {
    bytes.chunks(size).map(form).collect::<Vec<_>>().join(between).into_bytes()
}

/// Lines of sixteen bytes.
fn dump(bytes: &[u8], form: impl Fn(usize, &[u8]) -> String) -> Vec<u8> {
    bytes.chunks(16).enumerate().map(|(at, line)| form(at * 16, line)).collect::<String>().into_bytes()
}

fn dots(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect()
}

/// The letters of another script that look the same.
fn cyrillic(byte: u8) -> String {
    let alike = [
        ('a', 'а'),
        ('c', 'с'),
        ('e', 'е'),
        ('p', 'р'),
        ('x', 'х'),
        ('y', 'у'),
        ('h', 'һ'),
        ('s', 'ѕ'),
        ('T', 'Т'),
        ('B', 'В'),
    ];
    let char = char::from(byte);
    alike.iter().find(|(plain, _)| *plain == char).map_or(char, |(_, other)| *other).to_string()
}

fn put(form: &str, bytes: &[u8]) -> Vec<u8> {
    let text = || String::from_utf8(bytes.to_vec()).expect("text");
    match form {
        "b64" => STANDARD.encode(bytes).into_bytes(),
        "b64url" => URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
        "hex" => hex::encode(bytes).into_bytes(),
        "HEX" => hex::encode_upper(bytes).into_bytes(),
        "octal" => each(bytes, |byte| format!("\\{byte:03o}")),
        "slashes" => text().replace('/', "\\/").into_bytes(),
        "some-u" => text().replace('I', "\\u0049").replace('+', "\\u002B").into_bytes(),
        "hex-colons" => wrapped(hex::encode(bytes).as_bytes(), 2, ":"),
        "numbers" => list(bytes, ", ", |byte| byte.to_string()),
        "numbers-lines" => list(bytes, "\n", |byte| byte.to_string()),
        "numbers-indented" => list(bytes, ",\n            ", |byte| byte.to_string()),
        "numbers-keys" => {
            let pairs = bytes.iter().enumerate().map(|(at, byte)| format!("\"{at}\":{byte}"));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(",")).into_bytes()
        }
        "hex-blanks" => list(bytes, " ", |byte| format!("{byte:02x}")),
        "hex-list" => list(bytes, ", ", |byte| format!("0x{byte:02X}")),
        "qp-all" => each(bytes, |byte| format!("={byte:02X}")),
        "bits" => list(bytes, " ", |byte| format!("{byte:08b}")),
        "octals" => list(bytes, " ", |byte| format!("{byte:03o}")),
        "words" => list_of(bytes, 4, " ", |word| hex::encode(word)),
        "words-swapped" => list_of(bytes, 2, " ", |word| hex::encode(word.iter().rev().copied().collect::<Vec<_>>())),
        // As these programs print it.
        "xxd" => dump(bytes, |at, line| {
            let words = list_of(line, 2, " ", |word| hex::encode(word));
            format!("{at:08x}: {:39}  {}\n", String::from_utf8_lossy(&words), dots(line))
        }),
        "hexdump" => dump(bytes, |at, line| {
            let halves = list_of(line, 8, "  ", |half| String::from_utf8_lossy(&put("hex-blanks", half)).into_owned());
            format!("{at:08x}  {:48}  |{}|\n", String::from_utf8_lossy(&halves), dots(line))
        }),
        "od" => dump(bytes, |at, line| {
            let words = list_of(line, 2, " ", |word| {
                format!("{:06o}", u16::from_le_bytes([word[0], word.get(1).copied().unwrap_or(0)]))
            });
            format!("{at:07o} {}\n", String::from_utf8_lossy(&words))
        }),
        other => put_more(other, bytes),
    }
}

/// Forms of literals, of escapes, and those that nothing reads.
fn put_more(form: &str, bytes: &[u8]) -> Vec<u8> {
    let text = || String::from_utf8(bytes.to_vec()).expect("text");
    match form {
        "literals-plus" => wrapped(bytes, 9, "\" + \""),
        "literals-plus-lines" => wrapped(bytes, 9, "\" +\n    \""),
        "literals-dots" => wrapped(bytes, 9, "\" .. \""),
        "literals-php" => wrapped(bytes, 3, "' . '"),
        "literals-beside" => wrapped(bytes, 9, "\" \""),
        "literals-beside-lines" => wrapped(bytes, 9, "\"\n    \""),
        "literals-touching" => wrapped(bytes, 3, "\"\""),
        "literals-f" => wrapped(bytes, 9, "\" f\""),
        "literals-json" => wrapped(bytes, 9, "\\\" + \\\""),
        "literals-list" => wrapped(bytes, 9, "\", \""),
        "literals-list-lines" => wrapped(bytes, 9, "\",\n  \""),
        "notebook" => wrapped(bytes, 12, "\\n\", \""),
        "part-heads" => wrapped(bytes, 9, "\r\n--b0\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n"),
        "aws-frames" => wrapped(bytes, 9, &format!("\r\n9;chunk-signature={}\r\n", "0123456789abcdef".repeat(4))),
        "aws-plain-frames" => wrapped(bytes, 9, "\r\n9\r\n"),
        "qp-some" => {
            each(
                bytes,
                |byte| {
                    if byte.is_ascii_lowercase() { format!("={byte:02X}") } else { char::from(byte).to_string() }
                },
            )
        }
        "pct-u" => each(bytes, |byte| format!("%u{byte:04x}")),
        "big-u" => each(bytes, |byte| format!("\\U{byte:08x}")),
        "one-u" => [format!("\\u{:04x}", bytes[0]).as_bytes(), &bytes[1..]].concat(),
        "chr-plus" => list(bytes, " + ", |byte| format!("chr({byte})")),
        "chr-dots" => list(bytes, ".", |byte| format!("chr(0x{byte:x})")),
        "char-concat" => list(bytes, " || ", |byte| format!("CHAR({byte})")),
        "dot-chr" => list(bytes, " + ", |byte| format!("{byte}.chr")),
        "rot13" => each(bytes, |byte| {
            let turned = |first: u8| char::from(first + (byte - first + 13) % 26);
            match byte {
                b'a'..=b'z' => turned(b'a'),
                b'A'..=b'Z' => turned(b'A'),
                _ => char::from(byte),
            }
            .to_string()
        }),
        "utf7" => each(bytes, |byte| {
            format!("+{}-", String::from_utf8(put("b64url", &[0, byte])).expect("text").trim_end_matches('='))
        }),
        "css" => each(bytes, |byte| format!("\\{byte:x} ")),
        "b58" => base_of(bytes, b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"),
        "interleaved" => each(bytes, |byte| format!("{}q", char::from(byte))),
        "b85" => {
            base85(bytes, b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~")
        }
        "z85" => {
            base85(bytes, b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")
        }
        "a85" => base85(bytes, &std::array::from_fn(|at| b'!' + u8::try_from(at).expect("small"))),
        "uu" => dump_of(bytes, 45, |line| {
            let digit = |value: u8| char::from(if value == 0 { b'`' } else { b' ' + value });
            let bits: Vec<u8> = line.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
            let full = bits.iter().copied().chain(std::iter::repeat(0)).take(line.len().div_ceil(3) * 24);
            let full: Vec<u8> = full.collect();
            let digits: String =
                full.chunks(6).map(|six| digit(six.iter().fold(0, |all, bit| all << 1 | bit))).collect();
            format!("{}{digits}\n", digit(u8::try_from(line.len()).expect("short")))
        }),
        "git-patch" => {
            let lines = dump_of(&put("zlib", bytes), 52, |line| {
                let length = u8::try_from(line.len()).expect("short");
                let first = if length <= 26 { b'A' + length - 1 } else { b'a' + length - 27 };
                let padded = [line, &vec![0; line.len().next_multiple_of(4) - line.len()]].concat();
                format!("{}{}\n", char::from(first), String::from_utf8(put("b85", &padded)).expect("text"))
            });
            [format!("literal {}\n", bytes.len()).as_bytes(), &lines, b"\n"].concat()
        }
        "json-text" => text().replace('\n', "\\n").replace('"', "\\\"").into_bytes(),
        "b32" => base32(bytes),
        "pct" => each(bytes, |byte| format!("%{byte:02X}")),
        // Only what needs none.
        "pct-some" => {
            each(
                bytes,
                |byte| if byte.is_ascii_lowercase() { format!("%{byte:02x}") } else { char::from(byte).to_string() },
            )
        }
        "json-u" => each(bytes, |byte| format!("\\u{byte:04x}")),
        "js-x" => each(bytes, |byte| format!("\\x{byte:02x}")),
        "js-brace" => each(bytes, |byte| format!("\\u{{{byte:x}}}")),
        "html" => each(bytes, |byte| format!("&#{byte};")),
        "html-x" => each(bytes, |byte| format!("&#x{byte:x};")),
        "qp" => {
            let coded = each(bytes, |byte| {
                if byte == b'_' || byte == b'-' { format!("={byte:02X}") } else { char::from(byte).to_string() }
            });
            [wrapped(&coded[..coded.len() / 2], 9, "=\r\n"), b"=\r\n".to_vec(), coded[coded.len() / 2..].to_vec()]
                .concat()
        }
        "lines76" => wrapped(bytes, 76, "\n"),
        "crlf76" => wrapped(bytes, 76, "\r\n"),
        "lines4" => wrapped(bytes, 4, "\n"),
        "lines7" => wrapped(bytes, 7, "\n"),
        "lines20" => wrapped(bytes, 20, "\n"),
        "lines64" => wrapped(bytes, 64, "\n"),
        "crlf20" => wrapped(bytes, 20, "\r\n"),
        "crlf64" => wrapped(bytes, 64, "\r\n"),
        "tab-lines" => wrapped(bytes, 40, "\n\t"),
        "quoted-lines" => wrapped(bytes, 20, "\n> "),
        "comment-lines" => wrapped(bytes, 32, "\n# "),
        "slash-comment-lines" => wrapped(bytes, 32, "\n// "),
        "backslash-lines" => wrapped(bytes, 20, "\\\n"),
        "yaml-json" => wrapped(bytes, 20, "\\n    "),
        "json-lines" => wrapped(bytes, 76, "\\n"),
        "yaml-lines" => wrapped(bytes, 20, "\n    "),
        "dashes" => wrapped(bytes, 1, "-"),
        "spaces" => wrapped(bytes, 1, " "),
        "dots" => wrapped(bytes, 6, "."),
        "list" => [&b"[\""[..], &wrapped(bytes, 3, "\", \""), b"\"]"].concat(),
        "pairs" => bytes
            .chunks(6)
            .enumerate()
            .map(|(at, part)| format!("p{at}={}", String::from_utf8_lossy(part)))
            .collect::<Vec<_>>()
            .join("&")
            .into_bytes(),
        "single-pairs" => bytes
            .iter()
            .enumerate()
            .map(|(at, byte)| format!("k{at}={}", char::from(*byte)))
            .collect::<Vec<_>>()
            .join("&")
            .into_bytes(),
        "segments" => wrapped(bytes, 5, "/"),
        "events" => bytes
            .chunks(6)
            .map(|part| format!("event: delta\ndata: {{\"text\":\"{}\"}}\n\n", String::from_utf8_lossy(part)))
            .collect::<String>()
            .into_bytes(),
        "parts" => bytes
            .chunks(6)
            .enumerate()
            .map(|(at, part)| {
                format!(
                    "--b0\r\nContent-Disposition: form-data; name=\"f{at}\"\r\n\r\n{}\r\n",
                    String::from_utf8_lossy(part)
                )
            })
            .collect::<String>()
            .into_bytes(),
        "backwards" => bytes.iter().rev().copied().collect(),
        "upper" => bytes.to_ascii_uppercase(),
        "utf16le" => text().encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "utf16be" => text().encode_utf16().flat_map(u16::to_be_bytes).collect(),
        "utf32" => text().chars().flat_map(|char| u32::from(char).to_le_bytes()).collect(),
        "wide" => each(bytes, |byte| char::from_u32(u32::from(byte) + 0xfee0).expect("full width").to_string()),
        "bold" => each(bytes, |byte| {
            match byte {
                b'a'..=b'z' => char::from_u32(0x1d41a + u32::from(byte - b'a')),
                b'A'..=b'Z' => char::from_u32(0x1d400 + u32::from(byte - b'A')),
                b'0'..=b'9' => char::from_u32(0x1d7ce + u32::from(byte - b'0')),
                _ => Some(char::from(byte)),
            }
            .expect("bold")
            .to_string()
        }),
        "cyrillic" => each(bytes, cyrillic),
        "zero-width" => each(bytes, |byte| format!("{}\u{200b}", char::from(byte))),
        "soft-hyphen" => each(bytes, |byte| format!("{}\u{ad}", char::from(byte))),
        "bidi" => {
            format!("\u{202e}{}\u{202c}", text().chars().map(|char| format!("{char}\u{2060}")).collect::<String>())
                .into_bytes()
        }
        "accents" => each(bytes, |byte| format!("{}\u{301}", char::from(byte))),
        "nuls" => each(bytes, |byte| format!("{}\0", char::from(byte))),
        "gzip" => {
            let mut out = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
            out.write_all(bytes).expect("packed");
            out.finish().expect("packed")
        }
        "gzip-named" => {
            let mut out = flate2::GzBuilder::new()
                .filename("a-name.txt")
                .comment("for you")
                .extra(vec![1, 2, 3])
                .write(vec![], flate2::Compression::best());
            out.write_all(bytes).expect("packed");
            out.finish().expect("packed")
        }
        "gzip-second" => [put("gzip", b"nothing here"), put("gzip", bytes)].concat(),
        "gzip-cut" => {
            let whole = put("gzip", bytes);
            whole[..whole.len() - 12].to_vec()
        }
        "bomb" => put("gzip", &[bytes, &vec![0; 30 << 20]].concat()).repeat(5),
        "zeros" => put("gzip", &[bytes, &vec![0; 20 << 20]].concat()),
        "zlib" => {
            let mut out = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::default());
            out.write_all(bytes).expect("packed");
            out.finish().expect("packed")
        }
        "deflate" => {
            let mut out = flate2::write::DeflateEncoder::new(vec![], flate2::Compression::default());
            out.write_all(bytes).expect("packed");
            out.finish().expect("packed")
        }
        "zip" => {
            let packed = put("deflate", bytes);
            let mut out = b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0".to_vec();
            for number in [packed.len(), bytes.len()] {
                out.extend(u32::try_from(number).expect("small").to_le_bytes());
            }
            [out, b"\x05\0\0\0a.txt".to_vec(), packed, b"PK\x01\x02 and so on".to_vec()].concat()
        }
        "br" => {
            let mut out = vec![];
            brotli::CompressorReader::new(bytes, 4096, 9, 22).read_to_end(&mut out).expect("packed");
            out
        }
        "zstd" => ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest),
        "bzip2" => {
            let mut out = vec![];
            bzip2::read::BzEncoder::new(bytes, bzip2::Compression::best()).read_to_end(&mut out).expect("packed");
            out
        }
        "xz" => {
            let mut out = lzma_rust2::XzWriter::new(vec![], lzma_rust2::XzOptions::with_preset(6)).expect("packed");
            out.write_all(bytes).expect("packed");
            out.finish().expect("packed")
        }
        "lzip" => {
            let mut out = lzma_rust2::LzipWriter::new(vec![], lzma_rust2::LzipOptions::with_preset(6));
            out.write_all(bytes).expect("packed");
            out.finish().expect("packed")
        }
        "lzma" => {
            let options = lzma_rust2::LzmaOptions::with_preset(6);
            let mut out = lzma_rust2::LzmaWriter::new_use_header(vec![], &options, None).expect("packed");
            out.write_all(bytes).expect("packed");
            out.finish().expect("packed")
        }
        "lz4" => {
            let mut out = lz4_flex::frame::FrameEncoder::new(vec![]);
            out.write_all(bytes).expect("packed");
            out.finish().expect("packed")
        }
        "7z" => {
            let mut out = sevenz_rust2::ArchiveWriter::new(std::io::Cursor::new(vec![])).expect("packed");
            out.push_archive_entry(sevenz_rust2::ArchiveEntry::new_file("a.txt"), Some(bytes)).expect("packed");
            out.finish().expect("packed").into_inner()
        }
        "tar" => {
            let mut head = vec![0; 512];
            head[..5].copy_from_slice(b"a.txt");
            head[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
            head[257..262].copy_from_slice(b"ustar");
            [head, bytes.to_vec(), vec![0; bytes.len().next_multiple_of(512) - bytes.len() + 1024]].concat()
        }
        "noise" => [noise(9000), bytes.to_vec(), noise(5000)].concat(),
        other => panic!("{other} is no form"),
    }
}

/// Pieces of this many bytes, each in this form.
fn dump_of(bytes: &[u8], size: usize, form: impl Fn(&[u8]) -> String) -> Vec<u8> {
    bytes.chunks(size).map(form).collect::<String>().into_bytes()
}

/// All bytes as one number, in these digits.
fn base_of(bytes: &[u8], digits: &[u8]) -> Vec<u8> {
    let (mut left, mut out) = (bytes.to_vec(), vec![]);
    while left.iter().any(|byte| *byte != 0) {
        let mut rest = 0;
        for byte in &mut left {
            let value = rest << 8 | usize::from(*byte);
            *byte = u8::try_from(value / digits.len()).expect("small");
            rest = value % digits.len();
        }
        out.insert(0, digits[rest]);
    }
    out
}

fn base85(bytes: &[u8], digits: &[u8; 85]) -> Vec<u8> {
    let mut out = vec![];
    for four in bytes.chunks(4) {
        let value = four.iter().chain(&[0; 4]).take(4).fold(0usize, |value, byte| value << 8 | usize::from(*byte));
        let group = (0..5u32).rev().map(|place| digits[value / 85usize.pow(place) % 85]);
        out.extend(group.take(four.len() + 1));
    }
    out
}

/// Bytes without a pattern, always the same.
fn noise(count: usize) -> Vec<u8> {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

fn base32(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let digit = |part: &[u8]| part.iter().chain(&[0; 5]).take(5).fold(0, |value, bit| value << 1 | usize::from(*bit));
    bits.chunks(5).map(|part| b"abcdefghijklmnopqrstuvwxyz234567"[digit(part)]).collect()
}
