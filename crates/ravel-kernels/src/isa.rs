//! Which instructions this machine has, and sixteen lanes of numbers in each of its sets.
//!
//! Kernels are written once over `Lanes` and compiled once per set. All sets round alike: products of reals are fused with the
//! sum that they go to, integers are exact. So a result is the same on each of them, bit by bit.

use std::sync::OnceLock;

/// A set of instructions that this machine has: [`Isa::best`] and [`Isa::all`] look for it, and there is no other way to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

/// Which set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// AVX-512 with its foundation, bytes and words, and VNNI (Cascade Lake, Zen 4 and later), and all of [`Set::Avx2`].
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2, FMA and F16C (Haswell, Zen and later).
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AArch64's.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// None in particular: slow, and there on every machine.
    Scalar,
}

impl Isa {
    /// The best one of this machine.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::all()[0])
    }

    /// All that this machine has, the best first and [`Isa::scalar`] last.
    pub fn all() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            if avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512vnni") {
                found.push(Self(Set::Avx512));
            }
            if avx2 {
                found.push(Self(Set::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            found.push(Self(Set::Neon));
        }
        found.push(Self::scalar());
        found
    }

    /// The one without vector instructions.
    pub fn scalar() -> Self {
        Self(Set::Scalar)
    }

    /// Which one: the machine has its instructions.
    pub(crate) fn set(self) -> Set {
        self.0
    }

    /// In words, for `ravel doctor` and benches.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "AVX-512 with VNNI",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "AVX2 with FMA",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "NEON",
            Set::Scalar => "no vector instructions",
        }
    }
}

/// Sixteen lanes of f32, sixteen of i32, 64 bytes.
///
/// # Safety
/// Every function needs the set's instructions on this machine; loads and stores need what they touch to be there, with no
/// demand on alignment.
pub(crate) trait Lanes: Copy {
    type F: Copy;
    type I: Copy;
    type B: Copy;
    /// How many vectors of accumulators fit the registers beside the operands, in units of sixteen lanes.
    const ROOM: usize;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(from: *const f32) -> Self::F;
    unsafe fn store(to: *mut f32, x: Self::F);
    /// Widened from half precision.
    unsafe fn load_f16(from: *const u16) -> Self::F;
    /// Widened from bfloat16.
    unsafe fn load_bf16(from: *const u16) -> Self::F;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// The sum of all lanes: of lanes eight apart, then four, two and one.
    unsafe fn sum(x: Self::F) -> f32;

    unsafe fn load_bytes(from: *const u8) -> Self::B;
    /// The low four bits of each byte.
    unsafe fn low(bytes: Self::B) -> Self::B;
    /// The high four bits of each byte.
    unsafe fn high(bytes: Self::B) -> Self::B;
    /// The sum to begin a block of [`Lanes::dot_offset`] with, whose activations add up to `sum`.
    unsafe fn start_offset(sum: i32) -> Self::I;
    /// Per lane, `acc` and the products of its four bytes, each less `128` and none below `1`, with the four signed bytes of `x`.
    unsafe fn dot_offset(acc: Self::I, bytes: Self::B, x: i32) -> Self::I;
    unsafe fn splat_i(x: i32) -> Self::I;
    /// Per lane, `acc` and the products of its four bytes, none above `127`, with the four signed bytes of `x`.
    unsafe fn dot(acc: Self::I, bytes: Self::B, x: i32) -> Self::I;
    unsafe fn to_f(x: Self::I) -> Self::F;

    /// Asks for the memory at an address, which need not be there.
    unsafe fn prefetch(at: *const u8);
}

