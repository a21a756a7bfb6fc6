//! Small programs on a sender's egress that put its packets on a queue, or an 802.1Q tag on them.

use super::namespace::Namespace;
use super::program::run_within;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Which packets go to which queue of the other side.
#[derive(Debug, Clone, Copy)]
pub enum Mapping {
    /// All to this one.
    All(u32),
    /// By a bit of the source port.
    SourcePort,
    /// By a bit of the destination port.
    DestinationPort,
}

impl Mapping {
    fn definition(self) -> String {
        match self {
            Mapping::All(queue) => format!("-DQUEUE={queue}"),
            Mapping::SourcePort => "-DPORT=0".into(),
            Mapping::DestinationPort => "-DPORT=2".into(),
        }
    }
}

/// From now on the packets that leave through `interface` go to queues of the other side by `mapping`.
#[track_caller]
pub fn map_queues(namespace: &Namespace, interface: &str, mapping: Mapping, directory: &Path) {
    let object = directory.join(format!("queue-{}-{interface}.o", namespace.name()));
    compile("queue.c", &mapping.definition(), &object);
    attach(namespace, interface, "egress", &object, "queue");
}

/// Frames leave `interface` with this VLAN id and come in without their tag, as behind a switch port.
#[track_caller]
pub fn tag_frames(namespace: &Namespace, interface: &str, vlan: u16, directory: &Path) {
    let object = directory.join(format!("vlan-{}-{interface}.o", namespace.name()));
    compile("vlan.c", &format!("-DVLAN={vlan}"), &object);
    attach(namespace, interface, "egress", &object, "push");
    attach(namespace, interface, "ingress", &object, "pop");
}

fn compile(source: &str, definition: &str, object: &Path) {
    let mut command = Command::new("clang");
    // Where Debian keeps asm/types.h.
    let headers = format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    command.args(["-target", "bpf", "-O2", "-g", "-mcpu=v3", &headers, definition, "-c", "-o"]);
    command.arg(object).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/bpf").join(source));
    let finished = run_within(command, Duration::from_secs(30));
    assert!(finished.success(), "clang {source}: {finished}");
}

fn attach(namespace: &Namespace, interface: &str, direction: &str, object: &Path, section: &str) {
    // It is there already when a mapping is changed.
    namespace.attempt(&format!("tc qdisc add dev {interface} clsact"));
    let object = object.display();
    namespace.run(&format!("tc filter replace dev {interface} {direction} pref 1 handle 1 bpf da obj {object} sec {section}"));
}
