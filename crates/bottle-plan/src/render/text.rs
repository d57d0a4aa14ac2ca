//! The plan for a person who wants to know what a run will do before it does.

use std::fmt::Write as _;

use bottle_policy::artifacts::{ArtifactPolicy, ArtifactRules};
use bottle_policy::forge_read::ForgeReadRules;
use bottle_policy::gate::Upstream;
use bottle_policy::outputs::{AnswerSchema, OutputKind};
use bottle_policy::route::{Outbound, Route, Scheme};
use bottle_types::backend::Backend;
use bottle_types::door::Door;

use crate::plan::{BottlePlan, Bring, PresetPlan, SecretSource, ServicePlan, ServiceSource, VERIFY_TIMEOUT};
use crate::task::{Form, Source};

/// About so many bytes of English are a token.
const BYTES_PER_TOKEN: usize = 4;

/// The plan for people.
pub fn text(plan: &BottlePlan) -> String {
    let mut out = Page(String::new());
    out.entry("run", &plan.slug.to_string());
    if plan.dry_run {
        out.more("dry run: nothing leaves");
    }
    if let Some(replay) = &plan.replay {
        out.more(&format!("the model's replies come from {replay}"));
    }
    task(&mut out, plan);
    let model = plan.agent.model.as_deref().unwrap_or("Claude Code's own choice of model");
    out.entry("agent", &format!("{}, {model}", plan.agent.name));
    for skill in &plan.skills {
        out.more(&format!("skill {}", skill.directory.from));
    }
    if let Some(instructions) = &plan.prompt.instructions {
        out.more(&format!("instructions {}", instructions.from));
    }
    let own = plan.prompt.own_bytes();
    out.entry(
        "prompt",
        &format!(
            "{own} bytes of rules, some {} tokens in each request, and {} of the task",
            own.div_ceil(BYTES_PER_TOKEN),
            plan.prompt.task_bytes
        ),
    );
    tools(&mut out, plan);
    model_place(&mut out, plan);
    outputs(&mut out, plan);
    bottle(&mut out, plan);
    doors(&mut out, plan);
    proxy(&mut out, plan);
    credentials(&mut out, plan);
    git(&mut out, plan);
    limits(&mut out, plan);
    plan.services.iter().enumerate().for_each(|(index, one)| service(&mut out, index, one));
    setup(&mut out, plan);
    verify(&mut out, plan);
    if let Some(ArtifactPolicy { rules, .. }) = &plan.test_reports {
        out.entry("test reports", &rules.paths.join(" "));
    }
    if let Some(ArtifactPolicy { rules, .. }) = &plan.artifacts {
        let ArtifactRules { paths, max, max_bytes } = rules;
        out.entry("artifacts", &format!("{}, up to {max} files of {max_bytes} together", paths.join(" ")));
    }
    origins(&mut out, plan);
    out.entry("record", &plan.state_dir);
    for (index, note) in plan.notes.iter().enumerate() {
        out.item(index, "note", note);
    }
    out.0
}

/// The policies, and where each rule stands.
fn origins(out: &mut Page, plan: &BottlePlan) {
    let Some(origins) = &plan.origins else { return };
    for (index, policy) in origins.policies.iter().enumerate() {
        out.item(index, "policy", &format!("{} (sha256 {})", policy.name, policy.sha256));
    }
    for (index, rule) in origins.rules.iter().enumerate() {
        out.item(index, "rules", &format!("{rule} {}", rule.text));
    }
}

/// What is run afterwards, and what each command is called, needs and may.
fn verify(out: &mut Page, plan: &BottlePlan) {
    for (index, command) in plan.verify.commands.iter().enumerate() {
        out.item(index, "verify", &command.run);
        let mut facts = vec![];
        if command.name != command.run {
            facts.push(command.name.clone());
        }
        facts.extend(command.directory.iter().map(|directory| format!("in {directory}")));
        if command.timeout != VERIFY_TIMEOUT {
            facts.push(format!("at most {}", command.timeout));
        }
        facts.extend(command.needs.iter().map(|service| format!("needs {service}")));
        facts.extend(command.flaky.then(|| "flaky: run once more where it fails".to_owned()));
        if !facts.is_empty() {
            out.more(&facts.join(", "));
        }
    }
    if plan.verify.repair > 0 {
        out.more(&format!("where one fails, the agent may mend it up to {} times", plan.verify.repair));
    }
}

