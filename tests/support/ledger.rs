//! The books of weir: what it counts, and that every frame which came in is accounted for.

use super::daemon::Daemon;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

impl Daemon {
    /// A counter of each worker, such as `rx`.
    #[track_caller]
    pub fn of_workers(&self, counter: &str) -> Vec<u64> {
        number_each(&self.status()["workers"], counter)
    }

    /// A counter, summed over the workers.
    #[track_caller]
    pub fn sum_of_workers(&self, counter: &str) -> u64 {
        self.of_workers(counter).iter().sum()
    }

    /// Drops by reason, summed over the workers.
    #[track_caller]
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for worker in list(&self.status()["workers"]) {
            for (reason, count) in worker["drops"].as_object().expect("drops by reason") {
                *sums.entry(reason.clone()).or_default() += count.as_u64().expect("a count");
            }
        }
        sums
    }

    /// Waits for a quiet moment at which, for every worker, rx + originated = tx + waiting + Σ drops, and at which all that the XDP program
    /// gave to weir was received or dropped at a ring.
    #[track_caller]
    pub fn check_conservation(&mut self) {
        if self.has_ended() {
            return;
        }
        let start = Instant::now();
        loop {
            let status = self.status();
            let Err(why) = conserved(&status) else { return };
            assert!(start.elapsed() < Duration::from_secs(5), "frames are unaccounted for: {why}\n{status:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn conserved(status: &Value) -> Result<(), String> {
    for worker in list(&status["workers"]) {
        let drops: u64 =
            worker["drops"].as_object().expect("drops by reason").values().map(|count| count.as_u64().expect("a count")).sum();
        let [rx, originated, tx, waiting] = ["rx", "originated", "tx", "waiting"].map(|counter| number(worker, counter));
        if rx + originated != tx + waiting + drops {
            return Err(format!(
                "worker {}: rx {rx}, originated {originated}, tx {tx}, waiting {waiting}, drops {drops}",
                worker["index"]
            ));
        }
    }
    list(&status["workers"]).iter().try_for_each(times_bursts)?;
    let received: u64 = number_each(&status["workers"], "rx").iter().sum();
    let redirected: u64 = number_each(&status["interfaces"], "redirected").iter().sum();
    let lost: u64 =
        list(&status["interfaces"]).iter().flat_map(|interface| number_each(&interface["queues"], "ring_drops")).sum();
    match redirected == received + lost {
        true => Ok(()),
        false => Err(format!("redirected {redirected} by XDP, received {received}, dropped at the rings {lost}")),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("a list expected, found {value}"))
}

fn number(object: &Value, key: &str) -> u64 {
    object[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {object}"))
}

fn number_each(objects: &Value, key: &str) -> Vec<u64> {
    list(objects).iter().map(|object| number(object, key)).collect()
}

/// Every frame came in a burst, each of which was timed.
fn times_bursts(worker: &Value) -> Result<(), String> {
    let (rx, bursts) = (number(worker, "rx"), &worker["bursts"]);
    let count = number(bursts, "count");
    let quantiles = ["p50", "p99", "p99_9", "max"].map(|quantile| number(bursts, quantile));
    let timed = (rx.div_ceil(64)..=rx).contains(&count) && quantiles.is_sorted() && (quantiles[0] > 0) == (rx > 0);
    if timed { Ok(()) } else { Err(format!("worker {}: {rx} frames in bursts {bursts}", worker["index"])) }
}
