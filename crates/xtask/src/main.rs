//! Chores of the repository: `cargo xtask check`, `cargo xtask data`, `cargo xtask data-speech`, `cargo xtask data-text`,
//! `cargo xtask data-video`, `cargo xtask golden`,
//! `cargo xtask instructions` and `cargo xtask lexicon`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A command of its own.

mod arrows;
mod emoji;
mod golden;
mod instructions;
mod lexicon;
mod novels;
mod random;
mod speech;
mod video;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Chores of the Ravel repository")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check that no crate uses one that it must not know.
    Check,
    /// Build the default training data: emoji pictures with captions.
    Data(emoji::Options),
    /// Pack the pronouncing lexicon and learn letter-to-sound rules from CMUdict.
    Lexicon(lexicon::Options),
    /// Count the instructions of each kernel and compare them with those of the last time.
    Instructions(instructions::Options),
    /// Run case folders of published reference code and compare every tensor.
    Golden(golden::Options),
    /// Build the default video data: clips of moving emoji and shapes with the places of all objects.
    DataVideo(video::Options),
    /// Build the default speech data: sentences spoken by espeak-ng in several voices.
    DataSpeech(speech::Options),
    /// Build the default text to learn from: six novels, as plain text.
    DataText(novels::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Check => arrows::check(),
        Chore::Data(options) => emoji::build(&options),
        Chore::Instructions(options) => instructions::run(&options),
        Chore::Golden(options) => return golden::run(&options),
        Chore::DataVideo(options) => video::build(&options),
        Chore::Lexicon(options) => lexicon::build(&options),
        Chore::DataSpeech(options) => speech::build(&options),
        Chore::DataText(options) => novels::build(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
