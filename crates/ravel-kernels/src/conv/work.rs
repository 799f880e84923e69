//! Compiling a piece of work for each set of instructions.

use crate::isa::{Isa, Lanes, Scalar, Set};

/// A piece of work that is written once for all sets of instructions.
pub trait Work {
    /// Does it. Implementations are `#[inline(always)]`, so that they are compiled for the set of their caller.
    ///
    /// # Safety
    /// The machine has the set's instructions, and the pointers of the work are good for what it says.
    unsafe fn run<L: Lanes>(self);
}

/// Does the work with a set's instructions.
///
/// # Safety
/// The pointers of the work are good for what it says.
pub unsafe fn on(isa: Isa, work: impl Work) {
    // SAFETY: the machine has the set of an `Isa`; the pointers are the caller's promise.
    unsafe {
        match isa.set() {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => x86::avx512(work),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => x86::avx2(work),
            #[cfg(target_arch = "aarch64")]
            Set::Neon => work.run::<crate::isa::Neon>(),
            _ => work.run::<Scalar>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Work;
    use crate::isa::{Avx2, Avx512};

    #[target_feature(enable = "avx512f,avx512bw,avx2,fma,f16c")]
    pub unsafe fn avx512(work: impl Work) {
        // SAFETY: the caller's promise.
        unsafe { work.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn avx2(work: impl Work) {
        // SAFETY: the caller's promise.
        unsafe { work.run::<Avx2>() }
    }
}