/// Functions of [`Lanes`], each a few instructions of its set and compiled into its caller.
macro_rules! lanes {
    ($(fn $name:ident($($from:ident: $of:ty),*) $(-> $to:ty)? $body:block)*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe)] // Plain Rust needs none, nor do instructions that a target always has.
        unsafe fn $name($($from: $of),*) $(-> $to)? {
            // SAFETY: the caller promises that the machine has the set, beyond which no instruction is, and that what is loaded from
            // or stored to is there; none of them asks for an alignment.
            unsafe { $body }
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// The sum of eight lanes, as [`Lanes::sum`] has it.
    #[inline(always)]
    unsafe fn sum_8(x: __m256) -> f32 {
        // SAFETY: the instructions are AVX's and older, which both sets have.
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    impl Lanes for Avx512 {
        type F = __m512;
        type I = __m512i;
        type B = __m512i;
        const ROOM: usize = 24;

        lanes! {
            fn splat(x: f32) -> __m512 {
                _mm512_set1_ps(x)
            }
            fn load(from: *const f32) -> __m512 {
                _mm512_loadu_ps(from)
            }
            fn store(to: *mut f32, x: __m512) {
                _mm512_storeu_ps(to, x)
            }
            fn load_f16(from: *const u16) -> __m512 {
                _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
            }
            fn load_bf16(from: *const u16) -> __m512 {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
            }
            fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
                _mm512_fmadd_ps(a, b, c)
            }
            fn mul(a: __m512, b: __m512) -> __m512 {
                _mm512_mul_ps(a, b)
            }
            fn sum(x: __m512) -> f32 {
                let high = _mm512_castpd_ps(_mm512_shuffle_f64x2::<0b1110>(
                    _mm512_castps_pd(x),
                    _mm512_castps_pd(x),
                ));
                sum_8(_mm256_add_ps(
                    _mm512_castps512_ps256(x),
                    _mm512_castps512_ps256(high),
                ))
            }
            fn load_bytes(from: *const u8) -> __m512i {
                _mm512_loadu_si512(from.cast())
            }
            fn low(bytes: __m512i) -> __m512i {
                _mm512_and_si512(bytes, _mm512_set1_epi8(15))
            }
            fn high(bytes: __m512i) -> __m512i {
                _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15))
            }
            fn start_offset(sum: i32) -> __m512i {
                _mm512_set1_epi32(-128 * sum)
            }
            fn dot_offset(acc: __m512i, bytes: __m512i, x: i32) -> __m512i {
                _mm512_dpbusd_epi32(acc, bytes, _mm512_set1_epi32(x))
            }
            fn splat_i(x: i32) -> __m512i {
                _mm512_set1_epi32(x)
            }
            fn dot(acc: __m512i, bytes: __m512i, x: i32) -> __m512i {
                _mm512_dpbusd_epi32(acc, bytes, _mm512_set1_epi32(x))
            }
            fn to_f(x: __m512i) -> __m512 {
                _mm512_cvtepi32_ps(x)
            }
            fn prefetch(at: *const u8) {
                _mm_prefetch::<_MM_HINT_T0>(at.cast())
            }
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    impl Lanes for Avx2 {
        type F = [__m256; 2];
        type I = [__m256i; 2];
        type B = [__m256i; 2];
        const ROOM: usize = 4;

        lanes! {
            fn splat(x: f32) -> Self::F {
                [_mm256_set1_ps(x); 2]
            }
            fn load(from: *const f32) -> Self::F {
                [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]
            }
            fn store(to: *mut f32, x: Self::F) {
                _mm256_storeu_ps(to, x[0]);
                _mm256_storeu_ps(to.add(8), x[1]);
            }
            fn load_f16(from: *const u16) -> Self::F {
                [
                    _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                    _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
                ]
            }
            fn load_bf16(from: *const u16) -> Self::F {
                let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
                [
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
                ]
            }
            fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
                [
                    _mm256_fmadd_ps(a[0], b[0], c[0]),
                    _mm256_fmadd_ps(a[1], b[1], c[1]),
                ]
            }
            fn mul(a: Self::F, b: Self::F) -> Self::F {
                [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
            }
            fn sum(x: Self::F) -> f32 {
                sum_8(_mm256_add_ps(x[0], x[1]))
            }
            fn load_bytes(from: *const u8) -> Self::B {
                [
                    _mm256_loadu_si256(from.cast()),
                    _mm256_loadu_si256(from.add(32).cast()),
                ]
            }
            fn low(bytes: Self::B) -> Self::B {
                let mask = _mm256_set1_epi8(15);
                [
                    _mm256_and_si256(bytes[0], mask),
                    _mm256_and_si256(bytes[1], mask),
                ]
            }
            fn high(bytes: Self::B) -> Self::B {
                let down = [
                    _mm256_srli_epi16::<4>(bytes[0]),
                    _mm256_srli_epi16::<4>(bytes[1]),
                ];
                Self::low(down)
            }
            fn start_offset(_sum: i32) -> Self::I {
                [_mm256_setzero_si256(); 2]
            }
            fn dot_offset(acc: Self::I, bytes: Self::B, x: i32) -> Self::I {
                let (x, mut acc) = (_mm256_set1_epi32(x), acc);
                for at in 0..2 {
                    // The pairwise product takes unsigned by signed and saturates: sizes without their sign keep it exact.
                    let signed = _mm256_xor_si256(bytes[at], _mm256_set1_epi8(-128));
                    let sizes = _mm256_abs_epi8(signed);
                    let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(x, signed));
                    let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                    acc[at] = _mm256_add_epi32(acc[at], fours);
                }
                acc
            }
            fn splat_i(x: i32) -> Self::I {
                [_mm256_set1_epi32(x); 2]
            }
            fn dot(acc: Self::I, bytes: Self::B, x: i32) -> Self::I {
                let (x, mut acc) = (_mm256_set1_epi32(x), acc);
                for at in 0..2 {
                    let pairs = _mm256_maddubs_epi16(bytes[at], x);
                    let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                    acc[at] = _mm256_add_epi32(acc[at], fours);
                }
                acc
            }
            fn to_f(x: Self::I) -> Self::F {
                [_mm256_cvtepi32_ps(x[0]), _mm256_cvtepi32_ps(x[1])]
            }
            fn prefetch(at: *const u8) {
                _mm_prefetch::<_MM_HINT_T0>(at.cast())
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::Lanes;
    use half::f16;
    use std::arch::aarch64::*;
    use std::array::from_fn;

    #[derive(Clone, Copy)]
    pub(crate) struct Neon;

    impl Lanes for Neon {
        type F = [float32x4_t; 4];
        type I = [int32x4_t; 4];
        type B = [uint8x16_t; 4];
        const ROOM: usize = 5;

        lanes! {
            fn splat(x: f32) -> Self::F {
                [vdupq_n_f32(x); 4]
            }
            fn load(from: *const f32) -> Self::F {
                from_fn(|at| vld1q_f32(from.add(4 * at)))
            }
            fn store(to: *mut f32, x: Self::F) {
                for (at, x) in x.into_iter().enumerate() {
                    vst1q_f32(to.add(4 * at), x)
                }
            }
            fn load_f16(from: *const u16) -> Self::F {
                let wide: [f32; 16] =
                    from_fn(|at| f16::from_bits(from.add(at).read_unaligned()).to_f32());
                Self::load(wide.as_ptr())
            }
            fn load_bf16(from: *const u16) -> Self::F {
                from_fn(|at| {
                    vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.add(4 * at))))
                })
            }
            fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
                from_fn(|at| vfmaq_f32(c[at], a[at], b[at]))
            }
            fn mul(a: Self::F, b: Self::F) -> Self::F {
                from_fn(|at| vmulq_f32(a[at], b[at]))
            }
            fn sum(x: Self::F) -> f32 {
                let x = vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[1], x[3]));
                let x = vadd_f32(vget_low_f32(x), vget_high_f32(x));
                vget_lane_f32::<0>(x) + vget_lane_f32::<1>(x)
            }
            fn load_bytes(from: *const u8) -> Self::B {
                from_fn(|at| vld1q_u8(from.add(16 * at)))
            }
            fn low(bytes: Self::B) -> Self::B {
                bytes.map(|part| vandq_u8(part, vdupq_n_u8(15)))
            }
            fn high(bytes: Self::B) -> Self::B {
                bytes.map(|part| vshrq_n_u8::<4>(part))
            }
            fn start_offset(_sum: i32) -> Self::I {
                [vdupq_n_s32(0); 4]
            }
            fn dot_offset(acc: Self::I, bytes: Self::B, x: i32) -> Self::I {
                let signed = bytes.map(|part| veorq_u8(part, vdupq_n_u8(128)));
                Self::dot(acc, signed, x)
            }
            fn splat_i(x: i32) -> Self::I {
                [vdupq_n_s32(x); 4]
            }
            fn dot(acc: Self::I, bytes: Self::B, x: i32) -> Self::I {
                from_fn(|at| {
                    let x = vreinterpretq_s8_s32(vdupq_n_s32(x));
                    let part = vreinterpretq_s8_u8(bytes[at]);
                    let first = vpaddlq_s16(vmull_s8(vget_low_s8(part), vget_low_s8(x)));
                    let last = vpaddlq_s16(vmull_high_s8(part, x));
                    vaddq_s32(acc[at], vpaddq_s32(first, last))
                })
            }
            fn to_f(x: Self::I) -> Self::F {
                x.map(|part| vcvtq_f32_s32(part))
            }
            fn prefetch(_at: *const u8) {}
        }
    }
}

