//! Network cards of the virtual machine of scripts/zero-copy-vm.sh. They come in pairs, back to back: a card with the address
//! 02:00:00:00:PAIR:END, where end 1 is weir's.

use super::namespace::Namespace;
use super::program::{run_within, wait_until};
use std::process::Command;
use std::time::Duration;
use weir::kernel::{LinkError, usable_link};

/// Longest that a card may take to come back from a namespace, or to find its carrier (an igb takes three seconds).
const PATIENCE: Duration = Duration::from_secs(40);

/// Moves both ends of a pair into their namespaces, names them and sets them up. weir's has this many queues, if the driver lets it choose.
pub fn plug((pair, node, interface): (u8, &Namespace, &str), (other, name): (&Namespace, &str), queues: u32) {
    take(pair, 1, node, interface);
    take(pair, 2, other, name);
    // virtio_net with more channels than weir's layout has queues is a subject of its own; an igb has as many as are asked for.
    if node.run(&format!("ethtool -i {interface}")).contains("driver: igb") {
        node.run(&format!("ethtool -L {interface} combined {queues}"));
    }
    for (namespace, interface) in [(node, interface), (other, name)] {
        namespace.ip(&format!("link set {interface} up"));
    }
    for (namespace, interface) in [(node, interface), (other, name)] {
        wait_until(&format!("the carrier of {interface}"), PATIENCE, || has_carrier(namespace, interface).then_some(()));
    }
}

/// Whether the interface is up and its wire has somebody at the other end. No program is run for it: who waits asks often.
pub fn has_carrier(namespace: &Namespace, interface: &str) -> bool {
    match namespace.inside(|| usable_link(interface)) {
        Ok(link) => link.up,
        Err(LinkError::Down { .. }) => false,
        Err(error) => panic!("in {}: {error}", namespace.name()),
    }
}

/// Moves both ends of a pair back to where others find them. Waiting for their namespaces to end would do the same, but a namespace
/// lives as long as its last socket, and one of TCP may outlive its program by minutes.
pub fn unplug((pair, node, interface): (u8, &Namespace, &str), (other, name): (&Namespace, &str)) {
    for (end, namespace, name) in [(1, node, interface), (2, other, name)] {
        // Not fatal here: who takes the card next waits for it, and fails if it stays away.
        let _ = namespace.attempt(&format!("ip link set dev {name} netns 1 name card{pair}.{end}"));
    }
}

/// A card lies in the first namespace of the machine until somebody takes it.
fn take(pair: u8, end: u8, namespace: &Namespace, name: &str) {
    let address = format!("02:00:00:00:{pair:02x}:{end:02x}");
    let card = wait_until(&format!("the card {address}"), PATIENCE, || name_of(&address));
    let mut command = Command::new("ip");
    command.args(["link", "set", "dev", &card, "netns", &namespace.path(), "name", name]);
    let finished = run_within(command, Duration::from_secs(30));
    assert!(finished.success(), "card {address} to {}: {finished}", namespace.name());
}

fn name_of(address: &str) -> Option<String> {
    let finished = run_within(
        {
            let mut command = Command::new("ip");
            command.args(["-o", "link"]);
            command
        },
        Duration::from_secs(30),
    );
    let line = finished.stdout.lines().find(|line| line.contains(address))?.to_owned();
    Some(line.split(": ").nth(1)?.to_owned())
}
