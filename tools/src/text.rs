//! Sizes, durations, times, keys and versions, as people write and read them.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use hedgerow_wire::Version;

/// A size: `1.5 MiB`; below 1 KiB exact.
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// A number with a comma between thousands: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 object`, `2 objects`.
pub fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

/// A duration in the unit that suits it, with three digits.
pub fn duration(duration: Duration) -> String {
    let ns = duration.as_nanos() as f64;
    let (value, unit) = match duration.as_nanos() {
        0 => return "0".to_owned(),
        1..1_000 => (ns, "ns"),
        1_000..1_000_000 => (ns / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns / 1e6, "ms"),
        1_000_000_000..60_000_000_000 => (ns / 1e9, "s"),
        _ => return long_duration(duration.as_secs()),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let mut digits = format!("{value:.decimals$}");
    if digits.contains('.') {
        digits.truncate(digits.trim_end_matches('0').trim_end_matches('.').len());
    }
    format!("{digits} {unit}")
}

/// Minutes and more: `2 d 3 h`, the two largest units.
fn long_duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|&(length, _)| seconds >= length).unwrap_or(units.len() - 1);
    let (length, unit) = units[first];
    let mut out = format!("{} {unit}", seconds / length);
    if let Some((smaller, unit)) = units.get(first + 1) {
        let rest = seconds % length / smaller;
        if rest > 0 {
            // Writing to a string cannot fail.
            let _ = write!(out, " {rest} {unit}");
        }
    }
    out
}

/// A point in time, in milliseconds since the Unix epoch: `2026-01-31 12:00:00.000 UTC`.
pub fn time_ms(ms: u64) -> String {
    let (days, ms_of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = date(days as i64);
    let (seconds, ms) = (ms_of_day / 1000, ms_of_day % 1000);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{ms:03} UTC",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant, chrono-compatible
/// low-level date algorithms, `civil_from_days`).
fn date(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A key: as it is if a terminal can show it, else with escapes.
pub fn key(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// What the system said, without its number, as the middle of a sentence.
pub fn io_error(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// Reads a duration: a number and `us`, `ms`, `s`, `m`, `h` or `d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no duration: write for example 50ms, 2s, 10m, 1h or 7d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    let number = decimal(digits.trim_end()).ok_or_else(wrong)?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

/// Reads a duration that is longer than nothing.
pub fn parse_lasting(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() {
        Err(format!("'{text}' is no time at all: write for example 10m or 7d"))
    } else {
        Ok(duration)
    }
}

/// Reads a share, `1%` or `0.5%`, in millionths: 1 to 1,000,000.
pub fn parse_share(text: &str) -> Result<u32, String> {
    let percent = text.strip_suffix('%').and_then(|number| decimal(number.trim_end()));
    match percent.map(|percent| (percent * 10_000.0).round()) {
        Some(ppm) if (1.0..=1_000_000.0).contains(&ppm) => Ok(ppm as u32),
        _ => Err(format!("'{text}' is no share: write for example 1%, 0.5% or 100%")),
    }
}

/// A number of digits with at most one point: no sign, no exponent, no infinity.
fn decimal(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok())?
}

/// Reads a version as the tool prints it: `SECONDS.FRACTION@COORDINATOR`.
pub fn parse_version(text: &str) -> Result<Version, String> {
    let read = || {
        let (clock, coordinator) = text.split_once('@')?;
        let (seconds, fraction) = clock.split_once('.')?;
        let (seconds, fraction): (u64, u16) = (seconds.parse().ok()?, fraction.parse().ok()?);
        let whole = (seconds < 1 << 48).then_some(seconds << 16)?;
        Some(Version { hlc: whole | u64::from(fraction), coordinator: coordinator.parse().ok()? })
    };
    read()
        .ok_or_else(|| format!("'{text}' is no version: 'hedgerow stat' shows one, like 1767225600.00042@0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers() {
        for (number, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), expected);
        }
        assert_eq!((counted(1, "file"), counted(2, "file")), ("1 file".to_owned(), "2 files".to_owned()));
    }

    #[test]
    fn durations_are_read_and_written() {
        for (given, ns, expected) in [
            ("1us", 1_000, "1 us"),
            ("50ms", 50_000_000, "50 ms"),
            ("1.25s", 1_250_000_000, "1.25 s"),
            ("12.345ms", 12_345_000, "12.3 ms"),
            ("10m", 600_000_000_000, "10 min"),
            ("25h", 90_000_000_000_000, "1 d 1 h"),
            ("7d", 604_800_000_000_000, "7 d"),
            ("0s", 0, "0"),
        ] {
            let read = parse_duration(given).unwrap();
            assert_eq!((read, duration(read).as_str()), (Duration::from_nanos(ns), expected));
        }
        for wrong in [
            "",
            "5",
            "s",
            "-1s",
            "1e3s",
            "infs",
            "NaNs",
            "1 fortnight",
            "1.2.3s",
            "1é",
            "99999999999999999999d",
        ] {
            assert!(parse_duration(wrong).unwrap_err().contains("50ms"), "{wrong}");
        }
    }

    #[test]
    fn what_lasts_is_longer_than_nothing() {
        assert_eq!(parse_lasting("1us"), Ok(Duration::from_micros(1)));
        for wrong in ["0s", "0", "soon"] {
            assert!(parse_lasting(wrong).unwrap_err().contains("10m"), "{wrong}");
        }
    }

    #[test]
    fn shares_are_read() {
        for (given, ppm) in [("1%", 10_000), ("0.5%", 5_000), ("100%", 1_000_000), ("0.0001%", 1)] {
            assert_eq!(parse_share(given), Ok(ppm));
        }
        for wrong in ["1", "0%", "101%", "-1%", "%", "inf%"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_written() {
        assert_eq!(time_ms(0), "1970-01-01 00:00:00.000 UTC");
        assert_eq!(time_ms(951_827_696_789), "2000-02-29 12:34:56.789 UTC");
        assert_eq!(time_ms(4_102_444_799_999), "2099-12-31 23:59:59.999 UTC");
    }

    #[test]
    fn versions_are_read_as_they_are_written() {
        for version in [
            Version { hlc: (1_767_225_600 << 16) | 42, coordinator: 3 },
            Version { hlc: u64::MAX, coordinator: u16::MAX },
            Version::ZERO,
        ] {
            assert_eq!(parse_version(&version.to_string()), Ok(version));
        }
        for wrong in ["", "1", "1.2", "1@2", "1.70000@0", "1.2@70000", "281474976710656.0@0", "a.b@c"] {
            assert!(parse_version(wrong).unwrap_err().contains("hedgerow stat"), "{wrong}");
        }
    }

    #[test]
    fn keys_and_errors_are_fit_for_a_terminal() {
        assert_eq!(key("naïve/κλειδί".as_bytes()), "naïve/κλειδί");
        assert_eq!(key(b"bell\x07"), "bell\\x07");
        assert_eq!(key(b"\xff"), "\\xff");
        assert_eq!(io_error(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
