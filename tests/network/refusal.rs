//! Aim: a weir that cannot start says which thing is wrong, ends with the exit code for it, and leaves nothing behind.

use crate::support::{Daemon, Finished, Lab, Layout, run, run_within, without_socket_family};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use weir::datapath::PortId;
use weir::io::xsk::{Attached, Binding, Mode, Settings, XskPorts};

const FAILED: i32 = 1;
const BAD_CONFIG: i32 = 2;

#[test]
fn start_ups_that_must_fail() {
    run("refusals", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        interface_missing(lab);
        interface_down(lab);
        no_privilege(lab);
        zero_copy_where_there_is_none(lab);
        snat_address_of_the_host(lab);
        kernel_without_af_xdp(lab);
        queue_in_use(lab);
        bad_config(lab);
        let left = lab.node.run("ip -d link");
        assert!(!left.contains("prog/xdp"), "a program was left attached: {left}");
        let addresses = lab.node.run("ip -o address");
        assert!(!addresses.contains("10.1.0.100"), "a VIP was left behind: {addresses}");
    });
}

#[test]
fn a_second_weir_on_the_same_interfaces_is_refused() {
    run("second_weir", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let other = lab.directory.join("other");
        std::fs::create_dir_all(&other).expect("a second directory");
        let mut second = Daemon::spawn(&lab.node, &other, &lab.config, None);
        let status = second.wait(Duration::from_secs(20));
        let log = second.log();
        assert_eq!(status.and_then(|status| status.code()), Some(FAILED), "a second weir: {status:?}\n{log}");
        names_all(&log, &["outside"]);
        // The first one has not noticed.
        crate::support::spread_of_requests(&lab.client, &crate::support::Family::V4.url("name"), 300);
    });
}

fn interface_missing(lab: &mut Lab) {
    let right = std::mem::replace(&mut lab.config.interfaces, vec!["name = \"nowhere0\"".into()]);
    expect(attempt(lab, &[]), FAILED, &["nowhere0"]);
    lab.config.interfaces = right;
}

fn interface_down(lab: &Lab) {
    lab.node.ip("link set inside down");
    expect(attempt(lab, &[]), FAILED, &["inside", "down"]);
    // Addresses of IPv6 go with the link.
    lab.node.ip("link set inside up\naddress replace fd00:2::1/64 dev inside nodad");
}

fn no_privilege(lab: &Lab) {
    let finished = attempt(lab, &["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    expect(finished, FAILED, &["CAP_"]);
}

fn zero_copy_where_there_is_none(lab: &mut Lab) {
    let right = lab.config.interfaces.clone();
    lab.config.interfaces[0].push_str("\nmode = \"zero-copy\"");
    expect(attempt(lab, &[]), FAILED, &["outside", "zero-copy"]);
    lab.config.interfaces = right;
}

fn snat_address_of_the_host(lab: &mut Lab) {
    lab.node.ip("link set lo up\naddress add 10.2.0.222/32 dev lo");
    for (at, address, interface) in [(0, "10.2.0.1", "inside"), (0, "10.2.0.222", "lo"), (1, "fd00:2::1", "inside")] {
        let right = std::mem::replace(&mut lab.config.snat[at], address.parse().expect("an address"));
        expect(
            attempt(lab, &[]),
            FAILED,
            &[&format!("SNAT address {address} "), &format!("interface {interface},"), "snat.addresses"],
        );
        lab.config.snat[at] = right;
    }
}

fn kernel_without_af_xdp(lab: &Lab) {
    let mut command = lab.node.command("env");
    without_socket_family(&mut command, libc::AF_XDP);
    expect(attempt_by(command, lab, &[]), FAILED, &["AF_XDP", "CONFIG_XDP_SOCKETS"]);
}

/// Another program's AF_XDP socket, without an XDP program, on the only queue of an interface.
fn queue_in_use(lab: &Lab) {
    let (port, mode, attached) = (PortId(0), Mode::Auto, Attached::Native);
    let binding = Binding { port, interface: "inside".into(), queue: 0, mtu: 1500, mode, attached };
    let open = || XskPorts::open(&[binding], &Settings::default(), Arc::default()).expect("the other program's socket");
    let holder = lab.node.inside(open);
    expect(attempt(lab, &[]), FAILED, &["inside", "queue 0", "another program or socket holds it"]);
    drop(holder);
}

fn bad_config(lab: &mut Lab) {
    lab.config.more = "[timeouts]\ntcp_establish = \"15m\"\n".into();
    expect(attempt(lab, &[]), BAD_CONFIG, &["tcp_establish"]);
    lab.config.more.clear();
}

/// `weir run` with the configuration of the lab, as started by `wrapper`; it must end by itself.
fn attempt(lab: &Lab, wrapper: &[&str]) -> Finished {
    attempt_by(lab.node.command(wrapper.first().unwrap_or(&"env")), lab, wrapper)
}

fn attempt_by(mut command: Command, lab: &Lab, wrapper: &[&str]) -> Finished {
    // The build directory may lie where nobody may look: file and binary are copied to where everybody may.
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("permissions");
    let [file, socket, binary] = ["weir.toml", "weir.sock", "weir"].map(|name| directory.path().join(name));
    std::fs::write(&file, format!("[admin]\nsocket = \"{}\"\n\n{}", socket.display(), lab.config.to_toml()))
        .expect("a configuration");
    std::fs::copy(env!("CARGO_BIN_EXE_weir"), &binary).expect("a copy of the binary");
    command.args(wrapper.iter().skip(1)).arg(&binary).args(["run", "--config"]).arg(&file);
    run_within(command, Duration::from_secs(20))
}

#[track_caller]
fn expect(finished: Finished, code: i32, names: &[&str]) {
    assert_eq!(finished.code(), Some(code), "{finished}");
    names_all(&format!("{}{}", finished.stderr, finished.stdout), names);
}

#[track_caller]
fn names_all(text: &str, names: &[&str]) {
    for name in names {
        assert!(text.contains(name), "the message does not name {name}:\n{text}");
    }
}
