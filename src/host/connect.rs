//! Why a connection did not come about, told from ssh's own words.

use crate::failure::{Exit, Failure, Reason, last_lines};

/// What stood in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectClass {
    /// Something answers at the address, but not on that port.
    Refused,
    /// Nothing answers.
    Timeout,
    /// The name is unknown.
    Unresolved,
    NoRoute,
    /// Reached, but no key was taken.
    Auth,
    HostKeyUnknown,
    HostKeyChanged,
    /// Authenticated, but the account may not run commands.
    NoLogin,
    /// Authenticated, but no shell answers.
    Hang,
    Other,
}

/// A connection that did not come about.
#[derive(Debug, Clone)]
pub struct ConnectError {
    pub class: ConnectClass,
    /// What ssh or the host printed, last lines.
    pub lines: Vec<String>,
}

impl ConnectError {
    pub fn new(class: ConnectClass, lines: Vec<String>) -> Self {
        ConnectError { class, lines }
    }

    /// From what ssh printed before it gave up.
    pub fn from_stderr(stderr: &str) -> Self {
        ConnectError {
            class: classify(stderr),
            lines: last_lines(stderr, 4),
        }
    }

    /// One sentence per class, ssh's lines, the next step. Exit 1: nothing on the host was touched.
    pub fn failure(&self, name: &str) -> Failure {
        let (reason, what, next): (Reason, String, &str) = match self.class {
            ConnectClass::Refused => (
                Reason::Link,
                format!("{name} is up, but nothing listens on its ssh port"),
                "start sshd there (console), or give the port: ssh-options = [\"Port=2222\"]",
            ),
            ConnectClass::Timeout => (
                Reason::Link,
                format!("{name} does not answer"),
                "is it on, and on this network? `ssh -v` shows where it stops; a firewall that drops looks the same",
            ),
            ConnectClass::Unresolved => (
                Reason::Link,
                format!("{name}: the host's name is not known here"),
                "set host = \"…\" for the target, or a Host entry in ~/.ssh/config",
            ),
            ConnectClass::NoRoute => (
                Reason::Link,
                format!("{name}: there is no route to it"),
                "is the network, VPN or overlay up on this machine?",
            ),
            ConnectClass::Auth => (
                Reason::Auth,
                format!("{name} refuses every key offered"),
                "ssh-add -l shows the keys on offer; add the public key to the user's authorizedKeys, or set user",
            ),
            ConnectClass::HostKeyUnknown => (
                Reason::Auth,
                format!("{name}: its host key is not known here"),
                "compare the fingerprint, then log in once by hand: ssh-keyscan and `ssh` write known_hosts",
            ),
            ConnectClass::HostKeyChanged => (
                Reason::Auth,
                format!("{name} shows another host key than before"),
                "reinstalled? then ssh-keygen -R removes the old key; if not, somebody else answers at this address",
            ),
            ConnectClass::NoLogin => (
                Reason::Auth,
                format!("{name}: the account may not run commands"),
                "give the user a login shell (users.users.<name>.shell), or set another user",
            ),
            ConnectClass::Hang => (
                Reason::Timeout,
                format!("{name} takes the login, but no shell answers"),
                "a ForceCommand, a shell start-up file that waits, or a host out of memory; try `ssh … true` by hand",
            ),
            ConnectClass::Other => (
                Reason::Link,
                format!("{name}: ssh could not connect"),
                "`ssh -v` by hand shows where it stops",
            ),
        };
        let mut failure = Failure::new(Exit::Failed, reason, what).next(next);
        failure.why = self.lines.clone();
        failure
    }
}

