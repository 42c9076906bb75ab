//! The kinds of hosts. The order of a group is that in which its matrix is printed.

mod logins;
mod nix;
mod ssh;
mod sudo;
mod systems;

pub use logins::LOGINS;
pub use nix::NIX;
pub use ssh::{SSH_CONFIG, SSHD};
pub use sudo::SUDO;
pub use systems::{MANY, SYSTEMS};

use super::{Expected, KIND, Kind, Refusal};

/// Nothing of ours gets there.
const fn shut(why: &'static str) -> Expected {
    Expected::Refused(Refusal {
        exit: 1,
        why,
        rollback: false,
        live: 1,
    })
}

/// No release gets there, but what is there can be read, and can be gone back to.
const fn only_back(why: &'static str) -> Expected {
    Expected::Refused(Refusal {
        exit: 1,
        why,
        rollback: true,
        live: 0,
    })
}

/// What is there can be read, and nothing else.
const fn refused(why: &'static str) -> Expected {
    Expected::Refused(Refusal {
        exit: 1,
        why,
        rollback: false,
        live: 0,
    })
}

/// The same, on a host that was switched to such a system by hand: no record says so.
const fn by_hand(why: &'static str) -> Expected {
    Expected::Refused(Refusal {
        exit: 1,
        why,
        rollback: false,
        live: 1,
    })
}
