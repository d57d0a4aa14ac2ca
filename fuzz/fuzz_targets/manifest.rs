//! Any bytes as a manifest: no panic, and what is read is written back as the same.
#![no_main]

use bottle_plan::manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(read) = manifest::parse(text, "claude-bottle.yml") {
        let written = serde_json::to_string(&read).expect("JSON");
        let again =
            manifest::parse(&written, "claude-bottle.json").unwrap_or_else(|error| panic!("{error}\n{written}"));
        assert_eq!(read, again);
    }
});
