//! What Nix is there, what it can build, and whether its store trusts us.

use super::exec::Exec;
use super::json::{StoreInfo, parse_store_info};
use super::{environment, nix, said};
use crate::failure::{Failure, Reason};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// Who made this Nix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Implementation {
    Nix,
    Lix,
    Determinate,
}

/// `nix --version`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NixVersion {
    pub implementation: Implementation,
    /// `2.26.3`, as printed.
    pub version: String,
    pub major: u32,
    pub minor: u32,
}

impl NixVersion {
    /// Reads what `nix --version` prints.
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find(|line| line.starts_with("nix "))?.trim();
        let implementation = match line {
            _ if line.contains("Lix") => Implementation::Lix,
            _ if line.contains("Determinate") => Implementation::Determinate,
            _ => Implementation::Nix,
        };
        let version = line.rsplit(' ').next()?;
        let mut numbers = version.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(NixVersion {
            implementation,
            version: version.to_string(),
            major,
            minor,
        })
    }

    /// Whether it knows flakes.
    pub fn has_flakes(&self) -> bool {
        (self.major, self.minor) >= (2, 4)
    }
}

impl fmt::Display for NixVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.implementation {
            Implementation::Nix => "Nix",
            Implementation::Lix => "Lix",
            Implementation::Determinate => "Determinate Nix",
        };
        write!(f, "{name} {}", self.version)
    }
}

/// The version of the Nix where `exec` runs.
pub async fn nix_version<E: Exec>(exec: &E, deadline: Duration) -> Result<NixVersion, Failure> {
    let argv = ["nix".to_string(), "--version".to_string()];
    let output = exec.exec(&argv, &environment(&[]), None, deadline).await?;
    let what = "cannot run Nix";
    if !output.ok() {
        return Err(said::failure(Reason::Store, what, &output));
    }
    let text = output.out();
    NixVersion::parse(&text).ok_or_else(|| Failure::failed(Reason::Store, what).tail(&text, 3))
}

/// What a builder builds for, and how it is set up.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Systems {
    /// `x86_64-linux`
    pub system: String,
    pub extra_platforms: Vec<String>,
    /// Systems of its own remote builders.
    pub remote: Vec<String>,
    pub trusted_users: Vec<String>,
    /// Whether its store asks for signatures.
    pub require_signatures: bool,
    /// Whether it signs what it builds (`secret-key-files`).
    pub signs: bool,
}

impl Systems {
    /// Whether a derivation for `system` can be built there or from there.
    pub fn builds(&self, system: &str) -> bool {
        system == "builtin"
            || self.system == system
            || self
                .extra_platforms
                .iter()
                .chain(&self.remote)
                .any(|other| other == system)
    }

    /// Reads `nix config show --json`; the systems of `builders` come from `machines`, the text of the file it names.
    pub fn parse(json: &str, machines: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let setting = |name: &str| value.get(name).and_then(|setting| setting.get("value"));
        let words = |name: &str| -> Vec<String> {
            match setting(name) {
                Some(Value::Array(list)) => list
                    .iter()
                    .filter_map(Value::as_str)
                    .map(ToString::to_string)
                    .collect(),
                Some(Value::String(text)) => text.split_whitespace().map(ToString::to_string).collect(),
                _ => Vec::new(),
            }
        };
        let system = setting("system")
            .and_then(Value::as_str)
            .ok_or("it does not say which system it is")?;
        let builders = setting("builders").and_then(Value::as_str).unwrap_or_default();
        let mut remote: Vec<String> = builders
            .split(['\n', ';'])
            .chain(machines.lines())
            .map(|line| line.split('#').next().unwrap_or_default().trim())
            .filter(|line| !line.starts_with('@'))
            .filter_map(|line| line.split_whitespace().nth(1))
            .filter(|systems| *systems != "-")
            .flat_map(|systems| systems.split(',').map(ToString::to_string))
            .collect();
        remote.sort();
        remote.dedup();
        Ok(Systems {
            system: system.to_string(),
            extra_platforms: words("extra-platforms"),
            remote,
            trusted_users: words("trusted-users"),
            require_signatures: setting("require-sigs").and_then(Value::as_bool).unwrap_or(true),
            signs: !words("secret-key-files").is_empty(),
        })
    }
}

/// `config show` was `show-config` before Nix 2.19; remote builders may be listed in a file.
const SHOW: &str = r#"nix --extra-experimental-features 'nix-command flakes' config show --json 2>/dev/null ||
nix --extra-experimental-features 'nix-command flakes' show-config --json || exit 1
printf '\n\n'
cat /etc/nix/machines 2>/dev/null || :
"#;

/// The systems that the builder where `exec` runs can build for.
pub async fn systems<E: Exec>(exec: &E, deadline: Duration) -> Result<Systems, Failure> {
    let what = "cannot read the configuration of Nix";
    let output = super::script(exec, SHOW, &[], None, deadline).await?;
    if !output.ok() {
        return Err(said::failure(Reason::Store, what, &output));
    }
    let text = output.out();
    let (json, machines) = text.split_once("\n\n").unwrap_or((&text, ""));
    Systems::parse(json, machines).map_err(|why| Failure::failed(Reason::Store, what).why(why))
}

/// Asks the store at `uri` (without one: the default store of whoever runs this) about itself.
pub async fn store_info<E: Exec>(
    exec: &E,
    uri: Option<&str>,
    ssh_options: &str,
    deadline: Duration,
) -> Result<StoreInfo, Failure> {
    let store: Vec<&str> = uri.map_or_else(Vec::new, |uri| vec!["--store", uri]);
    let env = environment(&[("NIX_SSHOPTS", ssh_options.to_string())]);
    let forms: [&[&str]; 3] = [
        &["store", "info", "--json"],
        &["store", "ping", "--json"],
        &["store", "ping"],
    ];
    let what = || format!("the store {} does not answer", uri.unwrap_or("there"));
    for (index, form) in forms.iter().enumerate() {
        let output = exec
            .exec(&nix(&[form, &store[..]].concat()), &env, None, deadline)
            .await?;
        if output.ok() && index < 2 {
            return parse_store_info(&output.out())
                .map_err(|why| Failure::failed(Reason::Store, what()).why(why));
        }
        if output.ok() {
            return Ok(from_lines(&(output.out() + &output.err())));
        }
        // An older Nix does not know the newer form: `info` is from 2.19, `--json` from 2.15.
        let unknown = ["is not a recognised", "unrecognised flag"]
            .iter()
            .any(|said| output.err().contains(said));
        if !unknown {
            return Err(said::failure(Reason::Store, what(), &output));
        }
    }
    Err(Failure::failed(Reason::Store, what()).why("this Nix knows neither `store info` nor `store ping`"))
}

/// `Store URL: …`, `Version: …`, `Trusted: 1`
fn from_lines(text: &str) -> StoreInfo {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(|v| v.trim().to_string())
    };
    let trusted = field("Trusted").map(|value| value == "1" || value == "true");
    StoreInfo {
        url: field("Store URL").unwrap_or_default(),
        version: field("Version"),
        trusted,
    }
}
