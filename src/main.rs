//! Parses the command line and calls the command.

/// glibc before 2.38 never fits an aligned block (each of zlib's is) into the place of one that was freed, once something small that stays lies beside it: after twelve minutes
/// of pushes and braids without pause a daemon had 1.8 GB, most of it free.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    mailbraid::cli::main()
}
