//! What the facts mean, and what mends what is wrong. Nothing here asks anybody.

use std::net::IpAddr;

use super::gather::{Facts, Local};
use super::standing::{Known, Served};
use super::turn::Tried;
use super::{Finding, State};
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
const HTTPS_PORT: u16 = 443;
/// What gives a certificate of files a new life.
const RENEW: &str = "sudo certbot renew --force-renewal   # or name other files: [tls] certificate and key";
/// What has a certificate of ours got anew.
const RENEW_OURS: &str =
    "sudo systemctl kill -s HUP lyceum   # asks for a new one at once; the log says what comes of it";
/// Whether Postgres takes connections.
const MEND_STORE: &str = "pg_isready -d \"$DATABASE_URL\"";
/// Tokens and TURN credentials are good for minutes: a clock that is further off refuses good ones.
const CLOCK_OFF_S_MAX: i64 = 30;

/// All findings, in the order in which they are mended.
pub(super) fn all(settings: &Settings, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![server(settings, facts)];
    findings.extend(machine(settings, &facts.local));
    findings.extend([public(facts), clock(facts)].into_iter().flatten());
    findings.extend(ports(facts));
    findings.extend(turn(settings, facts));
    findings.extend(school(settings, facts));
    findings.push(certificate(settings, facts));
    let more = [https(settings, facts), authority(settings, facts), held(facts), store(facts), jwks(settings, facts)];
    findings.extend(more.into_iter().flatten());
    findings
}

/// Findings about the machine alone.
pub(super) fn machine(settings: &Settings, local: &Local) -> Vec<Finding> {
    let mut findings = vec![address(settings, local)];
    findings.extend(buffers(local));
    findings.extend(disk(settings, local));
    findings
}

/// Findings about what a running server knows of itself. `now_s` is Unix s.
pub(super) fn running(settings: &Settings, known: &Known, now_s: i64) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        known.certificate.iter().map(|served| served_by(settings, served, now_s)).collect();
    if !known.is_recording {
        let dir = settings.store.dir.display();
        let says =
            "facts cannot be written down, because the disk is full or the journal is at its limit: nobody new gets in";
        findings.push(Finding::broken(
            JOURNAL,
            says,
            format!("df -h {dir}   # free some; or mend the database, if it is away: {MEND_STORE}"),
        ));
    }
    findings.extend((!known.has_database).then(|| store_away("it does not answer")));
    findings
}

