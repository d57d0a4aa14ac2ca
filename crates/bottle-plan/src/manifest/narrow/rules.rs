//! What a manifest may say about each key where a policy holds. A key that is not here may not differ at all.

use super::items;

/// What may be said about a key.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// A mapping of keys of the format. One that is left out is the policy's.
    Keys,
    /// The same, and it is there if and only if the policy has it.
    KeysAsThere,
    /// A mapping of keys of the format that stands in place of the policy's, and is there only where the policy has it.
    Granted,
    /// A mapping by names, of which each must be the policy's. One that is left out is the policy's.
    Names,
    /// The same, but it stands in place of the policy's.
    NamesInPlace,
    /// The same of `outputs`, which without the key is a branch.
    Outputs,
    /// A mapping by names, in which a name that the policy does not have is the manifest's own.
    NamesAndOwn,
    /// The same of MCP servers, where an own one is a program in the guest.
    Servers,
    /// A list of repositories: the policy's, by their `name`, in its order.
    Repositories,
    /// The manifest's own.
    Own,
    /// The policy's where it says one, else the manifest's own.
    Kept,
    /// As the policy has it, or both say nothing.
    Same,
    /// A number, a size or a time, at most the policy's; none: no limit, or this one.
    AtMost(Option<&'static str>),
    /// May be true only where it is in the policy; none: false.
    TrueIfThere,
    /// Must be true where it is in the policy; none: as given here.
    TrueAsThere(bool),
    /// One of these words, none behind the policy's; the last is what holds where nothing is said.
    UpTo(&'static [&'static str]),
    /// A list of which each item must be in the policy's.
    Within,
    /// A list in which each item of the policy's must be.
    Beyond,
    /// A list or another value with a comparison of its own.
    By(items::Compare),
    /// It is compared with what belongs to it, in `routes`.
    WithRoutes,
}

