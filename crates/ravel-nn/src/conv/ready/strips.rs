//! Layers on strips of grids: rows are asked for at the end, every layer asks the one before it for what they see, and what
//! nothing sees any more is let go of.
//!
//! A group norm needs the sums of a whole grid before its first number is known. So the rows go through once for each norm, up to the
//! layer that it reads and no further, and once more for the picture; each time the norms in front are those that were found before.
//! Layers compute the same bands of rows as in whole grids, and sums are added in the same order, so a picture is the same
//! bits; what it costs is that the first layers run once for every norm behind them.

use ravel_kernels::conv::{Conv, Grid, Planes, Rows, Strip};
use ravel_kernels::norm::{Entry, Sums};
use ravel_kernels::pool::Pool;

use super::plan::Size;
use super::{Residual, Step};

/// Layers behind a grid that is whole.
pub(super) struct Strips<'a> {
    input: Rows<'a>,
    stages: Vec<Stage<'a>>,
    /// Rows that are asked for at a time, counted at the finest grid.
    rows: usize,
}

/// Up to where rows go through a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// To the first convolution of a residual block.
    Inner,
    /// To its end.
    Whole,
}

impl<'a> Strips<'a> {
    /// `rows` are counted at the finest grid.
    pub(super) fn new(steps: &'a [Step], grid: &'a Grid, rows: usize) -> Self {
        let mut size = [grid.height, grid.width, grid.channels];
        let stage = |step: &'a Step| {
            size = step.out(size);
            Stage::new(step, size)
        };
        Self {
            input: grid.rows(),
            stages: steps.iter().map(stage).collect(),
            rows,
        }
    }

    /// Writes the picture of a grid with these sums to `planes`, as [`Grid::write`] does.
    pub(super) fn run(&mut self, pool: &Pool, sums: &Sums, side: usize, planes: &mut [f32]) {
        let last = self.stages.len() - 1;
        self.stages[0].enter(0, sums);
        for at in 0..=last {
            if self.stages[at].step.has_norm(1) {
                let sums = self.pass(pool, at, Part::Inner, |_| ());
                self.stages[at].enter(1, &sums);
            }
            if at < last && self.stages[at + 1].step.has_norm(0) {
                let sums = self.pass(pool, at, Part::Whole, |_| ());
                self.stages[at + 1].enter(0, &sums);
            }
        }
        self.pass(pool, last, Part::Whole, |rows| {
            rows.write(pool, side, planes);
        });
    }

    /// Numbers that there is room for in all strips.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        let strips = self
            .stages
            .iter()
            .flat_map(|stage| [&stage.inner, &stage.out]);
        strips.map(Strip::room).sum()
    }

    /// Lets all rows through the stages up to `last`; gives the sums of what comes out there, and shows it.
    fn pass(&mut self, pool: &Pool, last: usize, part: Part, mut show: impl FnMut(Rows)) -> Sums {
        self.stages
            .iter_mut()
            .for_each(|stage| stage.clear(Part::Whole));
        self.stages[last].clear(part);
        let strip = self.stages[last].strip(part);
        let (height, mut sums) = (strip.height, Sums::none(strip.channels));
        let rows = self.rows_at(last);
        for start in (0..height).step_by(rows) {
            self.bring(pool, last, part, start + rows, &mut sums);
            let strip = self.stages[last].strip(part);
            show(strip.rows());
            strip.forget(height);
        }
        sums
    }

    /// Rows that a stage makes at a time, if its bands are no higher.
    fn rows_at(&self, at: usize) -> usize {
        let finest = self.stages.last().map_or(1, |stage| stage.out.height);
        (self.rows * self.stages[at].out.height / finest).max(1)
    }

    /// Lets a stage go on to row `end` of what it makes, a few rows at a time, and those before it as far as that takes.
    fn bring(&mut self, pool: &Pool, at: usize, part: Part, end: usize, sums: &mut Sums) {
        let end = self.stages[at].in_bands(part, end);
        loop {
            let done = self.stages[at].strip(part).range().end;
            if done >= end {
                return;
            }
            let next = (done + self.rows_at(at)).min(end);
            let next = self.stages[at].in_bands(part, next);
            self.bring_what_is_seen(pool, at, part, next);
            let (before, rest) = self.stages.split_at_mut(at);
            let stage = &mut rest[0];
            match before.last_mut() {
                None => stage.take(pool, self.input, part, next, sums),
                Some(before) => {
                    stage.take(pool, before.out.rows(), part, next, sums);
                    before.out.forget(stage.done_with());
                }
            }
        }
    }

    /// Lets those before a stage go on as far as it sees on its way to row `end`.
    fn bring_what_is_seen(&mut self, pool: &Pool, at: usize, part: Part, end: usize) {
        let seen = self.stages[at].sees(part, end);
        match (self.stages[at].step, part) {
            // The block's second convolution sees what the first one makes.
            (Step::Residual(_), Part::Whole) => {
                let mut ignored = Sums::none(self.stages[at].inner.channels);
                self.bring(pool, at, Part::Inner, seen, &mut ignored);
            }
            _ if at > 0 => {
                let mut ignored = Sums::none(self.stages[at - 1].out.channels);
                self.bring(pool, at - 1, Part::Whole, seen, &mut ignored);
            }
            _ => {}
        }
    }
}

