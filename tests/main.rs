//! The program from outside: what it prints, writes and refuses, and the trainer that made its models.

mod bad_input;
mod command;
mod picture;
mod text;
mod training;
