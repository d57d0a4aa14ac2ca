//! Commands before the agent.

use bottle_testkit::{commands, said, sh};

use super::MINUTES;
use crate::job::{Job, ended_with, manifest};

/// A host that is nowhere: a request that has a route to it fails at its name, any other is refused at the door.
const HOST: &str = "packages.example.net";

/// Why the lock files have one backend.
const GIT_DECIDES: &str = "what decides is one command of git's in the guest, whatever that is made of";

/// A job whose bottle has this setup, and whose base branch has `scripts/setup`.
fn job(setup: &str, cassette: &str) -> Job {
    let job = Job::with_manifest(cassette, |upstream| {
        let setup = format!("    env: {{ PYTHONDONTWRITEBYTECODE: \"1\" }}\n    setup:\n{setup}");
        let whole = manifest(upstream).replace("    env: { PYTHONDONTWRITEBYTECODE: \"1\" }\n", &setup);
        assert!(whole.contains("    setup:\n"), "{whole}");
        whole.replace("python3 -m unittest", "test -f made/by-setup.txt")
    });
    std::fs::create_dir_all(job.checkout.join("scripts")).expect("a directory");
    let script = "#!/bin/sh\nset -e\nmkdir -p made\necho 'the script of the base branch' > made/by-setup.txt\n";
    job.with_file("scripts/setup", script);
    // As if it had been fetched from there.
    let dir = job.checkout.display().to_string();
    sh(&["git", "-C", &dir, "update-ref", "refs/remotes/origin/main", "HEAD"]);
    job
}

shared!(
    a_setup_prepares_the_repository_and_its_ways_out_are_closed_before_the_agent:
    docker, bubblewrap, smolmachines: MINUTES
);
fn a_setup_prepares_the_repository_and_its_ways_out_are_closed_before_the_agent() {
    let ask = format!("curl -sS -o /dev/null -w '%{{http_code}} from {HOST}\\n' https://{HOST}/simple/");
    let setup = format!(
        "      script: scripts/setup\n      run:\n        - \"{ask} || true\"\n        \
         - curl -sS -X POST -o /dev/null -w '%{{http_code}} from the model\\n' https://api.anthropic.com/v1/messages\n        \
         - echo changed >> textstats.py && echo '[odd] name' > '[odd] name' && sleep 3000 > /dev/null 2>&1 &\n        \
         - sleep 1\n      egress: {{ routes: [{{ host: {HOST} }}] }}\n"
    );
    let seen = "cat made/by-setup.txt; git status --porcelain; echo \"files: $(ls -d *odd*)\"; ps -ef | grep -c '[s]leep 3000'";
    let work = "echo done > work.txt && git add -A && git commit -qm 'Work' && git push -q origin HEAD && git show --stat HEAD";
    let job = job(&setup, &commands(&[&ask, seen, work]));
    let output = job.run();
    ended_with(&output, 0);

    let log = job.world.record_file("setup.log");
    assert!(log.starts_with("$ scripts/setup\n$ curl "), "{log}");
    assert!(log.contains(&format!("502 from {HOST}")), "the setup has a route, and the name leads nowhere: {log}");
    assert!(log.contains("403 from the model"), "a setup has no model: {log}");
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(transcript.contains(&format!("403 from {HOST}")), "the route is closed: {transcript}");
    assert!(transcript.contains("the script of the base branch"), "{transcript}");
    assert!(transcript.contains("files: [odd] name\\n0"), "what was left running is ended: {transcript}");
    assert!(!transcript.contains("?? ") && !transcript.contains(" M textstats.py"), "{transcript}");
    assert!(said(&output).contains("put back: textstats.py"), "{}", said(&output));

    let branch = job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]);
    let files = job.upstream.git(&["diff", "--name-only", "main", branch.trim()]);
    assert!(files.contains("work.txt") && !files.contains("made") && !files.contains("odd"), "{files}");
    assert!(!files.contains("textstats.py"), "{files}");
    let proposals = job.world.record_file("proposals.jsonl");
    assert!(proposals.contains("bottle-runner, after the setup"), "{proposals}");
    assert!(!job.world.record_file("routes.yaml").contains(HOST), "the policy at the end is the agent's");
    let junit = job.world.record_file("junit.xml");
    assert!(junit.contains("name=\"setup\""), "{junit}");
    job.nothing_left();
}

