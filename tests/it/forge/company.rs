//! A whole job in a network from which a company's proxies alone are reached: who may ask, the status comment, the clone, the push and
//! the pull request go through the real squid, and then through the real tinyproxy. The environment says which, as it does for curl.

use std::fs;

use bottle_testkit::{Company, CompanyProxy, Double, INTERNET, Upstream, commands, random_letters, said, sh};
use serde_json::json;

use super::labeled;
use crate::RUNNER;
use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, on};

/// The rules of most jobs, for the job's own repository over https.
fn rules(upstream: &Upstream) -> String {
    let text = manifest(upstream).replace("python3 -m unittest", "true");
    let (before, rest) = text.split_once("    git:\n").expect("a section");
    let (_, after) = rest.split_once("agents:\n").expect("a section");
    format!("{before}agents:\n{after}")
}

/// The job's run, with these variables.
fn run(job: &Job, double: &Double, company: &Company, variables: &[(&str, String)]) -> std::process::Output {
    let mut command = company.doors(&job.checkout, RUNNER);
    job.world.clean(&mut command);
    command.args(["run", "--backend", "bubblewrap", "--replay"]).arg(job.world.path("cassette.yml"));
    command.current_dir(&job.checkout);
    super::job(&job.world, double, &mut command, "issues", &labeled("octo-maintainer", 5_550_108));
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    command.output().expect("the runner")
}

fn goes_through(company: &Company, proxy: &CompanyProxy, password: &str) {
    let job = Job::with_manifest(&commands(&["echo more >> README.md; git commit -qam more"]), rules);
    let served = job.world.path("served/octo-org");
    fs::create_dir_all(&served).expect("a directory");
    std::os::unix::fs::symlink(job.world.path("srv/app.git"), served.join("textstats.git")).expect("a link");
    let double = Double::start_beyond(company, "github", &job.world.path("served"), json!({}));
    let alone = run(&job, &double, company, &[]);
    assert!(!alone.status.success() && said(&alone).contains("HTTPS_PROXY"), "{}", said(&alone));

    let output = run(&job, &double, company, &[("HTTPS_PROXY", format!("http://bottle:{password}@{}", proxy.at))]);
    ended_with(&output, 0);
    assert!(double.writes().iter().any(|write| write.ends_with("/pulls")), "{:?}", double.writes());
    double.assert_valid();
    let log = proxy.log();
    let asked = log.lines().filter(|line| line.contains(&format!("{INTERNET}:")) && line.contains("CONNECT")).count();
    assert!(asked >= 4, "{log}");
    let plan = job.world.record_file("plan.json");
    assert!(plan.contains(&format!("http://{}", proxy.at)) && !plan.contains(password));
    let search = format!("grep -rlF {password} {} || true", job.world.path("state").display());
    assert_eq!(sh(&["sh", "-c", &search]), "", "the password is in these files");
    // The job's runner is told it, to mask it.
    let told = said(&output);
    assert!(told.lines().all(|line| line.starts_with("::add-mask::") || !line.contains(password)), "{told}");
    job.nothing_left();
}

#[test]
fn a_whole_job_goes_through_squid_and_through_tinyproxy() {
    on(Place::Bubblewrap, whole_jobs);
}

fn whole_jobs() {
    let password = format!("company{}", random_letters(20));
    let company = Company::start("git.bottle.test");
    goes_through(&company, &company.squid(3128, "bottle", &password, "http_access allow CONNECT known"), &password);
    goes_through(&company, &company.tinyproxy(8888, "bottle", &password), &password);
}
