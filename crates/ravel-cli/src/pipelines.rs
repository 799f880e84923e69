//! The pipelines in this program, definitions in files, and `ravel pipelines`.

use std::path::Path;

use ravel_pipeline::{
    Definition, Files, LanguageParts, PUBLISHED_TOKENIZERS, Source, SpeechParts, Task, TextPart,
    build, build_clip_tokenizer, build_language, build_latents, build_sound_model,
    build_sound_tokenizer, build_speech, build_tokenizer, build_video, build_video_tokenizer,
    schema,
};
use serde_json::json;
use text_to_image::{ImagePipeline, LatentsToImage, PUBLISHED, TextToImage};
use text_to_speech::{PublishedSound, SoundPipeline, TextToSpeech};
use video_continuation::VideoContinuation;

use crate::arguments::{
    DecodeOptions, DeviceName, PipelineOptions, PipelinesCommand, WeightsOptions,
};
use crate::failure::Failure;
use crate::progress::say;

/// The files of an embedded model.
#[cfg(feature = "embedded")]
macro_rules! embedded {
    ($folder:literal, $($file:literal),+) => {
        &[$((
            $file,
            include_bytes!(concat!("../../../assets/models/", $folder, "/", $file)),
        )),+]
    };
}

/// Those of a pipeline that makes pictures.
#[cfg(feature = "embedded")]
macro_rules! embedded_pictures {
    ($folder:literal) => {
        embedded!(
            $folder,
            "pipeline.toml",
            "generator.safetensors",
            "tokenizer.safetensors",
            "text.json"
        )
    };
}

/// Names with the files that were compiled in.
#[cfg(feature = "embedded")]
const EMBEDDED: &[(&str, Files)] = &[
    ("emoji-ar", embedded_pictures!("emoji-ar")),
    ("emoji-var", embedded_pictures!("emoji-var")),
    (
        "sprites",
        embedded!(
            "sprites",
            "pipeline.toml",
            "generator.safetensors",
            "tokenizer.safetensors"
        ),
    ),
    (
        "speak",
        embedded!(
            "speak",
            "pipeline.toml",
            "generator.safetensors",
            "tokenizer.safetensors"
        ),
    ),
    (
        "novels",
        embedded!(
            "novels",
            "pipeline.toml",
            "model.safetensors",
            "tokenizer.json"
        ),
    ),
];
#[cfg(not(feature = "embedded"))]
const EMBEDDED: &[(&str, Files)] = &[];

/// The pipelines in this program: those with their weights, then definitions of published models.
fn known() -> impl Iterator<Item = &'static (&'static str, Files)> {
    EMBEDDED.iter().chain(published())
}

/// Definitions of published models, whose weights are pulled.
fn published() -> impl Iterator<Item = &'static (&'static str, Files)> {
    let generators = PUBLISHED.iter().chain(text_generation::PUBLISHED);
    let sound = text_to_speech::PUBLISHED;
    generators.chain(sound).chain(PUBLISHED_TOKENIZERS)
}

/// What `ravel speak` speaks with where nothing is named.
pub const SPEECH: &str = "speak";

/// Names of the pipelines in this program.
pub fn names() -> impl Iterator<Item = &'static str> {
    known().map(|(name, _)| *name)
}

/// A definition by name or file, with where its files are.
pub fn open(name: &str) -> Result<(Definition, Source), Failure> {
    if let Some((_, files)) = known().find(|(known, _)| *known == name) {
        return of_files(name, files);
    }
    let path = Path::new(name);
    if path.is_dir() && path.join("pipeline.toml").is_file() {
        return open(&path.join("pipeline.toml").display().to_string());
    }
    if path.is_dir() {
        let source = Source::Folder(path.to_path_buf());
        return Ok((Definition::of_folder(path)?, source));
    }
    if !path.is_file() {
        let known: Vec<_> = EMBEDDED.iter().map(|(name, _)| *name).collect();
        return Err(Failure::input_with(
            format!(
                "no pipeline `{name}`: neither a name in this program nor a definition file nor a folder"
            ),
            match known.is_empty() {
                true => {
                    "this build has no models inside (feature `embedded`); `ravel pipelines list`, or name a pipeline.toml"
                        .into()
                }
                false => format!(
                    "known names: {}; `ravel pipelines list` has those of published models too",
                    known.join(", ")
                ),
            },
        ));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::input(format!("{name}: {error}")))?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let source = Source::Folder(folder.unwrap_or(Path::new(".")).to_path_buf());
    Ok((Definition::parse(name, &text)?, source))
}

/// As [`open`], for a pipeline that does what is asked.
pub fn open_for(name: &str, task: Task) -> Result<(Definition, Source), Failure> {
    let (definition, source) = open(name)?;
    match definition.task == task {
        true => Ok((definition, source)),
        false => Err(Failure::input(format!(
            "`{name}` is a pipeline for {}, {} is needed",
            definition.task.name(),
            task.name()
        ))),
    }
}

