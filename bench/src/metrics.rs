//! Reads a Prometheus text page: the server's own account of what a run cost.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::dial::{self, Trust};

/// The longest page read, in bytes; the rest is cut off.
const PAGE_BYTES_MAX: u64 = 4 << 20;
/// How long a scrape may take.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// The samples of one scrape, summed over labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Reads the text format; lines that are no samples are skipped.
    pub fn parse(page: &str) -> Samples {
        let mut samples = BTreeMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.trim().rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let name = series.split('{').next().unwrap_or(series).trim();
            *samples.entry(name.to_owned()).or_insert(0.0) += value;
            // A class of a histogram means nothing without its bound.
            if name.ends_with("_bucket") {
                samples.insert(series.trim().to_owned(), value);
            }
        }
        Samples(samples)
    }

    /// The value of a metric, summed over its labels.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// How much each class of a histogram grew from `before` to `self`: its upper bound as written, and how many fell between the
    /// bound before it and this. `series` is all of it up to the bound, such as `lyceum_run_datagrams_bucket{le="`.
    pub fn classes(&self, before: &Samples, series: &str) -> Vec<(String, f64)> {
        let bound = |text: &str| text.parse::<f64>().unwrap_or(f64::INFINITY);
        let grown = self.0.iter().filter_map(|(name, value)| {
            let le = name.strip_prefix(series)?.split('"').next()?;
            Some((le.to_owned(), value - before.value(name).unwrap_or(0.0)))
        });
        let mut classes: Vec<(String, f64)> = grown.collect();
        classes.sort_by(|a, b| bound(&a.0).total_cmp(&bound(&b.0)));
        let mut below = 0.0;
        for (_, count) in &mut classes {
            (below, *count) = (*count, *count - below);
        }
        classes
    }

    /// How much each `lyceum_…` counter and the CPU time grew from `before` to `self`.
    pub fn growth(&self, before: &Samples) -> BTreeMap<String, f64> {
        let ours = |name: &str| name.starts_with("lyceum_") || name == "process_cpu_seconds_total";
        self.0
            .iter()
            .filter(|(name, _)| ours(name) && name.ends_with("_total"))
            .map(|(name, value)| (name.clone(), value - before.value(name).unwrap_or(0.0)))
            .collect()
    }
}

/// Fetches `http://host:port/path`, or `https://` from a server whose certificate may be believed.
pub async fn scrape(url: &str, trust: &Trust) -> io::Result<Samples> {
    get(url, None, trust).await.map(|page| Samples::parse(&page))
}

/// The same as text, with a bearer's key if there is one. What is not there is [`io::ErrorKind::NotFound`].
pub async fn get(url: &str, key: Option<&str>, trust: &Trust) -> io::Result<String> {
    tokio::time::timeout(SCRAPE_TIMEOUT, fetch(url, key, trust))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn fetch(url: &str, key: Option<&str>, trust: &Trust) -> io::Result<String> {
    let (_, authority, path) = dial::split(url)?;
    let mut stream = dial::connect(url, None, trust).await?;
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {authority}\r\n{key}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut page).await?;
    let (head, body) = page.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some("404") => Err(io::ErrorKind::NotFound.into()),
        status => Err(io::Error::other(format!("status {}", status.unwrap_or("?")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_summed_over_labels() {
        let before = Samples::parse("process_cpu_seconds_total 1.5\nlyceum_rtp_out_total{worker=\"0\"} 10\n");
        let after = Samples::parse(
            "# HELP x y\nprocess_cpu_seconds_total 2.0\nlyceum_rtp_out_total{worker=\"0\"} 30\n\
             lyceum_rtp_out_total{worker=\"1\"} 5\nlyceum_peers 3\nnoise\n",
        );
        let growth = after.growth(&before);
        assert_eq!(growth["process_cpu_seconds_total"], 0.5);
        assert_eq!(growth["lyceum_rtp_out_total"], 25.0);
        assert!(!growth.contains_key("lyceum_peers"), "a gauge does not grow");
    }

    #[test]
    fn a_histogram_is_read_by_its_bounds() {
        let page = |ones, all| {
            Samples::parse(&format!(
                "x_bucket{{kind=\"a\",le=\"+Inf\"}} {all}\nx_bucket{{kind=\"a\",le=\"10\"}} {all}\n\
                 x_bucket{{kind=\"a\",le=\"9\"}} {ones}\nx_bucket{{kind=\"b\",le=\"9\"}} 77\n"
            ))
        };
        let classes = page(5, 12).classes(&page(1, 2), "x_bucket{kind=\"a\",le=\"");
        assert_eq!(classes, [("9".to_owned(), 4.0), ("10".to_owned(), 6.0), ("+Inf".to_owned(), 0.0)]);
    }
}
