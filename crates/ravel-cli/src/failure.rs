//! How a run fails: what is printed, and with which exit code.

use std::fmt::Display;
use std::process::ExitCode;

use crate::progress::plain;

/// Exit codes: 2 for what was handed in, 1 for what went wrong while running, 130 for an interrupt.
#[derive(Debug)]
pub enum Failure {
    /// A file, flag, checkpoint or definition that cannot be used.
    Input {
        /// What was found and what was expected, in one line.
        line: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// Something failed while running.
    Runtime(String),
    /// Nobody reads standard output any more; a quiet end.
    ClosedPipe,
    /// The user stopped the run.
    Interrupted,
}

impl Failure {
    /// Bad input.
    pub fn input(error: impl Display) -> Self {
        Self::Input {
            line: one_line(error),
            hint: None,
        }
    }

    /// Bad input, with a next step.
    pub fn input_with(error: impl Display, hint: impl Into<String>) -> Self {
        Self::Input {
            line: one_line(error),
            hint: Some(hint.into()),
        }
    }

    /// A failure that is not the input's.
    pub fn runtime(error: impl Display) -> Self {
        Self::Runtime(one_line(error))
    }

    /// Prints the failure and gives its exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Input { line, hint } => {
                eprintln!("error: {}", plain(line));
                if let Some(hint) = hint {
                    eprintln!("hint: {}", plain(hint));
                }
                ExitCode::from(2)
            }
            Self::Runtime(line) => {
                eprintln!("error: {}", plain(line));
                ExitCode::from(1)
            }
            Self::ClosedPipe => ExitCode::SUCCESS,
            Self::Interrupted => {
                eprintln!("interrupted");
                ExitCode::from(130)
            }
        }
    }
}

fn one_line(error: impl Display) -> String {
    error
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

impl From<ravel_media::MediaError> for Failure {
    fn from(error: ravel_media::MediaError) -> Self {
        use ravel_media::MediaError;
        use std::io::ErrorKind;
        match &error {
            MediaError::File { source, .. } => match source.kind() {
                ErrorKind::BrokenPipe => Self::ClosedPipe,
                ErrorKind::StorageFull | ErrorKind::FileTooLarge | ErrorKind::QuotaExceeded => {
                    Self::input_with(error, "make room, or name another place with -o")
                }
                _ => Self::input(error),
            },
            MediaError::NeedsVideo { .. } => Self::input_with(
                error,
                "build it with `--features video` (FFmpeg's libraries are needed), or use GIF, PNG, WebP or a folder of frames",
            ),
            MediaError::NeedsSound { .. } => Self::input_with(
                error,
                "build it with `--features video` (FFmpeg's libraries are needed), or name a file that ends in .wav",
            ),
            MediaError::Clip { .. } => Self::input_with(
                error,
                "`ravel doctor` lists the formats of clips; only local files are read",
            ),
            MediaError::NoFrames { .. } => Self::input_with(
                error,
                "give a clip or a folder of numbered PNG or JPEG files",
            ),
            MediaError::FrameSize { .. } => {
                Self::input_with(error, "make it smaller first, for example with ffmpeg")
            }
            _ => Self::input(error),
        }
    }
}

impl From<ravel_pipeline::PipelineError> for Failure {
    fn from(error: ravel_pipeline::PipelineError) -> Self {
        match error {
            ravel_pipeline::PipelineError::Weights(_) => Self::input_with(
                error,
                "the weights belong to another definition, or the file is damaged",
            ),
            ravel_pipeline::PipelineError::NotPulled { ref target, .. } => {
                let hint = format!("`ravel models pull {target}` fetches it");
                Self::input_with(error, hint)
            }
            error => Self::input(error),
        }
    }
}

impl From<ravel_pipeline::DefinitionError> for Failure {
    fn from(error: ravel_pipeline::DefinitionError) -> Self {
        Self::input_with(error, "`ravel pipelines schema` lists every key")
    }
}

impl From<text_to_image::Error> for Failure {
    fn from(error: text_to_image::Error) -> Self {
        match error {
            text_to_image::Error::Part(part) => part.into(),
            text_to_image::Error::Prompt { ref source, .. } if source.is_of_classes() => {
                Self::input_with(
                    error,
                    "a class is said by one of its names, its number or its WordNet id; `ravel pipelines classes NAME` lists them",
                )
            }
            error => Self::input(error),
        }
    }
}

impl From<video_continuation::Error> for Failure {
    fn from(error: video_continuation::Error) -> Self {
        match error {
            video_continuation::Error::Part(part) => part.into(),
            error => Self::input(error),
        }
    }
}

impl From<ravel_core::Error> for Failure {
    fn from(error: ravel_core::Error) -> Self {
        match error {
            ravel_core::Error::NotFinite { .. } => Self::runtime(error),
            error => Self::input(error),
        }
    }
}

impl From<ravel_train::TrainError> for Failure {
    fn from(error: ravel_train::TrainError) -> Self {
        use ravel_train::TrainError;
        match error {
            TrainError::NotFinite { .. } => Self::runtime(error),
            TrainError::Part(part) => part.into(),
            TrainError::Pipeline(pipeline) => pipeline.into(),
            error => Self::input(error),
        }
    }
}
