//! Files that are read whole: only regular ones, so that reading never waits for anybody, and none that is too large.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// A config is text written by people: more than this is another file.
const MOST_BYTES: u64 = 16 << 20;

/// All of it.
///
/// # Errors
/// When it cannot be opened or read, when it is no regular file, and when it has more than 16 MiB.
pub(crate) fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    // Without O_NONBLOCK, opening a FIFO waits for whoever writes to it.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        return Err(io::Error::other(format!("it is {}; allowed: a regular file", name(kind))));
    }
    read_up_to_most(file)
}

fn read_up_to_most(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MOST_BYTES {
        true => Err(io::Error::other("larger than 16 MiB")),
        false => Ok(bytes),
    }
}

fn name(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_dir() => "a directory",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "no file with content",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let (regular, fifo) = (directory.path().join("regular"), directory.path().join("fifo"));
        std::fs::write(&regular, "text").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert_eq!(read_whole(&regular).unwrap(), b"text");
        for (path, what) in [(fifo.as_path(), "a FIFO"), (directory.path(), "a directory"), (Path::new("/dev/zero"), "a device")]
        {
            assert_eq!(read_whole(path).unwrap_err().to_string(), format!("it is {what}; allowed: a regular file"));
        }
    }

    #[test]
    fn too_large_a_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MOST_BYTES).unwrap();
        assert_eq!(read_whole(file.path()).unwrap().len() as u64, MOST_BYTES);
        file.as_file().set_len(MOST_BYTES + 1).unwrap();
        assert_eq!(read_whole(file.path()).unwrap_err().to_string(), "larger than 16 MiB");
    }
}
