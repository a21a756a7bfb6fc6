//! How long a connection may be silent in each state.

/// Milliseconds on a monotonic clock that starts anywhere; wraps after 49.7 days, compared by wrapping subtraction.
///
/// Nothing at or below the datapath reads a clock: time is an argument, so a capture replays in virtual time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Millis(pub u32);

impl Millis {
    /// Milliseconds since `earlier`.
    pub fn since(self, earlier: Millis) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// This many milliseconds later.
    pub fn after(self, milliseconds: u32) -> Millis {
        Millis(self.0.wrapping_add(milliseconds))
    }
}

/// Microseconds on a monotonic clock that starts anywhere; wraps after 71 minutes, compared by wrapping subtraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Micros(pub u32);

impl Micros {
    /// Microseconds since `earlier`.
    pub fn since(self, earlier: Micros) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// The time of a burst, in the two grains that are needed: of timeouts, and of measured round trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For timeouts.
    pub millis: Millis,
    /// For round trips.
    pub micros: Micros,
}

impl From<Millis> for Now {
    /// Virtual time, which has no grain finer than a millisecond.
    fn from(millis: Millis) -> Self {
        Self { millis, micros: Micros(millis.0.wrapping_mul(1000)) }
    }
}

/// Longest timeout that may be set, in milliseconds: 20 days, well below half of what [`Millis`] can tell apart.
pub const MAX_TIMEOUT: u32 = 20 * 24 * 3600 * 1000;

macro_rules! timeouts {
    ($($field:ident $default:literal $why:literal,)*) => {
        /// Timeouts in milliseconds, by the kernel's names (`nf_conntrack_*_timeout_*`) without their prefix.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Timeouts { $(#[doc = $why] pub $field: u32,)* }

        impl Default for Timeouts {
            fn default() -> Self { Self { $($field: $default,)* } }
        }

        impl Timeouts {
            /// Every key of `[timeouts]`.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($field),)*];

            /// Default and reason of every key, for the reference.
            pub const REFERENCE: &'static [(&'static str, u32, &'static str)] = &[$((stringify!($field), $default, $why),)*];

            /// The shortest of them.
            pub fn shortest(&self) -> u32 {
                [$(self.$field,)*].into_iter().fold(MAX_TIMEOUT, u32::min)
            }

            /// The shortest of those of these protocols: keys that are a protocol's name, or begin with it.
            pub fn shortest_of(&self, protocols: &[&str]) -> u32 {
                let of = |key: &str| protocols.iter().any(|protocol| belongs_to(key, protocol));
                [$((stringify!($field), self.$field),)*].into_iter().filter(|(key, _)| of(key)).fold(MAX_TIMEOUT, |least, (_, value)| least.min(value))
            }

            /// The field of a key.
            pub fn get_mut(&mut self, key: &str) -> Option<&mut u32> {
                match key { $(stringify!($field) => Some(&mut self.$field),)* _ => None }
            }
        }
    };
}

/// Whether a key of `[timeouts]` is about the protocol of this name.
pub fn belongs_to(key: &str, protocol: &str) -> bool {
    key.strip_prefix(protocol).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

timeouts! {
    tcp_syn_sent 30_000 "First SYN seen: 30 s, not the kernel's 120, so that a SYN flood leaves the table soon.",
    tcp_syn_recv 60_000 "SYN/ACK seen: the kernel's 60 s.",
    tcp_established 900_000 "Data may flow: 15 min, IPVS's value; the kernel's 5 days fill the table of a load balancer.",
    tcp_fin_wait 120_000 "One side closed: the kernel's 120 s.",
    tcp_close_wait 60_000 "The other side has acknowledged the close: the kernel's 60 s.",
    tcp_last_ack 30_000 "Both sides closed, the last ACK is missing: the kernel's 30 s.",
    tcp_unacknowledged 300_000 "Data that the other side has not acknowledged, in a state that lasts longer: the kernel's 300 s.",
    tcp_time_wait 60_000 "Closed in order: 60 s, the time a Linux backend keeps the port; the kernel's conntrack keeps 120.",
    tcp_close 10_000 "Closed by RST: the kernel's 10 s.",
    udp 30_000 "Until the client still goes on two seconds after its first packet and a reply: the kernel's 30 s.",
    udp_stream 120_000 "The client went on so: the kernel's 120 s.",
    icmp 30_000 "After the last echo or reply: the kernel's 30 s.",
    icmpv6 30_000 "The same over IPv6: the kernel's 30 s.",
    sctp_closed 10_000 "INIT seen, or ended: the kernel's 10 s.",
    sctp_cookie_wait 3_000 "INIT ACK seen: the kernel's 3 s; INIT is sent again after one.",
    sctp_cookie_echoed 3_000 "COOKIE ECHO seen: the kernel's 3 s.",
    sctp_established 210_000 "Data may flow: the kernel's 210 s, seven heartbeats of 30 s.",
    sctp_shutdown_sent 3_000 "SHUTDOWN from the client: the kernel's 3 s.",
    sctp_shutdown_recd 3_000 "SHUTDOWN from the backend: the kernel's 3 s.",
    sctp_shutdown_ack_sent 3_000 "SHUTDOWN ACK seen: the kernel's 3 s.",
    dccp_request 240_000 "Request seen: 4 min, the kernel's (two maximum segment lifetimes, RFC 4340, section 3.4).",
    dccp_respond 480_000 "Response seen: the kernel's 8 min.",
    dccp_partopen 480_000 "The Response is acknowledged: the kernel's 8 min.",
    dccp_open 900_000 "Data may flow: 15 min, as tcp_established; the kernel's 12 hours fill the table of a load balancer.",
    dccp_closereq 64_000 "CloseReq seen: the kernel's 64 s.",
    dccp_closing 64_000 "Close seen: the kernel's 64 s.",
    dccp_timewait 240_000 "Reset seen: the kernel's 4 min.",
    gre 30_000 "Until the client still goes on two seconds after its first packet and a reply: the kernel's 30 s.",
    gre_stream 180_000 "The client went on so: the kernel's 180 s.",
}
