//! Control connections over a bad network: whatever is cut, lost, sent again and reordered, each side reads one stream, in which every announcement
//! is either replaced or not, and acknowledgments and sequence numbers fit.

use super::ftp::{CLIENT, Session, bars, in_place, reply_229};
use super::packet::{BACKEND_ISN, CLIENT_ISN, PSH_ACK};
use super::world::{BACK, FAMILIES, FRONT, Family};
use proptest::prelude::*;
use weir::datapath::{DropReason, Fate};

/// What becomes of the next segment.
#[derive(Debug, Clone)]
struct Step {
    /// Who sends it: one of those who have something to send.
    who: usize,
    /// Where it begins among what is not acknowledged yet.
    from: u16,
    length: u8,
    /// It is lost behind weir.
    lost: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..2usize, any::<u16>(), 1..160u8, prop::bool::weighted(0.3));
    prop::collection::vec(step.prop_map(|(who, from, length, lost)| Step { who, from, length, lost }), 10..80)
}

/// One side's stream: all that it will ever send, how much of it it has sent, and what the other side has read of it.
struct Talk {
    text: Vec<u8>,
    sent: usize,
    read: Vec<u8>,
}

/// A stream of lines that may each come out in one of two ways.
fn talk(lines: &[String]) -> Talk {
    Talk { text: lines.concat().into_bytes(), sent: 0, read: Vec::new() }
}

/// Whether `read` is the beginning of these lines, each as it was or as it may have become.
fn is_read(read: &[u8], lines: &[(String, Vec<String>)]) -> bool {
    let Some(((line, others), rest)) = lines.split_first() else { return read.is_empty() };
    std::iter::once(line).chain(others).any(|line| {
        let line = line.as_bytes();
        if read.len() <= line.len() {
            line.starts_with(read)
        } else {
            read.starts_with(line) && is_read(&read[line.len()..], rest)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn each_side_reads_one_stream(v6: bool, steps in steps()) {
        let family = FAMILIES[usize::from(v6)];
        run(family, &steps)?;
    }
}

fn run(family: Family, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut session = Session::new(family);
    let (mut of_client, mut of_backend) = (Vec::new(), Vec::new());
    for round in 0..12u16 {
        let own = session.at_client(900 + round * 37);
        let possible = (0..20).map(|port| format!("EPRT {}\r\n", bars(in_place(session.snat, 20000 + port)))).collect();
        of_client.push((format!("EPRT {}\r\n", bars(own)), possible));
        of_client.push((format!("RETR file-{round}\r\n"), Vec::new()));
        of_backend.push((format!("200 round {round}\r\n"), Vec::new()));
        of_backend.push((reply_229(90 + round), (1024..1044).map(reply_229).collect()));
    }
    let first = |lines: &[(String, Vec<String>)]| talk(&lines.iter().map(|(line, _)| line.clone()).collect::<Vec<_>>());
    let mut talks = [first(&of_client), first(&of_backend)];
    let base = (session.sent, session.heard);
    // What each side has acknowledged of the other one's stream, in the sender's numbers: as its segments say when they leave.
    let mut acknowledged = [0usize; 2];
    // And what it has said to have read, though that segment may have been dropped.
    let mut said = [0usize; 2];
    for step in steps {
        let who = step.who;
        let [sent, known] = [talks[who].sent, acknowledged[who]];
        // Something not acknowledged again, or the next.
        let begin = known + usize::from(step.from) % (sent - known + 1);
        let end = (begin + usize::from(step.length)).min(talks[who].text.len());
        let text = String::from_utf8(talks[who].text[begin..end].to_vec()).unwrap();
        session.sent = base.0;
        session.heard = base.1;
        session.sent[who] += begin as u32;
        session.heard[1 - who] += talks[1 - who].read.len() as u32;
        let segment = session.segment(who, PSH_ACK, &text);
        let outcome = session.send(who, &segment);
        said[1 - who] = talks[1 - who].read.len();
        talks[who].sent = sent.max(end);
        let out = if who == CLIENT { BACK } else { FRONT };
        let Some((_, frame)) = outcome.sent else {
            prop_assert!(
                matches!(outcome.fate, Fate::Drop(DropReason::HelperPartial | DropReason::HelperExpectation)),
                "{:?} of {text:?}",
                outcome.fate
            );
            continue;
        };
        prop_assert_eq!(outcome.fate, Fate::Transmit(out));
        let left = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(etherparse::TransportSlice::Tcp(tcp)) = left.transport else { panic!("not TCP") };
        let (isn, other_isn) = if who == CLIENT { (CLIENT_ISN, BACKEND_ISN) } else { (BACKEND_ISN, CLIENT_ISN) };
        // What it acknowledges is of the other side's own stream.
        let ack = tcp.acknowledgment_number().wrapping_sub(other_isn.wrapping_add(1)).wrapping_sub(base.0[1 - who]) as usize;
        prop_assert!(ack <= talks[1 - who].sent, "{ack} of {}", talks[1 - who].sent);
        prop_assert!(ack >= acknowledged[1 - who]);
        acknowledged[1 - who] = ack;
        if step.lost {
            continue;
        }
        // The receiver takes what comes in order, and what it has already must be the same.
        let at = tcp.sequence_number().wrapping_sub(isn.wrapping_add(1)).wrapping_sub(base.1[who]) as usize;
        let (payload, read) = (tcp.payload(), &mut talks[who].read);
        if at <= read.len() {
            let common = (read.len() - at).min(payload.len());
            // As a receiver does, without looking at what it has acknowledged.
            let looked_at = said[who].max(at).min(at + common);
            prop_assert_eq!(&read[looked_at..at + common], &payload[looked_at - at..common], "what was read already");
            read.extend_from_slice(&payload[common..]);
        }
        let lines = if who == CLIENT { &of_client } else { &of_backend };
        prop_assert!(is_read(&talks[who].read, lines), "{}", String::from_utf8_lossy(&talks[who].read));
    }
    Ok(())
}
