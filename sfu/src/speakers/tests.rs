use super::*;

const PACKET: Duration = Duration::from_millis(20);

/// A voice and the time it lives in.
struct Heard {
    voice: Voice,
    now: Instant,
}

impl Heard {
    fn new() -> Heard {
        Heard { voice: Voice::default(), now: Instant::now() }
    }

    /// Packets of one loudness for so many milliseconds; how many of them were onsets.
    fn hear(&mut self, loudness: u8, ms: u64) -> usize {
        let onsets = (0..ms / 20).filter(|_| {
            self.now += PACKET;
            self.voice.note(Some(127 - loudness), self.now)
        });
        onsets.count()
    }

    fn speaks(&self) -> bool {
        self.voice.is_speaking(self.now)
    }
}

#[test]
fn speech_begins_at_once_and_lasts_through_pauses() {
    let mut heard = Heard::new();
    heard.hear(40, 1_000);
    assert!(!heard.speaks());
    assert_eq!(heard.hear(95, 20), 1, "the first loud packet is an onset");
    heard.hear(95, 180);
    assert!(heard.speaks());
    for _ in 0..20 {
        heard.hear(30, 600);
        assert!(heard.speaks(), "a pause between words");
        heard.hear(95, 400);
    }
    heard.hear(30, 2_000);
    assert!(!heard.speaks());
}

#[test]
fn a_click_is_no_speaker() {
    let mut heard = Heard::new();
    heard.hear(30, 1_000);
    assert_eq!(heard.hear(100, 20), 1);
    assert!(!heard.speaks());
}

#[test]
fn steady_noise_is_learned_and_speech_above_it_is_heard() {
    let mut heard = Heard::new();
    heard.hear(82, 20_000);
    assert!(!heard.speaks(), "a fan");
    assert_eq!(heard.hear(82, 10_000), 0);
    assert!(heard.hear(97, 100) > 0);
    heard.hear(97, 200);
    assert!(heard.speaks());
    // The noise is still known after the sentence, and forgotten when it is gone.
    heard.hear(82, 3_000);
    assert!(!heard.speaks());
    heard.hear(20, 500);
    heard.hear(84, 300);
    assert!(heard.speaks());
}

#[test]
fn music_without_pauses_is_never_taken_for_noise() {
    let mut heard = Heard::new();
    for _ in 0..60 {
        heard.hear(100, 1_000);
        assert!(heard.speaks());
    }
}

#[test]
fn silence_without_packets_ends_speech() {
    let mut heard = Heard::new();
    heard.hear(100, 1_000);
    assert!(heard.speaks() && heard.voice.loudness(heard.now) > 90);
    heard.now += Duration::from_millis(400);
    assert!(heard.speaks());
    assert_eq!(heard.voice.loudness(heard.now), 0);
    heard.now += Duration::from_millis(500);
    assert!(!heard.speaks());
}

#[test]
fn who_says_no_level_is_heard_and_not_shown() {
    let mut voice = Voice::default();
    let mut now = Instant::now();
    for _ in 0..200 {
        now += PACKET;
        assert!(!voice.note(None, now));
    }
    assert!(!voice.is_speaking(now));
    assert_eq!(voice.loudness(now), UNKNOWN);
}

#[test]
fn levels_are_refreshed_once_a_second_and_members_at_once() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let (ann, ben) = (PeerId(1), PeerId(2));
    let told = Told { speakers: vec![(ann, 90), (ben, 80)], audio: vec![(0, ann)], at: Some(start) };
    let shared = [(0, ann)];
    assert!(!told.differs(&[(ann, 60), (ben, 100)], &shared, at(900)), "neither order nor levels at once");
    assert!(told.differs(&[(ben, 100), (ann, 60)], &shared, at(1_000)));
    assert!(!told.differs(&[(ann, 92), (ben, 78)], &shared, at(5_000)), "nobody sees so little");
    assert!(told.differs(&[(ann, 90)], &shared, at(1)));
    assert!(told.differs(&[(ann, 90), (PeerId(3), 80)], &shared, at(1)));
    assert!(told.differs(&[(ann, 90), (ben, 80)], &[(0, ben)], at(1)), "a shared m-line carries another");
}
