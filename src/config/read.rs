//! From text to [`Config`]: every problem is collected with its line, so that one look mends them all.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::host::is_user;
use super::section::{Problem, Reader, Section, Table, Value};
use super::ssh;
use super::{
    Builder, Check, Config, CopyPath, Evaluate, From, Hooks, Host, InputDrift, Login, Preflight, Probe,
    Settings,
};
use super::{Sudo, Timeouts};
use crate::record::Target;

/// Reads the file; any problem refuses it.
pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let (config, problems) = parse_leniently(text);
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(problems)
    }
}

/// Reads what can be read and reports the rest: for the file of a commit that an older or newer version wrote.
pub fn parse_leniently(text: &str) -> (Config, Vec<Problem>) {
    let mut reader = Reader {
        text,
        problems: Vec::new(),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = error.span().map_or(0, |span| reader.line(span.start));
        reader.problems.push(Problem {
            line,
            key: String::new(),
            text: error.message().to_owned(),
        });
    }
    let config = reader.config(table.get_ref());
    reader.problems.sort_by_key(|problem| problem.line);
    (config, reader.problems)
}

impl Reader<'_> {
    fn config(&mut self, root: &Table<'_>) -> Config {
        let mut top = self.section(root, "");
        match top.integer("version") {
            Some(1) => {}
            Some(other) => top.complain("version", format!("this version reads 1, not {other}")),
            None if root.contains_key("version") => {}
            None => top.reader.problems.push(Problem {
                line: 0,
                key: "version".into(),
                text: "is missing: the file starts with `version = 1`".into(),
            }),
        }
        let mut defaults = Settings::default();
        if let Some(table) = top.table("defaults") {
            let mut section = top.reader.section(table, "defaults");
            section.settings(&mut defaults, false);
            section.finish();
        }
        top.groups(&mut defaults);
        top.checks("check", &mut defaults.checks);
        let hooks = top
            .table("hooks")
            .map(|table| top.reader.hooks(table))
            .unwrap_or_default();
        let mut targets = BTreeMap::new();
        if let Some(table) = top.table("target") {
            for (name, value) in table {
                if let Some((target, settings)) = top.reader.target(name, value, &defaults) {
                    targets.insert(target, settings);
                }
            }
        }
        top.finish();
        Config { hooks, targets }
    }

    fn target(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Value<'_>,
        defaults: &Settings,
    ) -> Option<(Target, Settings)> {
        let path = format!("target.{}", name.get_ref());
        let target: Target = match name.get_ref().parse() {
            Ok(target) => target,
            Err(text) => {
                self.problem(
                    name.span().start,
                    &path,
                    format!("{text}; `attr` maps it to another spelling"),
                );
                return None;
            }
        };
        let Some(table) = value.get_ref().as_table() else {
            self.problem(value.span().start, &path, "must be a table");
            return None;
        };
        let mut settings = defaults.clone();
        settings.host = Host::named(target.as_str());
        settings.attr = target.to_string();
        let mut section = self.section(table, &path);
        section.settings(&mut settings, true);
        section.groups(&mut settings);
        section.checks("check", &mut settings.checks);
        section.finish();
        Some((target, settings))
    }

    fn hooks(&mut self, table: &Table<'_>) -> Hooks {
        let mut section = self.section(table, "hooks");
        let mut hooks = Hooks::default();
        if let Some(pre) = section.commands("pre") {
            hooks.pre = pre;
        }
        if let Some(post) = section.commands("post") {
            hooks.post = post;
        }
        section.finish();
        hooks
    }
}

