//! The smallest change of a manifest that would have let pass what runs were refused.
//!
//! Map: `refused` (what records have of refusals, and what of it is never offered), `offers` (what is offered, and the text with it).
//!
//! Always: nothing is applied. What a scan found is never offered, nor what has a secret's look; nor anything of the same place, in any
//! record. A request is asked about again by [`crate::explain`], so what is offered is what the doors miss today. Records hold an agent's
//! words: what does not read as what it should be is left out, and said.

mod offers;
mod refused;

pub use offers::{Edited, Offer, Suggestions, suggest};
pub use refused::{RunRefusals, Withheld};
