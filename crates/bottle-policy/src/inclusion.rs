//! Whether globs take nothing but what other globs take: for a rule that may only be made narrower.
//!
//! Both sides are compiled, from the regular expressions by which globset itself matches, to automata that are walked together, so an answer
//! is a proof over every text and not a trial of some. A glob that is none, or too large for that, proves nothing: the answer is no.

use std::collections::HashSet;

use bottle_types::path::MarkedPath;
use globset::Glob;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use crate::gate::refs;
use crate::matcher;

/// The largest automaton of one side, in bytes.
const MAX_DFA_BYTES: usize = 4 << 20;
/// The most pairs of states that are walked.
const MAX_PAIRS: usize = 200_000;

type Dfa = dense::DFA<Vec<u32>>;

/// Whether each path that a route's glob takes is one that a glob of another route takes.
pub fn path_within(narrow: &str, wide: &[String]) -> bool {
    if is_marked(narrow) {
        // Its encoded and doubled slashes are no other glob's.
        return wide.iter().any(|glob| glob == narrow);
    }
    let wide = wide.iter().filter(|glob| !is_marked(glob)).map(|glob| matcher::glob(glob));
    match (matcher::glob(narrow), wide.collect::<Result<Vec<Glob>, _>>()) {
        (Ok(narrow), Ok(wide)) => within(&narrow, &wide).unwrap_or(false),
        _ => false,
    }
}

/// Whether no path is taken by globs of both lists.
pub fn paths_disjoint(one: &[String], other: &[String]) -> bool {
    if one.iter().chain(other).any(|glob| is_marked(glob)) {
        return false;
    }
    let globs = |list: &[String]| list.iter().map(|glob| matcher::glob(glob)).collect::<Result<Vec<Glob>, _>>();
    match (globs(one), globs(other)) {
        (Ok(one), Ok(other)) => disjoint(&one, &other).unwrap_or(false),
        _ => false,
    }
}

/// Whether each name (of a ref or of a file) that a glob takes is one that another glob takes, whether case counts or not.
pub fn name_within(narrow: &str, wide: &[String]) -> bool {
    [false, true].into_iter().all(|fold_case| {
        let wide = wide.iter().map(|glob| refs::parsed(glob, fold_case));
        match (refs::parsed(narrow, fold_case), wide.collect::<Result<Vec<Glob>, _>>()) {
            (Ok(narrow), Ok(wide)) => within(&narrow, &wide).unwrap_or(false),
            _ => false,
        }
    })
}

fn is_marked(glob: &str) -> bool {
    MarkedPath::marks_of(glob).1 > 0
}

/// None: it can't be proven.
fn within(narrow: &Glob, wide: &[Glob]) -> Option<bool> {
    let (narrow, wide) = (dfa(std::slice::from_ref(narrow))?, dfa(wide)?);
    walk(&narrow, &wide, |narrow, wide| !narrow || wide)
}

fn disjoint(one: &[Glob], other: &[Glob]) -> Option<bool> {
    let (one, other) = (dfa(one)?, dfa(other)?);
    walk(&one, &other, |one, other| !(one && other))
}

/// The automaton of texts that one of the globs takes.
fn dfa(globs: &[Glob]) -> Option<Dfa> {
    let patterns: Vec<&str> = globs.iter().map(Glob::regex).collect();
    dense::Builder::new()
        // As globset compiles them.
        .syntax(syntax::Config::new().utf8(false).dot_matches_new_line(true))
        .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(MAX_DFA_BYTES)))
        .configure(
            dense::Config::new()
                .start_kind(StartKind::Anchored)
                .dfa_size_limit(Some(MAX_DFA_BYTES))
                .determinize_size_limit(Some(MAX_DFA_BYTES)),
        )
        .build_many(&patterns)
        .ok()
}

