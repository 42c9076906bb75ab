//! Names of targets and records, and the few words that a record is made of.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

use super::Oid;

/// A host or an application with a release pointer of its own. A host-name label, so that it can stand in a ref, a
/// path, a unit name and a command line without quoting: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(String);

impl Target {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let good = !bytes.is_empty()
            && bytes.len() <= 63
            && label(bytes[0])
            && label(bytes[bytes.len() - 1])
            && bytes.iter().all(|b| label(*b) || *b == b'-');
        if good {
            Ok(Target(text.to_owned()))
        } else {
            Err(format!(
                "{:?} is no target name: use 1 to 63 of a-z, 0-9 and '-', not starting or ending with '-'",
                text
            ))
        }
    }
}

/// A moment in whole seconds, as it stands in a record's name: `20261120T031402Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Utc(OffsetDateTime);

impl Utc {
    /// Rounds down to the second.
    pub fn new(time: OffsetDateTime) -> Self {
        let time = time.to_offset(time::UtcOffset::UTC);
        Utc(time.replace_nanosecond(0).unwrap_or(time))
    }

    /// Seconds since 1970; fails outside the years that a name can hold.
    pub fn from_unix(seconds: i64) -> Option<Self> {
        let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
        (0..=9999).contains(&time.year()).then_some(Utc(time))
    }

    pub fn unix(self) -> i64 {
        self.0.unix_timestamp()
    }

    pub fn time(self) -> OffsetDateTime {
        self.0
    }

    /// `2026-11-20T03:14:02Z`.
    pub fn rfc3339(self) -> String {
        let t = self.0;
        let (hour, minute, second) = t.to_hms();
        format!(
            "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
            t.year(),
            u8::from(t.month()),
            t.day()
        )
    }

    /// The time of a record made now behind `previous`: the later of now and its predecessor's plus one second. The
    /// second value is how many seconds the clock stands behind the predecessor (0 if it does not). `None`: no name can
    /// hold a later time.
    pub fn behind(now: OffsetDateTime, previous: Option<Utc>) -> Option<(Utc, u64)> {
        let now = Utc::new(now);
        match previous {
            Some(previous) if now <= previous => {
                let skew = u64::try_from(previous.unix() - now.unix()).unwrap_or(0);
                Some((Utc::from_unix(previous.unix() + 1)?, skew))
            }
            _ => Some((now, 0)),
        }
    }
}

impl From<OffsetDateTime> for Utc {
    fn from(time: OffsetDateTime) -> Self {
        Utc::new(time)
    }
}

impl From<Utc> for OffsetDateTime {
    fn from(utc: Utc) -> Self {
        utc.0
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0;
        let (hour, minute, second) = t.to_hms();
        write!(
            f,
            "{:04}{:02}{:02}T{hour:02}{minute:02}{second:02}Z",
            t.year(),
            u8::from(t.month()),
            t.day()
        )
    }
}

impl FromStr for Utc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time like 20261120T031402Z");
        let b = text.as_bytes();
        let shape = b.len() == 16
            && b.iter().enumerate().all(|(i, c)| match i {
                8 => *c == b'T',
                15 => *c == b'Z',
                _ => c.is_ascii_digit(),
            });
        if !shape {
            return Err(wrong());
        }
        let number = |from: usize, to: usize| text[from..to].parse::<u16>().map_err(|_| wrong());
        let small = |from: usize| -> Result<u8, String> {
            u8::try_from(number(from, from + 2)?).map_err(|_| wrong())
        };
        let month = time::Month::try_from(small(4)?).map_err(|_| wrong())?;
        let date = time::Date::from_calendar_date(i32::from(number(0, 4)?), month, small(6)?)
            .map_err(|_| wrong())?;
        let clock = time::Time::from_hms(small(9)?, small(11)?, small(13)?).map_err(|_| wrong())?;
        Ok(Utc(time::PrimitiveDateTime::new(date, clock).assume_utc()))
    }
}

/// The name of a record: `release/<target>/<UTC>-<first 12 hex digits of the commit>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordName {
    pub target: Target,
    pub utc: Utc,
    short: String,
}

impl RecordName {
    pub fn new(target: Target, utc: Utc, commit: &Oid) -> Self {
        RecordName {
            target,
            utc,
            short: commit.to_hex_with_len(12).to_string(),
        }
    }

    /// The first 12 hex digits of the commit.
    pub fn short(&self) -> &str {
        &self.short
    }

    /// `refs/tags/release/…`.
    pub fn ref_name(&self) -> String {
        format!("refs/tags/{self}")
    }

    /// The part after `release/<target>/`.
    pub fn leaf(&self) -> String {
        format!("{}-{}", self.utc, self.short)
    }

    /// Reads the part after `release/<target>/`.
    pub fn from_leaf(target: &Target, leaf: &str) -> Result<Self, String> {
        let wrong = || format!("{leaf:?} is no record name like 20261120T031402Z-0123456789ab");
        let (utc, short) = leaf.split_once('-').ok_or_else(wrong)?;
        let hex = short.len() == 12
            && short
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !hex {
            return Err(wrong());
        }
        Ok(RecordName {
            target: target.clone(),
            utc: utc.parse().map_err(|_| wrong())?,
            short: short.to_owned(),
        })
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "release/{}/{}-{}", self.target, self.utc, self.short)
    }
}

impl FromStr for RecordName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("release/")
            .ok_or_else(|| format!("{text:?} does not start with release/"))?;
        let (target, leaf) = rest
            .split_once('/')
            .ok_or_else(|| format!("{text:?} names no record"))?;
        RecordName::from_leaf(&target.parse()?, leaf)
    }
}

/// What a record says happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A candidate passed every gate.
    Release,
    /// The host went back to an earlier release, or to what ran before the first.
    Rollback,
    /// The host went forward or sideways to a recorded release.
    Deploy,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Release => "release",
            Kind::Rollback => "rollback",
            Kind::Deploy => "deploy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "release" => Ok(Kind::Release),
            "rollback" => Ok(Kind::Rollback),
            "deploy" => Ok(Kind::Deploy),
            _ => Err(format!("{text:?} is no kind of record")),
        }
    }
}

/// What a record puts on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnHost {
    /// What ran there before the first release.
    BeforeFirst,
    /// The closure of this release.
    Release(RecordName),
}

impl fmt::Display for OnHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnHost::BeforeFirst => f.write_str("before-first"),
            OnHost::Release(name) => name.fmt(f),
        }
    }
}

impl FromStr for OnHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "before-first" {
            Ok(OnHost::BeforeFirst)
        } else {
            text.parse().map(OnHost::Release)
        }
    }
}

impl serde::Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&self.0)
    }
}