/// As [`open_for`], with weights of the type that is asked for.
fn open_to_run(
    name: &str,
    task: Task,
    weights: WeightsOptions,
) -> Result<(Definition, Source), Failure> {
    let (mut definition, source) = open_for(name, task)?;
    if let Some(kept) = weights.weights_type {
        definition.weights_type = kept;
    }
    Ok((definition, source))
}

/// Models of which not every part knows narrow weights.
fn refuse_weights_type(name: &str, weights: WeightsOptions) -> Result<(), Failure> {
    match weights.weights_type {
        None => Ok(()),
        Some(_) => Err(Failure::input_with(
            format!("`{name}` keeps its weights as its file has them"),
            "leave --weights-type out; text models, LlamaGen, VAR, Infinity and models trained here know it",
        )),
    }
}

/// A definition among files in this program.
pub fn of_files(name: &str, files: Files) -> Result<(Definition, Source), Failure> {
    let source = Source::Embedded(files);
    let text = source.read("pipeline.toml")?;
    let text = String::from_utf8_lossy(&text);
    Ok((Definition::parse(name, &text)?, source))
}

/// The parts of a pipeline that makes text.
pub fn language(
    name: &str,
    device: DeviceName,
    weights: WeightsOptions,
) -> Result<LanguageParts, Failure> {
    let (definition, source) = open_to_run(name, Task::TextGeneration, weights)?;
    let device = device.open_for(definition.weights_type)?;
    Ok(build_language(&definition, &source, &device)?)
}

/// A pipeline that makes sound from a text: speech, or music.
pub fn sound(
    name: &str,
    device: DeviceName,
    weights: WeightsOptions,
) -> Result<SoundPipeline, Failure> {
    if known().any(|(known, _)| *known == name) || Path::new(name).exists() {
        let (definition, source) = open(name)?;
        if definition.sound_model.is_some() {
            refuse_weights_type(name, weights)?;
            let parts = build_sound_model(&definition, &source, &device.open()?)?;
            return Ok(SoundPipeline::Published(PublishedSound::new(parts)));
        }
    }
    Ok(SoundPipeline::Trained(TextToSpeech::new(speech(
        name, device, weights,
    )?)))
}

/// The parts of a pipeline that speaks and was trained here.
pub fn speech(
    name: &str,
    device: DeviceName,
    weights: WeightsOptions,
) -> Result<SpeechParts, Failure> {
    let unknown = !names().any(|known| known == name) && !Path::new(name).exists();
    if name == SPEECH && unknown {
        return Err(Failure::input_with(
            "no trained voice is inside this program: it was built without the feature `embedded`",
            "name a pipeline that speaks: --pipeline assets/models/speak/pipeline.toml",
        ));
    }
    let (definition, source) = open_to_run(name, Task::TextToSpeech, weights)?;
    if definition.sound_model.is_some() {
        return Err(Failure::input_with(
            format!("`{name}` is a published model, one that was trained here is needed"),
            "`ravel speak` and `ravel replay` know published models",
        ));
    }
    let device = device.open_for(definition.weights_type)?;
    Ok(build_speech(&definition, &source, &device)?)
}

/// A pipeline that makes pictures from words, of codes or of latents.
pub fn image(
    name: &str,
    on: DeviceName,
    weights: WeightsOptions,
    decode: DecodeOptions,
) -> Result<ImagePipeline, Failure> {
    let (definition, source) = open_to_run(name, Task::TextToImage, weights)?;
    let device = on.open_for(definition.weights_type)?;
    Ok(match definition.makes_latents() {
        true => {
            refuse_weights_type(name, weights)?;
            if decode.decode_memory.is_some() {
                return Err(DecodeOptions::refusal(&format!("`{name}`")));
            }
            let parts = build_latents(&definition, &source, &device)?;
            ImagePipeline::Latents(LatentsToImage::new(parts))
        }
        false => {
            let mut parts = build(&definition, &source, &device)?;
            decode.tell(&mut *parts.tokenizer, on)?;
            ImagePipeline::Codes(TextToImage::new(parts))
        }
    })
}

/// A text-to-image pipeline of codes, built.
pub fn text_to_image(
    options: &PipelineOptions,
    weights: WeightsOptions,
) -> Result<TextToImage, Failure> {
    text_to_image_on(&options.pipeline, options.device.device, weights)
}

/// As [`text_to_image()`], by name and device.
pub fn text_to_image_on(
    name: &str,
    device: DeviceName,
    weights: WeightsOptions,
) -> Result<TextToImage, Failure> {
    let (definition, source) = open_to_run(name, Task::TextToImage, weights)?;
    if definition.makes_latents() {
        return Err(Failure::input_with(
            format!("`{name}` fills in latents, a pipeline of codes is needed"),
            "`ravel image` and `ravel replay` know it",
        ));
    }
    let device = device.open_for(definition.weights_type)?;
    Ok(TextToImage::new(build(&definition, &source, &device)?))
}

