//! The routes in force, with the matcher that is made of them.

use std::path::Path;

use bottle_policy::forge_read::ForgeReadJudge;
use bottle_policy::matcher::Matcher;
use bottle_policy::mcp::McpJudge;
use bottle_policy::route::RoutesPolicy;
use bottle_wire::proposal::sha256;

use crate::common::{self, Error};

/// The routes in force.
pub(super) struct RoutePolicy {
    pub(super) routes: RoutesPolicy,
    pub(super) matcher: Matcher,
    /// For each route, what judges its messages, where an MCP server is behind it.
    pub(super) mcp: Vec<Option<McpJudge>>,
    /// Likewise where a forge is read.
    pub(super) forge: Vec<Option<ForgeReadJudge>>,
    /// The file's SHA-256, by which pipelock knows it again.
    pub(super) hash: String,
}

impl RoutePolicy {
    /// Takes the text of `routes.yaml`.
    pub(super) fn new(path: &Path, text: &str) -> Result<Self, Error> {
        let routes: RoutesPolicy = common::parse_policy(path, text)?;
        let invalid = |reason: String| Error::Policy { path: path.to_owned(), reason };
        let matcher = Matcher::new(&routes).map_err(|error| invalid(error.to_string()))?;
        let judges = routes.routes.iter().map(|route| route.mcp.as_ref().map(McpJudge::new).transpose());
        let mcp = judges.collect::<Result<_, _>>().map_err(|reason| invalid(format!("`mcp`: {reason}")))?;
        let judges = routes.routes.iter().map(|route| route.forge.as_ref().map(ForgeReadJudge::new).transpose());
        let forge = judges.collect::<Result<_, _>>().map_err(|reason| invalid(format!("`forge`: {reason}")))?;
        Ok(Self { routes, matcher, mcp, forge, hash: sha256(text) })
    }
}
