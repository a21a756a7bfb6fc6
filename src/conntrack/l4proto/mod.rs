//! One file a transport protocol, each with the same methods: what the kernel has in `nf_conntrack_proto_*.c`, and the part of
//! `nf_nat_proto.c` and `nf_nat_core.c` that depends on the protocol.
//!
//! TCP and UDP are called by name where a packet changes nothing; everything else goes through the functions below, out of line.

pub mod dccp;
pub mod gre;
pub mod icmp;
pub mod icmpv6;
pub mod sctp;
pub mod tcp;
pub mod udp;

mod invalid;
mod named_states;
mod wish;

pub use invalid::Invalid;
pub use named_states::{DccpState, SctpState};
pub use tcp::TcpState;
pub use wish::Wish;

use super::{Direction, Entry, Family, Found, Millis, Now, State, Table, Timeouts};
use crate::packet::{Headers, Ip, Payload, checksum, ipv4, ipv6};
use dccp::Dccp;
use gre::Gre;
use icmp::Icmp;
use icmpv6::Icmpv6;
use sctp::Sctp;
use std::sync::atomic::Ordering::Relaxed;
use tcp::Tcp;
use udp::Udp;

/// A whole packet that the parser has passed.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// The frame.
    pub bytes: &'a [u8],
    /// Where its headers are.
    pub headers: &'a Headers,
}

impl<'a> Packet<'a> {
    /// Transport header and payload.
    #[inline(always)]
    pub fn transport(&self) -> &'a [u8] {
        &self.bytes[self.headers.l4()..usize::from(self.headers.end)]
    }

    /// The folded sum over a pseudo header that says `length`, and the first `covered` bytes of the transport: 0xffff where the
    /// checksum in it is right.
    pub fn sum(&self, length: usize, covered: usize) -> u16 {
        let addresses = match self.headers.ip {
            Ip::V4 => self.headers.l3() + ipv4::ADDRESSES..self.headers.l3() + ipv4::HEADER,
            Ip::V6 => self.headers.l3() + ipv6::ADDRESSES..self.headers.l3() + ipv6::HEADER,
        };
        let transport = self.transport();
        let pseudo_header = checksum::sum(&self.bytes[addresses]) + checksum::pseudo_header(self.headers.protocol, length);
        checksum::fold(pseudo_header + checksum::sum(&transport[..covered.min(transport.len())]))
    }
}

/// What becomes of a packet of a known connection that is not invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    Accept,
    /// It goes on, but the connection lives no longer for it: it may be of another one, forged, or sent again because nobody answers.
    Ignore,
    /// It goes on, and the connection ends with it.
    End,
    /// It opens a new connection over the tuple of one that has ended: end the old one, begin anew (the kernel's `-NF_REPEAT`).
    Reopen,
}

/// How strict tracking is, by the kernel's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// TCP segments beyond the window are let through; RSTs below the highest ACK are dropped all the same.
    pub tcp_be_liberal: bool,
    /// The middle of an unknown TCP connection opens one, without looking at windows.
    pub tcp_loose: bool,
    /// Which checksums are looked at.
    pub checksum: Verify,
}

/// Which packets' checksums are looked at (`nf_conntrack_checksum`). Those of SCTP always are: they are made anew when a packet is
/// rewritten, and a wrong one would become right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// None.
    None,
    /// Of packets that open or change a connection, and all of protocols other than TCP and UDP.
    #[default]
    Changes,
    /// Of all packets.
    All,
}

impl Verify {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, Verify)] =
        &[("none", Verify::None), ("changes", Verify::Changes), ("all", Verify::All)];
}

/// A known connection and what is around it.
#[derive(Debug)]
pub struct Connection<'a, F: Family> {
    /// It, and the direction of the packet.
    pub found: &'a Found<'a, F>,
    /// Where it is.
    pub table: &'a Table<F>,
    /// How strict to be.
    pub settings: &'a Settings,
    /// The time.
    pub now: Now,
}

