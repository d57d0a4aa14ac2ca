//! The routes in force, with the matcher that is made of them.

use std::path::Path;

use bottle_policy::matcher::Matcher;
use bottle_policy::route::RoutesPolicy;
use bottle_wire::proposal::sha256;

use crate::common::{self, Error};

/// The routes in force.
pub(super) struct RoutePolicy {
    pub(super) routes: RoutesPolicy,
    pub(super) matcher: Matcher,
    /// The file's SHA-256, by which pipelock knows it again.
    pub(super) hash: String,
}

impl RoutePolicy {
    /// Takes the text of `routes.yaml`.
    pub(super) fn new(path: &Path, text: &str) -> Result<Self, Error> {
        let routes: RoutesPolicy = common::parse_policy(path, text)?;
        let matcher = Matcher::new(&routes)
            .map_err(|error| Error::Policy { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self { routes, matcher, hash: sha256(text) })
    }
}
