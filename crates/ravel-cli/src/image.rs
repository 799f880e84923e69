//! `ravel image` and `ravel replay`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use ravel_decode::{Guidance, SamplerConfig};
use ravel_media::{Picture, encode_png, grid, pictures_from_images, read_png_text, write_new};
use serde_json::{Value, json};
use text_to_image::{ImagePipeline, MakesPictures, Metadata, Progress, Request, check_classes};

use crate::arguments::{DecodeOptions, ImageOptions, ReplayOptions, SamplerOptions};
use crate::failure::Failure;
use crate::{interrupt, pipelines, progress};

/// The PNG keyword under which a picture says how it was made.
const KEYWORD: &str = "ravel";
/// Most pictures of one request.
const MOST: usize = 10_000;
/// Previews of a token-by-token picture.
const PREVIEWS: usize = 16;
/// White between the pictures of a sheet, in pixels.
const GAP: usize = 4;

/// The pipeline's settings with those that were given.
pub fn sampler(own: &SamplerConfig, given: &SamplerOptions) -> Result<SamplerConfig, Failure> {
    let config = SamplerConfig {
        temperature: given.temperature.unwrap_or(own.temperature),
        top_k: given.top_k.or(own.top_k),
        top_p: given.top_p.or(own.top_p),
        min_p: given.min_p.or(own.min_p),
        guidance: given.guidance.map_or(own.guidance, Guidance::Constant),
        ..own.clone()
    };
    config.validate()?;
    Ok(config)
}

/// Makes pictures.
pub fn run(options: &ImageOptions) -> Result<(), Failure> {
    let prompts = prompts(options)?;
    let outputs = Outputs::plan(options, &prompts)?;
    let (definition, source) = pipelines::open(&options.pipeline.pipeline)?;
    if let Some(classes) = definition.classes(&source)? {
        check_classes(&classes, &prompts)?;
    }
    let pipeline = pipelines::image(
        &options.pipeline.pipeline,
        options.pipeline.device.device,
        options.weights,
        options.decode,
    )?;
    let repeated = prompts
        .iter()
        .flat_map(|prompt| std::iter::repeat_n(prompt.clone(), options.number));
    let request = Request {
        prompts: repeated.collect(),
        seed: options.seed,
        first: 0,
        sampler: sampler(pipeline.sampler(), &options.sampler)?,
    };
    let preview = options
        .preview
        .as_deref()
        .map(|folder| Preview::new(folder, options.force));
    let pictures = made(&pipeline, &request, preview.transpose()?, options.quiet)?;
    let metadata: Vec<Metadata> = (0..pictures.len())
        .map(|number| metadata(&pipeline, &request, number, &options.pipeline.pipeline))
        .collect();
    outputs.write(&pictures, &metadata, options)
}

/// Makes the pictures of a request, with a bar and previews.
pub fn made(
    pipeline: &dyn MakesPictures,
    request: &Request,
    mut preview: Option<Preview>,
    quiet: bool,
) -> Result<Vec<Picture>, Failure> {
    let bar = progress::bar(request.prompts.len(), quiet);
    let mut failed = None;
    let output = pipeline.run(request, &mut |progress| {
        if let Some(preview) = &mut preview
            && let Err(failure) = preview.show(pipeline, progress)
        {
            failed = Some(failure);
            return ControlFlow::Break(());
        }
        tell(&bar, progress);
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    bar.finish_and_clear();
    match (output, failed) {
        (_, Some(failure)) => Err(failure),
        (None, None) => Err(Failure::Interrupted),
        (Some(output), None) => Ok(pictures_from_images(&output.images)),
    }
}

fn tell(bar: &ProgressBar, progress: &Progress<'_>) {
    let rows = progress.rows;
    let done = progress.picture as f64 + rows as f64 * progress.done as f64 / progress.units as f64;
    bar.set_position(done as u64);
    bar.set_message(format!("unit {} of {}", progress.done, progress.units));
}

fn metadata(pipeline: &ImagePipeline, request: &Request, number: usize, name: &str) -> Metadata {
    Metadata {
        prompt: request.prompts[number].clone(),
        seed: request.seed,
        number: request.first + number as u64,
        pipeline: name.into(),
        hash: pipeline.hash().into(),
        sampler: request.sampler.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

fn prompts(options: &ImageOptions) -> Result<Vec<String>, Failure> {
    let mut prompts = options.prompts.clone();
    if let Some(path) = &options.prompt_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
        // Some editors open a file with a mark of its encoding.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for (at, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            prompts.push(prompt_of_line(line).map_err(|reason| {
                Failure::input(format!("{}:{}: {reason}", path.display(), at + 1))
            })?);
        }
    }
    if prompts.is_empty() {
        return Err(Failure::input_with(
            "there is no prompt",
            "say what the picture shows: ravel image \"a red heart\"",
        ));
    }
    let pictures = prompts.len().saturating_mul(options.number);
    if pictures == 0 || pictures > MOST {
        return Err(Failure::input(format!(
            "{pictures} pictures are asked for, 1 to {MOST} are possible"
        )));
    }
    Ok(prompts)
}

