//! What a host is and what it runs: whether it is NixOS, whether it can be switched, and which system is the wanted one.

use serde::Serialize;

use super::Facts;
use super::state::{BootDefault, State, Where};

/// A system as a host is to run it: a toplevel, or one of its specialisations, which is a system of its own. What runs, what
/// boots and what the profile leads to are held against it here and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct System {
    /// What the profile leads to.
    pub toplevel: String,
    /// What runs: the toplevel, or the specialisation's own store path.
    pub effective: String,
}

impl System {
    /// A toplevel without a specialisation.
    pub fn plain(toplevel: impl Into<String>) -> Self {
        let toplevel = toplevel.into();
        System {
            effective: toplevel.clone(),
            toplevel,
        }
    }

    /// Whether it is what runs.
    pub fn runs(&self, here: &Where) -> bool {
        here.running.as_deref() == Some(self.effective.as_str())
    }

    /// Whether the profile leads to it.
    pub fn is_profile(&self, here: &Where) -> bool {
        here.profile.as_deref() == Some(self.toplevel.as_str())
    }

    /// Whether `path` boots it. A boot loader names the toplevel, or the specialisation where that boots by default.
    pub fn is_booted_by(&self, path: &str) -> bool {
        path == self.effective || path == self.toplevel
    }

    /// Whether it boots by default; `None`: that cannot be verified.
    pub fn boots(&self, here: &Where) -> Option<bool> {
        here.boot_default.path().map(|path| self.is_booted_by(path))
    }

    /// What disagrees with "running = profile = boot default = this", in words; empty when that is proven. A boot default that
    /// cannot be verified is not listed: see [`Where::boot_default`].
    pub fn disagreements(&self, here: &Where) -> Vec<String> {
        let mut found = Vec::new();
        let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
        if !self.runs(here) {
            found.push(format!("running is {}", word(&here.running)));
        }
        if !self.is_profile(here) {
            found.push(format!("the profile is {}", word(&here.profile)));
        }
        if let BootDefault::Path(path) = &here.boot_default
            && !self.is_booted_by(path)
        {
            found.push(format!("the boot default is {path}"));
        }
        found
    }

    /// Whether running system, profile and boot default are this, as far as that can be verified.
    pub fn is_committed(&self, here: &Where) -> bool {
        self.disagreements(here).is_empty()
    }
}

/// A system that a toplevel on the host links to as a specialisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Specialised {
    pub name: String,
    pub toplevel: String,
    /// The system's own store path.
    pub path: String,
}

impl Specialised {
    /// From a line of the facts script: name, toplevel, path.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ').map(str::to_owned);
        Some(Specialised {
            name: words.next()?,
            toplevel: words.next()?,
            path: words.next()?,
        })
    }
}

impl State {
    /// What the run wants the host to run.
    pub fn system(&self) -> System {
        let effective = match self.effective.as_str() {
            "" => self.candidate.clone(),
            path => path.to_owned(),
        };
        System {
            toplevel: self.candidate.clone(),
            effective,
        }
    }
}

/// Why a toplevel has no `bin/switch-to-configuration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoSwitch {
    /// It was made so: `system.switch.enable = false` (nixpkgs, `switchable-system.nix`).
    Without,
    /// Its contents are not what the store registered.
    Damaged,
    /// Nix does not say.
    Unknown,
}

impl NoSwitch {
    /// From the word of `made_without` in `common.sh`.
    pub fn parse(word: &str) -> Self {
        match word {
            "without" => NoSwitch::Without,
            "damaged" => NoSwitch::Damaged,
            _ => NoSwitch::Unknown,
        }
    }
}

impl Facts {
    /// As `switch-to-configuration` judges: `/etc/NIXOS` is there (not with `system.etc.overlay.enable`), or os-release has
    /// the `ID` that it was made for (`system.nixos.distroId`).
    pub fn is_nixos(&self) -> bool {
        self.nixos_marker || self.os_id == self.expected_id()
    }

