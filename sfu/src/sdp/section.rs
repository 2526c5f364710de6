//! The lines of one m-line, as slices of the text, and how they become a [`Media`].

use super::codec::{Codec, CodecName, Feedback};
use super::parse::{Result, refused, unexpected};
use super::{
    CODECS_MAX, Direction, Extension, FMTP_BYTES_MAX, ICE_BYTES_MAX, MSID_BYTES_MAX, Media, MediaKind, Mid,
    RID_BYTES_MAX, RIDS_MAX, Rid, SSRCS_MAX, Setup,
};

/// The attributes that an m-line may have from the session or, if bundled, from the first m-line of its group.
#[derive(Default)]
pub(super) struct Shared<'a> {
    ice_ufrag: Option<&'a str>,
    ice_pwd: Option<&'a str>,
    fingerprint: Option<[u8; 32]>,
    setup: Option<Setup>,
    direction: Option<Direction>,
    rtcp_mux: bool,
    mixed: bool,
}

impl<'a> Shared<'a> {
    /// Takes an attribute if it is one of these.
    pub(super) fn attribute(&mut self, name: &str, value: &'a str) -> Result<()> {
        match name {
            "ice-ufrag" => self.ice_ufrag = Some(ice_word(value, 4, |byte| byte != b':')?),
            "ice-pwd" => self.ice_pwd = Some(ice_word(value, 22, |_| true)?),
            "fingerprint" => self.fingerprint(value)?,
            "setup" => {
                self.setup = match value {
                    "actpass" => Some(Setup::ActPass),
                    "active" => Some(Setup::Active),
                    "passive" => Some(Setup::Passive),
                    other => return unexpected("setup actpass, active or passive", other),
                }
            }
            "sendrecv" => self.direction = Some(Direction::SendRecv),
            "sendonly" => self.direction = Some(Direction::SendOnly),
            "recvonly" => self.direction = Some(Direction::RecvOnly),
            "inactive" => self.direction = Some(Direction::Inactive),
            "rtcp-mux" => self.rtcp_mux = true,
            "extmap-allow-mixed" => self.mixed = true,
            _ => {}
        }
        Ok(())
    }

    /// RFC 8122 §5. Several hashes of one certificate are fine; a choice of certificates is not.
    fn fingerprint(&mut self, value: &str) -> Result<()> {
        let Some((hash, digits)) = value.split_once(' ') else {
            return unexpected("a hash and its bytes", value);
        };
        if !hash.eq_ignore_ascii_case("sha-256") {
            return Ok(());
        }
        let mut bytes = [0; 32];
        let mut count = 0;
        for pair in digits.trim().split(':') {
            let hexadecimal = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            match (bytes.get_mut(count), u8::from_str_radix(pair, 16)) {
                (Some(byte), Ok(value)) if hexadecimal => *byte = value,
                _ => return unexpected("32 bytes of SHA-256", digits),
            }
            count += 1;
        }
        if count != bytes.len() {
            return unexpected("32 bytes of SHA-256", digits);
        }
        if self.fingerprint.is_some_and(|other| other != bytes) {
            return refused("expected one certificate, got two SHA-256 fingerprints");
        }
        self.fingerprint = Some(bytes);
        Ok(())
    }
}

/// An ICE ufrag or password. RFC 8839 allows letters, digits, `+` and `/`; some agents use more of the visible characters.
fn ice_word(value: &str, bytes_min: usize, allowed: fn(u8) -> bool) -> Result<&str> {
    let visible = value.bytes().all(|byte| byte.is_ascii_graphic() && allowed(byte));
    if !visible || !(bytes_min..=ICE_BYTES_MAX).contains(&value.len()) {
        return unexpected(&format!("{bytes_min} to {ICE_BYTES_MAX} ice-chars"), value);
    }
    Ok(value)
}

/// One payload type of an m-line as its lines describe it.
struct Format<'a> {
    payload_type: u8,
    map: Option<&'a str>,
    fmtp: Option<&'a str>,
    feedback: Feedback,
}