/// A video-continuation pipeline, built.
pub fn video_continuation(
    options: &PipelineOptions,
    weights: WeightsOptions,
) -> Result<VideoContinuation, Failure> {
    video_continuation_on(&options.pipeline, options.device.device, weights)
}

/// As [`video_continuation()`], by name and device.
pub fn video_continuation_on(
    name: &str,
    device: DeviceName,
    weights: WeightsOptions,
) -> Result<VideoContinuation, Failure> {
    let (definition, source) = open_to_run(name, Task::VideoContinuation, weights)?;
    let device = device.open_for(definition.weights_type)?;
    let parts = build_video(&definition, &source, &device)?;
    Ok(VideoContinuation::new(parts))
}

/// Runs `ravel pipelines`.
pub fn run(command: &PipelinesCommand) -> Result<(), Failure> {
    match command {
        PipelinesCommand::List { json } => list(*json),
        PipelinesCommand::Show { pipeline } => {
            say(open(pipeline)?.0.to_toml().trim_end());
            Ok(())
        }
        PipelinesCommand::Check { pipeline, device } => check(pipeline, device.device),
        PipelinesCommand::Classes { pipeline } => classes(pipeline),
        PipelinesCommand::Schema => {
            say(&schema());
            Ok(())
        }
    }
}

fn list(json: bool) -> Result<(), Failure> {
    for &(name, files) in known() {
        let (definition, source) = open(name)?;
        let published = published().any(|(published, _)| *published == name);
        let ready = definition
            .files()
            .iter()
            .all(|file| source.check(file).is_ok());
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        let task = definition.task.name();
        let weights = match (published, ready) {
            (false, _) => format!("{:5.1} MB", bytes as f64 / 1e6),
            (true, true) => "  pulled".into(),
            (true, false) => " to pull".into(),
        };
        say(&match json {
            true => json!({
                "name": name,
                "task": task,
                "description": definition.description,
                "licence": definition.licence,
                "bytes": bytes,
                "published": published,
                "ready": ready,
            })
            .to_string(),
            false => format!("{name:17} {task:18} {weights}  {}", definition.description),
        });
    }
    Ok(())
}

/// Prints the classes of a model, by number.
fn classes(name: &str) -> Result<(), Failure> {
    let (definition, source) = open(name)?;
    let Some(TextPart::Classes { file }) = &definition.text else {
        return Err(Failure::input_with(
            format!("`{name}` is not steered by classes"),
            "its prompts are words",
        ));
    };
    let text = source.read(file)?;
    for (number, line) in String::from_utf8_lossy(&text).lines().enumerate() {
        say(&format!("{number}\t{line}"));
    }
    Ok(())
}

fn check(name: &str, device: DeviceName) -> Result<(), Failure> {
    let (definition, source) = open(name)?;
    definition.check(&source)?;
    let device = device.open_for(definition.weights_type)?;
    match definition.task {
        Task::TextToImage if definition.makes_latents() => {
            let parts = build_latents(&definition, &source, &device)?;
            say(&format!(
                "{name}: {} is whole, hash {}",
                parts.name, parts.hash
            ));
        }
        Task::TextToImage => {
            let parts = build(&definition, &source, &device)?;
            say(&format!(
                "{name}: {} is whole, hash {}",
                parts.name, parts.hash
            ));
        }
        Task::VideoContinuation => {
            let parts = build_video(&definition, &source, &device)?;
            say(&format!(
                "{name}: {} is whole, hash {}",
                parts.name, parts.hash
            ));
        }
        Task::VideoTokenizer => {
            let part = definition.tokenizer_part()?;
            match part.is_clip() {
                true => drop(build_clip_tokenizer(part, &source, &device)?),
                false => drop(build_video_tokenizer(part, &source, &device)?),
            }
            say(&format!("{name}: {} is whole", definition.name));
        }
        Task::SoundTokenizer => {
            build_sound_tokenizer(definition.tokenizer_part()?, &source, &device)?;
            say(&format!("{name}: {} is whole", definition.name));
        }
        Task::ImageTokenizer => {
            build_tokenizer(definition.tokenizer_part()?, &source, &device)?;
            say(&format!("{name}: {} is whole", definition.name));
        }
        Task::TextToSpeech | Task::TextToMusic if definition.sound_model.is_some() => {
            let parts = build_sound_model(&definition, &source, &device)?;
            say(&format!(
                "{name}: {} is whole, hash {}",
                parts.name, parts.hash
            ));
        }
        Task::TextToSpeech | Task::TextToMusic => {
            let parts = build_speech(&definition, &source, &device)?;
            say(&format!(
                "{name}: {} is whole, hash {}",
                parts.name, parts.hash
            ));
        }
        Task::TextGeneration => {
            build_language(&definition, &source, &device)?;
            say(&format!("{name}: {} is whole", definition.name));
        }
    }
    Ok(())
}
