//! Why a connection did not come about, told from ssh's own words.

use crate::failure::{Exit, Failure, Reason, last_lines};

/// What stood in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectClass {
    /// Something answers at the address, but not on that port.
    Refused,
    /// Nothing answers.
    Timeout,
    /// The port takes the connection, and nothing is said on it.
    Silent,
    /// Something that is no ssh server answers on the port.
    NotSsh,
    /// sshd, or what stands before it, ends the connection before the login.
    TurnedAway,
    /// The name is unknown.
    Unresolved,
    NoRoute,
    /// Reached, but no key was taken.
    Auth,
    HostKeyUnknown,
    HostKeyChanged,
    /// The key was taken, and the account is not let in: `/run/nologin`, an account or password that expired.
    Account,
    /// The login did not end in time: a key or an agent waits for a person, or the host's login hangs.
    Waits,
    /// Authenticated, but the account may not run commands.
    NoLogin,
    /// Authenticated, and sshd opens too few sessions in one connection.
    Sessions,
    /// Authenticated, but no shell answers.
    Hang,
    /// Authenticated, but what answers prints without end.
    Noise,
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

    /// From what ssh printed before it gave up, its debug messages included where it was asked for them.
    pub fn from_stderr(stderr: &str) -> Self {
        let mut lines: Vec<String> = greeting(stderr)
            .map(|line| format!("it answers: {line}"))
            .into_iter()
            .collect();
        lines.extend(last_lines(&spoken(stderr), 4));
        ConnectError {
            class: classify(stderr),
            lines,
        }
    }

    /// From the master's answer to a request for a session: sshd refuses one, or the connection is gone (`None`).
    pub fn from_master(error: &openssh::Error) -> Option<Self> {
        // mux_session_confirm() of OpenSSH's mux.c.
        const REFUSED: &str = "Session open refused by peer";
        let cause = std::error::Error::source(error)?.to_string();
        cause
            .contains(REFUSED)
            .then(|| ConnectError::new(ConnectClass::Sessions, vec![REFUSED.to_owned()]))
    }

    /// One sentence per class, ssh's lines, the next step. Exit 1: nothing on the host was touched.
    pub fn failure(&self, name: &str) -> Failure {
        let (reason, what, next): (Reason, String, &str) = match self.class {
            ConnectClass::Refused => (
                Reason::Link,
                format!("{name} is up, but nothing listens on its ssh port"),
                "start sshd there (console), or give the port: host = \"NAME:2222\"",
            ),
            ConnectClass::Timeout => (
                Reason::Link,
                format!("{name} does not answer"),
                "is it on, and on this network? `ssh -v` shows where it stops; a firewall that drops looks the same",
            ),
            ConnectClass::Silent => (
                Reason::Link,
                format!("{name} takes the connection to its ssh port, and nothing answers on it"),
                "is it sshd that listens there, and has the host memory left? the console shows; or give the port: ssh-options = [\"Port=2222\"]",
            ),
            ConnectClass::NotSsh => (
                Reason::Link,
                format!("{name}: what answers on its ssh port is no ssh server"),
                "give the port that sshd listens on: ssh-options = [\"Port=2222\"], or Port in ~/.ssh/config",
            ),
            ConnectClass::TurnedAway => (
                Reason::Link,
                format!("{name} ends the connection before the login"),
                "retry in a minute; if it stays, there: journalctl -u sshd (MaxStartups, PerSourcePenalties), or a firewall",
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
            ConnectClass::Account => (
                Reason::Auth,
                format!("{name} takes the key, but refuses the account"),
                "while a host starts or goes down (/run/nologin): wait; else the account is root's to mend there: chage -l USER",
            ),
            ConnectClass::Waits => (
                Reason::Timeout,
                format!("{name}: the login did not finish in time"),
                "does a key or an agent wait for a touch or a confirmation? `ssh` by hand shows; docs/runs.md says when a run logs in",
            ),
            ConnectClass::NoLogin => (
                Reason::Auth,
                format!("{name}: the account may not run commands"),
                "give the user a login shell (users.users.<name>.shell), or set another user",
            ),
            ConnectClass::Sessions => (
                Reason::Link,
                format!("{name} allows too few sessions in one connection"),
                "MaxSessions in its sshd_config is less than 2: services.openssh.settings.MaxSessions = 10 is sshd's default",
            ),
            ConnectClass::Hang => (
                Reason::Timeout,
                format!("{name} takes the login, but no shell answers"),
                "a ForceCommand, a shell start-up file that waits, or a host out of memory; try `ssh … true` by hand",
            ),
            ConnectClass::Noise => (
                Reason::Link,
                format!("{name} takes the login, but it prints without end before a shell answers"),
                "a start-up file of the account's shell (~/.bashrc) runs something that prints; `ssh … true` prints nothing",
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

/// What ssh's own debug messages begin with.
const DEBUG: &str = "debug1: ";

/// The text without ssh's debug messages and its warnings that change nothing.
pub(super) fn spoken(stderr: &str) -> String {
    let debug = |line: &&str| line.starts_with("debug") && line.contains(": ");
    let kept = stderr
        .lines()
        .filter(|line| !debug(line) && !line.starts_with("** "));
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// What a server said in place of the greeting of ssh (RFC 4253, 4.2); ssh tells it in its debug messages.
fn greeting(stderr: &str) -> Option<&str> {
    let line = stderr.lines().find_map(|line| {
        line.strip_prefix(DEBUG)?
            .strip_prefix("kex_exchange_identification: banner line 0: ")
    })?;
    Some(line.trim_end())
}

/// By its debug messages ssh is past the connection and the host's key, so that what it waits for is the login. Where it
/// has got a signature from a key is not told.
pub(super) fn is_logging_in(stderr: &str) -> bool {
    stderr
        .lines()
        .any(|line| line.starts_with(DEBUG) && line.contains("Authentications that can continue"))
}

/// The class of what ssh printed. Pure; the table of real messages is in the tests.
pub fn classify(stderr: &str) -> ConnectClass {
    if let Some(said) = greeting(stderr) {
        // sshd.c, drop_connection(): what it says before it closes.
        let turned = ["Exceeded MaxStartups", "Not allowed at this time"];
        return match turned.iter().any(|words| said.contains(words)) {
            true => ConnectClass::TurnedAway,
            false => ConnectClass::NotSsh,
        };
    }
    let said = spoken(stderr);
    if let Some((_, class)) = WORDS.iter().find(|(words, _)| said.contains(words)) {
        return *class;
    }
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let closed = |line: &&&str| CLOSED.iter().any(|words| line.starts_with(words));
    let taken = stderr
        .lines()
        .any(|line| line.starts_with(DEBUG) && line.contains("Server accepts key"));
    match lines.last().filter(closed) {
        Some(_) if said.contains("kex_exchange_identification") => ConnectClass::TurnedAway,
        // Whoever is refused by the account's rules is told so before the end (PAM, by sshd's auth2.c).
        Some(_) if taken || lines.len() > 1 => ConnectClass::Account,
        _ => ConnectClass::Other,
    }
}

/// How ssh says that the other side ended the connection.
const CLOSED: &[&str] = &["Connection closed by ", "Connection reset by "];

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
    ("during banner exchange", ConnectClass::Silent),
    ("Connection timed out", ConnectClass::Timeout),
    ("Operation timed out", ConnectClass::Timeout),
    ("Timeout, server", ConnectClass::Timeout),
    ("Password change required", ConnectClass::Account),
    ("account has expired", ConnectClass::Account),
    ("This account is currently not available", ConnectClass::NoLogin),
    ("This account is not available", ConnectClass::NoLogin),
];

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
            (
                "Connection timed out during banner exchange\r\nConnection to 10.0.0.7 port 22 timed out\r\n",
                Silent,
            ),
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
                "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by 10.0.0.7 port 22\r\n",
                TurnedAway,
            ),
            ("Connection closed by 10.0.0.7 port 22\r\n", Other),
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
            Silent,
            NotSsh,
            TurnedAway,
            Unresolved,
            NoRoute,
            Auth,
            HostKeyUnknown,
            HostKeyChanged,
            Account,
            Waits,
            NoLogin,
            Sessions,
            Hang,
            Noise,
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

    fn recorded(name: &str) -> String {
        let file = format!("{}/tests/data/ssh-said/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(file).expect("a recording")
    }

    #[test]
    fn h9_the_reason_that_ssh_and_pam_know_is_the_one_that_is_told() {
        use ConnectClass::*;
        let table = [
            ("10.0-nologin", Account, "System is going down for maintenance"),
            (
                "10.0-nologin-info",
                Account,
                "System is going down for maintenance",
            ),
            ("10.0-expired", Account, "Your account has expired"),
            ("10.0-password-expired", Account, "Password change required"),
            ("10.0-http", NotSsh, "it answers: HTTP/1.1 400 Bad Request"),
            ("10.0-smtp", NotSsh, "it answers: 220 mail ESMTP"),
            (
                "10.0-startups",
                TurnedAway,
                "it answers: Not allowed at this time",
            ),
            ("10.0-penalty", TurnedAway, "it answers: Not allowed at this time"),
            ("10.0-closed", TurnedAway, "Connection closed by"),
            ("10.0-silent", Silent, "timed out during banner exchange"),
            ("10.0-agent-refused", Auth, "agent refused operation"),
            ("10.0-shell", NoLogin, "This account is currently not available"),
        ];
        for (name, class, line) in table {
            let error = ConnectError::from_stderr(&recorded(name));
            assert_eq!(error.class, class, "{name}");
            assert!(error.lines.join("\n").contains(line), "{name}: {:?}", error.lines);
            assert!(
                !error.lines.iter().any(|line| line.starts_with("debug1")),
                "{name}"
            );
        }
        assert!(is_logging_in(&recorded("10.0-agent-refused")));
        assert!(!is_logging_in(&recorded("10.0-silent")));
    }
}