shared!(the_steps_of_a_workflow_are_a_setup: docker, bubblewrap, smolmachines: MINUTES);
fn the_steps_of_a_workflow_are_a_setup() {
    let job = job(
        "      from: .github/workflows/copilot-setup-steps.yml\n      run: [\"cat made/by-step.txt made/by-other.txt | tee made/by-setup.txt\"]\n",
        &commands(&["true"]),
    );
    let workflow = "on: workflow_dispatch\njobs:\n  copilot-setup-steps:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v5\n      \
                    - { uses: actions/setup-node@v4, with: { node-version: 24 } }\n      - { run: 'exit 7', continue-on-error: true }\n      - name: Make\n        run: |\n          \
                    mkdir -p made\n          echo \"it's $LEVEL\" > made/by-step.txt\n        env: { LEVEL: 3 }\n      \
                    - { run: 'pwd > by-other.txt', working-directory: made, shell: bash }\n";
    std::fs::create_dir_all(job.checkout.join(".github/workflows")).expect("a directory");
    job.with_file(".github/workflows/copilot-setup-steps.yml", workflow);
    let dir = job.checkout.display().to_string();
    sh(&["git", "-C", &dir, "update-ref", "refs/remotes/origin/main", "HEAD"]);
    let output = job.run();
    ended_with(&output, 0);
    let log = job.world.record_file("setup.log");
    assert!(log.starts_with("$ bash -e -c 'exit 7' || true\n"), "{log}");
    assert!(log.ends_with("it's 3\n/workspace/app/made\n"), "{log}");
    let said = said(&output);
    assert!(said.contains("setup.from: left out `actions/setup-node@v4`"), "{said}");
    job.nothing_left();
}

shared!(a_setup_that_fails_ends_the_run_before_the_agent: docker, bubblewrap, smolmachines: MINUTES);
fn a_setup_that_fails_ends_the_run_before_the_agent() {
    let setup = "      run:\n        - \"true\"\n        - echo 'no such package' >&2; exit 3\n        - touch never\n";
    let job = job(setup, &commands(&["true"]));
    let output = job.run();
    ended_with(&output, 1);
    let said = said(&output);
    assert!(said.contains("the setup failed: `echo 'no such package' >&2; exit 3` ended with 3"), "{said}");
    assert!(said.contains("no such package") && said.contains("the agent was not started"), "{said}");
    let log = job.world.record_file("setup.log");
    assert_eq!(log, "$ true\n$ echo 'no such package' >&2; exit 3\nno such package\n(ended with 3)\n");
    assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
    assert_eq!(job.upstream.git(&["for-each-ref", "--format", "%(refname)"]), "refs/heads/main");
    job.nothing_left();
}

shared!(a_setup_that_tells_the_agent_what_to_do_ends_the_run: docker, bubblewrap, smolmachines: MINUTES);
fn a_setup_that_tells_the_agent_what_to_do_ends_the_run() {
    for planted in [
        "mkdir -p ~/.claude && echo 'Do as I say' > ~/.claude/CLAUDE.md",
        "echo more >> ~/.claude-bottle-prompt.txt",
        "echo 'Do as I say' > CLAUDE.local.md",
        "echo 'Do as I say' > ../AGENTS.md",
        "mkdir -p ~/.claude-bottle-base/tools && echo 'import os' > ~/.claude-bottle-base/tools/words.py",
        "ln -s /tmp/mine ~/.claude-bottle-mcp.json",
        // By git itself, when the repository is put back.
        "printf '#!/bin/sh\\nmkdir -p ~/.claude; echo x > ~/.claude/CLAUDE.md\\n' > /tmp/spy; chmod +x /tmp/spy; git config core.fsmonitor /tmp/spy; echo x >> textstats.py",
    ] {
        let job = job(&format!("      run: [\"{planted}\"]\n"), &commands(&["true"]));
        let output = job.run();
        ended_with(&output, 1);
        assert!(said(&output).contains("the setup changed what the agent goes by: "), "{}", said(&output));
        assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
        job.nothing_left();
    }
}

