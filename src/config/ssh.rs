//! `ssh-options`: the few options of ssh_config(5) that a repository may set. A pulled commit brings this file along, so
//! what is not known to be harmless is refused; everything else belongs in the user's own ssh_config.

use super::host::{Login, is_host_name, is_interface, is_user, port_number};

/// What may stand on the right of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Words(&'static [&'static str]),
    Name,
    User,
    Port,
    Interface,
    Attempts,
    Jumps,
    File,
}

const SWITCH: Value = Value::Words(&["yes", "no"]);

/// They say where a host is and with which key to log in. None of them runs or loads anything, or says whom to trust.
const ALLOWED: &[(&str, Value)] = &[
    ("AddressFamily", Value::Words(&["any", "inet", "inet6"])),
    ("BindAddress", Value::Name),
    ("BindInterface", Value::Interface),
    ("Compression", SWITCH),
    ("ConnectionAttempts", Value::Attempts),
    ("HostKeyAlias", Value::Name),
    ("HostName", Value::Name),
    ("IdentitiesOnly", SWITCH),
    ("IdentityFile", Value::File),
    ("Port", Value::Port),
    ("ProxyJump", Value::Jumps),
    ("User", Value::User),
];

/// Why an option is refused. What is in none of these is refused all the same.
const REASONS: &[(&str, &[&str])] = &[
    (
        "it can run a program on your machine",
        &[
            "include",
            "knownhostscommand",
            "localcommand",
            "match",
            "permitlocalcommand",
            "proxycommand",
            "proxyusefdpass",
            "xauthlocation",
        ],
    ),
    (
        "it loads a library into ssh",
        &["pkcs11provider", "securitykeyprovider", "smartcarddevice"],
    ),
    (
        "it changes which hosts ssh believes",
        &[
            "casignaturealgorithms",
            "checkhostip",
            "ciphers",
            "globalknownhostsfile",
            "hostkeyalgorithms",
            "kexalgorithms",
            "macs",
            "nohostauthenticationforlocalhost",
            "requiredrsasize",
            "revokedhostkeys",
            "stricthostkeychecking",
            "updatehostkeys",
            "userknownhostsfile",
            "verifyhostkeydns",
        ],
    ),
    (
        "it gives a host more of your machine than a login",
        &[
            "addkeystoagent",
            "dynamicforward",
            "forwardagent",
            "forwardx11",
            "forwardx11trusted",
            "gssapiauthentication",
            "gssapidelegatecredentials",
            "identityagent",
            "localforward",
            "remoteforward",
            "sendenv",
            "setenv",
            "tunnel",
        ],
    ),
    (
        "git nixgate sets it itself",
        &[
            "batchmode",
            "clearallforwardings",
            "controlmaster",
            "controlpath",
            "controlpersist",
            "forkafterauthentication",
            "loglevel",
            "remotecommand",
            "requesttty",
            "serveralivecountmax",
            "serveraliveinterval",
            "sessiontype",
            "stdinnull",
        ],
    ),
    ("`ssh` in [timeouts] sets it", &["connecttimeout"]),
];

/// One option, `Key=Value` or `Key Value`, as `Key=Value` in ssh_config(5)'s spelling.
///
/// # Errors
/// Why it is refused, and where it belongs.
pub(super) fn option(text: &str) -> Result<String, String> {
    let written = || format!("{text:?} must be written Key=Value, as in ssh_config");
    let key_ends = |c: char| c == '=' || c.is_ascii_whitespace();
    let (key, _) = text.split_once(key_ends).ok_or_else(written)?;
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric());
    if !plain || text.chars().any(char::is_control) {
        return Err(written());
    }
    let Some((key, kind)) = ALLOWED.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)) else {
        return Err(refusal(key));
    };
    let rest = text[key.len()..].trim_start();
    let value = rest.strip_prefix('=').unwrap_or(rest).trim();
    match kind.judge(value) {
        Ok(value) => Ok(format!("{key}={value}")),
        Err(wanted) => Err(format!("{key}: {value:?} is not {wanted}")),
    }
}

fn refusal(key: &str) -> String {
    let lower = key.to_ascii_lowercase();
    let why = REASONS.iter().find(|(_, keys)| keys.contains(&lower.as_str()));
    match why {
        Some((why, _)) if why.starts_with("git nixgate") || why.starts_with('`') => {
            format!("{key} cannot be set here: {why}")
        }
        why => {
            let known: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
            let why = why.map_or_else(
                || format!("a repository may set {}", known.join(", ")),
                |(why, _)| format!("{why}, and a pulled commit could set it"),
            );
            format!("{key} belongs in your own ~/.ssh/config, which is honoured: {why}")
        }
    }
}

