//! Products of `bf16` numbers with sums in `f32`: 32 rows by 32 columns at a time.
//!
//! Two units of x86-64 multiply such pairs: the tiles of AMX (16 × 32 by 32 × 16 in one instruction) and, narrower, the dot
//! products of AVX512_BF16. Denormal numbers count as zero in both.

use half::bf16;

/// Columns of a panel.
pub const PANEL: usize = 32;
/// Depth comes in groups of so many, the depth of a tile.
pub const DEPTH: usize = 32;
/// Rows of a tile.
pub const TILE: usize = 16;
/// Rows of a block.
pub const ROWS: usize = 2 * TILE;

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

    /// Makes this thread ready to multiply; what it sets up ends with the value.
    pub(crate) fn ready(self) -> Ready {
        #[cfg(target_arch = "x86_64")]
        if self == Self::Tiles {
            x86::configure();
        }
        Ready {
            unit: self,
            here: std::marker::PhantomData,
        }
    }
}

/// A unit that this thread can multiply with.
pub(crate) struct Ready {
    unit: Unit,
    /// The set-up is the thread's own.
    here: std::marker::PhantomData<*const ()>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if self.unit == Unit::Tiles {
            x86::release();
        }
    }
}

/// 32 rows times a panel.
pub(crate) struct Block<'a> {
    /// The first 16 rows.
    pub first: *const bf16,
    /// The other 16 rows.
    pub second: *const bf16,
    /// From a row to the next.
    pub stride: usize,
    /// Where each run of depth begins, from a row's own beginning.
    pub places: &'a [usize],
    /// Numbers of a run, a multiple of [`DEPTH`].
    pub depth: usize,
    /// `[places, depth / 2, PANEL, 2]`.
    pub panel: *const bf16,
    /// `[ROWS, PANEL]`.
    pub to: *mut f32,
}

impl Ready {
    /// `to = rows · panel`, or `to += …`.
    ///
    /// # Safety
    /// The pointers are good for what [`Block`] says of them, and `to` overlaps nothing.
    #[inline(always)]
    pub unsafe fn multiply<const ADD: bool>(&self, block: &Block) {
        debug_assert!(block.depth.is_multiple_of(DEPTH));
        // SAFETY: `Unit` names what this processor has; the pointers are the caller's promise.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            match self.unit {
                Unit::Tiles => x86::four_tiles::<ADD>(block),
                Unit::Pairs => x86::all_pairs::<ADD>(block),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = block;
            unreachable!("no unit is found on this processor");
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Block, DEPTH, PANEL, ROWS, TILE};
    use std::arch::asm;
    use std::arch::x86_64::{
        __cpuid, __cpuid_count, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
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

    pub fn configure() {
        // SAFETY: `Unit::Tiles` is made only where `tiles_allowed`; the shapes are those of palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack)) };
    }

    pub fn release() {
        // SAFETY: as above; the thread's tiles are empty again, which makes it cheap to switch away from.
        unsafe { asm!("tilerelease", options(nostack)) };
    }

    /// Two tiles of rows by two of columns, over all places. The tiles that are added up in live from one of the three pieces of
    /// code to the next: the compiler itself uses none.
    ///
    /// # Safety
    /// Tiles are configured; the pointers are good for what [`Block`] says.
    #[inline(always)]
    pub unsafe fn four_tiles<const ADD: bool>(block: &Block) {
        // A row of a panel is 32 pairs of 2 bytes each; of the results, 32 numbers of 4: 128 bytes both.
        const ROW: usize = 4 * PANEL;
        // SAFETY: reads and writes what the caller promises; tile registers are used by nothing else.
        unsafe {
            if ADD {
                asm!(
                    "tileloadd tmm0, [{to} + {row} * 1]",
                    "tileloadd tmm1, [{to} + {row} * 1 + 64]",
                    "tileloadd tmm2, [{to} + {row} * 1 + 2048]",
                    "tileloadd tmm3, [{to} + {row} * 1 + 2112]",
                    to = in(reg) block.to,
                    row = in(reg) ROW,
                    options(nostack, readonly),
                );
            } else {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    options(nostack),
                );
            }
            asm!(
                "2:",
                "mov {a}, [{place}]",
                "lea {b}, [{second} + {a} * 2]",
                "lea {a}, [{first} + {a} * 2]",
                "add {place}, 8",
                "mov {left}, {groups}",
                "3:",
                "tileloadd tmm4, [{a} + {stride} * 1]",
                "tileloadd tmm6, [{panel} + {row} * 1]",
                "tileloadd tmm7, [{panel} + {row} * 1 + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{b} + {stride} * 1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 64",
                "add {b}, 64",
                "add {panel}, 2048",
                "dec {left}",
                "jnz 3b",
                "dec {places}",
                "jnz 2b",
                a = out(reg) _,
                b = out(reg) _,
                left = out(reg) _,
                first = in(reg) block.first,
                second = in(reg) block.second,
                place = inout(reg) block.places.as_ptr() => _,
                places = inout(reg) block.places.len() => _,
                groups = in(reg) block.depth / DEPTH,
                stride = in(reg) block.stride * 2,
                panel = inout(reg) block.panel => _,
                row = in(reg) ROW,
                options(nostack, readonly),
            );
            asm!(
                "tilestored [{to} + {row} * 1], tmm0",
                "tilestored [{to} + {row} * 1 + 64], tmm1",
                "tilestored [{to} + {row} * 1 + 2048], tmm2",
                "tilestored [{to} + {row} * 1 + 2112], tmm3",
                to = in(reg) block.to,
                row = in(reg) ROW,
                options(nostack),
            );
        }
    }

    /// Eight rows at a time.
    ///
    /// # Safety
    /// The instructions exist; the pointers are good for what [`Block`] says.
    pub unsafe fn all_pairs<const ADD: bool>(block: &Block) {
        for row in (0..ROWS).step_by(EIGHT) {
            let half = if row < TILE {
                block.first
            } else {
                block.second
            };
            // SAFETY: within the block.
            unsafe {
                let rows = half.add(row % TILE * block.stride).cast();
                eight::<ADD>(block, rows, block.to.add(row * PANEL));
            }
        }
    }

    const EIGHT: usize = 8;

    /// Eight rows times the panel.
    ///
    /// # Safety
    /// As [`all_pairs`]; `rows` are eight of the block, whose results go to `to`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn eight<const ADD: bool>(block: &Block, rows: *const i32, to: *mut f32) {
        let mut sums = [[_mm512_setzero_ps(); 2]; EIGHT];
        let mut panel: *const __m512i = block.panel.cast();
        // SAFETY: all places are those that the caller promises.
        unsafe {
            if ADD {
                for (row, sums) in sums.iter_mut().enumerate() {
                    sums[0] = _mm512_loadu_ps(to.add(row * PANEL));
                    sums[1] = _mm512_loadu_ps(to.add(row * PANEL + 16));
                }
            }
            for place in block.places {
                let rows = rows.byte_add(2 * place);
                for pair in 0..block.depth / 2 {
                    let left = transmute::<__m512i, __m512bh>(_mm512_loadu_si512(panel));
                    let right = transmute::<__m512i, __m512bh>(_mm512_loadu_si512(panel.add(1)));
                    panel = panel.add(2);
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let x = rows
                            .byte_add(2 * row * block.stride)
                            .add(pair)
                            .read_unaligned();
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
