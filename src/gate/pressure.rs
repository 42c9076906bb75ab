//! Is there room for what is to be copied, and memory for what is to be done? Judged from what the host says now.

use crate::config::Preflight;
use crate::failure::{Failure, Reason};
use crate::host::pressure::Pressure;

/// Beyond the NARs' own size: file systems round files up to blocks, and Nix's database and its write-ahead log grow.
const MARGIN_PERCENT: u64 = 10;
const MARGIN_BYTES: u64 = 16 << 20;

/// What a copy has to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    pub paths: usize,
    /// The sum of the NAR sizes.
    pub bytes: u64,
}

impl Demand {
    /// Bytes that must be free, margin included.
    pub fn room(self) -> u64 {
        if self.bytes == 0 {
            return 0;
        }
        self.bytes
            .saturating_add(self.bytes / 100 * MARGIN_PERCENT)
            .saturating_add(MARGIN_BYTES)
    }
}

/// Whether the paths that are missing fit; what there is, for the gate's line.
///
/// # Errors
/// Exit 1: they do not, or nobody can tell.
pub fn room(target: &str, demand: Demand, now: &Pressure, limits: &Preflight) -> Result<String, Failure> {
    if demand.paths == 0 {
        return Ok("nothing is missing there".to_owned());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let missing = format!("{} paths, {} MiB", demand.paths, mib(demand.bytes));
    let Some(space) = now.store.as_ref().and_then(|disk| disk.kib) else {
        let what = format!("{target}: the space on /nix cannot be read");
        return Err(Failure::failed(Reason::Disk, what).why(format!("missing there: {missing}")));
    };
    let free = space.free.saturating_mul(1024);
    let used = space.used_percent();
    let full = used >= u64::from(limits.disk_percent);
    let short = free < limits.store_free;
    if demand.room() <= free && !full && !short {
        return Ok(format!("{missing} missing, {} MiB free", mib(free)));
    }
    let gc = format!(
        "git nixgate release {target} --gc    # collects garbage there first; known-good closures and what runs stay"
    );
    let mount = now
        .store
        .as_ref()
        .map_or("/nix/store", |disk| disk.mount.as_str());
    if demand.room() <= free {
        let what = match full {
            true => format!(
                "{target}: {mount} is {used}% used, ceiling {}%",
                limits.disk_percent
            ),
            false => format!(
                "{target}: {mount} has {} MiB free, `store-free` wants {} MiB",
                free >> 20,
                limits.store_free.div_ceil(1 << 20)
            ),
        };
        return Err(Failure::failed(Reason::Disk, what).next(gc));
    }
    Err(Failure::failed(
        Reason::Disk,
        format!("{target}: the closure does not fit on {mount}"),
    )
    .why(format!(
        "missing there: {missing}; with a margin {} MiB are needed",
        mib(demand.room())
    ))
    .why(format!("free on {mount}: {} MiB", free >> 20))
    .next(gc)
    .next("or a smaller `keep` in .nixgate.toml; it counts from the next release on"))
}

/// Whether [`memory`] would refuse these figures, without knowing who has the memory; what cannot be read is short.
pub fn is_short(available_kib: Option<u64>, stalled: Option<f64>, limits: &Preflight) -> bool {
    available_kib.is_none_or(|kib| kib < limits.memory_free / 1024)
        || (limits.memory_pressure > 0.0 && stalled.is_some_and(|percent| percent > limits.memory_pressure))
}

/// Whether there is memory to go on.
///
/// # Errors
/// Exit 1: not enough of it, or processes spend their time waiting for it, or nobody can tell; with who has it.
pub fn memory(target: &str, now: &Pressure, limits: &Preflight) -> Result<(), Failure> {
    let short = |what: String| {
        let mut failure = Failure::failed(Reason::Memory, what);
        failure.why = now.hogs();
        failure
    };
    let Some(available) = now.memory_available_kib else {
        return Err(short(format!("{target}: available memory cannot be read")));
    };
    let floor = limits.memory_free / 1024;
    if available < floor {
        let what = format!(
            "{target}: {} MiB of memory available, wants {} MiB",
            available / 1024,
            floor / 1024
        );
        return Err(short(what).next("stop what needs it most, or lower preflight.memory-free"));
    }
    if let Some(stalled) = now.memory_stalled
        && limits.memory_pressure > 0.0
        && stalled > limits.memory_pressure
    {
        let what = format!(
            "{target}: its processes wait for memory {stalled:.0}% of the time, ceiling {:.0}%",
            limits.memory_pressure
        );
        return Err(short(what).next("stop what needs it most, or raise preflight.memory-pressure"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn host(free_mib: &str, more: &str) -> Pressure {
        let free = free_mib
            .parse::<u64>()
            .map_or("?".to_owned(), |mib| (mib * 1024).to_string());
        Pressure::parse(&format!(
            "disk=/nix/store /nix 9000000 100 {free} 9 1 8\nMemTotal=8192000\nMemAvailable=512000\nSwapFree=0\n\
             psi_memory=1.50\ntop=6144000 812 hog\nunit=6144000 hog.service\n{more}complete=1\n"
        ))
    }

    fn limits() -> Preflight {
        Preflight::default()
    }

    #[test]
    fn s3_9_what_does_not_fit_with_its_margin_is_refused() {
        let demand = Demand {
            paths: 3,
            bytes: 1000 * MIB,
        };
        assert_eq!(demand.room(), 1116 * MIB);
        assert!(room("cortex", demand, &host("1116", ""), &limits()).is_ok());
        let failure = room("cortex", demand, &host("1115", ""), &limits()).expect_err("a MiB short");
        assert_eq!(failure.reason, Reason::Disk);
        assert!(
            failure.to_string().contains("free on /nix: 1115 MiB"),
            "{failure}"
        );
        let failure = room("cortex", demand, &host("unreadable", ""), &limits()).expect_err("nobody knows");
        assert!(failure.what.contains("cannot be read"), "{failure}");
        // Nothing to bring needs no room.
        assert!(room("cortex", Demand::default(), &host("0", ""), &limits()).is_ok());
    }

    #[test]
    fn s3_9_a_store_as_full_as_the_limit_is_refused_though_it_would_fit() {
        let one = Demand { paths: 1, bytes: 1 };
        let used = |percent: u64| {
            let kib = 10_000_000;
            Pressure::parse(&format!(
                "disk=/nix/store /nix {kib} {} {} ? ? ?\n",
                kib / 100 * percent,
                kib / 100 * (100 - percent)
            ))
        };
        assert!(room("cortex", one, &used(89), &limits()).is_ok());
        let failure = room("cortex", one, &used(90), &limits()).expect_err("90 percent");
        assert!(
            failure.what.contains("/nix is 90% used, ceiling 90%"),
            "{failure}"
        );
    }

    #[test]
    fn s4_20_the_store_keeps_as_much_room_as_is_asked_for() {
        let wants = |store_free| Preflight {
            store_free,
            ..limits()
        };
        let one = Demand { paths: 1, bytes: 1 };
        let disk = Pressure::parse("disk=/nix/store /nix 100000000 1 20971520 ? ? ?\n");
        assert!(room("cortex", one, &disk, &wants(20 << 30)).is_ok());
        let failure = room("cortex", one, &disk, &wants((20 << 30) + 1)).expect_err("a byte short");
        assert!(failure.what.contains("`store-free` wants 20481 MiB"), "{failure}");
        assert!(
            failure.next.iter().any(|next| next.contains("--gc")),
            "{failure:?}"
        );
    }

    #[test]
    fn s3_10_s3_11_memory_is_refused_with_its_hog() {
        assert!(memory("cortex", &host("9", ""), &limits()).is_ok());
        let small = Preflight {
            memory_free: 501 * MIB,
            ..limits()
        };
        let failure = memory("cortex", &host("9", ""), &small).expect_err("too little");
        assert_eq!(failure.reason, Reason::Memory);
        for line in [
            "6000 MiB  hog (pid 812)",
            "6000 MiB  hog.service",
            "500 MiB available",
        ] {
            assert!(failure.to_string().contains(line), "{line}: {failure}");
        }
        assert!(memory("cortex", &Pressure::parse("complete=1\n"), &limits()).is_err());
    }

    #[test]
    fn s3_10_waiting_for_memory_counts_as_pressure() {
        let stalled = |percent: &str| {
            Pressure::parse(&format!(
                "MemAvailable=9999999\npsi_memory={percent}\ncomplete=1\n"
            ))
        };
        assert!(memory("cortex", &stalled("39.9"), &limits()).is_ok());
        assert!(memory("cortex", &stalled("40.1"), &limits()).is_err());
        let off = Preflight {
            memory_pressure: 0.0,
            ..limits()
        };
        assert!(memory("cortex", &stalled("99.0"), &off).is_ok());
    }
}
