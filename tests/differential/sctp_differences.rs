//! Where weir tracks SCTP otherwise than the kernel, on purpose. docs/conntrack.md says why.

use super::associations::{COOKIE_ACK, COOKIE_ECHO, HEARTBEAT, INIT, INIT_ACK, SHUTDOWN_ACK, TAGS};
use super::message::What;
use super::segment::Side;
use super::walk::{Difference, Seen, Then};

/// The difference that explains what was seen, if one does.
pub(crate) fn explain(seen: &Seen<'_>) -> Option<Difference> {
    let What::Sctp { tag, chunks } = &seen.message.what else { panic!("not SCTP") };
    let sctp = Sctp { seen, tag: *tag, kind: chunks[0][0] };
    let known = [
        ("INIT over an ended association is a new one", sctp.is_reopened(), Then::Alone),
        ("a heartbeat has the tag of its association", sctp.is_heartbeat_of_another(), Then::Forwarded),
        ("a SHUTDOWN ACK has the tag of its association", sctp.is_shutdown_ack_of_another(), Then::Forwarded),
        ("chunks of the handshake come from whom they belong to", sctp.is_of_wrong_side(), Then::Forwarded),
        ("a tag holds from the COOKIE ECHO on", sctp.is_before_cookie(), Then::Forwarded),
        ("INIT changes nothing before its COOKIE ECHO", sctp.is_init_in_shutdown(), Then::Without),
        ("a COOKIE ECHO answers an INIT ACK", sctp.is_cookie_without_ack(), Then::Forwarded),
        ("only INIT opens an association", sctp.is_opened_by_another(), Then::Forwarded),
    ];
    known.into_iter().find(|(_, explains, _)| *explains).map(|(name, _, then)| (name, then))
}

struct Sctp<'a> {
    seen: &'a Seen<'a>,
    tag: u32,
    kind: u8,
}

impl Sctp<'_> {
    fn forwarded(&self) -> (bool, bool) {
        (self.seen.both.weir.forwarded, self.seen.both.kernel.forwarded)
    }

    fn is_from_client(&self) -> bool {
        self.seen.message.from == Side::Client
    }

    fn own_tag(&self) -> u32 {
        if self.is_from_client() { TAGS[1] } else { TAGS[0] }
    }

    /// The kernel believes tags that were only offered.
    fn is_before_cookie(&self) -> bool {
        self.forwarded() == (false, true)
            && self.seen.was(&["CLOSED", "COOKIE_WAIT"])
            && ![INIT, INIT_ACK, COOKIE_ECHO].contains(&self.kind)
    }

    fn is_reopened(&self) -> bool {
        self.is_from_client() && self.kind == INIT && self.forwarded() == (true, true) && self.seen.was(&["CLOSED"])
    }

    /// The kernel lets one with another tag pass, and ignores it.
    fn is_heartbeat_of_another(&self) -> bool {
        self.kind == HEARTBEAT && self.tag != self.own_tag() && self.forwarded() == (false, true)
    }

    /// The kernel asks for none.
    fn is_shutdown_ack_of_another(&self) -> bool {
        self.kind == SHUTDOWN_ACK && self.tag != self.own_tag() && self.forwarded() == (false, true) && self.seen.before.is_some()
    }

    /// The kernel lets them pass; those of a backend open an association to a client or move one on.
    fn is_of_wrong_side(&self) -> bool {
        let clients = [INIT, COOKIE_ECHO].contains(&self.kind);
        let backends = [INIT_ACK, COOKIE_ACK].contains(&self.kind);
        (if self.is_from_client() { backends } else { clients }) && self.forwarded() == (false, true)
    }

    /// While the association ends, the kernel is in CLOSED then, whoever has sent it.
    fn is_init_in_shutdown(&self) -> bool {
        self.is_from_client()
            && self.kind == INIT
            && self.seen.was(&["SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT"])
            && self.seen.was(&[self.states().0])
            && self.states().1 == "CLOSED"
            && self.forwarded() == (true, true)
    }

    /// After an ABORT, the kernel lets it pass: CLOSED stays what it is.
    fn is_cookie_without_ack(&self) -> bool {
        self.is_from_client()
            && self.kind == COOKIE_ECHO
            && self.seen.was(&["CLOSED"])
            && self.states() == ("CLOSED", "CLOSED")
            && self.forwarded() == (false, true)
    }

    /// In the kernel HEARTBEAT does, as on a second path, SHUTDOWN ACK, and whatever has the tag 0 and leads to CLOSED.
    fn is_opened_by_another(&self) -> bool {
        let opened = match self.kind {
            HEARTBEAT => "HEARTBEAT_SENT",
            SHUTDOWN_ACK => "SHUTDOWN_ACK_SENT",
            _ if self.tag == 0 => "CLOSED",
            _ => return false,
        };
        self.kind != INIT && self.seen.before.is_none() && self.states() == ("", opened) && self.forwarded() == (false, true)
    }

    fn states(&self) -> (&str, &str) {
        self.seen.states()
    }
}
