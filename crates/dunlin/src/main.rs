//! The program `dunlin`; see the library of the same name.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Gives memory back to the system soon after it is free, which the system's own often does not.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    dunlin::main()
}