fn prompt_of_line(line: &str) -> Result<String, String> {
    if !line.trim_start().starts_with('{') {
        return Ok(line.trim().to_string());
    }
    let row: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    // Rows of data sets are prompts too; what is no part of them was meant to have an effect.
    let known = ["prompt", "caption", "alternates", "file", "split", "emoji"];
    let keys = row.as_object().into_iter().flat_map(|row| row.keys());
    if let Some(key) = keys.map(String::as_str).find(|key| !known.contains(key)) {
        return Err(format!(
            "the key `{}` is not read; a line has `prompt`, settings are flags",
            key.escape_debug()
        ));
    }
    let prompt = row["prompt"].as_str().or(row["caption"].as_str());
    prompt
        .map(String::from)
        .ok_or_else(|| "a JSON line needs the key `prompt`".into())
}

/// Whether a name promises a picture format that is not PNG.
fn other_format(path: &Path) -> bool {
    const OTHERS: [&str; 9] = [
        "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "avif", "svg",
    ];
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|found| OTHERS.contains(&found.to_ascii_lowercase().as_str()))
}

/// Refuses a name that promises another format.
pub fn check_png(path: &Path) -> Result<(), Failure> {
    match other_format(path) {
        false => Ok(()),
        true => Err(Failure::input_with(
            format!("{}: pictures are written as PNG", path.display()),
            "name a file that ends in .png",
        )),
    }
}

/// Whether a name that is not there yet ends as folders do.
fn says_folder(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().ends_with(['/', '\\'])
}

/// Where pictures go, decided before anything is computed.
enum Outputs {
    /// A file for each picture, in a folder that is made for them if need be.
    Files(Vec<PathBuf>, Option<PathBuf>),
    Sheet(PathBuf),
    Standard,
}

impl Outputs {
    fn plan(options: &ImageOptions, prompts: &[String]) -> Result<Self, Failure> {
        let pictures = prompts.len() * options.number;
        let single = options.grid || pictures == 1;
        let outputs = match options.output.as_deref() {
            Some(path) if path == Path::new("-") => {
                if !single {
                    return Err(Failure::input_with(
                        format!("{pictures} pictures do not fit into standard output"),
                        "add --grid, or name a folder",
                    ));
                }
                Self::Standard
            }
            Some(path) if single && !path.is_dir() && !says_folder(path) => match options.grid {
                true => Self::Sheet(path.into()),
                false => Self::Files(vec![path.into()], None),
            },
            Some(folder) if options.grid => Self::Sheet(folder.join("ravel-grid.png")),
            Some(folder) => {
                if folder.exists() && !folder.is_dir() {
                    return Err(Failure::input_with(
                        format!(
                            "{}: a file, {pictures} pictures need a folder",
                            folder.display()
                        ),
                        "name a folder, or add --grid for one sheet",
                    ));
                }
                let paths = named(folder, prompts, options.number);
                Self::Files(paths, Some(folder.into()))
            }
            None if options.grid => Self::Sheet("ravel-grid.png".into()),
            None => Self::Files(named(Path::new(""), prompts, options.number), None),
        };
        outputs.check(options.force)?;
        Ok(outputs)
    }

    /// Refuses what is there already, and names of other formats, before time is spent.
    fn check(&self, force: bool) -> Result<(), Failure> {
        let paths = match self {
            Self::Files(paths, _) => &paths[..],
            Self::Sheet(path) => std::slice::from_ref(path),
            Self::Standard => &[],
        };
        if let Self::Files(_, None) | Self::Sheet(_) = self {
            let parents = paths.iter().filter_map(|path| path.parent());
            let mut parents = parents.filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = parents.find(|folder| !folder.is_dir()) {
                return Err(Failure::input_with(
                    format!("there is no folder {}", folder.display()),
                    "make it first, or name another",
                ));
            }
        }
        for path in paths {
            check_png(path)?;
            if !force && path.exists() {
                return Err(ravel_media::MediaError::Exists { path: path.clone() }.into());
            }
        }
        Ok(())
    }

    fn write(
        &self,
        pictures: &[Picture],
        metadata: &[Metadata],
        options: &ImageOptions,
    ) -> Result<(), Failure> {
        let says = |metadata: &[Metadata]| -> Vec<(String, String)> {
            let text = match metadata {
                [one] => json!(one).to_string(),
                all => json!(all).to_string(),
            };
            vec![
                (KEYWORD.to_string(), text),
                (
                    "Software".to_string(),
                    concat!("ravel ", env!("CARGO_PKG_VERSION")).to_string(),
                ),
                ("Source".to_string(), "generated".to_string()),
            ]
        };
        let columns = (pictures.len() as f64).sqrt().ceil() as usize;
        match self {
            Self::Files(paths, folder) => {
                if let Some(folder) = folder {
                    std::fs::create_dir_all(folder).map_err(|error| {
                        Failure::input(format!("{}: {error}", folder.display()))
                    })?;
                }
                for (at, path) in paths.iter().enumerate() {
                    let png = encode_png(&pictures[at], &says(&metadata[at..=at]));
                    write_new(path, &png, options.force)?;
                    report(options, &metadata[at], Some(path));
                }
            }
            Self::Sheet(path) => {
                let sheet = encode_png(&grid(pictures, columns, GAP), &says(metadata));
                write_new(path, &sheet, options.force)?;
                metadata
                    .iter()
                    .for_each(|metadata| report(options, metadata, Some(path)));
            }
            Self::Standard if options.grid => {
                progress::write(&encode_png(&grid(pictures, columns, GAP), &says(metadata)));
            }
            Self::Standard => progress::write(&encode_png(&pictures[0], &says(metadata))),
        }
        Ok(())
    }
}