mod scalar {
    use super::Lanes;
    use half::{bf16, f16};
    use std::array::from_fn;

    #[derive(Clone, Copy)]
    pub(crate) struct Scalar;

    impl Lanes for Scalar {
        type F = [f32; 16];
        type I = [i32; 16];
        type B = [u8; 64];
        const ROOM: usize = 4;

        lanes! {
            fn splat(x: f32) -> Self::F {
                [x; 16]
            }
            fn load(from: *const f32) -> Self::F {
                from.cast::<[f32; 16]>().read_unaligned()
            }
            fn store(to: *mut f32, x: Self::F) {
                to.cast::<[f32; 16]>().write_unaligned(x)
            }
            fn load_f16(from: *const u16) -> Self::F {
                let half = from.cast::<[u16; 16]>().read_unaligned();
                half.map(|x| f16::from_bits(x).to_f32())
            }
            fn load_bf16(from: *const u16) -> Self::F {
                let half = from.cast::<[u16; 16]>().read_unaligned();
                half.map(|x| bf16::from_bits(x).to_f32())
            }
            fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
                from_fn(|at| a[at].mul_add(b[at], c[at]))
            }
            fn mul(a: Self::F, b: Self::F) -> Self::F {
                from_fn(|at| a[at] * b[at])
            }
            fn sum(x: Self::F) -> f32 {
                let mut x = x;
                for apart in [8, 4, 2, 1] {
                    for lane in 0..apart {
                        x[lane] += x[lane + apart];
                    }
                }
                x[0]
            }
            fn load_bytes(from: *const u8) -> Self::B {
                from.cast::<[u8; 64]>().read_unaligned()
            }
            fn low(bytes: Self::B) -> Self::B {
                bytes.map(|byte| byte & 15)
            }
            fn high(bytes: Self::B) -> Self::B {
                bytes.map(|byte| byte >> 4)
            }
            fn start_offset(sum: i32) -> Self::I {
                [-128 * sum; 16]
            }
            fn dot_offset(acc: Self::I, bytes: Self::B, x: i32) -> Self::I {
                Self::dot(acc, bytes, x)
            }
            fn splat_i(x: i32) -> Self::I {
                [x; 16]
            }
            fn dot(acc: Self::I, bytes: Self::B, x: i32) -> Self::I {
                let x = x.to_le_bytes().map(|byte| i32::from(byte as i8));
                from_fn(|lane| {
                    (0..4).fold(acc[lane], |sum, at| {
                        sum + i32::from(bytes[4 * lane + at]) * x[at]
                    })
                })
            }
            fn to_f(x: Self::I) -> Self::F {
                x.map(|x| x as f32)
            }
            fn prefetch(_at: *const u8) {}
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(crate) use arm::Neon;
pub(crate) use scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};