/// The class of what ssh printed. Pure; the table of real messages is in the tests.
pub fn classify(stderr: &str) -> ConnectClass {
    // Order matters: a changed key also says "verification failed", a proxy may print its own refusals first.
    const WORDS: &[(&str, ConnectClass)] = &[
        (
            "REMOTE HOST IDENTIFICATION HAS CHANGED",
            ConnectClass::HostKeyChanged,
        ),
        (
            "has changed and you have requested strict checking",
            ConnectClass::HostKeyChanged,
        ),
        ("Host key verification failed", ConnectClass::HostKeyUnknown),
        ("host key is known for", ConnectClass::HostKeyUnknown),
        ("Permission denied (", ConnectClass::Auth),
        ("Too many authentication failures", ConnectClass::Auth),
        ("No supported authentication methods", ConnectClass::Auth),
        ("Could not resolve hostname", ConnectClass::Unresolved),
        ("Name or service not known", ConnectClass::Unresolved),
        ("nodename nor servname provided", ConnectClass::Unresolved),
        ("No route to host", ConnectClass::NoRoute),
        ("Network is unreachable", ConnectClass::NoRoute),
        ("Host is down", ConnectClass::NoRoute),
        ("Connection refused", ConnectClass::Refused),
        ("Connection timed out", ConnectClass::Timeout),
        ("Operation timed out", ConnectClass::Timeout),
        ("Timeout, server", ConnectClass::Timeout),
        ("This account is currently not available", ConnectClass::NoLogin),
        ("This account is not available", ConnectClass::NoLogin),
    ];
    WORDS
        .iter()
        .find(|(word, _)| stderr.contains(word))
        .map_or(ConnectClass::Other, |(_, class)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s0_3_each_way_of_failing_has_its_own_class() {
        use ConnectClass::*;
        let table = [
            (
                "ssh: connect to host 10.0.0.7 port 22: Connection refused\r\n",
                Refused,
            ),
            (
                "ssh: connect to host 10.0.0.7 port 22: Connection timed out\r\n",
                Timeout,
            ),
            ("Connection timed out during banner exchange\r\n", Timeout),
            (
                "ssh: connect to host 10.0.0.7 port 22: Operation timed out\r\n",
                Timeout,
            ),
            (
                "ssh: Could not resolve hostname cortex: Name or service not known\r\n",
                Unresolved,
            ),
            (
                "ssh: Could not resolve hostname cortex: Temporary failure in name resolution\r\n",
                Unresolved,
            ),
            (
                "ssh: connect to host 10.0.0.7 port 22: No route to host\r\n",
                NoRoute,
            ),
            (
                "ssh: connect to host 10.0.0.7 port 22: Network is unreachable\r\n",
                NoRoute,
            ),
            ("jarvis@10.0.0.7: Permission denied (publickey).\r\n", Auth),
            (
                "jarvis@10.0.0.7: Permission denied (publickey,password,keyboard-interactive).\r\n",
                Auth,
            ),
            (
                "Received disconnect from 10.0.0.7 port 22:2: Too many authentication failures\r\n\
                 Disconnected from 10.0.0.7 port 22\r\n",
                Auth,
            ),
            (
                "No ED25519 host key is known for cortex and you have requested strict checking.\r\n\
                 Host key verification failed.\r\n",
                HostKeyUnknown,
            ),
            (
                "@@@@@@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n@@@@@@@@@\r\n\
                 Offending ED25519 key in /root/.ssh/known_hosts:1\r\n\
                 Host key for cortex has changed and you have requested strict checking.\r\n\
                 Host key verification failed.\r\n",
                HostKeyChanged,
            ),
            ("This account is currently not available.\n", NoLogin),
            (
                "kex_exchange_identification: Connection closed by remote host\r\n",
                Other,
            ),
            ("", Other),
        ];
        for (text, class) in table {
            assert_eq!(classify(text), class, "{text}");
        }
    }

    #[test]
    fn s0_3_each_class_has_its_own_sentence_and_a_next_step() {
        use ConnectClass::*;
        let all = [
            Refused,
            Timeout,
            Unresolved,
            NoRoute,
            Auth,
            HostKeyUnknown,
            HostKeyChanged,
            NoLogin,
            Hang,
            Other,
        ];
        let texts: std::collections::BTreeSet<String> = all
            .iter()
            .map(|class| ConnectError::new(*class, Vec::new()).failure("cortex").what)
            .collect();
        assert_eq!(texts.len(), all.len());
        for class in all {
            assert!(
                !ConnectError::new(class, Vec::new())
                    .failure("cortex")
                    .next
                    .is_empty()
            );
        }
    }
}
