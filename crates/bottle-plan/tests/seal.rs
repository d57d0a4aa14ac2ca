//! What the rendered files promise about the guest, whatever the plan says.

#![expect(clippy::disallowed_methods, reason = "a test reads its fixtures")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bottle_plan::plan::BottlePlan;
use bottle_plan::render;
use bottle_policy::bundle::Bundle;
use bottle_policy::gate::GatePolicy;
use bottle_policy::pipelock::PipelockPolicy;
use bottle_policy::route::RoutesPolicy;
use bottle_policy::supervise::SupervisePolicy;
use bottle_types::yaml;
use pretty_assertions::assert_eq;
use serde_json::Value;

fn golden_plans() -> Vec<BottlePlan> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let plans: Vec<BottlePlan> = fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("a plan"))
        .collect();
    assert!(plans.len() >= 5);
    plans
}

#[test]
fn the_compose_file_seals_the_guest() {
    for plan in golden_plans() {
        let file: Value = yaml::from_str(&render::compose(&plan)).expect("YAML");
        let (agent, sidecars) = (&file["services"]["agent"], &file["services"]["sidecars"]);
        assert_eq!(agent["network_mode"], "none");
        assert_eq!(agent["cap_drop"], serde_json::json!(["ALL"]));
        assert_eq!(agent["security_opt"], serde_json::json!(["no-new-privileges:true", "seccomp:./seccomp.json"]));
        for absent in ["networks", "privileged", "devices", "cap_add", "pid", "ipc", "secrets", "configs", "group_add"]
        {
            assert!(agent.get(absent).is_none(), "{absent}");
        }
        for service in [agent, sidecars] {
            assert!(service.get("ports").is_none(), "no published port");
            for volume in service["volumes"].as_array().expect("a list") {
                assert_eq!(volume["type"], "volume", "no bind mount");
            }
        }
        for volume in agent["volumes"].as_array().expect("a list") {
            assert_eq!(volume["read_only"], true, "{volume}");
        }
        let services: Vec<_> = file["services"].as_object().into_iter().flatten().collect();
        let services = services.iter().filter(|(name, _)| name.starts_with("service-"));
        for (name, service) in services.clone() {
            let is_link = name.ends_with("-link");
            let network = if is_link { "none".to_owned() } else { format!("service:{name}-link") };
            assert_eq!(service["network_mode"], network, "{name}");
            assert_eq!((&service["cap_drop"], &service["security_opt"]), (&agent["cap_drop"], &agent["security_opt"]));
            for limit in ["cpus", "mem_limit", "memswap_limit", "pids_limit"] {
                assert!(service[limit].is_number(), "{name}: {limit}");
            }
            for absent in [
                "networks",
                "privileged",
                "devices",
                "cap_add",
                "pid",
                "ipc",
                "secrets",
                "configs",
                "group_add",
                "ports",
                "extra_hosts",
                "volumes_from",
                "links",
                "sysctls",
                "userns_mode",
            ] {
                assert!(service.get(absent).is_none(), "{name}: {absent}");
            }
            // The link alone has the doors' sockets.
            assert_eq!(service.get("volumes").is_some(), is_link, "{name}");
            assert!(!is_link || service["read_only"] == true, "{name}");
        }
        assert_eq!(services.count(), 2 * plan.services.len());
        for (name, place) in file["secrets"].as_object().into_iter().flatten() {
            assert_eq!(place["environment"], format!("BOTTLE_SECRET_{name}"));
        }
    }
}

#[test]
fn policies_come_out_of_the_compose_file_as_they_went_in() {
    for plan in golden_plans() {
        let file: Value = yaml::from_str(&render::compose(&plan)).expect("YAML");
        // What Compose does to every text.
        let content = |name: &str| file["configs"][name]["content"].as_str().expect("a text").replace("$$", "$");
        assert_eq!(yaml::from_str::<Bundle>(&content("bundle.yaml")).as_ref(), Ok(&plan.policies.bundle));
        assert_eq!(yaml::from_str::<RoutesPolicy>(&content("routes.yaml")).as_ref(), Ok(render::first_routes(&plan)));
        assert_eq!(yaml::from_str::<PipelockPolicy>(&content("pipelock.yaml")).as_ref(), Ok(&plan.policies.pipelock));
        assert_eq!(yaml::from_str::<GatePolicy>(&content("gate.yaml")).as_ref(), Ok(&plan.policies.gate));
        assert_eq!(
            yaml::from_str::<SupervisePolicy>(&content("supervise.yaml")).as_ref(),
            Ok(&plan.policies.supervise)
        );
        for (name, text) in render::policy_files(&plan) {
            assert_eq!(content(name), text, "{name}");
        }
        for (name, value) in &plan.guest.env {
            let rendered = file["services"]["agent"]["environment"][name].as_str().expect("a text");
            assert_eq!(&rendered.replace("$$", "$"), value, "{name}");
        }
    }
}

#[test]
fn the_seccomp_profile_denies_by_default() {
    let profile: Value = serde_json::from_str(render::SECCOMP).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(profile["defaultErrnoRet"], 1);
    for arch in profile["archMap"].as_array().expect("a list") {
        assert_eq!(arch["subArchitectures"], serde_json::json!([]), "no second ABI");
    }
    let mut named = BTreeSet::new();
    for rule in profile["syscalls"].as_array().expect("a list") {
        for name in rule["names"].as_array().expect("a list") {
            let name = name.as_str().expect("a name");
            let conditional = matches!(name, "socket" | "socketpair" | "clone" | "personality");
            assert_eq!(rule.get("args").is_some(), conditional, "{name}");
            assert_eq!(rule["action"] == "SCMP_ACT_ALLOW", name != "clone3", "{name}");
            assert!(named.insert(name) || conditional, "{name} is there twice");
        }
    }
    for denied in "bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key \
                   request_key mount umount2 mount_setattr move_mount open_tree fsopen fsmount fsconfig fspick \
                   pivot_root chroot unshare setns kexec_load kexec_file_load init_module finit_module delete_module \
                   reboot swapon swapoff syslog acct quotactl settimeofday clock_settime iopl ioperm open_by_handle_at \
                   pidfd_getfd sethostname setdomainname socketcall ipc"
        .split_whitespace()
    {
        assert!(!named.contains(denied), "{denied}");
    }
    let families: BTreeSet<u64> = profile["syscalls"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|rule| rule["names"] == serde_json::json!(["socket"]))
        .map(|rule| {
            let family = &rule["args"][0];
            assert_eq!((family["index"].as_u64(), family["op"].as_str()), (Some(0), Some("SCMP_CMP_EQ")));
            family["value"].as_u64().expect("a number")
        })
        .collect();
    assert_eq!(families, [1, 2, 10, 16].into(), "unix, inet, inet6, netlink");
}
