//! A part of a large repository: the newest of its history, some of its directories, and checkouts that have no more than that.

use bottle_testkit::{commands, said, sh};

use super::MINUTES;
use crate::job::{Job, ended_with, manifest};

/// What the agent sees, and what it pushes.
const SEEN: &str = "echo \"commits: $(git log --format=%s | tr '\\n' ',')\"; echo \"files: $(ls -A | tr '\\n' ',') app: $(ls app)\"; \
                    echo \"branches: $(git for-each-ref --format='%(refname)' refs/remotes | tr '\\n' ',')\"; git status --porcelain";
const WORK: &str = "echo done > app/work.txt && git add -A app && git commit -qm Work && git push -q origin HEAD && git show --stat HEAD";

/// A job whose base branch has three commits on top of the sample's, directories of which one is wanted, and a branch beside it.
fn job(entry: &str) -> Job {
    let job = Job::with_manifest(&commands(&[SEEN, WORK]), |upstream| {
        let whole = manifest(upstream).replace("      - name: origin\n", &format!("      - name: origin\n{entry}"));
        whole.replace("python3 -m unittest", "test -f app/three")
    });
    let url = job.upstream.url(&job.upstream.address);
    for name in ["one", "two", "three"] {
        let make = format!(
            "mkdir -p app other/below .claude/rules && touch app/{name} other/{name} other/below/{name} .claude/rules/{name}.md && git add --all --force && \
             git -c user.name=Sample -c user.email=sample@bottle.test commit -qm {name}"
        );
        sh(&["sh", "-c", &format!("cd {} && {make}", job.checkout.display())]);
    }
    git(&job, &["push", "--quiet", &url, "HEAD:refs/heads/main", "HEAD:refs/heads/beside"]);
    git(&job, &["fetch", "--quiet", &url, "+refs/heads/*:refs/remotes/origin/*"]);
    job
}

fn git(job: &Job, args: &[&str]) {
    let output = std::process::Command::new("git")
        .arg("-C")
        .arg(&job.checkout)
        .args(args)
        .envs(job.upstream.reach(&job.world))
        .output()
        .expect("git");
    assert!(output.status.success(), "git {args:?}: {}", said(&output));
}

/// Runs it, and gives what the agent saw; its work is at upstream on top of all that was there.
fn seen(job: &Job) -> String {
    let output = job.run();
    ended_with(&output, 0);
    let branch = job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]);
    assert_eq!(job.upstream.git(&["log", "--format=%s", branch.trim()]), "Work\nthree\ntwo\none\nCount words");
    assert_eq!(job.upstream.git(&["diff", "--name-only", "main", branch.trim()]), "app/work.txt");
    job.nothing_left();
    job.world.record_file("transcript.jsonl")
}

const PART: &str = "        history: 2\n        sparse: [app]\n";

shared!(a_run_in_a_part_of_a_repository: docker, bubblewrap, smolmachines: MINUTES);
fn a_run_in_a_part_of_a_repository() {
    // With the whole of it on the machine, with one commit of it, and with none.
    for on_the_machine in ["all", "one", "none"] {
        let job = job(PART);
        match on_the_machine {
            "one" => cut(&job),
            "none" => {
                git(&job, &["update-ref", "-d", "refs/remotes/origin/main"]);
                git(&job, &["update-ref", "-d", "refs/remotes/origin/beside"]);
                git(&job, &["symbolic-ref", "--delete", "refs/remotes/origin/HEAD"]);
            }
            _ => {}
        }
        let saw = seen(&job);
        assert!(saw.contains("commits: three,two,\\n"), "{on_the_machine}: {saw}");
        assert!(saw.contains("files: .claude,.git,") && !saw.contains(",other,"), "{on_the_machine}: {saw}");
        assert!(saw.contains("app: one\\nthree\\ntwo"), "{on_the_machine}: {saw}");
        assert!(
            saw.contains("branches: refs/remotes/origin/HEAD,refs/remotes/origin/main,\""),
            "{on_the_machine}: {saw}"
        );
        let log = job.world.record_file("compose.log");
        let took = log.contains("origin: took in what the host has");
        assert_eq!(took, on_the_machine != "none", "{on_the_machine}: {log}");
    }
}

