//! One GET with a deadline. Blocking: call it where blocking is allowed.

use serde::Serialize;
use std::fmt;
use std::io::Read;
use std::time::{Duration, Instant};

/// How many redirects are followed.
const REDIRECTS: u32 = 5;
/// How much of the body is read, to see that it really comes.
const BODY: u64 = 64 << 10;

/// An answer, whatever its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Status {
    pub code: u16,
    pub millis: u64,
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetClass {
    /// Nobody listens there, or the connection was cut.
    Refused,
    /// The name does not resolve.
    Dns,
    /// No secure connection: certificate, name or protocol.
    Tls,
    Timeout,
    Other,
}

/// No answer: the class of it, and the words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetError {
    pub class: NetClass,
    pub text: String,
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for NetError {}

/// Asks `url`, all of it within `timeout`. Any status code is an answer; the caller judges it.
#[expect(clippy::disallowed_methods, reason = "reads: one GET")]
pub fn http_get(url: &str, timeout: Duration) -> Result<Status, NetError> {
    let begun = Instant::now();
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(REDIRECTS)
        .http_status_as_error(false)
        .user_agent(concat!("git-nixgate/", env!("CARGO_PKG_VERSION")))
        .build();
    let mut response = ureq::Agent::new_with_config(config)
        .get(url)
        .call()
        .map_err(classify)?;
    let mut start = Vec::new();
    response
        .body_mut()
        .as_reader()
        .take(BODY)
        .read_to_end(&mut start)
        .map_err(|error| classify(error.into()))?;
    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Status {
        code: response.status().as_u16(),
        millis,
    })
}

fn classify(error: ureq::Error) -> NetError {
    let text = error.to_string();
    let class = match &error {
        ureq::Error::HostNotFound => NetClass::Dns,
        ureq::Error::Timeout(_) => NetClass::Timeout,
        ureq::Error::ConnectionFailed => NetClass::Refused,
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => NetClass::Tls,
        ureq::Error::Io(error) => of_io(error),
        _ => NetClass::Other,
    };
    NetError { class, text }
}

fn of_io(error: &std::io::Error) -> NetClass {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => {
            NetClass::Refused
        }
        Kind::TimedOut | Kind::WouldBlock => NetClass::Timeout,
        _ => {
            let text = error.to_string();
            let is = |needle: &str| text.contains(needle);
            if is("failed to lookup address") || is("Name or service not known") {
                NetClass::Dns
            } else if is("certificate") || is("invalid peer") || is("received corrupt message") || is("alert")
            {
                NetClass::Tls
            } else {
                NetClass::Other
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    /// A server that answers every connection with `answer` and then closes it; without one it keeps silent.
    fn serve(answer: Option<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                match &answer {
                    Some(answer) => drop(stream.write_all(answer.as_bytes())),
                    None => open.push(stream),
                }
            }
        });
        format!("http://{address}/-/healthy")
    }

    fn answer(code: &str, body: &str) -> String {
        serve(Some(format!(
            "HTTP/1.1 {code}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )))
    }

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn every_code_is_an_answer() {
        for (line, code) in [
            ("200 OK", 200),
            ("401 Unauthorized", 401),
            ("404 Not Found", 404),
            ("503 Busy", 503),
        ] {
            assert_eq!(http_get(&answer(line, "x"), SOON).unwrap().code, code);
        }
        assert_eq!(
            http_get(&answer("200 OK", &"x".repeat(300_000)), SOON)
                .unwrap()
                .code,
            200
        );
    }

    #[test]
    fn a_redirect_is_followed_but_not_for_ever() {
        let end = answer("204 No Content", "");
        let way = |to: &str| {
            serve(Some(format!(
                "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
            )))
        };
        assert_eq!(http_get(&way(&end), SOON).unwrap().code, 204);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let itself = format!("http://{}/", listener.local_addr().unwrap());
        let location = format!(
            "HTTP/1.1 302 Found\r\nLocation: {itself}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(location.as_bytes());
            }
        });
        let error = http_get(&itself, SOON).unwrap_err();
        assert_eq!(error.class, NetClass::Other, "{error}");
    }

    #[test]
    fn no_answer_has_its_class() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let silent = serve(None);
        let plain = answer("200 OK", "").replace("http://", "https://");
        for (url, class) in [
            (format!("http://{closed}/"), NetClass::Refused),
            ("http://nowhere.invalid/".to_string(), NetClass::Dns),
            (silent, NetClass::Timeout),
            (plain, NetClass::Tls),
            ("not a url".to_string(), NetClass::Other),
        ] {
            let begun = Instant::now();
            let error = http_get(&url, Duration::from_millis(700)).unwrap_err();
            assert_eq!(error.class, class, "{url}: {error}");
            assert!(begun.elapsed() < SOON, "{url}");
        }
    }
}
