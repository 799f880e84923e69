//! The `ravel` command.
#![allow(clippy::print_stdout, clippy::print_stderr)] // This is the crate that prints.

mod arguments;
mod bench;
mod clip_tokenizer;
mod doctor;
mod drift;
mod evaluate;
mod evaluate_speech;
mod evaluate_video;
mod failure;
mod image;
mod interrupt;
mod models;
mod pipelines;
mod progress;
mod quantize;
mod recogniser;
mod sound_tokenizer;
mod speak;
mod speech_file;
mod system;
mod text;
mod texts;
mod tokenizer;
mod train;
mod video;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};
use failure::Failure;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe is no reason to panic.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    ravel_kernels::machine::keep_some_memory();
    interrupt::listen();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        None => {
            progress::say(&Arguments::command().render_help().to_string());
            Ok(())
        }
        Some(Command::Image(options)) => image::run(&options),
        Some(Command::Video(options)) => video::run(&options),
        Some(Command::Replay(options)) => match video::said(&options.file) {
            Some(said) => video::replay(&options, said),
            None => match speak::said(&options.file)? {
                Some(said) => speak::replay(&options, &said),
                None => image::replay(&options),
            },
        },
        Some(Command::Text(options)) => text::run(&options),
        Some(Command::Speak(options)) => speak::run(&options),
        Some(Command::Music(options)) => speak::run(&options.into()),
        Some(Command::Tokenizer(command)) => tokenizer::run(&command),
        Some(Command::Train(options)) => train::run(&options),
        Some(Command::Eval(options)) => evaluate::run(&options),
        Some(Command::Pipelines(command)) => pipelines::run(&command),
        Some(Command::Models(command)) => models::run(&command),
        Some(Command::Quantize(options)) => quantize::run(&options),
        Some(Command::Bench(command)) => bench::run(&command),
        Some(Command::Doctor(options)) => doctor::run(&options),
        Some(Command::Completions { shell }) => {
            let mut bytes = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "ravel", &mut bytes);
            progress::write(&bytes);
            Ok(())
        }
        Some(Command::Man) => {
            let mut bytes = Vec::new();
            clap_mangen::Man::new(Arguments::command())
                .render(&mut bytes)
                .map_err(Failure::runtime)?;
            progress::write(&bytes);
            Ok(())
        }
    }
}
