//! `lyceum-bench network`: the real SFU on simulated networks, in virtual time and from one seed.
//!
//! One row is one scene: publishers that behave as browsers do, receivers that are as strict as browsers are, and a link with
//! its accidents between the SFU and the subject. Losses strike both ways, so NACKs and feedback are lost, too.

pub mod feedback;
pub mod link;
pub mod measure;
pub mod publisher;
pub mod receiver;
pub mod reception;
pub mod scene;
pub mod stage;
pub mod starved;
pub mod video;
pub mod wire;

use std::fmt;

use serde::Serialize;

pub use measure::Outcome;
pub use scene::Scene;

/// All rows of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Where all accidents come from.
    pub seed: u64,
    /// One outcome a row.
    pub rows: Vec<Outcome>,
}

/// Runs the scenes whose name contains one of `wanted`; all for none. `progress` hears of each as it is done.
pub fn run(seed: u64, wanted: &[String], mut progress: impl FnMut(&Outcome)) -> Table {
    let mut scenes = scene::all();
    scenes.retain(|scene| wanted.is_empty() || wanted.iter().any(|part| scene.name.contains(part.as_str())));
    let mut rows = Vec::new();
    for scene in &scenes {
        let outcome = measure::run(scene, seed);
        progress(&outcome);
        rows.push(outcome);
    }
    measure::compare(&scenes, &mut rows);
    Table { seed, rows }
}

impl Table {
    /// Whether every row shows what was asked of it.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.missed.is_empty())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| downlink | audio lost % | frozen s (longest) | repaired % | down ms | up ms | use % (of what fits) | queue p95 ms | \
             recovery ms | sync ms | Jain | fps | layers % | paused s | keyframes/min | missed |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.0}"));
        let [low, middle, high] = self.layers_pct;
        write!(
            f,
            "| {} | {:.2} | {:.1} ({:.1}) | {:.0} | {} | {} | {} | {:.0} | {} | {:.0} | {} | {:.1} | {low:.0}/{middle:.0}/{high:.0} | \
             {:.1} | {:.0} | {} |",
            self.name,
            self.audio_lost_pct,
            self.frozen_ms / 1e3,
            self.freeze_ms / 1e3,
            self.repaired_pct,
            some(self.down_ms),
            some(self.up_ms),
            self.use_pct.zip(self.fit_pct).map_or("–".to_owned(), |(link, fit)| format!("{link:.0} ({fit:.0})")),
            self.queue_p95_ms,
            some(self.recovery_ms),
            self.lip_sync_ms,
            self.jain.map_or("–".to_owned(), |jain| format!("{jain:.2}")),
            self.fps,
            self.paused_ms / 1e3,
            self.keyframes_per_minute,
            self.missed.join(", "),
        )
    }
}
