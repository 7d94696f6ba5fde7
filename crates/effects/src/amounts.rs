//! Amounts and counts: numbers that a policy compares, by integers alone.
//!
//! Only the plain decimal spelling is read: no sign, no exponent, no zero in front, no separators. What a second reader
//! would round (more than six decimals, more than a float holds exactly) is opaque, never rounded here.
//!
//! It must not know currencies: an amount is in whatever unit its binding says.

#[cfg(test)]
mod tests;

use crate::sql::Opaque;

/// How an amount is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// In whole units of the currency, with up to six decimals: `12.50`.
    Whole,
    /// In hundredths of the unit, without decimals: `1250`.
    Minor,
}

/// Millionths in one unit of the currency.
const MICROS: u64 = 1_000_000;
const DECIMALS_MAX: usize = 6;
/// From here on a float no longer holds every integer.
const EXACT_MAX: u64 = 1 << 53;

/// An amount in millionths of the currency's unit.
///
/// # Errors
/// Whatever is no plain decimal number within bounds is opaque.
pub fn micros(text: &str, unit: Unit) -> Result<u64, Opaque> {
    let (whole, decimals) = match text.split_once('.') {
        Some((whole, decimals)) => (whole, Some(decimals)),
        None => (text, None),
    };
    let whole = count(whole)?;
    let too_much = || Opaque::because("an amount larger than can be counted");
    match (unit, decimals) {
        (Unit::Minor, None) => whole.checked_mul(MICROS / 100),
        (Unit::Minor, Some(_)) => return Err(Opaque::because("an amount in minor units with decimals")),
        (Unit::Whole, None) => whole.checked_mul(MICROS),
        (Unit::Whole, Some(decimals)) => {
            let fraction = fraction(decimals)?;
            let micros = whole.checked_mul(MICROS).and_then(|micros| micros.checked_add(fraction));
            micros.filter(|micros| *micros <= EXACT_MAX)
        }
    }
    .filter(|micros| i64::try_from(*micros).is_ok())
    .ok_or_else(too_much)
}

/// One to six decimals as millionths.
fn fraction(decimals: &str) -> Result<u64, Opaque> {
    let is_fraction =
        (1..=DECIMALS_MAX).contains(&decimals.len()) && decimals.bytes().all(|byte| byte.is_ascii_digit());
    if !is_fraction {
        return Err(Opaque::because("an amount whose decimals are not one to six digits"));
    }
    let padded = format!("{decimals:0<width$}", width = DECIMALS_MAX);
    padded.parse().map_err(|_| Opaque::because("an amount that cannot be read"))
}

/// A whole number, spelled in the one plain way.
///
/// # Errors
/// Whatever else is opaque.
pub fn count(text: &str) -> Result<u64, Opaque> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    match text.parse::<u64>() {
        Ok(number) if is_plain && number <= EXACT_MAX => Ok(number),
        Ok(_) if is_plain => Err(Opaque::because("a number larger than every reader holds exactly")),
        _ => Err(Opaque::because("a number that is not spelled as plain digits")),
    }
}