/// What may come of the run by a tool; the branch is among git's.
fn outputs(out: &mut Page, plan: &BottlePlan) {
    let Some(policy) = &plan.policies.supervise.outputs else { return };
    let granted = OutputKind::ALL.into_iter().filter(|kind| policy.rules.grants(*kind));
    let granted: Vec<&str> = granted.map(OutputKind::name).collect();
    out.entry("outputs", &granted.join(", "));
    match plan.agent.outputs.as_ref().and_then(|outputs| outputs.json.as_ref()) {
        Some(AnswerSchema::File(path)) => out.more(&format!("the answer fits the schema {path}")),
        Some(AnswerSchema::Inline(_)) => out.more("the answer fits the schema of the manifest"),
        None => {}
    }
}

fn task(out: &mut Page, plan: &BottlePlan) {
    let title = plan.task.title();
    let line = match (&plan.task.source, plan.task.thread()) {
        (Source::Comment { form, is_pull_request, .. }, Some(thread)) => {
            let what = match form {
                Form::Comment => "comment",
                Form::Review => "review",
                Form::ReviewComment => "review comment",
            };
            let of = if *is_pull_request { "pull request" } else { "issue" };
            format!("{what} on {of} #{}: {title}", thread.number)
        }
        (Source::PullRequest(_) | Source::Proposed(_), Some(thread)) => {
            format!("pull request #{}: {title}", thread.number)
        }
        (_, Some(thread)) => format!("issue #{}: {title}", thread.number),
        (Source::FailedRun(run), None) => format!("failed run {}: {title}", run.id),
        (Source::Schedule { cron }, None) => format!("the schedule {}", one_line(cron)),
        (_, None) => title,
    };
    out.entry("task", &line);
    if let Some(actor) = &plan.task.asked_by {
        out.more(&format!("asked by {} (id {})", actor.login, actor.id));
    }
    if plan.task.thread().is_some() && !plan.task.instruction.is_empty() {
        out.more(plan.task.instruction.lines().next().unwrap_or_default());
    }
}

/// The owner's tools, and whose files they run.
fn tools(out: &mut Page, plan: &BottlePlan) {
    let tools = &plan.tools;
    for (index, (name, command)) in tools.servers.iter().enumerate() {
        out.item(index, "mcp", &format!("{name}: {}", command.join(" ")));
    }
    let mut what: Vec<String> = tools.settings_from.iter().map(|path| format!("settings {path}")).collect();
    for (event, matchers) in &tools.hooks {
        let commands = matchers.iter().flat_map(|matcher| &matcher.hooks).map(|hook| hook.command.as_str());
        what.extend(commands.map(|command| format!("hook at {event:?}: {command}")));
    }
    what.extend(tools.plugins.iter().map(|plugin| format!("plugin {}", plugin.from)));
    what.extend(tools.base_files.iter().map(|file| format!("the base branch's {}", file.from)));
    for (index, what) in what.iter().enumerate() {
        out.item(index, "tools", what);
    }
}

/// To whom the conversation goes, where the manifest says so.
fn model_place(out: &mut Page, plan: &BottlePlan) {
    let Some(model) = &plan.model else { return };
    out.entry("model", &format!("{} at {}", model.provider.title(), model.url));
    out.more("the task, the code that is read and what commands print are sent there");
}

