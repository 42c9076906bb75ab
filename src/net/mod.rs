//! HTTP as the operator sees it: whether an address answers, and in which of the usual ways it does not.

mod http;

pub use http::{NetClass, NetError, Status, http_get};