/// The methods of a protocol.
pub trait L4Proto {
    /// IP protocol number.
    const NUMBER: u8;

    /// What tells connections between two hosts apart, in one word: what belongs to the packet's source in the upper half, what
    /// belongs to its destination in the lower one.
    #[inline(always)]
    fn pkt_to_tuple(packet: Packet<'_>) -> u32 {
        packet.headers.ports(packet.bytes)
    }

    /// The word of the other direction, were there no NAT.
    #[inline(always)]
    fn invert_tuple(word: u32) -> u32 {
        word.rotate_left(16)
    }

    /// Whether the packet came in damaged: its checksum. Lengths and flags are the parser's, which has passed it. Not to be asked about
    /// packets whose checksum may be partial.
    fn error(packet: Packet<'_>) -> Result<(), Invalid>;

    /// The state of a connection that this packet opens. Named as the kernel names it.
    #[allow(clippy::new_ret_no_self)]
    fn new(packet: Packet<'_>, settings: &Settings) -> Result<State, Invalid>;

    /// Notes what the packet that opens a connection says about its sides. Nobody else knows the entry yet.
    fn begin<F: Family>(_entry: &Entry<F>, _packet: Packet<'_>) {}

    /// A packet of a known connection: moves the connection's state on.
    fn packet<F: Family>(connection: &Connection<'_, F>, packet: Packet<'_>) -> Result<Step, Invalid>;

    /// Writes the tuple word `to` in the place of `from` into the transport header and updates its checksum; `addresses` is by how much
    /// the sum of the addresses has changed.
    fn manip_pkt(transport: &mut [u8], ip: Ip, from: u32, to: u32, addresses: u64);

    /// How many words there are for a reply tuple under one SNAT address: the source ports.
    fn choices(wish: &Wish) -> u32 {
        wish.ports.len() as u32
    }

    /// Choice `number` of them, counted from 0; `None` behind the last one.
    fn unique_tuple(wish: &Wish, number: u32) -> Option<u32>;

    /// Whether an assured connection in this state gives way in a full table before established ones: it is closing.
    fn can_early_drop(_state: State) -> bool {
        false
    }

    /// Milliseconds of silence that the state may last.
    fn timeouts<F: Family>(entry: &Entry<F>, state: State, timeouts: &Timeouts) -> u32;
}

/// Calls a method of the protocol with this number, or gives `$none`.
macro_rules! by_number {
    ($number:expr, $protocol:ident => $call:expr, $none:expr) => {
        match $number {
            Tcp::NUMBER => {
                type $protocol = Tcp;
                $call
            }
            Udp::NUMBER => {
                type $protocol = Udp;
                $call
            }
            Icmp::NUMBER => {
                type $protocol = Icmp;
                $call
            }
            Icmpv6::NUMBER => {
                type $protocol = Icmpv6;
                $call
            }
            Gre::NUMBER => {
                type $protocol = Gre;
                $call
            }
            Sctp::NUMBER => {
                type $protocol = Sctp;
                $call
            }
            Dccp::NUMBER => {
                type $protocol = Dccp;
                $call
            }
            _ => $none,
        }
    };
}

/// Whether packets of this kind make connections. Of ICMP, only echoes do.
#[inline(always)]
pub fn is_tracked(headers: &Headers) -> bool {
    match headers.payload {
        Payload::Tcp(_) | Payload::Udp | Payload::Sctp | Payload::Dccp(_) | Payload::Gre => true,
        Payload::Icmp(_) => headers.is_echo(),
        Payload::Fragment | Payload::Quoted => false,
    }
}

/// [`L4Proto::pkt_to_tuple`] of a packet that [`is_tracked`].
pub fn pkt_to_tuple(packet: Packet<'_>) -> u32 {
    by_number!(packet.headers.protocol, P => P::pkt_to_tuple(packet), 0)
}

/// [`L4Proto::invert_tuple`].
pub fn invert_tuple(protocol: u8, word: u32) -> u32 {
    by_number!(protocol, P => P::invert_tuple(word), word)
}

/// [`L4Proto::error`].
pub fn error(packet: Packet<'_>) -> Result<(), Invalid> {
    by_number!(packet.headers.protocol, P => P::error(packet), Ok(()))
}

/// [`L4Proto::new`].
pub fn new(packet: Packet<'_>, settings: &Settings) -> Result<State, Invalid> {
    by_number!(packet.headers.protocol, P => P::new(packet, settings), Err(Invalid::Untracked))
}

/// [`L4Proto::begin`].
pub fn begin<F: Family>(entry: &Entry<F>, packet: Packet<'_>) {
    by_number!(packet.headers.protocol, P => P::begin(entry, packet), ());
}

/// [`L4Proto::packet`].
#[inline]
pub fn packet<F: Family>(connection: &Connection<'_, F>, packet: Packet<'_>) -> Result<Step, Invalid> {
    by_number!(packet.headers.protocol, P => P::packet(connection, packet), Err(Invalid::Untracked))
}

/// [`L4Proto::manip_pkt`].
pub fn manip_pkt(protocol: u8, transport: &mut [u8], ip: Ip, from: u32, to: u32, addresses: u64) {
    by_number!(protocol, P => P::manip_pkt(transport, ip, from, to, addresses), ());
}

/// As [`manip_pkt`], for a transport header that is quoted: at least 8 bytes, perhaps cut off before its checksum. What covers all of a
/// packet cannot be made right in a quote of it, and nobody looks at it there.
pub fn manip_quoted(protocol: u8, transport: &mut [u8], ip: Ip, from: u32, to: u32, addresses: u64) {
    match protocol {
        Sctp::NUMBER => transport[..4].copy_from_slice(&to.to_be_bytes()),
        Tcp::NUMBER if transport.len() < crate::packet::tcp::CHECKSUM + 2 => transport[..4].copy_from_slice(&to.to_be_bytes()),
        _ => manip_pkt(protocol, transport, ip, from, to, addresses),
    }
}

/// [`L4Proto::choices`].
pub fn choices(protocol: u8, wish: &Wish) -> u32 {
    by_number!(protocol, P => P::choices(wish), 0)
}

/// [`L4Proto::unique_tuple`].
pub fn unique_tuple(protocol: u8, wish: &Wish, number: u32) -> Option<u32> {
    by_number!(protocol, P => P::unique_tuple(wish, number), None)
}

/// [`L4Proto::can_early_drop`].
pub fn can_early_drop(state: State) -> bool {
    by_number!(state.protocol(), P => P::can_early_drop(state), false)
}

/// [`L4Proto::timeouts`].
pub fn timeouts<F: Family>(entry: &Entry<F>, state: State, timeouts: &Timeouts) -> u32 {
    by_number!(state.protocol(), P => P::timeouts(entry, state, timeouts), 0)
}

/// Whether a protocol says neither when a connection begins nor when it ends.
pub fn is_connectionless(protocol: u8) -> bool {
    matches!(protocol, Udp::NUMBER | Icmp::NUMBER | Icmpv6::NUMBER | Gre::NUMBER)
}

/// The key in a tuple word of GRE.
pub fn key(protocol: u8, word: u32) -> Option<u32> {
    (protocol == Gre::NUMBER && word != 0).then_some(word)
}

/// The name of the state, of protocols that have any.
pub fn state_name(state: State) -> Option<&'static str> {
    match state.protocol() {
        Tcp::NUMBER => Some(state.tcp().name()),
        Sctp::NUMBER => Some(SctpState::of(state).name()),
        Dccp::NUMBER => Some(DccpState::of(state).name()),
        _ => None,
    }
}

/// What lists say of a connection whose protocol has no states.
pub fn progress(seen_reply: bool, assured: bool) -> &'static str {
    match (seen_reply, assured) {
        (false, _) => UNREPLIED,
        (true, false) => REPLIED,
        (true, true) => STREAM,
    }
}

/// Nothing came back.
pub const UNREPLIED: &str = "UNREPLIED";
/// Answered, and not ASSURED.
pub const REPLIED: &str = "REPLIED";
/// ASSURED, of a protocol without states.
pub const STREAM: &str = "STREAM";
/// The status bit.
pub const ASSURED: &str = "ASSURED";

/// Names of the states of a protocol, and what else a connection of it can be.
pub fn states_of(protocol: u8) -> Vec<&'static str> {
    let mut names: Vec<_> = match protocol {
        Tcp::NUMBER => TcpState::ALL.iter().map(|state| state.name()).collect(),
        Sctp::NUMBER => SctpState::ALL.iter().map(|state| state.name()).collect(),
        Dccp::NUMBER => DccpState::ALL.iter().map(|state| state.name()).collect(),
        _ => vec![STREAM],
    };
    names.extend([UNREPLIED, REPLIED, ASSURED]);
    names
}

