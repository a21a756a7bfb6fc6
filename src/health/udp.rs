//! The probe `type = "udp"`: a datagram is sent, and what comes back must have what is expected.

use super::Failure;
use super::datagram::Question;

/// After an event: `Some` when the probe is over.
pub(super) fn advance(question: &Question, expect: Option<&[u8]>) -> Option<Result<(), Failure>> {
    question.answers(|answer| match expect {
        None => Some(Ok(())),
        Some(wanted) if answer.windows(wanted.len().max(1)).any(|window| window == wanted) => Some(Ok(())),
        Some(_) => Some(Err(Failure::Answer("is not what is expected"))),
    })
}
