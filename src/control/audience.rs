//! Who listens to what happens in the table: one client of the admin socket, on its own thread.

use super::desk::{Names, describe};
use super::wall_clock::WallClock;
use crate::admin::{Answer, ConnectionEvent, ConnectionFilter, Output};
use crate::conntrack::{Event, EventKind, Heard};
use crate::datapath::Datapath;
use std::io;
use std::time::{Duration, Instant};

/// From one look at the queues to the next when there was nothing: a worker at a million events a second fills its queue in 8 ms.
const REST: Duration = Duration::from_millis(2);
/// After so long without a word the client is told that the daemon is there, and the daemon learns whether the client is.
const BEAT: Duration = Duration::from_secs(1);

/// Tells what is asked for until the client leaves.
pub(super) fn tell(
    datapath: &Datapath,
    clock: &WallClock,
    (filter, kinds): (&ConnectionFilter, &[String]),
    output: &mut Output<'_>,
) -> io::Result<()> {
    if let Some(unknown) = kinds.iter().find(|kind| !EventKind::LABELS.contains(&kind.as_str())) {
        let message = format!("there are no events `{unknown}`: allowed are {}", EventKind::LABELS.join(", "));
        return output.say(&Answer::Error { message });
    }
    let Some(mut listener) = datapath.conntrack.listen() else {
        return output.say(&Answer::Error { message: "eight clients listen to events already".into() });
    };
    let mut heard = Vec::new();
    let mut spoken: Option<Instant> = None;
    loop {
        listener.take(&mut heard);
        let said = say_wanted((datapath, clock), (filter, kinds), heard.drain(..), output)?;
        if !said && spoken.is_none_or(|spoken| spoken.elapsed() >= BEAT) {
            output.say(&Answer::Idle {})?;
        } else if !said {
            std::thread::sleep(REST);
            continue;
        }
        output.flush()?;
        spoken = Some(Instant::now());
    }
}

/// `false`: nothing of it was asked for.
fn say_wanted(
    (datapath, clock): (&Datapath, &WallClock),
    (filter, kinds): (&ConnectionFilter, &[String]),
    heard: impl ExactSizeIterator<Item = Heard>,
    output: &mut Output<'_>,
) -> io::Result<bool> {
    if heard.len() == 0 {
        return Ok(false);
    }
    let snapshot = datapath.snapshot.load_full();
    let names = Names::new(&snapshot);
    let time = clock.look();
    let mut said = false;
    for heard in heard {
        let event = match heard {
            Heard::Lost(count) => ConnectionEvent::lost(count, time.now()),
            Heard::Event(event) => {
                let wanted = kinds.is_empty() || kinds.iter().any(|kind| kind == event.kind.label());
                if !wanted || !names.matches(filter, &event.connection) {
                    continue;
                }
                describe_event(&event, &names, time.of(event.at))
            }
        };
        output.say(&Answer::Event(Box::new(event)))?;
        said = true;
    }
    Ok(said)
}

fn describe_event(event: &Event, names: &Names<'_>, time_ms: u64) -> ConnectionEvent {
    let reason = if let EventKind::Destroy(reason) = event.kind { Some(reason.label().to_owned()) } else { None };
    let connection = Some(describe(&event.connection, names, event.at));
    ConnectionEvent { kind: event.kind.label().to_owned(), time_ms, reason, count: None, connection }
}
