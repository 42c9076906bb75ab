//! Whether the host is a NixOS one that can be switched and taken back, and whether it boots what it runs.

use super::{Report, Rules};
use crate::event::Verdict;
use crate::failure::{Failure, Reason};
use crate::host::Facts;
use crate::host::system::NoSwitch;

/// Check 3.
pub(super) fn judge(target: &str, facts: &Facts, rules: &Rules<'_>, report: &mut Report) {
    const NAME: &str = "NixOS system check";
    if !facts.is_nixos() {
        let what = format!("{target} is no NixOS host, or a damaged one: there is no /etc/NIXOS");
        let failure = Failure::failed(Reason::Check, what)
            .why(format!(
                "os-release says ID={}, not {}",
                facts.os_id,
                facts.expected_id()
            ))
            .next("is this the right host? `git nixgate config show` prints where the target leads");
        report.fail(3, NAME, "no /etc/NIXOS", failure);
    } else if !facts.missing_tools.is_empty() {
        let missing = facts.missing_tools.join(", ");
        let failure = Failure::failed(
            Reason::Check,
            format!("{target}: the running system lacks {missing}"),
        )
        .why("the supervisor takes its tools from /run/current-system/sw/bin")
        .next("add them to environment.systemPackages and switch once by hand");
        report.fail(3, NAME, format!("lacks {missing}"), failure);
    } else if let Some(why) = facts.no_switch {
        if rules.boot && why == NoSwitch::Without {
            report.warnings.push(format!(
                "what runs has no switch-to-configuration: where what boots next cannot be set, {target} is not put back by itself"
            ));
            report.line(3, NAME, Verdict::Passed, "cannot be switched, only booted");
        } else {
            report.fail(3, NAME, "no way back", no_way_back(target, facts, why, rules));
        }
    } else {
        report.line(3, NAME, Verdict::Passed, "");
    }
}

/// Nothing could go back to what runs: why, and the way out of it.
fn no_way_back(target: &str, facts: &Facts, why: NoSwitch, rules: &Rules<'_>) -> Failure {
    let running = facts.here.running.as_deref().unwrap_or_default();
    let what = format!("{target}: there would be no way back to what runs");
    let failure =
        Failure::failed(Reason::Check, what).why(format!("{running} has no bin/switch-to-configuration"));
    match why {
        NoSwitch::Damaged => failure
            .why("it is damaged: its contents are not what the store registered")
            .next(format!(
                "git nixgate store repair {target} --contents    # puts back what is gone"
            )),
        NoSwitch::Unknown => failure.next(format!("git nixgate store check {target} --contents")),
        NoSwitch::Without => {
            let failure = failure.why("it was built with system.switch.enable = false");
            match (rules.advisory, kept(target, facts)) {
                (false, _) => failure.next(format!(
                    "git nixgate release {target} --boot    # what cannot be switched can be booted"
                )),
                (true, None) => failure.next(format!("git nixgate release {target} --boot")),
                (true, Some(path)) => failure
                    .next(format!(
                        "on {target}: nix-env -p /nix/var/nix/profiles/system --set {path} && \
                         {path}/bin/switch-to-configuration boot && reboot"
                    ))
                    .next(format!("then: git nixgate status {target} --live")),
            }
        }
    }
}

/// The newest closure that a root of the target's keeps there, other than what runs: leaves sort by their time.
fn kept<'a>(target: &str, facts: &'a Facts) -> Option<&'a str> {
    let running = facts.here.running.as_deref();
    facts
        .roots
        .iter()
        .rev()
        .filter(|(name, _)| name.starts_with(&format!("{target}/2")))
        .map(|(_, path)| path.as_str())
        .find(|path| Some(*path) != running)
}

/// What runs against what boots.
pub(super) fn boots(target: &str, facts: &Facts, rules: &Rules<'_>, report: &mut Report) {
    if let Some(running) = facts
        .specialisation()
        .filter(|running| running.name != rules.specialisation)
    {
        let name = &running.name;
        let failure = Failure::refused(format!("{target} runs its specialisation {name}"))
            .why("a switch would leave it for the plain system")
            .next(format!(
                "specialisation = \"{name}\" in [target.{target}], to switch within it"
            ))
            .next("or switch the host to the plain system by hand first");
        report.fail(0, "Specialisation", name.clone(), failure);
    }
    boots_next(target, facts, rules, report);
    // In the middle of somebody's switch the boot default has to differ.
    if let Some(drift) = boot_drift(facts).filter(|_| facts.holder.is_none()) {
        if rules.accept_drift {
            report.warnings.push(drift);
        } else {
            let failure = Failure::refused(format!("{target}: {drift}"))
                .why("a reset would boot something else than what runs")
                .next("switch the host back by hand, or go on with --accept-drift");
            report.fail(0, "Boot default", "not what runs", failure);
        }
    }
}

/// What boots at the next boot only, and what a run with `--boot` cannot have.
fn boots_next(target: &str, facts: &Facts, rules: &Rules<'_>, report: &mut Report) {
    if let Some(once) = &facts.here.boot_once {
        let by = match facts.here.boot_loader.as_str() {
            "systemd-boot" => format!("`git nixgate cancel {target}` takes that back, a commit does too"),
            _ => format!("on {target}: grub-editenv /boot/grub/grubenv unset next_entry"),
        };
        report.warnings.push(format!(
            "the next boot of {target} is that of {once}, once; what it boots by default is {}: {by}",
            facts.here.boot_default
        ));
    }
    if rules.boot && !facts.can_boot_once {
        let why = match facts.here.boot_loader.as_str() {
            "systemd-boot" => {
                "its boot loader does not take the default by its name but by a pattern or a variable"
            }
            "none" => "it has no boot loader that could boot a system once",
            "unknown" => "its boot loader is not known",
            _ => "its boot loader does not boot a system once",
        };
        report.warnings.push(format!(
            "every boot of {target} will be the new system's, proven or not, until `resume` has validated it: {why}"
        ));
    }
}

/// Running system and boot default disagree: in words.
pub fn boot_drift(facts: &Facts) -> Option<String> {
    let running = facts.running()?;
    let default = facts.here.boot_default.path()?;
    (!running.is_booted_by(default))
        .then(|| format!("runs {}, but the boot default is {default}", running.effective))
}
