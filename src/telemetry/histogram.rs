//! Histograms that cost the same however many samples they are given: a sample is two additions, to its bucket and to the
//! sum. Keeps no sample, and knows no family by name.

use std::sync::Arc;

use metrics::HistogramFn;

use super::series::{Render, sample};
use super::tally::Tally;

/// The sum is kept as an integer of these, so that adding to it is one instruction: a billionth of the family's unit.
const PER_UNIT: f64 = 1e9;

/// One series of a histogram family.
pub(super) struct Histogram {
    bounds: Arc<[f64]>,
    /// One more than bounds: the last is for what exceeds them all.
    buckets: Box<[Tally]>,
    sum: Tally,
}

impl Histogram {
    /// Without a sample yet. `bounds` rise.
    pub(super) fn new(bounds: &Arc<[f64]>) -> Self {
        Self {
            bounds: Arc::clone(bounds),
            buckets: std::iter::repeat_with(Tally::default).take(bounds.len() + 1).collect(),
            sum: Tally::default(),
        }
    }
}

impl HistogramFn for Histogram {
    fn record(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.add(1);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "what no number of nanoseconds holds becomes the nearest one that does"
        )]
        self.sum.add((value * PER_UNIT) as u64);
    }
}

impl Render for Histogram {
    #[expect(clippy::cast_precision_loss, reason = "a sum has more digits than anybody looks at")]
    fn render(&self, name: &str, labels: &str, out: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut so_far = 0;
        let bounds = self.bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            so_far += bucket.sum();
            sample(
                &format!("{name}_bucket"),
                &format!("{labels}{comma}le=\"{bound}\""),
                so_far,
                out,
            );
        }
        let sum = self.sum.sum() as f64 / PER_UNIT;
        sample(&format!("{name}_sum"), labels, sum, out);
        sample(&format!("{name}_count"), labels, so_far, out);
    }
}