/// Names of states of any protocol, without doublets.
pub fn state_names() -> Vec<&'static str> {
    let mut names: Vec<_> = [Tcp::NUMBER, Sctp::NUMBER, Dccp::NUMBER, Udp::NUMBER].into_iter().flat_map(states_of).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The tuple word of a packet between these ports, as [`shown`] names them.
pub fn word(protocol: u8, source: u16, destination: u16) -> u32 {
    match protocol {
        // Who asks has the identifier, who answers has none.
        Icmp::NUMBER => icmp::word_between(source, destination, icmp::REQUEST),
        Icmpv6::NUMBER => icmp::word_between(source, destination, icmpv6::REQUEST),
        _ => u32::from(source) << 16 | u32::from(destination),
    }
}

/// Source and destination port of a tuple word, for lists. An identifier of ICMP stands as the port of who asks, 0 as that of who answers.
pub fn shown(protocol: u8, word: u32) -> (u16, u16) {
    let hide = |request: u16| if word as u16 == request { ((word >> 16) as u16, 0) } else { (0, word as u16) };
    match protocol {
        Icmp::NUMBER => hide(icmp::REQUEST),
        Icmpv6::NUMBER => hide(icmpv6::REQUEST),
        Gre::NUMBER => (0, 0),
        _ => ((word >> 16) as u16, word as u16),
    }
}

