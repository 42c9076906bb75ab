//! Decisions about a run made from what is known before it: pure.

mod estimate;
mod risk;

pub use estimate::median;
pub use risk::{Risk, risk_of, risky};
