//! A push at the gate.

use bottle_policy::gate::commits::{BrokenRule, CommitJudge, CommitRules};
use bottle_policy::gate::hold::Holds;
use bottle_policy::gate::paths::ProtectedPaths;
use bottle_policy::gate::refs::{RefRefusal, RefRules};
use bottle_policy::gate::{GateError, RepoName, Upstream};
use bottle_policy::supervise::Approval;

use super::{Explainer, Explanation, RuleRef, Verdict};

/// A push that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushAsked {
    /// The repository at the gate; none: the one that the agent works in.
    pub repo: Option<RepoName>,
    /// The full name of the ref that is to change.
    pub name: String,
    /// Whether it is to go away.
    pub deletes: bool,
    /// Paths of files that the new commits touch.
    pub paths: Vec<String>,
    /// The message of a new commit; none: nothing is said of it.
    pub message: Option<String>,
    /// Its author and committer, as `NAME <ADDRESS>`; none: this run's own.
    pub author: Option<String>,
}

impl PushAsked {
    /// A push by a refspec as `git push` takes it: `[+][SOURCE]:REF`, `REF`, or the name of a branch.
    pub fn new(refspec: &str) -> Self {
        let spec = refspec.strip_prefix('+').unwrap_or(refspec);
        let (source, name) = spec.rsplit_once(':').map_or((None, spec), |(source, name)| (Some(source), name));
        let name = if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") };
        Self { repo: None, name, deletes: source == Some(""), paths: vec![], message: None, author: None }
    }

    fn line(&self, repo: &str) -> String {
        let what = if self.deletes { "deletion of" } else { "push to" };
        let paths = if self.paths.is_empty() { String::new() } else { format!(", touching {}", self.paths.join(", ")) };
        format!("{what} {} of {repo}{paths}", self.name)
    }
}

/// What is looked at in a run beyond refs and paths.
const THEN: &str =
    "every new object is scanned for secrets; sizes, rewrites, commits and submodules are judged by what is pushed";

impl Explainer {
    /// Says what the gate makes of a push. An error: the gate would refuse its own policy.
    pub fn push(&self, asked: &PushAsked) -> Result<Explanation, GateError> {
        let upstreams = &self.plan.policies.gate.upstreams;
        let main = || upstreams.iter().find(|upstream| upstream.name.as_str() == "origin").or(upstreams.first());
        let found = match &asked.repo {
            Some(name) => upstreams.iter().find(|upstream| upstream.name == *name),
            None => main(),
        };
        let Some(upstream) = found else {
            let name = asked.repo.as_ref().map_or("origin", RepoName::as_str);
            let mut told = Explanation::new(asked.line(name), Verdict::Deny);
            told.why.push(format!("no repository at the gate is called {name}"));
            told.change.push(format!("declare it under bottles.{}.git", self.bottle()));
            return Ok(told);
        };
        self.push_to(asked, upstream)
    }

    fn push_to(&self, asked: &PushAsked, upstream: &Upstream) -> Result<Explanation, GateError> {
        let mut told = Explanation::new(asked.line(upstream.name.as_str()), Verdict::Deny);
        let allowed = match RefRules::new(&upstream.push)?.judge_update(&asked.name, asked.deletes) {
            Ok(allowed) => allowed,
            Err(refusal) => return Ok(self.refused_ref(told, asked, upstream, &refusal)),
        };
        let by = match allowed.glob {
            Some(index) => self.push_rule(upstream, "refs", Some(index), &upstream.push.refs[index]),
            None => self.push_rule(upstream, "tags", None, "true"),
        };
        let paths = ProtectedPaths::new(&upstream.push)?;
        let protected = asked.paths.iter().find_map(|path| Some((path, paths.protects(path)?)));
        if let Some((path, glob)) = protected {
            told.rule = Some(self.glob_rule(upstream, "protect_paths", &upstream.push.protect_paths, glob));
            told.also.push(by);
            told.why.push(format!("no pushed commit may add, change, rename or delete {path}"));
            told.change.push(format!("leave {path} as it is, or take `{glob}` out of `push.protect_paths`"));
            return Ok(told);
        }
        if let Some(broken) = self.broken_rule(asked, upstream)? {
            let key = broken.rule.unwrap_or("authors");
            told.rule = Some(self.push_rule(upstream, key, None, key));
            told.also.push(by);
            told.why.push(broken.why);
            told.change.push(format!("commit as the rule says, or change `push.commits.{key}`"));
            return Ok(told);
        }
        let holds = Holds::new(&upstream.push.hold)?;
        let held = asked.paths.iter().find_map(|path| Some((path, holds.path(path)?)));
        if let Some((path, glob)) = held {
            let nobody = self.plan.policies.supervise.approval == Approval::Deny;
            told.verdict = if nobody { Verdict::Deny } else { Verdict::Hold };
            told.rule = Some(self.glob_rule(upstream, "hold", &upstream.push.hold.paths, glob));
            told.also.push(by);
            told.why.push(match nobody {
                true => {
                    format!("a push that touches {path} waits for a person, and nobody decides in this bottle's runs")
                }
                false => format!("a push that touches {path} waits for a person"),
            });
            told.change.push(format!("leave {path} as it is, or take `{glob}` out of `push.hold.paths`"));
            return Ok(told);
        }
        told.verdict = Verdict::Allow;
        told.why.push("the ref may be pushed, and no path is protected or held".to_owned());
        told.change.push(match allowed.glob {
            Some(_) => "take that glob out or narrow it".to_owned(),
            None => "set `push.tags` to false, or name the tags that may be pushed in `push.refs`".to_owned(),
        });
        told.rule = Some(by);
        told.then.push(THEN.to_owned());
        for (key, rule) in upstream.push.commits.lines() {
            told.then.push(format!("each new commit: {rule} (push.commits.{key})"));
        }
        Ok(told)
    }

