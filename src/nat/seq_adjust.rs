//! The numbers of a segment whose stream, or the other one, had text replaced by text of another length (`nf_ct_seq_adjust`).

use super::manip_pkt::put16;
use crate::conntrack::seqadj::{Edits, sack_adjust};
use crate::packet::tcp::{ACKNOWLEDGMENT, CHECKSUM, DATA_OFFSET, HEADER, SEQUENCE, flag};
use crate::packet::{be16, be32, checksum, tcp};

/// Adjusts sequence number, acknowledgment and SACK blocks: `own` is what was replaced in this direction, `other` what in the other one.
/// The checksum is updated by what changed.
pub fn seq_adjust(transport: &mut [u8], own: &Edits, other: &Edits) {
    let length = usize::from(transport[DATA_OFFSET] >> 4) * 4;
    let header = &mut transport[..length];
    let before = checksum::fold(checksum::sum(header));
    let sequence = own.forth(be32(header, SEQUENCE));
    header[SEQUENCE..SEQUENCE + 4].copy_from_slice(&sequence.to_be_bytes());
    if header[tcp::FLAGS] & flag::ACK != 0 {
        let acknowledgment = other.back(be32(header, ACKNOWLEDGMENT));
        header[ACKNOWLEDGMENT..ACKNOWLEDGMENT + 4].copy_from_slice(&acknowledgment.to_be_bytes());
        sack_adjust(&mut header[HEADER..], |edge| other.back(edge));
    }
    let after = checksum::fold(checksum::sum(header));
    let sum = checksum::update(be16(header, CHECKSUM), u64::from(!before) + u64::from(after));
    put16(header, CHECKSUM, sum);
}