/// Leaves the checkout the newest commit alone, as `actions/checkout` does.
fn cut(job: &Job) {
    let dir = job.checkout.display();
    let script = format!(
        "cd {dir} && git rev-parse HEAD > .git/shallow && git update-ref refs/remotes/origin/main HEAD && \
         git reflog expire --expire=all --all && git repack -adq && git prune --expire=now && test $(git rev-list --count HEAD) = 1"
    );
    sh(&["sh", "-c", &script]);
}

shared!(a_checkout_with_one_commit_and_some_directories_is_brought_along: docker, bubblewrap, smolmachines: MINUTES);
fn a_checkout_with_one_commit_and_some_directories_is_brought_along() {
    for entry in ["", PART] {
        let mut job = job(entry);
        cut(&job);
        git(&job, &["sparse-checkout", "set", "--cone", "app"]);
        job.args.extend(["--cwd".to_owned(), ".".to_owned()]);
        let saw = seen(&job);
        assert!(saw.contains("commits: three,\\n"), "{entry}: {saw}");
        assert_eq!(saw.contains(",other,"), entry.is_empty(), "{entry}: {saw}");
    }
}

/// Each is something that a guest might do to the gate's mirror; none may succeed.
const CHANGES: [&str; 9] = [
    "touch $m/new",
    "echo x >>$m/HEAD",
    "chmod a+w $m/config",
    "rm -f $m/HEAD; test ! -e $m/HEAD",
    "ln -s /etc/passwd $m/refs/link",
    "mv $m/objects/pack $m/objects/gone",
    "git --git-dir=$m update-ref refs/heads/mine HEAD",
    "git --git-dir=$m config core.hooksPath /tmp",
    "for f in $(find $m/objects -type f); do echo x >$f && break; done 2>/dev/null; find $m/objects -type f -size -3c | grep .",
];

shared!(the_gates_mirror_is_read_and_never_written: docker, bubblewrap, smolmachines: "a machine sees no directory of the bundle's");
fn the_gates_mirror_is_read_and_never_written() {
    let tries: String = CHANGES
        .iter()
        .map(|change| format!("( {change} ) >/dev/null 2>&1 && printf 'chan%s: %s\\n' ged '{change}'\n"))
        .collect();
    let look = "m=/run/bottle-mirror; find $m ! -readable 2>/dev/null; \
                echo \"packed here: $(git count-objects -v | sed -n 's/^in-pack: //p'), alternates: $(cat .git/objects/info/alternates)\"";
    let work = "git fsck --full --strict && git gc --quiet --prune=now && touch more && git add more && git commit -qm More && git push -q origin HEAD \
                && git log --format=%s | tr '\\n' ',' && echo pushed";
    let steps = commands(&[&format!("{look}\n{tries}"), work]);
    let job = Job::with_manifest(&steps, |upstream| manifest(upstream).replace("python3 -m unittest", "test -f more"));
    ended_with(&job.run(), 0);
    let saw = job.world.record_file("transcript.jsonl");
    assert!(!saw.contains("changed: "), "{saw}");
    assert!(saw.contains("packed here: 0, alternates: /run/bottle-mirror/objects"), "{saw}");
    assert!(saw.contains("More,Count words,pushed"), "{saw}");
    job.nothing_left();
}

/// The directories of what is kept for later runs.
fn kept(job: &Job) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(job.world.path("mirrors")).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Does something in each directory of what is kept for later runs.
fn to_what_is_kept(job: &Job, script: &str) {
    let kept = job.world.path("mirrors");
    sh(&["sh", "-ec", &format!("cd {} && for kept in *; do {script}; done", kept.display())]);
}