fn bottle(out: &mut Page, plan: &BottlePlan) {
    let backend = match plan.backend {
        Backend::Docker => "Docker",
        Backend::Smolmachines => "smolmachines",
        Backend::Bubblewrap => "bubblewrap",
    };
    out.entry("bottle", &format!("{} on {backend}", plan.agent.bottle));
    out.more(&format!("image {}", plan.images.guest));
    if let Some(made) = &plan.images.made {
        out.more(&format!("made from {} with what was granted in the run before:", made.from));
        made.lines.iter().flat_map(|lines| lines.lines()).for_each(|line| out.more(&format!("  {line}")));
    }
    if let Some(volume) = &plan.names.tools_volume {
        out.more(&format!("Claude Code and the link from {} (volume {volume})", plan.images.tools));
    }
    let resources = &plan.guest.resources;
    out.more(&format!("{} processors, {} of memory, {} processes", resources.cpus, resources.memory, resources.pids));
}

fn doors(out: &mut Page, plan: &BottlePlan) {
    let names: Vec<&str> = plan.doors.iter().map(|door| door.name()).collect();
    out.entry("doors", &names.join(", "));
    for route in &plan.policies.routes.routes {
        out.more(&format!("route {}", line_of(route)));
    }
    presets(out, &plan.presets);
    let pipelock = &plan.policies.pipelock;
    for host in &pipelock.api_allowlist {
        out.more(&format!("host {host}, any method and path"));
    }
    for host in &pipelock.tls_interception.passthrough_domains {
        out.more(&format!("host {host}, port 443: passed through, NOT INSPECTED"));
    }
    for network in &pipelock.ssrf.ip_allowlist {
        out.more(&format!("private network {network} may be reached"));
    }
    for network in &pipelock.internal {
        out.more(&format!("internal network {network} may not be reached"));
    }
    for pattern in &pipelock.dlp.patterns {
        let everywhere = if pattern.model { ", to the model too" } else { "" };
        out.more(&format!("own token format {}{everywhere}: {}", pattern.name, pattern.regex));
    }
    if !pipelock.dlp.detect.is_empty() {
        let kinds: Vec<&str> = pipelock.dlp.detect.iter().map(|kind| kind.name()).collect();
        out.more(&format!("looked for besides tokens, but not on the way to the model: {}", kinds.join(", ")));
    }
    if !plan.doors.contains(&Door::Egress) && pipelock.api_allowlist.is_empty() {
        out.more("no host may be reached");
    }
}

/// A service, and where the agent finds it.
fn service(out: &mut Page, index: usize, service: &ServicePlan) {
    let ports: Vec<String> = service.ports.iter().map(|port| format!("{}:{}", service.name, port.port)).collect();
    let what = match &service.source {
        ServiceSource::Image { image, command, .. } if command.is_empty() => format!("image {image}"),
        ServiceSource::Image { image, command, .. } => format!("image {image}: {}", command.join(" ")),
        ServiceSource::Program(program) => format!("this machine's {}", program.join(" ")),
    };
    out.item(index, "services", &format!("{}  {what}", ports.join(", ")));
    let agents: Vec<String> = service.generated.values().map(|agents| format!("${agents}")).collect();
    if !agents.is_empty() {
        out.more(&format!("with a password that is made for the run: {}", agents.join(", ")));
    }
    let health =
        service.health.as_ref().map_or_else(|| "its ports take connections".to_owned(), |health| health.clone());
    out.more(&format!("ready within {}: {health}", service.time));
}

/// Each registry of these, and the setting of the host that it comes from.
fn presets(out: &mut Page, presets: &[PresetPlan]) {
    for preset in presets {
        for registry in &preset.registries {
            out.more(&format!("preset {}: {}  (from {})", preset.preset.name(), registry.url, registry.from));
        }
    }
}

