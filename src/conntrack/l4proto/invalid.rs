//! Why a packet is not taken as one of its connection, or opens none.

/// What the protocol found wrong. Bad packets are drops, not errors of weir: this has no message, only a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Of no protocol that is tracked.
    Untracked,
    /// The TCP checksum is wrong.
    TcpChecksum,
    /// A TCP segment that does not open a connection.
    TcpNotSyn,
    /// A TCP segment that the state does not allow.
    TcpState,
    /// A TCP segment beyond the window.
    TcpWindow,
    /// A RST below the highest ACK.
    TcpReset,
    /// The UDP checksum is wrong.
    UdpChecksum,
    /// The ICMP or ICMPv6 checksum is wrong.
    IcmpChecksum,
    /// The GRE checksum is there, and wrong.
    GreChecksum,
    /// The SCTP checksum is wrong.
    SctpChecksum,
    /// An SCTP packet that does not open an association.
    SctpNotInit,
    /// An SCTP packet whose verification tag is not the one that was agreed on.
    SctpTag,
    /// An SCTP chunk that the state does not allow.
    SctpState,
    /// The DCCP checksum is wrong.
    DccpChecksum,
    /// A DCCP packet that does not open a connection.
    DccpNotRequest,
    /// A DCCP packet that the state does not allow.
    DccpState,
    /// An echo reply that nobody asked for, or an echo in the wrong direction.
    IcmpUnrequested,
}
