//! `ravel doctor`: what this machine and this build can do.

use serde_json::json;

use crate::arguments::{DeviceName, DoctorOptions};
use crate::failure::Failure;
use crate::progress::say;
use crate::{pipelines, system};

/// Looks and tells.
pub fn run(options: &DoctorOptions) -> Result<(), Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = system::memory();
    let features: Vec<&str> = [
        ("embedded", cfg!(feature = "embedded")),
        ("gpu", cfg!(feature = "gpu")),
        ("video", cfg!(feature = "video")),
    ]
    .iter()
    .filter(|(_, on)| *on)
    .map(|(name, _)| *name)
    .collect();
    let names: Vec<&str> = pipelines::names().collect();
    let instructions = instructions();
    let codecs = ["PNG", "JPEG", "WebP", "GIF"];
    let cpu = works(DeviceName::Cpu);
    let gpu = cfg!(feature = "gpu").then(|| works(DeviceName::Gpu(None)));
    if options.json {
        say(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "features": features,
            "threads": threads,
            "memory-bytes": memory,
            "instructions": instructions,
            "codecs": codecs,
            "clips": ravel_media::clip_formats(),
            "devices": { "cpu": cpu, "wgpu": gpu },
            "pipelines": names,
        })
        .to_string());
        return Ok(());
    }
    let list = |names: &[&str]| match names {
        [] => "none".to_string(),
        names => names.join(", "),
    };
    say(&format!("ravel      {}", env!("CARGO_PKG_VERSION")));
    say(&format!("features   {}", list(&features)));
    say(&format!("threads    {threads}"));
    say(&match memory {
        Some(bytes) => format!(
            "memory     {:.1} GiB free",
            bytes as f64 / f64::from(1 << 30)
        ),
        None => "memory     unknown on this system".to_string(),
    });
    say(&format!("processor  {}", list(&instructions)));
    say(&format!("pictures   {}", list(&codecs)));
    say(&format!("clips      {}", list(ravel_media::clip_formats())));
    say(&format!(
        "cpu        {}",
        if cpu {
            "computes rightly"
        } else {
            "computes wrongly"
        }
    ));
    say(&match gpu {
        None => "wgpu       not in this build (feature `gpu`)".to_string(),
        Some(true) => "wgpu       computes rightly".to_string(),
        Some(false) => "wgpu       no device that computes rightly".to_string(),
    });
    say(&format!("pipelines  {}", list(&names)));
    match cpu {
        true => Ok(()),
        false => Err(Failure::runtime("the CPU device gives wrong products")),
    }
}

/// Whether a small product comes out right on a device.
fn works(device: DeviceName) -> bool {
    system::quietly(|| {
        let device = device.open().ok()?;
        let ones = burn::tensor::Tensor::<2>::ones([8, 8], &device);
        let sum = ones.clone().matmul(ones).sum().into_data().convert::<f32>();
        let sum: Vec<f32> = sum.try_into_vec().ok()?;
        Some(sum == [512.0])
    })
    .flatten()
    .unwrap_or(false)
}

fn instructions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
            ("FMA", std::arch::is_x86_feature_detected!("fma")),
            ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
            (
                "AVX-512 VNNI",
                std::arch::is_x86_feature_detected!("avx512vnni"),
            ),
        ];
        known
            .iter()
            .filter(|(_, has)| *has)
            .map(|(name, _)| *name)
            .collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}
