//! The supervise door, made known to Claude.

use bottle_plan::plan::BottlePlan;

use super::{STEP_TIMEOUT, Step};
use crate::backend::{Bottle, Exec, succeed};

/// Writes the file `$1`, all of which is `$2`; where the image has one already, the rest is the command that adds to it.
const REGISTER: &str = r#"file=$1; text=$2; shift 2
if [ -e "$file" ] || [ -L "$file" ]; then exec "$@"; fi
umask 077
printf '%s\n' "$text" > "$file"
echo "written to $file""#;

/// Writes what `claude mcp add` would write: to start Claude Code for that takes longer than all else before the agent. Nothing is
/// connected to.
pub(super) async fn provision(bottle: &dyn Bottle, plan: &BottlePlan) -> Step {
    let mcp = &plan.mcp;
    let mut argv = ["sh", "-c", REGISTER, "sh", &mcp.settings.file, &mcp.settings.text].map(str::to_owned).to_vec();
    argv.extend(mcp.register.iter().cloned());
    let done = succeed(bottle, Exec::guest(argv).in_dir(&plan.guest.home), STEP_TIMEOUT).await?;
    Ok(done.text().trim().to_owned())
}
