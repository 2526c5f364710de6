//! A video receiver as strict as a browser: frames are put together whole, decoded only along the references that their
//! descriptors tell (as libwebrtc's `RtpVp8RefFinder` reads them), and shown when their playout time has come.
//!
//! The print in each payload says what the frame truly is: a frame that the descriptors call decodable and that is not
//! would be garbage on a screen, and is counted.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::wire::{KEY, Print, Vp8};

/// A receiver without any picture asks for a keyframe this often, as libwebrtc's `kMaxWaitForKeyFrame`.
const FIRST_KEY_WAIT: Duration = Duration::from_millis(200);
/// One that has had pictures asks when none could be shown for so long though packets come. libwebrtc waits up to 3 s.
const KEY_WAIT: Duration = Duration::from_millis(500);
/// The playout delay covers the lateness of all but one in fifty of the last so many frames …
const LATENESS_FRAMES: usize = 300;
/// … between these bounds.
const PLAYOUT_MIN: Duration = Duration::from_millis(10);
/// See [`PLAYOUT_MIN`].
const PLAYOUT_MAX: Duration = Duration::from_millis(500);
/// Frames that wait. When full, the oldest go.
const FRAMES_MAX: usize = 800;

#[derive(Default)]
struct Frame {
    /// Marker and start by sequence number.
    pieces: BTreeMap<u64, (bool, bool)>,
    vp8: Option<Vp8>,
    print: Option<Print>,
    complete: bool,
}

/// A picture that was shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// When.
    pub at: Instant,
    /// What it truly was.
    pub print: Print,
    /// How far its NTP time by the last sender report is off the true one, in ms.
    pub clock_error_ms: Option<f64>,
}

/// What the decoder has, in the terms of descriptors.
struct Chain {
    timestamp: u64,
    tl0: u8,
    /// Picture ids of the base frame and of what was decoded since.
    decoded: Vec<u16>,
}

/// See the module.
pub struct Video {
    began: Instant,
    frames: BTreeMap<u64, Frame>,
    newest_timestamp: u64,
    chain: Option<Chain>,
    truth: HashSet<(u8, u32)>,
    lateness: VecDeque<Duration>,
    transit_min: Duration,
    playout: Duration,
    first_packet: Option<Instant>,
    last_packet: Option<Instant>,
    asked_key: Option<Instant>,
    /// All pictures shown.
    pub shown: Vec<Shown>,
    /// Frames shown that lacked a reference.
    pub corrupt: u64,
    /// Frames that could truly have been decoded and whose descriptors said otherwise, when they were passed over.
    pub refused: u64,
    /// Timestamps under which packets of different frames came.
    pub mixed: u64,
    /// Keyframes asked for.
    pub asked_keys: u64,
}

/// What to do after a tick.
#[derive(Default)]
pub struct Due {
    /// Ask for a keyframe.
    pub key: bool,
    /// Packets before this number are not needed any more.
    pub forget_before: Option<u64>,
}

impl Video {
    /// A receiver of a stream; prints count time from `began`.
    pub fn new(began: Instant) -> Video {
        Video {
            began,
            frames: BTreeMap::new(),
            newest_timestamp: 1 << 32,
            chain: None,
            truth: HashSet::new(),
            lateness: VecDeque::new(),
            transit_min: Duration::MAX,
            playout: PLAYOUT_MIN,
            first_packet: None,
            last_packet: None,
            asked_key: None,
            shown: Vec::new(),
            corrupt: 0,
            refused: 0,
            mixed: 0,
            asked_keys: 0,
        }
    }

    /// Takes a packet.
    pub fn take(&mut self, seq: u64, timestamp: u32, marker: bool, payload: &[u8], now: Instant) {
        self.first_packet.get_or_insert(now);
        self.last_packet = Some(now);
        let Some((vp8, print)) = Vp8::read(payload).zip(Print::read(payload)) else { return };
        let ahead = timestamp.wrapping_sub(self.newest_timestamp as u32) as i32;
        let timestamp = self.newest_timestamp.wrapping_add_signed(i64::from(ahead));
        self.newest_timestamp = self.newest_timestamp.max(timestamp);
        if self.chain.as_ref().is_some_and(|chain| timestamp <= chain.timestamp) {
            return;
        }
        let frame = self.frames.entry(timestamp).or_default();
        frame.pieces.insert(seq, (marker, vp8.starts));
        self.mixed += u64::from(frame.print.is_some_and(|other| other != print));
        frame.print = Some(print);
        if vp8.starts {
            frame.vp8 = Some(vp8);
        }
        if !frame.complete && frame.is_complete() {
            frame.complete = true;
            let transit = now.saturating_duration_since(self.began + print.captured);
            self.note_transit(transit);
        }
        while self.frames.len() > FRAMES_MAX {
            self.frames.pop_first();
        }
    }

