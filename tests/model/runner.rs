//! Runs a property: prints its seed, takes it from `MAILBRAID_SEED`, and the number of cases from `MAILBRAID_CASES`.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// Panics with the smallest failing input found.
pub fn run<S: Strategy>(
    test: &str,
    cases: u32,
    strategy: S,
    property: impl Fn(S::Value) -> Result<(), String>,
) {
    let seed = number("MAILBRAID_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("the clock is past 1970").as_nanos() as u64
    });
    eprintln!("{test}: MAILBRAID_SEED={seed}");
    let config = Config {
        cases: number("MAILBRAID_CASES").map_or(cases, |cases| cases as u32),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let outcome = TestRunner::new_with_rng(config, rng).run(&strategy, |input| {
        property(input).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        // The property says what it did in fewer words than the input.
        Err(TestError::Fail(why, _)) => panic!("MAILBRAID_SEED={seed}: {why}"),
        Err(aborted) => panic!("MAILBRAID_SEED={seed}: {aborted}"),
    }
}
