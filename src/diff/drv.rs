//! Reading derivations: the ATerm text of a `.drv` file (Nix manual, "Derivation ATerm format"), without copying it.
//!
//! Texts stay as they are written, with their escapes: two of them are equal exactly when their meanings are.

use std::borrow::Cow;

/// A derivation, borrowed from its text: what it makes and needs. How it is made is read where it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derivation<'a> {
    /// By name, as written: `out`, `dev`, …
    pub outputs: Vec<Output<'a>>,
    /// The derivations that it needs, and the list of their outputs as it is written.
    pub inputs: Vec<(&'a str, &'a [u8])>,
    /// Store paths that no derivation made.
    pub sources: Vec<&'a str>,
    /// The whole text, and where the rest of it begins.
    text: &'a [u8],
    rest: usize,
}

/// How a derivation is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body<'a> {
    pub system: &'a [u8],
    pub builder: &'a [u8],
    pub arguments: Vec<&'a [u8]>,
    /// By name, as written.
    pub environment: Vec<(&'a [u8], &'a [u8])>,
}

/// One output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output<'a> {
    pub name: &'a str,
    /// Empty where it is known only after the build.
    pub path: &'a str,
    /// The hash that is fixed beforehand, with its algorithm in front; both empty for most.
    pub algorithm: &'a str,
    pub hash: &'a str,
}

/// Reads no more than the beginning of a derivation: what it makes, and the paths of the derivations that it needs.
///
/// # Errors
/// It does not begin like one.
pub fn head<'a>(
    text: &'a [u8],
    output: impl FnMut(Output<'a>),
    mut input: impl FnMut(&'a str),
) -> Result<(), BadDerivation> {
    Reader { text, at: 0 }.head(output, |path, _| input(path))
}

/// So many inputs most derivations have, or fewer.
const SOME: usize = 8;

/// Whether a text ends like a derivation: one that breaks off has lost its end.
pub fn is_whole(text: &[u8]) -> bool {
    text.ends_with(b"])")
}

/// A text that is no derivation: where, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no derivation: at byte {at} {expected} is expected")]
pub struct BadDerivation {
    pub at: usize,
    pub expected: &'static str,
}

impl<'a> Derivation<'a> {
    /// Reads the beginning of a text, as far as its sources.
    ///
    /// # Errors
    /// It does not begin like a derivation, or does not end like one.
    pub fn parse(text: &'a [u8]) -> Result<Self, BadDerivation> {
        let mut reader = Reader { text, at: 0 };
        let (mut outputs, mut inputs) = (Vec::new(), Vec::with_capacity(SOME));
        reader.head(
            |output| outputs.push(output),
            |path, wanted| inputs.push((path, wanted)),
        )?;
        reader.take(",")?;
        let sources = reader.list(Reader::string)?;
        reader.take(",")?;
        let rest = reader.at;
        if !is_whole(text) {
            reader.at = text.len();
            return Err(reader.expected("the end"));
        }
        Ok(Derivation {
            outputs,
            inputs,
            sources,
            text,
            rest,
        })
    }

    /// The text of how it is made.
    pub fn rest(&self) -> &'a [u8] {
        &self.text[self.rest..]
    }

    /// Reads how it is made.
    ///
    /// # Errors
    /// The text does not go on like a derivation, or something follows it.
    pub fn body(&self) -> Result<Body<'a>, BadDerivation> {
        let mut reader = Reader {
            text: self.text,
            at: self.rest,
        };
        let body = reader.body()?;
        match reader.at < self.text.len() {
            true => Err(reader.expected("the end")),
            false => Ok(body),
        }
    }

    /// Whether what it makes is fixed by a hash: a download.
    pub fn is_fixed(&self) -> bool {
        self.outputs.iter().any(|output| !output.hash.is_empty())
    }
}

impl<'a> Body<'a> {
    /// The value of an environment variable, as written.
    pub fn variable(&self, name: &str) -> Option<&'a [u8]> {
        let found = self.environment.iter().find(|(key, _)| *key == name.as_bytes());
        found.map(|(_, value)| *value)
    }
}

