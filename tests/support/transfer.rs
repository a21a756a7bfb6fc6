//! A file that goes both ways through weir and must be the same byte by byte.

use super::config::Family;
use super::lab::Lab;
use super::traffic::curl;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Moves this many bytes from a backend to the client, and as many from the client to a backend, over the `web` services.
#[track_caller]
pub fn transfer(lab: &Lab, family: Family, bytes: u64) {
    let original = lab.directory.join("original");
    write_noise(&original, bytes);

    for backend in &lab.backends {
        std::fs::copy(&original, backend.file("down")).expect("a file to serve");
        // One of a transfer before this one.
        let _ = std::fs::remove_file(backend.file("up"));
    }
    let copy = lab.directory.join("copy");
    let finished = curl(&lab.client, &format!("--fail --output {} {}", copy.display(), family.url("down")));
    assert!(finished.success(), "download: {finished}");
    assert_same(&original, &copy);

    let finished = curl(&lab.client, &format!("--fail --upload-file {} {}", original.display(), family.url("up")));
    assert!(finished.success(), "upload: {finished}");
    let uploaded: Vec<PathBuf> = lab.backends.iter().map(|backend| backend.file("up")).filter(|file| file.exists()).collect();
    assert_eq!(uploaded.len(), 1, "one backend took the upload: {uploaded:?}");
    assert_same(&original, &uploaded[0]);
}

/// Bytes that no two places of share, from the kernel's generator.
fn write_noise(path: &Path, bytes: u64) {
    let mut noise = File::open("/dev/urandom").expect("/dev/urandom").take(bytes);
    let mut file = File::create(path).expect("the original file");
    std::io::copy(&mut noise, &mut file).expect("noise");
    file.flush().expect("noise");
}

#[track_caller]
fn assert_same(a: &Path, b: &Path) {
    let [left, right] = [a, b].map(|path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    assert_eq!(left.len(), right.len(), "sizes of {} and {}", a.display(), b.display());
    if left != right {
        let first_difference = left.iter().zip(&right).position(|(x, y)| x != y);
        panic!("{} and {} differ at byte {first_difference:?}", a.display(), b.display());
    }
}
