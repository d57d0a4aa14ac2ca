//! The backend smolmachines: `real` with the real smolvm, which takes a /dev/kvm that boots machines and is run by
//! `scripts/smol test`; `standin` where none is, with a script in smolvm's place that is held against the real one's parser.

mod real;
mod standin;
