//! How long the runs are, from the environment: the table is in `main.rs`.

use std::time::Duration;

/// The number in `MAILBRAID_NET_<NAME>`, or the default.
#[track_caller]
pub fn number(name: &str, default: usize) -> usize {
    let name = format!("MAILBRAID_NET_{name}");
    std::env::var(&name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}"))
    })
}

/// `MAILBRAID_NET_SECONDS`, or the default.
#[track_caller]
pub fn seconds(default: usize) -> Duration {
    Duration::from_secs(number("SECONDS", default) as u64)
}
