//! What a certificate says of itself: when it is valid and for whom. The TLS library knows, and does not tell.

use std::ops::RangeInclusive;

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Of the version and the extensions in a certificate (RFC 5280 §4.1).
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// The object identifier of subjectAltName, 2.5.29.17 (RFC 5280 §4.2.1.6).
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Of a dNSName in it.
const DNS_NAME: u8 = 0x82;
const DAY_S: i64 = 86_400;

/// What we want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Unix s (RFC 5280 §4.1.2.5).
    pub(super) validity: RangeInclusive<i64>,
    /// The first DNS name that stands for one host alone.
    pub(super) name: Option<String>,
}

/// Reads a DER certificate; `None` if it is none.
pub(super) fn read(certificate: &[u8]) -> Option<Facts> {
    let mut outer = Der(certificate);
    let mut signed = Der(outer.expect(SEQUENCE)?);
    let mut fields = Der(signed.expect(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    let (_serial, _algorithm, _issuer) = (fields.next()?, fields.next()?, fields.next()?);
    let mut validity = Der(fields.expect(SEQUENCE)?);
    let (begins, ends) = (validity.next()?, validity.next()?);
    Some(Facts { validity: time(begins)?..=time(ends)?, name: name(fields) })
}

/// The first name among what follows the validity.
fn name(mut fields: Der<'_>) -> Option<String> {
    let extensions = std::iter::from_fn(|| fields.next()).find(|field| field.0 == EXTENSIONS)?;
    let mut extensions = Der(Der(extensions.1).expect(SEQUENCE)?);
    let mut names = std::iter::from_fn(|| extensions.expect(SEQUENCE)).find_map(|extension| {
        let mut extension = Der(extension);
        let (_, identifier) = extension.next()?;
        let is_names = identifier == SUBJECT_ALT_NAME;
        // Whether it is critical may stand between the two.
        let content = std::iter::from_fn(|| extension.next()).find(|value| value.0 == OCTET_STRING && is_names)?;
        Some(Der(Der(content.1).expect(SEQUENCE)?))
    })?;
    let is_host = |name: &&[u8]| name.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'));
    let name =
        std::iter::from_fn(|| names.next()).filter(|name| name.0 == DNS_NAME).map(|name| name.1).find(is_host)?;
    String::from_utf8(name.to_vec()).ok()
}

/// A day such as `2026-12-31`.
pub(super) fn day(unix_s: i64) -> String {
    let (year, month, day) = date(unix_s.div_euclid(DAY_S));
    format!("{year}-{month:02}-{day:02}")
}

/// A moment of UTC such as `2026-12-31 23:59:59`; the beginning of time is now.
pub(super) fn moment(unix_s: i64) -> String {
    if unix_s <= 0 {
        return "now".to_owned();
    }
    let s = unix_s.rem_euclid(DAY_S);
    format!("{} {:02}:{:02}:{:02}", day(unix_s), s / 3_600, s / 60 % 60, s % 60)
}

/// What is left of a row of DER values (X.690 §8.1).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value: its tag and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            // A length of more than four bytes is of no certificate.
            let (bytes, behind) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(b, _)| b.len() <= 4)?;
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = behind;
        }
        let (content, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((tag, content))
    }

    /// The content of the next value, if it has that tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|value| value.0 == tag).map(|value| value.1)
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, unix s.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let mut digits = text.strip_suffix(b"Z")?;
    let mut two = || -> Option<i64> {
        let (pair, rest) = digits.split_at_checked(2)?;
        digits = rest;
        pair.iter().try_fold(0, |n, c| c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0')))
    };
    let year = match (tag, two()?) {
        (UTC_TIME, year) if year < 50 => 2000 + year,
        (UTC_TIME, year) => 1900 + year,
        (GENERALIZED_TIME, century) => century * 100 + two()?,
        _ => return None,
    };
    let (month, day) = (two()?, two()?);
    let (hours, minutes, seconds) = (two()?, two()?, two()?);
    let is_good = digits.is_empty() && (1..=12).contains(&month) && (1..=31).contains(&day);
    is_good.then(|| days(year, month, day) * DAY_S + hours * 3_600 + minutes * 60 + seconds)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March, so that a leap day is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date so many days after 1970-01-01: what [`days`] came from.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12 + 1;
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use rcgen::SanType;

    use super::*;

    #[test]
    fn times_of_both_kinds_are_read() {
        assert_eq!(time((UTC_TIME, b"700101000000Z")), Some(0));
        assert_eq!(time((UTC_TIME, b"491231235959Z")), Some(2_524_607_999));
        assert_eq!(time((UTC_TIME, b"500101000000Z")), Some(-631_152_000));
        assert_eq!(time((GENERALIZED_TIME, b"20240229120000Z")), Some(1_709_208_000));
        assert_eq!(time((GENERALIZED_TIME, b"99991231235959Z")), Some(253_402_300_799));
        for bad in ["", "Z", "7001010000Z", "700101000000", "70x101000000Z", "701301000000Z", "7001010000000Z"] {
            assert_eq!(time((UTC_TIME, bad.as_bytes())), None, "{bad}");
        }
        assert_eq!(time((0x0c, b"700101000000Z")), None);
    }

    #[test]
    fn every_day_is_its_own() {
        let (mut year, mut month, mut last) = (1949, 12, 31);
        for number in days(1950, 1, 1)..days(2110, 1, 1) {
            let (y, m, d) = date(number);
            assert_eq!(days(y, m, d), number);
            let follows = (y, m, d) == (year, month, last + 1) || d == 1 && ((y, m) == (year, month + 1) || m == 1);
            assert!(follows, "{y}-{m}-{d} after {year}-{month}-{last}");
            (year, month, last) = (y, m, d);
        }
        assert_eq!(day(1_709_208_000), "2024-02-29");
    }

    #[test]
    fn certificates_are_read_and_cut_anywhere_are_none() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 1, 1);
        let mut read_with = |names: &[&str]| {
            params.subject_alt_names = names
                .iter()
                .map(|name| match name.parse() {
                    Ok(address) => SanType::IpAddress(address),
                    Err(_) => SanType::DnsName((*name).try_into().expect("a name")),
                })
                .collect();
            let certificate = params.self_signed(&key).expect("a certificate");
            let der: &[u8] = certificate.der();
            assert!((0..der.len()).all(|end| read(&der[..end]).is_none()));
            let facts = read(der).expect("a certificate");
            assert_eq!(facts.validity, 1_582_934_400..=2_556_144_000);
            facts.name
        };
        assert_eq!(read_with(&[]), None);
        assert_eq!(read_with(&["203.0.113.7"]), None);
        assert_eq!(read_with(&["*.school.example"]), None);
        let names = ["203.0.113.7", "*.school.example", "turn.school.example", "other.example"];
        assert_eq!(read_with(&names), Some("turn.school.example".to_owned()));
    }
}
