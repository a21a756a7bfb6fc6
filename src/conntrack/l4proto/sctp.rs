//! SCTP (RFC 9260): an association over one address on each side.
//!
//! States and moves are those of the kernel's `nf_conntrack_proto_sctp.c`; where a load balancer departs from them, the comment of the
//! cell says so. The kernel's `HEARTBEAT_SENT` is not here: it is how a second path of an association comes to be known, and a second
//! path cannot be told which backend the first one has. What the ends say of further addresses stays as it is and leads nowhere.
//!
//! Verification tags (section 8.5) are what each side asks to be sent. INIT and INIT ACK only offer them; they hold from the COOKIE ECHO on,
//! which shows that whoever offers is whom it is offered to. So a forged INIT takes nothing from an association that exists: the kernel
//! takes the new tag at once. Nor from one that begins: until a COOKIE ECHO has passed two exchanges of tags are remembered, the first one
//! and the last one. An INIT ACK carries the tag of the INIT that it answers, a COOKIE ECHO that of the INIT ACK; so it decides.

use super::{Connection, Invalid, L4Proto, Packet, SctpState, Settings, Step, Wish};
use crate::conntrack::{Direction, Entry, Family, State, Timeouts};
use crate::packet::sctp::{CHECKSUM, HEADER, VERIFICATION_TAG, chunk, chunks};
use crate::packet::{Ip, be32};
use SctpState::{Closed, CookieEchoed, CookieWait, Established, ShutdownAckSent, ShutdownRecd, ShutdownSent};
use std::sync::atomic::Ordering::Relaxed;

/// The protocol.
#[derive(Debug, Clone, Copy)]
pub struct Sctp;

impl L4Proto for Sctp {
    const NUMBER: u8 = 132;

    fn error(packet: Packet<'_>) -> Result<(), Invalid> {
        let transport = packet.transport();
        // RFC 9653: a checksum of 0 is one that the ends have agreed to do without.
        if checksum_of(transport) == 0 || checksum_of(transport) == compute(transport) {
            Ok(())
        } else {
            Err(Invalid::SctpChecksum)
        }
    }

    fn new(packet: Packet<'_>, _: &Settings) -> Result<State, Invalid> {
        let transport = packet.transport();
        match chunks(transport).next() {
            // Section 8.5.1 (A): INIT carries no tag.
            Some(first) if first.kind == chunk::INIT && tag_of(transport) == 0 => Ok(State::of(Self::NUMBER, Closed as u8)),
            // An ABORT among others, and the HEARTBEAT of a second path.
            _ => Err(Invalid::SctpNotInit),
        }
    }

    fn begin<F: Family>(entry: &Entry<F>, packet: Packet<'_>) {
        if let Some(init) = chunks(packet.transport()).next() {
            Tags::of(entry, Direction::Original).offer(init.initiate_tag());
        }
    }

    fn packet<F: Family>(connection: &Connection<'_, F>, packet: Packet<'_>) -> Result<Step, Invalid> {
        let (entry, direction) = (connection.found.entry, connection.found.direction);
        let transport = packet.transport();
        let tags = Tags::of(entry, direction);
        let mut seen = entry.state();
        loop {
            let mut state = SctpState::of(seen);
            let mut is_echo = false;
            for chunk in chunks(transport) {
                // What follows a COOKIE ECHO has come with its tag, which will hold once it has passed.
                let meant = is_echo || tags.check(chunk.kind, chunk.flags, tag_of(transport), state)?;
                is_echo |= chunk.kind == chunk::COOKIE_ECHO;
                if begins_anew(seen, state, direction, chunk.kind) {
                    return Ok(Step::Reopen);
                }
                state = if meant { step(state, direction, chunk.kind).ok_or(Invalid::SctpState)? } else { state };
            }
            match entry.change_state(seen, advance(seen, direction, state)) {
                Ok(()) => break,
                Err(now) => seen = now,
            }
        }
        tags.note(transport);
        Ok(Step::Accept)
    }

    /// Also where it came in wrong: what [`L4Proto::error`] lets pass is right, absent, or partial.
    fn manip_pkt(transport: &mut [u8], _: Ip, _: u32, to: u32, _: u64) {
        // A sum that comes out as 0 is no absent one.
        let is_absent = transport.len() >= HEADER && checksum_of(transport) == 0 && compute(transport) != 0;
        transport[..4].copy_from_slice(&to.to_be_bytes());
        if transport.len() >= HEADER && !is_absent {
            write_checksum(transport);
        }
    }

    fn unique_tuple(wish: &Wish, number: u32) -> Option<u32> {
        wish.port(number)
    }

    fn can_early_drop(state: State) -> bool {
        matches!(SctpState::of(state), Closed | ShutdownSent | ShutdownRecd | ShutdownAckSent)
    }

