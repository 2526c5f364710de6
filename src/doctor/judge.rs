//! What the facts mean, and what mends what is wrong. Nothing here asks anybody.

use std::net::IpAddr;

use super::Finding;
use super::gather::{Facts, Local};
use crate::addresses::is_near;
use crate::config::Settings;
use crate::store::Tables;

/// What a worker asks the kernel for, bytes of each socket's buffer: a second of media of a small call.
const BUFFER_BYTES: u64 = 4 * 1024 * 1024;
/// What the journal, the database and a log of some days need, bytes.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// A certificate is renewed well before so many days are left.
const CERTIFICATE_DAYS_MIN: i64 = 14;
const DAY_S: i64 = 86_400;
/// Tokens and TURN credentials are good for minutes: a clock that is further off refuses good ones.
const CLOCK_OFF_S_MAX: i64 = 30;

/// All findings, in the order in which they are mended.
pub(super) fn all(settings: &Settings, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![server(settings, facts)];
    findings.extend(machine(settings, &facts.local));
    findings.extend([public(facts), clock(facts)].into_iter().flatten());
    findings.extend(ports(facts));
    findings.extend(turn(settings, facts));
    findings.push(certificate(settings, facts));
    findings.extend([store(facts), jwks(settings, facts)].into_iter().flatten());
    findings
}

