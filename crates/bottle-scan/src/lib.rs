//! Searching bytes: token formats and the secrets that the bottle knows, in whatever form they leave in.
//!
//! Map: `dlp` (rules, encodings, unpackers, streams; its own page has more), `dlp_rules.toml` and `answer_rules.toml` (the
//! rules as data), `known` (known secrets: found and masked), `aws_keys` (a value with several in it), `texts` (what else a pushed file says: archives, wide
//! characters), `envelope` (gRPC's messages), `websocket` (frames, and what is searched in them).
//!
//! Always: bytes in, findings out; a finding never holds the value that was found. Input that can't be looked into is a
//! finding too. No clock, no file system, no environment, no process, no network, no tokio. What a finding leads to (block,
//! ask, pass) is decided in `bottle-policy`.

pub mod aws_keys;
pub mod dlp;
pub mod envelope;
pub mod known;
pub mod texts;
pub mod websocket;
