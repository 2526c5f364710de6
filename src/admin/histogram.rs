//! Histograms that were counted elsewhere, in fixed classes, as Prometheus has them.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use sfu::{BOUNDS_US, Durations};

/// One of them.
pub(super) struct Counted {
    /// The value of the label; empty where there is no label.
    word: &'static str,
    /// The upper bounds of all classes but the last.
    bounds: Vec<f64>,
    /// How many were in each class.
    classes: Vec<u64>,
    sum: f64,
}

impl Counted {
    /// Runs by the highest bit of their length: 1, 2–3, 4–7 and so on; `datagrams` is the sum of all.
    pub(super) fn runs(classes: &[u64], datagrams: u64) -> Self {
        let bounds = (1..classes.len() as u32).map(|class| f64::from((1_u32 << class) - 1)).collect();
        Counted { word: "", bounds, classes: classes.to_vec(), sum: datagrams as f64 }
    }

    /// Durations, in seconds.
    pub(super) fn seconds(word: &'static str, durations: &Durations) -> Self {
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).collect();
        Counted { word, bounds, classes: durations.classes.to_vec(), sum: durations.sum.as_secs_f64() }
    }

    fn metric(&self, label: &str) -> Metric {
        let mut so_far = 0;
        // The last class has no upper bound: it is in the count only.
        let bucket = |(bound, count): (&f64, &u64)| {
            so_far += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(so_far);
            bucket
        };
        let buckets = self.bounds.iter().zip(&self.classes).map(bucket).collect();
        let mut histogram = Histogram::default();
        histogram.set_sample_count(self.classes.iter().sum());
        histogram.set_sample_sum(self.sum);
        histogram.set_bucket(buckets);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        if !self.word.is_empty() {
            let mut pair = LabelPair::default();
            pair.set_name(label.to_owned());
            pair.set_value(self.word.to_owned());
            metric.set_label(vec![pair]);
        }
        metric
    }
}

/// All of one name, told apart by one label.
pub(super) struct Family {
    description: Desc,
    label: &'static str,
    members: Vec<Counted>,
}

impl Family {
    /// The registry puts `lyceum_` before the name, as before all names.
    pub(super) fn new(
        name: &str,
        help: &str,
        label: &'static str,
        members: Vec<Counted>,
    ) -> Result<Self, prometheus::Error> {
        let labels = members.iter().filter(|it| !it.word.is_empty()).take(1).map(|_| label.to_owned()).collect();
        let description = Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())?;
        Ok(Family { description, label, members })
    }
}

impl Collector for Family {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut family = MetricFamily::default();
        family.set_name(self.description.fq_name.clone());
        family.set_help(self.description.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(self.members.iter().map(|member| member.metric(self.label)).collect());
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::{Encoder as _, TextEncoder};

    use super::*;

    fn assert_says(family: &Family, lines: &[&str]) {
        let mut text = Vec::new();
        TextEncoder::new().encode(&family.collect(), &mut text).expect("it can be written");
        let text = String::from_utf8(text).expect("text");
        for line in lines {
            assert!(text.lines().any(|l| l == *line), "{line} in\n{text}");
        }
    }

    #[test]
    fn run_lengths_are_a_histogram() {
        let runs = Counted::runs(&[5, 0, 2, 0, 0, 0, 1], 5 + 8 + 64);
        let lines = [
            "run_datagrams_bucket{le=\"1\"} 5",
            "run_datagrams_bucket{le=\"7\"} 7",
            "run_datagrams_bucket{le=\"63\"} 7",
            "run_datagrams_bucket{le=\"+Inf\"} 8",
            "run_datagrams_sum 77",
        ];
        assert_says(&Family::new("run_datagrams", "Datagrams.", "", vec![runs]).expect("a name"), &lines);
    }

    #[test]
    fn durations_are_in_seconds_and_told_apart_by_their_label() {
        let mut ack = Durations::default();
        ack.note(Duration::from_micros(300));
        ack.note(Duration::from_secs(60));
        let members = vec![Counted::seconds("ack", &ack), Counted::seconds("media", &Durations::default())];
        let lines = [
            "join_seconds_bucket{stage=\"ack\",le=\"0.00025\"} 0",
            "join_seconds_bucket{stage=\"ack\",le=\"0.0005\"} 1",
            "join_seconds_bucket{stage=\"ack\",le=\"10\"} 1",
            "join_seconds_bucket{stage=\"ack\",le=\"+Inf\"} 2",
            "join_seconds_sum{stage=\"ack\"} 60.0003",
            "join_seconds_count{stage=\"media\"} 0",
        ];
        assert_says(&Family::new("join_seconds", "Joins.", "stage", members).expect("a name"), &lines);
    }
}
