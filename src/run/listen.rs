//! Listens to people's comments while the run goes on: a stop ends it; every other comment is handed on.

use std::convert::Infallible;

use bottle_plan::event::{self, Order};
use tokio::sync::mpsc::UnboundedSender;

use super::RunContext;
use crate::exit::{Code, Failure};
use crate::thread::{CommentWatch, NewComment, News};

/// Listens as long as it is let; `others` gets each comment that is not about stopping.
pub(super) async fn listen(context: RunContext<'_>, others: Option<&UnboundedSender<NewComment>>) -> Infallible {
    let RunContext { inputs, plan, events, cancel } = context;
    let watch = inputs.forge.clone().and_then(|forge| CommentWatch::from_plan(plan, forge));
    let Some(mut watch) = watch else { return std::future::pending().await };
    loop {
        let heard = match watch.next().await {
            News::Comment(heard) => heard,
            News::Trouble(why) => {
                events.warn(why);
                continue;
            }
        };
        if !matches!(event::order(&heard.body, &plan.mention), Some(Ok(Order::Stop))) {
            if let Some(others) = others {
                let _ = others.send(heard);
            }
            continue;
        }
        let login = super::one_line(&heard.author.login);
        if heard.edited {
            events.warn(format!(
                "{login}'s comment that asks for a stop was changed after it was written: it does not count"
            ));
            continue;
        }
        match watch.may_ask(&heard).await {
            Ok(()) => {
                let who = format!("stopped by {login} (id {}) in a comment", heard.author.id);
                cancel.end(Failure::new(Code::Terminated, who));
            }
            Err(failure) => events.warn(format!("{login} asked for a stop and may not: {failure}")),
        }
    }
}
