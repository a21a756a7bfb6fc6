//! Channels, rings, CPUs and privileges of this machine and of veth.

use super::super::{
    ChannelsError, LinkError, Queues, allowed_cpus, channels, check_af_xdp, check_privileges, driver, pin_thread, queues, rings,
    rss, servable_link, strips_vlan_tags, use_all_channels,
};
use super::Namespace;
use std::thread;

#[test]
fn queues_are_those_in_use() {
    let (Some(here), Some(peer)) = (Namespace::new(), Namespace::new()) else { return };
    here.veth("wire", &peer, "wire", "numrxqueues 4 numtxqueues 4");
    here.run(|| {
        assert_eq!(driver("wire").unwrap(), "veth");
        let channels = channels("wire").unwrap();
        assert_eq!((channels.rx, channels.max_rx, channels.combined), (4, 4, 0));
        assert_eq!(queues("wire").unwrap(), Queues::Used(4));
        assert_eq!(queues("wire").unwrap().count(), 4);
        // Only virtio_net has the trap.
        assert_eq!(use_all_channels("wire").unwrap(), None);
        // veth hands over tags beside the frame unless it is told not to.
        assert!(strips_vlan_tags("wire").unwrap());
    });
}

#[test]
fn drivers_that_do_not_tell_are_no_obstacle() {
    let Some(here) = Namespace::new() else { return };
    here.run(|| {
        assert_eq!(queues("lo").unwrap(), Queues::Allocated(1));
        let error = rings("lo").unwrap_err();
        assert_eq!(error.to_string(), "interface lo: cannot read its ring sizes: Operation not supported (os error 95)");
        let error = queues("eth7").unwrap_err();
        assert_eq!(error.to_string(), "interface eth7: cannot read its channels: No such device (os error 19)");
        let error = driver("a-name-that-no-interface-can-have").unwrap_err();
        assert!(matches!(error, ChannelsError::Refused { .. }), "{error}");
    });
    let error = here.run(|| servable_link("lo").unwrap_err());
    assert!(error.to_string().starts_with("interface lo: the loopback interface cannot be used"), "{error}");
    here.ip("link set lo down");
    let error = here.run(|| queues("lo").unwrap_err());
    assert!(matches!(error, ChannelsError::Link(LinkError::Down { .. })), "{error}");
}

#[test]
fn where_replies_come_in_is_not_told_by_veth() {
    let (Some(here), Some(peer)) = (Namespace::new(), Namespace::new()) else { return };
    here.veth("wire", &peer, "wire", "numrxqueues 4 numtxqueues 4");
    here.run(|| {
        for interface in ["wire", "lo"] {
            let error = rss(interface).unwrap_err();
            assert_eq!(
                error.to_string(),
                "its driver does not tell key and table (Operation not supported (os error 95))",
                "{interface}"
            );
        }
    });
}

#[test]
fn a_thread_runs_where_it_is_pinned() {
    for cpu in allowed_cpus().unwrap() {
        let pinned = thread::spawn(move || {
            pin_thread(cpu).unwrap();
            allowed_cpus().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [cpu]);
    }
    assert!(pin_thread(1 << 20).is_err());
}

#[test]
fn this_machine_can_run_weir() {
    let Some(_root) = Namespace::new() else { return };
    assert_eq!(check_af_xdp(), Ok(()));
    assert_eq!(check_privileges(0), Ok(()));
}