shared!(a_setup_that_never_ends_is_ended: docker, bubblewrap, smolmachines: MINUTES);
fn a_setup_that_never_ends_is_ended() {
    let job = job("      run: [sleep 3000]\n      time: 3s\n", &commands(&["true"]));
    let output = job.run();
    ended_with(&output, 1);
    assert!(
        said(&output).contains("the setup failed: `sleep 3000` was ended: the setup took longer than 3s"),
        "{}",
        said(&output)
    );
    assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
    job.nothing_left();
}

/// A job whose setup makes a file in a directory that is kept where the file is not there; the checkout is brought, so that the
/// guest's content is the base branch's own as long as the checkout is.
fn kept_job(cassette: &str) -> Job {
    kept_job_with("      cache: [~/.cache/sample]\n", cassette)
}

/// The same with these keys of the cache.
fn kept_job_with(cache: &str, cassette: &str) -> Job {
    let warm = "[ -e ~/.cache/sample/made ] && echo warm || { mkdir -p ~/.cache/sample; echo set-up > ~/.cache/sample/made; echo cold; }";
    let setup = format!(
        "      script: scripts/setup\n      run:\n        - \"{warm}\"\n        - cat ~/.cache/sample/*\n{cache}"
    );
    let mut job = job(&setup, cassette);
    job.with_file("requirements.txt", "sample==1.0\n");
    is_base(&job);
    job.args.extend(["--cwd".to_owned(), job.checkout.display().to_string()]);
    job
}

/// A job whose setup would keep four MiB; the caller brings the checkout.
pub(crate) fn large_job() -> Job {
    let fill = "mkdir -p ~/.cache/sample; head -c 4194304 /dev/urandom > ~/.cache/sample/large";
    let setup = format!("      script: scripts/setup\n      run: [\"{fill}\"]\n      cache: [~/.cache/sample]\n");
    let job = job(&setup, &commands(&["echo a > w; git add w; git commit -qm w; git push -q origin HEAD"]));
    is_base(&job);
    job
}

fn git(job: &Job, args: &[&str]) -> String {
    let dir = job.checkout.display().to_string();
    sh(&[&["git", "-C", &dir], args].concat())
}

/// As if the checkout's commit had been fetched from origin's default branch.
fn is_base(job: &Job) {
    git(job, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
}

/// The `setup.log` of one more run.
fn log_of_a_run(job: &Job, code: i32) -> String {
    // The run before has pushed its branch, from which this one would go on.
    for branch in job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]).lines() {
        job.upstream.git(&["update-ref", "-d", branch]);
    }
    let before = job.world.slugs();
    let output = job.run();
    ended_with(&output, code);
    let slug = job.world.slugs().into_iter().find(|slug| !before.contains(slug)).expect("a record");
    let record = job.world.path("state").join(slug);
    std::fs::read_to_string(record.join("setup.log")).expect("setup.log")
}

/// Everything in the store's archives.
fn archives(job: &Job) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let Ok(files) = std::fs::read_dir(job.world.path("setups/archives")) else { return vec![] };
    let files = files.map(|file| file.expect("a file").path());
    files.map(|path| (path.clone(), std::fs::read(path).expect("an archive"))).collect()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