    fn timeouts<F: Family>(_: &Entry<F>, state: State, timeouts: &Timeouts) -> u32 {
        match SctpState::of(state) {
            SctpState::None | Closed => timeouts.sctp_closed,
            CookieWait => timeouts.sctp_cookie_wait,
            CookieEchoed => timeouts.sctp_cookie_echoed,
            Established => timeouts.sctp_established,
            ShutdownSent => timeouts.sctp_shutdown_sent,
            ShutdownRecd => timeouts.sctp_shutdown_recd,
            ShutdownAckSent => timeouts.sctp_shutdown_ack_sent,
        }
    }
}

/// INIT of a client whose association has ended: a new choice of backend; the kernel keeps the old one.
fn begins_anew(seen: State, state: SctpState, direction: Direction, kind: u8) -> bool {
    direction == Direction::Original && kind == chunk::INIT && state == Closed && seen.has(State::SEEN_REPLY)
}

/// What a chunk of this type does in this direction; `None`: it may not come.
pub fn step(state: SctpState, direction: Direction, kind: u8) -> Option<SctpState> {
    use Direction::{Original, Reply};
    Some(match (direction, kind, state) {
        // The first one, or a retransmission of it.
        (Original, chunk::INIT, SctpState::None | Closed) => Closed,
        // The client has restarted (section 5.2.2); nothing changes before its COOKIE ECHO. In a shutdown the kernel goes to CLOSED: then
        // the backend answers SHUTDOWN ACK (section 9.2) to whoever forged an INIT, and the association is lost.
        (Original, chunk::INIT, other) => other,
        // A backend does not open associations to clients; the kernel lets it pass.
        (Reply, chunk::INIT, _) => return None,
        (Original, chunk::INIT_ACK, _) => return None,
        // Also a retransmission, or the answer to another INIT of the client.
        (Reply, chunk::INIT_ACK, Closed | CookieWait) => CookieWait,
        // The answer to an INIT of a restarted client, or a late one.
        (Reply, chunk::INIT_ACK, other) => other,
        (_, chunk::ABORT, _) => Closed,
        (Original, chunk::COOKIE_ECHO, CookieWait | CookieEchoed) => CookieEchoed,
        // No INIT ACK was seen.
        (Original, chunk::COOKIE_ECHO, SctpState::None | Closed) => return None,
        // The client has restarted, or it is a retransmission.
        (Original, chunk::COOKIE_ECHO, other) => other,
        (Reply, chunk::COOKIE_ECHO, _) => return None,
        (Original, chunk::COOKIE_ACK, _) => return None,
        (Reply, chunk::COOKIE_ACK, CookieEchoed) => Established,
        (Reply, chunk::COOKIE_ACK, other) => other,
        (Original, chunk::SHUTDOWN, Established) => ShutdownSent,
        (Reply, chunk::SHUTDOWN, Established) => ShutdownRecd,
        // Both at once, a retransmission, or before the association is there: the state stays, as in the kernel.
        (_, chunk::SHUTDOWN, other) => other,
        (_, chunk::SHUTDOWN_ACK, ShutdownSent | ShutdownRecd | ShutdownAckSent) => ShutdownAckSent,
        (_, chunk::SHUTDOWN_ACK, other) => other,
        (_, chunk::SHUTDOWN_COMPLETE, ShutdownAckSent) => Closed,
        (_, chunk::SHUTDOWN_COMPLETE, other) => other,
        // A stale cookie (section 5.2.6): the client begins anew or gives up.
        (Reply, chunk::ERROR, CookieEchoed) => Closed,
        // DATA, SACK, HEARTBEAT, other errors, and what was invented later.
        (_, _, other) => other,
    })
}

fn advance(seen: State, direction: Direction, to: SctpState) -> State {
    let mut state = seen.with_phase(to as u8);
    if direction == Direction::Reply {
        state = state.with(State::SEEN_REPLY);
    }
    if to == Established {
        state = state.with(State::ASSURED);
    }
    state
}

/// In the half word of both sides: tags hold.
const HOLDS: u16 = 1;

/// The tags of an association, as packets of one direction see them. In each side: whether tags hold already (half), the tag that its sender
/// has offered first for packets of the other side (word 1), and the tag that its own packets must carry, or before tags hold the one that it
/// has offered last (word 0).
struct Tags<'a> {
    own: crate::conntrack::Side<'a>,
    other: crate::conntrack::Side<'a>,
}

impl<'a> Tags<'a> {
    fn of<F: Family>(entry: &'a Entry<F>, direction: Direction) -> Self {
        Self { own: entry.side(direction), other: entry.side(direction.turned()) }
    }

    fn offer(&self, tag: u32) {
        self.own.words[1].store(tag, Relaxed);
    }

