//! Countersign: nothing an agent does takes effect until it is countersigned.
//!
//! This file reads the command line and turns what came of it into an exit code; nothing else.

mod admin;
mod cli;
mod commands;
mod compose;
mod config;
mod context;
mod demo;
mod export;
mod feed;
mod guards;
mod json;
mod keys;
mod layout;
mod logging;
mod past;
mod payloads;
mod policies;
mod reload;
#[cfg(test)]
mod sample;
mod show;
mod sources;
mod terminal;
mod timeline;
mod token_file;
mod tools;
mod validated;
mod walk;
mod web;

use std::process::ExitCode;

use clap::Parser as _;

use crate::terminal::{Output, exit_of, misread};

/// A call makes and drops some hundreds of small things on threads that share them: under the C library's allocator it costs
/// two fifths more.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error).into(),
    };
    let out = Output { json: cli.json };
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            out.error(&error);
            exit_of(&error).into()
        }
    }
}
