//! Hosts: where a text would have a client connect, in one canonical spelling.
//!
//! The danger is a text that we and the client read differently. Whatever two readers are known to take
//! differently (user information, backslashes, percent signs, octal addresses, letters outside ASCII before the
//! path) is opaque; what all readers take alike is brought into one form. Ports, paths and queries are dropped.
//!
//! It must not know names of the network: what a name resolves to, and where a server redirects to, is not
//! covered. Nor is Unicode in host names: a name must come as punycode.

#[cfg(test)]
mod tests;

use core::net::{Ipv4Addr, Ipv6Addr};

use countersign_model::facts::NAME_BYTES_MAX;

use crate::sql::Opaque;

/// The longest text that is read as a host or a URL.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;
const LABEL_BYTES_MAX: usize = 63;

/// The canonical host of a bare host, a host with a port, or an absolute URL.
///
/// # Errors
/// Whatever two readers could take differently is opaque. The reason never quotes the text.
pub fn host(text: &str) -> Result<String, Opaque> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Opaque::because("a host or URL longer than is read"));
    }
    // Clients drop tabs and line ends, and trim blanks; a backslash is a slash for some.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(Opaque::because("a host or URL with blanks, control characters or backslashes"));
    }
    let authority = match text.split_once("://") {
        Some((scheme, rest)) => after_scheme(scheme, rest)?,
        None => text,
    };
    canonical(without_port(authority)?)
}

/// The authority of a URL behind its scheme.
fn after_scheme<'a>(scheme: &str, rest: &'a str) -> Result<&'a str, Opaque> {
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return Err(Opaque::because("a URL without a proper scheme"));
    }
    let Some(end) = rest.find(['/', '?', '#']) else {
        return Ok(rest);
    };
    let (authority, tail) = rest.split_at(end);
    // An old reader lets only a slash end the authority, and finds user information behind the question mark.
    let before_slash = tail.split('/').next().unwrap_or_default();
    if before_slash.contains('@') {
        return Err(Opaque::because("a URL whose host does not end where all readers agree"));
    }
    Ok(authority)
}

/// The host of an authority. IPv6 outside of brackets has no port.
fn without_port(authority: &str) -> Result<&str, Opaque> {
    if authority.contains('@') {
        return Err(Opaque::because("a URL with user information before its host"));
    }
    if let Some(inner) = authority.strip_prefix('[') {
        let (address, port) =
            inner.split_once(']').ok_or_else(|| Opaque::because("a host with an unclosed bracket"))?;
        if !address.contains(':') {
            return Err(Opaque::because("a host in brackets that is no IPv6 address"));
        }
        return match port.strip_prefix(':') {
            Some(port) => checked_port(port).map(|()| address),
            None if port.is_empty() => Ok(address),
            None => Err(Opaque::because("something between a host and its port")),
        };
    }
    match authority.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Ok(authority),
        Some((name, port)) => checked_port(port).map(|()| name),
        None => Ok(authority),
    }
}

fn checked_port(port: &str) -> Result<(), Opaque> {
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(_) if is_number => Ok(()),
        _ => Err(Opaque::because("a port that is no number of a port")),
    }
}

/// The one spelling of a name or an address.
pub(crate) fn canonical(host: &str) -> Result<String, Opaque> {
    if host.contains(':') {
        let address: Ipv6Addr = host.parse().map_err(|_| Opaque::because("a host that is no IPv6 address"))?;
        return Ok(unwrapped(address));
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    // A client that follows the URL standard reads every name that ends in a number as an address.
    if is_numeric(last) {
        return ipv4(&name).map(|address| address.to_string());
    }
    is_name(&name)?;
    Ok(name)
}

fn is_name(name: &str) -> Result<(), Opaque> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Opaque::because("an empty host, or one longer than facts can hold"));
    }
    let fits = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.is_ascii() {
        return Err(Opaque::because("a host with letters outside ASCII; it must come as punycode"));
    }
    if name.split('.').all(fits) { Ok(()) } else { Err(Opaque::because("a host with characters that no host has")) }
}

fn is_numeric(label: &str) -> bool {
    let is_hex = label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_hex || (!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()))
}

/// One to four numbers, as `inet_aton` takes them; octal ones are opaque, for some readers take them as decimal.
fn ipv4(text: &str) -> Result<Ipv4Addr, Opaque> {
    let wrong = || Opaque::because("a host that ends in a number and is no IPv4 address that all readers take alike");
    let parts: Vec<u64> = text.split('.').map(|part| number(part).ok_or_else(wrong)).collect::<Result<_, _>>()?;
    let (last, first) = parts.split_last().ok_or_else(wrong)?;
    if first.len() > 3 || first.iter().any(|part| *part > 255) {
        return Err(wrong());
    }
    // The last number fills the bytes that the others leave.
    let room = 32_u32.saturating_sub(8_u32.saturating_mul(u32::try_from(first.len()).map_err(|_| wrong())?));
    if *last >= 1_u64.checked_shl(room).ok_or_else(wrong)? {
        return Err(wrong());
    }
    let high = first.iter().fold(0_u64, |sum, part| (sum << 8) | part);
    let bits = high.checked_shl(room).ok_or_else(wrong)? | last;
    u32::try_from(bits).map(Ipv4Addr::from_bits).map_err(|_| wrong())
}

fn number(part: &str) -> Option<u64> {
    match part.strip_prefix("0x") {
        // Python and Go take no hexadecimal number, so nobody takes it for something else.
        Some(digits) if !digits.is_empty() && !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if part.len() > 1 && part.starts_with('0') => None,
        None if part.bytes().all(|byte| byte.is_ascii_digit()) => part.parse().ok(),
        None => None,
    }
}

/// An IPv6 address, or the IPv4 address that it wraps: mapped, compatible, translated (RFC 6052), 6to4.
fn unwrapped(address: Ipv6Addr) -> String {
    let inner = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)).to_string();
    match address.segments() {
        // The unspecified address and the loopback are not wrapped.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address.to_string(),
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => inner(high, low),
        [0, 0, 0, 0, 0xffff, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        [0x2002, high, low, ..] => inner(high, low),
        _ => address.to_string(),
    }
}
