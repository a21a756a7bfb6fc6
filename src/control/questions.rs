//! Requests of the admin socket that only the control thread can answer.

use super::daemon::Daemon;
use super::explain;
use super::reload::Force;
use crate::admin::{Answer, Request};
use std::net::SocketAddr;
use tracing::info;

impl Daemon {
    /// Answers all that have come.
    pub(super) fn answer_questions(&mut self) {
        while let Ok(question) = self.questions.try_recv() {
            // Whoever asked may have given up.
            let _ = question.reply.try_send(self.answer(&question.request));
        }
    }

    fn answer(&mut self, request: &Request) -> Answer {
        match request {
            Request::Status {} => Answer::Status(Box::new(self.status())),
            Request::Drops {} => Answer::Drops(self.drops()),
            Request::Reload { force } => match self.reload(if *force { Force::Yes } else { Force::No }) {
                Ok(plan) => Answer::Reloaded { plan, generation: self.datapath.snapshot.load().generation },
                Err(message) => Answer::Error { message },
            },
            Request::Drain { pool, backend } => done(self.drain(pool, backend)),
            Request::Undrain { pool, backend } => done(self.undrain(pool, backend)),
            Request::Weight { pool, backend, weight } => done(self.set_weight(pool, backend, *weight)),
            Request::Diff {} => self.diff(),
            Request::Left { pool, backend } => self.left(pool, *backend),
            Request::Explain { flow } => explain::explain(self, *flow),
            Request::ConnectionList { .. }
            | Request::ExpectationList {}
            | Request::ConnectionCount { .. }
            | Request::ConnectionShow { .. }
            | Request::ConnectionDelete { .. }
            | Request::ConnectionFlush { .. }
            | Request::ConnectionTop { .. }
            | Request::ConnectionEvents { .. }
            | Request::Plan { .. } => {
                Answer::Error { message: "the connection table is looked into on the client's own thread".into() }
            }
        }
    }
}

/// Logged, too: whoever looks for why traffic moved finds it there.
fn done(outcome: Result<(String, SocketAddr), String>) -> Answer {
    match outcome {
        Ok((sentence, backend)) => {
            info!("{sentence}");
            Answer::Done { sentence, backend }
        }
        Err(message) => Answer::Error { message },
    }
}