/// Findings about the machine alone.
pub(super) fn machine(settings: &Settings, local: &Local) -> Vec<Finding> {
    let mut findings = vec![address(settings, local)];
    findings.extend(buffers(local));
    findings.extend(disk(settings, local));
    findings
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn server(settings: &Settings, facts: &Facts) -> Finding {
    let at = settings.admin_listen;
    if facts.is_running {
        Finding::well("server", format!("it runs and answers at {at}"))
    } else {
        let mend = "Start it and run this again: only a running server can be asked for TURN.";
        Finding::doubtful("server", format!("nobody answers at {at}, so its ports are looked at instead"), mend)
    }
}

fn address(settings: &Settings, local: &Local) -> Finding {
    let offered = list(&local.offered);
    let far = local.offered.iter().any(|address| !is_near(*address));
    let mend = "Name the address that browsers reach: LYCEUM__MEDIA__ADDRESSES=203.0.113.7, or [media] addresses.";
    if local.offered.iter().all(IpAddr::is_loopback) {
        return Finding::broken(
            "address",
            format!("media is offered at {offered} alone, which only this machine reaches"),
            mend,
        );
    }
    if !far && settings.auth.is_required() {
        let says = format!("media is offered at {offered}: private addresses, which the internet does not reach");
        return Finding::doubtful("address", says, mend);
    }
    Finding::well("address", format!("media is offered at {offered}"))
}

/// What the cloud says against what browsers are told.
fn public(facts: &Facts) -> Option<Finding> {
    let public = facts.public?;
    if facts.local.offered.contains(&public) {
        return Some(Finding::well("public", format!("{public}, which the cloud gave this machine, is offered")));
    }
    let says = format!("the cloud gave this machine {public}, but media is offered at {}", list(&facts.local.offered));
    Some(Finding::broken("public", says, format!("LYCEUM__MEDIA__ADDRESSES={public}")))
}

fn clock(facts: &Facts) -> Option<Finding> {
    let off = facts.clock_off_s?;
    if off.abs() <= CLOCK_OFF_S_MAX {
        return Some(Finding::well("clock", "it agrees with the cloud's"));
    }
    let side = if off > 0 { "ahead" } else { "behind" };
    let says = format!("it is {} s {side}: tokens and TURN credentials are good for minutes", off.abs());
    Some(Finding::broken("clock", says, "sudo apt-get install -y chrony && sudo chronyc makestep"))
}

fn buffers(local: &Local) -> Option<Finding> {
    let [Some(read), Some(write)] = local.buffers else { return None };
    if read.min(write) >= BUFFER_BYTES {
        return Some(Finding::well("buffers", format!("UDP buffers may have {BUFFER_BYTES} bytes")));
    }
    let says = format!(
        "the kernel gives UDP sockets at most {read} bytes to receive and {write} to send; bursts of more are lost"
    );
    let line = format!("net.core.rmem_max={BUFFER_BYTES} net.core.wmem_max={BUFFER_BYTES}");
    let mend = format!("sudo sysctl -w {line}\nTo keep it: put both, a line each, into /etc/sysctl.d/60-lyceum.conf");
    Some(Finding::doubtful("buffers", says, mend))
}

fn disk(settings: &Settings, local: &Local) -> Option<Finding> {
    let dir = settings.store.dir.display();
    if let Err(error) = local.disk.as_ref()? {
        let mend = format!(
            "sudo install -d -o $(id -u) -g $(id -g) {dir}\nor name another: LYCEUM__STORE__DIR=/var/lib/lyceum"
        );
        return Some(Finding::broken("disk", format!("{dir} ([store] dir) cannot be written: {error}"), mend));
    }
    let Some(free) = local.free else { return Some(Finding::well("disk", format!("{dir} can be written"))) };
    let mib = free >> 20;
    if free >= FREE_BYTES_MIN {
        return Some(Finding::well("disk", format!("{dir} can be written and has {mib} MiB free")));
    }
    let says = format!("{dir} has {mib} MiB free; when the disk is full nobody new gets in");
    Some(Finding::doubtful("disk", says, format!("Free some, or give it a disk of its own: df -h {dir}")))
}

fn ports(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts
        .ports
        .iter()
        .filter_map(|(way, at, free)| {
            let error = free.as_ref().err()?;
            let (flags, port) = (if *way == "UDP" { "-ulpn" } else { "-tlpn" }, at.port());
            let mend = format!("sudo ss {flags} 'sport = :{port}'   # who has it");
            Some(Finding::broken("ports", format!("{way} {at} cannot be taken: {error}"), mend))
        })
        .collect();
    if findings.is_empty() && !facts.ports.is_empty() {
        findings.push(Finding::well("ports", format!("all {} are free", facts.ports.len())));
    }
    findings
}

/// The firewall's opening for these settings.
pub(super) fn firewall(settings: &Settings) -> String {
    let last = settings.media_port.saturating_add(u16::try_from(settings.workers).unwrap_or(1).saturating_sub(1));
    let media = if last > settings.media_port { format!("{}-{last}", settings.media_port) } else { last.to_string() };
    let mut allow = vec![format!("tcp:{}", settings.http_listen.port())];
    allow.extend(settings.tls_listen.map(|listen| format!("tcp:{}", listen.port())));
    allow.extend([format!("udp:{media}"), format!("tcp:{media}")]);
    if settings.has_turn_server() {
        allow.extend([format!("udp:{}", settings.turn.port), format!("tcp:{}", settings.turn.port)]);
        if settings.has_certificate() {
            allow.push(format!("tcp:{}", settings.turn.tls_port));
        }
    }
    format!(
        "gcloud compute firewall-rules create lyceum --direction=INGRESS --source-ranges=0.0.0.0/0 --allow={}",
        allow.join(",")
    )
}

fn turn(settings: &Settings, facts: &Facts) -> Vec<Finding> {
    let judged = |(way, at, seen): &(&'static str, std::net::SocketAddr, Result<std::net::SocketAddr, String>)| {
        match seen {
            Ok(seen) => Finding::well("turn", format!("it answers at {at} over {way}, and sees us as {}", seen.ip())),
            Err(error) => {
                let says = format!("it does not answer at {at} over {way}, where browsers are told to ask: {error}");
                let mend = format!(
                    "{}\nIf the address is not this machine's: LYCEUM__MEDIA__ADDRESSES and LYCEUM__TURN__HOST name the right one",
                    firewall(settings)
                );
                Finding::broken("turn", says, mend)
            }
        }
    };
    facts.turn.iter().map(judged).collect()
}

fn certificate(settings: &Settings, facts: &Facts) -> Finding {
    let renew = "sudo certbot renew --force-renewal   # or name other files: [tls] certificate and key";
    match &facts.certificate {
        None if settings.auth.is_required() => Finding::doubtful(
            "certificate",
            "there is none: browsers give a camera only to https:// and localhost, and networks that let little through need TURN over TLS",
            "Set [tls] certificate, key and listen = \"0.0.0.0:443\"; or put a proxy with TLS before it.",
        ),
        None => Finding::well("certificate", "there is none, which is enough for this machine"),
        Some(Err(why)) => Finding::broken("certificate", why.clone(), renew),
        Some(Ok((ends_s, name))) => {
            let days = (ends_s - facts.local.now_s).div_euclid(DAY_S);
            let name = name.as_deref().unwrap_or("addresses alone");
            if days < 0 {
                return Finding::broken("certificate", format!("that for {name} has expired"), renew);
            }
            if days < CERTIFICATE_DAYS_MIN {
                return Finding::doubtful("certificate", format!("that for {name} expires in {days} days"), renew);
            }
            Finding::well("certificate", format!("that for {name} is good for {days} days"))
        }
    }
}

fn store(facts: &Facts) -> Option<Finding> {
    Some(match facts.store.as_ref()? {
        Ok(Tables::Current) => Finding::well("database", "it answers, and its tables are up to date"),
        Ok(Tables::Older) => Finding::well("database", "it answers; the next start brings its tables up to date"),
        Ok(Tables::None) => Finding::well("database", "it answers; the first start makes its tables"),
        Ok(Tables::NoFile) => Finding::well("database", "there is no file yet; the first start makes it"),
        Err(why) => Finding::broken(
            "database",
            format!("{why}; calls go on without it, facts wait in the journal"),
            "Check DATABASE_URL ([store] url), and whether this machine may connect: pg_isready -d \"$DATABASE_URL\"",
        ),
    })
}

fn jwks(settings: &Settings, facts: &Facts) -> Option<Finding> {
    let at = crate::config::site(&settings.auth.jwks_url);
    Some(match facts.jwks.as_ref()? {
        Ok(()) => Finding::well("key set", format!("it can be fetched from {at}")),
        Err(why) => {
            let says = format!("it cannot be fetched from {at}: {why}; users' tokens cannot be believed");
            Finding::broken(
                "key set",
                says,
                "curl -sS \"$SUPABASE_JWKS_URL\"   # or [auth] jwks_url: what does it say from here?",
            )
        }
    })
}
