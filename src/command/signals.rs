//! Whatever asks a program to end.

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::failure::Failure;

/// What asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A person: SIGINT, or SIGHUP from a terminal that went away.
    Interrupt,
    Terminate,
}

/// SIGINT, SIGHUP and SIGTERM, but those that this program was started to ignore, as `nohup` does.
pub struct Signals {
    interrupt: Option<Stream>,
    hangup: Option<Stream>,
    terminate: Option<Stream>,
}

impl Signals {
    /// # Errors
    /// The kernel gives no handler.
    pub fn new() -> Result<Self, Failure> {
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let heard = |kind: SignalKind| match ignored & (1 << (kind.as_raw_value() - 1)) {
            0 => signal(kind).map(Some),
            _ => Ok(None),
        };
        Ok(Signals {
            interrupt: heard(SignalKind::interrupt())?,
            hangup: heard(SignalKind::hangup())?,
            terminate: heard(SignalKind::terminate())?,
        })
    }

    /// The next one.
    pub async fn recv(&mut self) -> Signal {
        tokio::select! {
            () = next(&mut self.interrupt) => Signal::Interrupt,
            () = next(&mut self.hangup) => Signal::Interrupt,
            () = next(&mut self.terminate) => Signal::Terminate,
        }
    }
}

async fn next(stream: &mut Option<Stream>) {
    match stream {
        Some(stream) => {
            stream.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Signals that a process ignores, the lowest bit being signal 1: `SigIgn` of proc_pid_status(5). Where there is no such
/// file, none.
fn ignored(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_kernels_mask() {
        let nohup = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000004002\n";
        assert_eq!(ignored(nohup), 1 << (SignalKind::hangup().as_raw_value() - 1));
        assert_eq!(ignored("SigIgn:\t0000000000001006\n") & 0b10, 0b10);
        assert_eq!((ignored(""), ignored("SigIgn:\tmany\n")), (0, 0));
    }
}
