//! Compiles the XDP programs with clang; `src/xdp` and `src/pktgen` embed the objects.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const SOURCES: [(&str, &str); 2] = [("src/xdp/steer.bpf.c", "steer.bpf.o"), ("src/pktgen/ends.bpf.c", "ends.bpf.o")];

fn main() -> ExitCode {
    for (source, _) in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed=CLANG");
    match SOURCES.into_iter().try_for_each(|(source, object)| compile(source, object)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn compile(source: &str, object: &str) -> Result<(), String> {
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let directory = std::env::var("OUT_DIR").map_err(|_| "OUT_DIR is not set; build with cargo".to_owned())?;
    let object = PathBuf::from(directory).join(object);
    let mut command = Command::new(&clang);
    // -g for BTF: map types need it. v3 has 32-bit jumps, which kernels have had since 5.1.
    command.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-c", source, "-o"]).arg(&object);
    // Debian keeps <asm/types.h> here, where clang does not look when it compiles for another target.
    let machine = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let headers = format!("/usr/include/{machine}-linux-gnu");
    if Path::new(&headers).is_dir() {
        command.arg("-I").arg(headers);
    }
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{clang} is not installed; the XDP programs are compiled with it: apt-get install clang libc6-dev")
        }
        _ => format!("{clang} cannot be run: {error}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    // One cargo::error a line: cargo reads its instructions line by line.
    Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "\ncargo::error="))
}
