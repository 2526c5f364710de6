//! A join storm: a whole lecture comes within a second, in virtual time. Each is offered what is new at most once in an interval,
//! however many came in it.
#![allow(missing_docs)]

use std::time::Duration;

use bench::hall::Hall;
use sfu::Kind;

const PEOPLE: usize = 200;
/// Between two joins.
const STEP: Duration = Duration::from_millis(5);
/// Offers to one peer are not closer together (`OFFER_INTERVAL`, sfu/src/negotiation.rs).
const OFFER_INTERVAL: Duration = Duration::from_millis(100);
/// Everything there is to offer was offered so long after the last join.
const TAIL: Duration = Duration::from_secs(2);

#[test]
fn two_hundred_who_join_in_a_second_are_offered_once_an_interval() {
    let mut hall = Hall::new(9);
    for _ in 0..PEOPLE {
        hall.join(&[Kind::Audio, Kind::Video]);
        hall.settle();
        hall.advance(STEP);
    }
    assert!(hall.connect_all(Duration::from_secs(10)), "all connect");
    let rest = hall.now.mono + TAIL;
    hall.run_until(TAIL, |hall| hall.now.mono >= rest);
    let intervals = ((STEP * PEOPLE as u32 + TAIL).as_millis() / OFFER_INTERVAL.as_millis()) as u32;
    let most = hall.offers.iter().max().copied().unwrap_or_default();
    let total: u32 = hall.offers.iter().sum();
    assert!(hall.offers.iter().all(|offers| (1..=intervals + 1).contains(offers)), "{:?}", hall.offers);
    // Without coalescing it would be one for each who came later, which is a hundred on average.
    assert!(total < 20 * PEOPLE as u32, "{total} offers to {PEOPLE} people, {most} to one of them");
    let before = hall.offers.clone();
    let end = hall.now.mono + TAIL;
    hall.run_until(TAIL, |hall| hall.now.mono >= end);
    assert_eq!(hall.offers, before, "when nobody comes nobody is offered anything");
}