/// Whether nobody should be sent to a server that runs because of this: calls there would fail, or nobody new gets in. What calls
/// survive, such as a database that is away, is no reason, nor what only makes them worse.
pub(super) fn bars(settings: &Settings, finding: &Finding) -> bool {
    let ends_calls = match finding.about {
        CERTIFICATE | DISK | JOURNAL => true,
        // Media at this machine alone is right where one tries it out, or says so.
        ADDRESS => settings.auth.is_required() && settings.addresses.is_empty(),
        _ => false,
    };
    ends_calls && finding.state == State::Broken
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

/// What findings are about that may bar a server.
const ADDRESS: &str = "address";
const CERTIFICATE: &str = "certificate";
const DISK: &str = "disk";
const JOURNAL: &str = "journal";

fn address(settings: &Settings, local: &Local) -> Finding {
    let offered = list(&local.offered);
    let far = local.offered.iter().any(|address| !is_near(*address));
    let mend = "Name the address that browsers reach: LYCEUM__MEDIA__ADDRESSES=203.0.113.7, or [media] addresses.";
    if local.offered.iter().all(IpAddr::is_loopback) {
        return Finding::broken(
            ADDRESS,
            format!("media is offered at {offered} alone, which only this machine reaches"),
            mend,
        );
    }
    if !far && settings.auth.is_required() {
        let says = format!("media is offered at {offered}: private addresses, which the internet does not reach");
        return Finding::doubtful(ADDRESS, says, mend);
    }
    Finding::well(ADDRESS, format!("media is offered at {offered}"))
}

/// What others say of our address against what browsers are told.
fn public(facts: &Facts) -> Option<Finding> {
    let offered = &facts.local.offered;
    let by_stun = facts.stun.as_ref().and_then(|seen| seen.as_ref().ok().copied());
    let (public, who) = match (facts.public, by_stun) {
        (Some(cloud), Some(seen)) if cloud != seen => {
            let says = format!(
                "the cloud gave this machine {cloud}, but others see it as {seen} ([media] stun): which one do browsers reach?"
            );
            let mend = format!("LYCEUM__MEDIA__ADDRESSES={cloud},{seen}   # both, until you know");
            return Some(Finding::doubtful("public", says, mend));
        }
        (Some(cloud), _) => (cloud, "the cloud gave this machine"),
        (None, Some(seen)) => (seen, "[media] stun sees"),
        (None, None) => {
            let why = facts.stun.as_ref()?.as_ref().err()?;
            let mend =
                "[media] stun names another, or none; or name the address itself: LYCEUM__MEDIA__ADDRESSES=203.0.113.7";
            return Some(Finding::doubtful("public", format!("[media] stun says nothing: {why}"), mend));
        }
    };
    if offered.contains(&public) {
        return Some(Finding::well("public", format!("{who} {public}, which is offered")));
    }
    let says = format!("{who} {public}, but media is offered at {}", list(offered));
    Some(Finding::broken("public", says, format!("LYCEUM__MEDIA__ADDRESSES={public}")))
}

fn clock(facts: &Facts) -> Option<Finding> {
    let (off_s, whose) = facts.clock_off_s.as_ref()?;
    if off_s.abs() <= CLOCK_OFF_S_MAX {
        return Some(Finding::well("clock", format!("it agrees with {whose}")));
    }
    let side = if *off_s > 0 { "ahead of" } else { "behind" };
    let says = format!("it is {} s {side} {whose}: tokens and TURN credentials are good for minutes", off_s.abs());
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
        return Some(Finding::broken(DISK, format!("{dir} ([store] dir) cannot be written: {error}"), mend));
    }
    let Some(free) = local.free else { return Some(Finding::well(DISK, format!("{dir} can be written"))) };
    let mib = free >> 20;
    if free >= FREE_BYTES_MIN {
        return Some(Finding::well(DISK, format!("{dir} can be written and has {mib} MiB free")));
    }
    let says = format!("{dir} has {mib} MiB free; when the disk is full nobody new gets in");
    Some(Finding::doubtful(DISK, says, format!("Free some, or give it a disk of its own: df -h {dir}")))
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
    let judged = |tried: &Tried| {
        let Tried { way, at, is_allocated, seen, .. } = tried;
        match seen {
            Ok(seen) if *is_allocated => {
                Finding::well("turn", format!("an allocation over {way} at {at}, which sees us as {}", seen.ip()))
            }
            Ok(seen) => Finding::well("turn", format!("it answers at {at} over {way}, and sees us as {}", seen.ip())),
            Err(error) => {
                let says = format!("it is of no use at {at} over {way}, where browsers are told to ask: {error}");
                let mend = match tls_mend(settings, error) {
                    Some(mend) => mend,
                    None => format!(
                        "{}\nIf the address is not this machine's: LYCEUM__MEDIA__ADDRESSES and LYCEUM__TURN__HOST name the right one",
                        firewall(settings)
                    ),
                };
                Finding::broken("turn", says, mend)
            }
        }
    };
    facts.turn.iter().map(judged).collect()
}

/// Networks of schools often let nothing but port 443 through, and look whether it is TLS.
fn school(settings: &Settings, facts: &Facts) -> Option<Finding> {
    let mut secure = facts.turn.iter().filter(|tried| tried.way == "TLS" && tried.seen.is_ok());
    if secure.clone().any(|tried| tried.port == HTTPS_PORT) {
        return Some(Finding::well(
            "school",
            "TURN over TLS on 443 is proven: networks that let nothing else through will do",
        ));
    }
    // Who has no certificate is told so; who serves no strangers needs none.
    if !settings.has_certificate() || !settings.has_turn_server() || !settings.auth.is_required() {
        return None;
    }
    let at = secure.next().map_or_else(|| "is not proven".to_owned(), |tried| format!("is at port {}", tried.port));
    let says = format!("TURN over TLS {at}; networks of schools often let nothing but port 443 through");
    Some(Finding::doubtful(
        "school",
        says,
        "LYCEUM__TLS__LISTEN=0.0.0.0:443   # or [tls] listen: pages and TURN share the port",
    ))
}

/// What mends a handshake that failed, if it is one.
fn tls_mend(settings: &Settings, error: &str) -> Option<String> {
    let renew = if settings.acme.domains.is_empty() { RENEW } else { RENEW_OURS };
    let expired = error.contains("Expired") || error.contains("expired");
    if expired {
        return Some(renew.to_owned());
    }
    if error.contains("NotValidForName") || error.contains("not valid for name") {
        return Some("LYCEUM__TURN__HOST names a host of the certificate; or get one for all names: [tls] certificate, or acme_domains".to_owned());
    }
    if error.contains("UnknownIssuer") {
        return Some("Put the chain behind the certificate ([tls] certificate = fullchain.pem, not cert.pem); browsers do not believe an authority of your own".to_owned());
    }
    None
}