/// Notes that the other side was heard: all that echoes keep. As in the kernel they are never assured.
fn note_reply<F: Family>(entry: &Entry<F>, direction: Direction) {
    note(entry, |_| if direction == Direction::Reply { State::SEEN_REPLY } else { 0 });
}

/// Milliseconds from its first packet on after which a connection of UDP or GRE may become a stream: the kernel's two seconds
/// (`nf_conntrack_udp_packet`).
pub const STREAM_AFTER: u32 = 2000;

/// Notes when a connection of a protocol without states began: the time of its first packet, which is being handled.
fn note_birth<F: Family>(entry: &Entry<F>) {
    entry.side(Direction::Original).words[1].store(entry.last_seen().0, Relaxed);
}

/// The same as [`note_reply`], and that the client still goes on after a reply, which makes it a stream: whoever forges a source gets replies to a
/// few packets, too, so those alone assure nothing.
fn note_stream<F: Family>(entry: &Entry<F>, direction: Direction, now: Millis) {
    let age = now.since(Millis(entry.side(Direction::Original).words[1].load(Relaxed)));
    // Another worker's clock may be a little behind.
    let is_old = (STREAM_AFTER..u32::MAX / 2).contains(&age);
    note(entry, |seen| match direction {
        Direction::Reply => State::SEEN_REPLY,
        Direction::Original if is_old && seen.has(State::SEEN_REPLY) => State::ASSURED,
        Direction::Original => 0,
    });
}

/// Sets the bits that follow from those that are set.
fn note<F: Family>(entry: &Entry<F>, bits: impl Fn(State) -> u32) {
    let mut seen = entry.state();
    loop {
        let next = seen.with(bits(seen));
        if next == seen {
            return;
        }
        match entry.change_state(seen, next) {
            Ok(()) => return,
            Err(now) => seen = now,
        }
    }
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
