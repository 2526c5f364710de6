//! Codecs: which ones we know, when two m-lines mean the same one, and which of them can be forwarded.

use std::fmt;

/// The codecs that we know. All others on an m-line are skipped while parsing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodecName {
    /// RFC 7587.
    Opus,
    /// RFC 2198, over Opus.
    Red,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// The AOMedia RTP specification.
    Av1,
}

impl CodecName {
    const ALL: [CodecName; 6] =
        [CodecName::Opus, CodecName::Red, CodecName::Vp8, CodecName::Vp9, CodecName::H264, CodecName::Av1];

    /// The encoding name as `a=rtpmap` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            CodecName::Opus => "opus",
            CodecName::Red => "red",
            CodecName::Vp8 => "VP8",
            CodecName::Vp9 => "VP9",
            CodecName::H264 => "H264",
            CodecName::Av1 => "AV1",
        }
    }

    /// The codec of an encoding name; names do not depend on case (RFC 4855 §3).
    pub fn from_encoding(name: &str) -> Option<CodecName> {
        CodecName::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for CodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The RTCP feedback of a payload type (`a=rtcp-fb`, RFC 4585 §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    /// `nack`: generic NACK.
    pub nack: bool,
    /// `nack pli`: picture loss indication.
    pub nack_pli: bool,
    /// `ccm fir`: full intra request (RFC 5104).
    pub ccm_fir: bool,
    /// `goog-remb`: receiver estimated maximum bitrate.
    pub goog_remb: bool,
    /// `transport-cc`: transport-wide congestion control.
    pub transport_cc: bool,
}

impl Feedback {
    /// All that we speak for video.
    pub fn video() -> Feedback {
        Feedback { nack: true, nack_pli: true, ccm_fir: true, goog_remb: true, transport_cc: true }
    }

    /// All that we speak for audio.
    pub fn audio() -> Feedback {
        Feedback { transport_cc: true, ..Feedback::default() }
    }

    /// What both sides speak: an answer may hold no more than its offer.
    pub fn intersection(self, other: Feedback) -> Feedback {
        Feedback {
            nack: self.nack && other.nack,
            nack_pli: self.nack_pli && other.nack_pli,
            ccm_fir: self.ccm_fir && other.ccm_fir,
            goog_remb: self.goog_remb && other.goog_remb,
            transport_cc: self.transport_cc && other.transport_cc,
        }
    }

    /// What either has.
    pub(super) fn union(self, other: Feedback) -> Feedback {
        Feedback {
            nack: self.nack || other.nack,
            nack_pli: self.nack_pli || other.nack_pli,
            ccm_fir: self.ccm_fir || other.ccm_fir,
            goog_remb: self.goog_remb || other.goog_remb,
            transport_cc: self.transport_cc || other.transport_cc,
        }
    }

    /// The feedback that one `a=rtcp-fb` value names; what we do not know is nothing.
    pub(super) fn from_value(value: &str) -> Feedback {
        let mut feedback = Feedback::default();
        match value.trim() {
            "nack" => feedback.nack = true,
            "nack pli" => feedback.nack_pli = true,
            "ccm fir" => feedback.ccm_fir = true,
            "goog-remb" => feedback.goog_remb = true,
            "transport-cc" => feedback.transport_cc = true,
            _ => {}
        }
        feedback
    }

    /// The values to write, in the order in which browsers write them.
    pub(super) fn values(self) -> impl Iterator<Item = &'static str> {
        [
            (self.goog_remb, "goog-remb"),
            (self.transport_cc, "transport-cc"),
            (self.ccm_fir, "ccm fir"),
            (self.nack, "nack"),
            (self.nack_pli, "nack pli"),
        ]
        .into_iter()
        .filter_map(|(has, value)| has.then_some(value))
    }
}

/// A codec of an m-line, its RTX folded in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// 0 to 127, never 64 to 95 (RFC 5761 §4: with rtcp-mux these look like RTCP).
    pub payload_type: u8,
    /// Which codec.
    pub name: CodecName,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Audio channels; 1 for video.
    pub channels: u8,
    /// The format parameters as they came, without the payload type; may be empty.
    pub fmtp: String,
    /// The feedback of the codec, not of its RTX.
    pub feedback: Feedback,
    /// The payload type of its retransmissions (RFC 4588), if it has any.
    pub rtx: Option<u8>,
}

