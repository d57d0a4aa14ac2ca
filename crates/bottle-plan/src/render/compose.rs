//! `docker-compose.yml` of a run, written to be read: the sealed guest, the bundle, and what is between them.
//!
//! Always: no bind mount, no published port, nothing secret. Files go in as `configs` with their content, secrets by
//! name from the environment of the `docker compose` process.

use std::collections::BTreeMap;

use bottle_policy::bundle::DOORS_GROUP;
use bottle_types::door::{CONFIG_DIR, DOORS_DIR, Door, INTERNAL_DIR, SECRETS_DIR};
use bottle_types::units::ByteSize;

use super::policy_files;
use crate::manifest::Resources;
use crate::plan::{
    BottlePlan, GENERATED_VARIABLE_PREFIX, GitPlan, HOST_CA_FILE, SECRET_VARIABLE_PREFIX, SecretSource, ServicePlan,
    ServiceSource, TOOLS_DIR,
};

/// What the supervisor, root in the bundle, keeps of root's capabilities: to start each sidecar as its own user, to end
/// it, and to give it its directories.
const SUPERVISOR_CAPABILITIES: [&str; 4] = ["CHOWN", "KILL", "SETGID", "SETUID"];
/// The bundle's memory; gitleaks on a large push needs most of it.
const SIDECARS_MEMORY: u64 = 2 << 30;
/// The bundle's processes and threads.
const SIDECARS_PIDS: u32 = 1024;
/// Who a service's link is: nobody who owns anything, and none of the sidecars' users.
const SERVICE_LINK_USER: u32 = 2005;
/// Its share of the machine: it moves bytes.
const SERVICE_LINK: Resources = Resources { cpus: 1.0, memory: ByteSize(64 << 20), pids: 16 };
/// What the agent's container and a service's have in common.
const SEALED: [&str; 2] = ["no-new-privileges:true", "seccomp:./seccomp.json"];

/// The `docker-compose.yml` of a run; beside it lies `seccomp.json`.
pub fn compose(plan: &BottlePlan) -> String {
    let mut out = Yaml(String::new());
    out.raw(0, "# One run of claude-bottle; `docker compose -f` takes this file.");
    out.text(0, "name", &plan.names.project);
    out.raw(0, "services:");
    sidecars(&mut out, plan);
    agent(&mut out, plan);
    plan.services.iter().for_each(|service| add_service(&mut out, plan, service));
    networks_and_volumes(&mut out, plan);
    files(&mut out, plan);
    out.0
}

fn sidecars(out: &mut Yaml, plan: &BottlePlan) {
    out.raw(1, "# The doors. They alone have a network.");
    out.raw(1, "sidecars:");
    common(out, plan, &plan.names.sidecars, &plan.images.sidecars);
    out.list(2, "command", &["supervisor", "--config", &format!("{CONFIG_DIR}/bundle.yaml")]);
    out.raw(2, "networks: [egress]");
    let hosts: Vec<String> = plan.extra_hosts.iter().map(|(host, address)| format!("{host}:{address}")).collect();
    if !hosts.is_empty() {
        out.list(2, "extra_hosts", &hosts);
    }
    if plan.host_ca_bundle.is_some() {
        let variables = ["SSL_CERT_FILE", "GIT_SSL_CAINFO"].map(|name| (name.to_owned(), HOST_CA_FILE.to_owned()));
        out.map(2, "environment", &BTreeMap::from(variables));
    }
    out.raw(2, "cap_drop: [ALL]");
    out.list(2, "cap_add", &SUPERVISOR_CAPABILITIES);
    out.list(2, "security_opt", &["no-new-privileges:true"]);
    out.raw(2, &format!("mem_limit: {SIDECARS_MEMORY}"));
    out.raw(2, &format!("pids_limit: {SIDECARS_PIDS}"));
    out.list(2, "tmpfs", &[format!("{INTERNAL_DIR}:mode=0755,size=16m")]);
    out.raw(2, "volumes:");
    out.raw(3, &format!("- {{ type: volume, source: doors, target: {DOORS_DIR} }}"));
    if let Some((git, _)) = shared_mirror(plan) {
        let target = git.gates_mirror();
        out.raw(3, &format!("- {{ type: volume, source: mirror, target: {target}, volume: {{ nocopy: true }} }}"));
    }
    out.raw(2, "configs:");
    for (name, _) in policy_files(plan) {
        out.raw(3, &format!("- {{ source: {name}, target: {CONFIG_DIR}/{name}, mode: 0444 }}"));
    }
    if !plan.secrets.is_empty() {
        out.raw(2, "secrets:");
        for secret in &plan.secrets {
            let name = &secret.name;
            // The canary opens nothing, and the MCP server, which reads no credential, has to know it, too.
            let mode = if matches!(secret.source, SecretSource::Canary(_)) { "0444" } else { "0440" };
            out.raw(
                3,
                &format!(
                    "- {{ source: {name}, target: {SECRETS_DIR}/{name}, uid: \"0\", gid: \"{DOORS_GROUP}\", mode: {mode} }}"
                ),
            );
        }
    }
    out.raw(2, "stop_grace_period: 3s");
}

