//! Policy as people write it, test it and question it.
//!
//! It turns what people write into what the kernel loads, and says what that means. It must not know files, processes,
//! the log or terminals. It decides nothing: every answer comes from [`countersign_kernel::policy::Bundle`].

pub mod backtest;
pub mod bundles;
pub mod cases;
pub mod explain;
pub mod privilege;
pub mod read;
pub mod rules;
pub mod schemas;
pub mod yaml;

#[cfg(test)]
mod sample;
mod verdicts;