/// A layer with the rows that it made and that are still seen.
struct Stage<'a> {
    step: &'a Step,
    /// What happens to numbers on their way into its convolutions.
    entries: [Entry; 2],
    /// Between the convolutions of a residual block.
    inner: Strip,
    out: Strip,
    /// Up to where rows go in this pass.
    part: Part,
}

impl<'a> Stage<'a> {
    fn new(step: &'a Step, [height, width, channels]: Size) -> Self {
        let entry = |at| match step.has_norm(at) {
            true => Entry::default(),
            false => step.entry(at, &Sums::none(0)),
        };
        Self {
            step,
            entries: [0, 1].map(entry),
            inner: Strip::new(height, width, step.inner()),
            out: Strip::new(height, width, channels),
            part: Part::Whole,
        }
    }

    /// Back to no row, which will go through up to `part`.
    fn clear(&mut self, part: Part) {
        self.inner.clear();
        self.out.clear();
        self.part = part;
    }

    fn enter(&mut self, at: usize, sums: &Sums) {
        self.entries[at] = self.step.entry(at, sums);
    }

    fn strip(&mut self, part: Part) -> &mut Strip {
        match part {
            Part::Inner => &mut self.inner,
            Part::Whole => &mut self.out,
        }
    }

    /// The convolution that makes a part; shuffling is none.
    fn conv(&self, part: Part) -> Option<&'a Conv> {
        match (self.step, part) {
            (Step::Conv(conv) | Step::Bent(_, _, conv) | Step::Double(conv), _) => Some(conv),
            (Step::Residual(residual), Part::Inner) => Some(&residual.convs[0]),
            (Step::Residual(residual), Part::Whole) => Some(&residual.convs[1]),
            (Step::Shuffle, _) => None,
            (Step::Attention(_), _) => unreachable!("attention sees whole grids"),
        }
    }

    /// Cells a side that it makes of one.
    fn repeat(&self) -> usize {
        match self.step {
            Step::Double(_) | Step::Shuffle => 2,
            _ => 1,
        }
    }

    /// Row `end` of what it makes, or where the row's band ends.
    fn in_bands(&self, part: Part, end: usize) -> usize {
        let Strip { height, width, .. } = self.out;
        let band = self.conv(part).map_or(2, |conv| conv.band(height, width));
        end.next_multiple_of(band).min(height)
    }

    /// The end of the rows that it sees on its way to row `end`: of what the layer before it makes, or of the first half of its own.
    fn sees(&self, part: Part, end: usize) -> usize {
        let reach = self.conv(part).map_or(0, Conv::reach);
        (end + reach).min(self.out.height).div_ceil(self.repeat())
    }

    /// Goes on to row `end`, where a band ends.
    fn take(&mut self, pool: &Pool, input: Rows, part: Part, end: usize, sums: &mut Sums) {
        let repeat = self.repeat();
        let Some(conv) = self.conv(part) else {
            return input.shuffle(pool, repeat, &mut self.out.extend(end));
        };
        let [first, second] = &self.entries;
        let Step::Residual(residual) = self.step else {
            let mut out = self.out.extend(end);
            return conv.run_rows(pool, input, first, repeat, &mut out, false, sums);
        };
        if part == Part::Inner {
            let mut inner = self.inner.extend(end);
            return conv.run_rows(pool, input, first, 1, &mut inner, false, sums);
        }
        let mut out = self.out.extend(end);
        match &residual.shortcut {
            None => {
                let same = input.cells(out.range());
                out.cells_mut().copy_from_slice(same);
            }
            Some(shortcut) => {
                let mut ignored = Sums::none(out.channels);
                let plain = Entry::default();
                shortcut.run_rows(pool, input, &plain, 1, &mut out, false, &mut ignored);
            }
        }
        conv.run_rows(pool, self.inner.rows(), second, 1, &mut out, true, sums);
        self.inner.forget(end.saturating_sub(conv.reach()));
    }

    /// The end of the rows of its input that it does not see again.
    fn done_with(&self) -> usize {
        let done = |part, strip: &Strip| {
            let reach = self.conv(part).map_or(0, Conv::reach);
            strip.range().end.saturating_sub(reach) / self.repeat()
        };
        match (self.step, self.part) {
            (Step::Residual(_), Part::Inner) => done(Part::Inner, &self.inner),
            (Step::Residual(_), Part::Whole) => {
                done(Part::Inner, &self.inner).min(self.out.range().end)
            }
            _ => done(Part::Whole, &self.out),
        }
    }
}

