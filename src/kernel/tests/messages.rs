//! Messages that this machine's kernel may not send: 802.1Q links, bridges.

use super::super::Link;
use netlink_packet_route::link::{InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, VlanProtocol};

fn vlan_link(protocol: VlanProtocol) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
    let data = InfoData::Vlan(vec![InfoVlan::Protocol(protocol), InfoVlan::Id(100)]);
    message.attributes = vec![
        LinkAttribute::IfName("eth0.100".to_owned()),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
        LinkAttribute::Mtu(1496),
        LinkAttribute::Link(2),
        LinkAttribute::LinkInfo(vec![LinkInfo::Data(data)]),
        LinkAttribute::Xdp(vec![LinkXdp::ProgId(42)]),
    ];
    message
}

#[test]
fn an_802_1q_link_knows_what_it_is_on() {
    let link = Link::from_message(&vlan_link(VlanProtocol::Ieee8021Q));
    let expected = Link {
        index: 7,
        name: "eth0.100".to_owned(),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1496,
        enabled: true,
        up: true,
        loopback: false,
        vlan: Some((2, 100)),
        rx_queues: 1,
        program: Some(42),
    };
    assert_eq!(link, expected);
    assert_eq!(Link::from_message(&vlan_link(VlanProtocol::Ieee8021Ad)).vlan, None);
}

#[test]
fn a_link_without_carrier_is_not_up() {
    let mut message = vlan_link(VlanProtocol::Ieee8021Q);
    message.header.flags = LinkFlags::Up;
    let link = Link::from_message(&message);
    assert_eq!((link.enabled, link.up), (true, false));
}
