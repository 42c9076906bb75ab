//! A machine as `.nixgate.toml` and `--host` name it: every spelling that people use, taken apart once. What comes out
//! holds nothing that a shell, ssh or the URL of a Nix store would take for more than a name.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A name (also a `Host` of ssh_config) or an address, and its port where it is not for ssh_config to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

impl Host {
    /// The name or address alone; an IPv6 address without brackets.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// No machine was named.
    pub fn is_empty(&self) -> bool {
        self.name.is_empty()
    }

    /// As [`Host`] is shown, an IPv6 address in brackets without a port too.
    pub(super) fn bracketed(&self) -> String {
        match (self.port, self.name.contains(':')) {
            (None, true) => format!("[{}]", self.name),
            _ => self.to_string(),
        }
    }

    /// A name that is known to be one, such as a target's.
    pub(super) fn named(name: &str) -> Self {
        Host {
            name: name.to_owned(),
            port: None,
        }
    }
}

impl PartialEq<str> for Host {
    fn eq(&self, other: &str) -> bool {
        self.name == other
    }
}

impl PartialEq<&str> for Host {
    fn eq(&self, other: &&str) -> bool {
        self.name == *other
    }
}

/// As it is written and read back: `cortex`, `cortex:2222`, `fd00::20`, `[fd00::20]:2222`.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.name.contains(':')) {
            (None, _) => f.write_str(&self.name),
            (Some(port), true) => write!(f, "[{}]:{port}", self.name),
            (Some(port), false) => write!(f, "{}:{port}", self.name),
        }
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

/// A host with the user that was written beside it: `[ssh://][user@]host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: Option<String>,
    pub host: Host,
}

impl FromStr for Login {
    type Err = String;

    /// # Errors
    /// What is wrong with it, and what to write.
    fn from_str(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            None => text,
            Some(("ssh" | "ssh-ng", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some((scheme, _)) => {
                return Err(format!(
                    "{text:?}: hosts are reached by ssh, not by {scheme:?}; write a name or an address"
                ));
            }
        };
        if text.contains("://") && rest.contains(['?', '/', '#']) {
            return Err(format!(
                "{text:?}: only user, host and port are taken of a URL; what ssh needs beside them belongs in your own \
                 ~/.ssh/config"
            ));
        }
        let (user, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((user, rest)) => {
                is_user(user)?;
                (Some(user.to_owned()), rest)
            }
        };
        let host = host_and_port(rest).ok_or_else(|| {
            format!(
                "{text:?} is no host; write \"cortex\", \"root@cortex\", \"cortex:2222\", \"fd00::20\" or \
                 \"[fd00::20]:2222\""
            )
        })?;
        if host == "local" && (user.is_some() || host.port.is_some()) {
            return Err(format!(
                "{text:?}: `local` is this machine, without ssh: it has no user and no port here; write \"local\""
            ));
        }
        Ok(Login { user, host })
    }
}

/// Several colons without brackets are an address, and one is before a port.
fn host_and_port(text: &str) -> Option<Host> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            is_ipv6(name).then_some(())?;
            match port {
                "" => (name, None),
                port => (name, Some(port.strip_prefix(':')?)),
            }
        }
        None if is_ipv6(text) => (text, None),
        None => match text.split_once(':') {
            None => (text, None),
            Some((name, port)) => (name, Some(port)),
        },
    };
    if !is_ipv6(name) && !is_host_name(name) {
        return None;
    }
    let port = match port {
        None => None,
        Some(port) => Some(port_number(port)?),
    };
    Some(Host {
        name: name.to_owned(),
        port,
    })
}

pub(super) fn port_number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// RFC 1123 names, the underscores that people have in ssh_config, IPv4 addresses.
pub(super) fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// With the interface of a link-local address (RFC 4007): `fe80::1%eth0`.
fn is_ipv6(text: &str) -> bool {
    let (address, interface) = match text.split_once('%') {
        None => (text, None),
        Some((address, interface)) => (address, Some(interface)),
    };
    address.parse::<Ipv6Addr>().is_ok() && interface.is_none_or(is_interface)
}