impl Residual {
    /// What [`Residual::run`] makes, bit by bit, without a whole grid between the convolutions: that goes by in strips of so many rows,
    /// and once more before, where a norm needs its sums.
    pub(super) fn run_sparing(
        &self,
        pool: &Pool,
        planes: &mut Planes,
        mut grid: Grid,
        sums: &Sums,
        rows: usize,
    ) -> (Grid, Sums) {
        let [first, second] = &self.convs;
        assert!(
            first.reach() <= second.reach(),
            "rows are read after they were written"
        );
        let (height, width) = (grid.height, grid.width);
        let ends = || (0..height).step_by(rows).map(|start| start + rows);
        let in_bands = |conv: &Conv, end: usize| {
            let band = conv.band(height, width);
            end.next_multiple_of(band).min(height)
        };
        let mut inner = Strip::new(height, width, first.channels());
        let entry = self.entry(0, sums);
        let go_on = |grid: &Grid, inner: &mut Strip, end: usize, sums: &mut Sums| {
            let end = in_bands(first, end).max(inner.range().end);
            let mut to = inner.extend(end);
            first.run_rows(pool, grid.rows(), &entry, 1, &mut to, false, sums);
        };
        let mut sums = Sums::none(first.channels());
        if self.norms[1].is_some() {
            for end in ends() {
                go_on(&grid, &mut inner, end, &mut sums);
                inner.forget(height);
            }
            inner.clear();
        }
        let enter_second = self.entry(1, &sums);
        let mut out = self.shortcut.as_ref().map(|shortcut| {
            let mut out = planes.take(height, width, shortcut.channels());
            shortcut.run(pool, &grid, &Entry::default(), 1, &mut out, false);
            out
        });
        let mut sums = Sums::none(second.channels());
        let mut done = 0;
        for end in ends() {
            let end = in_bands(second, end).max(done);
            let mut ignored = Sums::none(first.channels());
            go_on(&grid, &mut inner, end + second.reach(), &mut ignored);
            // The first convolution has read the rows that are added to here, and does not see them again.
            let mut to = out.as_mut().unwrap_or(&mut grid).rows_mut(done..end);
            second.run_rows(
                pool,
                inner.rows(),
                &enter_second,
                1,
                &mut to,
                true,
                &mut sums,
            );
            inner.forget(end.saturating_sub(second.reach()));
            done = end;
        }
        match out {
            None => (grid, sums),
            Some(out) => {
                planes.give(grid);
                (out, sums)
            }
        }
    }
}
