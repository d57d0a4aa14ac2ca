//! All that following a run's proposals needs of the run.

use std::sync::Arc;

use bottle_plan::manifest::ManifestSource;
use bottle_plan::plan::BottlePlan;

use crate::backend::Bottle;
use crate::cancel::Cancel;
use crate::forge::Forge;
use crate::report::Events;
use crate::secrets::Secrets;

/// The parts of a run that its proposals are followed with.
#[derive(Clone, Copy)]
pub(crate) struct ApprovalContext<'a> {
    pub(crate) bottle: &'a dyn Bottle,
    pub(crate) plan: &'a BottlePlan,
    /// The manifest's name and text.
    pub(crate) manifest: &'a ManifestSource,
    pub(crate) forge: Option<&'a Arc<dyn Forge>>,
    pub(crate) secrets: &'a Secrets,
    pub(crate) events: &'a Events,
    pub(crate) cancel: &'a Cancel,
}
