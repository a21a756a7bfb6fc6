//! The names of the states of SCTP and DCCP, as the kernel's conntrack has them.

macro_rules! states {
    ($(#[$what:meta])* $enum:ident { $($variant:ident $name:literal $sentence:literal,)* }) => {
        $(#[$what])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $enum { $(#[doc = $sentence] $variant,)* }

        impl $enum {
            /// All states, in the order of the enum.
            pub const ALL: &'static [$enum] = &[$($enum::$variant,)*];

            /// The kernel's name.
            pub const fn name(self) -> &'static str {
                match self { $($enum::$variant => $name,)* }
            }

            /// That of a connection.
            pub(super) fn of(state: crate::conntrack::State) -> Self {
                Self::ALL[usize::from(state.phase()) % Self::ALL.len()]
            }
        }
    };
}

states! {
    /// State of a tracked SCTP association (`enum sctp_conntrack`).
    SctpState {
        None "NONE" "Nothing seen yet.",
        Closed "CLOSED" "INIT from the client; or the association has ended.",
        CookieWait "COOKIE_WAIT" "INIT ACK from the backend.",
        CookieEchoed "COOKIE_ECHOED" "COOKIE ECHO from the client.",
        Established "ESTABLISHED" "COOKIE ACK from the backend: data may flow.",
        ShutdownSent "SHUTDOWN_SENT" "SHUTDOWN from the client.",
        ShutdownRecd "SHUTDOWN_RECD" "SHUTDOWN from the backend.",
        ShutdownAckSent "SHUTDOWN_ACK_SENT" "SHUTDOWN ACK from either side.",
    }
}

states! {
    /// State of a tracked DCCP connection (`enum ct_dccp_states`).
    DccpState {
        None "NONE" "Nothing seen yet.",
        Request "REQUEST" "Request from the client.",
        Respond "RESPOND" "Response from the backend.",
        PartOpen "PARTOPEN" "The client has acknowledged the Response.",
        Open "OPEN" "The backend has sent more than the Response: data may flow.",
        CloseReq "CLOSEREQ" "CloseReq from the backend.",
        Closing "CLOSING" "Close from either side.",
        TimeWait "TIMEWAIT" "Reset.",
    }
}
