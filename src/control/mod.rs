//! The control thread: one mio loop for everything that is not a packet.
