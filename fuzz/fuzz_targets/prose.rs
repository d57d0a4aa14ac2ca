//! Any text, cleaned: what comes out goes in again unchanged, and has nothing in it that nobody sees.
#![no_main]

use bottle_plan::prose;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let cleaners = [
        prose::for_prompt,
        prose::for_posting,
        prose::code_for_prompt,
        prose::plain_for_posting,
        prose::line_for_prompt,
        prose::line_for_posting,
    ];
    for clean in cleaners {
        let once = clean(text);
        assert!(!once.text.contains(prose::invisible), "{:?}", once.text);
        let twice = clean(&once.text);
        assert_eq!(once.text, twice.text);
        assert!(twice.removed.is_empty(), "{}", twice.removed);
    }
    for start in prose::lines(text) {
        assert!(text.is_char_boundary(start));
    }
});