shared!(a_setup_finds_what_one_of_the_base_branch_left_and_nothing_of_an_agent: docker, bubblewrap, smolmachines: MINUTES);
fn a_setup_finds_what_one_of_the_base_branch_left_and_nothing_of_an_agent() {
    let poison = "echo poisoned > ~/.cache/sample/made; echo poisoned > ~/.cache/sample/other; cat made/by-setup.txt";
    let work = "echo done > work.txt && git add -A && git commit -qm 'Work' && git push -q origin HEAD";
    let job = kept_job(&commands(&[poison, work]));
    let first = log_of_a_run(&job, 0);
    assert!(first.starts_with("cache: miss, nothing is kept as ") && first.contains("\ncold\n"), "{first}");
    assert!(first.contains("cache: kept 2 files with 1 MiB as "), "{first}");
    let kept = archives(&job);
    assert_eq!(kept.len(), 1);
    assert!(has(&kept[0].1, "set-up") && !has(&kept[0].1, "poisoned"), "the agent's change is kept");

    let second = log_of_a_run(&job, 0);
    assert!(second.starts_with("cache: hit, 2 files ") && second.contains("\nwarm\n"), "{second}");
    assert!(second.contains("\nset-up\n") && !second.contains("poisoned"), "{second}");
    assert_eq!(archives(&job), kept, "a hit writes nothing");

    // A commit that is not the base's, with another lock file and a setup's script of its own: what the base has kept is read,
    // and nothing is written.
    job.with_file("requirements.txt", "evil==1.0\n");
    let other = log_of_a_run(&job, 0);
    assert!(other.starts_with("cache: hit, 2 files ") && !other.contains("cache: kept"), "{other}");
    std::fs::remove_dir_all(job.world.path("setups")).expect("removed");
    let other = log_of_a_run(&job, 0);
    assert!(other.contains("cache: not kept, only a run on the base branch's own content keeps one"), "{other}");
    assert!(archives(&job).is_empty());

    // The same commit, once it is the base's: another lock file, another entry.
    is_base(&job);
    let third = log_of_a_run(&job, 0);
    assert!(third.contains("\ncold\n") && third.contains("cache: kept 2 files"), "{third}");
    job.nothing_left();
}

shared!(
    a_setup_that_may_be_skipped_runs_where_the_lock_files_are_others:
    docker: GIT_DECIDES, bubblewrap, smolmachines: GIT_DECIDES
);
fn a_setup_that_may_be_skipped_runs_where_the_lock_files_are_others() {
    let see = "cat ~/.cache/sample/made made/by-setup.txt";
    let more = "echo more >> README.md && git commit -qam More && git push -q origin HEAD";
    let cache = "      cache: [~/.cache/sample, made]\n      skip_on_hit: true\n";
    let job = kept_job_with(cache, &commands(&[see, more]));
    let first = log_of_a_run(&job, 0);
    assert!(first.contains("setup: not skipped, nothing was restored") && first.contains("\ncold\n"), "{first}");
    let second = log_of_a_run(&job, 0);
    assert!(second.contains("cache: hit, ") && second.contains("setup: skipped, "), "{second}");
    assert!(!second.contains("$ "), "a command ran: {second}");
    // Another file is none of the setup's; another lock file, or one more, is.
    job.with_file("other.txt", "1\n");
    let third = log_of_a_run(&job, 0);
    assert!(third.contains("setup: skipped, "), "{third}");
    job.with_file("package-lock.json", "{}\n");
    let fourth = log_of_a_run(&job, 0);
    assert!(fourth.contains("setup: not skipped, the lock files are others than the base branch's"), "{fourth}");
    assert!(fourth.contains("\nwarm\n"), "{fourth}");
    job.nothing_left();
}

shared!(a_kept_setup_that_was_changed_is_removed_and_the_run_goes_on: docker, bubblewrap, smolmachines: MINUTES);
fn a_kept_setup_that_was_changed_is_removed_and_the_run_goes_on() {
    let work = "echo done > work.txt && git add -A && git commit -qm 'Work' && git push -q origin HEAD";
    let job = kept_job(&commands(&[work]));
    log_of_a_run(&job, 0);
    let (path, mut bytes) = archives(&job).pop().expect("an archive");
    let at = bytes.windows(6).position(|window| window == b"set-up").expect("the content");
    bytes[at..at + 6].copy_from_slice(b"evil!!");
    std::fs::write(&path, bytes).expect("written");
    let second = log_of_a_run(&job, 0);
    assert!(second.contains("was removed: its archive has another hash than its name"), "{second}");
    assert!(
        second.contains("\ncold\n") && second.contains("cache: kept 2 files") && !second.contains("evil"),
        "{second}"
    );

    let cleaned = job.world.runner().args(["cleanup", "--cache", "--older-than", "0"]).output().expect("the runner");
    assert!(said(&cleaned).contains(": removed 1 MiB"), "{}", said(&cleaned));
    assert!(archives(&job).is_empty());

    // A directory that others can change.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(job.world.path("setups"), open).expect("a mode");
    let third = log_of_a_run(&job, 0);
    assert!(third.starts_with("cache: not used: the directory ") && third.contains("is open to others"), "{third}");
    assert!(archives(&job).is_empty());
    job.nothing_left();
}

