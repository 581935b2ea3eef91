//! The laws of the merge, each a property test; every row of its tables, and every pair of rows that can meet on one message, a named test.

mod changes;
mod history;
mod laws;
mod pairs;
mod regressions;
mod rows;
pub mod text;
pub mod world;