impl Value {
    /// The value as ssh is to be told it.
    ///
    /// # Errors
    /// What was wanted.
    fn judge(self, value: &str) -> Result<String, String> {
        let (good, wanted) = match self {
            Value::Words(words) => (words.contains(&value), words.join(", ")),
            Value::Name => (
                is_host_name(value) || value.parse::<std::net::IpAddr>().is_ok(),
                "a plain name or address of a host".to_owned(),
            ),
            Value::User => (is_user(value).is_ok(), "a plain user name".to_owned()),
            Value::Port => (port_number(value).is_some(), "a port".to_owned()),
            Value::Interface => (is_interface(value), "a network interface".to_owned()),
            Value::Attempts => (
                value.parse::<u8>().is_ok_and(|n| (1..=10).contains(&n)),
                "1 to 10".to_owned(),
            ),
            Value::Jumps if value == "none" => (true, String::new()),
            Value::Jumps => {
                return jumps(value).ok_or_else(|| "a list of [user@]host[:port]".to_owned());
            }
            Value::File => (
                is_file(value),
                "a plain path that begins with / or ~/ (letters, digits, `._-+@/`)".to_owned(),
            ),
        };
        match good {
            true => Ok(value.to_owned()),
            false => Err(wanted),
        }
    }
}

/// Hosts on the way, an IPv6 address in brackets. What ssh makes of them it expands once more: no `%`.
fn jumps(text: &str) -> Option<String> {
    let jump = |text: &str| {
        let login: Login = text.parse().ok().filter(|_| !text.starts_with("ssh-ng:"))?;
        let user = login.user.map(|user| format!("{user}@")).unwrap_or_default();
        Some(format!("{user}{}", login.host.bracketed()))
    };
    let all: Option<Vec<String>> = text.split(',').map(jump).collect();
    all.map(|all| all.join(",")).filter(|all| !all.contains('%'))
}

