//! The step before bwrap: what it opens, who it becomes, and that nothing runs half prepared.
#![expect(clippy::disallowed_methods, reason = "a test starts the real binary")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A directory of this test's own, which anybody may read.
fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("bottle-link-outside-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

fn outside(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bottle-link")).arg("outside").args(args).output().expect("the link")
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

#[test]
fn files_come_by_number_and_rights_go() {
    let dir = directory("numbers");
    let (info, one, two, group) = (dir.join("info"), dir.join("one"), dir.join("two"), dir.join("tasks"));
    for (path, text) in [(&one, "first"), (&two, "second"), (&group, "")] {
        fs::write(path, text).expect("a file");
    }
    let path = |path: &PathBuf| path.display().to_string();
    let (info_path, one_path, two_path, group_path) = (path(&info), path(&one), path(&two), path(&group));
    let script = "echo said >&3; cat <&4; cat <&5; echo; ls /proc/self/fd; cat /proc/self/status";
    let mut args = vec!["--read", &one_path, "--join", &group_path, "--write", &info_path, "--read", &two_path];
    if is_root() {
        args.extend(["--user", "1900000001"]);
    }
    args.extend(["--", "sh", "-c", script]);
    let output = outside(&args);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("firstsecond\n"), "{said}");
    assert_eq!(fs::read_to_string(&info).expect("written"), "said\n");
    assert_eq!(fs::read_to_string(&group).expect("joined"), "0");
    // Where they were put aside; whoever runs this test may have left open others.
    let numbers: Vec<u32> = said.lines().skip(1).map_while(|line| line.parse().ok()).collect();
    assert!([3, 4, 5].iter().all(|number| numbers.contains(number)), "{said}");
    assert!(!numbers.iter().any(|number| (100..110).contains(number)), "{said}");
    if is_root() {
        let line = |name: &str| said.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
        assert_eq!(line("Uid:"), "Uid:\t1900000001\t1900000001\t1900000001\t1900000001");
        assert_eq!(line("Gid:"), "Gid:\t1900000001\t1900000001\t1900000001\t1900000001");
        assert_eq!(line("Groups:").trim_end(), "Groups:");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert!(line(set).ends_with("\t0000000000000000"), "{said}");
        }
    }
    fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn nothing_runs_half_prepared() {
    let dir = directory("half");
    let ran = dir.join("ran").display().to_string();
    let mut cases = vec![
        (vec!["--join", "/nonexistent/tasks"], 126, "join /nonexistent/tasks"),
        (vec!["--read", "/nonexistent/filter"], 126, "open /nonexistent/filter"),
        (vec!["--write", "/nonexistent/info"], 126, "open /nonexistent/info"),
    ];
    if !is_root() {
        cases.push((vec!["--user", "1900000001"], 126, "become another user"));
    }
    for (options, code, why) in cases {
        let args: Vec<&str> = options.into_iter().chain(["--", "touch", &ran]).collect();
        let output = outside(&args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with("error: failed to ") && said.contains(why), "{said}");
        assert!(!dir.join("ran").exists(), "{args:?}");
    }
    assert_eq!(outside(&["--", "/nonexistent/bwrap"]).status.code(), Some(127));
    fs::remove_dir_all(&dir).expect("removed");
}
