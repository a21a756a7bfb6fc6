//! Aim: what is not weir's stays the kernel's, untouched: a long session with the machine's own address, another port of the VIP,
//! ping of the VIP and of the machine.

use crate::support::{Family, Layout, Load, converse, failures, ping, run};
use std::net::SocketAddr;

#[test]
fn a_session_with_the_machine_itself_is_undisturbed() {
    run("own_session", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let load = Load::start(&lab.client, &Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80)), 2);
        load.wait_for(50);
        for family in Family::BOTH {
            for address in [SocketAddr::new(family.weir(), 22), SocketAddr::new(family.vip(), 22)] {
                converse(&lab.client, &lab.node, address);
            }
            assert!(ping(&lab.client, family.vip()), "ping of the VIP {}", family.vip());
            assert!(ping(&lab.client, family.weir()), "ping of {}", family.weir());
        }
        assert_eq!(failures(&load.stop()), [""; 0]);
    });
}