fn report(options: &ImageOptions, metadata: &Metadata, path: Option<&Path>) {
    if options.json {
        let mut row = json!(metadata);
        row["file"] = json!(path);
        progress::say(&row.to_string());
    } else if let (false, Some(path)) = (options.quiet, path) {
        progress::say(&format!("{}  {}", path.display(), metadata.prompt));
    }
}

/// A file name per picture: the prompt's letters, and a number where names would meet.
fn named(folder: &Path, prompts: &[String], number: usize) -> Vec<PathBuf> {
    let mut taken = std::collections::BTreeSet::new();
    prompts
        .iter()
        .flat_map(|prompt| std::iter::repeat_n(prompt, number))
        .map(|prompt| {
            let base: String = prompt
                .chars()
                .map(|letter| {
                    if letter.is_alphanumeric() {
                        letter
                    } else {
                        '-'
                    }
                })
                .take(60)
                .collect();
            let base = base
                .split('-')
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("-");
            let base = if base.is_empty() {
                "picture".into()
            } else {
                base.to_lowercase()
            };
            let name = (1..)
                .map(|at| match at {
                    1 => format!("{base}.png"),
                    at => format!("{base}-{at}.png"),
                })
                .find(|name| taken.insert(name.clone()))
                .expect("there is always a free number");
            folder.join(name)
        })
        .collect()
}

/// A folder in which a picture grows.
pub struct Preview {
    folder: PathBuf,
    force: bool,
}

impl Preview {
    /// Makes the folder.
    pub fn new(folder: &Path, force: bool) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::input(format!("{}: {error}", folder.display())))?;
        Ok(Self {
            folder: folder.into(),
            force,
        })
    }

    fn show(
        &mut self,
        pipeline: &dyn MakesPictures,
        progress: &Progress<'_>,
    ) -> Result<(), Failure> {
        let every = progress.units.div_ceil(PREVIEWS);
        if !progress.done.is_multiple_of(every) && progress.done != progress.units {
            return Ok(());
        }
        let images = pipeline.preview(&progress.shown)?;
        for (row, picture) in pictures_from_images(&images).iter().enumerate() {
            let name = format!(
                "picture-{:04}-unit-{:04}.png",
                progress.picture + row,
                progress.done
            );
            let png = encode_png(picture, &[]);
            write_new(&self.folder.join(name), &png, self.force)?;
        }
        Ok(())
    }
}

/// Makes a picture again from its own metadata.
pub fn replay(options: &ReplayOptions) -> Result<(), Failure> {
    let shown = options.file.display();
    let text = read_png_text(&options.file)?;
    let said = text
        .iter()
        .find(|(keyword, _)| keyword == KEYWORD)
        .ok_or_else(|| {
            Failure::input_with(
                format!("{shown} does not say how it was made"),
                "only pictures that `ravel image` wrote can be replayed",
            )
        })?;
    let all: Vec<Metadata> = serde_json::from_str(&said.1)
        .or_else(|_| serde_json::from_str(&said.1).map(|one| vec![one]))
        .map_err(|error| {
            Failure::input(format!("{shown}: its metadata cannot be read: {error}"))
        })?;
    let [metadata] = &all[..] else {
        return Err(Failure::input_with(
            format!("{shown} is a sheet of {} pictures", all.len()),
            "replay single pictures",
        ));
    };
    let pipeline = pipelines::image(
        &metadata.pipeline,
        options.device.device,
        options.weights,
        DecodeOptions::default(),
    )?;
    if pipeline.hash() != metadata.hash {
        return Err(Failure::input_with(
            format!(
                "{shown} was made by `{}` with hash {}, this program has hash {}",
                metadata.pipeline,
                metadata.hash,
                pipeline.hash()
            ),
            "use the version of the pipeline that made it",
        ));
    }
    let request = Request {
        prompts: vec![metadata.prompt.clone()],
        seed: metadata.seed,
        first: metadata.number,
        sampler: metadata.sampler.clone(),
    };
    let pictures = made(&pipeline, &request, None, true)?;
    let png = encode_png(&pictures[0], &text);
    match options.output.as_deref() {
        Some(path) if path == Path::new("-") => progress::write(&png),
        Some(path) => write_new(path, &png, options.force)?,
        None => {
            let before = std::fs::read(&options.file)
                .map_err(|error| Failure::input(format!("{shown}: {error}")))?;
            if before != png {
                return Err(Failure::runtime(format!("{shown}: the bytes differ")));
            }
            progress::say(&format!("{shown}: the same bytes again"));
        }
    }
    Ok(())
}
