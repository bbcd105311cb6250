//! Series of measurements and what is told of them.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Samples of one thing: times, in milliseconds, or rates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    samples: Vec<f64>,
}

impl Series {
    /// No samples.
    pub(crate) const fn new() -> Self {
        Self { samples: Vec::new() }
    }

    /// Adds the time that `work` takes.
    pub(crate) fn time<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = work()?;
        self.add(start.elapsed());
        Ok(done)
    }

    /// Adds a time.
    pub(crate) fn add(&mut self, time: Duration) {
        self.add_ms(time.as_secs_f64() * 1000.0);
    }

    /// Adds a time in milliseconds.
    pub(crate) fn add_ms(&mut self, time: f64) {
        self.samples.push(time);
    }

    /// Adds a rate.
    pub(crate) fn add_rate(&mut self, rate: f64) {
        self.samples.push(rate);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The median; the mean of the middle two where there is no middle one.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        }
    }

    /// The first and the third quartile: half of the samples lie between them.
    pub(crate) fn quartiles(&self) -> (f64, f64) {
        let sorted = self.sorted();
        let at = |share: usize| sorted.get(sorted.len() * share / 4).copied().unwrap_or(f64::NAN);
        (at(1), at(3))
    }

    /// The smallest and the largest.
    pub(crate) fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (
            sorted.first().copied().unwrap_or(f64::NAN),
            sorted.last().copied().unwrap_or(f64::NAN),
        )
    }
}

/// Median and quartiles as two cells of a table.
impl fmt::Display for Series {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, third) = self.quartiles();
        write!(formatter, "{:.0} | {first:.0}–{third:.0}", self.median())
    }
}
