use proptest::prelude::*;

use super::*;

/// What a test says of a video; a demand borrows from it.
#[derive(Clone, Debug)]
struct Video {
    class: Class,
    priority: u8,
    size: Option<(u16, u16)>,
    steps: Vec<Step>,
    eager: bool,
    muted: bool,
}

fn step(layer: u8, temporal: u8, kbps: u32, height: u16) -> Step {
    let target = Target { layer, spatial: 0, temporal };
    Step { target, bps: kbps * 1_000, width: height / 9 * 16, height, active: true }
}

/// What Chromium sends of a camera: three encodings of three frame rates.
fn simulcast() -> Vec<Step> {
    let encodings = [(0, 180, [60, 90, 150]), (1, 360, [200, 300, 500]), (2, 720, [600, 1_000, 1_500])];
    let steps = |(layer, height, rates): (u8, u16, [u32; 3])| {
        (0u8..3).zip(rates).map(move |(temporal, kbps)| step(layer, temporal, kbps, height))
    };
    encodings.into_iter().flat_map(steps).collect()
}

fn video(class: Class) -> Video {
    Video { class, priority: PRIORITY_DEFAULT, size: None, steps: simulcast(), eager: false, muted: false }
}

fn target(layer: u8, temporal: u8) -> Target {
    Target { layer, spatial: 0, temporal }
}

/// A subscriber whose videos are allocated again and again.
#[derive(Default)]
struct Subscriber {
    table: Table,
    pace: Pace,
    flowing: Vec<Option<Target>>,
}

impl Subscriber {
    fn allocate(&mut self, videos: &[Video], estimate: u64, audio: u64, now: Instant) -> Vec<Option<Choice>> {
        self.divide(videos, Budget { estimate, audio, strained: true }, now)
    }

    fn divide(&mut self, videos: &[Video], budget: Budget, now: Instant) -> Vec<Option<Choice>> {
        self.flowing.resize(videos.len(), None);
        self.table.clear();
        for (video, current) in videos.iter().zip(&self.flowing) {
            let Video { class, priority, size, eager, muted, .. } = *video;
            let demand = Demand { class, priority, size, steps: &video.steps, current: *current, eager, muted };
            self.table.push(&demand);
        }
        self.table.allocate(budget, &mut self.pace, now);
        let choices: Vec<_> = (0..videos.len()).map(|row| self.table.choice(row)).collect();
        self.flowing = choices.iter().map(|choice| choice.map(|choice| choice.wanted)).collect();
        choices
    }
}

trait Targets {
    fn sent(self) -> Vec<Option<Target>>;
}

impl Targets for Vec<Option<Choice>> {
    fn sent(self) -> Vec<Option<Target>> {
        self.into_iter().map(|choice| choice.map(|choice| choice.send)).collect()
    }
}

/// What a subscriber who has nothing yet is sent.
fn first(videos: &[Video], estimate: u64) -> Vec<Option<Target>> {
    Subscriber::default().allocate(videos, estimate, 0, Instant::now()).sent()
}

fn cost(videos: &[Video], sent: &[Option<Target>]) -> u64 {
    let one = |(video, sent): (&Video, &Option<Target>)| {
        let comes = !video.muted && video.steps.iter().any(|step| step.active);
        let step = video.steps.iter().find(|step| Some(step.target) == *sent && comes);
        step.map_or(0, |step| u64::from(step.bps))
    };
    videos.iter().zip(sent).map(one).sum()
}

#[test]
fn the_lowest_for_all_comes_before_more_for_the_first() {
    let videos = [video(Class::Other), video(Class::Other), video(Class::InstructorCamera)];
    assert_eq!(first(&videos, 210_000), [Some(target(0, 0)), Some(target(0, 0)), Some(target(0, 0))]);
    assert_eq!(first(&videos, 150_000), [Some(target(0, 0)), None, Some(target(0, 0))]);
    assert_eq!(first(&videos, 70_000), [None, None, Some(target(0, 0))]);
    assert_eq!(first(&videos, 60_000), [None, None, None]);
    let raised = first(&videos, 2_500_000);
    assert_eq!(raised, [Some(target(1, 1)), Some(target(1, 1)), Some(target(2, 2))], "and those of one rank are alike");
}