/// Takes each pack and each object away.
const EMPTY: &str = "find $kept/objects -type f -delete";
/// Changes bytes in the middle of each pack and each object.
const SPOIL: &str = "for file in $(find $kept/objects -type f ! -name '*.idx'); do chmod u+w $file; size=$(stat -c %s $file); \
                     printf spoiled. | dd of=$file bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null; done";

shared!(a_later_run_reads_what_an_earlier_one_had: docker: "its engine keeps nothing of a run", bubblewrap, smolmachines: "a machine sees no directory of the bundle's");
fn a_later_run_reads_what_an_earlier_one_had() {
    let look = "echo \"own: $(cat /run/bottle-mirror/objects/info/alternates 2>/dev/null)\"; touch /run/bottle-kept/new 2>/dev/null && echo changed it; git fsck --strict --full; \
                git log --format=%s origin/main | tr '\\n' ','";
    let work = "git commit -q --allow-empty -m Work && git push -q origin HEAD";
    let steps = commands(&[look, work]);
    let job = Job::with_manifest(&steps, |upstream| {
        manifest(upstream).replace("python3 -m unittest", "git fsck --strict --full")
    });
    let url = job.upstream.url(&job.upstream.address);
    let run = |name: &str, code: i32| {
        let before = job.world.slugs();
        let output = job.run();
        ended_with(&output, code);
        let slug = job.world.slugs().into_iter().find(|slug| !before.contains(slug)).expect("a record");
        let read =
            |file: &str| std::fs::read_to_string(job.world.path("state").join(&slug).join(file)).unwrap_or_default();
        let (log, saw) = (read("compose.log"), read("transcript.jsonl"));
        assert!(!saw.contains("changed it\\n"), "{name}: {saw}");
        // Upstream has one commit more each time.
        git(&job, &["commit", "--quiet", "--allow-empty", "-m", name]);
        git(&job, &["push", "--quiet", &url, "HEAD:refs/heads/main"]);
        (log, saw, said(&output))
    };
    let reads = |log: &str| log.contains("origin: reads what an earlier run had");
    // What a checkout gives to a run is hashed, and kept as if it came from upstream.
    let (log, saw, _) = run("checkout", 0);
    assert!(!reads(&log) && !log.contains("is not kept") && saw.contains("own: \\n"), "{log}{saw}");
    assert_eq!(kept(&job).len(), 1);
    to_what_is_kept(&job, "git --git-dir=$kept rev-list --objects --all --quiet");
    let (log, saw, _) = run("kept", 0);
    assert!(reads(&log) && saw.contains("checkout,Count words"), "{log}{saw}");
    // From here on the checkout has nothing.
    to_what_is_kept(&job, "rm -rf $kept");
    git(&job, &["update-ref", "-d", "refs/remotes/origin/main"]);
    git(&job, &["symbolic-ref", "--delete", "refs/remotes/origin/HEAD"]);
    let (log, saw, _) = run("one", 0);
    assert!(!reads(&log) && saw.contains("own: \\n"), "{log}{saw}");
    let (log, saw, _) = run("two", 0);
    assert!(reads(&log) && saw.contains("own: /run/bottle-kept/objects"), "{log}{saw}");
    assert!(saw.contains("one,kept,checkout,Count words"), "{saw}");
    // What is gone is fetched.
    to_what_is_kept(&job, EMPTY);
    let (log, saw, _) = run("three", 0);
    assert!(saw.contains("two,one,kept,"), "{log}{saw}");
    // What is broken is in no guest, and the next run has nothing to do with it.
    to_what_is_kept(&job, SPOIL);
    let (_, _, why) = run("four", 4);
    assert!(why.contains("what earlier runs left of this repository on this machine is not used any more"), "{why}");
    let (log, saw, _) = run("five", 0);
    assert!(!reads(&log) && saw.contains("four,three,two,one,kept,"), "{log}{saw}");
    let (log, saw, _) = run("six", 0);
    assert!(reads(&log) && saw.contains("five,four,"), "{log}{saw}");
    job.nothing_left();
}
