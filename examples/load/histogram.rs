//! A histogram of durations with an error of at most 1.6 %, in a fixed amount of memory.

use crate::number::{float, index, narrow, whole, wide};
use serde::{Deserialize, Serialize};

/// The number of cells per power of two.
const CELLS: u64 = 64;
/// The number of powers of two below which each value has a separate cell.
const EXACT_BITS: u32 = 6;
/// The number of cells. They suffice for 2^40 microseconds, which is twelve days.
const COUNT: usize = 64 * 36;

/// Durations in microseconds, counted in cells whose width grows with the value.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    cells: Box<[u64]>,
    count: u64,
    max: u64,
}

/// The serialised form of a histogram: the cells that are not empty.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Packed {
    cells: Vec<(u32, u64)>,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { cells: vec![0; COUNT].into_boxed_slice(), count: 0, max: 0 }
    }
}

fn cell_of(value: u64) -> usize {
    if value < CELLS {
        return index(value);
    }
    let shift = value.ilog2() - EXACT_BITS;
    let cell = u64::from(shift) * CELLS + (value >> shift);
    index(cell).min(COUNT - 1)
}

/// The largest value that falls into `cell`.
fn value_of(cell: usize) -> u64 {
    let cell = wide(cell);
    if cell < 2 * CELLS {
        return cell;
    }
    let shift = cell / CELLS - 1;
    ((cell % CELLS + CELLS + 1) << shift) - 1
}

impl Histogram {
    /// Counts one duration.
    pub(crate) fn record(&mut self, us: u64) {
        self.cells[cell_of(us)] += 1;
        self.count += 1;
        self.max = self.max.max(us);
    }

    /// Adds the counts of `other`.
    pub(crate) fn add(&mut self, other: &Packed) {
        for (cell, count) in &other.cells {
            if let Some(own) = self.cells.get_mut(index(u64::from(*cell))) {
                *own += count;
                self.count += count;
            }
        }
        self.max = self.max.max(other.max);
    }

    /// The largest duration.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The duration that a share of `quantile` (0 to 1) does not exceed; 0 if nothing was counted.
    pub(crate) fn quantile(&self, quantile: f64) -> u64 {
        let wanted = whole((quantile * float(self.count)).ceil()).max(1);
        let mut seen = 0;
        for (cell, count) in self.cells.iter().enumerate() {
            seen += count;
            if wanted <= seen {
                return value_of(cell).min(self.max);
            }
        }
        self.max
    }

    /// Removes all counts.
    pub(crate) fn clear(&mut self) {
        self.cells.fill(0);
        self.count = 0;
        self.max = 0;
    }

    /// The serialised form of the histogram.
    pub(crate) fn pack(&self) -> Packed {
        let full = self.cells.iter().enumerate().filter(|(_, count)| **count != 0);
        let cells = full.map(|(cell, count)| (narrow(wide(cell)), *count)).collect();
        Packed { cells, max: self.max }
    }
}

impl From<&Packed> for Histogram {
    fn from(packed: &Packed) -> Self {
        let mut histogram = Self::default();
        histogram.add(packed);
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_a_cell_that_is_hardly_wider_than_itself() {
        for value in (0..2_000).chain([4_095, 4_096, 65_537, 1 << 30, (1 << 40) - 1]) {
            let top = value_of(cell_of(value));
            assert!(value <= top, "{value} {top}");
            assert!(top - value <= value / 64, "{value} {top}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        (1..=1_000).for_each(|us| histogram.record(us));
        let half = histogram.quantile(0.5);
        assert!((500..=508).contains(&half), "{half}");
        assert_eq!(histogram.quantile(1.0), 1_000);
        let mut other = Histogram::from(&histogram.pack());
        other.add(&histogram.pack());
        assert_eq!((other.count, other.quantile(0.5)), (2_000, half));
    }
}