#[test]
fn classes_then_priorities_say_who_is_first() {
    let mut videos: Vec<Video> =
        [Class::Other, Class::Other, Class::ActiveSpeaker, Class::Screen, Class::InstructorCamera].map(video).into();
    videos[1].priority = 255;
    videos[3].steps = vec![step(0, 0, 60, 720)];
    let order: Vec<Vec<usize>> = (1..=5)
        .map(|n| {
            let flowing = first(&videos, n * 69_500);
            (0..videos.len()).filter(|i| flowing[*i].is_some()).collect()
        })
        .collect();
    assert_eq!(order, [vec![3], vec![3, 4], vec![2, 3, 4], vec![1, 2, 3, 4], vec![0, 1, 2, 3, 4]]);
    videos[3].priority = 0;
    assert_eq!(first(&videos, 4 * 69_500)[3], None, "what is unwanted is paused first, even a screen");
}

#[test]
fn a_screen_is_sharp_before_it_is_smooth_and_never_illegible() {
    let mut screen = video(Class::Screen);
    assert_eq!(first(std::slice::from_ref(&screen), 700_000), [Some(target(2, 0))]);
    assert_eq!(first(std::slice::from_ref(&screen), 600_000), [None], "360 lines would fit and nobody could read them");
    let with_camera = [video(Class::Other), screen.clone()];
    assert_eq!(first(&with_camera, 720_000), [None, Some(target(2, 0))]);
    assert_eq!(first(&with_camera, 500_000), [Some(target(1, 1)), None], "what it leaves is not wasted");

    screen.size = Some((320, 180));
    assert_eq!(first(std::slice::from_ref(&screen), 80_000), [Some(target(0, 0))], "a thumbnail is not read");
    screen.size = None;
    screen.steps.truncate(6);
    assert_eq!(first(std::slice::from_ref(&screen), 250_000), [Some(target(1, 0))], "the largest there is");
    screen.steps = vec![step(0, 0, 300, 0)];
    assert_eq!(first(std::slice::from_ref(&screen), 400_000), [Some(target(0, 0))], "of unknown size");
}

#[test]
fn a_camera_loses_half_its_frame_rate_before_its_size() {
    let camera = [video(Class::Other)];
    let got: Vec<_> = [1_800, 1_200, 800, 400, 200, 110, 70].map(|kbps| first(&camera, kbps * 1_000)[0]).into();
    let wanted = [(2, 2), (2, 1), (1, 2), (1, 1), (0, 2), (0, 1), (0, 0)];
    assert_eq!(got, wanted.map(|(layer, temporal)| Some(target(layer, temporal))));
}

#[test]
fn a_tile_bounds_the_encoding_and_may_be_a_little_larger_than_it() {
    let mut camera = video(Class::Other);
    for (size, layer) in
        [((160, 90), 0), ((320, 180), 0), ((380, 214), 0), ((400, 225), 1), ((1_280, 720), 2), ((3_840, 2_160), 2)]
    {
        camera.size = Some(size);
        assert_eq!(first(std::slice::from_ref(&camera), 9_000_000), [Some(target(layer, 2))], "{size:?}");
    }
    assert!(is_hidden(Some((0, 0))) && is_hidden(Some((320, 0))) && !is_hidden(Some((1, 1))) && !is_hidden(None));
}

#[test]
fn a_step_that_costs_more_than_a_better_one_is_passed_over() {
    let mut camera = video(Class::Other);
    camera.steps = vec![step(0, 0, 100, 180), step(0, 1, 300, 180), step(1, 0, 250, 360), step(1, 1, 400, 360)];
    assert_eq!(first(std::slice::from_ref(&camera), 350_000), [Some(target(1, 0))]);
}

