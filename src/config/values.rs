//! How single values are read. Each error says what is expected.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::addresses::ADDRESSES_MAX;

pub(super) fn socket_address(value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| "expected an address and a port such as 0.0.0.0:3001 or [::]:3001".to_owned())
}

pub(super) fn port(value: &str) -> Result<u16, String> {
    value.trim().parse().map_err(|_| "expected a port between 0 and 65535".to_owned())
}

pub(super) fn truth(value: &str) -> Result<bool, String> {
    value.trim().parse().map_err(|_| "expected true or false".to_owned())
}

pub(super) fn number(value: &str, min: u64, max: u64) -> Result<u64, String> {
    value
        .trim()
        .parse()
        .ok()
        .filter(|n| (min..=max).contains(n))
        .ok_or_else(|| format!("expected a whole number between {min} and {max}"))
}

pub(super) fn addresses(values: &[String]) -> Result<Vec<IpAddr>, String> {
    if values.len() > ADDRESSES_MAX {
        return Err(format!("expected at most {ADDRESSES_MAX} addresses"));
    }
    let parsed: Result<Vec<IpAddr>, _> = values.iter().map(|v| v.parse::<IpAddr>()).collect();
    match parsed {
        Ok(list) if list.iter().all(|a| !a.is_unspecified() && !a.is_multicast()) => Ok(list),
        _ => Err("expected IP addresses at which browsers reach this machine, such as 203.0.113.7".to_owned()),
    }
}

/// A server by name or address, with its port.
pub(super) fn host_and_port(value: &str) -> Result<String, String> {
    let value = value.trim();
    let is_good = value
        .rsplit_once(':')
        .is_some_and(|(host, port)| super::turn::host(host).is_ok() && port.parse::<u16>().is_ok_and(|port| port > 0));
    is_good.then(|| value.to_owned()).ok_or_else(|| "expected a name and a port such as stun.example:3478".to_owned())
}

/// The origin of a URL as browsers write it: `scheme://host[:port]`, lower case, without path or default port.
pub(super) fn origin(value: &str) -> Result<String, String> {
    let expected = || "expected an origin such as https://school.example or http://10.0.0.5:8080".to_owned();
    let value = value.trim().to_ascii_lowercase();
    let (scheme, rest) = value.split_once("://").ok_or_else(expected)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return Err(expected()),
    };
    let uri: axum::http::uri::Authority = authority.parse().map_err(|_| expected())?;
    if uri.host().is_empty() || authority.contains('@') {
        return Err(expected());
    }
    Ok(format!("{scheme}://{}", authority.strip_suffix(default_port).unwrap_or(authority)))
}

pub(super) fn pem_file(value: &str) -> Result<Option<PathBuf>, String> {
    if value.contains("-----") {
        return Err("expected the path of a PEM file, not what stands in it".to_owned());
    }
    let path = Some(value).filter(|path| !path.is_empty()).map(PathBuf::from);
    path.map(Some).ok_or_else(|| "expected the path of a PEM file, such as /etc/lyceum/tls.pem".to_owned())
}

pub(super) fn log_level(value: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(value)
        .map(|_| value.to_owned())
        .map_err(|_| "expected error, warn, info, debug, trace or a filter such as info,lyceum=debug".to_owned())
}