/// At most 15 bytes: IFNAMSIZ in netdevice(7).
pub(super) fn is_interface(text: &str) -> bool {
    text.len() <= 15 && is_host_name(text)
}

/// A user's name, as useradd(8) takes it and as it may stand before `@`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn is_user(text: &str) -> Result<(), String> {
    let plain = text.len() <= 256
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    match plain {
        true => Ok(()),
        false => Err(format!(
            "{text:?} is no plain user name (letters, digits, `.`, `_`, `-`); another one belongs in your own \
             ~/.ssh/config: User"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Option<String>, String, Option<u16>) {
        let login: Login = text.parse().unwrap_or_else(|error| panic!("{error}"));
        (login.user, login.host.name.clone(), login.host.port)
    }

    #[test]
    fn h7_each_spelling_of_a_host_is_taken_apart() {
        for (text, user, name, port) in [
            ("cortex", "", "cortex", None),
            ("my_host.lan.", "", "my_host.lan.", None),
            ("192.168.1.7", "", "192.168.1.7", None),
            ("root@cortex", "root", "cortex", None),
            ("cortex:2222", "", "cortex", Some(2222)),
            ("root@cortex:2222", "root", "cortex", Some(2222)),
            ("ssh://cortex", "", "cortex", None),
            ("ssh://root@cortex:2222/", "root", "cortex", Some(2222)),
            ("ssh-ng://root@cortex", "root", "cortex", None),
            ("ssh-ng://[fd00::20]:2222", "", "fd00::20", Some(2222)),
            ("fd00::20", "", "fd00::20", None),
            ("[fd00::20]", "", "fd00::20", None),
            ("root@[fd00::20]:2222", "root", "fd00::20", Some(2222)),
            ("root@fd00::20", "root", "fd00::20", None),
            ("fe80::1%eth0", "", "fe80::1%eth0", None),
            ("local", "", "local", None),
        ] {
            let user = (!user.is_empty()).then(|| user.to_owned());
            assert_eq!(parts(text), (user, name.to_owned(), port), "{text}");
        }
    }

    #[test]
    fn h7_what_is_no_host_is_refused_with_what_to_write() {
        for text in [
            "",
            " ",
            "a b",
            "-oX",
            "root@",
            "@cortex",
            "cortex:",
            "cortex:0",
            "cortex:65536",
            "cortex:+22",
            "cortex:22:33",
            "[cortex]:22",
            "[fd00::20",
            "[fd00::20]2222",
            "fe80::1%",
            "fe80::1%e$0",
            "cortex/x",
            "root:secret@cortex",
            "ssh://root:secret@cortex",
            "böx",
            "ssh://",
            "a\u{0}b",
        ] {
            let error = text.parse::<Login>().expect_err(text);
            assert!(
                error.contains("cortex:2222") || error.contains("~/.ssh/config"),
                "{text}: {error}"
            );
        }
        for (text, wanted) in [
            ("http://cortex", "hosts are reached by ssh"),
            ("ssh-ng://b?remote-program=x", "only user, host and port"),
            ("ssh://cortex/srv", "only user, host and port"),
            ("root@local", "write \"local\""),
            ("local:22", "write \"local\""),
        ] {
            let error = text.parse::<Login>().expect_err(text);
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn k5_a_host_that_is_taken_holds_nothing_to_interpret(text in "(ssh://)?([a-z$(`;'\"@%?&|]{0,4}@)?\\[?[a-z0-9:.%$`(){}';?&#|<>~ \\\\-]{0,12}\\]?(:[0-9]{1,5})?") {
            if let Ok(Login { user, host }) = text.parse::<Login>() {
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
                proptest::prop_assert!(host.as_str().chars().all(plain), "{host}");
                proptest::prop_assert!(host.as_str().starts_with(|c: char| c.is_ascii_alphanumeric() || "_:".contains(c)));
                let user = user.unwrap_or_default();
                proptest::prop_assert!(user.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{user}");
                proptest::prop_assert!(!user.starts_with('-'));
                // Written as it would be, it says the same.
                let again: Login = host.to_string().parse().expect("reads what it wrote");
                proptest::prop_assert_eq!(again.host, host);
            }
        }
    }
}
