//! What the kernels' decoder holds at once, told by an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use burn::tensor::Tensor;
use ravel_nn::conv::{AutoencoderConfig, ReadyDecoder, VqGanConfig};
use ravel_testkit::{device, formula, values};

/// The system's allocator, which counts bytes that are out and the most that ever were.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), SeqCst) + layout.size();
        MOST.fetch_max(now, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that `decode` takes at the most beside those that were out before.
fn peak(decode: impl FnOnce() -> Vec<f32>) -> (usize, Vec<f32>) {
    let before = NOW.load(SeqCst);
    MOST.store(before, SeqCst);
    let pixels = decode();
    (MOST.load(SeqCst) - before, pixels)
}

#[test]
fn beyond_a_limit_memory_does_not_grow_with_the_picture() {
    let config = VqGanConfig {
        channels: 64,
        multiples: vec![1, 1, 1],
        blocks: 1,
        z_channels: 8,
        attention: Some(Vec::new()),
        middle_attention: false,
        ..VqGanConfig::default()
    };
    let (_, decoder) = AutoencoderConfig::VqGan(config).init(4, &device());
    let limit = 2 << 20;
    let mut taken = Vec::new();
    for side in [64, 128, 256] {
        let latents: Tensor<4> = formula([1, 4, side, 8], 1, 1.0, &device());
        let decoded = |bytes: usize| {
            let mut ready = ReadyDecoder::default();
            ready.decode_within(bytes);
            // Weights are laid out, and threads have what they compute in.
            ready.forward(&decoder, latents.clone());
            peak(|| values(&ready.forward(&decoder, latents.clone())))
        };
        let (whole, wanted) = decoded(usize::MAX);
        let (within, found) = decoded(limit);
        assert!(found == wanted);
        // Pixels as they are made, and twice more as this test reads them out.
        let pictures = 3 * size_of_val(&wanted[..]);
        taken.push((side, whole, within, pictures));
        assert!(within <= limit + limit / 4 + pictures, "{taken:?}");
    }
    // Whole grids take as much as the picture asks for.
    let (_, whole, within, pictures) = taken[2];
    assert!(whole > 4 * (within - pictures), "{taken:?}");
}
