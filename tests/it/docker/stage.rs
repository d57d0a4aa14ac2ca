//! What `act` needs to run a workflow without a network: a checkout, a forge, the action, and stand-ins for what a registry has.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bottle_testkit::{Double, random, sh};
use serde_json::Value;

use crate::job::{Job, manifest};

pub(super) const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const WORKFLOW: &str = ".github/workflows/claude.yml";

/// A checkout of the sample with a shipped workflow in it, and everything that `act` needs to run it without a network.
pub(super) struct Stage {
    pub(super) job: Job,
    pub(super) double: Double,
    later: PathBuf,
    /// The job's own token: the forge's where that is enough.
    job_token: String,
}

impl Stage {
    pub(super) fn new(kind: &'static str, workflow: &str, cassette: &str, more: Value) -> Self {
        let stage = Self::bare(kind, cassette, more);
        let shipped = Path::new(ROOT).join(format!("workflows/{kind}/{workflow}.yml"));
        let path = stage.job.checkout.join(WORKFLOW);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::copy(shipped, path).expect("the workflow");
        stage.fit(WORKFLOW);
        stage
    }

    /// Everything but a workflow.
    pub(super) fn bare(kind: &'static str, cassette: &str, more: Value) -> Self {
        let job = Job::with_manifest(cassette, |upstream| match cassette.contains("deploy.toml") {
            true => manifest(upstream),
            false => manifest(upstream).replace("python3 -m unittest", "true"),
        });
        let double = Double::start(kind, more);
        let later = job.world.path("later");
        // The action without the rest of the repository, whose target directory is large.
        let action = job.world.path("action");
        std::fs::create_dir_all(action.join("scripts")).expect("a directory");
        std::fs::copy(Path::new(ROOT).join("action.yml"), action.join("action.yml")).expect("the action");
        sh(&["cp", "-R", &format!("{ROOT}/scripts/action"), &action.join("scripts").display().to_string()]);
        // upload-artifact is on no registry that is reachable here: a stand-in of the same inputs copies what it is given.
        let uploaded = job.world.path("uploaded");
        job.world.write(
            "upload/action.yml",
            &format!(
                "name: upload\ninputs: {{ name: {{ required: true }}, path: {{ required: true }}, if-no-files-found: {{}} }}\nruns:\n  using: composite\n  \
                 steps:\n    - shell: bash\n      env: {{ FROM: \"${{{{ inputs.path }}}}\", NAME: \"${{{{ inputs.name }}}}\" }}\n      \
                 run: mkdir -p {0} && cp -R \"$FROM\" {0}/\"$NAME\"\n",
                uploaded.display()
            ),
        );
        job.world.write(
            "download/action.yml",
            &format!(
                "name: download\ninputs: {{ name: {{ required: true }}, path: {{ required: true }} }}\nruns:\n  using: composite\n  \
                 steps:\n    - shell: bash\n      env: {{ TO: \"${{{{ inputs.path }}}}\", NAME: \"${{{{ inputs.name }}}}\" }}\n      \
                 run: mkdir -p \"$TO\" && cp -R {0}/\"$NAME\"/. \"$TO\"\n",
                uploaded.display()
            ),
        );
        // What the job's repository is called is read from a remote.
        let url = format!("https://{}/octo-org/textstats.git", double.authority);
        sh(&["git", "-C", &job.checkout.display().to_string(), "remote", "add", "forge", &url]);
        let job_token = if kind == "github" { double.token.clone() } else { random(40) };
        Self { job, double, later, job_token }
    }

    /// Fits the workflow at this path to what is here.
    pub(super) fn fit(&self, workflow: &str) {
        let path = self.job.checkout.join(workflow);
        let shipped = std::fs::read_to_string(&path).expect("the workflow");
        let ours = match (shipped.contains("\n  publish:\n"), shipped.contains("\n  split:\n")) {
            (true, _) => Self::two_jobs(&shipped, &self.job, &self.double, &self.later),
            (_, true) => Self::tasks(&shipped, &self.job, &self.double),
            _ => Self::with_our_binary(&shipped, &self.job, &self.double, &self.later),
        };
        std::fs::write(path, ours).expect("the workflow");
    }

    /// The shipped workflow as it stands, but for what a release and a model would give, and with a step that reads the outputs.
    fn with_our_binary(shipped: &str, job: &Job, double: &Double, later: &Path) -> String {
        let uses = "uses: claude-bottle/run@v1\n        id: claude\n";
        let (before, after) = shipped.split_once(uses).expect("the action's step");
        let after = after.strip_prefix("        with:\n").unwrap_or(after);
        let env = format!(
            "        env:\n          BOTTLE_TEST_TOKEN: ${{{{ secrets.BOTTLE_TEST_TOKEN }}}}\n          BOTTLE_STATE_DIR: {}\n          \
             SSL_CERT_FILE: {}\n",
            job.world.path("state").display(),
            double.ca().display(),
        );
        // With a ref of its own the checkout step would ask the forge; without one `act` copies what is there.
        let before = before.replace("          ref: ${{ github.event.repository.default_branch }}\n", "");
        format!(
            "{before}{uses}        with:\n          runner-binary: {}\n          replay: {}\n{}\
             \n      - if: always() && steps.claude.outputs.conclusion\n        env:\n          OUTPUTS: ${{{{ toJSON(steps.claude.outputs) }}}}\n          OUTCOME: ${{{{ steps.claude.outcome }}}}\n        \
             run: printf '%s\\n%s\\n' \"$OUTCOME\" \"$OUTPUTS\" > {}\n",
            env!("CARGO_BIN_EXE_bottle-runner"),
            job.world.path("cassette.yml").display(),
            after.replacen("        env:\n", &env, 1),
            later.display()
        )
    }