#[test]
fn what_nobody_sends_yet_is_wanted_while_the_best_that_comes_is_sent() {
    let mut camera = video(Class::Other);
    for step in &mut camera.steps {
        step.active = step.target.layer == 0;
    }
    let mut subscriber = Subscriber::default();
    let one = std::slice::from_ref(&camera);
    let choice = subscriber.allocate(one, 2_000_000, 0, Instant::now())[0];
    assert_eq!(choice, Some(Choice { wanted: target(2, TEMPORAL_MAX - 1), send: target(0, 2) }));
    assert_eq!(subscriber.table.wished(), 1_500_000);
    let two = [camera.clone(), video(Class::Other)];
    let mut subscriber = Subscriber::default();
    let start = Instant::now();
    let sent = subscriber.allocate(&two, 2_000_000, 0, start).sent();
    assert_eq!(sent, [Some(target(0, 2)), Some(target(1, 2))], "room is kept for what was just asked for");
    let sent = subscriber.allocate(&two, 2_000_000, 0, start + HOLD).sent();
    assert_eq!(sent, [Some(target(0, 2)), Some(target(2, 2))], "what does not come costs nothing");
    let mut subscriber = Subscriber::default();
    for step in &mut camera.steps {
        step.active = step.target.layer == 2;
    }
    let tiny = [Video { size: Some((160, 90)), ..camera }];
    let choice = subscriber.allocate(&tiny, 2_000_000, 0, Instant::now())[0];
    let instead = Choice { wanted: target(0, TEMPORAL_MAX - 1), send: target(2, 0) };
    assert_eq!(choice, Some(instead), "what comes is better than nothing");
    let choice = subscriber.allocate(&tiny, 500_000, 0, Instant::now())[0];
    assert_eq!((choice, subscriber.table.missing(0)), (None, Some(target(0, 0))));
    let choice = subscriber.allocate(&tiny, 65_000, 0, Instant::now())[0];
    assert_eq!((choice, subscriber.table.missing(0)), (None, None), "that would not fit either");
}

#[test]
fn what_is_muted_or_unknown_costs_nothing_and_is_not_paused() {
    let mut videos = [video(Class::Screen), video(Class::InstructorCamera), video(Class::Other)];
    videos[0].muted = true;
    videos[1].steps.clear();
    assert_eq!(first(&videos, 70_000), [Some(target(2, 0)), Some(Target::default()), Some(target(0, 0))]);
    assert_eq!(first(&videos, 0), [Some(target(2, 0)), Some(Target::default()), None]);
}

/// A publisher describes its encodings in whatever order, and sends frame rates as its encoder likes.
#[test]
fn order_is_that_of_the_steps_and_full_frame_rate_stays_full() {
    let start = Instant::now();
    let mut camera = video(Class::Other);
    for step in &mut camera.steps {
        step.target.layer = 2 - step.target.layer;
    }
    let mut subscriber = Subscriber::default();
    let mut at = |camera: &Video, ms, kbps: u64| {
        let choices =
            subscriber.allocate(std::slice::from_ref(camera), kbps * 1_000, 0, start + Duration::from_millis(ms));
        choices.sent()[0]
    };
    assert_eq!(at(&camera, 0, 700), Some(target(1, 2)));
    let slow = Video {
        steps: camera.steps.iter().filter(|step| step.target.temporal < 2).copied().collect(),
        ..camera.clone()
    };
    assert_eq!(at(&slow, 1_000, 700), Some(target(1, 1)));
    assert_eq!(at(&camera, 1_001, 700), Some(target(1, 2)), "as before, without waiting");
    let tiny = Video { size: Some((160, 90)), ..camera };
    assert_eq!(at(&tiny, 1_002, 700), Some(target(2, 2)));
}

#[test]
fn audio_comes_first() {
    let camera = [video(Class::Other)];
    let got = |audio| Subscriber::default().allocate(&camera, 200_000, audio, Instant::now())[0].map(|c| c.send);
    assert_eq!(got(0), Some(target(0, 2)));
    assert_eq!(got(100_000), Some(target(0, 0)));
    assert_eq!(got(120_000), None);
    assert_eq!(got(u64::MAX), None);
}

