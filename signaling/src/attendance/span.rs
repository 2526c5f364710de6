//! Sets of times.

/// From when to when, Unix ms; never backwards.
pub(crate) type Span = (u64, u64);

/// The union: in order, none touching another.
pub(crate) fn union(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for (from, to) in spans {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// How long a union is, ms.
pub(crate) fn measure(spans: &[Span]) -> u64 {
    spans.iter().fold(0, |sum, (from, to)| sum.saturating_add(to.saturating_sub(*from)))
}

/// The most of some unions that hold at one time. Where one ends as another begins they do not meet; one that ends as it
/// begins holds for that instant.
pub(crate) fn peak<'a>(unions: impl Iterator<Item = &'a [Span]>) -> u32 {
    const END: u8 = 0;
    const START: u8 = 1;
    const END_AT_ONCE: u8 = 2;
    let ends = |(from, to): &Span| [(*from, START), (*to, if from == to { END_AT_ONCE } else { END })];
    let mut steps: Vec<(u64, u8)> = unions.flatten().flat_map(ends).collect();
    steps.sort_unstable();
    let (mut present, mut most) = (0u32, 0);
    for (_, step) in steps {
        if step == START {
            present = present.saturating_add(1);
            most = most.max(present);
        } else {
            present = present.saturating_sub(1);
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_counts_each_ms_once() {
        let spans = union(vec![(5, 9), (1, 3), (3, 4), (6, 7), (20, 20)]);
        assert_eq!(spans, [(1, 4), (5, 9), (20, 20)]);
        assert_eq!(measure(&spans), 7);
        assert_eq!(measure(&[(0, u64::MAX), (0, u64::MAX)]), u64::MAX);
    }

    #[test]
    fn a_peak_is_of_what_holds_at_one_time() {
        let peak_of = |spans: &[Span]| peak(spans.iter().map(std::slice::from_ref));
        assert_eq!(peak_of(&[]), 0);
        assert_eq!(peak_of(&[(1, 5), (5, 9)]), 1, "one goes as the other comes");
        assert_eq!(peak_of(&[(1, 5), (4, 9), (4, 4)]), 3);
        assert_eq!(peak_of(&[(4, 4)]), 1);
    }
}
