//! The names of the TCP states, as the kernel's conntrack has them.

macro_rules! tcp_states {
    ($($variant:ident $name:literal $sentence:literal,)*) => {
        /// State of a tracked TCP connection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum TcpState { $(#[doc = $sentence] $variant,)* }

        impl TcpState {
            /// All states, in the order of the enum.
            pub const ALL: &'static [TcpState] = &[$(TcpState::$variant,)*];

            /// The kernel's name.
            pub const fn name(self) -> &'static str {
                match self { $(TcpState::$variant => $name,)* }
            }
        }
    };
}

tcp_states! {
    None "NONE" "Nothing seen yet.",
    SynSent "SYN_SENT" "SYN from the client.",
    SynRecv "SYN_RECV" "SYN/ACK from the backend.",
    Established "ESTABLISHED" "ACK of the client: data may flow.",
    FinWait "FIN_WAIT" "One side sent FIN.",
    CloseWait "CLOSE_WAIT" "The other side acknowledged the FIN.",
    LastAck "LAST_ACK" "The second FIN was sent.",
    TimeWait "TIME_WAIT" "The last ACK was seen.",
    Close "CLOSE" "RST.",
    SynSent2 "SYN_SENT2" "SYN from both sides.",
}
