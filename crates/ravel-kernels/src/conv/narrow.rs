//! Convolution in `bf16`: numbers and weights of 8 bits' precision, sums in `f32`.
//!
//! Two units of x86-64 multiply such pairs: the tiles of AMX (16 × 32 by 32 × 16 in one instruction) and, narrower, the dot
//! products of AVX512_BF16. Denormal numbers count as zero in both.

use super::buffer::Aligned;
use super::product::{PANEL, ROWS};
use super::{Band, View};
use crate::norm::Stored;
use crate::pool::{Parts, Pool};
use half::bf16;
use std::cell::RefCell;

/// Channels come in groups of so many, the depth of a tile.
const DEPTH: usize = 32;
/// Cells of a tile.
const TILE: usize = 16;

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The tiles of AMX.
    Tiles,
    /// The dot products of AVX512_BF16.
    Pairs,
}

impl Unit {
    /// All that this processor has and the system allows, fastest first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if x86::tiles_allowed() {
                all.push(Self::Tiles);
            }
            if std::is_x86_feature_detected!("avx512bf16")
                && std::is_x86_feature_detected!("avx512f")
            {
                all.push(Self::Pairs);
            }
        }
        all
    }

    /// The fastest, if there is one.
    pub fn best() -> Option<Self> {
        static BEST: std::sync::OnceLock<Option<Unit>> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::all().first().copied())
    }
}

/// `[to, from, kernel, kernel]` as `[panel, place, from / 2, PANEL, 2]`, zeros beyond both.
pub fn pack(pool: &Pool, weight: &[f32], to: usize, from: usize, kernel: usize) -> Aligned<bf16> {
    let (places, depth) = (kernel * kernel, from.next_multiple_of(DEPTH));
    let panel = places * depth * PANEL;
    let mut packed = Aligned::zeros(to.div_ceil(PANEL) * panel);
    let parts = Parts::new(&mut packed);
    pool.run(to.div_ceil(PANEL), &|at| {
        // SAFETY: panels do not overlap.
        let packed = unsafe { parts.part(at * panel..(at + 1) * panel) };
        for column in 0..PANEL.min(to - at * PANEL) {
            let weight = &weight[(at * PANEL + column) * from * places..][..from * places];
            for (channel, weight) in weight.chunks_exact(places).enumerate() {
                for (place, weight) in weight.iter().enumerate() {
                    packed[((place * depth + channel) / 2 * PANEL + column) * 2 + channel % 2] =
                        bf16::of(*weight);
                }
            }
        }
    });
    packed
}

thread_local! {
    /// The padded input of a band, and results.
    static SCRATCH: RefCell<(Aligned<bf16>, Aligned<f32>)> = RefCell::default();
}

/// One band of the output.
pub fn band(unit: Unit, view: &View, weights: &[bf16], kernel: usize, out: &mut Band) {
    SCRATCH.with_borrow_mut(|(input, results)| {
        let around = kernel / 2;
        let depth = view.input.channels.next_multiple_of(DEPTH);
        let across = out.width.next_multiple_of(TILE);
        let columns = across + 2 * around;
        let rows = out.rows + 2 * around;
        let input = input.reserve(rows * columns * depth);
        view.read(
            [out.first as isize - around as isize, -(around as isize)],
            [rows, columns],
            depth,
            input,
        );
        let places: Vec<usize> = (0..kernel * kernel)
            .map(|at| (at / kernel * columns + at % kernel) * depth)
            .collect();
        let input = Input {
            cells: input,
            columns,
            depth,
            places: &places,
            across,
        };
        match unit {
            #[cfg(target_arch = "x86_64")]
            Unit::Tiles => x86::tiles(&input, weights, results.reserve(2 * TILE * PANEL), out),
            #[cfg(target_arch = "x86_64")]
            Unit::Pairs => x86::pairs(&input, weights, results.reserve(across * PANEL), out),
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("no unit is found on this processor"),
        }
    });
}

