//! Decisions about a run made from what is known before it: pure.

mod risk;

pub use risk::{Risk, risk_of, risky};
