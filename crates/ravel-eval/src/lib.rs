//! Measures with a pinned protocol: what a tokenizer loses, what a generator knows, and whether a picture is of the
//! thing that was asked for. Nothing is opened or printed here; tensors and traits come in, numbers go out.

mod generator;
mod retrieval;
mod similarity;
mod sound;
mod tokenizer;
pub mod video;
mod voice;

pub use generator::loss_per_token;
pub use retrieval::{Gallery, RetrievalReport, features};
pub use similarity::{psnr, ssim};
pub use sound::{PESQ_RATE_HZ, SoundDistance, pesq, si_sdr, sound_distance};
pub use tokenizer::{TokenizerReport, tokenizer_report};
pub use voice::{Voices, voice_print};

/// The tensor's numbers on the host. Waits for the device.
pub(crate) fn host<const D: usize>(tensor: burn::tensor::Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("numbers were converted to f32")
}