/// A text as it is meant: without escapes, and with a sign for what is no UTF-8.
pub fn plain(text: &[u8]) -> Cow<'_, str> {
    if !text.contains(&b'\\') {
        return String::from_utf8_lossy(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(other) => *other,
                None => break,
            },
            other => *other,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn expected(&self, expected: &'static str) -> BadDerivation {
        BadDerivation {
            at: self.at,
            expected,
        }
    }

    fn takes(&mut self, word: &'static str) -> bool {
        let there = self.text[self.at..].starts_with(word.as_bytes());
        if there {
            self.at += word.len();
        }
        there
    }

    fn take(&mut self, word: &'static str) -> Result<(), BadDerivation> {
        if self.takes(word) {
            Ok(())
        } else {
            Err(self.expected(word))
        }
    }

    /// What stands between two quotes.
    fn bytes(&mut self) -> Result<&'a [u8], BadDerivation> {
        self.take("\"")?;
        let begin = self.at;
        loop {
            match memchr::memchr2(b'"', b'\\', &self.text[self.at..]) {
                None => return Err(self.expected("the end of a string")),
                Some(ahead) if self.text[self.at + ahead] == b'"' => {
                    let end = self.at + ahead;
                    self.at = end + 1;
                    return Ok(&self.text[begin..end]);
                }
                Some(ahead) if self.at + ahead + 2 > self.text.len() => {
                    return Err(self.expected("what is escaped"));
                }
                Some(ahead) => self.at += ahead + 2,
            }
        }
    }

    fn string(&mut self) -> Result<&'a str, BadDerivation> {
        let at = self.at;
        std::str::from_utf8(self.bytes()?).map_err(|_| BadDerivation {
            at,
            expected: "UTF-8",
        })
    }

    fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<T, BadDerivation>,
    ) -> Result<Vec<T>, BadDerivation> {
        let mut list = Vec::new();
        self.each(|reader| {
            list.push(one(reader)?);
            Ok(())
        })?;
        Ok(list)
    }

    /// Reads a list, one after the other.
    fn each(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<(), BadDerivation>,
    ) -> Result<(), BadDerivation> {
        self.take("[")?;
        if self.takes("]") {
            return Ok(());
        }
        loop {
            one(self)?;
            if self.takes("]") {
                return Ok(());
            }
            self.take(",")?;
        }
    }

    /// Hands on what it makes, then what it needs with the list of its outputs as it is written.
    fn head(
        &mut self,
        mut output: impl FnMut(Output<'a>),
        mut input: impl FnMut(&'a str, &'a [u8]),
    ) -> Result<(), BadDerivation> {
        // The second form lets outputs of outputs be inputs; it is experimental in Nix.
        if self.takes("DrvWithVersion(") {
            self.bytes()?;
            self.take(",")?;
        } else {
            self.take("Derive(")?;
        }
        self.each(|r| {
            r.take("(")?;
            let name = r.string()?;
            r.take(",")?;
            let path = r.string()?;
            r.take(",")?;
            let algorithm = r.string()?;
            r.take(",")?;
            let hash = r.string()?;
            r.take(")")?;
            output(Output {
                name,
                path,
                algorithm,
                hash,
            });
            Ok(())
        })?;
        self.take(",")?;
        self.each(|r| {
            r.take("(")?;
            let path = r.string()?;
            r.take(",")?;
            let from = r.at;
            r.nested()?;
            let wanted = &r.text[from..r.at];
            r.take(")")?;
            input(path, wanted);
            Ok(())
        })
    }

    fn body(&mut self) -> Result<Body<'a>, BadDerivation> {
        let system = self.bytes()?;
        self.take(",")?;
        let builder = self.bytes()?;
        self.take(",")?;
        let arguments = self.list(Self::bytes)?;
        self.take(",")?;
        let environment = self.list(|r| {
            r.take("(")?;
            let name = r.bytes()?;
            r.take(",")?;
            let value = r.bytes()?;
            r.take(")")?;
            Ok((name, value))
        })?;
        self.take(")")?;
        Ok(Body {
            system,
            builder,
            arguments,
            environment,
        })
    }

    /// Goes over one term: a list of names or, in the newer form, a term with such lists in it. Without recursion: the
    /// depth is whatever somebody wrote.
    fn nested(&mut self) -> Result<(), BadDerivation> {
        let mut depth = 0usize;
        loop {
            match self.text.get(self.at) {
                Some(b'[' | b'(') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b']' | b')') if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                Some(b',') if depth > 0 => self.at += 1,
                Some(b'"') if depth > 0 => {
                    self.bytes()?;
                }
                _ => return Err(self.expected("a list of outputs")),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: &str = r#"Derive([("dev","/nix/store/d-hello-dev","",""),("out","/nix/store/o-hello","","")],[("/nix/store/b-bash.drv",["out"]),("/nix/store/s-hello.tar.gz.drv",["out","x"])],["/nix/store/x-builder.sh"],"x86_64-linux","/nix/store/b-bash/bin/bash",["-e","a \"b\"\n"],[("name","hello"),("text","1\\n\n2")])"#;

    #[test]
    fn a_derivation_is_read_and_its_escapes_mean_what_nix_means() {
        let drv = Derivation::parse(HELLO.as_bytes()).unwrap();
        assert_eq!(drv.outputs[1].path, "/nix/store/o-hello");
        assert_eq!(
            drv.inputs,
            [
                ("/nix/store/b-bash.drv", &br#"["out"]"#[..]),
                ("/nix/store/s-hello.tar.gz.drv", br#"["out","x"]"#)
            ]
        );
        assert_eq!(drv.sources, ["/nix/store/x-builder.sh"]);
        let body = drv.body().unwrap();
        assert_eq!(plain(body.arguments[1]), "a \"b\"\n");
        assert_eq!(plain(body.variable("text").unwrap()), "1\\n\n2");
        assert_eq!(body.variable("none"), None);
        assert!(!drv.is_fixed());
    }

    #[test]
    fn the_newer_form_and_fixed_hashes_are_read() {
        let text = r#"DrvWithVersion("xp-dyn-drv",[("out","/nix/store/o-x","r:sha256","00ff")],[("/nix/store/a.drv",(["out"],[("out",["out"])]))],[],"s","b",[],[])"#;
        let drv = Derivation::parse(text.as_bytes()).unwrap();
        assert!(drv.is_fixed());
        assert_eq!(drv.inputs[0].0, "/nix/store/a.drv");
    }

    #[test]
    fn what_is_no_derivation_says_where() {
        let read = |text: &str| Derivation::parse(text.as_bytes())?.body().map(|_| ());
        let bad = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(bad("x"), "no derivation: at byte 0 Derive( is expected");
        assert!(bad("Derive([").contains("at byte 8"));
        for more in [" ", ")"] {
            assert!(bad(&format!("{HELLO}{more}")).contains("the end is expected"));
        }
        let deep = format!("Derive([],[(\"a\",{}", "[".repeat(1 << 20));
        assert!(bad(&deep).contains("a list of outputs"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(at in 0..HELLO.len(), byte in any::<u8>(), junk in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut text = HELLO.as_bytes().to_vec();
            text[at] = byte;
            let read = |text: &[u8]| Derivation::parse(text)?.body().map(|_| ());
            let _ = read(&text);
            text.truncate(at);
            prop_assert!(read(&text).is_err());
            let _ = read(&junk);
            let _ = plain(&junk);
        }
    }
}