/// A padded band, `[rows, columns, depth]`.
struct Input<'a> {
    cells: &'a [bf16],
    columns: usize,
    depth: usize,
    /// Where each place of the kernel begins, from a cell's own beginning.
    places: &'a [usize],
    /// Cells of a row that are computed, a multiple of [`TILE`].
    across: usize,
}

impl Input<'_> {
    /// A run of cells from `x` on in a row, with all that the kernel sees of them.
    fn at(&self, row: usize, x: usize, cells: usize) -> &[bf16] {
        let last = self.places.last().expect("a kernel has a place");
        &self.cells[(row * self.columns + x) * self.depth..][..last + cells * self.depth]
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Band, DEPTH, Input, PANEL, ROWS, TILE};
    use half::bf16;
    use std::arch::asm;
    use std::arch::x86_64::{
        __cpuid, __cpuid_count, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    /// Whether the processor has tiles and the system lets this process use them, for which it has to be asked once.
    pub fn tiles_allowed() -> bool {
        static ALLOWED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *ALLOWED.get_or_init(|| {
            const TILE_AND_BF16: u32 = 1 << 24 | 1 << 22;
            if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & TILE_AND_BF16 != TILE_AND_BF16 {
                return false;
            }
            permitted()
        })
    }

    #[cfg(target_os = "linux")]
    fn permitted() -> bool {
        // Linux, Documentation/arch/x86/xstate.rst: ARCH_REQ_XCOMP_PERM for the state of the tiles.
        const REQUEST: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        // SAFETY: the call takes two numbers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
    }

    #[cfg(not(target_os = "linux"))]
    fn permitted() -> bool {
        false
    }

    /// The shapes of the eight tiles: 16 rows of 64 bytes each.
    #[repr(C, align(64))]
    struct Shapes {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }

    const SHAPES: Shapes = {
        let (mut bytes, mut rows) = ([0; 16], [0; 16]);
        let mut at = 0;
        while at < 8 {
            (bytes[at], rows[at]) = (64, TILE as u8);
            at += 1;
        }
        Shapes {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes,
            rows,
        }
    };

    /// All panels of a band, two tiles of cells by two of columns at a time.
    pub fn tiles(input: &Input, weights: &[bf16], results: &mut [f32], out: &mut Band) {
        let runs: Vec<(usize, usize)> = (0..out.rows)
            .flat_map(|row| (0..input.across).step_by(TILE).map(move |x| (row, x)))
            .collect();
        let panel_len = input.places.len() * input.depth * PANEL;
        // SAFETY: `Unit::Tiles` is made only where `tiles_allowed`; the shapes are those of palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack)) };
        for (panel, weights) in weights.chunks_exact(panel_len).enumerate() {
            for pair in runs.chunks(2) {
                let (first, second) = (pair[0], pair[pair.len() - 1]);
                let (a, b) = (
                    input.at(first.0, first.1, TILE),
                    input.at(second.0, second.1, TILE),
                );
                // SAFETY: both runs hold 16 cells at each place, the panel is whole, and the results have room for 32 rows of it.
                unsafe {
                    four(
                        a.as_ptr(),
                        b.as_ptr(),
                        input,
                        weights.as_ptr(),
                        results.as_mut_ptr(),
                    )
                };
                for (at, (row, x)) in pair.iter().enumerate() {
                    let columns = TILE.min(out.width - x);
                    out.put(*row, *x, columns, panel, &results[at * TILE * PANEL..]);
                }
            }
        }
        // SAFETY: as above; the thread's tiles are empty again, which makes it cheap to switch away from.
        unsafe { asm!("tilerelease", options(nostack)) };
    }

    /// Two runs of 16 cells times a panel, over all places and channels.
    ///
    /// # Safety
    /// Tiles are configured; `first` and `second` have 16 cells at each place, `panel` is one, `to` has room for `[32, PANEL]`.
    #[inline(always)]
    unsafe fn four(
        first: *const bf16,
        second: *const bf16,
        input: &Input,
        panel: *const bf16,
        to: *mut f32,
    ) {
        // A row of a panel is 32 pairs of 2 bytes each; of the results, 32 numbers of 4: 128 bytes both.
        // SAFETY: reads and writes what the caller promises; tile registers are used by nothing else.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "mov {a}, [{place}]",
                "lea {b}, [{second} + {a} * 2]",
                "lea {a}, [{first} + {a} * 2]",
                "add {place}, 8",
                "mov {left}, {groups}",
                "3:",
                "tileloadd tmm4, [{a} + {cell} * 1]",
                "tileloadd tmm6, [{panel} + {row} * 1]",
                "tileloadd tmm7, [{panel} + {row} * 1 + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{b} + {cell} * 1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 64",
                "add {b}, 64",
                "add {panel}, 2048",
                "dec {left}",
                "jnz 3b",
                "dec {places}",
                "jnz 2b",
                "tilestored [{to} + {row} * 1], tmm0",
                "tilestored [{to} + {row} * 1 + 64], tmm1",
                "add {to}, 2048",
                "tilestored [{to} + {row} * 1], tmm2",
                "tilestored [{to} + {row} * 1 + 64], tmm3",
                a = out(reg) _,
                b = out(reg) _,
                left = out(reg) _,
                first = in(reg) first,
                second = in(reg) second,
                place = inout(reg) input.places.as_ptr() => _,
                places = inout(reg) input.places.len() => _,
                groups = in(reg) input.depth / DEPTH,
                cell = in(reg) input.depth * 2,
                panel = inout(reg) panel => _,
                row = in(reg) 2 * PANEL * 2,
                to = inout(reg) to => _,
                options(nostack),
            );
        }
    }

    /// All panels of a band, row by row.
    pub fn pairs(input: &Input, weights: &[bf16], results: &mut [f32], out: &mut Band) {
        let panel_len = input.places.len() * input.depth * PANEL;
        for (panel, weights) in weights.chunks_exact(panel_len).enumerate() {
            for row in 0..out.rows {
                let cells = input.at(row, 0, input.across);
                assert!(results.len() >= input.across * PANEL);
                for x in (0..input.across).step_by(ROWS) {
                    // SAFETY: `Unit::Pairs` is made only where the instructions exist; eight cells stand at each place from x on.
                    unsafe {
                        eight(
                            &cells[x * input.depth..],
                            input,
                            weights.as_ptr(),
                            results[x * PANEL..].as_mut_ptr(),
                        )
                    };
                }
                out.put(row, 0, out.width, panel, results);
            }
        }
    }

    /// Eight cells times a panel.
    ///
    /// # Safety
    /// `cells` has eight cells at each place, `panel` is one, `to` has room for `[8, PANEL]`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn eight(cells: &[bf16], input: &Input, panel: *const bf16, to: *mut f32) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        let mut panel: *const __m512i = panel.cast();
        // SAFETY: all places are those that the caller promises.
        unsafe {
            for place in input.places {
                let cells: *const i32 = cells.as_ptr().add(*place).cast();
                for pair in 0..input.depth / 2 {
                    let left = transmute::<__m512i, __m512bh>(_mm512_loadu_si512(panel));
                    let right = transmute::<__m512i, __m512bh>(_mm512_loadu_si512(panel.add(1)));
                    panel = panel.add(2);
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let x = cells.add(row * input.depth / 2 + pair).read_unaligned();
                        let x = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x));
                        sums[0] = _mm512_dpbf16_ps(sums[0], x, left);
                        sums[1] = _mm512_dpbf16_ps(sums[1], x, right);
                    }
                }
            }
            for (row, sums) in sums.into_iter().enumerate() {
                _mm512_storeu_ps(to.add(row * PANEL), sums[0]);
                _mm512_storeu_ps(to.add(row * PANEL + 16), sums[1]);
            }
        }
    }
}