impl Format<'_> {
    /// Name, clock rate and channels of the rtpmap.
    fn encoding(&self) -> Option<(&str, u32, u8)> {
        let mut parts = self.map?.trim().split('/');
        let (name, clock_rate) = (parts.next()?, parts.next()?.parse().ok()?);
        let channels = parts.next().map_or(Some(1), |channels| channels.parse().ok())?;
        Some((name, clock_rate, channels))
    }

    /// The payload type that this one retransmits (RFC 4588 §8.1), if it is an RTX.
    fn retransmits(&self) -> Option<u8> {
        let (name, _, _) = self.encoding()?;
        let apt = || self.fmtp?.split(';').find_map(|pair| pair.trim().strip_prefix("apt="))?.trim().parse().ok();
        name.eq_ignore_ascii_case("rtx").then(apt).flatten()
    }

    fn codec(&self, formats: &[Format<'_>], wildcard: Feedback) -> Option<Codec> {
        let (name, clock_rate, channels) = self.encoding()?;
        let rtx =
            formats.iter().find(|format| format.retransmits() == Some(self.payload_type) && format.is_unmistakable());
        self.is_unmistakable().then_some(Codec {
            payload_type: self.payload_type,
            name: CodecName::from_encoding(name)?,
            clock_rate,
            channels,
            fmtp: self.fmtp.unwrap_or_default().trim().into(),
            feedback: self.feedback.union(wildcard),
            rtx: rtx.map(|format| format.payload_type),
        })
    }

    /// RFC 5761 §4: behind rtcp-mux, 64 to 95 look like RTCP.
    fn is_unmistakable(&self) -> bool {
        !(64..=95).contains(&self.payload_type)
    }
}

/// An m-line and the lines below it.
pub(super) struct Section<'a> {
    kind: MediaKind,
    port_zero: bool,
    bundle_only: bool,
    pub(super) mid: Option<Mid>,
    pub(super) shared: Shared<'a>,
    formats: Vec<Format<'a>>,
    feedback_of_all: Feedback,
    extensions: Vec<(u8, Extension)>,
    msid: Option<(&'a str, &'a str)>,
    ssrcs: Vec<u32>,
    groups: Vec<(&'a str, Vec<u32>)>,
    rids: Vec<&'a str>,
    /// Each with its alternatives, as they were written.
    simulcast: Vec<&'a str>,
    sctp_port: Option<u16>,
    message_bytes_max: Option<u64>,
}

impl<'a> Section<'a> {
    /// `<media> <port> <proto> <fmt> ...` (RFC 8866 §5.14).
    pub(super) fn new(value: &'a str) -> Result<Section<'a>> {
        let mut words = value.split_ascii_whitespace();
        let (media, port, proto) = (words.next(), words.next(), words.next());
        let kind = match media {
            Some("audio") => MediaKind::Audio,
            Some("video") => MediaKind::Video,
            Some("application") => MediaKind::Application,
            _ => return unexpected("m=audio, m=video or m=application", value),
        };
        let Some(port) = port.and_then(|port| port.parse::<u16>().ok()) else {
            return unexpected("a port", value);
        };
        let is_rtp = kind != MediaKind::Application;
        if is_rtp && port != 0 && proto != Some("UDP/TLS/RTP/SAVPF") {
            return unexpected("UDP/TLS/RTP/SAVPF", value);
        }
        let mut formats: Vec<Format<'a>> = Vec::new();
        for word in words.filter(|_| is_rtp) {
            let payload_type = payload_type(word)?;
            if formats.len() == CODECS_MAX {
                return refused(format!("expected at most {CODECS_MAX} formats"));
            }
            if formats.iter().any(|format| format.payload_type == payload_type) {
                return unexpected("each payload type once", word);
            }
            formats.push(Format { payload_type, map: None, fmtp: None, feedback: Feedback::default() });
        }
        Ok(Section {
            kind,
            port_zero: port == 0,
            bundle_only: false,
            mid: None,
            shared: Shared::default(),
            formats,
            feedback_of_all: Feedback::default(),
            extensions: Vec::new(),
            msid: None,
            ssrcs: Vec::new(),
            groups: Vec::new(),
            rids: Vec::new(),
            simulcast: Vec::new(),
            sctp_port: None,
            message_bytes_max: None,
        })
    }

    pub(super) fn attribute(&mut self, name: &str, value: &'a str) -> Result<()> {
        match name {
            "bundle-only" => self.bundle_only = true,
            "mid" => {
                let Some(mid) = Mid::new(value) else { return unexpected("a mid of 1 to 16 token characters", value) };
                if self.mid.is_some_and(|other| other != mid) {
                    return unexpected("one mid for an m-line", value);
                }
                self.mid = Some(mid);
            }
            "rtpmap" => {
                if let Some((format, map)) = self.format(value)? {
                    if format.map.is_some_and(|other| !other.eq_ignore_ascii_case(map)) {
                        return unexpected("one codec for a payload type", value);
                    }
                    format.map = Some(map);
                }
            }
            "fmtp" => {
                if let Some((format, fmtp)) = self.format(value)? {
                    if fmtp.len() > FMTP_BYTES_MAX {
                        return unexpected(&format!("at most {FMTP_BYTES_MAX} bytes of fmtp"), value);
                    }
                    format.fmtp = format.fmtp.or(Some(fmtp));
                }
            }
            "rtcp-fb" => {
                if let Some(feedback) = value.strip_prefix("* ") {
                    self.feedback_of_all = self.feedback_of_all.union(Feedback::from_value(feedback));
                } else if let Some((format, feedback)) = self.format(value)? {
                    format.feedback = format.feedback.union(Feedback::from_value(feedback));
                }
            }
            "extmap" => self.extension(value)?,
            "msid" => self.msid = self.msid.or(msid(value)),
            "ssrc" => self.ssrc(value)?,
            "ssrc-group" => self.ssrc_group(value)?,
            "rid" => self.rid(value)?,
            "simulcast" => self.simulcast(value),
            "sctp-port" => {
                let Ok(port) = value.parse() else { return unexpected("an SCTP port", value) };
                self.sctp_port = Some(port);
            }
            "max-message-size" => {
                if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                    return unexpected("a size in bytes", value);
                }
                // What is too large for a number is as good as any size.
                self.message_bytes_max = Some(value.parse().unwrap_or(u64::MAX));
            }
            _ => return self.shared.attribute(name, value),
        }
        Ok(())
    }

