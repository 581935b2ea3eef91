//! A small seeded generator (SplitMix64), so that a failure is rerun by its seed whatever a library's generator does.

/// A source of numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded by `MAILBRAID_SEED`, or anew; says which on stderr, which `cargo test` shows where the test fails.
    pub fn from_env(test: &str) -> Self {
        let seed = std::env::var("MAILBRAID_SEED")
            .ok()
            .map(|text| text.parse().expect("MAILBRAID_SEED is a number"))
            .unwrap_or_else(|| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                now.expect("the clock is past 1970").as_nanos() as u64
            });
        eprintln!("{test}: MAILBRAID_SEED={seed}");
        Self::new(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `bound` − 1.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A number with any count of significant bits equally likely: small ones are as common as great ones.
    pub fn number(&mut self) -> u32 {
        let bits = self.below(33);
        if bits == 0 {
            0
        } else {
            (self.next() as u32) >> (32 - bits)
        }
    }
}
