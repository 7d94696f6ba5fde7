//! Shell text to the programs that it would start: a conservative reading of POSIX shell.
//!
//! Understood are words, quotes, `&&`, `||`, `;`, `|`, line ends, and output thrown away. Everything by which a shell
//! makes other words out of a text (substitution, expansion of a program's name, here-documents, functions, assignments,
//! control words) is opaque, and so is every redirection that touches a file. Programs that start other programs are
//! looked through where their options are known (`sudo`, `env`, `timeout`, …), else the text is opaque.
//!
//! It must not know the machine: aliases, `PATH` and what a program does with its arguments are not covered. An
//! interpreter counts as itself: whoever permits `python3` permits what it is told to run.

mod programs;
mod spoken;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeSet;

use crate::sql::Opaque;

pub use spoken::{spoken, spoken_words};

/// The longest text that is read.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// The base names of all programs that a shell text would start.
///
/// # Errors
/// Whatever is not understood in full is opaque. The reason never quotes more than a program's name.
pub fn programs(text: &str) -> Result<BTreeSet<String>, Opaque> {
    let mut all = BTreeSet::new();
    for command in words::commands(text)? {
        programs::of(&command.words, &mut all)?;
    }
    Ok(all)
}

/// The same for a list of words. Some tools start the program, others join the words and ask a shell: both must find
/// the same words.
///
/// # Errors
/// As for a text; also where a shell would read the words differently.
pub fn programs_of_words(list: &[&str]) -> Result<BTreeSet<String>, Opaque> {
    let differs = || Opaque::because("a list of words that a shell would read as other words");
    let commands = words::commands(&list.join(" ")).map_err(|_| differs())?;
    let [command] = commands.as_slice() else { return Err(differs()) };
    if command.words.iter().map(|word| word.text.as_str()).ne(list.iter().copied()) {
        return Err(differs());
    }
    let mut all = BTreeSet::new();
    programs::of(&command.words, &mut all)?;
    Ok(all)
}
