//! Why bytes are not a packet that weir can handle.

/// What [`super::parse`] found wrong. Bad packets are drops, not errors of weir: this has no message, only a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// EtherType other than IPv4 and IPv6, or a second VLAN tag.
    NotIp,
    /// The frame ends before its headers do.
    FrameTooShort,
    /// Version field and EtherType disagree.
    IpVersion,
    /// IPv4 header length below 20 or past the packet.
    IpHeaderLength,
    /// IP length below the headers or past the frame.
    IpTotalLength,
    /// IPv4 header checksum wrong.
    IpHeaderChecksum,
    /// Source routing asked for.
    IpSourceRoute,
    /// Malformed IPv4 option.
    IpOptions,
    /// Malformed or overlong IPv6 extension header chain.
    ExtensionHeaders,
    /// Source address that cannot be a host on another machine.
    MartianSource,
    /// Source equals destination (LAND).
    SourceIsDestination,
    /// A first fragment that ends within its extension headers.
    TinyFragment,
    /// A transport protocol that is not tracked.
    UnknownProtocol,
    /// TCP data offset below 20 or past the packet.
    TcpHeaderLength,
    /// TCP flags that no sender combines.
    TcpFlags,
    /// UDP length below 8 or past the packet.
    UdpLength,
    /// Source or destination port 0.
    PortZero,
    /// SCTP header or a chunk shorter than it must be, or past the packet.
    SctpLength,
    /// SCTP chunks in an order or company that no sender puts them in.
    SctpChunks,
    /// DCCP header shorter than its type asks for, or past the packet.
    DccpLength,
    /// DCCP type that does not exist, or that goes with long sequence numbers only.
    DccpType,
    /// DCCP checksum coverage past the packet.
    DccpCoverage,
    /// GRE version, flags or length that no tunnel sends.
    GreHeader,
}