/// The commands before the agent, and the ways out that are theirs alone.
fn setup(out: &mut Page, plan: &BottlePlan) {
    let Some(setup) = &plan.setup else { return };
    let script = setup.script.iter().map(|script| script.from.as_str());
    for (index, command) in script.chain(setup.run.iter().map(String::as_str)).enumerate() {
        out.item(index, "setup", command);
    }
    for route in setup.routes.routes.iter().filter(|route| !plan.policies.routes.routes.contains(route)) {
        out.more(&format!("route {}, closed before the agent starts", line_of(route)));
    }
    presets(out, &setup.presets);
    out.more(&format!("within {}", setup.time));
    if let Some(cache) = &setup.cache {
        let locks: Vec<&str> = cache.lock_files.keys().map(String::as_str).collect();
        let by = if locks.is_empty() { "no lock file".to_owned() } else { locks.join(", ") };
        let size = bottle_types::units::ByteSize(cache.max_size);
        let skips = if cache.skip_on_hit { "; then no command runs" } else { "" };
        out.more(&format!("kept for later runs by {by}, up to {size}: {}{skips}", cache.directories.join(", ")));
    }
}

fn line_of(route: &Route) -> String {
    let mut line = String::new();
    if route.scheme == Scheme::Http {
        line.push_str("http://");
    }
    line.push_str(&route.host.to_string());
    if let Some(port) = route.port {
        let _ = write!(line, ":{port}");
    }
    let _ = write!(line, "  {}  {}", route.methods.join(" "), route.paths.join(" "));
    for (what, rules) in [("query", &route.query), ("header", &route.headers)] {
        for (name, value) in rules {
            let _ = write!(line, "  {what} {name}={value}");
        }
    }
    if route.websocket {
        line.push_str("  or a WebSocket");
    }
    if let Some(size) = route.max_bytes {
        let _ = write!(line, "  up to {size}");
    }
    if let Some(rate) = route.rate {
        let _ = write!(line, "  {rate}");
    }
    if let Some(upstream) = &route.upstream {
        let _ = write!(line, "  sent to {upstream}");
    }
    match route.dlp.outbound {
        Some(Outbound::Redact) => line.push_str("  (secrets redacted)"),
        Some(Outbound::Warn) => line.push_str("  (secrets only warned of)"),
        Some(Outbound::Ask) => line.push_str("  (a person is asked about secrets)"),
        _ => {}
    }
    if route.model {
        line.push_str("  (the model)");
    }
    if let Some(rules) = &route.mcp {
        let _ = write!(line, "  (MCP server {}: {})", rules.server, rules.tools.allow.join(", "));
    }
    if let Some(rules) = &route.forge {
        line.push_str(&forge_line(route, rules));
    }
    line
}

/// What is read at a forge, and whose words come as they are.
fn forge_line(route: &Route, rules: &ForgeReadRules) -> String {
    let list = |items: Vec<String>| items.join(", ");
    let repositories = list(rules.repositories.iter().map(ToString::to_string).collect());
    let kinds = list(rules.read.iter().map(|kind| kind.word().to_owned()).collect());
    let token = route.auth.as_ref().and_then(|auth| auth.bearer.as_ref());
    let token = token.map(|token| format!(" with the token {token}")).unwrap_or_default();
    let trusted = match rules.trust.is_empty() {
        true => "nobody's words".to_owned(),
        false => format!("words of {}", list(rules.trust.iter().map(ToString::to_string).collect())),
    };
    format!("  (reads {kinds} of {repositories}{token}; {trusted} come unmarked)")
}

/// The way from the doors to the internet, where it is a company's.
fn proxy(out: &mut Page, plan: &BottlePlan) {
    let Some(proxy) = &plan.policies.pipelock.proxy else { return };
    let user = proxy.login.as_ref().map(|login| format!(" as {}", login.user)).unwrap_or_default();
    out.entry("proxy", &format!("{}{user}", proxy.url));
    if proxy.remote_dns {
        out.more("it resolves names");
    }
    if !proxy.no_proxy.is_empty() {
        let direct: Vec<String> = proxy.no_proxy.iter().map(ToString::to_string).collect();
        out.more(&format!("not for {}", direct.join(", ")));
    }
}