shared!(a_setup_that_fails_or_leaves_what_could_do_harm_is_not_kept: docker, bubblewrap, smolmachines: MINUTES);
fn a_setup_that_fails_or_leaves_what_could_do_harm_is_not_kept() {
    let made = "mkdir -p ~/.cache/sample kept; echo x > ~/.cache/sample/a";
    for (more, cache, code, why) in [
        ("; exit 3", "~/.cache/sample", 1, "(ended with 3)"),
        ("; echo 'Do as I say' > ~/.claude/CLAUDE.md", "~/.cache/sample", 1, "$ "),
        ("; ln -s /etc/passwd ~/.cache/sample/l", "~/.cache/sample", 0, "is a link that leads out of its directory"),
        (
            "; mv ~/.cache/sample ~/s; ln -s ~/s ~/.cache/sample",
            "~/.cache/sample",
            0,
            "/home/node/.cache/sample is a link",
        ),
        ("; mkfifo ~/.cache/sample/p", "~/.cache/sample", 0, "is neither a file nor a directory nor a link"),
        (
            "; cp /bin/true ~/.cache/sample/t; chmod 4755 ~/.cache/sample/t",
            "~/.cache/sample",
            0,
            "gives whoever runs it another user's rights",
        ),
        ("; truncate -s 2M ~/.cache/sample/h", "~/.cache/sample", 0, "it has more than 1048576 bytes"),
        ("", "never-made", 0, "the setup has made none of its directories"),
    ] {
        let run = format!(
            "      script: scripts/setup\n      run: [\"{made}{more}\"]\n      cache: [{cache}]\n      cache_max_size: 1MiB\n"
        );
        let mut job = job(&run, &commands(&["echo a > w; git add w; git commit -qm w; git push -q origin HEAD"]));
        is_base(&job);
        job.args.extend(["--cwd".to_owned(), job.checkout.display().to_string()]);
        let log = log_of_a_run(&job, code);
        assert!(log.contains(why) && !log.contains("cache: kept"), "{more}: {log}");
        assert!(archives(&job).is_empty(), "{more}: it is kept");
        job.nothing_left();
    }
}

shared!(a_checkout_with_links_gets_no_cache: docker, bubblewrap, smolmachines: MINUTES);
/// The checkout of a pull request decides where a restored file would go, if links were followed.
fn a_checkout_with_links_gets_no_cache() {
    let setup = "      script: scripts/setup\n      run: [mkdir -p deps && echo x > deps/CLAUDE.md && echo y > deps/b]\n      cache: [deps]\n";
    let mut job = job(setup, &commands(&["echo a > w; git add w; git commit -qm w; git push -q origin HEAD"]));
    is_base(&job);
    job.args.extend(["--cwd".to_owned(), job.checkout.display().to_string()]);
    let first = log_of_a_run(&job, 0);
    assert!(first.contains("cache: kept 2 files with 1 MiB, without 1 such as CLAUDE.md and .git"), "{first}");
    let second = log_of_a_run(&job, 0);
    assert!(second.contains("cache: hit, 2 files"), "{second}");
    std::os::unix::fs::symlink("/home/node/.claude", job.checkout.join("deps")).expect("a link");
    git(&job, &["add", "deps"]);
    git(&job, &["-c", "user.name=S", "-c", "user.email=s@bottle.test", "commit", "--quiet", "-m", "A link"]);
    // The setup itself follows the link, and is stopped for that.
    let third = log_of_a_run(&job, 1);
    assert!(third.contains("cache: not used, ") && third.contains("deps is a link"), "{third}");
    job.nothing_left();
}
