//! Views of packet headers, parsing, checksums.