    /// The `ID` of os-release that would make the host a NixOS one.
    pub fn expected_id(&self) -> &str {
        match self.distro_id.as_str() {
            "" => "nixos",
            id => id,
        }
    }

    /// `toplevel`, or that specialisation of it. Its own path is known where it runs or boots; else one that nothing has
    /// stands for it.
    pub fn system(&self, toplevel: &str, specialisation: Option<&str>) -> System {
        let Some(wanted) = specialisation.filter(|name| !name.is_empty()) else {
            return System::plain(toplevel);
        };
        let known = self
            .specialised
            .iter()
            .find(|known| known.name == wanted && known.toplevel == toplevel);
        System {
            toplevel: toplevel.to_owned(),
            effective: known.map_or_else(
                || format!("{toplevel}/specialisation/{wanted}"),
                |known| known.path.clone(),
            ),
        }
    }

    /// What runs, with the toplevel that it belongs to.
    pub fn running(&self) -> Option<System> {
        let effective = self.here.running.clone()?;
        let toplevel = self
            .belongs(&effective)
            .map_or(&effective, |known| &known.toplevel);
        Some(System {
            toplevel: toplevel.clone(),
            effective,
        })
    }

    /// The specialisation that runs, by name and toplevel.
    pub fn specialisation(&self) -> Option<&Specialised> {
        self.belongs(self.here.running.as_deref()?)
    }

    /// The toplevel that the system at `path` is a specialisation of.
    pub fn belongs(&self, path: &str) -> Option<&Specialised> {
        self.specialised.iter().find(|known| known.path == path)
    }

    /// Whether `toplevel`, or that specialisation of it, is what runs.
    pub fn runs(&self, toplevel: &str, specialisation: Option<&str>) -> bool {
        self.system(toplevel, specialisation).runs(&self.here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBUG: &str =
        "running=/nix/store/d\nprofile=/nix/store/b\nspecialisation=debug /nix/store/b /nix/store/d\n";

    #[test]
    fn n4_a_specialisation_is_what_runs_and_may_be_what_boots() {
        for (boot, proven) in [
            ("/nix/store/d", true),
            ("/nix/store/b", true),
            ("not-verifiable", true),
            ("/nix/store/a", false),
        ] {
            let facts = Facts::parse(&format!("{DEBUG}boot_default={boot}\n"));
            let wanted = facts.system("/nix/store/b", Some("debug"));
            assert_eq!(wanted.is_committed(&facts.here), proven, "{boot}");
            // Neither the plain system nor another specialisation is it.
            for other in [None, Some("other")] {
                assert!(!facts.system("/nix/store/b", other).is_committed(&facts.here));
            }
            assert!(
                !facts
                    .system("/nix/store/a", Some("debug"))
                    .is_committed(&facts.here)
            );
        }
    }

    #[test]
    fn n4_a_plain_system_does_not_boot_as_its_specialisation() {
        let facts = Facts::parse(
            "running=/nix/store/b\nprofile=/nix/store/b\nboot_default=/nix/store/d\n\
             specialisation=debug /nix/store/b /nix/store/d\n",
        );
        assert_eq!(
            facts.system("/nix/store/b", None).disagreements(&facts.here),
            ["the boot default is /nix/store/d"]
        );
        assert_eq!(
            facts
                .system("/nix/store/b", Some("debug"))
                .disagreements(&facts.here),
            ["running is /nix/store/b"]
        );
    }

    #[test]
    fn n3_the_file_or_the_id_makes_a_nixos_host() {
        let nixos = |text: &str| Facts::parse(text).is_nixos();
        assert!(nixos("nixos_marker=1\nos_id=debian\n"));
        assert!(nixos("os_id=nixos\n"));
        assert!(nixos("os_id=athena\ndistro_id=athena\n"));
        assert!(!nixos("os_id=nixos\ndistro_id=athena\n"));
        for text in ["", "os_id=debian\n", "os_id=\ndistro_id=\n"] {
            assert!(!nixos(text), "{text}");
        }
    }
}