    /// The first rule about commits that a commit like the one that is asked about breaks. Trailers are left out: a hook adds them, and they
    /// name a run.
    fn broken_rule(&self, asked: &PushAsked, upstream: &Upstream) -> Result<Option<BrokenRule>, GateError> {
        if asked.message.is_none() && asked.author.is_none() {
            return Ok(None);
        }
        let mut rules = CommitRules { run: None, co_authored_by: None, ..upstream.push.commits.clone() };
        if asked.message.is_none() {
            rules = CommitRules { message: None, sign_off: false, ..rules };
        }
        let who = asked.author.clone().unwrap_or_else(|| self.plan.committer().to_string());
        let message = asked.message.as_deref().unwrap_or_default();
        let raw = format!("tree {}\nauthor {who} 0 +0000\ncommitter {who} 0 +0000\n\n{message}", "0".repeat(40));
        Ok(CommitJudge::new(&rules)?.commit("HEAD", raw.as_bytes()).into_iter().next())
    }

    fn refused_ref(
        &self,
        mut told: Explanation,
        asked: &PushAsked,
        upstream: &Upstream,
        refusal: &RefRefusal,
    ) -> Explanation {
        told.why.push(refusal.to_string());
        let agents_word =
            self.layered.manifest.agents.get(&self.plan.agent.name).and_then(|agent| agent.outputs.as_ref());
        if agents_word.is_some_and(|outputs| outputs.branch.is_none()) {
            let name = self.plan.agent.name.as_str();
            told.rule = Some(self.rule(&["agents", name, "outputs"], "no `branch`".to_owned()));
            told.why.push("the agent's outputs name no branch, so nothing is pushed in its runs".to_owned());
            told.change.push(format!("add `branch: {{}}` to agents.{name}.outputs"));
            return told;
        }
        let list = self.push_rule(upstream, "refs", None, &upstream.push.refs.join(", "));
        match refusal {
            RefRefusal::NotAllowed(_) => {
                told.change.push(format!("add {:?} to {}", asked.name, list.path));
                told.rule = Some(list);
            }
            RefRefusal::Tag => {
                let tags = self.push_rule(upstream, "tags", None, "false");
                told.change.push(format!("set {} to true, and add {:?} to {}", tags.path, asked.name, list.path));
                told.rule = Some(tags);
            }
            RefRefusal::Malformed
            | RefRefusal::LikeAnObject
            | RefRefusal::Namespace(_)
            | RefRefusal::Ledger
            | RefRefusal::Deletion => {
                told.change.push("nothing in a manifest".to_owned());
            }
        }
        told
    }

    fn glob_rule(&self, upstream: &Upstream, key: &'static str, globs: &[String], glob: &str) -> RuleRef {
        self.push_rule(upstream, key, globs.iter().position(|one| one == glob), glob)
    }

    /// The rule below a key of an upstream's `push`, or the whole of it.
    fn push_rule(&self, upstream: &Upstream, key: &str, index: Option<usize>, text: &str) -> RuleRef {
        let entry = self.entry().and_then(|bottle| bottle.git.iter().position(|entry| entry.name == upstream.name));
        let entry = entry.map(|entry| entry.to_string());
        let index = index.map(|index| index.to_string());
        let keys: &[&str] = match key {
            "hold" => &["push", "hold", "paths"],
            "authors" | "message" | "sign_off" => &["push", "commits", key],
            _ => &["push", key],
        };
        let git: &[&str] = if entry.is_some() { &["git"] } else { &["git", upstream.name.as_str()] };
        let path = [git, entry.as_deref().as_slice(), keys, index.as_deref().as_slice()].concat();
        self.rule_of_bottle(&path, text.to_owned())
    }
}
