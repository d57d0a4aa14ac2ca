//! What the agent wants written at the forge: judged at once, and written down for the runner, or refused and written down as that.

use std::time::Instant;

use bottle_policy::outputs::{ANSWER_TRIES, Output, OutputKind, OutputRefusal};
use bottle_scan::known::{KnownSecrets, KnownSecretsError};
use bottle_wire::proposal::record::Event;

use super::{Broker, BrokerAnswer};
use crate::approvals::error::BrokerError;

/// The longest reason that is written down.
const MAX_REASON_CHARS: usize = 400;

impl Broker {
    /// Judges an output; `asked` is what is wrong with the call where it is none.
    pub(super) fn output(
        &mut self,
        kind: OutputKind,
        asked: Result<Output, String>,
    ) -> Result<BrokerAnswer, BrokerError> {
        if let Err(reason) = self.limits.note(Instant::now()) {
            let text = format!("refused: {reason}; it is not noted");
            return Ok(BrokerAnswer { text, mistake: true, pending: None });
        }
        let id = self.log.ledger().next_id();
        match self.judged(kind, asked) {
            Ok(output) => {
                self.log.add(Event::Output { id, output: Box::new(output) })?;
                tracing::info!("{id}: {kind}");
                let text = format!("noted as {id}: it is written when you have ended");
                Ok(BrokerAnswer { text, mistake: false, pending: None })
            }
            Err(reason) => {
                let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
                tracing::warn!("{id}: refused a {kind}");
                let text = format!("refused as {id}: {reason}");
                self.log.add(Event::OutputRefused { id, kind, reason })?;
                Ok(BrokerAnswer { text, mistake: true, pending: None })
            }
        }
    }

    /// The output as it may go out. No reason repeats a secret.
    fn judged(&self, kind: OutputKind, asked: Result<Output, String>) -> Result<Output, String> {
        let Some(judge) = &self.outputs else { return Err(OutputRefusal::NotGranted(kind).to_string()) };
        // This door has no secret to know; the runner, which knows them all, looks for them before anything is written.
        let known = KnownSecrets::new(&[]).map_err(|error: KnownSecretsError| error.to_string())?;
        let words = |refusal: OutputRefusal| refusal.to_string();
        let tried = self.log.ledger().refused(kind);
        if kind == OutputKind::Json && judge.rules().grants(kind) && tried >= ANSWER_TRIES {
            return Err(OutputRefusal::AnswerTries.to_string());
        }
        let output = match asked {
            Ok(output) => output,
            Err(reason) => return Err(judge.no_secret(&known, &reason).err().map_or(reason, words)),
        };
        let before: Vec<Output> = self.log.ledger().outputs().iter().map(|(_, output)| output.clone()).collect();
        judge.judge(&known, &before, &output).map_err(words)
    }
}
