//! Whether a comment decides a proposal: by whom it is, when and where it was written, and to what it says yes.
//!
//! What is not clearly a person's answer to exactly what was shown counts for nothing, and says why. Who may decide is
//! looked up by the runner; the bundle checks once more that what is approved is what it holds.

use std::fmt;

use bottle_wire::proposal::ProposalId;

use crate::event::mention::{self, SaidCommand};
use crate::moment::Moment;

/// What a yes repeats of all that it is bound to: the first digits of the proposal's hash, which is made of the run, the
/// number, a random nonce, the request and the policy's hash, so that nobody knows it before it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ApprovalCode(String);

impl ApprovalCode {
    /// Digits of a code.
    pub const DIGITS: usize = 12;

    /// The code of the proposal with this hash.
    pub fn of(hash: &str) -> Self {
        Self(hash.chars().take(Self::DIGITS).collect())
    }
}

impl fmt::Display for ApprovalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A proposal as people were shown it, in a comment of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Which.
    pub id: ProposalId,
    /// What a yes has to repeat.
    pub code: ApprovalCode,
    /// The number of our comment.
    pub comment: u64,
    /// Who we are there.
    pub us: i64,
    /// When it was posted, by the forge's clock.
    pub at: Moment,
}

/// A comment, and what was looked up about its writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<'a> {
    /// Its number.
    pub comment: u64,
    /// The writer's number.
    pub by: i64,
    /// A bot, or one of the forge's own helpers.
    pub is_bot: bool,
    /// Whether the writer, by this number, may write to the repository now.
    pub may_write: bool,
    /// When, by the forge's clock.
    pub written: Option<&'a str>,
    /// When it was changed last; as `written` where it never was.
    pub changed: Option<&'a str>,
    /// Its text.
    pub text: &'a str,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes, to what was shown.
    Approve,
    /// No, and why; may be empty.
    Deny(String),
    /// What a question is answered with.
    Answer(String),
}

/// Why a comment decides nothing about a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// Not a word about it.
    #[error("it says nothing about this proposal")]
    Silent,
    /// By us: the agent's words are in what we post.
    #[error("it is our own")]
    Ours,
    /// By no person.
    #[error("proposals are decided by people, and it is by a bot")]
    Bot,
    /// By somebody who could not have changed the policy himself.
    #[error("its writer has no write permission on this repository")]
    NotPermitted,
    /// It may say something else than what its writer wrote.
    #[error("it was changed after it was written")]
    Edited,
    /// The forge does not say when it was written or changed.
    #[error("the forge does not say when it was written")]
    Undated,
    /// Older than what it would decide.
    #[error("it is older than the proposal")]
    Early,
    /// An approval without a code.
    #[error("it does not repeat the code that was shown")]
    NoCode,
    /// An approval of something else.
    #[error("its code is not that of the proposal as it is now")]
    OtherCode,
    /// Yes and no at once, or two reasons.
    #[error("it says more than one thing about this proposal")]
    Several,
    /// An answer without words.
    #[error("it answers with nothing")]
    Empty,
}

/// What this comment decides about this proposal.
///
/// # Errors
/// Why it decides nothing.
pub fn judge(written: &Written<'_>, shown: &Shown) -> Result<Answer, Void> {
    let id = shown.id.to_string();
    let about: Vec<SaidCommand<'_>> = mention::answers(written.text)
        .filter(|said| matches!(said, SaidCommand::Approve(other, _) | SaidCommand::Deny(other, _) | SaidCommand::Answer(other, _) if *other == id))
        .collect();
    if about.is_empty() {
        return Err(Void::Silent);
    }
    if written.by == shown.us || written.comment == shown.comment {
        return Err(Void::Ours);
    }
    if written.is_bot || written.by <= 0 {
        return Err(Void::Bot);
    }
    let moment = |text: Option<&str>| text.and_then(Moment::parse).ok_or(Void::Undated);
    let (at, changed) = (moment(written.written)?, moment(written.changed)?);
    if changed != at {
        return Err(Void::Edited);
    }
    // Numbers grow with time, and the clock has seconds only.
    if written.comment < shown.comment || at < shown.at {
        return Err(Void::Early);
    }
    if !written.may_write {
        return Err(Void::NotPermitted);
    }
    let mut answer: Option<Answer> = None;
    for said in about {
        let this = match said {
            SaidCommand::Approve(_, "") => return Err(Void::NoCode),
            SaidCommand::Approve(_, code) if code == shown.code.0 => Answer::Approve,
            SaidCommand::Approve(..) => return Err(Void::OtherCode),
            SaidCommand::Deny(_, why) => Answer::Deny(why.to_owned()),
            SaidCommand::Answer(_, "") => return Err(Void::Empty),
            SaidCommand::Answer(_, text) => Answer::Answer(text.to_owned()),
            _ => continue,
        };
        match &answer {
            Some(before) if *before != this => return Err(Void::Several),
            _ => answer = Some(this),
        }
    }
    answer.ok_or(Void::Silent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "2026-03-02T09:14:10Z";
    const SHOWN: &str = "2026-03-02T09:14:11Z";
    const LATER: &str = "2026-03-02T09:15:00Z";
    const US: i64 = 77;

    #[test]
    fn only_a_person_s_own_unchanged_words_decide() {
        let shown = Shown {
            id: ProposalId::parse("P1").expect("an id"),
            code: ApprovalCode::of("0123456789abcdef"),
            comment: 50,
            us: US,
            at: Moment::parse(SHOWN).expect("a moment"),
        };
        let yes = Written {
            comment: 51,
            by: 5_550_108,
            is_bot: false,
            may_write: true,
            written: Some(LATER),
            changed: Some(LATER),
            text: "/bottle approve P1 0123456789ab",
        };
        assert_eq!(judge(&yes, &shown), Ok(Answer::Approve));
        for (written, void) in [
            (Written { is_bot: true, ..yes.clone() }, Void::Bot),
            (Written { by: 0, ..yes.clone() }, Void::Bot),
            // The user whose token the runner has, in whose name more than a person may write.
            (Written { by: US, ..yes.clone() }, Void::Ours),
            (Written { comment: 50, ..yes.clone() }, Void::Ours),
            (Written { changed: Some("2026-03-02T09:16:00Z"), ..yes.clone() }, Void::Edited),
            (Written { changed: None, ..yes.clone() }, Void::Undated),
            (Written { written: None, ..yes.clone() }, Void::Undated),
            (Written { written: Some(BEFORE), changed: Some(BEFORE), ..yes.clone() }, Void::Early),
            (Written { comment: 49, ..yes.clone() }, Void::Early),
            (Written { may_write: false, ..yes.clone() }, Void::NotPermitted),
            (Written { text: "/bottle approve P1", ..yes.clone() }, Void::NoCode),
            (Written { text: "/bottle approve P1 ba9876543210", ..yes.clone() }, Void::OtherCode),
            (Written { text: "/bottle approve P2 0123456789ab", ..yes.clone() }, Void::Silent),
        ] {
            assert_eq!(judge(&written, &shown), Err(void), "{written:?}");
        }
    }
}
