//! What a supervisor is told before it starts. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::script::HostError;
use super::super::state::Where;

/// A run on one target, as the supervisor needs to know it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The run's id: `[A-Za-z0-9._-]`, unique; unit names and directories are made of it.
    pub run: String,
    pub target: String,
    /// What the run is for, in a word (`release`, `rollback`), for whoever meets the lock.
    pub verb: String,
    /// Full id of the commit, for whoever meets the lock.
    pub commit: String,
    /// Who runs this, one line.
    pub who: String,
    /// The toplevel to switch to.
    pub candidate: String,
    /// As preflight read it. The host must still be like this when the lock is taken.
    pub seen: Where,
    /// Units that had failed at preflight: one that flaps and is up when the switch begins is no new failure later.
    pub failed: Vec<String>,
    /// Silence that makes the supervisor release or revert.
    pub lease: Duration,
    /// Deadline of each run of switch-to-configuration.
    pub activate: Duration,
    /// Whether a host that could not be reverted and that nobody is in contact with reboots into its boot default.
    pub reboot_on_failed_revert: bool,
    /// Running ≠ boot default was accepted by the operator.
    pub accept_drift: bool,
    /// So was a boot loader that does not tell what it boots, where the one before did.
    pub accept_loader: bool,
    /// Run `<candidate>/specialisation/<name>`; profile and boot default are the candidate all the same.
    pub specialisation: Option<String>,
    /// `lxc`, `wsl`, … as preflight read it.
    pub container: Option<String>,
    /// This machine does not reboot itself.
    pub never_reboot: bool,
}

impl Plan {
    /// The system that ran at preflight; the one to go back to.
    pub fn previous(&self) -> &str {
        self.seen.running.as_deref().unwrap_or_default()
    }

    /// The plan as assignments that the supervisor reads; every value quoted.
    ///
    /// # Errors
    /// [`HostError::Unsendable`] for values that cannot be what they should be.
    pub(super) fn text(&self) -> Result<String, HostError> {
        check_run(&self.run)?;
        let name = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !name(&self.target) {
            return Err(HostError::Unsendable("the target's name"));
        }
        if let Some(specialisation) = &self.specialisation
            && !name(specialisation)
        {
            return Err(HostError::Unsendable("the specialisation's name"));
        }
        for path in [self.candidate.as_str(), self.previous()] {
            if !is_store_path(path) {
                return Err(HostError::Unsendable("a toplevel that is no store path"));
            }
        }
        let flag = |on: bool| if on { "1" } else { "" }.to_owned();
        let line = |text: &str| text.replace(['\n', '\r'], " ");
        let boot = self.seen.boot_default.path() == self.seen.running.as_deref();
        let values = [
            ("p_run", self.run.clone()),
            ("p_target", self.target.clone()),
            ("p_verb", line(&self.verb)),
            ("p_commit", line(&self.commit)),
            ("p_who", line(&self.who)),
            ("p_candidate", self.candidate.clone()),
            ("p_previous", self.previous().to_owned()),
            (
                "p_specialisation",
                self.specialisation.clone().unwrap_or_default(),
            ),
            (
                "p_failed",
                self.failed
                    .iter()
                    .map(|unit| line(unit))
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
            ("p_lease", self.lease.as_secs().max(2).to_string()),
            ("p_activate", self.activate.as_secs().max(1).to_string()),
            ("p_container", line(self.container.as_deref().unwrap_or_default())),
            ("p_accept_loader", flag(self.accept_loader)),
            (
                "p_reboot",
                flag(self.reboot_on_failed_revert && !self.never_reboot && self.container.is_none() && boot),
            ),
        ];
        let mut text = String::new();
        for (key, value) in values {
            let quoted = shlex::try_quote(&value).map_err(|_| HostError::Unsendable("a NUL byte"))?;
            // Writing to a String does not fail.
            let _ = writeln!(text, "{key}={quoted}");
        }
        Ok(text)
    }
}

/// A run's id becomes part of unit names and paths.
pub(super) fn check_run(run: &str) -> Result<(), HostError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let fits = (1..=120).contains(&run.len()) && run.bytes().all(allowed) && !run.starts_with(['.', '-']);
    if fits {
        Ok(())
    } else {
        Err(HostError::Unsendable("the run's id"))
    }
}

/// `/nix/store/<name>` without anything below it.
pub(super) fn is_store_path(path: &str) -> bool {
    path.strip_prefix("/nix/store/").is_some_and(|name| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b);
        !name.is_empty() && !name.starts_with('.') && name.bytes().all(allowed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::state::BootDefault;

    fn plan() -> Plan {
        Plan {
            run: "20261120T031402Z-ab12".into(),
            target: "cortex".into(),
            verb: "release".into(),
            commit: "abc".into(),
            who: "Ann O'Neil <a@b>\nrm -rf /".into(),
            candidate: "/nix/store/b-nixos-system".into(),
            seen: Where {
                running: Some("/nix/store/a-nixos-system".into()),
                profile: Some("/nix/store/a-nixos-system".into()),
                generation: Some(1),
                boot_default: BootDefault::Path("/nix/store/a-nixos-system".into()),
                boot_loader: "grub".into(),
                boot_once: None,
            },
            failed: vec!["flap.service".into(), "it's.service".into()],
            lease: Duration::from_secs(30),
            activate: Duration::from_secs(600),
            reboot_on_failed_revert: true,
            accept_drift: false,
            accept_loader: false,
            specialisation: None,
            container: None,
            never_reboot: false,
        }
    }

    #[test]
    fn every_value_is_quoted_and_stays_on_its_line() {
        let text = plan().text().expect("a plan");
        assert_eq!(text.lines().count(), 14);
        assert!(text.contains("p_failed=\"flap.service it's.service\""), "{text}");
        assert!(text.contains("p_who=\"Ann O'Neil <a@b> rm -rf /\""), "{text}");
        assert!(text.contains("p_reboot=1"));
    }

    #[test]
    fn a_host_that_would_boot_something_else_never_reboots_to_recover() {
        for change in [
            (|plan: &mut Plan| plan.seen.boot_default = BootDefault::NotVerifiable) as fn(&mut Plan),
            |plan| plan.seen.boot_default = BootDefault::Path("/nix/store/c".into()),
            |plan| plan.never_reboot = true,
            |plan| plan.container = Some("lxc".into()),
            |plan| plan.reboot_on_failed_revert = false,
        ] {
            let mut plan = plan();
            change(&mut plan);
            assert!(plan.text().expect("a plan").contains("p_reboot=''"));
        }
    }

    #[test]
    fn names_and_paths_that_could_escape_are_refused() {
        for change in [
            (|plan: &mut Plan| plan.run = "../x".into()) as fn(&mut Plan),
            |plan| plan.run = "a b".into(),
            |plan| plan.run = String::new(),
            |plan| plan.target = "a/b".into(),
            |plan| plan.specialisation = Some("../../x".into()),
            |plan| plan.candidate = "/nix/store/a/../../etc".into(),
            |plan| plan.candidate = "/etc/passwd".into(),
            |plan| plan.seen.running = None,
        ] {
            let mut plan = plan();
            change(&mut plan);
            assert!(plan.text().is_err(), "{plan:?}");
        }
    }
}
