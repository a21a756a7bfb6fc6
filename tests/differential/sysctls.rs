//! The kernel's settings, as weir's are.

use weir::conntrack::Timeouts;
use weir::conntrack::l4proto::Settings;

/// Settings of `net.netfilter` that make the kernel track as weir does with these.
pub(crate) fn alike(settings: &Settings, timeouts: &Timeouts) -> Vec<String> {
    let mut sysctls = vec![
        format!("nf_conntrack_tcp_be_liberal={}", u8::from(settings.tcp_be_liberal)),
        format!("nf_conntrack_tcp_loose={}", u8::from(settings.tcp_loose)),
    ];
    for (name, milliseconds) in [
        ("tcp_timeout_syn_sent", timeouts.tcp_syn_sent),
        ("tcp_timeout_syn_recv", timeouts.tcp_syn_recv),
        ("tcp_timeout_established", timeouts.tcp_established),
        ("tcp_timeout_fin_wait", timeouts.tcp_fin_wait),
        ("tcp_timeout_close_wait", timeouts.tcp_close_wait),
        ("tcp_timeout_last_ack", timeouts.tcp_last_ack),
        ("tcp_timeout_time_wait", timeouts.tcp_time_wait),
        ("tcp_timeout_close", timeouts.tcp_close),
        ("tcp_timeout_unacknowledged", timeouts.tcp_unacknowledged),
        ("tcp_timeout_max_retrans", timeouts.tcp_unacknowledged),
        ("udp_timeout", timeouts.udp),
        ("udp_timeout_stream", timeouts.udp_stream),
        ("icmp_timeout", timeouts.icmp),
        ("icmpv6_timeout", timeouts.icmpv6),
        ("sctp_timeout_closed", timeouts.sctp_closed),
        ("sctp_timeout_cookie_wait", timeouts.sctp_cookie_wait),
        ("sctp_timeout_cookie_echoed", timeouts.sctp_cookie_echoed),
        ("sctp_timeout_established", timeouts.sctp_established),
        ("sctp_timeout_shutdown_sent", timeouts.sctp_shutdown_sent),
        ("sctp_timeout_shutdown_recd", timeouts.sctp_shutdown_recd),
        ("sctp_timeout_shutdown_ack_sent", timeouts.sctp_shutdown_ack_sent),
    ] {
        sysctls.push(format!("nf_conntrack_{name}={}", milliseconds / 1000));
    }
    sysctls
}
