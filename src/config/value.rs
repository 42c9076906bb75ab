//! Durations and sizes as the file writes them.

use std::time::Duration;

use serde::Serializer;

pub(super) fn seconds<S: Serializer>(value: &Duration, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u64(value.as_secs())
}

pub(super) fn bytes<S: Serializer>(value: &u64, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&size_text(*value))
}

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// `200MiB` for 209715200: the largest unit that divides the value.
pub(super) fn size_text(value: u64) -> String {
    let (unit, factor) = UNITS
        .into_iter()
        .find(|(_, factor)| value > 0 && value.is_multiple_of(*factor))
        .unwrap_or(("B", 1));
    format!("{}{unit}", value / factor)
}

/// Bytes from `200MiB`, `1GiB`, `512KiB`, `4096B`; `None` for anything else.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (unit, factor) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let number = text[..text.len() - unit.len()].trim();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_written() {
        for (text, value) in [
            ("200MiB", 200 << 20),
            ("1GiB", 1 << 30),
            ("3KiB", 3072),
            ("7B", 7),
            ("0B", 0),
        ] {
            assert_eq!(parse_size(text), Some(value), "{text}");
            assert_eq!(size_text(value), text);
        }
        for bad in [
            "",
            "MiB",
            "-1MiB",
            "1.5GiB",
            "200",
            "200MB",
            "+2KiB",
            "99999999999GiB",
            "20000000000000GiB",
        ] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
