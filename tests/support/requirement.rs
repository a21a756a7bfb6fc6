//! What a network test needs of the machine; without it the test is skipped, and says why.

use std::path::Path;
use std::process::Command;

/// Programs and the Debian package that has each.
const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ethtool", "ethtool"),
    ("nginx", "nginx-light"),
    ("vsftpd", "vsftpd"),
    ("curl", "curl"),
    ("dnsmasq", "dnsmasq-base"),
    ("openssl", "openssl"),
    ("iperf3", "iperf3"),
    ("ping", "iputils-ping"),
    ("traceroute", "traceroute"),
    ("tcpdump", "tcpdump"),
    ("nft", "nftables"),
    ("clang", "clang"),
    ("setpriv", "util-linux"),
];

/// Why no network test can run here, if so.
pub fn missing() -> Option<String> {
    if !is_root() {
        return Some("needs root, to make network namespaces".into());
    }
    let (program, package) = PROGRAMS.iter().find(|(program, _)| !installed(program))?;
    Some(format!("{program} is not installed (apt-get install {package})"))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|directory| Path::new(directory).join(program).exists())
}
