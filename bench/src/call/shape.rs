//! What a class is like, from a file: how people come, who shows a camera, who talks, who leaves and comes back. TOML or JSON.

use std::time::Duration;

use serde::Deserialize;

use super::chaos::Chaos;
use super::words::{parse_duration, parse_percent};

/// Points of a join curve. More is refused.
const POINTS_MAX: usize = 100;
/// Deeds of a class. More is refused.
const DEEDS_MAX: usize = 1_000;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// By which part of the ramp which part of the people have come, both 0–1, in order. Without points they come evenly.
    pub joins: Vec<(f64, f64)>,
    /// Part of the participants who show their camera; instructors always do.
    pub cameras: f64,
    /// Part of the participants who have a microphone.
    pub microphones: f64,
    /// Who talks; all at once without it.
    pub talk: Option<Talk>,
    /// What happens to people.
    pub deeds: Vec<Chaos>,
}

/// Who talks in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talk {
    /// So many at a time.
    pub speakers: usize,
    /// For so long, then others.
    pub turn: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { joins: Vec::new(), cameras: 1.0, microphones: 1.0, talk: None, deeds: Vec::new() }
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[derive(Default)]
struct Written {
    joins: Vec<(String, String)>,
    cameras: Option<String>,
    microphones: Option<String>,
    talk: Option<WrittenTalk>,
    chaos: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenTalk {
    speakers: usize,
    turn: String,
}

impl Shape {
    /// Reads a file's text: JSON where it begins as an object does, else TOML with the same names. Such as
    /// `{ "joins": [["20%", "10%"], ["60%", "90%"]], "cameras": "40%", "talk": { "speakers": 1, "turn": "8s" }, "chaos": ["leave@30s:10%:5s"] }`.
    ///
    /// # Errors
    /// A sentence that says what is expected.
    pub fn parse(text: &str) -> Result<Shape, String> {
        let read = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| error.to_string())
        } else {
            toml::from_str(text).map_err(|error| error.to_string())
        };
        let written: Written = read.map_err(|error| format!("the shape cannot be read: {error}"))?;
        let point = |(time, people): &(String, String)| Ok((parse_percent(time)?, parse_percent(people)?));
        let joins = written.joins.iter().map(point).collect::<Result<Vec<_>, String>>()?;
        let rises = joins.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1);
        if !rises || joins.len() > POINTS_MAX {
            return Err(format!(
                "a join curve has at most {POINTS_MAX} points that never fall: time of the ramp, then people"
            ));
        }
        if written.chaos.len() > DEEDS_MAX {
            return Err(format!("a shape has at most {DEEDS_MAX} deeds"));
        }
        let share = |text: Option<String>| text.map_or(Ok(1.0), |text| parse_percent(&text));
        let talk = written.talk.map(|talk| {
            let turn = parse_duration(&talk.turn)?;
            Ok::<_, String>(Talk { speakers: talk.speakers.max(1), turn })
        });
        Ok(Shape {
            joins,
            cameras: share(written.cameras)?,
            microphones: share(written.microphones)?,
            talk: talk.transpose()?,
            deeds: written.chaos.iter().map(|deed| deed.parse()).collect::<Result<_, _>>()?,
        })
    }

    /// By which part of the ramp `people` (0–1) of all have come: the inverse of the curve, straight between its points.
    pub fn joins_by(&self, people: f64) -> f64 {
        let mut before = (0.0, 0.0);
        for point in self.joins.iter().copied().chain([(1.0, 1.0)]) {
            if people <= point.1 {
                let height: f64 = point.1 - before.1;
                let part = if height > 0.0 { (people - before.1) / height } else { 1.0 };
                return before.0 + part * (point.0 - before.0);
            }
            before = point;
        }
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::chaos::Deed;
    use crate::call::plan::talks;

    #[test]
    fn a_class_is_read_and_bent_into_shape() {
        let shape = Shape::parse(
            r#"{ "joins": [["20%", "10%"], ["60%", "90%"]], "cameras": "40%", "microphones": "50%",
                 "talk": { "speakers": 1, "turn": "8s" }, "chaos": ["leave@30s:10%:5s"] }"#,
        );
        let shape = shape.expect("it is right");
        let toml = r#"
            joins = [["20%", "10%"], ["60%", "90%"]]
            cameras = "40%"
            microphones = "50%"
            chaos = ["leave@30s:10%:5s"]
            [talk]
            speakers = 1
            turn = "8s"
        "#;
        assert_eq!(Shape::parse(toml).as_ref(), Ok(&shape), "the same in another language");
        assert_eq!((shape.cameras, shape.microphones, shape.deeds.len()), (0.4, 0.5, 1));
        assert_eq!(shape.deeds[0].deed, Deed::Leave { away: Duration::from_secs(5) });
        for (people, time) in [(0.0, 0.0), (0.05, 0.1), (0.1, 0.2), (0.5, 0.4), (0.9, 0.6), (1.0, 1.0)] {
            assert!((shape.joins_by(people) - time).abs() < 1e-9, "{people}: {}", shape.joins_by(people));
        }
        assert_eq!(Shape::default().joins_by(0.25), 0.25);
        let talking =
            |s| (0..5).filter(|place| talks(Some(&shape), 0, *place, 5, Duration::from_secs(s))).collect::<Vec<_>>();
        assert_eq!((talking(0), talking(7), talking(8), talking(40)), (vec![0], vec![0], vec![1], vec![0]));
    }

    #[test]
    fn what_is_no_shape_is_refused_with_a_reason() {
        for wrong in [
            "7",
            "colour = 1",
            "cameras = \"12\"",
            r#"{ "colour": 1 }"#,
            r#"{ "cameras": "12" }"#,
            r#"{ "joins": [["50%", "50%"], ["40%", "60%"]] }"#,
            r#"{ "chaos": ["burn@1s:1%"] }"#,
        ] {
            assert!(Shape::parse(wrong).is_err(), "{wrong}");
        }
    }
}