fn agent(out: &mut Yaml, plan: &BottlePlan) {
    let guest = &plan.guest;
    out.raw(1, "# The agent. It has no network: only lo, and the doors' sockets behind it.");
    out.raw(1, "agent:");
    common(out, plan, &plan.names.agent, &plan.images.guest);
    out.list(2, "entrypoint", &guest.init);
    out.raw(2, "command: []");
    out.text(2, "user", &format!("{}:{}", guest.uid, guest.gid));
    out.text(2, "working_dir", &guest.root);
    out.raw(2, "network_mode: none");
    let names = Door::ALL.iter().map(|door| door.name());
    let names = names.chain(plan.services.iter().map(|service| service.name.as_str()));
    let hosts: Vec<String> = names.map(|name| format!("{name}:127.0.0.1")).collect();
    out.list(2, "extra_hosts", &hosts);
    seal(out, &guest.resources);
    out.raw(2, "volumes:");
    let nocopy = "read_only: true, volume: { nocopy: true }";
    out.raw(3, &format!("- {{ type: volume, source: doors, target: {DOORS_DIR}, {nocopy} }}"));
    if let Some((_, target)) = shared_mirror(plan) {
        out.raw(3, &format!("- {{ type: volume, source: mirror, target: {target}, {nocopy} }}"));
    }
    if plan.names.tools_volume.is_some() {
        out.raw(3, &format!("- {{ type: volume, source: tools, target: {TOOLS_DIR}, {nocopy} }}"));
    }
    out.map(2, "environment", &guest.env);
    out.raw(2, "stop_grace_period: 1s");
}

/// A service and its link, which has the network that both are on: only lo. The service has no other way to the link than that,
/// where the link listens nowhere, and no socket of the doors.
fn add_service(out: &mut Yaml, plan: &BottlePlan, service: &ServicePlan) {
    let name = &service.name;
    out.raw(1, &format!("# The service {name}. It has no network: only lo, which its link shares, and no door."));
    out.raw(1, &format!("service-{name}:"));
    if let ServiceSource::Image { image, command, user } = &service.source {
        common(out, plan, &service.container, image);
        if !command.is_empty() {
            out.list(2, "command", command);
        }
        if let Some(user) = user {
            out.text(2, "user", user);
        }
    }
    out.text(2, "network_mode", &format!("service:service-{name}-link"));
    seal(out, &service.resources);
    // It is counted as the service's memory.
    out.raw(2, &format!("shm_size: {}", service.resources.memory.0 / 2));
    out.raw(2, "healthcheck: { disable: true }");
    if !(service.env.is_empty() && service.generated.is_empty()) {
        out.map(2, "environment", &service.env);
        service.generated.iter().for_each(|(variable, agents)| generated(out, variable, agents));
    }
    // Nothing of it is kept.
    out.raw(2, "stop_signal: SIGKILL");

    out.raw(1, &format!("service-{name}-link:"));
    common(out, plan, &service.link_container, &plan.images.tools);
    out.list(2, "entrypoint", &service.link);
    out.raw(2, "command: []");
    out.text(2, "user", &format!("{SERVICE_LINK_USER}:{SERVICE_LINK_USER}"));
    out.text(2, "working_dir", "/");
    out.raw(2, "network_mode: none");
    out.raw(2, "read_only: true");
    seal(out, &SERVICE_LINK);
    out.raw(2, "volumes:");
    out.raw(3, &format!("- {{ type: volume, source: doors, target: {DOORS_DIR}, volume: {{ nocopy: true }} }}"));
    out.raw(2, "stop_grace_period: 1s");
}

