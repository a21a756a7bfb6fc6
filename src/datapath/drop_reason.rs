//! Every reason for which a frame ends in weir: one list that makes the enum, the labels and the sentences.

use crate::conntrack::l4proto::Invalid;
use crate::packet::Malformed;
use crate::service::Limit;

macro_rules! drop_reasons {
    ($($variant:ident $label:literal $sentence:literal,)*) => {
        /// Why a frame was dropped. The label is stable: metrics, `weir drops` and tests use it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $sentence] $variant,)* }

        impl DropReason {
            /// All reasons, in the order of the enum.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// The stable name.
            pub const fn label(self) -> &'static str {
                match self { $(DropReason::$variant => $label,)* }
            }

            /// One sentence for a human.
            pub const fn sentence(self) -> &'static str {
                match self { $(DropReason::$variant => $sentence,)* }
            }
        }
    };
}

drop_reasons! {
    NotIp "not_ip" "The frame carries neither IPv4 nor IPv6.",
    FrameTooShort "frame_too_short" "The frame ends before its headers do.",
    IpVersion "ip_version" "The IP version field does not fit the EtherType.",
    IpHeaderLength "ip_header_length" "The IPv4 header length is below 20 bytes or reaches past the packet.",
    IpTotalLength "ip_total_length" "The IP length field is below the headers or reaches past the frame.",
    IpHeaderChecksum "ip_header_checksum" "The IPv4 header checksum is wrong.",
    IpSourceRoute "ip_source_route" "The packet asks for source routing (IPv4 LSRR or SSRR, IPv6 routing header with segments left).",
    IpOptions "ip_options" "An IPv4 option is malformed.",
    ExtensionHeaders "extension_headers" "The IPv6 extension header chain is malformed or longer than eight headers.",
    MartianSource "martian_source" "The source address may not come in from outside: multicast, loopback, unspecified, broadcast.",
    OwnSource "own_source" "The source is an address of weir or of its machine, or equals the destination.",
    Fragment "fragment" "A fragment of a packet that is not translated in pieces: of another protocol than TCP, UDP, GRE and ICMP echo, or of a connection with a helper.",
    FragmentMalformed "fragment_malformed" "A fragment that is empty, ends at no multiple of 8 bytes though more follow, or ends past 65535 bytes.",
    FragmentTiny "fragment_tiny" "The first fragment ends within the headers up to the transport header's end.",
    FragmentDuplicate "fragment_duplicate" "Other fragments of the datagram have brought all of this one.",
    FragmentOverlap "fragment_overlap" "Fragments of the datagram overlap or disagree on its end: no more of it is forwarded.",
    FragmentExcess "fragment_excess" "Too many fragments of one datagram.",
    FragmentRefused "fragment_refused" "The first fragment of the datagram was dropped, or its connection has ended.",
    FragmentTimeout "fragment_timeout" "It waited in vain for the first fragment of its datagram.",
    FragmentRoom "fragment_room" "It waited for the first fragment of its datagram and was given up for later ones.",
    UnknownProtocol "unknown_protocol" "The transport protocol is not one that weir tracks.",
    IcmpUnrelated "icmp_unrelated" "An ICMP message that belongs to no connection, or a redirect, which is not translated.",
    IcmpChecksum "icmp_checksum" "The ICMP checksum is wrong.",
    IcmpQuote "icmp_quote" "The packet that an ICMP error quotes is cut before its ports, is a later fragment, or was not sent by whom the error is for.",
    TcpHeaderLength "tcp_header_length" "The TCP data offset is below 20 bytes or reaches past the packet.",
    TcpFlags "tcp_flags" "The TCP flags are a combination that no sender makes.",
    TcpChecksum "tcp_checksum" "The TCP checksum of a packet that opens or changes a connection is wrong; or it is partial, and its interface needs checksum = \"recompute\".",
    HelperPartial "helper_partial" "The beginning of an FTP line that may name a port, or a part of one that was rewritten: its sender sends it again, whole.",
    HelperExpectation "helper_expectation" "No expectation could be made for an FTP data connection: too many, no port is free, or another worker is at it.",
    UdpChecksum "udp_checksum" "The same of UDP.",
    IcmpUnrequested "icmp_unrequested" "An ICMP echo reply that no echo asked for, or an echo against the direction of its connection.",
    SctpChecksum "sctp_checksum" "The SCTP checksum (CRC32c) is wrong; or it is partial, and its interface needs checksum = \"recompute\".",
    SctpNotInit "sctp_not_init" "An SCTP packet of no known association that does not open one; also the heartbeat of a second path.",
    SctpTag "sctp_tag" "An SCTP packet whose verification tag is not that of its association.",
    SctpInvalid "sctp_invalid" "An SCTP chunk that the state of its association does not allow.",
    DccpChecksum "dccp_checksum" "The DCCP checksum is wrong in what it covers; or it is partial, and its interface needs checksum = \"recompute\".",
    DccpNotRequest "dccp_not_request" "A DCCP packet of no known connection that does not open one.",
    DccpInvalid "dccp_invalid" "A DCCP packet that the state of its connection does not allow.",
    SctpLength "sctp_length" "The SCTP header or a chunk is shorter than it must be, or reaches past the packet.",
    SctpChunks "sctp_chunks" "SCTP chunks that do not go together (RFC 9260, section 6.10), or an initiate tag of 0.",
    DccpLength "dccp_length" "The DCCP header is shorter than its type asks for, or reaches past the packet.",
    DccpType "dccp_type" "A DCCP type that does not exist, or one with short sequence numbers that must have extended ones.",
    DccpCoverage "dccp_coverage" "The DCCP checksum coverage reaches past the packet.",
    GreHeader "gre_header" "GRE of a version, with flags, or of a length that no tunnel sends; source routing (RFC 1701) among them.",
    GreChecksum "gre_checksum" "The GRE checksum, which a packet may have (RFC 2784), is wrong; or it is partial, and its interface needs checksum = \"recompute\".",
    GreClash "gre_clash" "By every SNAT address, another client already uses a tunnel to this backend with the same key, or without one.",
    UdpLength "udp_length" "The UDP length field is below 8 bytes or reaches past the packet.",
    PortZero "port_zero" "Source or destination port is 0.",
    NoService "no_service" "No service has this destination, protocol and port, or it is a SNAT address and the connection has ended.",
    TcpNotSyn "tcp_not_syn" "A TCP packet of no known connection that does not open one.",
    TcpInvalid "tcp_invalid" "A TCP packet that the state of its connection does not allow.",
    TcpWindow "tcp_out_of_window" "A TCP packet beyond the window of its connection: data that its receiver did not ask for, or an ACK of data that was never sent.",
    TcpReset "tcp_invalid_rst" "A RST with a sequence number below what its receiver has acknowledged.",
    AccessDenied "access_denied" "The service is not for this source: its `allow` and `deny`.",
    NoBackend "no_backend" "No backend of the pool takes new connections.",
    BackendLimit "backend_limit" "Every backend of the pool that takes connections has as many as it may: their `max_connections`.",
    ServiceLimit "service_limit" "The service has as many connections as it may: `limits.connections`.",
    SourceLimit "source_limit" "The source has as many connections to the service as it may: `limits.source_connections`.",
    ServiceRate "service_rate" "The service got more new connections a second than it may: `limits.rate`.",
    SourceRate "source_rate" "The source opened more connections a second than it may: `limits.source_rate`.",
    NoSnatPort "no_snat_port" "Every SNAT address and port toward this backend is taken.",
    TableFull "table_full" "The connection table has no room.",
    RepeatLimit "repeat_limit" "The packet began anew too often: a handler that always repeats, or a connection that kept clashing.",
    TtlExpired "ttl_expired" "TTL or hop limit ran out here.",
    NoRoute "no_route" "The kernel has no route to the next hop that weir could use.",
    NeighbourUnresolved "neighbour_unresolved" "The next hop's link address was not resolved in time.",
    WaitQueueFull "wait_queue_full" "Too many packets wait for a next hop to be resolved.",
    TooBig "too_big" "The packet is larger than the MTU of the outgoing interface and no ICMP error could be sent.",
    Hook "hook" "A registered hook handler dropped it.",
    TxRingFull "tx_ring_full" "The TX ring of the outgoing interface had no room.",
    NoFrame "no_frame" "No free frame was left in the UMEM.",
    PortDown "port_down" "The outgoing interface is gone or down.",
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::NotIp => Self::NotIp,
            Malformed::FrameTooShort => Self::FrameTooShort,
            Malformed::IpVersion => Self::IpVersion,
            Malformed::IpHeaderLength => Self::IpHeaderLength,
            Malformed::IpTotalLength => Self::IpTotalLength,
            Malformed::IpHeaderChecksum => Self::IpHeaderChecksum,
            Malformed::IpSourceRoute => Self::IpSourceRoute,
            Malformed::IpOptions => Self::IpOptions,
            Malformed::ExtensionHeaders => Self::ExtensionHeaders,
            Malformed::MartianSource => Self::MartianSource,
            Malformed::SourceIsDestination => Self::OwnSource,
            Malformed::TinyFragment => Self::FragmentTiny,
            Malformed::UnknownProtocol => Self::UnknownProtocol,
            Malformed::TcpHeaderLength => Self::TcpHeaderLength,
            Malformed::TcpFlags => Self::TcpFlags,
            Malformed::UdpLength => Self::UdpLength,
            Malformed::PortZero => Self::PortZero,
            Malformed::SctpLength => Self::SctpLength,
            Malformed::SctpChunks => Self::SctpChunks,
            Malformed::DccpLength => Self::DccpLength,
            Malformed::DccpType => Self::DccpType,
            Malformed::DccpCoverage => Self::DccpCoverage,
            Malformed::GreHeader => Self::GreHeader,
        }
    }
}