impl Codec {
    /// A format parameter's value. Names do not depend on case; a flag without `=` has no value and is not found.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.fmtp.split(';').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(key, value)| (key.trim(), value.trim()))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// What must be equal for a publisher's packets to make sense to a subscriber.
    pub fn key(&self) -> CodecKey {
        let variant = match self.name {
            CodecName::H264 => Variant::H264 {
                packetization_mode: self.parameter("packetization-mode").map_or(Some(0), |value| value.parse().ok()),
                profile: H264Profile::of(self.parameter("profile-level-id")),
            },
            CodecName::Vp9 => {
                Variant::Profile(self.parameter("profile-id").map_or(Some(0), |value| value.parse().ok()))
            }
            CodecName::Av1 => Variant::Profile(self.parameter("profile").map_or(Some(0), |value| value.parse().ok())),
            CodecName::Opus | CodecName::Red | CodecName::Vp8 => Variant::One,
        };
        CodecKey { name: self.name, clock_rate: self.clock_rate, channels: self.channels, variant }
    }
}

/// The identity of a codec under which a publisher's and a subscriber's m-line mean the same. Levels are left out: they
/// bound what a decoder promises, and browsers decode more than they promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CodecKey {
    name: CodecName,
    clock_rate: u32,
    channels: u8,
    variant: Variant,
}

impl CodecKey {
    /// The codec's name.
    pub fn name(&self) -> CodecName {
        self.name
    }
}

/// `None` stands for a value that is no number: equal to itself, and never supported.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Variant {
    One,
    H264 { packetization_mode: Option<u8>, profile: H264Profile },
    Profile(Option<u8>),
}

/// H.264 profiles, by profile_idc and the constraint flags that tell them apart (RFC 6184 §8.1, table 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    /// Another profile: equal only with the same two bytes.
    Other(u8, u8),
    /// Not six hexadecimal digits.
    Invalid,
}

impl H264Profile {
    /// The profile of a `profile-level-id`. One that is absent means constrained baseline: RFC 6184 says baseline, but
    /// those who leave it out are the ones whom libwebrtc has always read so.
    fn of(profile_level_id: Option<&str>) -> H264Profile {
        let Some(digits) = profile_level_id else { return H264Profile::ConstrainedBaseline };
        if digits.len() != 6 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return H264Profile::Invalid;
        }
        let Ok(value) = u32::from_str_radix(digits, 16) else { return H264Profile::Invalid };
        let [_, idc, constraints, _level] = value.to_be_bytes();
        match (idc, constraints) {
            (0x42, flags) if flags & 0x4f == 0x40 => H264Profile::ConstrainedBaseline,
            (0x4d, flags) if flags & 0x8f == 0x80 => H264Profile::ConstrainedBaseline,
            (0x58, flags) if flags & 0xcf == 0xc0 => H264Profile::ConstrainedBaseline,
            (0x42, flags) if flags & 0x4f == 0x00 => H264Profile::Baseline,
            (0x58, flags) if flags & 0xcf == 0x80 => H264Profile::Baseline,
            (0x4d, flags) if flags & 0xaf == 0x00 => H264Profile::Main,
            (0x64, 0x00) => H264Profile::High,
            (0x64, 0x0c) => H264Profile::ConstrainedHigh,
            (idc, flags) => H264Profile::Other(idc, flags),
        }
    }
}

