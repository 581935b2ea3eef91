//! The codecs of the servers' index files and the hidden names: decode∘encode is the identity, and no bytes make them panic.
//!
//! - [`properties`]: values made at random from the rules in each codec's header, encoded and decoded.
//! - [`fuzz`]: a million inputs, mutated from `corpus/` and from such values; an input that shows something new joins the pool, as in
//!   coverage-guided fuzzing. `MAILBRAID_SEED` reruns a failure, `MAILBRAID_INPUTS` sets the number.
//! - [`translate`]: files against records, over the UID laws.
//! - [`check`]: `mailbraid check` over histories that break a UID law.
//! - [`hidden`]: hidden names against git's own opinion of them.

mod check;
mod fuzz;
mod generate;
mod hidden;
mod properties;
pub mod random;
mod translate;
