//! The commands of a workflow's setup steps, such as `copilot-setup-steps.yml`: what its `run` steps do, as a bottle's setup does it.
//!
//! Format: [Copilot's setup steps], a workflow with a job of that name.
//!
//! [Copilot's setup steps]: https://docs.github.com/en/copilot/how-tos/use-copilot-agents/coding-agent/customize-the-agent-environment

use std::collections::BTreeMap;

use bottle_types::address::has_password;
use serde_json::{Map, Value};

/// The job whose steps are read.
const JOB: &str = "copilot-setup-steps";
/// Actions that only bring in what a bottle has already.
const BROUGHT_ALREADY: [&str; 1] = ["actions/checkout"];

/// What a workflow's steps come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SetupSteps {
    /// Shell commands, one after the other.
    pub(super) run: Vec<String>,
    /// What was left out, for people.
    pub(super) left_out: Vec<String>,
}

impl SetupSteps {
    /// Reads the workflow; the error says what is wrong with it, or what a bottle can't do.
    pub(super) fn parse(workflow: &str) -> Result<Self, String> {
        let workflow: Value = bottle_types::yaml::from_str(workflow).map_err(|error| error.to_string())?;
        let job = &workflow["jobs"][JOB];
        let steps = job["steps"].as_array().ok_or_else(|| format!("it has no job `{JOB}` with steps"))?;
        let mut found = Self::default();
        for key in ["container", "services", "strategy"] {
            if !job[key].is_null() {
                found.left_out.push(format!("the job's `{key}`: the bottle has its own"));
            }
        }
        let defaults = |of: &Value, key: &str| of["defaults"]["run"][key].as_str().map(str::to_owned);
        let default = |key: &str| defaults(job, key).or_else(|| defaults(&workflow, key));
        let around = Around {
            env: [&workflow, job].map(|of| &of["env"]),
            directory: default("working-directory"),
            shell: default("shell"),
        };
        for (index, step) in steps.iter().enumerate() {
            let step = step.as_object().ok_or_else(|| format!("step {} is no mapping", index + 1))?;
            found.add(index + 1, step, &around)?;
        }
        match found.run.is_empty() {
            true => Err(format!("the job `{JOB}` has no step with `run`")),
            false => Ok(found),
        }
    }

    fn add(&mut self, number: usize, step: &Map<String, Value>, around: &Around<'_>) -> Result<(), String> {
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        let name = text("name").map_or_else(|| format!("step {number}"), |name| format!("step {number}, {name}"));
        if let Some(action) = text("uses") {
            if !BROUGHT_ALREADY.contains(&action.split('@').next().unwrap_or(action)) {
                self.left_out
                    .push(format!("`{action}`: a bottle runs no actions; its tools are the image's or the machine's"));
            }
            return Ok(());
        }
        let command = text("run").ok_or_else(|| format!("{name} has neither `run` nor `uses`"))?;
        if step.contains_key("if") {
            self.left_out.push(format!("{name}: it has an `if`, which only Actions can decide"));
            return Ok(());
        }
        self.run.push(around.command(step, command).map_err(|why| format!("{name}: {why}"))?);
        Ok(())
    }
}

/// What holds for all steps.
struct Around<'a> {
    /// The variables of the workflow, and of the job.
    env: [&'a Value; 2],
    directory: Option<String>,
    shell: Option<String>,
}

impl Around<'_> {
    /// The step as one command of `sh`.
    fn command(&self, step: &Map<String, Value>, command: &str) -> Result<String, String> {
        let own = |key: &str| step.get(key).and_then(Value::as_str);
        let directory = own("working-directory").or(self.directory.as_deref());
        let shell = own("shell").or(self.shell.as_deref());
        let command = command.trim();
        let may_fail = step.get("continue-on-error").and_then(Value::as_bool).unwrap_or_default();
        let mut env: BTreeMap<&str, String> = BTreeMap::new();
        for of in self.env.into_iter().chain(step.get("env")) {
            for (name, value) in of.as_object().into_iter().flatten() {
                env.insert(name, scalar(value).ok_or_else(|| format!("its variable {name} is no text"))?);
            }
        }
        for text in env.values().map(String::as_str).chain(directory).chain([command]) {
            if text.contains("${{") {
                return Err("`${{ }}` is for Actions alone; write its commands under `setup.run`".to_owned());
            }
        }
        // As for a command of the manifest: the record shows it.
        if env.values().map(String::as_str).chain([command]).any(has_password) {
            return Err(
                "there is an address with a password or a token in it; revoke it, since the record shows the step"
                    .to_owned(),
            );
        }
        // GitHub's own ways of calling them.
        let shell = match shell {
            None if !command.contains('\n') && env.is_empty() && directory.is_none() && !may_fail => {
                return Ok(command.to_owned());
            }
            None => "bash -e",
            Some("bash") => "bash --noprofile --norc -eo pipefail",
            Some("sh") => "sh -e",
            Some(other) => return Err(format!("its shell is `{other}`, and a bottle has bash and sh")),
        };
        let mut words = vec![];
        if let Some(directory) = directory {
            words.push(format!("cd {} &&", quoted(directory)));
        }
        for (name, value) in &env {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !name.chars().all(is_name) {
                return Err(format!("`{}` is no variable's name", name.escape_debug()));
            }
            words.push(format!("{name}={}", quoted(value)));
        }
        words.push(format!("{shell} -c {}", quoted(command)));
        let line = words.join(" ");
        let line = if directory.is_some() { format!("({line})") } else { line };
        Ok(if may_fail { format!("{line} || true") } else { line })
    }
}

