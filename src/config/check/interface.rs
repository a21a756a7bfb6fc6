//! `[[interface]]`

use super::problems::{Located, Problems};
use crate::config::raw::{self, Raw};
use crate::config::value::{interface_name, one_of, whole};
use crate::config::{Checksum, Interface, MODES, Place, Problem};
use crate::datapath::MAX_PORTS;
use crate::io::xsk::Mode;
use serde_spanned::Spanned;

pub(super) fn check_interfaces(raw: &Raw, problems: &mut Problems) -> Vec<Interface> {
    if raw.interface.is_empty() {
        problems.add(Problem::new("interface", "there is no [[interface]]", "at least one [[interface]] with a name"));
    }
    if let Some(extra) = raw.interface.get(MAX_PORTS) {
        let found = format!("there are {} interfaces", raw.interface.len());
        problems
            .add(Problem::new("interface", found, format!("at most {MAX_PORTS}")).at(Place::new(extra.span(), "one too many")));
    }
    let mut names = Vec::new();
    let interfaces = raw.interface.iter().map(|interface| check_interface(interface, &mut names, problems)).collect();
    problems.unique("interface.name", names.iter(), |name| format!("the interface {name:?} is named twice"));
    interfaces
}

fn check_interface(raw: &Spanned<raw::Interface>, names: &mut Vec<Located<String>>, problems: &mut Problems) -> Interface {
    let interface = raw.get_ref();
    let name = problems.required("interface.name", &interface.name, raw.span(), "the interface as `ip link` shows it");
    let name = problems.value("interface.name", name, |name| interface_name(name));
    names.extend(name.clone());
    Interface {
        name: name.map(|name| name.value).unwrap_or_default(),
        mode: problems.value_or("interface.mode", interface.mode.as_ref(), Mode::default(), |text| one_of("mode", text, MODES)),
        checksum: problems.value_or("interface.checksum", interface.checksum.as_ref(), Checksum::default(), |checksum| {
            one_of("way to checksum", checksum, Checksum::NAMES)
        }),
        queues: problems.value("interface.queues", interface.queues.as_ref(), |queues| whole(*queues, 1..=256)).map(|q| q.value),
    }
}
