//! The program on real interfaces: veth pairs in namespaces of the test's own.

use super::{address, service};
use crate::kernel::namespace::Namespace;
use crate::kernel::{attached_program, usable_link};
use crate::service::Protocol;
use crate::xdp::{AttachMode, SteerCounters, Steering, Targets, XdpError};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// Far longer than anything here takes.
const WAIT: Duration = Duration::from_secs(20);

/// weir ── client
fn pair(options: &str) -> Option<(Namespace, Namespace)> {
    let (weir, client) = (Namespace::new()?, Namespace::new()?);
    weir.veth("wire", &client, "wire", options);
    weir.ip("address add 10.0.0.1/24 dev wire");
    client.ip("address add 10.0.0.2/24 dev wire");
    Some((weir, client))
}

#[test]
fn attached_while_it_lives() {
    let Some((weir, _client)) = pair("") else { return };
    weir.run(|| {
        for mode in [AttachMode::Native, AttachMode::Generic] {
            let steering = Steering::attach("wire", mode).unwrap();
            assert_eq!((steering.interface(), steering.mode()), ("wire", mode));
            let program = attached_program("wire").unwrap();
            assert!(program.is_some());
            let error = Steering::attach("wire", mode).unwrap_err();
            assert!(matches!(&error, XdpError::Occupied { program: other, .. } if *other == program), "{error}");
            assert!(error.to_string().contains("another XDP program is attached (id "), "{error}");
            assert!(!error.is_about_native_mode());
            drop(steering);
            // A process that another test forks at this moment holds the link until it executes.
            let deadline = Instant::now() + WAIT;
            while attached_program("wire").unwrap().is_some() {
                assert!(Instant::now() < deadline, "still attached");
                std::thread::yield_now();
            }
        }
    });
}

#[test]
fn what_cannot_be_attached_says_why() {
    let Some((weir, _client)) = pair("mtu 9000") else { return };
    weir.run(|| {
        let error = Steering::attach("nowhere", AttachMode::Native).unwrap_err();
        assert_eq!(error.to_string(), "interface nowhere: there is none of this name");
        let error = Steering::attach("wire", AttachMode::Native).unwrap_err();
        assert!(matches!(error, XdpError::MtuTooLarge { .. }), "{error}");
        assert!(error.is_about_native_mode());
        drop(Steering::attach("wire", AttachMode::Generic).unwrap());
        let error = Steering::attach("lo", AttachMode::Native).unwrap_err();
        assert!(matches!(error, XdpError::NoNativeMode { .. }), "{error}");
        assert!(error.is_about_native_mode());
    });
}

#[test]
fn traffic_is_counted_and_left_to_the_kernel_without_a_socket() {
    let Some((weir, client)) = pair("") else { return };
    weir.ip("address add 10.0.0.100/32 dev wire");
    client.ip("route add 10.0.0.100/32 dev wire");
    // Without these the two would chat about each other, and be counted.
    let mac = weir.run(|| usable_link("wire").unwrap().mac.map(|byte| format!("{byte:02x}")).join(":"));
    client.ip(&format!("neighbour replace 10.0.0.100 lladdr {mac} dev wire nud permanent"));
    let steering = weir.run(|| {
        let mut steering = Steering::attach("wire", AttachMode::Native).unwrap();
        let services = [service("10.0.0.100", 9000, Protocol::Udp)].into();
        steering.apply(&Targets { services, ..Targets::default() }).unwrap();
        steering
    });
    let [served, other] = [9000, 9001].map(|port| {
        let socket = weir.run(|| UdpSocket::bind(("10.0.0.100", port)).unwrap());
        socket.set_read_timeout(Some(WAIT)).unwrap();
        socket
    });
    let before = steering.counters().unwrap();
    let from = client.run(|| UdpSocket::bind("10.0.0.2:0").unwrap());
    let mut buffer = [0; 16];
    for (socket, port) in [(&served, 9000), (&other, 9001)] {
        from.send_to(b"hello", (address("10.0.0.100"), port)).unwrap();
        assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
    }
    // Other frames (neighbour discovery of the interfaces themselves) may have passed beside them.
    let deadline = Instant::now() + WAIT;
    let after = loop {
        let after = steering.counters().unwrap();
        if after.passed > before.passed || Instant::now() > deadline {
            break after;
        }
    };
    assert_eq!(after, SteerCounters { redirected: 0, unserved: 1, passed: after.passed });
    assert!(after.passed > before.passed);
}