#[test]
fn going_down_is_immediate_and_going_up_waits() {
    let (camera, start) = ([video(Class::Other)], Instant::now());
    let mut subscriber = Subscriber::default();
    let mut at =
        |ms: u64, kbps: u64| subscriber.allocate(&camera, kbps * 1_000, 0, start + Duration::from_millis(ms))[0];
    let sent = |choice: Option<Choice>| choice.map(|choice| (choice.send.layer, choice.send.temporal));
    assert_eq!(sent(at(0, 2_000)), Some((2, 2)));
    assert_eq!(sent(at(1_999, 1_310)), Some((2, 2)), "more while keyframes may be the reason");
    assert_eq!(sent(at(2_000, 1_450)), Some((2, 2)), "a little more than the estimate is borne");
    assert_eq!(sent(at(2_010, 1_390)), Some((2, 1)));
    assert_eq!(sent(at(2_020, 100)), Some((0, 0)));
    assert_eq!(sent(at(2_030, 10)), None);
    assert_eq!(sent(at(2_040, 2_000)), None);
    // The first raise failed soon, so the wait is twice as long.
    assert_eq!(sent(at(6_029, 2_000)), None);
    assert_eq!(sent(at(6_030, 2_000)), Some((2, 2)));
    assert_eq!(sent(at(6_040, 1_300)), Some((2, 1)), "what keyframes do not explain is heeded at once");
}

#[test]
fn an_estimate_that_falls_for_a_moment_pauses_nothing_unless_the_link_is_strained() {
    let videos = [video(Class::InstructorCamera), video(Class::Other)];
    let now = Instant::now();
    let at = |ms| now + Duration::from_millis(ms);
    let budget = |estimate, strained| Budget { estimate, audio: 60_000, strained };
    let flowing = || {
        let mut subscriber = Subscriber::default();
        subscriber.divide(&videos, budget(4_000_000, false), now);
        subscriber
    };
    let lowest = [Some(target(0, 0)); 2];
    let mut subscriber = flowing();
    for ms in (10_000..12_000).step_by(100) {
        assert_eq!(subscriber.divide(&videos, budget(30_000, false), at(ms)).sent(), lowest, "{ms}");
    }
    assert_eq!(subscriber.divide(&videos, budget(30_000, false), at(12_000)).sent(), [None, None], "it was no hiccup");

    let mut subscriber = flowing();
    for second in 10..40 {
        assert_eq!(subscriber.divide(&videos, budget(30_000, false), at(1_000 * second)).sent(), lowest);
        assert_eq!(subscriber.divide(&videos, budget(300_000, false), at(1_000 * second + 500)).sent(), lowest);
    }
    let mut subscriber = flowing();
    subscriber.divide(&videos, budget(150_000, false), at(10_000));
    let strained = subscriber.divide(&videos, budget(150_000, true), at(10_100));
    assert_eq!(strained.sent(), [Some(target(0, 0)), None], "audio comes first");
}

#[test]
fn a_new_wish_does_not_wait() {
    let (mut videos, start) = ([video(Class::Other), video(Class::Other)], Instant::now());
    videos[0].size = Some((320, 180));
    videos[1].size = Some((320, 180));
    let mut subscriber = Subscriber::default();
    subscriber.allocate(&videos, 3_000_000, 0, start);
    videos[0].size = Some((1_280, 720));
    videos[1].size = Some((640, 360));
    videos[0].eager = true;
    let choices = subscriber.allocate(&videos, 3_000_000, 0, start + Duration::from_millis(1));
    assert_eq!(choices.sent(), [Some(target(2, 2)), Some(target(0, 2))]);
    let choices = subscriber.allocate(&videos, 3_000_000, 0, start + HOLD + Duration::from_millis(1));
    assert_eq!(choices.sent(), [Some(target(2, 2)), Some(target(1, 2))]);
}

/// The estimate grows while all is well, until what is sent is more than the link carries; then it falls well below. Without
/// patience that is a raise and a fall every few seconds.
#[test]
fn a_sawtooth_does_not_make_the_picture_swing() {
    let (camera, start) = ([video(Class::Other)], Instant::now());
    let (mut subscriber, mut estimate, mut changes, mut before) = (Subscriber::default(), 300_000u64, 0, None);
    for tick in 0..6_000 {
        let now = start + Duration::from_millis(100 * tick);
        let sent = subscriber.allocate(&camera, estimate, 0, now).sent();
        changes += usize::from(sent[0] != before);
        before = sent[0];
        estimate = if cost(&camera, &sent) > 900_000 { 500_000 } else { (estimate * 21 / 20).min(2_000_000) };
    }
    assert!(changes < 60, "{changes} changes in ten minutes");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    (1u8..4, 1u8..4, prop::collection::vec(1u32..400, 9), any::<u16>()).prop_map(
        |(layers, temporals, rates, asleep)| {
            let mut kbps = 20;
            let mut rates = rates.into_iter();
            let mut next = |layer: u8, temporal: u8| {
                kbps += rates.next().unwrap_or(1);
                let mut step = step(layer, temporal, kbps, 180 << layer);
                step.active = asleep >> layer & 3 != 0;
                step
            };
            (0..layers).flat_map(|layer| (0..temporals).map(move |t| (layer, t))).map(|(l, t)| next(l, t)).collect()
        },
    )
}

