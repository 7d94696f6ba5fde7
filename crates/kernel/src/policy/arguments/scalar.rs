//! Scalars of JSON in Cedar's spelling: numbers exactly, dates and addresses in one form.
//!
//! Nothing is rounded but fractions of a second below a millisecond, which Cedar does not know. It must not know JSON:
//! a number comes as it was spelled. What has no spelling in Cedar has none here.

use core::net::{Ipv4Addr, Ipv6Addr};

/// Digits that could still be a number of 64 bits, with room for four places.
const DIGITS_MAX: usize = 24;
/// Places after the point of a decimal.
const PLACES: i64 = 4;

/// A number without leading or trailing zeros: `digits * 10^exponent`.
struct Exact {
    negative: bool,
    digits: i128,
    exponent: i64,
}

/// Reads a number in JSON's spelling; none where it is no number or surely too large or too fine.
fn exact(spelling: &str) -> Option<Exact> {
    let (negative, rest) = spelling.strip_prefix('-').map_or((false, spelling), |rest| (true, rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: String = [whole, fraction].concat();
    if whole.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let kept = all.trim_end_matches('0');
    let dropped = i64::try_from(all.len().checked_sub(kept.len())?).ok()?;
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return Some(Exact { negative: false, digits: 0, exponent: 0 });
    }
    if kept.len() > DIGITS_MAX {
        return None;
    }
    let places = i64::try_from(fraction.len()).ok()?;
    let exponent: i64 = exponent.parse().ok()?;
    Some(Exact { negative, digits: kept.parse().ok()?, exponent: exponent.checked_sub(places)?.checked_add(dropped)? })
}

impl Exact {
    /// The number times `10^places`, if that is whole and fits.
    fn times(&self, places: i64) -> Option<i64> {
        let power = u32::try_from(self.exponent.checked_add(places)?).ok();
        if self.digits == 0 {
            return Some(0);
        }
        let size = self.digits.checked_mul(10_i128.checked_pow(power?)?)?;
        i64::try_from(if self.negative { size.checked_neg()? } else { size }).ok()
    }
}

/// A whole number, however it is spelled: `1.0` and `1e3` are whole.
pub(super) fn whole(spelling: &str) -> Option<i64> {
    exact(spelling)?.times(0)
}

/// A decimal as Cedar spells it, with exactly four places; none where more would be needed.
pub(super) fn decimal(spelling: &str) -> Option<String> {
    const ONE: u64 = 10_000;
    let scaled = exact(spelling)?.times(PLACES)?;
    let sign = if scaled < 0 { "-" } else { "" };
    let size = scaled.unsigned_abs();
    Some(format!("{sign}{}.{:04}", size / ONE, size % ONE))
}

/// A date as RFC 3339 has it (`full-date`). Whether the month has that day is Cedar's to say.
pub(super) fn date(text: &str) -> Option<&str> {
    is_like(text, "0000-00-00").then_some(text)
}

/// A time as RFC 3339 has it (`date-time`), in Cedar's spelling.
pub(super) fn date_time(text: &str) -> Option<String> {
    let (day, rest) = text.split_once(['T', 't'])?;
    let at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, offset) = rest.split_at_checked(at)?;
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, fraction)| (clock, Some(fraction)));
    let fraction = fraction.unwrap_or("000");
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !is_like(day, "0000-00-00") || !is_like(clock, "00:00:00") || !is_fraction {
        return None;
    }
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    let zone = match offset {
        "Z" | "z" | "+00:00" | "-00:00" => "Z".to_owned(),
        _ if is_like(offset, "+00:00") || is_like(offset, "-00:00") => offset.replace(':', ""),
        _ => return None,
    };
    Some(format!("{day}T{clock}.{millis}{zone}"))
}

/// Whether `text` has digits where `form` has zeros, and is the same everywhere else.
fn is_like(text: &str, form: &str) -> bool {
    let same = |(byte, wanted): (u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(same)
}

/// An IPv4 address.
pub(super) fn ipv4(text: &str) -> Option<String> {
    text.parse::<Ipv4Addr>().ok().map(|address| address.to_string())
}

/// An IPv6 address; an IPv4 address inside of it is taken out, or a rule for the one would not see the other.
pub(super) fn ipv6(text: &str) -> Option<String> {
    text.parse::<Ipv6Addr>().ok().map(|address| address.to_canonical().to_string())
}