/// Whether we forward a codec: Opus and RED in 48,000/2, VP8, VP9 profiles 0 and 2, H.264 with packetization-mode 1, AV1
/// profile 0.
pub fn supported(codec: &Codec) -> bool {
    let is_audio = matches!(codec.name, CodecName::Opus | CodecName::Red);
    let clock_rate = if is_audio { 48_000 } else { 90_000 };
    let forwardable = match (codec.name, codec.key().variant) {
        (CodecName::Opus | CodecName::Red, _) => codec.channels == 2,
        (CodecName::Vp8, _) => true,
        (CodecName::Vp9, Variant::Profile(profile)) => matches!(profile, Some(0 | 2)),
        (CodecName::Av1, Variant::Profile(profile)) => profile == Some(0),
        (CodecName::H264, Variant::H264 { packetization_mode, profile }) => {
            packetization_mode == Some(1) && profile != H264Profile::Invalid
        }
        _ => false,
    };
    forwardable && codec.clock_rate == clock_rate
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(name: CodecName, fmtp: &str) -> Codec {
        let (clock_rate, channels) = if name == CodecName::Opus { (48_000, 2) } else { (90_000, 1) };
        Codec {
            payload_type: 96,
            name,
            clock_rate,
            channels,
            fmtp: fmtp.into(),
            feedback: Feedback::default(),
            rtx: None,
        }
    }

    fn h264(profile_level_id: &str) -> Codec {
        codec(
            CodecName::H264,
            &format!("level-asymmetry-allowed=1; Packetization-Mode=1;profile-level-id={profile_level_id}"),
        )
    }

    #[test]
    fn h264_profiles_are_equal_whatever_the_level_and_the_idle_flags() {
        for same in ["42e01f", "42E034", "42c00a", "42401f", "4d801f", "4de01f", "58c01f", "58f01f"] {
            assert_eq!(h264(same).key(), h264("42e01f").key(), "{same}");
        }
        assert_eq!(codec(CodecName::H264, "packetization-mode=1").key(), h264("42e01f").key());
        assert_eq!(h264("42001f").key(), h264("42800a").key());
        assert_eq!(h264("58801f").key(), h264("42001f").key());
        assert_eq!(h264("4d001f").key(), h264("4d4028").key());
        let distinct = ["42e01f", "42001f", "4d001f", "64001f", "640c1f", "f4001f", "6e001f", "zz001f"];
        for (i, a) in distinct.iter().enumerate() {
            for b in &distinct[i + 1..] {
                assert_ne!(h264(a).key(), h264(b).key(), "{a} {b}");
            }
        }
    }

    #[test]
    fn packetization_mode_and_profiles_are_part_of_the_key() {
        let mode_0 = codec(CodecName::H264, "profile-level-id=42e01f");
        assert_ne!(mode_0.key(), h264("42e01f").key());
        assert_eq!(mode_0.key(), codec(CodecName::H264, "packetization-mode=0;profile-level-id=42e01f").key());
        assert_eq!(codec(CodecName::Vp9, "").key(), codec(CodecName::Vp9, "profile-id=0").key());
        assert_ne!(codec(CodecName::Vp9, "profile-id=2").key(), codec(CodecName::Vp9, "profile-id=0").key());
        assert_eq!(codec(CodecName::Av1, "level-idx=5;profile=0;tier=0").key(), codec(CodecName::Av1, "").key());
        assert_eq!(codec(CodecName::Opus, "stereo=1").key(), codec(CodecName::Opus, "useinbandfec=1").key());
        assert_eq!(codec(CodecName::Vp8, "max-fs=12288").key(), codec(CodecName::Vp8, "").key());
    }

    #[test]
    fn what_is_forwarded() {
        let yes = [
            codec(CodecName::Opus, ""),
            Codec { channels: 2, clock_rate: 48_000, ..codec(CodecName::Red, "111/111") },
            codec(CodecName::Vp8, ""),
            codec(CodecName::Vp9, ""),
            codec(CodecName::Vp9, "profile-id=2"),
            codec(CodecName::Av1, ""),
            h264("42e01f"),
            h264("640c1f"),
        ];
        let no = [
            codec(CodecName::Red, ""),
            Codec { channels: 1, clock_rate: 48_000, ..codec(CodecName::Red, "111/111") },
            codec(CodecName::Vp9, "profile-id=1"),
            codec(CodecName::Vp9, "profile-id=x"),
            codec(CodecName::Av1, "profile=1"),
            codec(CodecName::H264, "profile-level-id=42e01f"),
            h264("42e0"),
            Codec { channels: 1, ..codec(CodecName::Opus, "") },
            Codec { clock_rate: 48_000, ..codec(CodecName::Vp8, "") },
        ];
        for codec in yes {
            assert!(supported(&codec), "{codec:?}");
        }
        for codec in no {
            assert!(!supported(&codec), "{codec:?}");
        }
    }

    #[test]
    fn feedback_meets_in_the_middle() {
        let ours = Feedback::video().intersection(Feedback { nack: true, transport_cc: true, ..Feedback::default() });
        assert_eq!(ours.values().collect::<Vec<_>>(), ["transport-cc", "nack"]);
        assert_eq!(
            Feedback::video().values().map(Feedback::from_value).fold(Feedback::default(), Feedback::union),
            Feedback::video()
        );
        assert_eq!(Feedback::from_value("nack rpsi"), Feedback::default());
    }
}
