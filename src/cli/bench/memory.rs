//! Whether this machine has the memory that a benchmark is about to take: the kernel gives it out by the page, and ends whoever takes the last one.

use anyhow::ensure;
use std::fs;

/// Refuses what is more than the machine has.
pub(super) fn check(bytes: usize, what: &str) -> anyhow::Result<()> {
    // Without /proc nobody knows, and the kernel will say.
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text)).unwrap_or(usize::MAX);
    ensure!(
        bytes <= available,
        "{what}: {} MiB of memory are needed, {} MiB are available (MemAvailable in /proc/meminfo); ask for fewer",
        bytes >> 20,
        available >> 20
    );
    Ok(())
}

/// In bytes.
fn available(meminfo: &str) -> Option<usize> {
    let kibibytes = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    kibibytes.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read() {
        assert_eq!(available("MemTotal:  9 kB\nMemAvailable:    1234 kB\nBuffers: 1 kB\n"), Some(1234 * 1024));
        assert_eq!(available("MemTotal:  9 kB\n"), None);
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        assert!(check(1, "1 connection").is_ok());
        let error = check(usize::MAX - 1, "60000000 connections").unwrap_err().to_string();
        assert!(error.starts_with("60000000 connections: 17592186044415 MiB of memory are needed, "), "{error}");
    }
}