/// A variable with the password that is made for the run and that the agent has in the variable of that name.
fn generated(out: &mut Yaml, variable: &str, agents: &str) {
    out.raw(3, &format!("{}: \"${{{GENERATED_VARIABLE_PREFIX}{agents}:-}}\"", quote(variable)));
}

/// No rights, the system calls of a guest, and a share of the machine.
fn seal(out: &mut Yaml, resources: &Resources) {
    out.raw(2, "cap_drop: [ALL]");
    out.list(2, "security_opt", &SEALED);
    out.raw(2, &format!("cpus: {}", resources.cpus));
    out.raw(2, &format!("mem_limit: {}", resources.memory.0));
    out.raw(2, &format!("memswap_limit: {}", resources.memory.0));
    out.raw(2, &format!("pids_limit: {}", resources.pids));
}

fn common(out: &mut Yaml, plan: &BottlePlan, name: &str, image: &str) {
    out.text(2, "container_name", name);
    out.text(2, "image", image);
    // The runner brings images, and shows that it does.
    out.raw(2, "pull_policy: never");
    out.map(2, "labels", &plan.labels);
    out.raw(2, "restart: \"no\"");
    out.raw(2, "logging: { driver: json-file, options: { max-size: 50m } }");
}

/// The repository whose mirror the guest reads, and where.
fn shared_mirror(plan: &BottlePlan) -> Option<(&GitPlan, &str)> {
    let git = plan.git.as_ref()?;
    Some((git, git.mirror.as_deref()?))
}

fn networks_and_volumes(out: &mut Yaml, plan: &BottlePlan) {
    out.raw(0, "networks:");
    out.raw(1, "egress:");
    out.text(2, "name", &plan.names.network);
    out.raw(2, "driver: bridge");
    out.map(2, "labels", &plan.labels);
    out.raw(0, "volumes:");
    out.raw(1, "doors:");
    out.text(2, "name", &plan.names.doors_volume);
    out.map(2, "labels", &plan.labels);
    if shared_mirror(plan).is_some() {
        out.raw(1, "mirror:");
        out.text(2, "name", &format!("{}-mirror", plan.names.project));
        out.map(2, "labels", &plan.labels);
    }
    if let Some(tools) = &plan.names.tools_volume {
        out.raw(1, "tools:");
        out.text(2, "name", tools);
        out.raw(2, "external: true");
    }
}

fn files(out: &mut Yaml, plan: &BottlePlan) {
    out.raw(0, "configs:");
    for (name, content) in policy_files(plan) {
        out.raw(1, &format!("{name}:"));
        out.raw(2, "content: |");
        for line in content.lines() {
            out.raw(3, &escape(line));
        }
    }
    if plan.secrets.is_empty() {
        return;
    }
    out.raw(0, "secrets:");
    for secret in &plan.secrets {
        out.raw(1, &format!("{}: {{ environment: {SECRET_VARIABLE_PREFIX}{} }}", secret.name, secret.name));
    }
}

/// A document that grows line by line, two spaces a level.
struct Yaml(String);

impl Yaml {
    fn raw(&mut self, level: usize, line: &str) {
        if !line.is_empty() {
            self.0.push_str(&"  ".repeat(level));
            self.0.push_str(line);
        }
        self.0.push('\n');
    }

    fn text(&mut self, level: usize, key: &str, value: &str) {
        self.raw(level, &format!("{key}: {}", quote(value)));
    }

    fn list<T: AsRef<str>>(&mut self, level: usize, key: &str, items: &[T]) {
        let items: Vec<String> = items.iter().map(|item| quote(item.as_ref())).collect();
        self.raw(level, &format!("{key}: [{}]", items.join(", ")));
    }

    fn map(&mut self, level: usize, key: &str, entries: &BTreeMap<String, String>) {
        self.raw(level, &format!("{key}:"));
        for (name, value) in entries {
            self.raw(level + 1, &format!("{}: {}", quote(name), quote(value)));
        }
    }
}

/// Compose reads `$NAME` as a variable of its own environment; `$$` is a dollar.
fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

/// A text as YAML: JSON's strings are YAML's too.
fn quote(text: &str) -> String {
    let text = escape(text);
    let plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-'))
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text } else { serde_json::Value::String(text).to_string() }
}