    /// The tag that packets of this side must carry; 0: none holds yet.
    fn held(side: &crate::conntrack::Side<'_>) -> u32 {
        if side.half.load(Relaxed) == HOLDS { side.words[0].load(Relaxed) } else { 0 }
    }

    /// Whether this side has offered `tag` for packets of the other one.
    fn has_offered(side: &crate::conntrack::Side<'_>, tag: u32) -> bool {
        let is_last = side.half.load(Relaxed) != HOLDS && side.words[0].load(Relaxed) == tag;
        tag != 0 && (is_last || side.words[1].load(Relaxed) == tag)
    }

    /// Section 8.5.1: whether a packet with this tag may carry the chunk. `Ok(false)`: it may, but says nothing about the association.
    fn check(&self, kind: u8, flags: u8, tag: u32, state: SctpState) -> Result<bool, Invalid> {
        let (own, other) = (Self::held(&self.own), Self::held(&self.other));
        let is_offered = Self::has_offered(&self.other, tag);
        let is_reflected = flags & chunk::REFLECTED != 0;
        let holds = own != 0 && tag == own;
        let fits = match kind {
            chunk::INIT => tag == 0,
            chunk::INIT_ACK => is_offered,
            chunk::COOKIE_ECHO => holds || is_offered,
            chunk::ABORT if holds || is_reflected && other != 0 && tag == other => true,
            chunk::ABORT => {
                let answers_offer = is_offered || is_reflected && Self::has_offered(&self.own, tag);
                // The answer to an INIT: while an association exists, that one may have been forged.
                return if answers_offer { Ok(matches!(state, Closed | CookieWait)) } else { Err(Invalid::SctpTag) };
            }
            chunk::SHUTDOWN_COMPLETE => holds || is_reflected && other != 0 && tag == other,
            _ => holds,
        };
        if fits { Ok(true) } else { Err(Invalid::SctpTag) }
    }

    /// Keeps the tags of a packet that has passed. What this writes to the other side its next packet depends on, which answers this one.
    fn note(&self, transport: &[u8]) {
        let Some(first) = chunks(transport).next() else { return };
        let tag = tag_of(transport);
        match first.kind {
            // A client that has restarted, perhaps.
            chunk::INIT | chunk::INIT_ACK if Self::held(&self.own) != 0 => self.offer(first.initiate_tag()),
            // Sent again, or another one: its exchange is the last one now, the first one stays.
            chunk::INIT if Self::has_offered(&self.own, first.initiate_tag()) => {}
            chunk::INIT => self.note_last(first.initiate_tag(), 0),
            chunk::INIT_ACK if Self::has_offered(&self.own, first.initiate_tag()) => {}
            chunk::INIT_ACK if tag == self.other.words[1].load(Relaxed) && self.own.words[1].load(Relaxed) == 0 => {
                self.offer(first.initiate_tag());
            }
            // To the last INIT, or a further one to the first: a backend offers a new tag each time.
            chunk::INIT_ACK => self.note_last(first.initiate_tag(), tag),
            chunk::COOKIE_ECHO => self.hold(tag),
            _ => {}
        }
    }

    /// The last exchange of tags: what this side offers, in answer to what.
    fn note_last(&self, offer: u32, answered: u32) {
        self.own.words[0].store(offer, Relaxed);
        self.other.words[0].store(answered, Relaxed);
    }

    /// The exchange in which the other side has offered this tag holds from now on.
    fn hold(&self, tag: u32) {
        if Self::held(&self.own) == tag || !Self::has_offered(&self.other, tag) {
            // A retransmission: another INIT may have offered something since.
            return;
        }
        let is_first = self.other.words[1].load(Relaxed) == tag;
        let offer = self.own.words[usize::from(is_first)].load(Relaxed);
        for (side, offer, carries) in [(&self.own, offer, tag), (&self.other, tag, offer)] {
            side.words[1].store(offer, Relaxed);
            side.words[0].store(carries, Relaxed);
            side.half.store(HOLDS, Relaxed);
        }
    }
}

fn tag_of(transport: &[u8]) -> u32 {
    be32(transport, VERIFICATION_TAG)
}

fn checksum_of(transport: &[u8]) -> u32 {
    be32(transport, CHECKSUM).swap_bytes()
}

/// Computes the checksum of a whole packet anew.
pub fn write_checksum(transport: &mut [u8]) {
    let sum = compute(transport);
    transport[CHECKSUM..HEADER].copy_from_slice(&sum.to_le_bytes());
}

/// CRC32c with the checksum field taken as 0 (RFC 9260, section 6.8).
fn compute(transport: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&transport[..CHECKSUM]);
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &[0; 4]), &transport[HEADER..])
}
