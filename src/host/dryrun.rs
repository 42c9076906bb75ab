//! What `switch-to-configuration dry-activate` announces. Pure.

use serde::{Deserialize, Serialize};

/// The announced changes; units as printed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DryActivate {
    pub stop: Vec<String>,
    /// Changed, but to be left running.
    pub not_stopped: Vec<String>,
    pub restart: Vec<String>,
    pub reload: Vec<String>,
    /// Units that are new through a target are not in it: the program does not list them.
    pub start: Vec<String>,
    /// Swap devices to be switched off.
    pub swap_off: Vec<String>,
    /// The activation script would run.
    pub activate: bool,
    /// systemd itself would be re-executed.
    pub restart_systemd: bool,
    /// What no rule knew: user units, deprecations. Kept, because a plan may not lose lines.
    pub other: Vec<String>,
}

impl DryActivate {
    /// Parses stderr of `dry-activate`.
    pub fn parse(stderr: &str) -> Self {
        let mut plan = DryActivate::default();
        for line in stderr.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let Some(text) = line.strip_prefix("would ") else {
                plan.other.push(line.to_owned());
                continue;
            };
            if text.starts_with("activate the configuration") {
                plan.activate = true;
            } else if text == "restart systemd" {
                plan.restart_systemd = true;
            } else if let Some(device) = text.strip_prefix("stop swap device: ") {
                plan.swap_off.push(device.to_owned());
            } else if let Some(units) = list(text, "stop the following units: ") {
                plan.stop.extend(units);
            } else if let Some(units) = list(text, "NOT stop the following changed units: ") {
                plan.not_stopped.extend(units);
            } else if let Some(units) = list(text, "reload the following units: ") {
                plan.reload.extend(units);
            } else if let Some(units) = list(text, "restart the following units: ") {
                plan.restart.extend(units);
            } else if let Some(units) = list(text, "start the following units: ") {
                plan.start.extend(units);
            } else {
                plan.other.push(line.to_owned());
            }
        }
        plan
    }

    /// Nothing but the activation script.
    pub fn changes_no_unit(&self) -> bool {
        self.stop.is_empty()
            && self.restart.is_empty()
            && self.reload.is_empty()
            && self.start.is_empty()
            && self.swap_off.is_empty()
            && !self.restart_systemd
    }
}

fn list(text: &str, head: &str) -> Option<Vec<String>> {
    let rest = text.strip_prefix(head)?;
    Some(
        rest.split(", ")
            .map(str::to_owned)
            .filter(|unit| !unit.is_empty())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::stc::tests::recording;
    use super::*;

    fn units(list: &str) -> Vec<String> {
        list.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn recorded_plans_are_read_whole() {
        let changes = DryActivate {
            stop: units("app.service sock.service sock.socket tick.timer"),
            not_stopped: units("pinned.service"),
            restart: units("worker.service"),
            reload: units("proxy.service"),
            start: units("app.service sock.socket"),
            activate: true,
            ..DryActivate::default()
        };
        let back = DryActivate {
            stop: units("app.service extra.service"),
            start: units("app.service"),
            ..changes.clone()
        };
        let nothing = DryActivate {
            activate: true,
            ..DryActivate::default()
        };
        let systemd = DryActivate {
            restart_systemd: true,
            ..nothing.clone()
        };
        let table = [
            ("06-dry-activate-noop", nothing),
            ("08-dry-activate-changes", changes),
            ("10-dry-activate-back", back),
            ("31-dry-activate-systemd-restart", systemd),
        ];
        for (name, expected) in table {
            let (_, _, stderr) = recording(name);
            assert_eq!(DryActivate::parse(&stderr), expected, "{name}");
        }
    }

    #[test]
    fn what_no_rule_knows_is_kept() {
        let plan = DryActivate::parse(
            "would stop swap device: /dev/sda2\nwould restart the following user units: a.service\nwarning: x\n",
        );
        assert_eq!(plan.swap_off, ["/dev/sda2"]);
        assert_eq!(
            plan.other,
            ["would restart the following user units: a.service", "warning: x"]
        );
        assert!(!plan.changes_no_unit());
    }
}