    /// The format that `<payload type> <rest>` speaks of, and the rest. `None` if the m-line does not list it.
    fn format(&mut self, value: &'a str) -> Result<Option<(&mut Format<'a>, &'a str)>> {
        if self.kind == MediaKind::Application {
            return Ok(None);
        }
        let Some((word, rest)) = value.split_once(' ') else {
            return unexpected("a payload type and what it means", value);
        };
        let payload_type = payload_type(word)?;
        Ok(self.formats.iter_mut().find(|format| format.payload_type == payload_type).map(|format| (format, rest)))
    }

    /// `<id>[/<direction>] <uri> [<attributes>]` (RFC 8285 §8).
    fn extension(&mut self, value: &str) -> Result<()> {
        let mut words = value.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else {
            return unexpected("an extension's id and URI", value);
        };
        let id = id.split_once('/').map_or(id, |(id, _)| id);
        let Ok(id) = id.parse::<u16>() else { return unexpected("an extension's id", value) };
        // 4096 and up stand for "any id": an offer of many may hold them, and nothing can be sent with them.
        let (Ok(id @ 1..), Some(extension)) = (u8::try_from(id), Extension::from_uri(uri)) else { return Ok(()) };
        match self.extensions.iter().find(|(other_id, other)| *other_id == id || *other == extension) {
            Some(&(other_id, other)) if other_id == id && other != extension => {
                unexpected("one extension for an id", value)
            }
            Some(_) => Ok(()),
            None => {
                self.extensions.push((id, extension));
                Ok(())
            }
        }
    }

    fn ssrc(&mut self, value: &str) -> Result<()> {
        let word = value.split(' ').next().unwrap_or_default();
        let Ok(ssrc) = word.parse() else { return unexpected("an SSRC", value) };
        if !self.ssrcs.contains(&ssrc) {
            if self.ssrcs.len() == SSRCS_MAX {
                return refused(format!("expected at most {SSRCS_MAX} SSRCs on an m-line"));
            }
            self.ssrcs.push(ssrc);
        }
        Ok(())
    }

    /// `<semantics> <ssrc> ...` (RFC 5576 §4.2).
    fn ssrc_group(&mut self, value: &'a str) -> Result<()> {
        let mut words = value.split_ascii_whitespace();
        let semantics = words.next().unwrap_or_default();
        if self.groups.len() == SSRCS_MAX {
            return refused(format!("expected at most {SSRCS_MAX} SSRC groups on an m-line"));
        }
        let mut members = Vec::new();
        for word in words {
            let Ok(ssrc) = word.parse() else { return unexpected("an SSRC", word) };
            if members.len() == SSRCS_MAX {
                return refused(format!("expected at most {SSRCS_MAX} SSRCs in a group"));
            }
            members.push(ssrc);
        }
        self.groups.push((semantics, members));
        Ok(())
    }

    /// `<rid> send|recv [<restrictions>]` (RFC 8851 §4); what the client would receive is no news to a sender of one layer.
    fn rid(&mut self, value: &'a str) -> Result<()> {
        let mut words = value.split_ascii_whitespace();
        let (Some(rid), Some(direction)) = (words.next(), words.next()) else {
            return unexpected("a RID and a direction", value);
        };
        let is_rid_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if rid.is_empty() || rid.len() > RID_BYTES_MAX || !rid.bytes().all(is_rid_byte) {
            return unexpected("a RID of 1 to 16 letters and digits", value);
        }
        if direction == "send" && !self.rids.contains(&rid) {
            if self.rids.len() == RIDS_MAX {
                return refused(format!("expected at most {RIDS_MAX} RIDs on an m-line"));
            }
            self.rids.push(rid);
        }
        Ok(())
    }

    /// `send <layers> [recv <layers>]` (RFC 8853 §5.1), layers divided by `;`.
    fn simulcast(&mut self, value: &'a str) {
        let mut words = value.split_ascii_whitespace();
        while let (Some(direction), Some(layers)) = (words.next(), words.next()) {
            if direction == "send" {
                self.simulcast = layers.split(';').take(RIDS_MAX).collect();
            }
        }
    }