/// TLS by the name that browsers use.
fn https(settings: &Settings, facts: &Facts) -> Option<Finding> {
    let (at, shown) = facts.https.as_ref()?;
    Some(match shown {
        Ok(_) => Finding::well("https", format!("the handshake at {at} is believed")),
        Err(error) => {
            let (name, _) = at.rsplit_once(':').unwrap_or((at, ""));
            let mend = tls_mend(settings, error).unwrap_or_else(|| {
                format!("dig +short {name}   # it must be an address of this machine\n{}", firewall(settings))
            });
            Finding::broken("https", format!("nobody gets pages at {at}: {error}"), mend)
        }
    })
}

/// Who gives us certificates.
fn authority(settings: &Settings, facts: &Facts) -> Option<Finding> {
    let at = crate::config::site(&settings.acme.directory);
    Some(match facts.authority.as_ref()? {
        Ok(()) => Finding::well("authority", format!("{at} can be asked for certificates")),
        Err(why) => {
            let says = format!("{at} cannot be asked for certificates: {why}");
            Finding::broken(
                "authority",
                says,
                format!("curl -sS {at}   # [tls] acme_directory: what does it say from here?"),
            )
        }
    })
}

/// A WebSocket through the public URL.
fn held(facts: &Facts) -> Option<Finding> {
    Some(match facts.held.as_ref()? {
        Ok(()) => Finding::well("websocket", "it was held through the public URL as long as it was to be"),
        Err(why) => Finding::broken(
            "websocket",
            format!("through the public URL: {why}"),
            "gcloud compute backend-services update NAME --global --timeout=86400\nnginx: proxy_read_timeout 86400s; proxy_http_version 1.1; and Upgrade and Connection passed on",
        ),
    })
}

fn certificate(settings: &Settings, facts: &Facts) -> Finding {
    match &facts.certificate {
        None if settings.auth.is_required() => Finding::doubtful(
            CERTIFICATE,
            "there is none: browsers give a camera only to https:// and localhost, and networks that let little through need TURN over TLS",
            "Set [tls] certificate, key and listen = \"0.0.0.0:443\"; or put a proxy with TLS before it.",
        ),
        None => Finding::well(CERTIFICATE, "there is none, which is enough for this machine"),
        Some(Err(why)) => Finding::broken(CERTIFICATE, why.clone(), RENEW),
        Some(Ok((ends_s, name))) => {
            let served = Served { ends_s: *ends_s, name: name.clone(), trouble: None };
            served_by(settings, &served, facts.local.now_s)
        }
    }
}

/// A certificate by its life, `now_s` being Unix s.
fn served_by(settings: &Settings, served: &Served, now_s: i64) -> Finding {
    let Served { ends_s, name, trouble } = served;
    let is_ours = !settings.acme.domains.is_empty();
    let why = trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let days = (ends_s - now_s).div_euclid(DAY_S);
    let renew = if is_ours { RENEW_OURS } else { RENEW };
    if *ends_s == 0 {
        let why = if why.is_empty() { ": it is being asked for" } else { &why };
        let mend = format!(
            "journalctl -u lyceum | grep 'cannot get a certificate'   # what the authority says; it asks at port 443\n{}",
            firewall(settings)
        );
        return Finding::broken(
            CERTIFICATE,
            format!("there is none yet for {}{why}", name.as_deref().unwrap_or("us")),
            mend,
        );
    }
    let name = name.as_deref().unwrap_or("addresses alone");
    if days < 0 {
        return Finding::broken(CERTIFICATE, format!("that for {name} has expired{why}"), renew);
    }
    if days < CERTIFICATE_DAYS_MIN {
        return Finding::doubtful(CERTIFICATE, format!("that for {name} expires in {days} days{why}"), renew);
    }
    if !why.is_empty() {
        return Finding::doubtful(
            CERTIFICATE,
            format!("that for {name} is good for {days} days, but its successor is not taken{why}"),
            renew,
        );
    }
    Finding::well(CERTIFICATE, format!("that for {name} is good for {days} days"))
}

fn store(facts: &Facts) -> Option<Finding> {
    Some(match facts.store.as_ref()? {
        Ok(Tables::Current) => Finding::well("database", "it answers, and its tables are up to date"),
        Ok(Tables::Older) => Finding::well("database", "it answers; the next start brings its tables up to date"),
        Ok(Tables::None) => Finding::well("database", "it answers; the first start makes its tables"),
        Ok(Tables::NoFile) => Finding::well("database", "there is no file yet; the first start makes it"),
        Err(why) => store_away(why),
    })
}

fn store_away(why: &str) -> Finding {
    let mend = format!("Check DATABASE_URL ([store] url), and whether this machine may connect: {MEND_STORE}");
    Finding::broken("database", format!("{why}; calls go on without it, facts wait in the journal"), mend)
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
