//! What a URL leads to, read strictly: other readers of odd URLs must not come to another host than we do.

use std::net::IpAddr;

use axum::http::Uri;
use turn_server::{Prefix, is_special};

use super::{CallFailed, failed};

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 2_048;

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) is_tls: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// For the Host header.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, CallFailed> {
        let bad = |why: &str| failed("url", format!("The URL {why}"));
        if url.len() > URL_BYTES_MAX {
            return Err(bad("is too long."));
        }
        let uri: Uri = url.parse().map_err(|_| bad("cannot be read."))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("must begin with https:// or http://.")),
        };
        let authority = uri.authority().ok_or_else(|| bad("names no host."))?;
        if authority.as_str().contains(['@', '%', '\\']) {
            return Err(bad("must hold no user name, password or zone."));
        }
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_address = match bare {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.parse::<std::net::Ipv4Addr>().is_ok(),
        };
        if !is_address && (bare.is_some() || !is_name(host)) {
            return Err(bad("must name its host by a name or by an address in the usual form."));
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // What stands there cannot be read as one; other readers might take it modulo 65536.
            None if authority.as_str() != host => return Err(bad("has no port between 1 and 65535 behind the colon.")),
            None => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Target {
            is_tls,
            host: bare.unwrap_or(host).to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        })
    }
}

/// A name as DNS has them, whose last label is no number: what begins as a number is an IPv4 address to some, in forms that
/// others read otherwise (`2130706433`, `0x7f.1`, `127.1`).
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(is_label) && !last.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether an address may be reached by a URL that a stranger gave.
pub(super) fn is_public(ip: IpAddr, allow: &[Prefix]) -> bool {
    !is_special(ip) || allow.iter().any(|prefix| prefix.contains(ip))
}
