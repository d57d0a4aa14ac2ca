//! The runner's own comment in a conversation: told from others' by a hidden mark and its author, found again, written once.

use tokio::time::sleep;

use crate::forge::{Author, Comment, FIRST_WAIT, Forge, ForgeError};

/// Begins the comment; nobody's text that we post can hold it.
pub(super) const MARK: &str = "<!-- claude-bottle: status -->";
/// How often a comment is looked for again when the forge may have made it or not.
const MAX_LOOKS: u32 = 3;

/// Writes the comment: the one that is there, else a new one.
pub(super) async fn post(
    forge: &dyn Forge,
    number: u64,
    comment: &mut Option<u64>,
    body: &str,
) -> Result<(), ForgeError> {
    if comment.is_none() {
        *comment = ours_of(forge, number).await?.first().map(|comment| comment.id);
    }
    if let Some(id) = *comment {
        match forge.edit_comment(id, body).await {
            // Somebody has removed it.
            Err(error) if matches!(error.status(), Some(404 | 410)) => *comment = None,
            result => return result,
        }
    }
    for look in 1.. {
        match forge.comment(number, body).await {
            Ok(made) => {
                *comment = Some(made.id);
                return Ok(());
            }
            Err(error) if error.may_be_done() && look < MAX_LOOKS => {
                sleep(FIRST_WAIT * (1 << look)).await;
                // It may be there all the same: a second one would stay for good.
                let there = forge.comments(number).await?;
                if let Some(found) = there.iter().rev().find(|there| there.body.trim() == body.trim()) {
                    *comment = Some(found.id);
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Our comments of earlier runs, the oldest first. A comment with the mark by somebody else is theirs, whatever it says.
pub(super) async fn ours_of(forge: &dyn Forge, number: u64) -> Result<Vec<Comment>, ForgeError> {
    let Some(me) = forge.myself().await? else { return Ok(vec![]) };
    let comments = forge.comments(number).await?;
    Ok(comments.into_iter().filter(|comment| is_ours(comment, &me)).collect())
}

/// True if a text says that it is such a comment; anybody's can.
pub(super) fn has_mark(body: &str) -> bool {
    body.starts_with(MARK)
}

fn is_ours(comment: &Comment, me: &Author) -> bool {
    comment.author.is(me) && has_mark(&comment.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_comment_is_ours() {
        let comment = |id: i64, login: &str, body: &str| Comment {
            id: 1,
            body: body.to_owned(),
            url: String::new(),
            author: Author { id, login: login.to_owned(), is_bot: false },
            written: None,
            changed: None,
            place: None,
        };
        let body = format!("{MARK}\nx");
        let me = Author { id: 5, login: "bot".to_owned(), is_bot: false };
        let job = Author { id: 0, login: "github-actions[bot]".to_owned(), is_bot: true };
        assert!(is_ours(&comment(5, "renamed", &body), &me));
        assert!(!is_ours(&comment(6, "bot", &body), &me));
        assert!(!is_ours(&comment(5, "bot", &format!("see {body}")), &me));
        assert!(is_ours(&comment(41, "github-actions[bot]", &body), &job));
        assert!(!is_ours(&comment(0, "", &body), &job));
    }
}