/// The rule of each key; `*` is any name or item.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("version", Rule::Same),
    ("extends", Rule::Own),
    ("plain_http", Rule::Within),
    ("proxy", Rule::Same),
    ("credentials", Rule::Names),
    ("credentials.*", Rule::Same),
    ("triggers", Rule::Keys),
    ("triggers.mention", Rule::Same),
    ("triggers.labels", Rule::NamesInPlace),
    ("triggers.labels.*", Rule::Same),
    ("triggers.assignees", Rule::NamesInPlace),
    ("triggers.assignees.*", Rule::Same),
    ("triggers.who", Rule::Keys),
    ("triggers.who.permission", Rule::UpTo(&["admin", "maintain", "write", "triage", "read"])),
    ("triggers.who.bots", Rule::Within),
    ("bottles", Rule::Names),
    ("bottles.*", Rule::Keys),
    ("bottles.*.image", Rule::WithRoutes),
    ("bottles.*.env", Rule::NamesAndOwn),
    ("bottles.*.env.*", Rule::Same),
    ("bottles.*.model", Rule::KeysAsThere),
    ("bottles.*.model.provider", Rule::Same),
    ("bottles.*.model.region", Rule::Same),
    ("bottles.*.model.project", Rule::Same),
    ("bottles.*.model.resource", Rule::Same),
    ("bottles.*.model.upstream", Rule::Same),
    ("bottles.*.model.models", Rule::By(items::models)),
    ("bottles.*.model.from", Rule::Same),
    ("bottles.*.model.bearer", Rule::Same),
    ("bottles.*.model.access_key_id", Rule::Same),
    ("bottles.*.model.secret_access_key", Rule::Same),
    ("bottles.*.model.session_token", Rule::Same),
    ("bottles.*.resources", Rule::Keys),
    ("bottles.*.resources.cpus", Rule::AtMost(None)),
    ("bottles.*.resources.memory", Rule::AtMost(None)),
    ("bottles.*.resources.pids", Rule::AtMost(None)),
    ("bottles.*.egress", Rule::Keys),
    ("bottles.*.egress.routes", Rule::WithRoutes),
    ("bottles.*.egress.presets", Rule::WithRoutes),
    ("bottles.*.pipelock", Rule::Keys),
    ("bottles.*.pipelock.dlp", Rule::UpTo(&["block", "warn", "off"])),
    ("bottles.*.pipelock.allow_private", Rule::By(items::networks_within)),
    ("bottles.*.pipelock.internal", Rule::By(items::networks_beyond)),
    ("bottles.*.pipelock.passthrough", Rule::By(items::hosts)),
    ("bottles.*.pipelock.max_request_bytes", Rule::AtMost(None)),
    ("bottles.*.pipelock.responses", Rule::UpTo(&["block", "warn", "off"])),
    ("bottles.*.pipelock.max_response_bytes", Rule::AtMost(None)),
    ("bottles.*.pipelock.limits", Rule::Keys),
    ("bottles.*.pipelock.limits.requests", Rule::AtMost(None)),
    ("bottles.*.pipelock.limits.bytes_out", Rule::AtMost(None)),
    ("bottles.*.pipelock.limits.hosts", Rule::AtMost(None)),
    ("bottles.*.pipelock.limits.requests_per_host", Rule::AtMost(None)),
    ("bottles.*.pipelock.limits.bytes_out_per_host", Rule::AtMost(None)),
    ("bottles.*.pipelock.limits.names", Rule::AtMost(Some("512"))),
    ("bottles.*.pipelock.api_allowlist", Rule::By(items::hosts)),
    ("bottles.*.pipelock.patterns", Rule::Beyond),
    ("bottles.*.pipelock.detect", Rule::Beyond),
    ("bottles.*.pipelock.exemptions", Rule::By(items::dlp_exemptions)),
    ("bottles.*.git", Rule::Repositories),
    ("bottles.*.git.*", Rule::Keys),
    ("bottles.*.git.*.name", Rule::Same),
    ("bottles.*.git.*.upstream", Rule::Same),
    ("bottles.*.git.*.identity_file", Rule::Same),
    ("bottles.*.git.*.deploy_key", Rule::Same),
    ("bottles.*.git.*.known_host_key", Rule::Same),
    ("bottles.*.git.*.extra_hosts", Rule::Same),
    ("bottles.*.git.*.token_from", Rule::Same),
    ("bottles.*.git.*.max_lfs_bytes", Rule::AtMost(Some("5GiB"))),
    ("bottles.*.git.*.history", Rule::Own),
    ("bottles.*.git.*.sparse", Rule::Own),
    ("bottles.*.git.*.push", Rule::Keys),
    ("bottles.*.git.*.push.refs", Rule::WithRoutes),
    ("bottles.*.git.*.push.protect_paths", Rule::Beyond),
    ("bottles.*.git.*.push.tags", Rule::WithRoutes),
    ("bottles.*.git.*.push.max_blob_bytes", Rule::AtMost(None)),
    ("bottles.*.git.*.push.max_push_bytes", Rule::AtMost(None)),
    ("bottles.*.git.*.push.max_files", Rule::AtMost(None)),
    ("bottles.*.git.*.push.max_lines", Rule::AtMost(None)),
    ("bottles.*.git.*.push.max_new_binaries", Rule::AtMost(None)),
    ("bottles.*.git.*.push.commits", Rule::Keys),
    ("bottles.*.git.*.push.commits.authors", Rule::By(items::authors)),
    ("bottles.*.git.*.push.commits.message", Rule::Kept),
    ("bottles.*.git.*.push.commits.sign_off", Rule::TrueAsThere(false)),
    ("bottles.*.git.*.push.commits.trailers", Rule::Beyond),
    ("bottles.*.git.*.push.hold", Rule::Keys),
    ("bottles.*.git.*.push.hold.paths", Rule::Beyond),
    ("bottles.*.git.*.push.hold.rules", Rule::Within),
    ("bottles.*.git.*.push.hold.size", Rule::AtMost(None)),
    ("bottles.*.gate", Rule::Keys),
    ("bottles.*.gate.exemptions", Rule::By(items::finding_exemptions)),
    ("bottles.*.gate.base_allowlists", Rule::TrueIfThere),
    ("bottles.*.signing", Rule::KeysAsThere),
    ("bottles.*.signing.ssh", Rule::Keys),
    ("bottles.*.signing.ssh.from", Rule::Same),
    ("bottles.*.signing.name", Rule::Same),
    ("bottles.*.signing.email", Rule::Same),
    ("bottles.*.signing.any_author", Rule::TrueIfThere),
    ("bottles.*.signing.required", Rule::TrueAsThere(true)),
    ("bottles.*.supervise", Rule::Keys),
    ("bottles.*.supervise.approval", Rule::By(items::approval)),
    ("bottles.*.supervise.timeout", Rule::AtMost(None)),
    ("bottles.*.supervise.auto", Rule::By(items::auto)),
    ("bottles.*.directory", Rule::Own),
    ("bottles.*.setup", Rule::Keys),
    ("bottles.*.setup.script", Rule::Own),
    ("bottles.*.setup.from", Rule::Own),
    ("bottles.*.setup.run", Rule::Own),
    ("bottles.*.setup.egress", Rule::Keys),
    ("bottles.*.setup.egress.routes", Rule::WithRoutes),
    ("bottles.*.setup.egress.presets", Rule::WithRoutes),
    ("bottles.*.setup.time", Rule::AtMost(Some("30m"))),
    ("bottles.*.setup.cache", Rule::Own),
    ("bottles.*.setup.cache_max_size", Rule::AtMost(Some("2GiB"))),
    ("bottles.*.setup.skip_on_hit", Rule::Own),
    ("bottles.*.services", Rule::Names),
    ("bottles.*.services.*", Rule::Keys),
    ("bottles.*.services.*.image", Rule::Same),
    ("bottles.*.services.*.command", Rule::Same),
    ("bottles.*.services.*.user", Rule::Same),
    ("bottles.*.services.*.program", Rule::Same),
    ("bottles.*.services.*.env", Rule::Same),
    ("bottles.*.services.*.generate", Rule::Same),
    ("bottles.*.services.*.ports", Rule::Same),
    ("bottles.*.services.*.health", Rule::Same),
    ("bottles.*.services.*.time", Rule::AtMost(None)),
    ("bottles.*.services.*.resources", Rule::Keys),
    ("bottles.*.services.*.resources.cpus", Rule::AtMost(None)),
    ("bottles.*.services.*.resources.memory", Rule::AtMost(None)),
    ("bottles.*.services.*.resources.pids", Rule::AtMost(None)),
    ("agents", Rule::Names),
    ("agents.*", Rule::Keys),
    // Without it the policy has one bottle, and no other can be named.
    ("agents.*.bottle", Rule::Kept),
    ("agents.*.prompt", Rule::Own),
    ("agents.*.skills", Rule::Own),
    ("agents.*.mcp", Rule::Servers),
    ("agents.*.mcp.*", Rule::Keys),
    ("agents.*.mcp.*.command", Rule::Same),
    ("agents.*.mcp.*.env", Rule::Same),
    ("agents.*.mcp.*.url", Rule::Same),
    ("agents.*.mcp.*.auth", Rule::Same),
    ("agents.*.mcp.*.tools", Rule::By(items::tools)),
    ("agents.*.mcp.*.methods", Rule::Within),
    ("agents.*.mcp.*.descriptions", Rule::Kept),
    ("agents.*.settings", Rule::Kept),
    ("agents.*.hooks", Rule::By(items::hooks)),
    ("agents.*.base_files", Rule::Beyond),
    ("agents.*.plugins", Rule::Own),
    ("agents.*.model", Rule::Kept),
    ("agents.*.limits", Rule::Keys),
    ("agents.*.limits.turns", Rule::AtMost(None)),
    ("agents.*.limits.time", Rule::AtMost(None)),
    ("agents.*.limits.cost_usd", Rule::AtMost(None)),
    ("agents.*.limits.tokens", Rule::AtMost(None)),
    ("agents.*.limits.requests", Rule::AtMost(None)),
    ("agents.*.limits.prices", Rule::Same),
    ("agents.*.verify", Rule::By(items::verify)),
    ("agents.*.labels", Rule::Within),
    ("agents.*.outputs", Rule::Outputs),
    ("agents.*.outputs.branch", Rule::Granted),
    ("agents.*.outputs.comment", Rule::Granted),
    ("agents.*.outputs.comment.max", Rule::AtMost(None)),
    ("agents.*.outputs.labels", Rule::Granted),
    ("agents.*.outputs.labels.allowed", Rule::Within),
    ("agents.*.outputs.labels.max", Rule::AtMost(None)),
    ("agents.*.outputs.review", Rule::Granted),
    ("agents.*.outputs.review.max", Rule::AtMost(None)),
    ("agents.*.outputs.review.paths", Rule::By(items::paths_or_every)),
    ("agents.*.outputs.review.suggestions", Rule::TrueIfThere),
    ("agents.*.outputs.issue", Rule::Granted),
    ("agents.*.outputs.issue.max", Rule::AtMost(None)),
    ("agents.*.outputs.issue.title_prefix", Rule::By(items::longer)),
    ("agents.*.outputs.issue.labels", Rule::Within),
    ("agents.*.outputs.close", Rule::Granted),
    ("agents.*.outputs.close.reasons", Rule::Within),
    ("agents.*.outputs.check", Rule::Granted),
    ("agents.*.outputs.check.names", Rule::Within),
    ("agents.*.outputs.json", Rule::Same),
    ("agents.*.outputs.file", Rule::Granted),
    ("agents.*.outputs.file.paths", Rule::By(items::paths)),
    ("agents.*.outputs.file.max", Rule::AtMost(None)),
    ("agents.*.outputs.file.max_bytes", Rule::AtMost(None)),
    ("agents.*.outputs.sarif", Rule::Granted),
    ("agents.*.outputs.sarif.max", Rule::AtMost(None)),
    ("agents.*.outputs.sarif.paths", Rule::By(items::paths_or_every)),
    ("agents.*.artifacts", Rule::Granted),
    ("agents.*.artifacts.paths", Rule::By(items::paths)),
    ("agents.*.artifacts.max", Rule::AtMost(None)),
    ("agents.*.artifacts.max_bytes", Rule::AtMost(None)),
    ("agents.*.attachments", Rule::By(items::attachments)),
    ("agents.*.resume", Rule::Same),
];

/// The rule of a key.
pub(super) fn rule(pattern: &str) -> Rule {
    RULES.iter().find(|(own, _)| *own == pattern).map_or(Rule::Same, |(_, rule)| *rule)
}

/// The patterns of which the keys of a manifest are, from the top to a path.
pub(super) fn pattern(path: &[&str]) -> String {
    let mut pattern = String::new();
    for step in path {
        let is_name = matches!(
            rule(&pattern),
            Rule::Names | Rule::NamesInPlace | Rule::NamesAndOwn | Rule::Servers | Rule::Repositories
        );
        if !pattern.is_empty() {
            pattern.push('.');
        }
        pattern.push_str(if is_name { "*" } else { step });
    }
    pattern
}
