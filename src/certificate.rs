//! The DTLS certificate of this process.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SerialNumber, date_time_ymd,
};

use crate::error::Failure;

/// Bytes of the serial number; RFC 5280 §4.1.2.2 allows 20.
const SERIAL_BYTES: usize = 16;

/// A self-signed ECDSA P-256 certificate with a random serial: Firefox refuses a certificate whose issuer and serial it
/// has seen with another key. `unix_ms` places its validity: from the beginning of last year for three years.
pub(crate) fn generate(unix_ms: u64) -> Result<sfu::Certificate, Failure> {
    let broken = |error: rcgen::Error| Failure::Broken(format!("cannot make a DTLS certificate: {error}"));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(broken)?;
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "lyceum");
    params.distinguished_name = name;
    let mut serial: [u8; SERIAL_BYTES] = rand::random();
    // A serial is a positive integer without leading zero octets (RFC 5280 §4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let year = year(unix_ms);
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + 2, 1, 1);
    let certificate = params.self_signed(&key).map_err(broken)?;
    Ok(sfu::Certificate { certificate_der: certificate.der().to_vec(), private_key_der: key.serialize_der() })
}

/// The year of a wall-clock time, to within a day or so at its ends, which is all that a validity needs.
fn year(unix_ms: u64) -> i32 {
    const YEAR_MS: u64 = 31_556_952_000;
    1970 + i32::try_from(unix_ms / YEAR_MS).unwrap_or(i32::MAX).min(7_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_certificates_share_nothing() {
        let (a, b) = (generate(1_700_000_000_000), generate(1_700_000_000_000));
        let (a, b) = (a.expect("rcgen makes P-256 keys"), b.expect("rcgen makes P-256 keys"));
        assert_ne!(a.certificate_der, b.certificate_der);
        assert_ne!(a.private_key_der, b.private_key_der);
    }

    #[test]
    fn years_are_about_right() {
        assert_eq!(year(0), 1970);
        assert_eq!(year(1_700_000_000_000), 2023);
        assert_eq!(year(u64::MAX), 8970);
    }
}
