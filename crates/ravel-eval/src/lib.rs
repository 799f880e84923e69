//! Measures with a pinned protocol: PSNR, SSIM, codebook health, retrieval.