    pub(super) fn is_rejected(&self) -> bool {
        self.port_zero && !self.bundle_only
    }

    /// The layers of `a=simulcast` that have an `a=rid`, alternatives divided by `,`, `~` for paused.
    fn send_rids(&self) -> Vec<Rid> {
        let mut rids: Vec<Rid> = Vec::new();
        for choices in &self.simulcast {
            let choices = choices.split(',').map(|choice| (choice.trim_start_matches('~'), choice.starts_with('~')));
            let mut known = choices.filter(|(id, _)| self.rids.contains(id));
            if let Some((id, paused)) = known.next()
                && !rids.iter().any(|rid| &*rid.id == id)
            {
                rids.push(Rid { id: id.into(), paused });
            }
        }
        rids
    }

    /// The SSRCs of media, and each with its RTX.
    fn streams(&self) -> (Vec<u32>, Vec<(u32, u32)>) {
        let of = |wanted: &'static str| self.groups.iter().filter(move |(semantics, _)| *semantics == wanted);
        let pairs: Vec<(u32, u32)> =
            of("FID").filter_map(|(_, members)| Some((*members.first()?, *members.get(1)?))).collect();
        let repairs = self
            .groups
            .iter()
            .filter(|(semantics, _)| *semantics != "SIM")
            .flat_map(|(_, members)| members.iter().skip(1));
        let repairs: Vec<u32> = repairs.copied().collect();
        let layers = of("SIM").flat_map(|(_, members)| members.iter());
        let mut ssrcs = Vec::new();
        for &ssrc in layers.chain(&self.ssrcs).chain(pairs.iter().map(|(ssrc, _)| ssrc)) {
            if !ssrcs.contains(&ssrc) && !repairs.contains(&ssrc) && ssrcs.len() < SSRCS_MAX {
                ssrcs.push(ssrc);
            }
        }
        (ssrcs, pairs)
    }

    /// The m-line, once its name is known; `session` and `tag` are what it may inherit from.
    pub(super) fn media(&self, mid: Mid, session: &Shared<'a>, tag: Option<&Shared<'a>>) -> Result<Media> {
        let rejected = self.is_rejected();
        let (own, tag) = (&self.shared, tag.unwrap_or(session));
        let ice_ufrag = own.ice_ufrag.or(session.ice_ufrag).or(tag.ice_ufrag);
        let ice_pwd = own.ice_pwd.or(session.ice_pwd).or(tag.ice_pwd);
        let fingerprint = own.fingerprint.or(session.fingerprint).or(tag.fingerprint);
        let rtcp_mux = own.rtcp_mux || session.rtcp_mux || tag.rtcp_mux;
        if !rejected && (ice_ufrag.is_none() || ice_pwd.is_none()) {
            return refused(format!("expected ice-ufrag and ice-pwd for mid {mid}"));
        }
        if !rejected && fingerprint.is_none() {
            return refused(format!("expected a sha-256 fingerprint for mid {mid}"));
        }
        if !rejected && !rtcp_mux && self.kind != MediaKind::Application {
            return refused(format!("expected rtcp-mux for mid {mid}"));
        }
        let (ssrcs, rtx_ssrcs) = self.streams();
        Ok(Media {
            kind: self.kind,
            mid,
            rejected,
            direction: own.direction.or(session.direction).unwrap_or(Direction::SendRecv),
            ice_ufrag: ice_ufrag.map(Into::into),
            ice_pwd: ice_pwd.map(Into::into),
            fingerprint,
            setup: own.setup.or(session.setup).or(tag.setup),
            codecs: self
                .formats
                .iter()
                .filter_map(|format| format.codec(&self.formats, self.feedback_of_all))
                .collect(),
            extensions: self.extensions.clone(),
            mixed: own.mixed || session.mixed,
            msid: self.msid.map(|(stream, track)| (stream.into(), track.into())),
            ssrcs,
            rtx_ssrcs,
            rids: self.send_rids(),
            rtcp_mux,
            sctp_port: self.sctp_port,
            message_bytes_max: self.message_bytes_max,
        })
    }
}

fn payload_type(word: &str) -> Result<u8> {
    match word.parse() {
        Ok(payload_type @ 0..=127) => Ok(payload_type),
        _ => unexpected("a payload type of 0 to 127", word),
    }
}

/// `<stream> [<track>]` (RFC 8830 §2).
fn msid(value: &str) -> Option<(&str, &str)> {
    let mut words = value.split_ascii_whitespace();
    let (stream, track) = (words.next()?, words.next().unwrap_or_default());
    (stream.len() <= MSID_BYTES_MAX && track.len() <= MSID_BYTES_MAX).then_some((stream, track))
}