fn videos() -> impl Strategy<Value = Vec<Video>> {
    let class = prop::sample::select(vec![Class::Screen, Class::InstructorCamera, Class::ActiveSpeaker, Class::Other]);
    let size = prop::option::of(prop::sample::select(vec![(160, 90), (640, 360), (1_280, 720)]));
    let priority = prop::sample::select(vec![0, 1, PRIORITY_DEFAULT, 255]);
    let one = (class, priority, size, steps(), prop::bool::weighted(0.1));
    let one = one.prop_map(|(class, priority, size, steps, muted)| Video {
        class,
        priority,
        size,
        steps,
        eager: false,
        muted,
    });
    prop::collection::vec(one, 0..8)
}

/// Lets one subscriber go through some estimates far apart in time, so that it may be anywhere.
fn anywhere(subscriber: &mut Subscriber, videos: &[Video], history: &[u64], start: Instant) -> Instant {
    let mut now = start;
    for estimate in history {
        subscriber.allocate(videos, *estimate, 0, now);
        now += HOLD_MAX;
    }
    now
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What is newly chosen leaves head-room; what is kept is borne.
    #[test]
    fn the_sum_is_within_the_budget(
        videos in videos(),
        estimates in prop::collection::vec((0u64..6_000_000, 0u64..400_000, 0u64..4_000), 1..20),
    ) {
        let (mut subscriber, mut now) = (Subscriber::default(), Instant::now());
        let mut before = vec![None; videos.len()];
        for (estimate, audio, ms) in estimates {
            now += Duration::from_millis(ms);
            let fresh = subscriber.pace.is_fresh(now);
            let sent = subscriber.allocate(&videos, estimate, audio, now).sent();
            let budget = Budget { estimate, audio, strained: true };
            let most = if sent == before { budget.tolerated(fresh) } else { budget.careful() };
            prop_assert!(cost(&videos, &sent) <= most, "{sent:?}");
            before = sent;
        }
    }

    /// A track is paused only if its lowest step does not fit beside the lowest of those that come before it, and lacks a
    /// further step only if that does not fit beside what is given.
    #[test]
    fn ranks_are_kept_and_nothing_is_wasted(videos in videos(), estimate in 0u64..6_000_000) {
        let mut subscriber = Subscriber::default();
        subscriber.allocate(&videos, estimate, 0, Instant::now());
        let (table, budget) = (&subscriber.table, Budget { estimate, audio: 0, strained: true }.careful());
        // Everything is new to it, so that everything is counted with what it needs.
        let needs = |row: &Row| row.level.checked_sub(1).map_or(0, |level| table.rungs[row.rungs.start + level].needs);
        let total: u64 = table.rows.iter().filter(|row| !row.muted).map(needs).sum();
        let mut before = 0;
        for (_, _, index) in &table.order {
            let row = &table.rows[*index];
            if row.muted {
                continue;
            }
            let lowest = table.rungs[row.rungs.start];
            prop_assert_eq!(row.level > 0, before + lowest.needs <= budget);
            if row.level > 0 {
                before += lowest.needs;
            }
            if let Some(next) = table.rungs[row.rungs.clone()].get(row.level).filter(|_| row.level > 0) {
                prop_assert!(total - needs(row) + next.needs > budget);
            }
        }
    }

    /// With more budget, of a subscriber who has nothing yet: the first track in order of rank to begin or stop flowing
    /// begins; where the same flow and no two have one rank, the first to change rises. (A lower one may fall for it.)
    #[test]
    fn more_budget_is_better_for_whoever_comes_first(videos in videos(), less in 0u64..4_000_000, more in 0u64..500_000) {
        let mut videos = videos;
        for (index, video) in videos.iter_mut().enumerate() {
            video.priority = 10 + index as u8;
        }
        let levels = |estimate| {
            let mut subscriber = Subscriber::default();
            subscriber.allocate(&videos, estimate, 0, Instant::now());
            let levels = subscriber.table.order.iter().map(|(_, _, index)| subscriber.table.rows[*index].level);
            levels.collect::<Vec<usize>>()
        };
        let (less, more) = (levels(less), levels(less + more));
        let flows = |levels: &[usize]| levels.iter().map(|level| *level > 0).collect::<Vec<bool>>();
        prop_assert!((flows(&more), &more) >= (flows(&less), &less));
    }

    /// Of equal tracks none stays behind while all could have more. More budget lets no fewer of them flow, and where as many
    /// flow the lowest is no lower.
    #[test]
    fn equal_tracks_share_evenly(steps in steps(), count in 1usize..26, less in 0u64..9_000_000, more in 0u64..900_000) {
        let mut videos = vec![Video { steps, ..video(Class::Other) }; count];
        videos.iter_mut().flat_map(|video| &mut video.steps).for_each(|step| step.active = true);
        let mut subscriber = Subscriber::default();
        let mut levels = |estimate| {
            subscriber.flowing.clear();
            subscriber.pace = Pace::default();
            subscriber.allocate(&videos, estimate, 0, Instant::now());
            let table = &subscriber.table;
            let levels: Vec<usize> = table.rows.iter().map(|row| row.level).filter(|level| *level > 0).collect();
            if let Some(next) = levels.iter().min().and_then(|least| table.rungs[table.rows[0].rungs.clone()].get(*least)) {
                assert!(next.needs * levels.len() as u64 > Budget { estimate, audio: 0, strained: true }.careful());
            }
            levels
        };
        let (less, more) = (levels(less), levels(less + more));
        prop_assert!(less.len() <= more.len());
        prop_assert!(less.len() < more.len() || less.iter().min() <= more.iter().min());
    }

    /// The same inputs give the same choices, and once everything had time to come what was chosen stays.
    #[test]
    fn it_is_a_function_and_settles(videos in videos(), history in prop::collection::vec(0u64..5_000_000, 1..6)) {
        let start = Instant::now();
        let mut twins = [Subscriber::default(), Subscriber::default()];
        let [one, other] = twins.each_mut().map(|subscriber| anywhere(subscriber, &videos, &history, start));
        prop_assert_eq!(one, other);
        prop_assert_eq!(&twins[0].flowing, &twins[1].flowing);
        let estimate = history[history.len() - 1];
        let mut settled = twins[0].allocate(&videos, estimate, 0, one);
        // What was asked for and does not come makes room for something else: each time for one rung at least.
        let rungs = videos.iter().map(|video| video.steps.len() as u32).sum::<u32>();
        for round in 1..=rungs {
            settled = twins[0].allocate(&videos, estimate, 0, one + HOLD_MAX * round);
        }
        for round in 1..4 {
            prop_assert_eq!(&twins[0].allocate(&videos, estimate, 0, one + HOLD_MAX * (rungs + round)), &settled);
        }
    }

    /// While an estimate is only ±10 % off, no track changes twice within the hold time, whatever flowed before.
    #[test]
    fn noise_changes_nothing_twice(
        videos in videos(),
        history in prop::collection::vec(0u64..5_000_000, 0..5),
        estimate in 0u64..5_000_000,
        audio in 0u64..200_000,
        noise in prop::collection::vec((90u64..=110, 1u64..1_000), 1..100),
    ) {
        let mut subscriber = Subscriber::default();
        let mut now = anywhere(&mut subscriber, &videos, &history, Instant::now());
        let mut changed: Vec<Option<Instant>> = vec![None; videos.len()];
        for (percent, ms) in noise {
            let before = subscriber.flowing.clone();
            subscriber.allocate(&videos, estimate * percent / 100, audio, now);
            for (track, at) in changed.iter_mut().enumerate() {
                if before.get(track).copied().flatten() != subscriber.flowing[track] {
                    prop_assert!(at.is_none_or(|at| now - at >= HOLD), "track {}", track);
                    *at = Some(now);
                }
            }
            now += Duration::from_millis(ms);
        }
    }
}