/// A path of the user's own, not of the work tree, without what ssh or a shell would expand.
fn is_file(text: &str) -> bool {
    let rest = text.strip_prefix("~/").or_else(|| text.strip_prefix('/'));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-+@/".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, &str)] = &[
        ("AddressFamily=inet6", "AddressFamily=inet6"),
        ("bindaddress fd00::1", "BindAddress=fd00::1"),
        ("BindInterface=wg0", "BindInterface=wg0"),
        ("compression = yes", "Compression=yes"),
        ("ConnectionAttempts=3", "ConnectionAttempts=3"),
        ("HOSTKEYALIAS=cortex", "HostKeyAlias=cortex"),
        ("Hostname 10.0.0.7", "HostName=10.0.0.7"),
        ("IdentitiesOnly=yes", "IdentitiesOnly=yes"),
        ("IdentityFile=~/.ssh/id_deploy", "IdentityFile=~/.ssh/id_deploy"),
        ("Port 2222", "Port=2222"),
        (
            "ProxyJump=eve@bastion.lan:22,fd00::1",
            "ProxyJump=eve@bastion.lan:22,[fd00::1]",
        ),
        ("ProxyJump=none", "ProxyJump=none"),
        ("ProxyJump=ssh://eve@[fd00::1]:2/", "ProxyJump=eve@[fd00::1]:2"),
        ("User=jarvis", "User=jarvis"),
    ];

    #[test]
    fn k5_an_option_on_the_list_is_taken_in_each_way_of_writing_it() {
        for (text, wanted) in GOOD {
            assert_eq!(option(text).as_deref(), Ok(*wanted), "{text}");
        }
        let tried = |name: &str| {
            GOOD.iter()
                .any(|(_, wanted)| wanted.starts_with(&format!("{name}=")))
        };
        assert!(ALLOWED.iter().all(|(name, _)| tried(name)));
    }

    /// ssh itself knows every option that is allowed, and reads from it what we think it says.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "reads: ssh -G")]
    fn k5_ssh_reads_the_same_from_what_is_taken() {
        for (text, _) in GOOD {
            let taken = option(text).unwrap();
            let (key, value) = taken.split_once('=').unwrap();
            let out = std::process::Command::new("ssh")
                .args(["-F", "/dev/null", "-G", "-o", &taken, "--", "x"])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(
                out.status.success(),
                "{taken}: {}",
                String::from_utf8_lossy(&out.stderr)
            );
            let line = format!("{} {value}", key.to_ascii_lowercase());
            assert!(
                value == "none" || said.lines().any(|said| said == line),
                "{taken}: {said}"
            );
        }
    }

    #[test]
    fn k5_an_option_that_is_not_on_the_list_is_refused_by_name_and_told_where_it_belongs() {
        for (text, why) in [
            ("SmartcardDevice=./evil.so", "loads a library"),
            ("PKCS11Provider=/tmp/x.so", "loads a library"),
            ("ProxyCommand=nc %h %p", "run a program"),
            ("proxycommand nc", "run a program"),
            ("LocalCommand=x", "run a program"),
            ("Include=/tmp/x", "run a program"),
            ("SendEnv=*", "more of your machine than a login"),
            ("VerifyHostKeyDNS=yes", "which hosts ssh believes"),
            ("UserKnownHostsFile=/dev/null", "which hosts ssh believes"),
            ("Tag=x", "a repository may set AddressFamily"),
            ("NotYetInvented=x", "a repository may set AddressFamily"),
        ] {
            let refused = option(text).expect_err(text);
            let key = text.split(['=', ' ']).next().unwrap();
            assert!(refused.starts_with(key) && refused.contains(why), "{refused}");
            assert!(
                refused.contains("belongs in your own ~/.ssh/config, which is honoured"),
                "{refused}"
            );
        }
        for text in [
            "ControlPath=/tmp/x",
            "BatchMode=no",
            "LogLevel=QUIET",
            "ConnectTimeout=3",
        ] {
            assert!(
                option(text).expect_err(text).contains("cannot be set here"),
                "{text}"
            );
        }
        for text in [
            "-oProxyCommand=x",
            "-F/tmp/x",
            "",
            "=",
            "Port",
            "=22",
            "Port=22\nProxyCommand=x",
            "Pört=22",
        ] {
            assert!(
                option(text)
                    .expect_err(text)
                    .contains("must be written Key=Value"),
                "{text}"
            );
        }
    }

    #[test]
    fn k5_a_value_is_what_its_option_takes_and_nothing_else() {
        for text in [
            "ProxyJump=$(touch${IFS}/tmp/p)@127.0.0.1:1",
            "ProxyJump=a;b",
            "ProxyJump=a|b",
            "ProxyJump=`id`",
            "ProxyJump=-oProxyCommand=x",
            "ProxyJump=a,",
            "ProxyJump=fe80::1%h",
            "ProxyJump=local:22",
            "ProxyJump=ssh-ng://a",
            "HostName=$(cmd)",
            "HostName=\"$(cmd)\"",
            "HostName=%h.lan",
            "HostName=a b",
            "HostKeyAlias=a'b",
            "User=root;id",
            "User=%u",
            "Port=22;id",
            "Port=ssh",
            "Port==22",
            "Port= = =22",
            "IdentityFile=./key",
            "IdentityFile=key",
            "IdentityFile=~eve/key",
            "IdentityFile=~/%h",
            "IdentityFile=/tmp/${X}",
            "IdentityFile=/tmp/a b",
            "IdentityFile=\"/tmp/a\"",
            "BindInterface=a/b",
            "Compression=delayed",
            "ConnectionAttempts=1000",
            "ConnectionAttempts=0",
        ] {
            let refused = option(text).expect_err(text);
            assert!(refused.contains(" is not "), "{refused}");
        }
    }

    proptest::proptest! {
        #[test]
        fn k5_what_is_taken_holds_nothing_to_interpret(
            key in "(?i)(addressfamily|bindaddress|hostname|hostkeyalias|identityfile|port|proxyjump|user|proxycommand|sendenv|[a-z0-9]{1,9})",
            between in "(=| |\t| = |=\"|==)",
            value in "[ -~]{0,16}|[a-z0-9@:./~,\\[\\]$()`;|&<>%'\"\\\\*?#{}!-]{1,16}",
        ) {
            if let Ok(taken) = option(&format!("{key}{between}{value}")) {
                let (name, value) = taken.split_once('=').expect("as it is written");
                proptest::prop_assert!(ALLOWED.iter().any(|(known, _)| *known == name));
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-:,@+/~[]".contains(c);
                proptest::prop_assert!(value.chars().all(plain), "{taken}");
                proptest::prop_assert!(!value.contains('~') || (name == "IdentityFile" && value.rfind('~') == Some(0)), "{taken}");
                proptest::prop_assert!(!value.starts_with('-'), "{taken}");
            }
        }
    }
}
