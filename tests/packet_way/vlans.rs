//! 802.1Q tags: the next hop's, whatever the packet came with.

use super::packet::{FIN_ACK, PSH_ACK, tcp, udp};
use super::world::{FAMILIES, Setup, World};

#[test]
fn a_frame_leaves_with_the_tag_of_its_next_hop() {
    for family in FAMILIES {
        for one_arm in [false, true] {
            for vlans in [(100, 100), (100, 200), (100, 0), (0, 200), (4094, 1)] {
                let mut world = World::new(Setup { vlans, one_arm, ..Default::default() });
                let (client, vip, backend) = (family.client(), family.vip(), family.backend());
                let snat = world.established(client, vip, backend);
                let data = world.tagged_front(tcp(client, vip, PSH_ACK)).carrying(b"to the backend");
                world.goes_on(&data, snat, backend);
                let data = world.tagged_back(tcp(backend, snat, PSH_ACK)).carrying(&[5; 1400]);
                world.comes_back(&data, vip, client);
                world.comes_back(&world.tagged_back(tcp(backend, snat, FIN_ACK)), vip, client);
                let snat = world.opens(&world.tagged_front(udp(client, vip)), backend);
                world.comes_back(&world.tagged_back(udp(backend, snat)), vip, client);
            }
        }
    }
}

#[test]
fn a_priority_tag_does_not_go_on_to_where_there_is_no_tag() {
    for family in FAMILIES {
        let mut world = World::default();
        world.opens(&udp(family.client(), family.vip()).on_vlan(0), family.backend());
    }
}
