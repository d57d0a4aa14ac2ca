//! The canary: a secret of one run that nobody has any use for, planted in the guest and known to the doors; and the places at the
//! doors that lead nowhere, to which the self-test sends it.

/// The canary's name among the secrets of a run, and of its file in the bundle.
pub const CANARY: &str = "BOTTLE_CANARY";

/// The host for which the outgoing doors judge a request and send it nowhere. No name below `invalid` ever resolves (RFC 6761).
pub const SELF_TEST_HOST: &str = "self-test.invalid";

/// The repository at the gate that has no upstream: a push to it is judged and never forwarded.
pub const SELF_TEST_REPO: &str = "bottle-self-test";

/// The one branch that may be pushed there.
pub const SELF_TEST_REF: &str = "refs/heads/self-test";

/// The tool of the MCP server that the self-test calls, and that does nothing.
pub const SELF_TEST_TOOL: &str = "self_test";