/// Whether something is so of every text: whether one automaton takes it, and whether the other does.
fn walk(one: &Dfa, other: &Dfa, is_fine: impl Fn(bool, bool) -> bool) -> Option<bool> {
    let input = Input::new("").anchored(Anchored::Yes);
    let start = (one.start_state_forward(&input).ok()?, other.start_state_forward(&input).ok()?);
    let takes = |dfa: &Dfa, state: StateID| dfa.is_match_state(dfa.next_eoi_state(state));
    let mut seen = HashSet::from([start]);
    let mut left = vec![start];
    while let Some((first, second)) = left.pop() {
        if !is_fine(takes(one, first), takes(other, second)) {
            return Some(false);
        }
        for byte in 0..=u8::MAX {
            let next = (one.next_state(first, byte), other.next_state(second, byte));
            if one.is_quit_state(next.0) || other.is_quit_state(next.1) {
                return None;
            }
            // From a dead state of the first on, nothing is taken by it.
            if !one.is_dead_state(next.0) && seen.insert(next) {
                left.push(next);
            }
        }
        if seen.len() > MAX_PAIRS {
            return None;
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(globs: &[&str]) -> Vec<String> {
        globs.iter().map(|glob| (*glob).to_owned()).collect()
    }

    #[test]
    fn a_path_is_within_or_not() {
        for (narrow, wide, expected) in [
            ("/v1/messages", &["/v1/*"][..], true),
            ("/v1/*", &["/v1/*"], true),
            ("/v1/*", &["/v1/**"], true),
            ("/v1/**", &["/v1/*"], false),
            ("/**", &["/v1/**"], false),
            ("/v1*/a", &["/v1/a"], false),
            ("/v?/a", &["/v*/a"], true),
            ("/v*/a", &["/v?/a"], false),
            ("/[ab]/x", &["/a/x", "/b/x"], true),
            ("/[a-c]/x", &["/a/x", "/b/x"], false),
            ("/{a,b}/x", &["/a/*", "/b/*"], true),
            ("/{a,b,c/d}/x", &["/a/*", "/b/*"], false),
            // globset lets a class take a slash.
            ("/[!a]/x", &["/*/x"], false),
            ("/[!a]/x", &["/**"], true),
            ("/a/**/b", &["/a/**"], true),
            // `/**` alone takes what is below, and `/a/**` does not take `/a`.
            ("/a", &["/a/**"], false),
            ("/a/**", &["/a/*", "/a/*/**"], true),
            ("/a/x", &[], false),
            ("/a//b", &["/a/**"], false),
            ("/a//b", &["/a//b"], true),
            ("/a/b", &["/a//b"], false),
            ("/[", &["/**"], false),
            ("/a", &["/["], false),
        ] {
            assert_eq!(path_within(narrow, &list(wide)), expected, "{narrow} in {wide:?}");
        }
    }

    #[test]
    fn lists_of_paths_are_disjoint_or_not() {
        for (one, other, expected) in [
            (&["/a/**"][..], &["/b/**"][..], true),
            (&["/a/**"], &["/*/x"], false),
            (&["/a/b*"], &["/a/*c"], false),
            (&["/a/b"], &["/a/c", "/a/d"], true),
            (&["/a//b"], &["/c"], false),
            (&[], &["/c"], true),
        ] {
            assert_eq!(paths_disjoint(&list(one), &list(other)), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn case_counts_both_ways() {
        assert!(name_within("refs/heads/bottle/x-*", &list(&["refs/heads/bottle/**"])));
        assert!(!name_within("refs/heads/Bottle/x", &list(&["refs/heads/bottle/**"])));
        assert!(!name_within("refs/heads/**", &list(&["refs/heads/bottle/**"])));
        // A class that lower case alone is not in takes both where case does not count.
        assert!(!name_within("[!a]", &list(&["[!aA]"])));
    }

    #[test]
    fn what_is_proven_holds_for_the_matcher_itself() {
        use proptest::prelude::*;
        let part = || prop::sample::select(vec!["a", "b", "*", "**", "?", "[ab]", "{a,b}", "a*", "*b", "[!a]"]);
        let glob = || prop::collection::vec(part(), 1..4).prop_map(|parts| format!("/{}", parts.join("/")));
        let path = prop::collection::vec("[abc]{1,2}", 1..5).prop_map(|parts| format!("/{}", parts.join("/")));
        proptest!(ProptestConfig::with_cases(3000), |(narrow in glob(), wide in prop::collection::vec(glob(), 1..3), path in path)| {
            let takes = |glob: &str| matcher::glob(glob).is_ok_and(|glob| glob.compile_matcher().is_match(&path));
            let is_wider = takes(&narrow) && !wide.iter().any(|glob| takes(glob));
            prop_assert!(!is_wider || !path_within(&narrow, &wide), "{narrow} {wide:?} {path}");
        });
    }
}