impl From<Invalid> for DropReason {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Untracked => Self::UnknownProtocol,
            Invalid::TcpChecksum => Self::TcpChecksum,
            Invalid::TcpNotSyn => Self::TcpNotSyn,
            Invalid::TcpState => Self::TcpInvalid,
            Invalid::TcpWindow => Self::TcpWindow,
            Invalid::TcpReset => Self::TcpReset,
            Invalid::UdpChecksum => Self::UdpChecksum,
            Invalid::IcmpChecksum => Self::IcmpChecksum,
            Invalid::GreChecksum => Self::GreChecksum,
            Invalid::SctpChecksum => Self::SctpChecksum,
            Invalid::SctpNotInit => Self::SctpNotInit,
            Invalid::SctpTag => Self::SctpTag,
            Invalid::SctpState => Self::SctpInvalid,
            Invalid::DccpChecksum => Self::DccpChecksum,
            Invalid::DccpNotRequest => Self::DccpNotRequest,
            Invalid::DccpState => Self::DccpInvalid,
            Invalid::IcmpUnrequested => Self::IcmpUnrequested,
        }
    }
}

impl From<Limit> for DropReason {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Backends => Self::BackendLimit,
            Limit::Service => Self::ServiceLimit,
            Limit::Source => Self::SourceLimit,
            Limit::ServiceRate => Self::ServiceRate,
            Limit::SourceRate => Self::SourceRate,
        }
    }
}

/// Number of reasons.
pub const DROP_REASONS: usize = DropReason::ALL.len();
