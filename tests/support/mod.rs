//! What several test modules share: temporary stores, a mounted mailbraid, waiting.

// Some tests only start it, others only kill it.
#[allow(dead_code)]
pub mod daemon;
#[allow(dead_code)]
pub mod mounted;

/// The seed of this run's random choices: `MAILBRAID_SEED`, or a new one. Printed, so that a failed test shows it.
pub fn seed() -> u64 {
    let given = std::env::var("MAILBRAID_SEED").ok();
    let seed = given.map_or_else(
        || {
            let mut raw = [0; 8];
            rustix::rand::getrandom(&mut raw, rustix::rand::GetRandomFlags::empty())
                .expect("random bytes");
            u64::from_le_bytes(raw)
        },
        |text| text.parse().expect("MAILBRAID_SEED is a number"),
    );
    println!("MAILBRAID_SEED={seed}");
    seed
}
