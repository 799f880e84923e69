//! Heads: what is predicted, in which order, and how a hidden state becomes ids.
//!
//! [`NextToken`] predicts one code after the other, [`NextTokens`] one position of several codes after the other (with a depth
//! transformer: [`Deep`]), [`NextScale`] one scale after the other, [`NextFrame`] one frame of video after the other.
//! [`MaskedLatent`] fills in continuous latents in any order by diffusion.
//! [`PrefixEmbedding`] turns a text's or a class's ids into what stands in front of them, [`CaptionEmbedding`] and
//! [`DescriptionEmbedding`] a text encoder's features. [`ReferenceEncoder`] reads a voice from codes, a [`Regulator`] tells frames
//! which symbol they belong to.

mod arrangement;
mod caption;
mod config;
mod deep;
mod description;
mod diffusion;
mod diffusion_head;
mod masked_latent;
mod next_frame;
mod next_scale;
mod next_token;
mod next_tokens;
mod place;
mod prefix;
mod reference;
mod regulator;

pub use arrangement::Arrangement;
pub use caption::{CaptionConfig, CaptionEmbedding};
pub use config::{HeadConfig, StartKind};
pub use deep::{Deep, DepthConfig, DepthHead, DepthProjection, FirstCode};
pub use description::{DescriptionConfig, DescriptionEmbedding};
pub use diffusion::{Diffusion, DiffusionLosses, NoiseSchedule, kept_steps};
pub use diffusion_head::{DiffusionHead, DiffusionHeadConfig};
pub use masked_latent::{
    MaskedGenerator, MaskedLatent, MaskedLatentConfig, grid_from_patches, patches_from_grid,
};
pub use next_frame::{FarConfig, NextFrame, NextFrameConfig};
pub use next_scale::{NextScale, NextScaleConfig};
pub use next_token::{NextToken, NextTokenConfig};
pub use next_tokens::{
    CodeTables, NextTokens, NextTokensConfig, Opening, Predicts, TokenRowConfig,
};
pub use prefix::{PrefixConfig, PrefixEmbedding};
pub use reference::{ReferenceConfig, ReferenceEncoder};
pub use regulator::{Regulator, Timed};