impl Section<'_, '_, '_> {
    /// The keys of `[defaults]` and of a target.
    fn settings(&mut self, into: &mut Settings, of_target: bool) {
        if let Some(flake) = self.text("flake") {
            let outside = flake.starts_with('/') || flake.split('/').any(|part| part == "..");
            match outside || flake.contains(['?', '#', ':']) {
                true => self.complain(
                    "flake",
                    "must be a folder of this repository, such as \".\" or \"nix\"",
                ),
                false => into.flake = flake,
            }
        }
        self.plain("remote", is_remote, &mut into.remote);
        self.plain("user", is_user, &mut into.user);
        self.choice("sudo", SUDO, &mut into.sudo);
        if let Some(options) = self.list("ssh-options") {
            into.ssh_options = options
                .iter()
                .filter_map(|option| match ssh::option(option) {
                    Ok(option) => Some(option),
                    Err(why) => {
                        self.complain("ssh-options", why);
                        None
                    }
                })
                .collect();
        }
        self.plain("specialisation", is_file_name, &mut into.specialisation);
        self.boolean("require-signed", &mut into.require_signed);
        if let Some(signers) = self.text("signers") {
            match signers.is_empty() || signers.starts_with('/') || signers.starts_with("~/") {
                true => into.signers = signers,
                false => self.complain(
                    "signers",
                    "must be an absolute path, or one that begins with ~/: who may release is not for the repository to say",
                ),
            }
        }
        self.boolean("reboot-on-failed-revert", &mut into.reboot_on_failed_revert);
        self.boolean("auto-rollback", &mut into.auto_rollback);
        self.boolean("impure", &mut into.impure);
        self.choice("input-drift", INPUT_DRIFT, &mut into.input_drift);
        if let Some(keep) = self.within("keep", 1, 10_000) {
            into.keep = u32::try_from(keep).unwrap_or(into.keep);
        }
        if of_target {
            if let Some(host) = self.host(&mut into.user) {
                into.host = host;
            }
            let mut attr = String::new();
            self.plain("attr", is_attribute, &mut attr);
            if !attr.is_empty() {
                into.attr = attr;
            }
            self.agree(into);
        }
    }

    /// The key `host`; a user that is written in it goes into `user`, unless that says another one beside it.
    fn host(&mut self, user: &mut String) -> Option<Host> {
        let text = self.text("host")?;
        let login: Login = match text.parse() {
            Ok(login) => login,
            Err(why) => {
                self.complain("host", why);
                return None;
            }
        };
        if let Some(written) = login.user {
            if self.has_any(&["user"]) && *user != written {
                let why = format!("says {written:?}, and `user` says {user:?}: write one of them");
                self.complain("host", why);
                return None;
            }
            *user = written;
        }
        Some(login.host)
    }

    /// No two keys say two different things: ssh would take one of them without a word.
    fn agree(&mut self, into: &mut Settings) {
        if let Some(port) = into.host.port().map(|port| port.to_string()) {
            let own = self.has_any(&["ssh-options"]);
            match into.ssh_option("Port").map(str::to_owned) {
                Some(other) if own && other != port => {
                    self.complain(
                        "host",
                        format!("says port {port}, and `ssh-options` say {other}: write one of them"),
                    );
                }
                _ => into.drop_ssh_option("Port"),
            }
        }
        let user = into.ssh_option("User").map(str::to_owned);
        if let Some(other) = user.filter(|other| !into.user.is_empty() && *other != into.user) {
            let why = format!(
                "say User={other}, and the user is {:?}: write one of them",
                into.user
            );
            self.complain("ssh-options", why);
            into.drop_ssh_option("User");
        }
    }

    /// The sub-tables that `.nixgate.toml` has at its top and that a target may have of its own.
    fn groups(&mut self, into: &mut Settings) {
        if let Some(table) = self.table("timeouts") {
            let path = self.key_path("timeouts");
            self.reader.section(table, &path).timeouts(&mut into.timeouts);
        }
        if let Some(table) = self.table("builder") {
            let path = self.key_path("builder");
            self.reader.section(table, &path).builder(&mut into.builder);
        }
        if let Some(table) = self.table("preflight") {
            let path = self.key_path("preflight");
            self.reader.section(table, &path).preflight(&mut into.preflight);
        }
    }

    fn timeouts(mut self, into: &mut Timeouts) {
        self.seconds("ssh", 1, &mut into.ssh);
        self.seconds("activate", 1, &mut into.activate);
        self.seconds("confirm", 5, &mut into.confirm);
        self.seconds("settle", 0, &mut into.settle);
        self.seconds("validate", 1, &mut into.validate);
        self.seconds("soak", 0, &mut into.soak);
        self.seconds("build", 1, &mut into.build);
        self.seconds("copy", 1, &mut into.copy);
        if into.settle >= into.validate {
            let text = "must be below `validate`, which bounds settle and checks together";
            self.complain("settle", text);
        }
        self.finish();
    }

    fn builder(mut self, into: &mut Builder) {
        self.plain("user", is_user, &mut into.user);
        let mut user = into.user.clone();
        if self.is_text("host", "") {
            into.host = Host::default();
        } else if let Some(host) = self.host(&mut user) {
            if host == "target" && !self.is_text("host", "target") {
                self.complain(
                    "host",
                    "`target` is the target itself, reached as it says: write \"target\"",
                );
            } else {
                (into.host, into.user) = (host, user);
            }
        }
        self.choice("evaluate", EVALUATE, &mut into.evaluate);
        self.choice("copy", COPY, &mut into.copy);
        if let Some(jobs) = self.within("jobs", 1, 1024) {
            into.jobs = u32::try_from(jobs).ok();
        }
        self.finish();
    }

    fn preflight(mut self, into: &mut Preflight) {
        if let Some(percent) = self.within("disk-percent", 1, 100) {
            into.disk_percent = u8::try_from(percent).unwrap_or(into.disk_percent);
        }
        self.size("boot-free", &mut into.boot_free);
        self.size("store-free", &mut into.store_free);
        self.size("memory-free", &mut into.memory_free);
        self.number("load-per-core", &mut into.load_per_core);
        self.number("memory-pressure", &mut into.memory_pressure);
        self.number("usage-factor", &mut into.usage_factor);
        if let Some(services) = self.list("services") {
            match services.iter().find(|s| !is_unit_name(s)) {
                Some(bad) => self.complain("services", format!("{bad:?} is no unit name")),
                None => into.services = services,
            }
        }
        self.finish();
    }

    /// A number from 0, where 0 switches the check off.
    fn number(&mut self, key: &'static str, into: &mut f64) {
        let Some(value) = self.value(key) else { return };
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) => integer.as_str().parse::<f64>().ok(),
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() && number >= 0.0 => *into = number,
            _ => self.complain(key, "must be a number from 0 (report only)"),
        }
    }

    fn checks(&mut self, key: &'static str, into: &mut Vec<Check>) {
        let Some(value) = self.value(key) else { return };
        let Some(array) = value.get_ref().as_array() else {
            self.complain(key, "must be written as [[check]]");
            return;
        };
        let path = self.key_path(key);
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => {
                    if let Some(mut check) = self.reader.section(table, &path).check(item.span().start) {
                        let name = check.probe.name();
                        check.before = into.iter().filter(|other| other.probe.name() == name).count();
                        into.push(check);
                    }
                }
                None => self.reader.problem(item.span().start, &path, "must be a table"),
            }
        }
    }

    fn check(mut self, offset: usize) -> Option<Check> {
        let mut probes = Vec::new();
        if let Some(unit) = self.text("unit") {
            match is_unit_name(&unit) {
                true => probes.push(Probe::Unit(unit)),
                false => self.complain("unit", format!("{unit:?} is no unit name")),
            }
        }
        if let Some(url) = self.text("http") {
            match url.starts_with("http://") || url.starts_with("https://") {
                true => probes.push(Probe::Http(url)),
                false => self.complain("http", "must start with http:// or https://"),
            }
        }
        if let Some(argv) = self.list("run") {
            match argv.is_empty() {
                true => self.complain("run", "must name a program"),
                false => probes.push(Probe::Run(argv)),
            }
        }
        for (key, probe) in [
            ("resolve", Probe::Resolve as fn(String) -> Probe),
            ("ping", Probe::Ping),
        ] {
            if let Some(name) = self.text(key) {
                match is_host_name(&name) {
                    true => probes.push(probe(name)),
                    false => self.complain(key, format!("{name:?} is no name or address of a host")),
                }
            }
        }
        let mut secrets = false;
        self.boolean("secrets", &mut secrets);
        if secrets {
            probes.push(Probe::Secrets);
        }
        let mut from = From::Target;
        self.choice("from", FROM, &mut from);
        let mut timeout = Duration::from_secs(30);
        self.seconds("timeout", 1, &mut timeout);
        let before = self.reader.problems.len();
        if probes.len() > 1 || (probes.is_empty() && !self.has_any(&KINDS)) {
            let path = self.path.clone();
            self.reader.problem(
                offset,
                &path,
                "needs exactly one of `unit`, `http`, `run`, `resolve`, `ping`, `secrets = true`",
            );
        }
        let good = self.reader.problems.len() == before;
        self.finish();
        probes.pop().filter(|_| good).map(|probe| Check {
            probe,
            from,
            timeout,
            before: 0,
        })
    }
}

