//! The project's own test reports: what becomes part of `junit.xml`, and what an agent can make of them.

use bottle_testkit::{commands, said};

use super::MINUTES;
use crate::job::{Job, ended_with, manifest};

/// Beside what is wanted: links, a bomb, a large file, a secret, what is none, and names that act.
const MAKING: &str = r#"printf 'out\n' >> .git/info/exclude; mkdir -p out && cd out
printf '<testsuite name="unit"><testcase classname="C" name="good" time="0.5"/><testcase name="::add-mask::x @mona &lt;!-- --&gt;"><failure>because</failure></testcase></testsuite>' > a.xml
printf 'TAP version 14\n1..2\nok 1 - first\nok 2 - second # SKIP later\n' > b.tap
ln -s /etc/passwd link.xml; ln -s a.xml inside.xml; printf '<html/>' > page.xml
printf '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>' > bomb.xml
printf '<testsuite><testcase name="ghp_%s"/></testsuite>' "$(head -c 4000 /dev/urandom | tr -dc A-Za-z0-9 | head -c 36)" > token.xml
truncate -s 1G huge.xml; head -c 300 /dev/urandom > bytes.xml"#;

shared!(test_reports_become_part_of_ours_and_hostile_ones_do_not: docker, bubblewrap, smolmachines: MINUTES);
fn test_reports_become_part_of_ours_and_hostile_ones_do_not() {
    let job = Job::with_manifest(&commands(&[MAKING]), |upstream| {
        let wanted = "    verify: { commands: [\"true\"], reports: [\"out/*.xml\", \"out/*.tap\", \"nothing/**\"] }";
        manifest(upstream).replace("    verify: [\"python3 -m unittest\"]", wanted)
    });
    let output = job.run();
    // What a report says decides nothing: the command has passed, and nothing was changed.
    let junit = job.world.record_file("junit.xml");
    for wanted in [
        "name=\"out/a.xml: unit\"",
        "name=\"good\" time=\"0.5\" classname=\"C\"",
        "because",
        "name=\"out/b.tap\"",
        "name=\"first\"",
        "name=\"verify\"",
    ] {
        assert!(junit.contains(wanted), "no {wanted}: {junit}");
    }
    for gone in ["aaaaaaaaaa", "root:", "ghp_"] {
        assert!(!junit.contains(gone), "{gone}: {junit}");
    }
    let summary = job.world.record_file("summary.md");
    assert!(summary.contains("- ✗ `out/a.xml`: 2 tests, 1 failed\n  - `::add-mask::x @mona &lt;!-- -->`"), "{summary}");
    assert!(summary.contains("- ✓ `out/b.tap`: 2 tests, 0 failed, 1 skipped"), "{summary}");
    let said = said(&output);
    assert!(said.contains("tests in out/b.tap: 2 tests, 0 failed, 1 skipped"), "{said}");
    for (path, why) in [
        ("out/page.xml", "it is no test report in JUnit's XML, TRX or TAP"),
        ("out/bomb.xml", "it has a DTD, which could hold anything"),
        ("out/token.xml", "found a secret in it"),
        ("out/huge.xml", "with it the test reports are larger than 32MiB"),
        ("out/bytes.xml", "it is no text in UTF-8"),
    ] {
        let line = format!("the test report {path}: ");
        let line =
            said.lines().find(|said| said.contains(&line)).unwrap_or_else(|| panic!("{path} is not named:\n{said}"));
        assert!(line.contains(why), "{line}");
    }
    job.nothing_left();
}

shared!(no_test_report_is_a_warning: docker, bubblewrap, smolmachines: MINUTES);
fn no_test_report_is_a_warning() {
    let job = Job::with_manifest(&commands(&["echo more >> README.md; git commit -qam more"]), |upstream| {
        let wanted = "    verify: { commands: [\"true\"], reports: [\"out/*.xml\"] }";
        manifest(upstream).replace("    verify: [\"python3 -m unittest\"]", wanted)
    });
    let output = job.run();
    ended_with(&output, 0);
    assert!(said(&output).contains("no test report was taken: none that can be read is where"), "{}", said(&output));
    job.nothing_left();
}