    /// The same for the file with two jobs. The second one gets no credential but the forge's token.
    fn two_jobs(shipped: &str, job: &Job, double: &Double, later: &Path) -> String {
        let env = format!(
            "          BOTTLE_STATE_DIR: {}\n          SSL_CERT_FILE: {}\n",
            job.world.path("state").display(),
            double.ca().display(),
        );
        let binary = format!("          runner-binary: {}\n", env!("CARGO_BIN_EXE_bottle-runner"));
        let step = "      - uses: claude-bottle/run@v1\n        id: claude\n        with:\n";
        let (work, publish) = shipped.split_once("\n  publish:\n").expect("two jobs");
        assert!(work.contains(step) && publish.contains(step), "{shipped}");
        let replay = format!("          replay: {}\n", job.world.path("cassette.yml").display());
        let work = work
            .replace(
                "        env:\n",
                &format!("        env:\n          BOTTLE_TEST_TOKEN: ${{{{ secrets.BOTTLE_TEST_TOKEN }}}}\n{env}"),
            )
            .replace(step, &format!("{step}{binary}{replay}"));
        let with_env = step.replace("        with:\n", &format!("        env:\n{env}        with:\n{binary}"));
        let text = format!("{work}\n  publish:\n{}", publish.replace(step, &with_env));
        format!(
            "{text}\n      - if: always()\n        env:\n          OUTPUTS: ${{{{ toJSON(steps.claude.outputs) }}}}\n          OUTCOME: ${{{{ steps.claude.outcome }}}}\n        \
             run: printf '%s\\n%s\\n' \"$OUTCOME\" \"$OUTPUTS\" > {}\n",
            later.display()
        )
    }

    /// The same for the file that divides an issue.
    fn tasks(shipped: &str, job: &Job, double: &Double) -> String {
        let (binary, cassette) = (env!("CARGO_BIN_EXE_bottle-runner"), job.world.path("cassette.yml"));
        let env = format!(
            "\nenv:\n  BOTTLE_STATE_DIR: {}\n  SSL_CERT_FILE: {}\n  BOTTLE_TEST_TOKEN: ${{{{ secrets.BOTTLE_TEST_TOKEN }}}}\n",
            job.world.path("state").display(),
            double.ca().display(),
        );
        let with = "        id: claude\n        with:\n";
        assert_eq!(shipped.matches(with).count(), 3, "{shipped}");
        shipped
            .replace("\njobs:\n", &format!("{env}\njobs:\n"))
            .replace(with, &format!("{with}          runner-binary: {binary}\n"))
            .replace("          issue: ", &format!("          replay: {}\n          issue: ", cassette.display()))
    }

    pub(super) fn act(&self, event: &str, payload: &Value) -> Output {
        self.act_on(WORKFLOW, event, payload)
    }

    /// Runs the workflow at this path.
    pub(super) fn act_on(&self, workflow: &str, event: &str, payload: &Value) -> Output {
        let act = std::env::var("BOTTLE_TEST_ACT").expect("BOTTLE_TEST_ACT: run the tests by scripts/test");
        let path = self.job.world.write("event.json", &payload.to_string());
        let mut command = Command::new(act);
        self.job.world.clean(&mut command);
        command.current_dir(&self.job.checkout);
        command.args([
            event,
            "--no-cache-server",
            "--remote-name",
            "forge",
            "--platform",
            "ubuntu-latest=-self-hosted",
        ]);
        command.args(["--github-instance", &self.double.authority, "--workflows", workflow]);
        command.arg("--eventpath").arg(path);
        if self.double.kind == "gitea" {
            command.args(["--env", "GITEA_ACTIONS=true"]);
        }
        for (action, place) in [
            ("claude-bottle/run@v1", "action"),
            ("actions/upload-artifact@ea165f8d65b6e75b540449e92b4886f43607fa02", "upload"),
            ("actions/upload-artifact@ff15f0306b3f739f7b6fd43fb5d26cd321bd4de5", "upload"),
            ("actions/download-artifact@d3f86a106a0bac45b974a628896c90dbdf5c8093", "download"),
            ("actions/download-artifact@9bc31d5ccc31df68ecc42ccf4149144866c47d8a", "download"),
        ] {
            command.arg("--local-repository").arg(format!("{action}={}", self.job.world.path(place).display()));
        }
        for (name, value) in [
            ("GITHUB_TOKEN", self.job_token.as_str()),
            ("BOTTLE_TOKEN", self.double.token.as_str()),
            ("BOTTLE_READ_TOKEN", self.double.token.as_str()),
            ("ANTHROPIC_API_KEY", "sk-ant-not-needed-in-a-replay"),
            ("BOTTLE_TEST_TOKEN", self.job.world.secret()),
        ] {
            command.env(name, value).args(["--secret", name]);
        }
        command.output().expect("act")
    }

    /// How the action's step ended, and its outputs, as the next step saw them.
    pub(super) fn seen_later(&self) -> (String, Value) {
        let text = std::fs::read_to_string(&self.later).expect("what the later step wrote");
        let (outcome, outputs) = text.split_once('\n').expect("two parts");
        (outcome.to_owned(), serde_json::from_str(outputs).expect("JSON"))
    }
}