/// What a check may be.
const KINDS: [&str; 5] = ["unit", "http", "run", "resolve", "ping"]; // `secrets = false` is none

/// Judges a text by what its characters may be; the first is a letter, a digit or `_`, so that no program takes it for
/// an option or a path of its own.
fn made_of(text: &str, what: &str, more: &str) -> Result<(), String> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    match first
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    {
        true => Ok(()),
        false => Err(format!(
            "{text:?} is no {what} (letters, digits, {})",
            more.chars()
                .map(|c| format!("`{c}`"))
                .collect::<Vec<_>>()
                .join(", ")
        )),
    }
}

/// A remote of git's by its name, never a URL or a path: those may run what they name (gitremote-helpers(7)).
fn is_remote(text: &str) -> Result<(), String> {
    made_of(text, "name of a remote", "._/+-")
        .map_err(|why| format!("{why}; add one with that name: git remote add"))
}

fn is_file_name(text: &str) -> Result<(), String> {
    made_of(text, "name of a specialisation", "._-")
}

fn is_attribute(text: &str) -> Result<(), String> {
    made_of(text, "attribute of nixosConfigurations", "._@+-")
}

/// A name or an address that no program takes for an option or anything else.
fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._:%".contains(&b))
}

const SUDO: &[(&str, Sudo)] = &[
    ("auto", Sudo::Auto),
    ("none", Sudo::None),
    ("nopasswd", Sudo::Nopasswd),
    ("ask", Sudo::Ask),
];
const INPUT_DRIFT: &[(&str, InputDrift)] = &[
    ("warn", InputDrift::Warn),
    ("deny", InputDrift::Deny),
    ("ignore", InputDrift::Ignore),
];
const EVALUATE: &[(&str, Evaluate)] = &[("builder", Evaluate::Builder), ("operator", Evaluate::Operator)];
const COPY: &[(&str, CopyPath)] = &[
    ("auto", CopyPath::Auto),
    ("direct", CopyPath::Direct),
    ("relay", CopyPath::Relay),
];
const FROM: &[(&str, From)] = &[("target", From::Target), ("operator", From::Operator)];

/// Whether systemd would take it as a unit name (systemd.unit(5)), with or without a suffix.
fn is_unit_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
