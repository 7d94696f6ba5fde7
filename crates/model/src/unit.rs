//! Units as types: a number never travels without what it counts.
//!
//! Integers only; arithmetic is checked or saturating, so that no sum can wrap.
//! This module does not read a clock: `TimeMs` is handed in by whoever owns one.

use minicbor::{Decode, Encode};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub u64);

        impl $name {
            /// The sum, or `None` where it would not fit.
            #[must_use]
            pub const fn checked_add(self, other: u64) -> Option<Self> {
                match self.0.checked_add(other) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The difference, or `None` where it would be negative.
            #[must_use]
            pub const fn checked_sub(self, other: u64) -> Option<Self> {
                match self.0.checked_sub(other) {
                    Some(rest) => Some(Self(rest)),
                    None => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

unit! {
    /// Milliseconds since the Unix epoch, UTC.
    TimeMs
}
unit! {
    /// A sequence number of the kernel: every event that the kernel takes gets the next one.
    Seq
}
unit! {
    /// A number of calls.
    Calls
}
unit! {
    /// A number of rows that an effect touched or returned.
    Rows
}
unit! {
    /// A size in bytes.
    Bytes
}
unit! {
    /// The position of a leaf in the log, counted from zero.
    LeafIndex
}

impl TimeMs {
    /// This time plus `ms` milliseconds, stopping at the end of time.
    #[must_use]
    pub const fn saturating_add_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; zero where `earlier` is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// `100.50` in millionths; nothing where it is no plain decimal number, or too large.
#[must_use]
pub fn micros(amount: &str) -> Option<u64> {
    let (whole, part) = amount.split_once('.').unwrap_or((amount, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let part = format!("{part:0<6}").parse::<u64>().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}
