//! Any bytes after CONNECT, in any pieces: the same verdict as in one piece, and what is taken for a hello of the host is one.
#![no_main]

use std::sync::LazyLock;

use bottle_types::host::HostName;
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/bottle-sidecars/src/proxy/client_hello.rs"]
#[expect(dead_code, reason = "the doors use all of it, this target a part")]
mod client_hello;
mod pieces;

use pieces::{Pieces, RUNTIME};

static HOST: LazyLock<HostName> = LazyLock::new(|| HostName::parse("api.example.com").expect("a host"));

/// A vector as TLS writes it: its length in so many bytes, then its content.
fn vector(width: usize, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("short").to_be_bytes();
    [&length[4 - width..], content].concat()
}

/// A hello as a client of TLS 1.3 sends it, with this name.
fn good(name: &[u8]) -> Vec<u8> {
    let extension = |id: u16, content: &[u8]| [&id.to_be_bytes()[..], &vector(2, content)].concat();
    let extensions = [
        extension(0, &vector(2, &[&[0][..], &vector(2, name)].concat())),
        extension(10, &vector(2, &[0, 29, 0, 23])),
        extension(13, &vector(2, &[4, 3, 8, 4, 8, 7])),
        extension(16, &vector(2, &[vector(1, b"h2"), vector(1, b"http/1.1")].concat())),
        extension(43, &vector(1, &[3, 4, 3, 3])),
        extension(51, &vector(2, &[&[0, 29][..], &vector(2, &[9; 32])].concat())),
    ];
    let body = [
        &[3, 3][..],
        &[7; 32],
        &vector(1, &[8; 32]),
        &vector(2, &[0x13, 1, 0x13, 2, 0xc0, 0x2f]),
        &vector(1, &[0]),
        &vector(2, &extensions.concat()),
    ];
    [&[1][..], &vector(3, &body.concat())].concat()
}

/// The content of the handshake's records, one after the other.
fn content(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![];
    while let [22, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        all.extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    all
}

fn verdict(bytes: &[u8], sizes: &[u8]) -> Result<(), &'static str> {
    let stream = Pieces::new(bytes, sizes);
    RUNTIME.block_on(client_hello::read(stream, &HOST)).map(|_| ()).map_err(|(reason, _)| reason)
}

fuzz_target!(|input: (u8, Vec<u8>, Vec<(u16, u8)>, Vec<u8>, Vec<u8>)| {
    let (kind, sizes, edits, records, raw) = input;
    let bytes = if kind % 4 == 0 {
        raw
    } else {
        let mut hello = match kind % 4 {
            1 => good(b"api.example.com"),
            _ => good(&raw),
        };
        for (at, byte) in edits {
            let length = hello.len();
            hello[usize::from(at) % length] = byte;
        }
        // In one record or in several.
        let mut bytes = vec![];
        let mut rest = &hello[..];
        let mut lengths = records.iter().map(|length| usize::from(*length));
        while !rest.is_empty() {
            let (now, later) = rest.split_at(lengths.next().unwrap_or(rest.len()).min(rest.len()));
            bytes.extend([&[22, 3, 1][..], &vector(2, now)].concat());
            rest = later;
        }
        bytes
    };
    let whole = verdict(&bytes, &[]);
    assert_eq!(whole, verdict(&bytes, &sizes), "in pieces");
    if whole.is_ok() {
        let content = content(&bytes).to_ascii_lowercase();
        assert_eq!(content.first(), Some(&1), "taken for a hello");
        assert!(content.windows(HOST.as_str().len()).any(|part| part == HOST.as_str().as_bytes()), "it names no host");
    }
});