    fn note_transit(&mut self, transit: Duration) {
        self.transit_min = self.transit_min.min(transit);
        self.lateness.push_back(transit);
        if self.lateness.len() > LATENESS_FRAMES {
            self.lateness.pop_front();
        }
        if self.lateness.len().is_multiple_of(10) || self.lateness.len() == LATENESS_FRAMES {
            let mut sorted: Vec<Duration> = self.lateness.iter().copied().collect();
            sorted.sort();
            let late = sorted[sorted.len() * 98 / 100].saturating_sub(self.transit_min);
            self.playout = (late + PLAYOUT_MIN).min(PLAYOUT_MAX);
        }
    }

    /// Shows what is due. `clock` is the last sender report: NTP in ms and timestamp; `unix_ms` is when the run began.
    pub fn tick(
        &mut self,
        clock: Option<(f64, u32)>,
        unix_ms: f64,
        rtt: Duration,
        hopeless: bool,
        now: Instant,
    ) -> Due {
        let mut due = Due::default();
        while let Some(timestamp) = self.decodable() {
            let frame = &self.frames[&timestamp];
            let (Some(print), Some(vp8)) = (frame.print, frame.vp8) else { break };
            if self.began + print.captured + self.transit_min + self.playout > now {
                break;
            }
            due.forget_before = frame.pieces.last_key_value().map(|(seq, _)| seq + 1);
            self.count_passed_over(timestamp);
            self.frames = self.frames.split_off(&(timestamp + 1));
            self.decode(timestamp, vp8, print);
            let clock_error_ms = clock.map(|(ntp_ms, at)| {
                let ticks = (timestamp as u32).wrapping_sub(at) as i32;
                ntp_ms + f64::from(ticks) / 90.0 - (unix_ms + print.captured.as_secs_f64() * 1e3)
            });
            self.shown.push(Shown { at: now, print, clock_error_ms });
        }
        due.key = self.needs_key(rtt, hopeless, now);
        due
    }

    fn needs_key(&mut self, rtt: Duration, hopeless: bool, now: Instant) -> bool {
        let Some((first, last)) = self.first_packet.zip(self.last_packet) else { return false };
        let wait = if self.shown.is_empty() { FIRST_KEY_WAIT } else { KEY_WAIT };
        let idle_since = self.shown.last().map_or(first, |shown| shown.at);
        let stuck = now - idle_since > wait && now - last < KEY_WAIT && self.decodable().is_none();
        if !(stuck || hopeless) || self.asked_key.is_some_and(|at| now - at < wait.max(rtt)) {
            return false;
        }
        self.asked_key = Some(now);
        self.asked_keys += 1;
        true
    }

    /// The timestamp of the first frame that can be decoded next.
    fn decodable(&self) -> Option<u64> {
        let decodable = |frame: &Frame| frame.complete && frame.vp8.is_some_and(|vp8| self.allows(vp8));
        self.frames.iter().find(|(_, frame)| decodable(frame)).map(|(timestamp, _)| *timestamp)
    }

    fn allows(&self, vp8: Vp8) -> bool {
        let Some(chain) = &self.chain else { return vp8.key };
        if vp8.key {
            return true;
        }
        if vp8.tid == 0 {
            return vp8.tl0 == chain.tl0.wrapping_add(1);
        }
        let base = chain.decoded.first().copied().unwrap_or_default();
        let between = (vp8.picture_id.wrapping_sub(base) & 0x7fff).saturating_sub(1);
        let whole = || (1..=between).all(|step| chain.decoded.contains(&(base.wrapping_add(step) & 0x7fff)));
        vp8.tl0 == chain.tl0 && (vp8.sync || (between < 64 && whole()))
    }

    fn decode(&mut self, timestamp: u64, vp8: Vp8, print: Print) {
        let lacks = |frame: &u32| !self.truth.contains(&(print.layer, *frame));
        if print.role != KEY && print.references().any(|frame| lacks(&frame)) {
            self.corrupt += 1;
        }
        if vp8.key {
            self.truth.clear();
        }
        self.truth.insert((print.layer, print.frame));
        match &mut self.chain {
            Some(chain) if !vp8.key && vp8.tid > 0 => {
                chain.timestamp = timestamp;
                chain.decoded.push(vp8.picture_id);
            }
            chain => *chain = Some(Chain { timestamp, tl0: vp8.tl0, decoded: vec![vp8.picture_id] }),
        }
    }

    fn count_passed_over(&mut self, before: u64) {
        let truly = |print: Print| {
            print.role == KEY || print.references().all(|frame| self.truth.contains(&(print.layer, frame)))
        };
        let passed = self.frames.range(..before).map(|(_, frame)| frame);
        self.refused += passed.filter(|frame| frame.complete && frame.print.is_some_and(truly)).count() as u64;
    }
}

impl Frame {
    fn is_complete(&self) -> bool {
        let start = self.pieces.iter().find(|(_, (_, starts))| *starts).map(|(seq, _)| *seq);
        let end = self.pieces.iter().rev().find(|(_, (marker, _))| *marker).map(|(seq, _)| *seq);
        start.zip(end).is_some_and(|(start, end)| {
            start <= end && self.pieces.range(start..=end).count() as u64 == end - start + 1
        })
    }
}