/// A value of `env`, as Actions makes it a text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null => Some(String::new()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// One word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the shape of GitHub's own example.
    const WORKFLOW: &str = r#"
name: "Copilot Setup Steps"
on: { workflow_dispatch: {}, push: { paths: [.github/workflows/copilot-setup-steps.yml] } }
env: { CI: true }
jobs:
  copilot-setup-steps:
    runs-on: ubuntu-latest
    permissions: { contents: read }
    services: { db: { image: postgres } }
    steps:
      - name: Checkout code
        uses: actions/checkout@v5
      - name: Set up Node.js
        uses: actions/setup-node@v4
        with: { node-version: "20", cache: npm }
      - name: Install JavaScript dependencies
        run: npm ci
      - { name: Build, run: "make it's\nmake all", working-directory: sub dir, env: { LEVEL: 3, NAME: "a 'b'" } }
      - { run: false-or-not, shell: bash, continue-on-error: true }
      - { name: Never, run: exit 1, if: failure() }
"#;

    #[test]
    fn the_run_steps_are_commands_and_the_rest_is_said() {
        let steps = SetupSteps::parse(WORKFLOW).expect("steps");
        assert_eq!(
            steps.run,
            [
                "CI='true' bash -e -c 'npm ci'",
                r"(cd 'sub dir' && CI='true' LEVEL='3' NAME='a '\''b'\''' bash -e -c 'make it'\''s
make all')",
                "CI='true' bash --noprofile --norc -eo pipefail -c 'false-or-not' || true",
            ]
        );
        assert_eq!(
            steps.left_out,
            [
                "the job's `services`: the bottle has its own",
                "`actions/setup-node@v4`: a bottle runs no actions; its tools are the image's or the machine's",
                "step 6, Never: it has an `if`, which only Actions can decide",
            ]
        );
        let plain = "jobs: { copilot-setup-steps: { steps: [{ run: npm ci }] } }";
        assert_eq!(SetupSteps::parse(plain).expect("steps").run, ["npm ci"]);
    }

    #[test]
    fn what_a_bottle_cant_do_is_refused_by_name() {
        for (step, why) in [
            ("{ run: echo, shell: pwsh }", "step 1: its shell is `pwsh`, and a bottle has bash and sh"),
            (
                "{ run: 'echo ${{ github.sha }}' }",
                "step 1: `${{ }}` is for Actions alone; write its commands under `setup.run`",
            ),
            (
                "{ run: echo, env: { A: '${{ secrets.A }}' } }",
                "step 1: `${{ }}` is for Actions alone; write its commands under `setup.run`",
            ),
            (
                "{ run: 'git clone https://me:secret@git.bottle.test/a' }",
                "step 1: there is an address with a password or a token in it; revoke it, since the record shows the step",
            ),
            (
                "{ run: echo, env: { INDEX: 'https://me:secret@git.bottle.test/a' } }",
                "step 1: there is an address with a password or a token in it; revoke it, since the record shows the step",
            ),
            ("{ run: echo, env: { A: [b] } }", "step 1: its variable A is no text"),
            ("{ run: echo, env: { 'A B=c': d } }", "step 1: `A B=c` is no variable's name"),
            ("{ name: x }", "step 1, x has neither `run` nor `uses`"),
            ("npm ci", "step 1 is no mapping"),
            ("{ uses: actions/checkout@v5 }", "the job `copilot-setup-steps` has no step with `run`"),
        ] {
            let workflow = format!("jobs: {{ copilot-setup-steps: {{ steps: [{step}] }} }}");
            assert_eq!(SetupSteps::parse(&workflow).expect_err("refused"), why, "{step}");
        }
        let other = SetupSteps::parse("jobs: { build: { steps: [{ run: x }] } }").expect_err("refused");
        assert_eq!(other, "it has no job `copilot-setup-steps` with steps");
        assert!(SetupSteps::parse("a: [").is_err());
    }
}