fn credentials(out: &mut Page, plan: &BottlePlan) {
    for (index, secret) in plan.secrets.iter().enumerate() {
        let missing = if secret.present { "" } else { "  (not set)" };
        out.item(index, "secrets", &format!("{} for {}{missing}", secret.source, secret.used_by.join(", ")));
    }
    if plan.secrets.is_empty() {
        out.entry("secrets", "none");
    }
    if plan.secrets.iter().any(|secret| !matches!(secret.source, SecretSource::Canary(_))) {
        out.more("the guest has the canary alone, and a placeholder for what a route adds");
    }
}

fn git(out: &mut Page, plan: &BottlePlan) {
    let Some(git) = &plan.git else {
        out.entry("git", "no repository");
        return;
    };
    let base = git.base.as_deref().unwrap_or("upstream's default branch");
    out.entry("git", &format!("{} from {base}, in {}", git.branch, git.directory));
    if plan.guest.directory.is_some() {
        out.more(&format!("starts in {}", plan.guest.start()));
    }
    if let Bring::Checkout(path) = &git.bring {
        out.more(&format!("the checkout at {path} is brought along"));
    }
    if !git.sparse.is_empty() {
        out.more(&format!("checked out: the files at the top, .claude, {}", git.sparse.join(", ")));
    }
    for upstream in &plan.policies.gate.upstreams {
        if let Some(limit) = &upstream.history {
            let refs: Vec<&str> = limit.refs.iter().map(|name| name.branch().unwrap_or(name.as_str())).collect();
            let (name, commits) = (&upstream.name, limit.commits);
            out.more(&format!(
                "{name}: {commits} generations of commits, of the default branch and {}",
                refs.join(", ")
            ));
        }
        out.more(&push_line(upstream));
        for (_, rule) in upstream.push.commits.lines() {
            out.more(&format!("new commits: {rule}"));
        }
    }
    if let Some(signing) = &plan.policies.gate.signing {
        let committer = &signing.committer;
        let required = if signing.required { ", and a commit without is not pushed" } else { "" };
        let author = if signing.any_author { ", whoever the author is" } else { "" };
        out.more(&format!(
            "the gate signs commits by {} <{}> with {}{author}{required}",
            committer.name, committer.email, signing.key
        ));
    }
}

fn push_line(upstream: &Upstream) -> String {
    let rules = &upstream.push;
    let what = match rules.refs.is_empty() {
        true => "nothing may be pushed".to_owned(),
        false => format!("push {}", rules.refs.join(" ")),
    };
    let protected = match rules.protect_paths.is_empty() {
        true => String::new(),
        false => format!(", never {}", rules.protect_paths.join(" ")),
    };
    let held = if rules.hold.is_none() { "" } else { ", some of it after a person's yes" };
    format!("{} is {}: {what}{protected}{held}", upstream.name, upstream.url)
}

fn limits(out: &mut Page, plan: &BottlePlan) {
    let limits = &plan.limits;
    let all: Vec<String> = [
        limits.turns.map(|turns| format!("{turns} turns")),
        limits.time.map(|time| time.to_string()),
        limits.cost_usd.map(|cost| format!("{cost} US dollars")),
        limits.tokens.map(|tokens| format!("{tokens} tokens")),
        limits.requests.map(|requests| format!("{requests} requests to the model")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let line = all.join(", ");
    out.entry("limits", if all.is_empty() { "none" } else { &line });
    if let Some(budget) = &plan.budget {
        let period = budget.period.as_str();
        out.entry(
            "budget",
            &format!("{} a {period} of all runs; each reserves its limits before it starts", budget.amounts()),
        );
    }
}

/// The names' column.
const WIDTH: usize = 9;

struct Page(String);

impl Page {
    fn entry(&mut self, name: &str, value: &str) {
        let line = format!("{name:WIDTH$}{}", one_line(value));
        let _ = writeln!(self.0, "{}", line.trim_end());
    }

    fn more(&mut self, value: &str) {
        self.entry("", value);
    }

    fn item(&mut self, index: usize, name: &str, value: &str) {
        self.entry(if index == 0 { name } else { "" }, value);
    }
}

/// What people wrote can't move the cursor or pretend to be another line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
