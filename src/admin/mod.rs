//! The admin socket: requests and answers as JSON lines.
